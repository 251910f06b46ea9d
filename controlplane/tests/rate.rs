//! Line 6, constant rate: what an observer sees of tunnels with a rate, and that traffic crosses them all the same.

mod crypto;
mod sim;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use ain_controlplane::table_writer::{Rate, TunnelShape};
use ain_dataplane::count::SlotUse;
use ain_dataplane::id::Now;
use ain_dataplane::limits::{RATE_CELLS_OF_A_TVT, RATE_DATAGRAMS};
use ain_dataplane::packet::PacketBuf;
use ain_dataplane::verdict::DropReason;
use ain_dataplane::wire::ah::Family;
use sim::chain::{AS_THEY_COME, Chain, Plan, TO_NEIGHBOUR, aivt, ends, initiator, responder};
use sim::{Buf, GMAC, HMAC_ESN, Suite, datagram};

const PERIOD: u64 = 1_000_000;
const PPS: NonZeroU32 = NonZeroU32::new(1000).unwrap();
const STANDARD_SIGNAL: u16 = 1408 - 26;
const PVT: TunnelShape = TunnelShape {
    padded_len: STANDARD_SIGNAL,
    rate: Rate::Pvt(PPS),
};

const HOST: TunnelShape = TunnelShape {
    padded_len: 1386,
    rate: Rate::Host(PPS),
};

/// A packet on a wire: when, and what an observer reads off it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    at: Now,
    bytes: usize,
    spi: u32,
    number: u32,
    next_header: u8,
}

/// Packets by sender and receiver.
type Wires = BTreeMap<(u8, u8), Vec<Seen>>;

fn seen(at: Now, frame: &Buf) -> Seen {
    let ip = &frame.data()[14..];
    let ah = &ip[if ip[0] >> 4 == 4 { 20 } else { 40 }..];
    let number = |at: usize| u32::from_be_bytes(ah[at..at + 4].try_into().unwrap());
    Seen {
        at,
        bytes: frame.data().len(),
        spi: number(4),
        number: number(8),
        next_header: ah[0],
    }
}

/// Lets `periods` go by in steps of a tenth.
fn pass(chain: &mut Chain, periods: u64) -> Wires {
    let mut wires = Wires::new();
    for _ in 0..10 * periods {
        let now = chain.now.plus(PERIOD / 10);
        chain.now = now;
        chain.machines.values_mut().for_each(|machine| machine.slots(now));
        for (from, to, frame) in chain.run() {
            wires.entry((from, to)).or_default().push(seen(now, &frame));
        }
    }
    wires
}

