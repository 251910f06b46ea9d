//! From cells back to datagrams.

use std::ops::RangeInclusive;

use super::pool::{Edge, EdgePool, Edges, Place, Side};
use super::{Block, Blocks, block};
use crate::id::{AivtId, Now};
use crate::limits::EDGE_CELLS;

/// What became of one cell's content. Sums over all cells fed are what the counters show.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fed {
    /// Datagrams given out.
    pub emitted: u32,
    /// Blocks without a possible version or length, counted once a cell (the rest of it is dropped), and datagrams whose pieces do
    /// not make the length their header says.
    pub malformed: u32,
    /// Pieces given up: 100 ms or 64 cells old. Those of other AIVTs whose time ran out are among them.
    pub expired: u32,
    /// Pieces given up because the pool was full, the oldest first.
    pub evicted: u32,
}

/// Takes the cells of one AIVT and direction, in any order, and gives the datagrams.
///
/// ```text
///   sequence      highest-63 ............ highest
///   heads         0 0 0 1 0 0 0 0 0 ...   1        a datagram begins at that cell's end
///   tails         0 0 0 0 1 1 0 0 0 ...   0        one goes on at that cell's start
/// ```
///
/// Holds only these two maps of what waits in the worker's pool; the pool may have given a piece up meanwhile.
#[derive(Debug)]
pub struct Unpacker {
    aivt: AivtId,
    highest: u64,
    heads: u64,
    tails: u64,
}

impl Unpacker {
    /// An unpacker for `aivt`, whose id must be the only one of its kind in the pool: a node ends an AIVT in one direction only.
    pub const fn new(aivt: AivtId) -> Self {
        Self {
            aivt,
            highest: 0,
            heads: 0,
            tails: 0,
        }
    }

    /// Takes the blocks of cell `sequence`, which must not have been fed before, and gives each datagram now complete to `emit`, in
    /// the sender's order as far as they complete together. The slice is exactly one datagram by its version and length fields;
    /// nothing else of it is checked. `now` must not go backwards in one pool.
    pub fn feed(
        &mut self,
        now: Now,
        sequence: u64,
        blocks: Blocks<'_>,
        pool: &mut EdgePool,
        mut emit: impl FnMut(&[u8]),
    ) -> Fed {
        let mut fed = Fed {
            expired: count(pool.edges.expire(now)),
            ..Fed::default()
        };
        fed.expired += self.advance(sequence, &mut pool.edges);
        let (tail, rest) = blocks
            .bytes
            .split_at(blocks.bytes.len().min(usize::from(blocks.offset)));
        if !tail.is_empty() {
            let edge = Edge {
                bytes: tail,
                remaining: blocks.offset,
            };
            self.edge(
                now,
                Arrival {
                    sequence,
                    side: Side::Tail,
                    edge,
                },
                pool,
                &mut fed,
                &mut emit,
            );
        }
        let head = whole(rest, &mut fed, &mut emit);
        if !head.is_empty() {
            let edge = Edge {
                bytes: head,
                remaining: 0,
            };
            self.edge(
                now,
                Arrival {
                    sequence,
                    side: Side::Head,
                    edge,
                },
                pool,
                &mut fed,
                &mut emit,
            );
        }
        fed
    }

    /// Notes cell `sequence`, which holds one whole datagram that the caller takes as it lies ([`Blocks::only_datagram`]); else as
    /// [`Self::feed`].
    pub fn pass(&mut self, now: Now, sequence: u64, pool: &mut EdgePool) -> Fed {
        let expired = count(pool.edges.expire(now)) + self.advance(sequence, &mut pool.edges);
        Fed {
            emitted: 1,
            expired,
            ..Fed::default()
        }
    }

    /// Frees what waits for this AIVT. Without it, as when an unpacker is dropped, time frees it.
    pub fn clear(&mut self, pool: &mut EdgePool) {
        self.forget_from(0, &mut pool.edges);
        (self.heads, self.tails) = (0, 0);
    }

    /// Makes `sequence` the highest if it is, and gives up pieces that fall behind the 64 cells. Returns how many.
    fn advance(&mut self, sequence: u64, edges: &mut Edges) -> u32 {
        let Some(step) = sequence.checked_sub(self.highest).filter(|&step| step > 0) else {
            return 0;
        };
        let step = u32::try_from(step).unwrap_or(u32::MAX);
        let gone = self.forget_from(EDGE_CELLS.saturating_sub(step), edges);
        self.heads = self.heads.checked_shl(step).unwrap_or(0);
        self.tails = self.tails.checked_shl(step).unwrap_or(0);
        self.highest = sequence;
        gone
    }

    /// Frees the pieces of cells `age` and more behind the highest.
    fn forget_from(&self, age: u32, edges: &mut Edges) -> u32 {
        let mut gone = 0;
        for (map, side) in [(self.heads, Side::Head), (self.tails, Side::Tail)] {
            let mut left = map & u64::MAX.checked_shl(age).unwrap_or(0);
            while left != 0 {
                let place = self.place(self.highest.wrapping_sub(u64::from(left.trailing_zeros())), side);
                gone += u32::from(edges.remove(place));
                left &= left - 1;
            }
        }
        gone
    }

