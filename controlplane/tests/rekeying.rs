//! Issue 5, line 1: security associations are made before those that they replace are broken. Whole networks in memory whose PVTs and
//! host tunnels are rekeyed under traffic, AH and ESP apart, while AIVTs are made.

mod crypto;
#[path = "net/plan.rs"]
#[allow(dead_code)] // the other tests use the rest
mod plan;
mod sim;
mod world;

use std::net::Ipv4Addr;
use std::num::NonZeroU32;

use ain_controlplane::lifetime::{Amounts, Expiry, Lifetime};
use ain_controlplane::limits::{
    GENERATION_GRACE, GENERATIONS_KEPT, GENERATIONS_OF_A_PEER, HAND_MADE_PATIENCE, SA_GRACE,
};
use ain_controlplane::sa::{Generation, Numbers, SaDirection, SaEvent, SaKind, SaName, SaProtocol, SaSpec};
use ain_controlplane::table_writer::{Rate, TunnelShape};
use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use ain_dataplane::id::{Now, PeerId, Spi};
use ain_dataplane::limits::{KEY_SLOTS, SAS_OF_A_KIND};
use ain_dataplane::verdict::DropReason;
use plan::Plan;
use sim::chain::{AS_THEY_COME, Chain, initiator, responder};
use sim::{GMAC, Machine, datagram, key, outer_of};
use world::{MILLISECOND, Weather, World, inside};
use zeroize::Zeroizing;

/// Seconds after which the plan's nodes end an idle AIVT.
const INACTIVITY_S: u32 = 300;

/// One half of the `round`-th CHILD_SA between the machines `ends`, at the first of them.
fn half(
    machine: &Machine,
    ends: (u8, u8),
    (direction, protocol): (SaDirection, SaProtocol),
    round: u32,
    lifetime: Lifetime,
) -> SaSpec {
    let other = outer_of(ends.1, ain_dataplane::wire::ah::Family::V4);
    let (peer, _) = machine.peers.iter().find(|(_, peer)| peer.remote == other).unwrap();
    let upwards = (ends.0 < ends.1) == (direction == SaDirection::Out);
    let seed = (round as u8).wrapping_mul(4) ^ ends.0 ^ ends.1 ^ u8::from(upwards) << 1;
    let era = 16 * (round / 64) as u8;
    let numbers = match direction {
        SaDirection::In => Numbers::fresh_in(),
        SaDirection::Out => Numbers::fresh_out(machine.engines.len() as u8),
    };
    let (kind, key) = match protocol {
        SaProtocol::Ah => {
            let algorithm = MacAlgorithm::Aes128Gmac;
            let generation = Generation(round);
            let kind = SaKind::Ah {
                algorithm,
                generation,
                spi_counter: None,
            };
            (kind, key(7 + era, seed, algorithm.key_bytes()))
        }
        SaProtocol::Esp => {
            let algorithm = AeadAlgorithm::Aes256Gcm16;
            (SaKind::Esp(algorithm), key(9 + era, seed, algorithm.key_bytes()))
        }
    };
    SaSpec {
        peer,
        spi: Spi::new(0x0100_0000 + 4 * round + 2 * u32::from(protocol == SaProtocol::Esp) + u32::from(upwards))
            .unwrap(),
        kind,
        key,
        esn: true,
        numbers,
        lifetime,
    }
}

/// Makes a pair of AH associations at the first of two machines, which the other one knows nothing of; whether it could be.
fn rekey_alone(world: &mut World, ends: (u8, u8), round: u32) -> bool {
    let mut ways = [SaDirection::In, SaDirection::Out].into_iter();
    ways.all(|direction| add_alone(world, ends, direction, round))
}

