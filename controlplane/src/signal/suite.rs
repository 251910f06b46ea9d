//! The suites of the creating signal: one row a suite, everything else is computed from it.

use std::fmt;

use ain_dataplane::limits::MAX_HOPS;
use hkdf::Hkdf;
use rand::CryptoRng;
use sha2::Sha256;
use subtle::Choice;
use x25519_dalek::{EphemeralSecret, PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::key_schedule::HopKey;

/// Bytes of `routing` in a slot.
pub const ROUTING_BYTES: usize = 64;
/// Bytes of `ticket` in a slot.
pub const TICKET_BYTES: usize = 96;
/// Bytes of the header's mac.
pub const MAC_BYTES: usize = 16;
/// Bytes of version, suite and zero.
pub const PREFIX_BYTES: usize = 4;

/// How one suite carries K_i to AIN_i.
#[derive(Debug)]
pub struct Suite {
    /// Number on the wire.
    pub id: u8,
    /// Bytes of an onion public key.
    pub public_key: usize,
    /// Bytes of the key's encapsulation.
    pub kem_ct: usize,
    /// Writes the encapsulation for a public key and returns K_i; `None` if the key is unusable.
    pub(crate) encapsulate: fn(&[u8], &mut [u8], &mut dyn CryptoRng) -> Option<HopKey>,
    /// K_i, and whether the encapsulation was acceptable. In time that does not depend on the answer.
    pub(crate) decapsulate: fn(&OnionPrivateKey, &[u8]) -> (HopKey, Choice),
}

impl Suite {
    /// Bytes of a slot.
    pub const fn slot(&self) -> usize {
        ROUTING_BYTES + TICKET_BYTES + self.kem_ct + MAC_BYTES
    }

    /// Bytes of beta.
    pub const fn beta(&self) -> usize {
        MAX_HOPS * self.slot()
    }

    /// Bytes of the onion.
    pub const fn onion(&self) -> usize {
        PREFIX_BYTES + self.kem_ct + MAC_BYTES + self.beta()
    }
}

/// Suite 3: X25519.
pub static X25519: Suite = Suite {
    id: 3,
    public_key: 32,
    kem_ct: 32,
    encapsulate,
    decapsulate,
};

/// The row of `id`.
pub fn by_id(id: u8) -> Option<&'static Suite> {
    [&X25519].into_iter().find(|suite| suite.id == id)
}

/// A node's private onion key: X25519, suite 3.
pub struct OnionPrivateKey {
    secret: StaticSecret,
    public: PublicKey,
}

impl OnionPrivateKey {
    /// The key of 32 random bytes (RFC 7748 section 5 clamps them).
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let secret = StaticSecret::from(*bytes);
        let public = PublicKey::from(&secret);
        Self { secret, public }
    }

    /// A fresh key.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let secret = StaticSecret::random_from_rng(rng);
        let public = PublicKey::from(&secret);
        Self { secret, public }
    }

    /// The public half, for the directory.
    pub fn public(&self) -> [u8; 32] {
        self.public.to_bytes()
    }

    /// The private half, for the key file.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.to_bytes())
    }
}

impl fmt::Debug for OnionPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnionPrivateKey(redacted)")
    }
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

fn decapsulate(private_key: &OnionPrivateKey, kem_ct: &[u8]) -> (HopKey, Choice) {
    let ephemeral = PublicKey::from(<[u8; 32]>::try_from(kem_ct).expect("cut to the suite's length"));
    let dh = private_key.secret.diffie_hellman(&ephemeral);
    let key = extract(dh.as_bytes(), &ephemeral, &private_key.public);
    (key, Choice::from(u8::from(dh.was_contributory())))
}

/// HKDF-Extract("ain x25519", dh | ephemeral | onion key).
fn extract(dh: &[u8; 32], ephemeral: &PublicKey, onion_key: &PublicKey) -> HopKey {
    let mut input = Zeroizing::new([0; 96]);
    input[..32].copy_from_slice(dh);
    input[32..64].copy_from_slice(ephemeral.as_bytes());
    input[64..].copy_from_slice(onion_key.as_bytes());
    let (key, _) = Hkdf::<Sha256>::extract(Some(b"ain x25519"), input.as_slice());
    HopKey(key.into())
}
