//! Where the pieces of cut datagrams wait.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::MAX_DATAGRAM;
use crate::id::{AivtId, Now};
use crate::limits::EDGE_WAIT_NS;

/// Which edge of a cell a piece is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Side {
    /// Last bytes of the cell: a datagram begins here.
    Head,
    /// First bytes of the cell, all of them perhaps: a datagram goes on here.
    Tail,
}

/// Name of a waiting piece. Pieces are only ever found by name, so a slot used again for another piece cannot be mistaken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Place {
    pub aivt: AivtId,
    pub sequence: u64,
    pub side: Side,
}

/// One piece of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge<'a> {
    pub bytes: &'a [u8],
    /// Of a tail: bytes from its start to the datagram's end, so more than it has when the datagram goes on. Of a head: 0.
    pub remaining: u16,
}

impl Edge<'_> {
    /// Whether the datagram ends with this tail.
    pub fn ends(&self) -> bool {
        usize::from(self.remaining) == self.bytes.len()
    }
}

/// The bounded store of one worker for pieces of datagrams that wait for the rest. Allocates at its making and never again.
///
/// A piece leaves when its datagram is complete, after [`EDGE_WAIT_NS`], when its AIVT has gone 64 cells further, or, the pool being
/// full, as the oldest of all.
pub struct EdgePool {
    pub(super) edges: Edges,
    /// Where a datagram is put together.
    pub(super) scratch: Box<[u8]>,
}

impl EdgePool {
    /// Room for `slots` (at least 1) pieces of cells with `cell_data` bytes behind their header.
    pub fn new(slots: usize, cell_data: usize) -> Self {
        Self {
            edges: Edges::new(slots.max(1), cell_data),
            scratch: vec![0; MAX_DATAGRAM].into(),
        }
    }

    /// Pieces that wait now.
    pub fn waiting(&self) -> usize {
        self.edges.index.len()
    }

    /// Frees the pieces that have waited longer than [`EDGE_WAIT_NS`]; returns how many. `now` must not go backwards.
    pub fn expire(&mut self, now: Now) -> usize {
        self.edges.expire(now)
    }
}

const NONE: u32 = u32::MAX;

struct Slot {
    place: Place,
    arrived: Now,
    length: u16,
    remaining: u16,
    older: u32,
    /// The next younger one in the order of arrival; of a free slot, the next free one.
    newer: u32,
}

/// The pieces: slots of equal size, an index by name, and the order of arrival as a list through the slots.
pub(super) struct Edges {
    index: HashMap<Place, u32, FxBuildHasher>,
    slots: Box<[Slot]>,
    bytes: Box<[u8]>,
    stride: usize,
    free: u32,
    oldest: u32,
    newest: u32,
}

impl Edges {
    fn new(slots: usize, stride: usize) -> Self {
        let count = u32::try_from(slots)
            .ok()
            .filter(|&n| n < NONE)
            .expect("slots fit 32 bits");
        let empty = |i| Slot {
            place: Place {
                aivt: AivtId(0),
                sequence: 0,
                side: Side::Head,
            },
            arrived: Now(0),
            length: 0,
            remaining: 0,
            older: NONE,
            newer: if i + 1 < count { i + 1 } else { NONE },
        };
        Self {
            // Never more than half full: hashbrown then cleans up in place and does not grow.
            index: HashMap::with_capacity_and_hasher(2 * slots, FxBuildHasher),
            slots: (0..count).map(empty).collect(),
            bytes: vec![0; slots * stride].into(),
            stride,
            free: 0,
            oldest: NONE,
            newest: NONE,
        }
    }

    /// The piece of that name, if it waits.
    pub fn find(&self, place: Place) -> Option<Edge<'_>> {
        let at = *self.index.get(&place)? as usize;
        let slot = &self.slots[at];
        let bytes = &self.bytes[at * self.stride..][..usize::from(slot.length)];
        Some(Edge {
            bytes,
            remaining: slot.remaining,
        })
    }

    /// Keeps a piece, which is no longer than a cell's data, under a name not in use. Returns whether the oldest had to go for it.
    pub fn keep(&mut self, now: Now, place: Place, edge: Edge<'_>) -> bool {
        let evict = self.free == NONE;
        if evict {
            self.remove(self.slots[self.oldest as usize].place);
        }
        let at = self.free;
        let slot = &mut self.slots[at as usize];
        self.free = slot.newer;
        let length = u16::try_from(edge.bytes.len()).expect("a piece is shorter than a datagram");
        *slot = Slot {
            place,
            arrived: now,
            length,
            remaining: edge.remaining,
            older: self.newest,
            newer: NONE,
        };
        match self.newest {
            NONE => self.oldest = at,
            newest => self.slots[newest as usize].newer = at,
        }
        self.newest = at;
        self.bytes[at as usize * self.stride..][..edge.bytes.len()].copy_from_slice(edge.bytes);
        self.index.insert(place, at);
        evict
    }

    /// Frees the piece of that name; returns whether it was there.
    pub fn remove(&mut self, place: Place) -> bool {
        let Some(at) = self.index.remove(&place) else {
            return false;
        };
        let Slot { older, newer, .. } = self.slots[at as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        self.slots[at as usize].newer = self.free;
        self.free = at;
        true
    }

    pub fn expire(&mut self, now: Now) -> usize {
        let mut expired = 0;
        while let Some(slot) = self
            .slots
            .get(self.oldest as usize)
            .filter(|slot| now.since(slot.arrived) > EDGE_WAIT_NS)
        {
            self.remove(slot.place);
            expired += 1;
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The index keeps its memory however pieces come and go: removed entries are cleaned up in place.
    #[test]
    fn index_never_grows() {
        // Exactly what a table of 128 entries takes, so that too small a one shows.
        const SLOTS: usize = 112;
        let mut pool = EdgePool::new(SLOTS, 4);
        let capacity = pool.edges.index.capacity();
        let place = |sequence| Place {
            aivt: AivtId(sequence % 7),
            sequence,
            side: Side::Tail,
        };
        for i in 0..100_000_u64 {
            let edge = Edge {
                bytes: &i.to_be_bytes()[4..],
                remaining: 4,
            };
            let full = pool.waiting() == SLOTS;
            assert_eq!(pool.edges.keep(Now(i), place(i), edge), full);
            if i % 50 != 0 && i % 3 == 0 {
                pool.edges.remove(place(i - i % 50));
            }
            assert!(pool.waiting() <= SLOTS);
            assert_eq!(
                pool.edges.find(place(i)).map(|e| e.bytes.to_vec()),
                Some(i.to_be_bytes()[4..].to_vec())
            );
        }
        // Less where removed entries are not cleaned up yet, more only in a larger table.
        assert!(pool.edges.index.capacity() <= capacity);
    }
}