/// Makes one of them.
fn add_alone(world: &mut World, ends: (u8, u8), direction: SaDirection, round: u32) -> bool {
    let (now, machine) = (world.now, world.machines.get_mut(&ends.0).unwrap());
    let mut spec = half(machine, ends, (direction, SaProtocol::Ah), round % 512, Lifetime::NONE);
    spec.spi = Spi::new(0x0200_0000 + round).unwrap();
    if let SaKind::Ah { generation, .. } = &mut spec.kind {
        *generation = Generation(round);
    }
    machine.keys.push(SaEvent::Add(spec));
    machine.associations.handle(now, &mut machine.keys, &mut machine.writer);
    machine.settle(now);
    machine.keys.take_refused().is_empty()
}

/// Gives a machine what its source has, and its workers.
fn give(now: Now, machine: &mut Machine, specs: impl IntoIterator<Item = SaSpec>) {
    for spec in specs {
        machine.keys.push(SaEvent::Add(spec));
    }
    machine.associations.handle(now, &mut machine.keys, &mut machine.writer);
    assert!(machine.keys.take_refused().is_empty());
    machine.settle(now);
}

/// Adds an association at the first of two machines.
fn add(world: &mut World, ends: (u8, u8), what: (SaDirection, SaProtocol), round: u32) {
    let now = world.now;
    let machine = world.machines.get_mut(&ends.0).unwrap();
    let spec = half(machine, ends, what, round, Lifetime::NONE);
    give(now, machine, [spec]);
    if ends.0 >= 100 {
        while machine.associations.poll_keying().is_some() {}
    }
    world.settle();
}

/// A host's traffic: datagrams of some flows, each with a number.
struct Traffic {
    sent: u32,
    arrived: u32,
}

impl Traffic {
    fn send(&mut self, world: &mut World, flow: u8) {
        self.sent += 1;
        world.send(
            0,
            &datagram(Ipv4Addr::new(198, 51, 0, 1 + flow % 100), inside(2), 64, 200, flow),
        );
    }

    fn look(&mut self, world: &mut World) {
        self.arrived += world.delivered(2).len() as u32;
    }
}

#[test]
fn line_1_rekeying_under_traffic_loses_nothing_and_ends_no_aivt() {
    const ROUNDS: u32 = 240;
    let mut world = World::new(&Plan::chain(3), 2);
    // Signals are late, so that those sealed under older keys come behind those under newer ones, and CREATEs cross the change.
    world.weather = Weather {
        lost_percent: 0,
        late_ms: (1, 25),
    };
    let before: Vec<_> = (1..=3).map(|ain| world.machines[&ain].writer.in_use()[2]).collect();
    let mut traffic = Traffic { sent: 0, arrived: 0 };
    traffic.send(&mut world, 0);
    world.run_for(Now::SECOND);
    let tunnels = [(1, 2), (3, 2), (100, 1), (102, 3), (101, 2)];
    for round in 1..=ROUNDS {
        let flow = (round % 90) as u8;
        for (at, (initiator, responder)) in (0..).zip(tunnels) {
            // AH and ESP apart, and never both of a tunnel at once.
            let protocol = if (round + at) % 2 == 0 {
                SaProtocol::Ah
            } else {
                SaProtocol::Esp
            };
            add(&mut world, (responder, initiator), (SaDirection::In, protocol), round);
            traffic.send(&mut world, flow);
            add(&mut world, (initiator, responder), (SaDirection::In, protocol), round);
            add(&mut world, (initiator, responder), (SaDirection::Out, protocol), round);
            traffic.send(&mut world, 0);
            world.run_for(7 * MILLISECOND);
            add(&mut world, (responder, initiator), (SaDirection::Out, protocol), round);
        }
        traffic.send(&mut world, flow);
        world.run_for(20 * MILLISECOND);
        traffic.look(&mut world);
    }
    world.run_for(Now::SECOND);
    traffic.look(&mut world);
    assert_eq!(traffic.arrived, traffic.sent);
    assert_eq!(
        world.aivts(),
        3 * 90,
        "of each flow at each AIN, and none ended or failed"
    );
    for node in world.nodes.values() {
        let (ended, failed) = (&node.counts().ended, &node.counts().failed);
        assert_eq!((ended.total(), failed.total(), node.counts().pvt_downs), (0, 0, 0));
    }
    world.assert_no_drops_but(&[]);
    assert!(
        world.machines[&2].writer.keys_in_use() > 4 * SAS_OF_A_KIND,
        "TVTs keep the generations that they were born under"
    );
    // Older associations end, TVTs stay; then the TVTs end, and their keys with them.
    for _ in 0..30 {
        world.run_for((SA_GRACE + GENERATION_GRACE + Now::SECOND) / 30);
        (0..90).for_each(|flow| traffic.send(&mut world, flow));
    }
    traffic.look(&mut world);
    assert_eq!((traffic.arrived, world.aivts()), (traffic.sent, 3 * 90));
    world.run_for(u64::from(INACTIVITY_S + 20) * Now::SECOND);
    assert_eq!(world.aivts(), 0);
    for (ain, associations) in (1..=3).zip(before) {
        let machine = &world.machines[&ain];
        assert_eq!(machine.writer.in_use()[2], associations, "AIN {ain}");
        assert_eq!(machine.writer.keys_in_use(), 2 * associations, "AIN {ain}");
        assert_eq!(machine.associations.iter().count(), 4 * associations, "AIN {ain}");
    }
    world.assert_no_drops_but(&[]);
}

