//! Any traffic under loss, delay and reordering: an exact model says which cell completes which datagrams.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::limits::{EDGE_CELLS, EDGE_WAIT_NS};

/// The model: for each cell, which datagrams touch it; a datagram comes with the last of its cells if all its edges still wait then.
struct Model {
    touched: Vec<(u64, u64)>,
    arrived: BTreeMap<u64, Now>,
    highest: u64,
}

impl Model {
    /// Cell spans of `bursts`, each of which begins a new cell.
    fn new(bursts: &[Vec<Vec<u8>>], cell_data: usize) -> Self {
        let (mut touched, mut first) = (Vec::new(), 1);
        for burst in bursts {
            let mut at = 0;
            for d in burst {
                touched.push((
                    first + (at / cell_data) as u64,
                    first + ((at + d.len() - 1) / cell_data) as u64,
                ));
                at += d.len();
            }
            first += at.div_ceil(cell_data) as u64;
        }
        Self {
            touched,
            arrived: BTreeMap::new(),
            highest: 0,
        }
    }

    /// Indices of the datagrams that cell `sequence` completes now, in order.
    fn arrive(&mut self, now: Now, sequence: u64) -> Vec<usize> {
        self.arrived.insert(sequence, now);
        self.highest = self.highest.max(sequence);
        let waits = |cell: u64| {
            self.arrived.get(&cell).is_some_and(|&at| now.since(at) <= EDGE_WAIT_NS)
                && cell + u64::from(EDGE_CELLS) > self.highest
        };
        let complete = |&(first, last): &(u64, u64)| {
            (first..=last).contains(&sequence) && (first == last || (first..=last).all(waits))
        };
        (0..self.touched.len())
            .filter(|&i| complete(&self.touched[i]))
            .collect()
    }
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![20..100usize, 500..1500usize, 1300..1500usize, 20..=9000usize]
}

