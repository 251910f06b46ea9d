//! Cells by example; `model` has the property tests.

mod model;

use super::*;
use crate::id::{AivtId, Now};
use crate::limits::EDGE_WAIT_NS;
use crate::packet::PacketBuf;
use crate::wire::cell::{HEADER_LEN, JUMBO_LEN as JUMBO, STANDARD_LEN as STANDARD};

/// A buffer with room before and behind, dirty there.
struct RoomyBuf {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl RoomyBuf {
    /// A buffer that is just a cell.
    fn cell(len: usize) -> Self {
        Self::around(&vec![0xee; len], 0, 0)
    }

    fn around(data: &[u8], before: usize, behind: usize) -> Self {
        let mut bytes = vec![0xdd; before];
        bytes.extend(data);
        bytes.resize(before + data.len() + behind, 0xcc);
        let end = before + data.len();
        Self {
            bytes,
            start: before,
            end,
        }
    }
}

impl PacketBuf for RoomyBuf {
    fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }
    fn headroom(&self) -> usize {
        self.start
    }
    fn tailroom(&self) -> usize {
        self.bytes.len() - self.end
    }
    fn grow_front(&mut self, n: usize) {
        self.start -= n;
    }
    fn grow_back(&mut self, n: usize) {
        self.end += n;
        assert!(self.end <= self.bytes.len(), "tailroom");
    }
    fn trim_front(&mut self, n: usize) {
        self.start += n;
    }
    fn truncate(&mut self, n: usize) {
        self.end = self.end.min(self.start + n);
    }
}

/// A datagram of `length` bytes, told apart by `tag`. IPv6 where asked for and long enough.
fn datagram(length: usize, v6: bool, tag: u32) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length as u32)
        .map(|i| (tag.wrapping_mul(0x9e37_79b9).wrapping_add(i) >> 7) as u8)
        .collect();
    if v6 && length >= 40 {
        bytes[0] = 0x60;
        bytes[4..6].copy_from_slice(&(length as u16 - 40).to_be_bytes());
    } else {
        bytes[0] = 0x45;
        bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    }
    bytes[12..16].copy_from_slice(&tag.to_be_bytes());
    bytes
}

/// Packs in one burst; cells dirty before, numbered from `first`.
fn pack(datagrams: &[Vec<u8>], cell: usize, first: u64) -> Vec<Vec<u8>> {
    let (mut cells, mut sequence) = (Vec::new(), first);
    let mut packer = Packer::new();
    for d in datagrams {
        let next = || {
            sequence += 1;
            Some((sequence - 1, RoomyBuf::cell(cell)))
        };
        packer.put(d, next, |full| cells.push(full.data().to_vec())).unwrap();
    }
    packer.finish(|last| cells.push(last.data().to_vec()));
    cells
}

/// The same, but datagrams with `room` before and behind become cells where they may.
fn pack_adopting(
    datagrams: &[Vec<u8>],
    cell: usize,
    first: u64,
    room: impl Fn(usize) -> (usize, usize),
) -> Vec<Vec<u8>> {
    let (mut cells, mut sequence) = (Vec::new(), first);
    let mut packer = Packer::new();
    for (index, d) in datagrams.iter().enumerate() {
        let (before, behind) = room(index);
        let own = RoomyBuf::around(d, before, behind);
        let number = || {
            sequence += 1;
            sequence - 1
        };
        let adopted = packer.adopt(own, cell, number, |full| cells.push(full.data().to_vec()));
        if let Err(own) = adopted {
            let next = || {
                sequence += 1;
                Some((sequence - 1, RoomyBuf::cell(cell)))
            };
            packer
                .put(own.data(), next, |full| cells.push(full.data().to_vec()))
                .unwrap();
        }
    }
    packer.finish(|last| cells.push(last.data().to_vec()));
    cells
}

fn blocks(cell: &[u8]) -> (u64, Blocks<'_>) {
    match open(cell).unwrap() {
        Opened {
            sequence,
            content: Content::Data(blocks),
        } => (sequence, blocks),
        other => panic!("{other:?}"),
    }
}

fn feed(unpacker: &mut Unpacker, pool: &mut EdgePool, now: Now, cell: &[u8], out: &mut Vec<Vec<u8>>) -> Fed {
    let (sequence, blocks) = blocks(cell);
    unpacker.feed(now, sequence, blocks, pool, |d| out.push(d.to_vec()))
}