/// Nobody tells an end of a PVT when the other one has its new keys.
#[test]
fn line_1_hand_made_keys_are_replaced_end_by_end_and_nothing_is_lost() {
    const ROUNDS: u8 = 3;
    let mut world = World::new(&Plan::chain(3), 2);
    world.weather = Weather {
        lost_percent: 0,
        late_ms: (1, 25),
    };
    let mut traffic = Traffic { sent: 0, arrived: 0 };
    let mut pass = |world: &mut World, flows: u8, seconds: u64| {
        for _ in 0..seconds {
            (0..flows).for_each(|flow| traffic.send(world, flow));
            world.run_for(Now::SECOND);
            traffic.look(world);
        }
        assert_eq!(traffic.arrived, traffic.sent);
    };
    pass(&mut world, 1, 2);
    for round in 1..=ROUNDS {
        // The two ends of the one PVT 36 seconds apart, those of the other 12.
        for ends in [(1, 2), (2, 3), (3, 2), (2, 1)] {
            let (now, machine) = (world.now, world.machines.get_mut(&ends.0).unwrap());
            for protocol in [SaProtocol::Ah, SaProtocol::Esp] {
                let directions = [SaDirection::In, SaDirection::Out];
                let specs = directions.map(|way| half(machine, ends, (way, protocol), round.into(), Lifetime::NONE));
                machine.keys.replace(now, specs);
            }
            pass(&mut world, round, HAND_MADE_PATIENCE * 4 / 15 / Now::SECOND);
        }
        // A flow more: its AIVT is born under the new keys.
        pass(&mut world, round + 1, 2);
    }
    pass(&mut world, ROUNDS + 1, (SA_GRACE + GENERATION_GRACE) / Now::SECOND + 2);
    assert_eq!(world.aivts(), 3 * (usize::from(ROUNDS) + 1));
    for (ain, node) in &world.nodes {
        let (ended, failed) = (&node.counts().ended, &node.counts().failed);
        assert_eq!((ended.total(), failed.total(), node.counts().pvt_downs), (0, 0, 0));
        let machine = &world.machines[ain];
        let of_pvt = machine.associations.iter().filter(|(name, _)| name.peer == PeerId(0));
        let newest = 0x0100_0000 + 4 * u32::from(ROUNDS);
        assert!(
            of_pvt.map(|(name, _)| name.spi.value()).all(|spi| spi >= newest),
            "AIN {ain}"
        );
    }
    world.assert_no_drops_but(&[]);
}

