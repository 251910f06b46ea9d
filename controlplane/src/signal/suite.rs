//! The suites of the creating signal: how K_i travels to AIN_i. A row says how long things are, a [`Kem`] how the entrance encrypts,
//! an [`OnionPrivateKey`] how AIN_i decrypts.

pub mod x25519;
pub mod x_wing;

use std::fmt;

use ain_dataplane::limits::MAX_HOPS;
use rand::CryptoRng;

use crate::key_schedule::HopKey;

/// Bytes of `routing` in a slot.
pub const ROUTING_BYTES: usize = 64;
/// Bytes of `ticket` in a slot.
pub const TICKET_BYTES: usize = 96;
/// Bytes of the header's mac.
pub const MAC_BYTES: usize = 16;
/// Bytes of version, suite and zero.
pub const PREFIX_BYTES: usize = 4;

/// One suite of protocol section 5.
#[derive(PartialEq, Eq, Debug)]
pub struct Suite {
    /// Number on the wire.
    pub id: u8,
    /// Name in reports.
    pub name: &'static str,
    /// Bytes of an onion public key.
    pub public_key: usize,
    /// Bytes of the key's encapsulation.
    pub kem_ct: usize,
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

/// Suite 1: RSA-2048 with OAEP, the paper's. The public key is the modulus; the exponent is 65537.
pub static RSA_2048: Suite = Suite {
    id: 1,
    name: "rsa-2048",
    public_key: 256,
    kem_ct: 256,
};

/// Suite 2: RSA-3072 with OAEP. The public key is the modulus; the exponent is 65537.
pub static RSA_3072: Suite = Suite {
    id: 2,
    name: "rsa-3072",
    public_key: 384,
    kem_ct: 384,
};

/// Suite 3: X25519.
pub static X25519: Suite = Suite {
    id: 3,
    name: "x25519",
    public_key: 32,
    kem_ct: 32,
};

/// Suite 4: X-Wing, X25519 and ML-KEM-768.
pub static X_WING: Suite = Suite {
    id: 4,
    name: "x-wing",
    public_key: 1216,
    kem_ct: 1120,
};

/// The row of `id`.
pub fn by_id(id: u8) -> Option<&'static Suite> {
    [&RSA_2048, &RSA_3072, &X25519, &X_WING]
        .into_iter()
        .find(|suite| suite.id == id)
}

/// Writes the encapsulation for a public key and returns K_i; `None` if the key is unusable.
pub type Encapsulate = fn(&[u8], &mut [u8], &mut dyn CryptoRng) -> Option<HopKey>;

/// The entrance's half of a suite: public-key operations alone.
#[derive(Clone, Copy, Debug)]
pub struct Kem {
    /// The suite.
    pub suite: &'static Suite,
    /// See [`Encapsulate`].
    pub encapsulate: Encapsulate,
}

/// The private half of an onion key, whoever's code has it. Works in time that depends on nothing secret.
pub trait Decapsulate: Send + Sync {
    /// K_i. An encapsulation of the suite's length that is not acceptable gives a key that nobody knows, so that the mac fails.
    fn decapsulate(&self, kem_ct: &[u8]) -> HopKey;
}

/// A node's private onion key, of any suite.
pub struct OnionPrivateKey {
    suite: &'static Suite,
    public: Box<[u8]>,
    secret: Box<dyn Decapsulate>,
}

impl OnionPrivateKey {
    /// The key whose halves are `public` and `secret`.
    pub fn new(suite: &'static Suite, public: &[u8], secret: Box<dyn Decapsulate>) -> Self {
        Self {
            suite,
            public: public.into(),
            secret,
        }
    }

    /// Its suite.
    pub fn suite(&self) -> &'static Suite {
        self.suite
    }

    /// The public half, for the directory.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// K_i of an encapsulation of the suite's length: see [`Decapsulate`].
    pub fn decapsulate(&self, kem_ct: &[u8]) -> HopKey {
        self.secret.decapsulate(kem_ct)
    }
}

impl fmt::Debug for OnionPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnionPrivateKey(redacted)")
    }
}

/// The onion keys that a node opens creating signals with.
#[derive(Debug)]
pub struct OnionKeys {
    /// The one that new creating signals are made for.
    pub current: OnionPrivateKey,
    /// The one before it, while creating signals made for it are still welcome.
    pub previous: Option<OnionPrivateKey>,
}

impl OnionKeys {
    /// In the order they are tried in.
    pub fn iter(&self) -> impl Iterator<Item = &OnionPrivateKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

impl From<OnionPrivateKey> for OnionKeys {
    fn from(current: OnionPrivateKey) -> Self {
        Self {
            current,
            previous: None,
        }
    }
}
