//! Batched cryptography of the packet path.
//!
//! The packet path never works on one packet at a time: a stage collects one job a packet and hands the whole burst to a backend.
//! Three traits, one a family of primitive, are all the packet path knows of cryptography:
//!
//! | trait | serves | algorithms |
//! |---|---|---|
//! | [`Mac`] | AH integrity check values | HMAC-SHA2-256-128 (RFC 4868), AES-128-GMAC (RFC 4543) |
//! | [`Aead`] | ESP | AES-128-GCM-16, AES-256-GCM-16 (RFC 4106) |
//! | [`Layer`] | one layer of the onion over a cell | HCTR2-AES-128 |
//!
//! [`Backend`] is the three together. A backend owns its key schedules: raw key bytes are expanded once, on the control thread,
//! and workers share the result read-only.
#![forbid(unsafe_code)]

use thiserror::Error;

/// Bytes of an AH or ESP authentication tag; every algorithm here yields 16.
pub const TAG_BYTES: usize = 16;

/// AH algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum MacAlgorithm {
    /// HMAC-SHA2-256 cut to 128 bits (RFC 4868): 32-byte key.
    HmacSha256_128,
    /// AES-128-GMAC (RFC 4543): 16-byte key followed by a 4-byte salt.
    Aes128Gmac,
}

impl MacAlgorithm {
    /// Bytes of key material, salt included.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::HmacSha256_128 => 32,
            Self::Aes128Gmac => 20,
        }
    }
}

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

/// Key material whose length does not fit its algorithm.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("key material of {given} bytes where the algorithm takes {wanted} (salt included)")]
pub struct KeyLengthError {
    /// Bytes given.
    pub given: usize,
    /// Bytes the algorithm takes.
    pub wanted: usize,
}

/// One message to authenticate.
#[derive(Debug)]
pub struct MacJob<'a, K> {
    /// Expanded key.
    pub key: &'a K,
    /// Explicit IV of GMAC (RFC 4543 section 3.1); HMAC ignores it.
    pub iv: [u8; 8],
    /// The whole message, contiguous.
    pub message: &'a [u8],
    /// Filled by [`Mac::compute`].
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

/// Which way along an AIVT a cell travels; part of the tweak of every onion layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Direction {
    /// From the entrance to the exit.
    Forward = 0,
    /// From the exit to the entrance.
    Backward = 1,
}

/// What one onion layer does to a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum LayerOp {
    /// Adds a layer.
    Encrypt,
    /// Takes a layer off.
    Decrypt,
}

/// One layer over one cell, in place.
#[derive(Debug)]
pub struct LayerJob<'a, K> {
    /// Expanded hop key.
    pub key: &'a K,
    /// The tweak: direction, suite, 14 zero bytes.
    pub tweak: [u8; 16],
    /// Add or take off.
    pub op: LayerOp,
    /// The whole cell, at least 16 bytes.
    pub cell: &'a mut [u8],
}

/// The onion's layers in batches: HCTR2-AES-128, a length-preserving tweakable strong pseudorandom permutation.
pub trait Layer {
    /// Expanded hop key; zeroizes on drop and redacts itself in `Debug`.
    type LayerKey: Send + Sync;
    /// Expands a hop's data key.
    fn layer_key(key: &[u8; 16]) -> Self::LayerKey;
    /// Runs every job.
    fn apply(&mut self, jobs: &mut [LayerJob<'_, Self::LayerKey>]);
}

/// Everything the packet path asks of cryptography. One instance a worker; keys are shared between workers.
pub trait Backend: Mac + Aead + Layer + Send + 'static {}