#[test]
fn line_1_limits_ask_for_a_successor_once_and_then_take_the_pvt_down() {
    let mut world = World::new(&Plan::chain(2), 1);
    let source = Ipv4Addr::new(198, 51, 0, 1);
    let send = |world: &mut World| {
        world.send(0, &datagram(source, inside(1), 64, 100, 1));
        world.run_for(Now::SECOND);
        world.delivered(1).len()
    };
    assert_eq!(send(&mut world), 1);
    let by_age = |seconds: u64| Amounts {
        age: seconds * Now::SECOND,
        ..Amounts::NONE
    };
    let lifetime = Lifetime {
        soft: by_age(4),
        hard: by_age(8),
    };
    // The old ones end as soon as the new ones are there.
    for ends in [(1, 2), (2, 1)] {
        let (now, machine) = (world.now, world.machines.get_mut(&ends.0).unwrap());
        let directions = [SaDirection::In, SaDirection::Out];
        let specs = directions.map(|direction| half(machine, ends, (direction, SaProtocol::Ah), 1, lifetime));
        give(now, machine, specs);
        let names = machine.associations.iter().map(|(name, _)| name);
        let of_pvt: Vec<SaName> = names.filter(|name| name.peer == PeerId(0)).collect();
        assert_eq!(of_pvt.len(), 6);
        let is_old = |name: &&SaName| name.protocol == SaProtocol::Ah && name.spi.value() < 0x0100_0000;
        for name in of_pvt.iter().filter(is_old) {
            machine.keys.push(SaEvent::Remove(*name));
        }
    }
    world.settle();
    assert_eq!(send(&mut world), 1);
    assert_eq!((world.aivts(), world.nodes[&1].counts().pvt_downs), (2, 0));
    world.run_for(4 * Now::SECOND);
    let told = |world: &mut World| {
        let machine = world.machines.get_mut(&1).unwrap();
        machine
            .keys
            .take_expired()
            .into_iter()
            .map(|(_, expiry)| expiry)
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&mut world), [Expiry::Soft; 2]);
    assert_eq!(send(&mut world), 1, "a soft limit ends nothing");
    world.run_for(4 * Now::SECOND);
    assert_eq!(told(&mut world), [Expiry::Hard; 2], "and is told once");
    assert_eq!(world.aivts(), 0, "a PVT without keys is down, and its TVTs with it");
    assert!(world.nodes.values().all(|node| node.counts().pvt_downs == 1));
    assert_eq!(send(&mut world), 0);
    // Keys again: it comes up by itself, and the flow's datagrams pass.
    for ends in [(1, 2), (2, 1)] {
        add(&mut world, ends, (SaDirection::In, SaProtocol::Ah), 2);
        add(&mut world, ends, (SaDirection::Out, SaProtocol::Ah), 2);
    }
    world.run_for(30 * Now::SECOND);
    assert!(send(&mut world) >= 1);
    world.assert_no_drops_but(&[DropReason::NoAssociation, DropReason::UnknownSpi]);
}

#[test]
fn line_1_a_peer_that_rekeys_without_end_leaves_keys_to_others() {
    let mut world = World::new(&Plan::chain(2), 1);
    let mut rounds = 1..;
    let made = rounds
        .by_ref()
        .take_while(|round| rekey_alone(&mut world, (1, 2), *round));
    assert_eq!(
        1 + made.count(),
        GENERATIONS_OF_A_PEER,
        "with the first, which was made by hand"
    );
    assert!(
        world.machines[&1].associations.is_up(PeerId(0)),
        "it keeps those that it has"
    );
    assert!(rekey_alone(&mut world, (1, 100), 1), "and the host gets others");
    world.run_for(GENERATION_GRACE + Now::SECOND);
    assert!(
        rekey_alone(&mut world, (1, 2), rounds.next().unwrap()),
        "as it does once the old ones are over"
    );
}

