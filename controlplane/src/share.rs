//! What one initiator and one neighbour may have of a node, so that no greedy one starves the others.
//!
//! ```text
//!   initiator ── AivtsPerSlice ──► CREATEs of this node            neighbour ── NeighbourShare ──► AIVTs joined, public-key operations
//! ```
//!
//! What an entrance may ask of other nodes is bounded by their tickets (protocol section 8). An entrance hands its tickets out to
//! users it knows: their quotas are its own, and no other node learns of them.

use std::collections::HashMap;

use ain_dataplane::id::PeerId;

use crate::limits::{AIVTS_PERCENT_OF_A_NEIGHBOUR, CREATES_PER_SECOND_PER_NEIGHBOUR};
use crate::ticket::Slice;

/// What a neighbour may have of this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighbourShare {
    /// CREATEs that may cost a public-key operation in a second.
    pub creates_per_second: u32,
    /// AIVTs that it may have asked this node to join, percent of [`crate::config::Quotas::aivts`].
    pub aivts_percent: u32,
}

impl NeighbourShare {
    /// Its part of `all` AIVTs, rounded up.
    pub fn of(self, all: usize) -> usize {
        (all * self.aivts_percent as usize).div_ceil(100)
    }
}

impl Default for NeighbourShare {
    fn default() -> Self {
        Self {
            creates_per_second: CREATES_PER_SECOND_PER_NEIGHBOUR,
            aivts_percent: AIVTS_PERCENT_OF_A_NEIGHBOUR,
        }
    }
}

/// The quota of an initiator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AivtsPerSlice {
    /// AIVTs that may be asked for on its behalf, rebuilds included: each of them costs other nodes the same.
    pub aivts: u32,
    /// Length of a slice of time, seconds; above 0.
    pub slice_s: u32,
}

/// AIVTs asked for on behalf of each initiator that has a quota, in the slice it last asked in.
#[derive(Default)]
pub(crate) struct MadeFor(HashMap<PeerId, (Slice, u32)>);

impl MadeFor {
    /// Whether one more for `host` is within `quota` at `wall`.
    pub(crate) fn admits(&self, wall: u64, host: PeerId, quota: AivtsPerSlice) -> bool {
        let slice = Slice::at(wall, quota.slice_s);
        let asked = self.0.get(&host).filter(|(last, _)| *last == slice);
        asked.map_or(0, |(_, asked)| *asked) < quota.aivts
    }

    /// One more was asked for.
    pub(crate) fn count(&mut self, wall: u64, host: PeerId, quota: AivtsPerSlice) {
        let slice = Slice::at(wall, quota.slice_s);
        let asked = self.0.entry(host).or_insert((slice, 0));
        if asked.0 != slice {
            *asked = (slice, 0);
        }
        asked.1 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_hosts_own_and_begins_anew_with_each_slice() {
        let quota = AivtsPerSlice { aivts: 2, slice_s: 600 };
        let (greedy, modest) = (PeerId(1), PeerId(2));
        let mut made = MadeFor::default();
        for slice in 0..3 {
            for _ in 0..2 {
                assert!(made.admits(slice * 600, greedy, quota));
                made.count(slice * 600, greedy, quota);
            }
            assert!(!made.admits(slice * 600 + 599, greedy, quota));
            assert!(made.admits(slice * 600 + 599, modest, quota));
        }
    }

    #[test]
    fn a_share_is_a_part_rounded_up() {
        let share = |aivts_percent| NeighbourShare {
            aivts_percent,
            ..NeighbourShare::default()
        };
        assert_eq!([50, 50, 1, 100].map(share).map(|share| share.of(7)), [4, 4, 1, 7]);
        assert_eq!(NeighbourShare::default().of(0), 0);
    }
}