fn bursts() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    prop::collection::vec(prop::collection::vec((length(), any::<bool>()), 1..24), 1..24).prop_map(|bursts| {
        let mut tag = 0;
        let mut make = |(length, v6)| {
            tag += 1;
            datagram(length, v6, tag)
        };
        bursts
            .into_iter()
            .map(|burst| burst.into_iter().map(&mut make).collect())
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, rng_seed: proptest::test_runner::RngSeed::Fixed(4797), failure_persistence: None, ..ProptestConfig::default() })]

    /// A datagram that becomes a cell where it lies gives the same bytes as one that is copied, whatever room it has.
    #[test]
    fn adopted_cells_are_the_copied_ones(bursts in bursts(), seed: u64) {
        let room = |index: usize| {
            let r = seed.rotate_left(7 * index as u32);
            ([0, 100, 117, 118, 214][(r % 5) as usize], [0, 1000, STANDARD, 4 * STANDARD][(r / 5 % 4) as usize])
        };
        for burst in bursts {
            prop_assert_eq!(pack_adopting(&burst, STANDARD, 1, room), pack(&burst, STANDARD, 1));
        }
    }

    /// What a cell says it holds alone is what the unpacker gives out.
    #[test]
    fn the_only_datagram_is_the_one_that_feeding_gives(bursts in bursts()) {
        for burst in bursts {
            for cell in pack(&burst, STANDARD, 1) {
                let (_, blocks) = blocks(&cell);
                let mut out = Vec::new();
                feed(&mut Unpacker::new(AivtId(1)), &mut EdgePool::new(64, STANDARD), Now(0), &cell, &mut out);
                if let Some(len) = blocks.only_datagram() {
                    prop_assert_eq!(&out, &[blocks.bytes[..len].to_vec()]);
                }
            }
        }
    }


    #[test]
    fn exactly_the_right_datagrams_arrive(
        bursts in bursts(),
        jumbo in any::<bool>(),
        loss in 0..20u32,
        // Per cell: a die for its loss, how many cells late it is, how long after the one before.
        fate in prop::collection::vec((0..100u32, prop_oneof![4 => Just(0), 2 => 0..8u64, 1 => 0..100u64], prop_oneof![9 => 0..100_000u64, 1 => 0..60_000_000u64]), 1000),
    ) {
        let cell = if jumbo { JUMBO } else { STANDARD };
        let mut cells: Vec<Vec<u8>> = Vec::new();
        for burst in &bursts {
            cells.extend(pack(burst, cell, cells.len() as u64 + 1));
        }
        let mut model = Model::new(&bursts, cell - HEADER_LEN);
        let sent = bursts.concat();
        let mut order: Vec<usize> = (0..cells.len()).filter(|i| fate[i % 1000].0 >= loss).collect();
        order.sort_by_key(|&i| i as u64 + fate[i % 1000].1);

        let (mut unpacker, mut pool) = (Unpacker::new(AivtId(1)), EdgePool::new(4096, cell - HEADER_LEN));
        let (mut now, mut arrivals) = (Now(1), 0);
        for i in order {
            now = now.plus(fate[(i + 1) % 1000].2);
            let mut out = Vec::new();
            let fed = feed(&mut unpacker, &mut pool, now, &cells[i], &mut out);
            let expected: Vec<_> = model.arrive(now, i as u64 + 1).into_iter().map(|d| sent[d].clone()).collect();
            prop_assert_eq!(fed.emitted as usize, out.len());
            prop_assert_eq!((fed.malformed, fed.evicted), (0, 0));
            prop_assert!(pool.waiting() <= 2 * EDGE_CELLS as usize);
            prop_assert!(out == expected, "cell {}: {} datagrams, expected {}", i + 1, out.len(), expected.len());
            arrivals += out.len();
        }
        prop_assert!(loss > 0 || arrivals > 0);
        pool.expire(now.plus(EDGE_WAIT_NS + 1));
        prop_assert_eq!(pool.waiting(), 0);
    }

    #[test]
    fn few_cells_and_all_come_back_in_order(bursts in bursts()) {
        let (mut unpacker, mut out, mut next) = (Unpacker::new(AivtId(1)), Vec::new(), 1);
        for burst in &bursts {
            let cells = pack(burst, STANDARD, next);
            next += cells.len() as u64;
            prop_assert_eq!(cells.len(), burst.iter().map(Vec::len).sum::<usize>().div_ceil(STANDARD - HEADER_LEN));
            let mut pool = EdgePool::new(64, STANDARD - HEADER_LEN);
            for cell in &cells {
                feed(&mut unpacker, &mut pool, Now(0), cell, &mut out);
            }
            prop_assert_eq!(pool.waiting(), 0);
        }
        prop_assert!(out == bursts.concat());
    }

    #[test]
    fn hostile_cells_do_no_harm(
        cells in prop::collection::vec((prop_oneof![0..200u64, any::<u64>()], any::<u16>(), prop::collection::vec(any::<u8>(), 0..200), any::<bool>()), 0..200),
        slots in 1..20usize,
    ) {
        let mut pool = EdgePool::new(slots, 200);
        let mut aivts = [Unpacker::new(AivtId(1)), Unpacker::new(AivtId(2))];
        for (sequence, offset, mut bytes, which) in cells {
            if let Some(first) = bytes.first_mut() {
                *first = if which { 0x45 } else { *first };
            }
            let blocks = Blocks { offset: if which { offset % 500 } else { offset }, bytes: &bytes };
            aivts[usize::from(which)].feed(Now(0), sequence, blocks, &mut pool, |d| assert_eq!(block(d), Block::Datagram(d.len())));
            prop_assert!(pool.waiting() <= slots);
        }
        for aivt in &mut aivts {
            aivt.clear(&mut pool);
        }
        prop_assert_eq!(pool.waiting(), 0);
    }

    #[test]
    fn open_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let zero = bytes.len() > HEADER_LEN && bytes[8..20].iter().all(|&b| b == 0);
        prop_assert!(zero || open(&bytes).is_err());
    }
}
