//! Buffers and ports in memory.
mod common;

use ain_dataplane::limits::BURST;
use ain_dataplane::packet::{BufPool, PacketBuf};
use ain_worker::limits::GUEST_RING;
use ain_worker::mem::{MemPort, pair};
use ain_worker::port::{Burst, Port, PortCounts};
use ain_worker::share::share;
use ain_worker::vec_buf::{VecBuf, VecPool};
use common::{buffers_keep_their_contract, buffers_refuse_what_they_cannot, frame, frames, receive};

#[test]
fn buffers() {
    let mut pool = VecPool::new(1, 2048);
    buffers_keep_their_contract(&mut pool);
    buffers_refuse_what_they_cannot(&mut pool);
    assert_eq!((pool.available(), pool.size(), pool.room()), (1, 1, 2048));
}

#[test]
fn pool_is_bounded_and_reuses_its_memory() {
    let mut pool = VecPool::new(3, 64);
    let held: Vec<VecBuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!((held.len(), pool.available()), (3, 0));
    let addresses = |bufs: &[VecBuf]| {
        let mut all: Vec<usize> = bufs.iter().map(|b| b.data().as_ptr() as usize).collect();
        all.sort_unstable();
        all
    };
    let first = addresses(&held);
    drop(held);
    let again: Vec<VecBuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(addresses(&again), first, "the same memory, nothing new");
    drop(pool);
    assert_eq!(again.len(), 3, "buffers outlive the pool's handle");
}

#[test]
fn pair_carries_packets_both_ways_in_order() {
    let mut pool = VecPool::new(512, 2048);
    let (mut one, mut other) = pair(256);
    let mut burst = frames(&mut pool, 0, 64);
    one.tx(&mut burst);
    assert!(burst.is_empty());
    other.tx(&mut frames(&mut pool, 100, 10));
    for (number, buf) in (0..).zip(receive(&mut other, 64, |_| true)) {
        assert_eq!(buf.data(), frame(number));
    }
    for (number, buf) in (100..).zip(receive(&mut one, 10, |_| true)) {
        assert_eq!(buf.data(), frame(number));
    }
    let bytes = |numbers: std::ops::Range<u64>| numbers.map(|n| frame(n).len() as u64).sum();
    let expected = PortCounts {
        rx_packets: 10,
        rx_bytes: bytes(100..110),
        tx_packets: 64,
        tx_bytes: bytes(0..64),
        ..PortCounts::default()
    };
    assert_eq!(one.counters().read(), expected);
    assert_eq!(pool.available(), 512);
}

#[test]
fn full_queue_drops_the_rest_and_counts_it() {
    let mut pool = VecPool::new(64, 2048);
    let (mut one, mut other): (MemPort<VecBuf>, _) = pair(5);
    one.tx(&mut frames(&mut pool, 0, 8));
    let counts = one.counters().read();
    assert_eq!((counts.tx_packets, counts.tx_dropped), (5, 3));
    assert_eq!(counts.tx_bytes, (0..5).map(|n| frame(n).len() as u64).sum::<u64>());
    let came = receive(&mut other, 5, |_| true);
    for (number, buf) in (0..).zip(&came) {
        assert_eq!(buf.data(), frame(number), "the first go, the last are lost");
    }
    drop(came);
    assert_eq!(pool.available(), 64);
}

#[test]
fn reception_fills_only_the_free_places() {
    let mut pool = VecPool::new(256, 2048);
    let (mut one, mut other) = pair(256);
    one.tx(&mut frames(&mut pool, 0, 64));
    let mut burst: Burst<VecBuf> = frames(&mut pool, 200, 60);
    assert_eq!(other.rx(&mut burst), BURST - 60);
    assert_eq!(burst[59].data(), frame(259));
    assert_eq!(burst[60].data(), frame(0));
    assert_eq!(other.rx(&mut burst), 0);
}

#[test]
fn guests_send_through_their_host_in_order() {
    let mut pool = VecPool::new(1024, 2048);
    let (port, mut wire) = pair(512);
    let (mut host, mut guests) = share(port, 2);
    for (guest, first) in guests.iter_mut().zip([1000, 2000]) {
        for step in 0..3 {
            guest.tx(&mut frames(&mut pool, first + 50 * step, 50));
        }
        assert_eq!(guest.rx(&mut Burst::new()), 0);
    }
    host.tx(&mut frames(&mut pool, 0, 10));
    let mut burst = Burst::new();
    let moved: usize = (0..3).map(|_| host.rx(&mut burst)).sum();
    assert_eq!((moved, burst.len()), (300, 0), "guests' frames count as work");
    let mut came: Vec<Vec<u8>> = receive(&mut wire, 310, |_| true)
        .iter()
        .map(|b| b.data().to_vec())
        .collect();
    for (number, first) in [(10, 0), (150, 1000), (150, 2000)] {
        let wanted: Vec<_> = (first..first + number).map(frame).collect();
        let own = |bytes: &Vec<u8>| wanted.contains(bytes);
        let order: Vec<_> = came.iter().filter(|bytes| own(bytes)).cloned().collect();
        assert_eq!(order, wanted);
        came.retain(|bytes| !own(bytes));
    }
    wire.tx(&mut frames(&mut pool, 7, 1));
    assert_eq!(receive(&mut host, 1, |_| true)[0].data(), frame(7));
    assert_eq!(host.counters().read().tx_packets, 310);
}

#[test]
fn a_guest_counts_what_its_ring_refuses() {
    let extra = 5;
    let mut pool = VecPool::new(GUEST_RING + extra, 2048);
    let (port, _wire) = pair::<VecBuf>(1);
    let (_host, mut guests) = share(port, 1);
    let all = (GUEST_RING + extra) as u64;
    for number in 0..all {
        guests[0].tx(&mut frames(&mut pool, number, 1));
    }
    let counts = guests[0].counters().read();
    assert_eq!((counts.tx_packets, counts.tx_dropped), (0, extra as u64));
    assert_eq!(pool.available(), extra, "what was refused is free again");
}
