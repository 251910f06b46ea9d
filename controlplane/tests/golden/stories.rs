//! How the golden packets come about: what happens in a network until a packet of each kind was on a wire.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;

use ain_controlplane::signal::suite::x_wing;
use ain_controlplane::table_writer::{Rate, TunnelShape};
use ain_dataplane::count::SlotUse;
use ain_dataplane::id::Now;
use ain_dataplane::packet::PacketBuf;
use ain_dataplane::wire::ah::Family;

use super::{Golden, Joint};
use crate::plan::Plan as Network;
use crate::sim::chain::{AS_THEY_COME, Chain, Plan, initiator, responder};
use crate::sim::{CMAC, CMAC_V6, GMAC, GMAC_SHORT, GMAC_V6, HMAC, HMAC_ESN, HMAC_V6, Suite, datagram};
use crate::world::{Passed, World, inside};

/// All of them.
pub fn tell(golden: &mut Golden) {
    tunnels(golden);
    for family in [Family::V4, Family::V6] {
        network(golden, family);
        parts(golden, family);
        padded(golden, family);
        rates(golden, family);
    }
    pieces(golden);
}

/// A chain's tunnel with the packet in it.
fn joint_of_chain(plan: &Plan, ends: (u8, u8)) -> Joint {
    let low = ends.0.min(ends.1);
    let last = plan.ains + 1;
    let (between, seed) = match low {
        1 => ((1, 2), 1),
        _ if low == last => ((last + 1, last), 3),
        _ => ((low, low + 1), 2 * low + 1),
    };
    Joint::of(plan.suite, between, seed, ends)
}

/// A host's datagram of 100 bytes, in every pair of algorithms.
fn tunnels(golden: &mut Golden) {
    let short_v6 = Suite { esn: false, ..GMAC_V6 };
    for (kind, suites) in [
        ("tunnel-gmac-gcm128", [GMAC, GMAC_V6]),
        ("tunnel-gmac-gcm128-short", [GMAC_SHORT, short_v6]),
        ("tunnel-cmac-gcm128", [CMAC, CMAC_V6]),
        ("tunnel-hmac-gcm256", [HMAC_ESN, Suite { esn: true, ..HMAC_V6 }]),
        ("tunnel-hmac-gcm256-short", [HMAC, HMAC_V6]),
    ] {
        for suite in suites {
            let plan = Plan::new(2, suite);
            let wires = Chain::new(plan).send(1, &[datagram(initiator(0), responder(0), 64, 100, 1)]);
            let (from, to, frame) = &wires[0];
            golden.add(kind, &joint_of_chain(&plan, (*from, *to)), frame.data());
        }
    }
}

/// The same, padded to the tunnel's one size.
fn padded(golden: &mut Golden, family: Family) {
    let to_the_mtu = TunnelShape {
        padded_len: 1386,
        rate: Rate::None,
    };
    let plan = Plan {
        inner_mtu: 1386,
        shapes: [to_the_mtu, AS_THEY_COME],
        ..Plan::new(2, Suite { family, ..HMAC_ESN })
    };
    let wires = Chain::new(plan).send(1, &[datagram(initiator(0), responder(0), 64, 100, 1)]);
    let (from, to, frame) = &wires[0];
    golden.add("tunnel-padded", &joint_of_chain(&plan, (*from, *to)), frame.data());
}

/// A datagram of 3000 bytes without DF leaves the exit in fragments, for its responder's tunnel is narrow. They lie inside ESP.
fn pieces(golden: &mut Golden) {
    let plan = Plan {
        inner_mtu: 1386,
        ..Plan::new(2, HMAC_ESN)
    };
    let mut chain = Chain::new(plan);
    for (from, to, frame) in chain.send(1, &[datagram(initiator(0), responder(0), 64, 3000, 1)]) {
        if to == chain.responder() {
            golden.add("fragments-inside", &joint_of_chain(&plan, (from, to)), frame.data());
        }
    }
}

/// What a network of three nodes says when a host talks to another, asks for the end, and when nobody says anything.
fn network(golden: &mut Golden, family: Family) {
    let mut plan = Network::chain(3);
    plan.family = family;
    let mut world = World::new(&plan, 1);
    world.passed = Some(Vec::new());
    let own = Ipv4Addr::new(198, 51, 0, 1);
    world.send(0, &datagram(own, inside(2), 64, 100, 1));
    world.run_for(Now::SECOND);
    let shown = source_of(&world.delivered(2)[0]);
    world.send(2, &datagram(inside(2), shown, 64, 100, 2));
    world.run_for(3 * Now::SECOND);
    world.ask_to_close(0, own, inside(2));
    world.run_for(Now::SECOND);
    let mut seen = BTreeSet::new();
    for passed in world.passed.take().into_iter().flatten() {
        let kind = kind_of(&passed);
        if seen.insert(kind) {
            golden.add(kind, &joint_of_world(family, passed.ends), &passed.frame);
        }
    }
    for kind in [
        "create",
        "created",
        "destroy",
        "keepalive",
        "keepalive-ack",
        "ack",
        "cell-forward",
        "cell-backward",
        "request",
        "answer",
    ] {
        assert!(seen.contains(kind), "no {kind}: {seen:?}");
    }
}

