//! Onion keys by suite: how one is made, how the bytes of its file become a key again, and how the entrance encrypts for one.

mod rsa;

use ain_controlplane::signal::suite::{self, Kem, OnionPrivateKey, RSA_2048, RSA_3072, X_WING, X25519, x_wing, x25519};
use zeroize::Zeroizing;

use crate::keygen::{KeygenError, random};

/// The entrance's half of `suite`. `None`: there is no such suite.
pub fn kem(suite: u8) -> Option<Kem> {
    [&rsa::KEM_2048, &rsa::KEM_3072, &x25519::KEM, &x_wing::KEM]
        .into_iter()
        .find(|kem| kem.suite.id == suite)
        .copied()
}

/// The bytes of a new key of `suite`, which the configuration has checked: PKCS#8 for RSA, 32 random bytes otherwise.
///
/// # Errors
/// The system gives no random numbers.
pub fn generate(suite: u8) -> Result<Zeroizing<Vec<u8>>, KeygenError> {
    match suite::by_id(suite) {
        Some(suite) if [&RSA_2048, &RSA_3072].contains(&suite) => {
            rsa::generate(suite).map_err(|error| KeygenError::Random(error.to_string()))
        }
        _ => Ok(Zeroizing::new(random::<32>()?.to_vec())),
    }
}

/// The key of those bytes. `None` if they are none of `suite`.
pub fn load(suite: u8, bytes: &[u8]) -> Option<OnionPrivateKey> {
    let suite = suite::by_id(suite)?;
    if *suite == X25519 {
        Some(x25519::onion_key(bytes.try_into().ok()?))
    } else if *suite == X_WING {
        Some(x_wing::onion_key(bytes.try_into().ok()?))
    } else {
        rsa::load(suite, bytes)
    }
}