/// charon goes on when an outbound association is refused, and deletes the pair before it.
#[test]
fn line_1_what_is_too_much_is_refused_where_an_exchange_begins() {
    let mut world = World::new(&Plan::chain(2), 1);
    let mut rounds = 1_u32..;
    let mut refused_at = |world: &mut World, ends| rounds.find(|round| !rekey_alone(world, ends, *round)).unwrap();
    let round = refused_at(&mut world, (1, 2));
    assert!(add_alone(&mut world, (1, 2), SaDirection::Out, round));
    for round in 10_000.. {
        if world.machines[&1].writer.keys_in_use() >= KEY_SLOTS / 2 {
            break;
        }
        assert!(add_alone(&mut world, (1, 2), SaDirection::Out, round));
    }
    let other = refused_at(&mut world, (1, 100));
    assert!(
        other < round + GENERATIONS_OF_A_PEER as u32,
        "fewer while half of all slots are taken"
    );
    assert!(add_alone(&mut world, (1, 100), SaDirection::Out, other));
}

#[test]
fn line_1_an_association_that_cannot_be_takes_no_place() {
    let mut world = World::new(&Plan::chain(2), 1);
    (1..SAS_OF_A_KIND as u32).for_each(|round| assert!(rekey_alone(&mut world, (1, 2), round)));
    let names = |world: &World| {
        world.machines[&1]
            .associations
            .iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    let before = names(&world);
    let (now, machine) = (world.now, world.machines.get_mut(&1).unwrap());
    for direction in [SaDirection::In, SaDirection::Out] {
        let spec = half(machine, (1, 2), (direction, SaProtocol::Ah), 99, Lifetime::NONE);
        let key = Zeroizing::new(vec![0; 3]);
        machine.keys.push(SaEvent::Add(SaSpec { key, ..spec }));
    }
    machine.associations.handle(now, &mut machine.keys, &mut machine.writer);
    assert_eq!(machine.keys.take_refused().len(), 2);
    assert_eq!(names(&world), before);
    assert!(rekey_alone(&mut world, (1, 2), 99));
    let after = names(&world);
    let gone = before.iter().filter(|name| !after.contains(name)).count();
    assert_eq!((gone, after.len()), (2, before.len()), "the oldest ones give way");
}

/// One AIVT under each generation: the two oldest ones are too old in the end.
#[test]
fn line_1_aivts_that_outlive_many_rekeyings_are_made_again() {
    const ROUNDS: u32 = GENERATIONS_KEPT as u32 + 2;
    let mut world = World::new(&Plan::chain(2), 1);
    let mut traffic = Traffic { sent: 0, arrived: 0 };
    let mut speak = |world: &mut World, flows: u32| {
        for flow in 0..=flows as u8 {
            traffic.sent += 1;
            let source = Ipv4Addr::new(198, 51, 0, 1 + flow);
            world.send(0, &datagram(source, inside(1), 64, 200, flow));
        }
        world.run_for(5 * Now::SECOND);
        traffic.arrived += world.delivered(1).len() as u32;
        assert_eq!(traffic.arrived, traffic.sent);
    };
    speak(&mut world, 0);
    for round in 1..=ROUNDS {
        for direction in [SaDirection::In, SaDirection::Out] {
            for ends in [(1, 2), (2, 1)] {
                add(&mut world, ends, (direction, SaProtocol::Ah), round);
            }
        }
        world.run_for(2 * Now::SECOND);
        speak(&mut world, round);
    }
    assert_eq!(world.nodes[&1].counts().ended.total(), 0);
    for _ in 0..(SA_GRACE + GENERATION_GRACE) / (5 * Now::SECOND) + 2 {
        speak(&mut world, ROUNDS);
    }
    for ain in 1..=2 {
        let counts = world.nodes[&ain].counts();
        assert_eq!((counts.ended.total(), counts.pvt_downs), (2, 0), "AIN {ain}");
        let of_host = 2;
        assert_eq!(
            world.machines[&ain].writer.keys_in_use(),
            2 * (GENERATIONS_KEPT + 1) + of_host,
            "AIN {ain}"
        );
    }
    assert_eq!(world.aivts(), 2 * (ROUNDS as usize + 1));
    world.assert_no_drops_but(&[]);
}

/// An exchange of charon's that fails half-way, or that loses against the peer's own, leaves the association before it, for good.
#[test]
fn line_1_a_successor_that_is_deleted_gives_way_to_the_association_before_it() {
    let mut world = World::new(&Plan::chain(3), 1);
    let mut traffic = Traffic { sent: 0, arrived: 0 };
    traffic.send(&mut world, 1);
    world.run_for(Now::SECOND);
    let both = [SaProtocol::Ah, SaProtocol::Esp];
    for direction in [SaDirection::In, SaDirection::Out] {
        for (ends, protocol) in [(1, 2), (2, 1)].into_iter().flat_map(|ends| both.map(|of| (ends, of))) {
            add(&mut world, ends, (direction, protocol), 1);
        }
    }
    traffic.send(&mut world, 1);
    world.run_for(Now::SECOND);
    for direction in [SaDirection::Out, SaDirection::In] {
        for (ends, protocol) in [(1, 2), (2, 1)].into_iter().flat_map(|ends| both.map(|of| (ends, of))) {
            let (now, machine) = (world.now, world.machines.get_mut(&ends.0).unwrap());
            let name = half(machine, ends, (direction, protocol), 1, Lifetime::NONE).name();
            machine.keys.push(SaEvent::Remove(name));
            give(now, machine, []);
        }
        world.run_for(Now::SECOND);
    }
    world.run_for(SA_GRACE + Now::SECOND);
    traffic.send(&mut world, 2);
    world.run_for(Now::SECOND);
    traffic.look(&mut world);
    assert_eq!(traffic.arrived, traffic.sent);
    assert!(world.nodes.values().all(|node| node.counts().pvt_downs == 0));
    world.assert_no_drops_but(&[]);
}

#[test]
fn line_1_a_pvt_with_a_rate_is_rekeyed_between_two_slots() {
    let pps = NonZeroU32::new(1000).unwrap();
    let pvt = TunnelShape {
        padded_len: 1408 - 26,
        rate: Rate::Pvt(pps),
    };
    let mut chain = Chain::new(sim::chain::Plan {
        shapes: [AS_THEY_COME, pvt],
        ..sim::chain::Plan::new(3, GMAC)
    });
    let pass = |chain: &mut Chain, ms: u64| {
        for _ in 0..10 * ms {
            let now = chain.now.plus(MILLISECOND / 10);
            chain.now = now;
            chain.machines.values_mut().for_each(|machine| machine.slots(now));
            chain.run();
        }
    };
    pass(&mut chain, 10);
    let mut sent = 0;
    for round in 1..=20 {
        for (a, b) in [(2, 3), (4, 3)] {
            for (ends, direction) in [
                ((b, a), SaDirection::In),
                ((a, b), SaDirection::In),
                ((a, b), SaDirection::Out),
                ((b, a), SaDirection::Out),
            ] {
                let now = chain.now;
                let machine = chain.machine(ends.0);
                let protocol = if round % 3 == 0 {
                    SaProtocol::Esp
                } else {
                    SaProtocol::Ah
                };
                let spec = half(machine, ends, (direction, protocol), round, Lifetime::NONE);
                give(now, machine, [spec]);
                sent += 1;
                chain.send(1, &[datagram(initiator(0), responder(0), 64, 300, 1)]);
                pass(&mut chain, 3);
            }
        }
    }
    pass(&mut chain, 100);
    let last = chain.responder();
    assert_eq!(chain.delivered(last).len(), sent);
    chain.assert_no_drops();
}