/// A creating signal of suite 4 as the entrance sends it to its neighbour.
fn parts(golden: &mut Golden, family: Family) {
    let mut plan = Network::chain(2);
    plan.family = family;
    (plan.kem, plan.onion_key) = (x_wing::KEM, |node| x_wing::onion_key(&[node as u8 + 1; 32]));
    let mut world = World::new(&plan, 1);
    world.passed = Some(Vec::new());
    world.send(0, &datagram(Ipv4Addr::new(198, 51, 0, 1), inside(1), 64, 100, 1));
    let mut passed = world.passed.take().unwrap_or_default();
    passed.retain(|one| kind_of(one) == "create");
    assert_eq!(passed.len(), 6);
    for part in passed {
        golden.add("create-parts", &joint_of_world(family, part.ends), &part.frame);
    }
}

/// The IPv4 source of a datagram.
fn source_of(datagram: &[u8]) -> Ipv4Addr {
    let [a, b, c, d] = datagram[12..16].try_into().expect("4 bytes");
    Ipv4Addr::new(a, b, c, d)
}

fn joint_of_world(family: Family, ends: (u8, u8)) -> Joint {
    let suite = match family {
        Family::V4 => GMAC,
        Family::V6 => GMAC_V6,
    };
    let (low, high) = (ends.0.min(ends.1), ends.0.max(ends.1));
    let (between, seed) = match high {
        100.. => ((high, low), 1 + 2 * (high - 100)),
        _ => ((low, high), 100 + 2 * (low - 1)),
    };
    Joint::of(suite, between, seed, ends)
}

/// By what its receiver took out of it.
fn kind_of(passed: &Passed) -> &'static str {
    let (from, to) = passed.ends;
    let between_ains = from < 100 && to < 100;
    let Some(inner) = &passed.for_control else {
        return match between_ains {
            true if from < to => "cell-forward",
            true => "cell-backward",
            false => "datagram",
        };
    };
    let payload = &inner[if inner[0] >> 4 == 4 { 28 } else { 48 }..];
    match (between_ains, payload[0], payload[1]) {
        (true, 0, _) => "create",
        (true, 1, _) => "destroy",
        (true, 2, _) => "created",
        (true, 3, _) => "keepalive",
        (true, 4, _) => "keepalive-ack",
        (true, 5, _) => "ack",
        (false, _, 0) => "request",
        (false, _, 1) => "answer",
        other => panic!("no such signal: {other:?}"),
    }
}

const PERIOD: u64 = 1_000_000;
const PER_SECOND: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// Slots of a PVT and of a host tunnel with a rate, by what is in them.
fn rates(golden: &mut Golden, family: Family) {
    let shapes = [
        TunnelShape {
            padded_len: 1386,
            rate: Rate::Host(PER_SECOND),
        },
        TunnelShape {
            padded_len: 1408 - 26,
            rate: Rate::Pvt(PER_SECOND),
        },
    ];
    let plan = Plan {
        inner_mtu: 1386,
        shapes,
        ..Plan::new(2, Suite { family, ..GMAC })
    };
    let mut chain = Chain::new(plan);
    let mut missing = vec![
        "slot-cell",
        "slot-dummy",
        "slot-own-dummy",
        "slot-host-dummy",
        "slot-host",
    ];
    let mut steps = 0;
    while !missing.is_empty() {
        if steps % 20 == 0 {
            chain.send(1, &[datagram(initiator(0), responder(0), 64, 100, 1)]);
        }
        steps += 1;
        assert!(steps < 10_000, "no {missing:?}");
        for (kind, ends, frame) in slot(&mut chain) {
            if let Some(at) = missing.iter().position(|one| *one == kind) {
                missing.remove(at);
                golden.add(kind, &joint_of_chain(&plan, ends), &frame);
            }
        }
    }
}

/// A tenth of a period: what the initiator and the entrance towards the exit sent in it.
fn slot(chain: &mut Chain) -> Vec<(&'static str, (u8, u8), Vec<u8>)> {
    let used = |chain: &Chain, machine: u8| {
        [SlotUse::Cell, SlotUse::Own].map(|of| chain.machines[&machine].counters()[0].slots_used(of))
    };
    let before = [1, 2].map(|machine| used(chain, machine));
    let now = chain.now.plus(PERIOD / 10);
    chain.now = now;
    chain.machines.values_mut().for_each(|machine| machine.slots(now));
    let after = [1, 2].map(|machine| used(chain, machine));
    let mut sent = Vec::new();
    for (from, to, frame) in chain.run() {
        let next_header = frame.data()[14 + if frame.data()[14] >> 4 == 4 { 20 } else { 40 }];
        let kind = match (from, to, next_header) {
            (1, 2, _) if after[0][1] > before[0][1] => "slot-host",
            (1, 2, _) => "slot-host-dummy",
            (2, 3, 99) if after[1][0] > before[1][0] => "slot-cell",
            (2, 3, 99) => "slot-dummy",
            (2, 3, _) => "slot-own-dummy",
            _ => continue,
        };
        sent.push((kind, (from, to), frame.data().to_vec()));
    }
    sent
}
