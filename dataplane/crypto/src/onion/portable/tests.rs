//! HCTR2 against its published vectors and against `hctr2-rs`, tweaks of every length included.

use super::Hctr2;
use crate::LayerOp;
use aes::Aes128;
use hctr2_rs::hctr2::Hctr2_128;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde::Deserialize;
use std::io::Write;
use std::path::PathBuf;

/// One entry of the JSON files of the repository google/hctr2.
#[derive(Deserialize)]
pub(crate) struct Vector {
    pub(crate) description: String,
    pub(crate) input: Input,
    #[serde(with = "hex")]
    pub(crate) plaintext_hex: Vec<u8>,
    #[serde(with = "hex")]
    pub(crate) ciphertext_hex: Vec<u8>,
}

#[derive(Deserialize)]
pub(crate) struct Input {
    #[serde(with = "hex")]
    pub(crate) key_hex: Vec<u8>,
    pub(crate) tweak_hex: Option<String>,
    nonce_hex: Option<String>,
}

impl Input {
    /// The key, of N bytes.
    pub(crate) fn key<const N: usize>(&self) -> &[u8; N] {
        self.key_hex[..].try_into().unwrap()
    }
}

/// The vectors of a file under the folder that `AIN_VECTORS` names; nothing, said on stderr, where it is unset.
pub(crate) fn published(file: &str) -> Option<Vec<Vector>> {
    let Some(folder) = std::env::var_os("AIN_VECTORS") else {
        // Not eprintln: the test runner would swallow it.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {file}: AIN_VECTORS does not name the folder of published vectors"
        );
        return None;
    };
    let path = PathBuf::from(folder).join("hctr2").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let vectors: Vec<Vector> = serde_json::from_str(&text).unwrap();
    assert!(
        vectors.len() >= 50,
        "{} holds {} vectors",
        path.display(),
        vectors.len()
    );
    Some(vectors)
}

#[test]
fn published_hctr2_vectors() {
    for vector in published("HCTR2_AES128.json").unwrap_or_default() {
        let key = Hctr2::<Aes128>::new(&vector.input.key_hex);
        let tweak = hex::decode(vector.input.tweak_hex.unwrap()).unwrap();
        let mut text = vector.plaintext_hex.clone();
        key.apply(LayerOp::Encrypt, &tweak, &mut text);
        assert_eq!(text, vector.ciphertext_hex, "encrypting {}", vector.description);
        key.apply(LayerOp::Decrypt, &tweak, &mut text);
        assert_eq!(text, vector.plaintext_hex, "decrypting {}", vector.description);
    }
}

#[test]
fn published_xctr_vectors() {
    for vector in published("XCTR_AES128.json").unwrap_or_default() {
        let key = Hctr2::<Aes128>::new(&vector.input.key_hex);
        let nonce: [u8; 16] = hex::decode(vector.input.nonce_hex.unwrap())
            .unwrap()
            .try_into()
            .unwrap();
        let mut text = vector.plaintext_hex;
        key.xctr(u128::from_le_bytes(nonce), &mut text);
        assert_eq!(text, vector.ciphertext_hex, "{}", vector.description);
    }
}

fn agrees_with_oracle(key: [u8; 16], tweak: &[u8], plain: &[u8]) {
    let ours = Hctr2::<Aes128>::new(&key);
    let oracle = Hctr2_128::new(&key);
    let mut expected = vec![0; plain.len()];
    oracle.encrypt(plain, tweak, &mut expected).unwrap();

    let mut text = plain.to_vec();
    ours.apply(LayerOp::Encrypt, tweak, &mut text);
    assert_eq!(text, expected);
    ours.apply(LayerOp::Decrypt, tweak, &mut text);
    assert_eq!(text, plain);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 512 },
        rng_seed: RngSeed::Fixed(0x4c7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_texts_agree_with_hctr2_rs(key: [u8; 16], tweak in vec(any::<u8>(), 0..50), plain in vec(any::<u8>(), 16..1700)) {
        agrees_with_oracle(key, &tweak, &plain);
    }
}

#[test]
fn every_short_length_and_both_cells_agree_with_hctr2_rs() {
    let lengths = (16..if cfg!(miri) { 50 } else { 1200 })
        .chain(if cfg!(miri) { None } else { Some(8896) })
        .chain([1408]);
    for length in lengths {
        let plain: Vec<u8> = (0..length).map(|i| (i * 7 + length) as u8).collect();
        agrees_with_oracle(
            [length as u8; 16],
            &[1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &plain,
        );
    }
}

#[test]
#[should_panic(expected = "at least one block")]
fn a_text_under_one_block_is_a_bug() {
    Hctr2::<Aes128>::new(&[0; 16]).apply(LayerOp::Encrypt, &[0; 16], &mut [0; 15]);
}
