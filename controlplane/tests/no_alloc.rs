//! Nothing is allocated on the packet path: once buffers have been there, bursts through entrance, intermediate and exit, both ways,
//! leave the allocator alone. This test binary's global allocator counts.

mod crypto;
mod sim;

use ain_dataplane::id::PortId;
use ain_dataplane::stage::Lane;
use sim::chain::{self, Chain, Plan, ends, initiator, responder};
use sim::{Buf, GMAC, GMAC_V6, HMAC, Suite, datagram};

/// Datagrams of several cells, cells of several datagrams, and pieces that wait.
const SIZES: [usize; 8] = [1400, 20, 9000, 60, 1384, 2768, 576, 100];

/// A burst from one host to the other, machine by machine, counting the allocations of each.
fn cross(chain: &mut Chain, forward: bool) -> Vec<(u8, u64)> {
    let (first, last) = if forward {
        (1, chain.responder())
    } else {
        (chain.responder(), 1)
    };
    let seen_as = if chain.plan.shown {
        chain::shown(0)
    } else {
        initiator(0)
    };
    let burst = SIZES.map(|len| {
        Buf::of(&match forward {
            true => datagram(initiator(0), responder(0), 64, len, 1),
            false => datagram(responder(0), seen_as, 64, len, 2),
        })
    });
    let now = chain.now;
    chain.machine(first).send(now, burst);
    let mut counted = Vec::new();
    let mut at = first;
    while at != last {
        let mut frames: Lane<Buf> = chain.machine(at).io.frames.drain(..).collect();
        at = ends(&frames[0]).1;
        let machine = chain.machine(at);
        let (engine, peers, io) = (&mut machine.engines[0], &machine.peers, &mut machine.io);
        let seen = allocation_counter::measure(|| {
            engine.from_wire(now, peers, PortId(0), &mut frames, io);
            engine.tick(now);
        });
        counted.push((at, seen.count_total));
    }
    assert_eq!(chain.delivered(last).len(), SIZES.len());
    counted
}

fn bursts_allocate_nothing(suite: Suite, shown: bool) {
    let mut chain = Chain::new(Plan {
        shown,
        ..Plan::new(4, suite)
    });
    let first = datagram(initiator(0), responder(0), 64, 60, 0);
    chain.send(1, &[first]);
    assert_eq!(chain.delivered(6).len(), 1);
    let warm_up = cross(&mut chain, true).len() + cross(&mut chain, false).len();
    assert_eq!(warm_up, 10, "four AINs and a host each way");
    for _ in 0..50 {
        for forward in [true, false] {
            for (machine, allocations) in cross(&mut chain, forward) {
                assert_eq!(allocations, 0, "machine {machine}, forward: {forward}");
            }
        }
    }
    chain.assert_no_drops();
}

#[test]
fn the_counter_counts() {
    let seen = allocation_counter::measure(|| drop(std::hint::black_box(vec![1u8; 100])));
    assert_eq!((seen.count_total, seen.bytes_total), (1, 100));
}

#[test]
fn gmac() {
    bursts_allocate_nothing(GMAC, false);
}

#[test]
fn gmac_over_ipv6() {
    bursts_allocate_nothing(GMAC_V6, false);
}

#[test]
fn hmac_showing_another_source() {
    bursts_allocate_nothing(HMAC, true);
}
