//! AH integrity check values: what a backend offers to sign and verify a burst.
//!
//! A verifier computes the tags of the whole burst and compares them itself, in constant time (`subtle`).

use crate::{KeyLengthError, TAG_BYTES};

/// AH algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum MacAlgorithm {
    /// HMAC-SHA2-256 cut to 128 bits (RFC 4868): 32-byte key.
    HmacSha256_128,
    /// AES-128-GMAC (RFC 4543): 16-byte key followed by a 4-byte salt.
    Aes128Gmac,
    /// AES-CMAC cut to 96 bits (RFC 4494): 16-byte key.
    AesCmac96,
}

impl MacAlgorithm {
    /// Bytes of key material, salt included.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::HmacSha256_128 => 32,
            Self::Aes128Gmac => 20,
            Self::AesCmac96 => 16,
        }
    }

    /// Bytes of the tag; in a [`MacJob`] zeros follow a shorter one.
    pub const fn tag_bytes(self) -> usize {
        match self {
            Self::HmacSha256_128 | Self::Aes128Gmac => TAG_BYTES,
            Self::AesCmac96 => 12,
        }
    }
}

/// One message to authenticate.
#[derive(Debug)]
pub struct MacJob<'a, K> {
    /// Expanded key.
    pub key: &'a K,
    /// Explicit IV of GMAC (RFC 4543 section 3.1); the others ignore it.
    pub iv: [u8; 8],
    /// The whole message, contiguous.
    pub message: &'a [u8],
    /// Filled by [`Mac::compute`]: [`MacAlgorithm::tag_bytes`] of tag, then zeros.
    pub tag: [u8; TAG_BYTES],
}

/// Message authentication in batches.
pub trait Mac {
    /// Expanded key; zeroizes on drop and redacts itself in `Debug`.
    type MacKey: Send + Sync;
    /// Expands key material of [`MacAlgorithm::key_bytes`] bytes.
    fn mac_key(algorithm: MacAlgorithm, material: &[u8]) -> Result<Self::MacKey, KeyLengthError>;
    /// Computes the tag of every job.
    fn compute(&mut self, jobs: &mut [MacJob<'_, Self::MacKey>]);
}