#[test]
fn cell_layout() {
    let small = datagram(20, false, 1);
    let large = datagram(2000, false, 2);
    let cells = pack(&[small.clone(), large.clone()], STANDARD, 7);
    assert_eq!(cells.len(), 2);
    let mut first = vec![0, 0, 0, 0, 0, 0, 0, 7];
    first.extend([0; 12 + 4]);
    first.extend(&small);
    first.extend(&large[..1364]);
    assert_eq!(cells[0], first);
    let mut second = vec![0, 0, 0, 0, 0, 0, 0, 8];
    second.extend([0; 12 + 2]);
    second.extend(636u16.to_be_bytes());
    second.extend(&large[1364..]);
    second.resize(STANDARD, 0);
    assert_eq!(cells[1], second);
}

#[test]
fn offset_points_past_a_cell_that_is_all_continuation() {
    let cells = pack(&[datagram(5000, true, 1)], STANDARD, 1);
    let offsets: Vec<_> = cells.iter().map(|c| blocks(c).1.offset).collect();
    assert_eq!(offsets, [0, 5000 - 1384, 5000 - 2 * 1384, 5000 - 3 * 1384]);
}

#[test]
fn exact_fit_leaves_no_pad_and_no_further_cell() {
    let cells = pack(&[datagram(1000, false, 1), datagram(384 + 1384, false, 2)], STANDARD, 1);
    assert_eq!(cells.len(), 2);
    assert_eq!(blocks(&cells[1]).1.offset, 1384);
}

#[test]
fn dummies_and_verdicts() {
    let mut cell = vec![0xee; STANDARD];
    write_dummy(&mut cell, 5);
    let (mut unpacker, mut pool, mut out) = (
        Unpacker::new(AivtId(1)),
        EdgePool::new(4, STANDARD - HEADER_LEN),
        Vec::new(),
    );
    assert_eq!(feed(&mut unpacker, &mut pool, Now(0), &cell, &mut out), Fed::default());
    assert_eq!((out.len(), pool.waiting()), (0, 0));
    write_verdict(&mut cell, 6, 9);
    assert_eq!(
        open(&cell),
        Ok(Opened {
            sequence: 6,
            content: Content::Verdict(9)
        })
    );
    assert!(cell[HEADER_LEN + 1..].iter().all(|&b| b == 0));
}

#[test]
fn refusals_name_the_check() {
    let mut good = vec![0; STANDARD];
    write_dummy(&mut good, 1);
    let changed = |at: usize, value: u8| {
        let mut cell = good.clone();
        cell[at] = value;
        open(&cell).map(|_| ()).unwrap_err()
    };
    for at in 8..20 {
        for bit in 0..8 {
            assert_eq!(changed(at, 1 << bit), CellError::Redundancy);
        }
    }
    assert_eq!(changed(20, 1), CellError::SubType(1));
    assert_eq!(changed(21, 1), CellError::Reserved);
    let mut cell = good.clone();
    cell[22..24].fill(0xff);
    assert_eq!(open(&cell), Err(CellError::BlockOffset(65535)));
    cell[20] = 255;
    assert_eq!(open(&cell), Err(CellError::Reserved));
    for short in 0..=HEADER_LEN {
        assert_eq!(open(&good[..short]), Err(CellError::Short(short)));
    }
}

#[test]
fn out_of_cells_loses_one_datagram() {
    let (a, b, c) = (
        datagram(1000, false, 1),
        datagram(1000, false, 2),
        datagram(300, false, 3),
    );
    let (mut left, mut cells) = (1, Vec::new());
    let mut packer = Packer::new();
    let mut put = |d: &[u8]| {
        let next = || {
            left -= 1;
            (left >= 0).then(|| (1, RoomyBuf::cell(STANDARD)))
        };
        packer.put(d, next, |full| cells.push(full.data().to_vec()))
    };
    assert_eq!(put(&a), Ok(()));
    assert_eq!(put(&b), Err(PackError::NoCell));
    assert_eq!(put(&c), Ok(()));
    assert_eq!(put(&[]), Err(PackError::NotADatagram));
    assert_eq!(put(&c[..299]), Err(PackError::NotADatagram));
    packer.finish(|last| cells.push(last.data().to_vec()));
    assert_eq!(cells.len(), 1);
    let (mut unpacker, mut pool, mut out) = (Unpacker::new(AivtId(1)), EdgePool::new(4, 1384), Vec::new());
    assert_eq!(
        feed(&mut unpacker, &mut pool, Now(0), &cells[0], &mut out),
        Fed {
            emitted: 2,
            ..Fed::default()
        }
    );
    assert_eq!((out, pool.waiting()), (vec![a, c], 0));
}

