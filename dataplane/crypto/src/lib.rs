//! Batched cryptography of the packet path.
//!
//! The packet path never works on one packet at a time: a stage collects one job a packet and hands the whole burst to a backend.
//! Three traits, one a family of primitive, are all the packet path knows of cryptography:
//!
//! | trait | serves | algorithms |
//! |---|---|---|
//! | [`Mac`] | AH integrity check values | HMAC-SHA2-256-128 (RFC 4868), AES-128-GMAC (RFC 4543), AES-CMAC-96 (RFC 4494) |
//! | [`Aead`] | ESP | AES-128-GCM-16, AES-256-GCM-16 (RFC 4106) |
//! | [`Layer`] | one layer of the onion over a cell | HCTR2-AES-128 (Crowley, Huckleberry, Biggers 2021) |
//!
//! [`Backend`] is the three together. A backend owns its key schedules: raw key bytes are expanded once, on the control thread,
//! and workers share the result read-only. [`Portable`] is the backend that runs on every machine; the onion is [`Onion`]'s in all
//! of them.
//!
//! `unsafe` is for what only the processor's own instructions can do, in the few files that allow it by name.
#![deny(unsafe_code)]

mod aead;
mod layer;
mod mac;
mod onion;
mod portable;
mod prefetch;
mod veil;

pub use aead::{Aead, AeadAlgorithm, AeadJob};
pub use layer::{Direction, Layer, LayerJob, LayerOp};
pub use mac::{Mac, MacAlgorithm, MacJob};
pub use onion::{Hctr2Key, Level, Onion, OnionKey, OnionKey256};
pub use portable::{Portable, PortableAeadKey, PortableMacKey};
pub use prefetch::prefetch;
pub use veil::{VEIL_KEY_BYTES, Veil};

use thiserror::Error;

/// Bytes of an AH or ESP authentication tag at most; only AES-CMAC-96 has fewer.
pub const TAG_BYTES: usize = 16;

/// Key material whose length does not fit its algorithm.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("key material of {given} bytes where the algorithm takes {wanted} (salt included)")]
pub struct KeyLengthError {
    /// Bytes given.
    pub given: usize,
    /// Bytes the algorithm takes.
    pub wanted: usize,
}

/// Everything the packet path asks of cryptography. One instance a worker; keys are shared between workers.
pub trait Backend: Mac + Aead + Layer + Send + 'static {}
