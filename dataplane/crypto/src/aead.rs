//! ESP's authenticated encryption: what a backend offers to seal and open a burst.

use crate::{KeyLengthError, TAG_BYTES};

/// ESP algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum AeadAlgorithm {
    /// AES-128-GCM with a 16-byte tag (RFC 4106): 16-byte key followed by a 4-byte salt.
    Aes128Gcm16,
    /// AES-256-GCM with a 16-byte tag (RFC 4106): 32-byte key followed by a 4-byte salt.
    Aes256Gcm16,
}

impl AeadAlgorithm {
    /// Bytes of key material, salt included.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm16 => 20,
            Self::Aes256Gcm16 => 36,
        }
    }
}

/// One ESP payload to seal or open in place.
#[derive(Debug)]
pub struct AeadJob<'a, K> {
    /// Expanded key.
    pub key: &'a K,
    /// Explicit IV (RFC 4106 section 3.1).
    pub iv: [u8; 8],
    /// Additional authenticated data: SPI and sequence number, 8 bytes, or 12 with ESN (RFC 4106 section 5).
    pub aad: &'a [u8],
    /// Plaintext in, ciphertext out, or the reverse.
    pub text: &'a mut [u8],
    /// Written by [`Aead::seal`], read by [`Aead::open`].
    pub tag: [u8; TAG_BYTES],
    /// Set by [`Aead::open`]: whether the tag was right. The text of a job that failed is unspecified and must not be used.
    pub authentic: bool,
}

/// Authenticated encryption in batches.
pub trait Aead {
    /// Expanded key; zeroizes on drop and redacts itself in `Debug`.
    type AeadKey: Send + Sync;
    /// Expands key material of [`AeadAlgorithm::key_bytes`] bytes.
    fn aead_key(algorithm: AeadAlgorithm, material: &[u8]) -> Result<Self::AeadKey, KeyLengthError>;
    /// Encrypts every job and writes its tag.
    fn seal(&mut self, jobs: &mut [AeadJob<'_, Self::AeadKey>]);
    /// Verifies and decrypts every job; tags are compared in constant time.
    fn open(&mut self, jobs: &mut [AeadJob<'_, Self::AeadKey>]);
}