#[test]
fn out_of_cells_amid_a_long_datagram() {
    let long = datagram(9000, false, 1);
    let after = datagram(50, false, 2);
    let (mut sequence, mut cells) = (0, Vec::new());
    let mut packer = Packer::new();
    let mut put = |d: &[u8], limit: u64| {
        let next = || {
            (sequence < limit).then(|| {
                sequence += 1;
                (sequence, RoomyBuf::cell(STANDARD))
            })
        };
        packer.put(d, next, |full| cells.push(full.data().to_vec()))
    };
    assert_eq!(put(&long, 2), Err(PackError::NoCell));
    assert_eq!(put(&after, 3), Ok(()));
    packer.finish(|last| cells.push(last.data().to_vec()));
    let (mut unpacker, mut pool, mut out) = (Unpacker::new(AivtId(1)), EdgePool::new(4, 1384), Vec::new());
    for cell in &cells {
        feed(&mut unpacker, &mut pool, Now(0), cell, &mut out);
    }
    assert_eq!((cells.len(), out), (3, vec![after]));
    unpacker.clear(&mut pool);
    assert_eq!(pool.waiting(), 0);
}

#[test]
fn order_of_datagrams_when_the_middle_comes_last() {
    // 3 cells: a ends and b begins in cell 2, b ends and c follows in cell 3.
    let datagrams = [
        datagram(2000, false, 1),
        datagram(1500, false, 2),
        datagram(100, false, 3),
    ];
    let cells = pack(&datagrams, STANDARD, 1);
    assert_eq!(cells.len(), 3);
    let (mut unpacker, mut pool, mut out) = (Unpacker::new(AivtId(1)), EdgePool::new(8, 1384), Vec::new());
    feed(&mut unpacker, &mut pool, Now(0), &cells[2], &mut out);
    feed(&mut unpacker, &mut pool, Now(0), &cells[0], &mut out);
    assert_eq!(pool.waiting(), 2);
    feed(&mut unpacker, &mut pool, Now(0), &cells[1], &mut out);
    assert_eq!(out, [2, 0, 1].map(|i: usize| datagrams[i].clone()));
    assert_eq!(pool.waiting(), 0);
}

#[test]
fn header_cut_before_its_length() {
    for (v6, header) in [(false, 4), (true, 6)] {
        for kept in 1..=header {
            let filler = datagram(1384 - kept, false, 1);
            let cut = datagram(60, v6, 2);
            let cells = pack(&[filler.clone(), cut.clone()], STANDARD, 1);
            let (mut unpacker, mut pool, mut out) = (Unpacker::new(AivtId(1)), EdgePool::new(8, 1384), Vec::new());
            for cell in &cells {
                feed(&mut unpacker, &mut pool, Now(0), cell, &mut out);
            }
            assert_eq!(out, [filler, cut]);
        }
    }
}

#[test]
fn time_frees_edges_to_the_nanosecond() {
    for (wait, complete) in [(EDGE_WAIT_NS, true), (EDGE_WAIT_NS + 1, false)] {
        let cells = pack(&[datagram(2000, false, 1)], STANDARD, 1);
        let (mut unpacker, mut pool, mut out) = (Unpacker::new(AivtId(1)), EdgePool::new(8, 1384), Vec::new());
        feed(&mut unpacker, &mut pool, Now(5), &cells[0], &mut out);
        let fed = feed(&mut unpacker, &mut pool, Now(5 + wait), &cells[1], &mut out);
        assert_eq!((fed.emitted, fed.expired), if complete { (1, 0) } else { (0, 1) });
        assert_eq!(pool.waiting(), usize::from(!complete));
        assert_eq!(pool.expire(Now(5 + 3 * EDGE_WAIT_NS)), usize::from(!complete));
        assert_eq!(pool.waiting(), 0);
    }
}

