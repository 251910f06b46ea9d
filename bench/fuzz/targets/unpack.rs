//! Data blocks of many cells, in any order, with any offsets.
#![no_main]

use ain_dataplane::aggfrag::{Blocks, EdgePool, Unpacker};
use ain_dataplane::id::{AivtId, Now};
use ain_dataplane::wire::datagram_len;
use libfuzzer_sys::fuzz_target;
use std::collections::HashSet;

/// Bytes of a cell's data here.
const DATA: usize = 64;

fuzz_target!(|cells: Vec<(u8, u8, u16, [u8; DATA])>| {
    let mut pool = EdgePool::new(8, DATA);
    let mut unpackers = [Unpacker::new(AivtId(1)), Unpacker::new(AivtId(2))];
    let mut fed = HashSet::new();
    let mut now = Now(0);
    for (sequence, wait_ms, offset, bytes) in &cells {
        now.0 += u64::from(wait_ms / 4) * 1_000_000;
        let which = usize::from(wait_ms % 2);
        // A window stands before the unpacker: no number comes twice.
        if !fed.insert((which, *sequence)) {
            continue;
        }
        let blocks = Blocks {
            offset: (*offset).min(u16::MAX - 1),
            bytes,
        };
        let mut emitted = 0;
        let report = unpackers[which].feed(now, u64::from(*sequence) + 1, blocks, &mut pool, |datagram| {
            assert_eq!(datagram_len(datagram), Ok(datagram.len()));
            emitted += 1;
        });
        assert_eq!(report.emitted, emitted);
        assert!(pool.waiting() <= 8);
    }
});
