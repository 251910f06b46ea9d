//! What `ain-bench` measures, a file a subject. Each prints its table and adds its figures to the summary.

pub mod create;
pub mod flood;
pub mod live;
pub mod memory;
pub mod primitives;
pub mod roles;
pub mod scaling;
pub mod stages;

use crate::clock::Clock;
use crate::memory::Memories;
use crate::summary::Summary;

/// How much to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scale {
    /// Every line once, with counts too small to say anything: whether it works.
    Smoke,
    /// Minutes.
    #[default]
    Quick,
    /// Everything.
    Full,
}

impl Scale {
    /// One of three.
    pub fn pick<T>(self, smoke: T, quick: T, full: T) -> T {
        match self {
            Self::Smoke => smoke,
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// One run of the bench.
pub struct Run<'a, P: Memories> {
    /// Where packets lie.
    pub memories: &'a mut P,
    /// The core that is measured; the calling thread's.
    pub core: usize,
    /// Another one, if there is any.
    pub other_core: Option<usize>,
    /// The time-stamp counter.
    pub clock: Clock,
    /// How much.
    pub scale: Scale,
    /// Figures so far.
    pub summary: Summary,
}
