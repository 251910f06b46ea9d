//! Suite 4: X-Wing (draft-connolly-cfrg-xwing-kem), X25519 and ML-KEM-768 (FIPS 203) together: safe as long as one of them is.
//! K_i is its shared secret. It rejects implicitly: an encapsulation that was tampered with gives a key that nobody knows.

use rand::CryptoRng;
use x_wing::{
    Decapsulate as _, DecapsulationKey, Decapsulator as _, Encapsulate as _, EncapsulationKey, KeyExport as _,
};

use super::{Decapsulate, Kem, OnionPrivateKey, X_WING};
use crate::key_schedule::HopKey;

/// The entrance's half.
pub static KEM: Kem = Kem {
    suite: &X_WING,
    encapsulate,
};

struct Secret(DecapsulationKey);

/// The onion key of the 32 random bytes `seed`.
pub fn onion_key(seed: &[u8; 32]) -> OnionPrivateKey {
    let secret = DecapsulationKey::from(*seed);
    let public = secret.encapsulation_key().to_bytes();
    OnionPrivateKey::new(&X_WING, &public, Box::new(Secret(secret)))
}

fn encapsulate(public_key: &[u8], kem_ct: &mut [u8], rng: &mut dyn CryptoRng) -> Option<HopKey> {
    let (ciphertext, shared) = EncapsulationKey::try_from(public_key).ok()?.encapsulate_with_rng(rng);
    kem_ct.copy_from_slice(&ciphertext);
    Some(HopKey::from_bytes(shared.as_ref()))
}

impl Decapsulate for Secret {
    fn decapsulate(&self, kem_ct: &[u8]) -> HopKey {
        let ciphertext = kem_ct.try_into().expect("cut to the suite's length");
        HopKey::from_bytes(self.0.decapsulate(ciphertext).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hex_literal::hex;
    use rand::{TryCryptoRng, TryRng};
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::key_schedule::KeySchedule;

    /// Gives the bytes of a vector.
    struct Given(std::vec::IntoIter<u8>);

    impl TryRng for Given {
        type Error = Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            unreachable!("bytes alone are drawn")
        }
        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            unreachable!("bytes alone are drawn")
        }
        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
            bytes.fill_with(|| self.0.next().expect("no more than the vector has"));
            Ok(())
        }
    }

    impl TryCryptoRng for Given {}

    struct Vector {
        seed: [u8; 32],
        eseed: [u8; 64],
        /// SHA-256 of pk.
        pk: [u8; 32],
        /// SHA-256 of ct.
        ct: [u8; 32],
        ss: [u8; 32],
    }

    fn same(one: &HopKey, other: &HopKey) -> bool {
        KeySchedule::new(one).header_mac == KeySchedule::new(other).header_mac
    }

    /// draft-connolly-cfrg-xwing-kem, appendix C.
    #[test]
    fn line_2_x_wing_gives_the_drafts_vectors() {
        let vectors = [
            Vector {
                seed: hex!("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26"),
                eseed: hex!(
                    "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e2"
                    "35b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2"
                ),
                pk: hex!("2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb"),
                ct: hex!("17cd532d657e44c897ca6583e548a5424fc70bf54f99515a4d2bcf99e3469f33"),
                ss: hex!("d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384"),
            },
            Vector {
                seed: hex!("badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea"),
                eseed: hex!(
                    "17cda7cfad765f5623474d368ccca8af0007cd9f5e4c849f167a580b14aabdef"
                    "aee7eef47cb0fca9767be1fda69419dfb927e9df07348b196691abaeb580b32d"
                ),
                pk: hex!("c42ba5f8430d7d2c83739338203819f090e8303ce9c8b02107c272bfa5376916"),
                ct: hex!("1661ea86d608a1924ba30840cb0a65f13ae051e3aec9cf0f064efc0bc92f2154"),
                ss: hex!("f2e86241c64d60f6649fbc6c5b7d17180b780a3f34355e64a85749949c45f150"),
            },
            Vector {
                seed: hex!("ef58538b8d23f87732ea63b02b4fa0f4873360e2841928cd60dd4cee8cc0d4c9"),
                eseed: hex!(
                    "22a96188d032675c8ac850933c7aff1533b94c834adbb69c6115bad4692d8619"
                    "f90b0cdf8a7b9c264029ac185b70b83f2801f2f4b3f70c593ea3aeeb613a7f1b"
                ),
                pk: hex!("6b080d6b84f095342092fa7a22423e58bd681397ad0ef00eac92bd254db4fa95"),
                ct: hex!("d3ca5578500344b5896cffc4fd740c9311946b82951df155e6fd86a7966b43c6"),
                ss: hex!("953f7f4e8c5b5049bdc771d1dffada0dd961477d1a2ae0988baa7ea6898d893f"),
            },
        ];
        for vector in vectors {
            let key = onion_key(&vector.seed);
            assert_eq!(Sha256::digest(key.public()), vector.pk);
            let mut ct = vec![0; X_WING.kem_ct];
            let mut rng = Given(Vec::from(vector.eseed).into_iter());
            let sent = encapsulate(key.public(), &mut ct, &mut rng).unwrap();
            assert_eq!(Sha256::digest(&ct), vector.ct);
            let shared = HopKey::from_bytes(&vector.ss);
            assert!(same(&sent, &shared) && same(&key.decapsulate(&ct), &shared));
            for at in [0, 500, 1087, 1088, 1119] {
                ct[at] ^= 1;
                assert!(!same(&key.decapsulate(&ct), &shared), "byte {at}");
                ct[at] ^= 1;
            }
        }
    }

    #[test]
    fn line_2_what_is_no_key_makes_no_creating_signal() {
        let mut rng = Given(vec![1; 64].into_iter());
        assert!(
            encapsulate(&[0xff; 1216], &mut [0; 1120], &mut rng).is_none(),
            "coefficients out of range"
        );
        assert!(encapsulate(&[0; 1215], &mut [0; 1120], &mut rng).is_none());
    }
}
