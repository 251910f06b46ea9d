//! From a hop key K_i to the keys of one hop (protocol section 5).
//!
//! ```text
//! K_i --HKDF-Expand-SHA256--> header stream | header mac | forward | backward | confirm | replay
//! ```

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::action::HopKeys;

/// K_i: 32 bytes that the entrance and AIN_i share, used for nothing but this schedule.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct HopKey([u8; 32]);

impl HopKey {
    /// The key of these bytes, which nobody can tell from random ones.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(*bytes)
    }
}

/// Bytes that mark a creating signal in the replay cache; tell nothing about the keys.
pub type ReplayTag = [u8; 16];

/// Every key of one hop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct KeySchedule {
    /// AES-256-CTR key of the onion header.
    pub header_stream: [u8; 32],
    /// HMAC-SHA256 key of the onion header.
    pub header_mac: [u8; 32],
    /// Layer key of cells towards the exit.
    pub forward: [u8; 16],
    /// Layer key of cells towards the entrance.
    pub backward: [u8; 16],
    /// HMAC-SHA256 key of the hop's link in the chain of CREATED.
    pub confirm: [u8; 32],
    /// The creating signal's mark in the replay cache.
    pub replay: ReplayTag,
}

impl KeySchedule {
    /// The schedule of `key`.
    pub fn new(key: &HopKey) -> Self {
        let hkdf = Hkdf::<Sha256>::from_prk(&key.0).expect("a hop key is as long as the hash");
        Self {
            header_stream: expand(&hkdf, "ain header stream"),
            header_mac: expand(&hkdf, "ain header mac"),
            forward: expand(&hkdf, "ain forward"),
            backward: expand(&hkdf, "ain backward"),
            confirm: expand(&hkdf, "ain confirm"),
            replay: expand(&hkdf, "ain replay"),
        }
    }

    /// The data keys of `suite`, for the packet path.
    pub fn hop_keys(&self, suite: u8) -> HopKeys {
        HopKeys {
            suite,
            forward: self.forward,
            backward: self.backward,
        }
    }

    /// The key of this hop's link in the chain of CREATED.
    pub fn confirm_key(&self) -> ConfirmKey {
        ConfirmKey(self.confirm)
    }
}

fn expand<const N: usize>(hkdf: &Hkdf<Sha256>, label: &str) -> [u8; N] {
    let mut key = [0; N];
    hkdf.expand(label.as_bytes(), &mut key)
        .expect("at most 255 hashes are asked for");
    key
}

/// `confirm_i` of protocol section 5.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ConfirmKey(pub(crate) [u8; 32]);

/// What the entrance keeps of one hop.
pub struct HopSecrets {
    /// Data keys.
    pub data: HopKeys,
    /// Key of the hop's link in the chain of CREATED.
    pub confirm: ConfirmKey,
}

macro_rules! redacted {
    ($($name:ident)+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    )+};
}
redacted!(HopKey KeySchedule ConfirmKey HopSecrets);

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    // HKDF-Expand is HMAC(prk, info | 0x01) for one block, so the vector can be made without the HKDF library.
    #[test]
    fn labels_give_the_blocks_of_rfc_5869() {
        use hmac::{Hmac, KeyInit, Mac};
        let key = HopKey(hex!("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"));
        let schedule = KeySchedule::new(&key);
        let block = |label: &str| -> [u8; 32] {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("any length");
            mac.update(label.as_bytes());
            mac.update(&[1]);
            mac.finalize().into_bytes().into()
        };
        assert_eq!(schedule.header_stream, block("ain header stream"));
        assert_eq!(schedule.header_mac, block("ain header mac"));
        assert_eq!(schedule.forward, block("ain forward")[..16]);
        assert_eq!(schedule.backward, block("ain backward")[..16]);
        assert_eq!(schedule.confirm, block("ain confirm"));
        assert_eq!(schedule.replay, block("ain replay")[..16]);
    }

    #[test]
    fn debug_shows_no_key() {
        let key = HopKey([0xab; 32]);
        assert_eq!(format!("{key:?}"), "HopKey(redacted)");
        assert_eq!(format!("{:?}", KeySchedule::new(&key)), "KeySchedule(redacted)");
    }
}
