//! Intel IPsec Multi-Buffer behind the batch traits of `ain-crypto`: the backend [`IpsecMb`].
//!
//! ```text
//!   MacJob, AeadJob ──► IpsecMb ─┬─ GMAC, GCM      direct calls, one a message          no manager
//!                                ├─ HMAC-SHA2-256  hash burst                          two managers a worker
//!                                └─ CMAC           job queue, drained inside the call  the first of the two
//!   LayerJob ─────────► Onion, ain-crypto's own engine
//! ```
//!
//! The library picks its code by what the CPU has, at run time, and tests itself against known answers whenever a manager is made.
//! [`IpsecMb::new`] gives a backend where both went well and says [`Unavailable`] elsewhere; `Portable` serves there.
//!
//! Nothing of a caller is kept past a call: key schedules lie in the keys, and a burst is handed over and drained in one
//! function. Only calls that check what they are given are used. Measurements: `docs/decisions/0009-ipsec-mb.md`.

mod aead;
mod cmac;
mod gcm;
mod hmac;
mod mac;
mod manager;
mod sys;

pub use aead::AeadKey;
pub use mac::MacKey;
pub use manager::{Level, Unavailable};

use ain_crypto::{Backend, Layer, LayerJob, Onion};
use hmac::HmacLanes;
use manager::{Code, Library, Manager};

/// The backend over Intel IPsec Multi-Buffer. One a worker; keys are shared between workers.
pub struct IpsecMb {
    library: &'static Library,
    manager: Manager,
    hmac: HmacLanes,
    onion: Onion,
}

impl IpsecMb {
    /// A backend for one worker. It has managers of its own, of 200 kB each, and may move to its worker's thread.
    ///
    /// # Errors
    /// [`Unavailable`]: why this machine has to do without. Keys must not be made then.
    pub fn new() -> Result<Self, Unavailable> {
        let library = Library::get()?;
        Ok(Self {
            library,
            manager: Manager::new(Code::Best)?,
            hmac: HmacLanes::new(library)?,
            onion: Onion::default(),
        })
    }

    /// Which of its code the library runs on this CPU.
    ///
    /// # Errors
    /// [`Unavailable`], as [`IpsecMb::new`].
    pub fn level() -> Result<Level, Unavailable> {
        Ok(Library::get()?.level)
    }
}

impl std::fmt::Debug for IpsecMb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IpsecMb({})", self.library.level)
    }
}

impl Backend for IpsecMb {}

/// The same on every backend: the library has no HCTR2.
impl Layer for IpsecMb {
    type LayerKey = <Onion as Layer>::LayerKey;

    fn layer_key(key: &[u8; 16]) -> Self::LayerKey {
        Onion::layer_key(key)
    }

    fn apply(&mut self, jobs: &mut [LayerJob<'_, Self::LayerKey>]) {
        self.onion.apply(jobs);
    }
}

/// Refuses key material of another length than the algorithm's.
fn check_key_length(material: &[u8], wanted: usize) -> Result<(), ain_crypto::KeyLengthError> {
    if material.len() == wanted {
        Ok(())
    } else {
        Err(ain_crypto::KeyLengthError {
            given: material.len(),
            wanted,
        })
    }
}
