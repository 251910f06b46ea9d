//! Suite 3: X25519 (RFC 7748), K_i = HKDF-Extract("ain x25519", dh | ephemeral | onion key).

use hkdf::Hkdf;
use rand::CryptoRng;
use sha2::Sha256;
use subtle::{Choice, ConditionallySelectable};
use x25519_dalek::{EphemeralSecret, PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{Decapsulate, Kem, OnionPrivateKey, X25519};
use crate::key_schedule::HopKey;

/// The entrance's half.
pub static KEM: Kem = Kem {
    suite: &X25519,
    encapsulate,
};

struct Secret {
    secret: StaticSecret,
    public: PublicKey,
}

/// The onion key of 32 random bytes (RFC 7748 section 5 clamps them).
pub fn onion_key(bytes: &[u8; 32]) -> OnionPrivateKey {
    let secret = StaticSecret::from(*bytes);
    let public = PublicKey::from(&secret);
    OnionPrivateKey::new(&X25519, public.as_bytes(), Box::new(Secret { secret, public }))
}

fn encapsulate(public_key: &[u8], kem_ct: &mut [u8], rng: &mut dyn CryptoRng) -> Option<HopKey> {
    let onion_key = PublicKey::from(<[u8; 32]>::try_from(public_key).ok()?);
    let secret = EphemeralSecret::random_from_rng(rng);
    let ephemeral = PublicKey::from(&secret);
    let dh = secret.diffie_hellman(&onion_key);
    kem_ct.copy_from_slice(ephemeral.as_bytes());
    dh.was_contributory()
        .then(|| extract(dh.as_bytes(), &ephemeral, &onion_key))
}

impl Decapsulate for Secret {
    fn decapsulate(&self, kem_ct: &[u8]) -> HopKey {
        let ephemeral = PublicKey::from(<[u8; 32]>::try_from(kem_ct).expect("cut to the suite's length"));
        let dh = self.secret.diffie_hellman(&ephemeral);
        // The sender knows an all-zero dh without knowing anything; then the secret key takes its place.
        let known = !Choice::from(u8::from(dh.was_contributory()));
        let mut input = Zeroizing::new(dh.to_bytes());
        for (byte, secret) in input.iter_mut().zip(self.secret.as_bytes()) {
            byte.conditional_assign(secret, known);
        }
        extract(&input, &ephemeral, &self.public)
    }
}

fn extract(dh: &[u8; 32], ephemeral: &PublicKey, onion_key: &PublicKey) -> HopKey {
    let mut input = Zeroizing::new([0; 96]);
    input[..32].copy_from_slice(dh);
    input[32..64].copy_from_slice(ephemeral.as_bytes());
    input[64..].copy_from_slice(onion_key.as_bytes());
    let (key, _) = Hkdf::<Sha256>::extract(Some(b"ain x25519"), input.as_slice());
    HopKey::from_bytes(&key.into())
}
