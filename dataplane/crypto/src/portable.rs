//! The backend that runs on every machine: pure Rust, built on the RustCrypto crates.
//!
//! Those pick AES-NI, VAES, PCLMULQDQ and SHA-NI at run time and fall back to constant-time software, so one binary serves
//! every CPU. The modes are theirs except HCTR2, which is written here (`hctr2`).

mod aead;
mod hctr2;
mod mac;

pub use aead::PortableAeadKey;
pub use mac::PortableMacKey;

use crate::{Backend, KeyLengthError, Layer, LayerJob};
use hctr2::Hctr2;
use std::fmt;

/// The portable backend. One a worker; it holds nothing between calls, its keys are shared read-only.
#[derive(Debug, Default)]
pub struct Portable(());

impl Backend for Portable {}

/// Expanded hop key of [`Portable`]: AES-128 in both directions and the POLYVAL key.
pub struct PortableLayerKey(Hctr2);

impl fmt::Debug for PortableLayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PortableLayerKey(..)")
    }
}

impl Layer for Portable {
    type LayerKey = PortableLayerKey;

    fn layer_key(key: &[u8; 16]) -> PortableLayerKey {
        PortableLayerKey(Hctr2::new(key))
    }

    fn apply(&mut self, jobs: &mut [LayerJob<'_, PortableLayerKey>]) {
        for job in jobs {
            job.key.0.apply(job.op, &job.tweak, job.cell);
        }
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
