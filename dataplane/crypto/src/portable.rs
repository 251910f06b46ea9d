//! The backend that runs on every machine: pure Rust, built on the RustCrypto crates.
//!
//! Those pick AES-NI, VAES, PCLMULQDQ and SHA-NI at run time and fall back to constant-time software, so one binary serves
//! every CPU. The onion is [`Onion`]'s, at the level that it finds.

mod aead;
mod mac;

pub use aead::PortableAeadKey;
pub use mac::PortableMacKey;

use crate::{Backend, KeyLengthError, Layer, LayerJob, Onion, OnionKey};

/// The portable backend. One a worker; it holds nothing between calls, its keys are shared read-only.
#[derive(Debug, Default)]
pub struct Portable {
    onion: Onion,
}

impl Backend for Portable {}

impl Layer for Portable {
    type LayerKey = OnionKey;

    fn layer_key(key: &[u8; 16]) -> OnionKey {
        Onion::layer_key(key)
    }

    fn apply(&mut self, jobs: &mut [LayerJob<'_, OnionKey>]) {
        self.onion.apply(jobs);
    }
}

/// Refuses key material of another length than the algorithm's.
fn check_key_length(material: &[u8], wanted: usize) -> Result<(), KeyLengthError> {
    if material.len() == wanted {
        Ok(())
    } else {
        Err(KeyLengthError {
            given: material.len(),
            wanted,
        })
    }
}
