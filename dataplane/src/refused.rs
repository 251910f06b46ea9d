//! Flows that were refused a moment ago: their next datagrams are refused here, so that each of them costs the control thread one
//! question in [`REFUSED_NS`].
//!
//! ```text
//!   (tunnel, pair) ── keyed hash ──► place: the last one refused there, and when
//! ```
//!
//! One that loses its place to another is asked about again: nothing worse happens.

use std::hash::{BuildHasher, RandomState};

use crate::id::{Now, Pair, PeerId};
use crate::limits::{REFUSED_NS, REFUSED_PLACES};

/// The memory of one worker.
pub struct Refused {
    places: Box<[Option<(PeerId, Pair, Now)>]>,
    hash: RandomState,
}

impl Default for Refused {
    fn default() -> Self {
        Self {
            places: vec![None; REFUSED_PLACES].into(),
            hash: RandomState::new(),
        }
    }
}

impl Refused {
    /// The flow of `pair` from `tunnel` is refused at `now`.
    pub fn note(&mut self, now: Now, tunnel: PeerId, pair: Pair) {
        let place = self.place(tunnel, pair);
        self.places[place] = Some((tunnel, pair, now));
    }

    /// Whether it was refused less than [`REFUSED_NS`] ago.
    pub fn knows(&self, now: Now, tunnel: PeerId, pair: Pair) -> bool {
        let last = self.places[self.place(tunnel, pair)];
        last.is_some_and(|(whose, what, at)| (whose, what) == (tunnel, pair) && now.since(at) < REFUSED_NS)
    }

    fn place(&self, tunnel: PeerId, pair: Pair) -> usize {
        self.hash.hash_one((tunnel, pair)) as usize % REFUSED_PLACES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_remembered_for_its_time_and_its_flow() {
        let pair = |last: u8| Pair {
            source: [10, 0, 0, last].into(),
            destination: [192, 0, 2, 1].into(),
        };
        let (mut refused, at) = (Refused::default(), Now(5));
        refused.note(at, PeerId(1), pair(1));
        assert!(refused.knows(at.plus(REFUSED_NS - 1), PeerId(1), pair(1)));
        assert!(!refused.knows(at.plus(REFUSED_NS), PeerId(1), pair(1)));
        assert!(!refused.knows(at, PeerId(2), pair(1)) && !refused.knows(at, PeerId(1), pair(2)));
    }
}