    /// A piece has come: finishes its datagram, or keeps it.
    fn edge(&mut self, now: Now, new: Arrival<'_>, pool: &mut EdgePool, fed: &mut Fed, emit: &mut impl FnMut(&[u8])) {
        let age = self.highest - new.sequence;
        if age >= u64::from(EDGE_CELLS) {
            fed.expired += 1;
            return;
        }
        let pieces = Pieces {
            unpacker: self,
            edges: &pool.edges,
            new,
        };
        let Some(cells) = pieces.complete() else {
            fed.evicted += u32::from(self.keep(now, new, &mut pool.edges));
            return;
        };
        match pieces.assemble(cells.clone(), &mut pool.scratch) {
            Some(datagram) => {
                fed.emitted += 1;
                emit(datagram);
            }
            None => fed.malformed += 1,
        }
        self.forget(cells, &mut pool.edges);
    }

    /// Keeps a piece; returns whether the pool's oldest had to go for it.
    fn keep(&mut self, now: Now, new: Arrival<'_>, edges: &mut Edges) -> bool {
        let place = self.place(new.sequence, new.side);
        if edges.find(place).is_some() {
            return false; // Fed twice, against the contract: the first stays.
        }
        let bit = 1 << (self.highest - new.sequence);
        *self.map(new.side) |= bit;
        edges.keep(now, place, new.edge)
    }

    /// Frees the pieces of one datagram.
    fn forget(&mut self, cells: RangeInclusive<u64>, edges: &mut Edges) {
        let mut side = Side::Head;
        for cell in cells {
            edges.remove(self.place(cell, side));
            let bit = 1 << (self.highest - cell);
            *self.map(side) &= !bit;
            side = Side::Tail;
        }
    }

    fn map(&mut self, side: Side) -> &mut u64 {
        match side {
            Side::Head => &mut self.heads,
            Side::Tail => &mut self.tails,
        }
    }

    fn place(&self, sequence: u64, side: Side) -> Place {
        Place {
            aivt: self.aivt,
            sequence,
            side,
        }
    }
}

/// A piece that has come.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    sequence: u64,
    side: Side,
    edge: Edge<'a>,
}

/// The piece that has come, among those that wait.
struct Pieces<'a> {
    unpacker: &'a Unpacker,
    edges: &'a Edges,
    new: Arrival<'a>,
}

impl<'a> Pieces<'a> {
    /// The piece at that edge: this one or a waiting one.
    fn find(&self, sequence: u64, side: Side) -> Option<Edge<'a>> {
        if (sequence, side) == (self.new.sequence, self.new.side) {
            return Some(self.new.edge);
        }
        let map = if side == Side::Head {
            self.unpacker.heads
        } else {
            self.unpacker.tails
        };
        let age = self
            .unpacker
            .highest
            .checked_sub(sequence)
            .filter(|&age| age < u64::from(EDGE_CELLS))?;
        if map >> age & 1 == 0 {
            return None;
        }
        self.edges.find(self.unpacker.place(sequence, side))
    }

    /// The cells from the head to the last tail of the new piece's datagram, if every piece is here.
    fn complete(&self) -> Option<RangeInclusive<u64>> {
        let mut start = self.new.sequence;
        if self.new.side == Side::Tail {
            loop {
                start = start.checked_sub(1)?;
                if self.find(start, Side::Head).is_some() {
                    break;
                }
                self.find(start, Side::Tail).filter(|tail| !tail.ends())?;
            }
        }
        // Behind the start all pieces up to the new one are known to be there and to go on.
        let mut end = if self.new.side == Side::Tail {
            self.new.sequence
        } else {
            start.checked_add(1)?
        };
        while !self.find(end, Side::Tail)?.ends() {
            end = end.checked_add(1)?;
        }
        Some(start..=end)
    }

    /// Puts the pieces one behind another; `None` if that is not as long as its header says.
    fn assemble<'s>(&self, cells: RangeInclusive<u64>, scratch: &'s mut [u8]) -> Option<&'s [u8]> {
        let mut at = 0;
        let mut side = Side::Head;
        for cell in cells {
            let piece = self.find(cell, side)?.bytes;
            scratch.get_mut(at..at + piece.len())?.copy_from_slice(piece);
            at += piece.len();
            side = Side::Tail;
        }
        let datagram = &scratch[..at];
        (block(datagram) == Block::Datagram(at)).then_some(datagram)
    }
}

/// Gives out the whole datagrams at the start of `bytes`; returns the beginning of one that is cut, or nothing.
fn whole<'b>(mut bytes: &'b [u8], fed: &mut Fed, emit: &mut impl FnMut(&[u8])) -> &'b [u8] {
    while !bytes.is_empty() {
        match block(bytes) {
            Block::Datagram(length) if length <= bytes.len() => {
                let (datagram, rest) = bytes.split_at(length);
                fed.emitted += 1;
                emit(datagram);
                bytes = rest;
            }
            Block::Datagram(_) | Block::Unknown => return bytes,
            Block::Pad => break,
            Block::Nonsense => {
                fed.malformed += 1;
                break;
            }
        }
    }
    &[]
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