fn used(chain: &Chain, machine: u8, of: SlotUse) -> u64 {
    chain.machines[&machine]
        .counters()
        .iter()
        .map(|counters| counters.slots_used(of))
        .sum()
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// A chain over an outer network of `family` in which every tunnel has had its first slots.
fn with_rates(family: Family, ains: u8, workers: u8, hosts: TunnelShape) -> Chain {
    let algorithms = if workers == 2 { HMAC_ESN } else { GMAC };
    let mut chain = Chain::new(Plan {
        workers,
        inner_mtu: if hosts == AS_THEY_COME { 9000 } else { 1386 },
        shapes: [hosts, PVT],
        ..Plan::new(ains, Suite { family, ..algorithms })
    });
    pass(&mut chain, 3);
    chain
}

/// One size, one SPI, numbers without a gap, one packet in each period: a tenth earlier or later, as steps and dither fall.
fn assert_constant(wires: &Wires, between: impl Fn(u8) -> bool, periods: usize) {
    for (ends, packets) in wires.iter().filter(|((from, to), _)| between(*from) && between(*to)) {
        assert!(
            packets.len().abs_diff(periods) <= 1,
            "{ends:?}: {} packets",
            packets.len()
        );
        for pair in packets.windows(2) {
            assert_eq!((pair[0].bytes, pair[0].spi), (pair[1].bytes, pair[1].spi), "{ends:?}");
            assert_eq!(pair[0].number + 1, pair[1].number, "{ends:?}");
            assert!(pair[1].at.since(pair[0].at).abs_diff(PERIOD) <= PERIOD / 10, "{ends:?}");
        }
        let whole = packets[packets.len() - 1].at.since(packets[0].at);
        let slots = (packets.len() as u64 - 1) * PERIOD;
        assert!(whole.abs_diff(slots) <= PERIOD / 10, "{ends:?} drifts");
    }
}

#[test]
fn line_6_datagrams_cross_and_an_observer_sees_the_same_as_in_silence() {
    let chains = FAMILIES.map(|family| [(2, 1), (3, 1), (3, 2), (4, 3)].map(|(ains, workers)| (family, ains, workers)));
    for (family, ains, workers) in chains.into_iter().flatten() {
        let mut chain = with_rates(family, ains, workers, AS_THEY_COME);
        let exit = chain.exit();
        let between_ains = |machine| (2..=exit).contains(&machine);
        let silence = pass(&mut chain, 100);
        assert_eq!(silence.len(), 2 * usize::from(ains - 1));
        assert_constant(&silence, between_ains, 100);
        let out = |ttl| [20, 100, 1383, 1400, 9000].map(|len| datagram(initiator(0), responder(0), ttl, len, 1));
        chain.send(1, &out(64));
        let mut wires = pass(&mut chain, 50);
        let back = |ttl| [33, 5000].map(|len| datagram(responder(0), initiator(0), ttl, len, 2));
        chain.send(ains + 2, &back(64));
        for (ends, more) in pass(&mut chain, 50) {
            wires.entry(ends).or_default().extend(more);
        }
        assert_constant(&wires, between_ains, 100);
        for machine in 2..=exit {
            assert!(used(&chain, machine, SlotUse::Cell) > 0 && used(&chain, machine, SlotUse::Dummy) > 0);
            assert_eq!(used(&chain, machine, SlotUse::Missed), 0);
        }
        assert_eq!(chain.delivered(ains + 2), out(63), "{ains} AINs forward, {family:?}");
        assert_eq!(chain.delivered(1), back(63), "{ains} AINs backward, {family:?}");
        chain.assert_no_drops();
    }
}

#[test]
fn line_6_own_slots_carry_signals_and_look_like_those_that_carry_none() {
    for family in FAMILIES {
        let mut chain = with_rates(family, 2, 1, AS_THEY_COME);
        let signal = datagram(
            sim::address_of(2),
            sim::address_of(3),
            64,
            usize::from(STANDARD_SIGNAL),
            7,
        );
        let machine = chain.machine(2);
        machine.writer.signal(TO_NEIGHBOUR, Buf::of(&signal));
        machine.settle(Now(1));
        let wires = pass(&mut chain, 320);
        assert_constant(&wires, |machine| machine == 2 || machine == 3, 320);
        let headers: Vec<u8> = wires[&(2, 3)].iter().map(|packet| packet.next_header).collect();
        let own: Vec<usize> = (0..headers.len()).filter(|at| headers[*at] == 50).collect();
        assert_eq!(own.len(), 10, "one slot in 32 at 1000 a second");
        assert!(own.windows(2).all(|pair| pair[1] - pair[0] == 32));
        assert_eq!(chain.heard, [(3, sim::chain::Heard::Signal(TO_NEIGHBOUR, signal))]);
        assert_eq!(used(&chain, 2, SlotUse::Own), 1);
        chain.assert_no_drops();
    }
}

#[test]
fn line_6_missed_slots_are_counted_and_never_made_up_for() {
    let mut chain = with_rates(Family::V4, 2, 1, AS_THEY_COME);
    let slots = |chain: &Chain| SlotUse::ALL.map(|of| used(chain, 2, of) + used(chain, 3, of));
    let before: u64 = slots(&chain).iter().sum();
    chain.now = chain.now.plus(7 * PERIOD);
    let wires = pass(&mut chain, 10);
    for packets in wires.values() {
        let times: Vec<u64> = packets.iter().map(|packet| packet.at.0 / (PERIOD / 10)).collect();
        assert!(
            packets.len() <= 11 && times.windows(2).all(|pair| pair[1] > pair[0]),
            "{times:?}"
        );
        assert!(
            times[2..].windows(2).all(|pair| (pair[1] - pair[0]).abs_diff(10) <= 1),
            "{times:?}"
        );
    }
    let passed = slots(&chain).iter().sum::<u64>() - before;
    assert!(passed.abs_diff(2 * 17) <= 2, "{passed}");
    assert!((12..=14).contains(&slots(&chain)[SlotUse::Missed as usize]));
}

#[test]
fn line_6_a_full_queue_drops_and_counts() {
    let mut chain = with_rates(Family::V4, 2, 1, AS_THEY_COME);
    chain.send(1, &[datagram(initiator(0), responder(0), 64, 100, 1)]);
    for _ in 0..3 {
        let burst: Vec<_> = (0..40)
            .map(|_| datagram(initiator(0), responder(0), 64, 1300, 1))
            .collect();
        chain.send(1, &burst);
    }
    pass(&mut chain, 150);
    let lost = chain.machines[&2].drops(DropReason::RateFull);
    assert!(lost > 0);
    let cells = used(&chain, 2, SlotUse::Cell);
    assert!(
        cells >= RATE_CELLS_OF_A_TVT as u64 && cells + lost >= 100,
        "{cells} {lost}"
    );
}

#[test]
fn line_6_a_tvt_packet_of_its_own_is_refused_and_so_is_an_unknown_tvt_under_the_veil() {
    let mut carried = with_rates(Family::V4, 2, 1, AS_THEY_COME);
    let mut plain = Chain::new(Plan::new(2, GMAC));
    // A neighbour without a rate: the same keys, TVT packets of its own.
    plain.send(1, &[datagram(initiator(0), responder(0), 64, 100, 1)]);
    let bare = plain.send(1, &[datagram(initiator(0), responder(0), 64, 100, 1)]);
    let bare: Vec<Buf> = bare
        .into_iter()
        .filter(|(from, to, _)| (*from, *to) == (2, 3))
        .map(|(_, _, b)| b)
        .collect();
    assert!(!bare.is_empty());
    carried.machine(3).receive(Now(5), 0, bare.clone());
    assert_eq!(
        carried.machines[&3].all_drops(),
        [(DropReason::WrongProtocol, bare.len() as u64)]
    );
    // And one with a rate that sends to one without.
    let now = carried.now.plus(3 * PERIOD);
    carried.now = now;
    carried.machine(2).slots(now);
    let veiled: Vec<Buf> = carried.machine(2).io.frames.drain(..).collect();
    plain.machine(3).receive(Now(5), 0, veiled.clone());
    assert_eq!(
        plain.machines[&3].all_drops(),
        [(DropReason::WrongProtocol, veiled.len() as u64)]
    );
    assert_eq!(ends(&veiled[0]), (2, 3));
    // And a TVT that the receiver has forgotten.
    let machine = carried.machine(3);
    machine.writer.remove(now, aivt(0));
    machine.settle(now);
    carried.send(1, &[datagram(initiator(0), responder(0), 64, 100, 1)]);
    pass(&mut carried, 60);
    assert!(carried.machines[&3].drops(DropReason::UnknownSpi) > 0);
}

/// The line of a host tunnel is one, whatever flows share it, and is as long as its limit says.
#[test]
fn line_6_a_host_tunnel_holds_a_burst() {
    let mut chain = with_rates(Family::V4, 2, 1, HOST);
    let burst = vec![datagram(initiator(0), responder(0), 64, 100, 1); 60];
    for _ in 0..10 {
        chain.send(1, &burst);
    }
    assert_eq!(
        chain.machines[&1].drops(DropReason::RateFull),
        600 - RATE_DATAGRAMS as u64
    );
    pass(&mut chain, 600);
    assert_eq!(used(&chain, 1, SlotUse::Own), RATE_DATAGRAMS as u64);
}

#[test]
fn line_6_host_tunnels_with_a_rate_send_one_size_at_one_pace() {
    for family in FAMILIES {
        let mut chain = with_rates(family, 2, 1, HOST);
        let silence = pass(&mut chain, 40);
        assert_constant(&silence, |_| true, 40);
        chain.send(1, &[datagram(initiator(0), responder(0), 64, 1386, 1)]);
        let loaded = pass(&mut chain, 40);
        assert_constant(&loaded, |_| true, 40);
        assert_eq!(loaded.len(), 6);
        assert_eq!(chain.delivered(4).len(), 1);
        chain.assert_no_drops();
    }
}
