//! The backend of the in-memory Internet in this crate's tests: the portable one. `controlplane/daemon/tests` has the other.

pub use ain_crypto::Portable as Crypto;

/// One more.
pub fn crypto() -> Crypto {
    Crypto::default()
}