#[test]
fn sixty_four_cells_free_edges() {
    for (distance, complete) in [(63, true), (64, false)] {
        let cells = pack(&[datagram(2000, false, 1)], STANDARD, 1);
        let (mut unpacker, mut pool, mut out) = (Unpacker::new(AivtId(1)), EdgePool::new(8, 1384), Vec::new());
        let mut dummy = vec![0; STANDARD];
        feed(&mut unpacker, &mut pool, Now(0), &cells[0], &mut out);
        write_dummy(&mut dummy, 1 + distance);
        feed(&mut unpacker, &mut pool, Now(0), &dummy, &mut out);
        assert_eq!(pool.waiting(), usize::from(complete));
        feed(&mut unpacker, &mut pool, Now(0), &cells[1], &mut out);
        assert_eq!(out.len(), usize::from(complete));
        write_dummy(&mut dummy, u64::MAX);
        feed(&mut unpacker, &mut pool, Now(0), &dummy, &mut out);
        assert_eq!(pool.waiting(), 0);
    }
}

#[test]
fn full_pool_gives_up_the_oldest() {
    let mut pool = EdgePool::new(3, 1384);
    let mut aivts: Vec<_> = (0..4).map(|i| Unpacker::new(AivtId(i))).collect();
    let sent: Vec<_> = (0..4).map(|i| datagram(2000, false, i)).collect();
    let cells: Vec<_> = sent
        .iter()
        .map(|d| pack(std::slice::from_ref(d), STANDARD, 1))
        .collect();
    let mut out = Vec::new();
    let evicted: Vec<_> = (0..4)
        .map(|i| feed(&mut aivts[i], &mut pool, Now(0), &cells[i][0], &mut out).evicted)
        .collect();
    assert_eq!((evicted, pool.waiting()), (vec![0, 0, 0, 1], 3));
    // The first AIVT's edge went; its tail pushes out nothing of the others before they are complete.
    for i in [1, 2, 3, 0] {
        feed(&mut aivts[i], &mut pool, Now(0), &cells[i][1], &mut out);
    }
    assert_eq!(out, sent[1..]);
    aivts[0].clear(&mut pool);
    assert_eq!(pool.waiting(), 0);
}

#[test]
fn nonsense_drops_the_rest_of_the_cell_only() {
    let good = datagram(100, false, 1);
    for bad in [
        [0x50, 0, 0, 100],
        [0x45, 0, 0, 19],
        [0x44, 0, 0, 100],
        [0x4f, 0, 0, 59],
        [0xf0, 1, 2, 3],
    ] {
        let mut cell = vec![0; STANDARD];
        write_dummy(&mut cell, 1);
        cell[HEADER_LEN..][..100].copy_from_slice(&good);
        cell[HEADER_LEN + 100..][..4].copy_from_slice(&bad);
        cell[HEADER_LEN + 200..][..100].copy_from_slice(&good);
        let (mut unpacker, mut pool, mut out) = (Unpacker::new(AivtId(1)), EdgePool::new(4, 1384), Vec::new());
        let fed = feed(&mut unpacker, &mut pool, Now(0), &cell, &mut out);
        assert_eq!(
            fed,
            Fed {
                emitted: 1,
                malformed: 1,
                ..Fed::default()
            }
        );
        assert_eq!((out, pool.waiting()), (vec![good.clone()], 0));
    }
}

#[test]
fn pieces_that_do_not_fit_together_are_refused() {
    let mut cells = pack(&[datagram(2000, false, 1)], STANDARD, 1);
    cells[1][22..24].copy_from_slice(&615u16.to_be_bytes());
    let (mut unpacker, mut pool, mut out) = (Unpacker::new(AivtId(1)), EdgePool::new(4, 1384), Vec::new());
    feed(&mut unpacker, &mut pool, Now(0), &cells[0], &mut out);
    assert_eq!(
        feed(&mut unpacker, &mut pool, Now(0), &cells[1], &mut out),
        Fed {
            malformed: 1,
            ..Fed::default()
        }
    );
    assert_eq!((out.len(), pool.waiting()), (0, 0));
}
