//! The engine of the onion: HCTR2-AES over a burst, at the best level the machine has.
//!
//! ```text
//!   Onion::apply(burst) -- level? --> avx512    four blocks a register
//!                                     aesni     one block a register
//!                                     portable  the RustCrypto crates
//! ```
//!
//! A level is taken if the processor has its instructions and if it passes [`Onion::self_test`]; both are asked once a process. All
//! levels take the same keys.

#[cfg(target_arch = "x86_64")]
mod aesni;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod key;
mod portable;
mod self_test;
#[cfg(test)]
mod tests;

pub use key::{Hctr2Key, OnionKey, OnionKey256};

#[cfg(target_arch = "x86_64")]
use aesni::AesNi;
#[cfg(target_arch = "x86_64")]
use avx512::Avx512;

use crate::{Layer, LayerJob};
use std::fmt;
use std::sync::OnceLock;

/// Which instructions the engine is written for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Level {
    /// What the RustCrypto crates find: runs on every machine.
    Portable,
    /// AES-NI, PCLMULQDQ and AVX2.
    AesNiAvx2,
    /// VAES and VPCLMULQDQ on the registers of AVX-512.
    Avx512,
}

impl Level {
    /// Every level, the fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::AesNiAvx2, Self::Portable];

    /// The levels whose instructions this processor has, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(|&level| Onion::with_level(level).is_some())
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Portable => "portable",
            Self::AesNiAvx2 => "aesni-avx2",
            Self::Avx512 => "avx512",
        })
    }
}

/// A level that this machine has: the values of the SIMD levels come from asking the processor.
#[derive(Clone, Copy, Debug)]
enum Engine {
    Portable,
    #[cfg(target_arch = "x86_64")]
    AesNi(AesNi),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// The engine of onion layers. It holds nothing between calls; its keys are shared read-only.
#[derive(Clone, Copy, Debug)]
pub struct Onion(Engine);

impl Onion {
    /// The engine at a level, or nothing where the processor lacks its instructions.
    pub fn with_level(level: Level) -> Option<Self> {
        Some(Self(match level {
            Level::Portable => Engine::Portable,
            #[cfg(target_arch = "x86_64")]
            Level::AesNiAvx2 => Engine::AesNi(AesNi::detect()?),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Engine::Avx512(Avx512::detect()?),
            #[cfg(not(target_arch = "x86_64"))]
            _ => return None,
        }))
    }

    /// The level at work.
    pub fn level(&self) -> Level {
        match self.0 {
            Engine::Portable => Level::Portable,
            #[cfg(target_arch = "x86_64")]
            Engine::AesNi(_) => Level::AesNiAvx2,
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512(_) => Level::Avx512,
        }
    }

    /// Whether a level, which the processor must have, gives the published answers, and those of the portable one on cells.
    pub fn self_test(level: Level) -> bool {
        Self::with_level(level).is_some_and(self_test::passes)
    }

    /// Runs every job, with keys of either size.
    ///
    /// # Panics
    /// On a cell under 16 bytes.
    pub fn run<const ROUND_KEYS: usize>(&self, jobs: &mut [LayerJob<'_, Hctr2Key<ROUND_KEYS>>]) {
        match self.0 {
            Engine::Portable => portable::apply(jobs),
            #[cfg(target_arch = "x86_64")]
            Engine::AesNi(engine) => engine.apply(jobs),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512(engine) => engine.apply(jobs),
        }
    }
}

/// The fastest level that the processor has and that passes its self-test.
impl Default for Onion {
    fn default() -> Self {
        static BEST: OnceLock<Onion> = OnceLock::new();
        let proven = || {
            Level::available()
                .find(|&level| Self::self_test(level))
                .and_then(Self::with_level)
        };
        *BEST.get_or_init(|| proven().expect("HCTR2 gives its published answers at one level at least"))
    }
}

impl Layer for Onion {
    type LayerKey = OnionKey;

    fn layer_key(key: &[u8; 16]) -> OnionKey {
        OnionKey::new(key)
    }

    fn apply(&mut self, jobs: &mut [LayerJob<'_, OnionKey>]) {
        self.run(jobs);
    }
}
