//! The veil over what a cell on a carrier is: key stream of AES-128, one block a packet number (protocol section 8).

use std::fmt;

use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

/// Bytes of a veil's key.
pub const VEIL_KEY_BYTES: usize = 16;

/// An expanded key; zeroizes on drop.
pub struct Veil(Aes128);

impl Veil {
    /// Expands `key`.
    pub fn new(key: &[u8; VEIL_KEY_BYTES]) -> Self {
        Self(Aes128::new(&Array(*key)))
    }

    /// What the first eight bytes of the packet of this 64-bit sequence number are XORed with: the start of the key's AES block over the
    /// number, written with 128 bits. Sender and receiver use it alike; no number comes twice under a key.
    pub fn mask(&self, sequence: u64) -> u64 {
        let mut block = Array(u128::from(sequence).to_be_bytes());
        self.0.encrypt_block(&mut block);
        u64::from_be_bytes(*block.first_chunk().expect("a block has 16 bytes"))
    }
}

impl fmt::Debug for Veil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Veil(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    // SP 800-38A has no block that begins with eight zero bytes: the expected values are OpenSSL's,
    // `openssl enc -aes-128-ecb -nopad -K 2b7e...`.
    #[test]
    fn masks_are_aes_of_the_number() {
        let veil = Veil::new(&hex!("2b7e151628aed2a6abf7158809cf4f3c"));
        assert_eq!(veil.mask(0), 0x7df7_6b0c_1ab8_99b3);
        assert_eq!(veil.mask(0x1_0000_0002), 0xa14c_d03b_5ce1_428d);
    }
}
