//! Keys of the onion: what a burst reads of them, in as few cache lines as earn their place.

use std::fmt;
use zeroize::Zeroize;

/// Sixteen bytes: an AES block, a round key, an element of POLYVAL's field.
pub(super) type Block = [u8; 16];

/// Powers of the hash key that a key holds.
pub(super) const POWERS: usize = 8;

/// An expanded HCTR2 key: plain data, five cache lines with AES-128 and six with AES-256.
///
/// Without AES-NI only the key itself is filled in, as the first one or two round keys; the portable level reads no more.
#[repr(C, align(64))]
pub struct Hctr2Key<const ROUND_KEYS: usize> {
    /// H^4, H^3, H^2, H, then H^8, H^12, H^16, H^20: one register of four blocks times the first four is the end of a hash,
    /// times the others its middle (four sums side by side, each over every fourth block).
    pub(super) powers: [Block; POWERS],
    /// AES round keys for encryption.
    pub(super) rounds: [Block; ROUND_KEYS],
    /// L = AES(1).
    pub(super) l: Block,
}

/// A hop key of the onion: HCTR2-AES-128.
pub type OnionKey = Hctr2Key<11>;

/// HCTR2-AES-256.
pub type OnionKey256 = Hctr2Key<15>;

const _: () = assert!(size_of::<OnionKey>() == 5 * 64 && size_of::<OnionKey256>() == 6 * 64);

impl OnionKey {
    /// Expands an AES-128 key.
    pub fn new(key: &[u8; 16]) -> Self {
        Self::expand(key)
    }
}

impl OnionKey256 {
    /// Expands an AES-256 key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self::expand(key)
    }
}

impl<const ROUND_KEYS: usize> Hctr2Key<ROUND_KEYS> {
    /// Bytes of the AES key: 16 with 11 round keys, 32 with 15.
    const KEY_BYTES: usize = 4 * (ROUND_KEYS - 7);

    fn expand(raw: &[u8]) -> Self {
        let mut key = Self {
            powers: [[0; 16]; POWERS],
            rounds: [[0; 16]; ROUND_KEYS],
            l: [0; 16],
        };
        key.rounds.as_flattened_mut()[..Self::KEY_BYTES].copy_from_slice(raw);
        #[cfg(target_arch = "x86_64")]
        if let Some(engine) = super::AesNi::detect() {
            engine.expand(&mut key);
        }
        key
    }

    /// The AES key itself, which is how its round keys begin.
    pub(super) fn raw(&self) -> &[u8] {
        &self.rounds.as_flattened()[..Self::KEY_BYTES]
    }
}

impl<const ROUND_KEYS: usize> Drop for Hctr2Key<ROUND_KEYS> {
    fn drop(&mut self) {
        self.powers.zeroize();
        self.rounds.zeroize();
        self.l.zeroize();
    }
}

impl<const ROUND_KEYS: usize> fmt::Debug for Hctr2Key<ROUND_KEYS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hctr2Key(..)")
    }
}
