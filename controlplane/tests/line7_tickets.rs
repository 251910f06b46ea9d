//! Line 7: networks in which every node demands tickets. Control nodes and packet paths together: requests and answers travel as
//! datagrams inside AIVTs, creating signals carry what the wallets hold.

mod crypto;
#[path = "net/plan.rs"]
#[allow(dead_code)] // the other tests use the rest
mod plan;
mod sim;
mod world;

use std::net::Ipv4Addr;

use ain_controlplane::count::TicketCounts;
use ain_dataplane::id::Now;
use plan::{Plan, SLICE_S};
use sim::datagram;
use world::{World, inside};

/// Seconds after which the plan's nodes end an idle AIVT.
const INACTIVITY_S: u32 = 300;
const OWN: Ipv4Addr = Ipv4Addr::new(198, 51, 0, 1);

fn demanding(nodes: usize) -> Plan {
    let mut plan = Plan::chain(nodes);
    plan.tickets = Some(|_| 64);
    plan
}

fn tickets(world: &World, node: u8) -> TicketCounts {
    world.nodes[&(node + 1)].counts().tickets
}

/// How many of `count` datagrams of fresh flows from the host of AIN 0 reach that of AIN `to`.
fn arrivals(world: &mut World, to: u8, flows: std::ops::Range<u8>) -> usize {
    for number in flows {
        let source = Ipv4Addr::new(198, 51, 0, number);
        world.send(0, &datagram(source, inside(to), 64, 100, number));
    }
    world.run_for(2 * Now::SECOND);
    world.delivered(to).len()
}

#[test]
fn line_7_wallets_fill_from_the_inside_out_and_traffic_flows() {
    let mut world = World::new(&demanding(4), 2);
    world.run_for(30 * Now::SECOND);
    for node in 0..4 {
        let counts = tickets(&world, node);
        assert_eq!(
            counts.received,
            3 * 64,
            "node {node} has tickets of all others: {counts:?}"
        );
        assert_eq!(counts.missing, 0);
    }
    let before = tickets(&world, 3).spent;
    assert_eq!(arrivals(&mut world, 3, 1..6), 5);
    assert_eq!(tickets(&world, 3).spent, before + 5, "one for each AIVT");
    assert_eq!(
        world.sizes.len(),
        1,
        "with tickets or without, all packets have one size: {:?}",
        world.sizes
    );
    let spent = world.nodes.get_mut(&4).unwrap().take_spent_tickets();
    assert_eq!(
        spent.len() as u64,
        tickets(&world, 3).spent,
        "each is to be written down"
    );
    world.assert_no_drops_but(&[]);
}

#[test]
fn line_7_tickets_are_renewed_from_slice_to_slice() {
    let mut world = World::new(&demanding(3), 1);
    world.run_for(20 * Now::SECOND);
    let mut arrived = 0;
    let rounds = 3 * SLICE_S / 60;
    for round in 0..rounds {
        arrived += arrivals(&mut world, 2, round as u8 + 1..round as u8 + 2);
        world.run_for(58 * Now::SECOND);
        let held = world.nodes[&1].snapshot().wallet;
        assert!(held <= 3 * 2 * 64, "two slices and the next, of two issuers: {held}");
    }
    assert_eq!(arrived as u32, rounds);
    for node in 0..3 {
        let counts = tickets(&world, node);
        let refused = (
            counts.missing,
            counts.wrong,
            counts.stale,
            counts.spent_twice,
            counts.no_room,
        );
        assert_eq!(refused, (0, 0, 0, 0, 0), "node {node}");
    }
    assert!(
        world.nodes[&3].snapshot().spent_tickets < rounds as usize,
        "those of old slices are forgotten"
    );
}

#[test]
fn line_7_clocks_off_by_a_minute_do_no_harm() {
    for off in [-8, 8] {
        // `created` allows no more than ten seconds ahead; the slice allows two minutes.
        let mut world = World::at(&demanding(3), 1, 1_800_000_000 / 600 * 600 + 600 - 30);
        world.clock_off.insert(0, off);
        let mut arrived = 0;
        for round in 0..12 {
            world.run_for(8 * Now::SECOND);
            arrived += arrivals(&mut world, 2, 10 * round + 1..10 * round + 3);
        }
        assert_eq!(arrived, 24, "off by {off} s");
        let counts = [1, 2].map(|node| tickets(&world, node));
        assert!(
            counts
                .iter()
                .all(|counts| counts.stale + counts.wrong + counts.missing == 0),
            "{counts:?}"
        );
    }
}

#[test]
fn line_7_an_entrance_without_tickets_is_refused_and_counted() {
    let mut plan = demanding(3);
    plan.tickets = Some(|node| if node == 0 { 0 } else { 64 });
    let mut world = World::new(&plan, 1);
    world.run_for(20 * Now::SECOND);
    assert_eq!(arrivals(&mut world, 2, 1..4), 0);
    assert!(tickets(&world, 1).missing >= 3, "{:?}", tickets(&world, 1));
    // As exit, the neighbour lets it in to fetch tickets; to its own hosts it does not.
    assert_eq!(arrivals(&mut world, 1, 1..3), 0);
    assert!(
        world.nodes[&2].snapshot().bindings <= 1,
        "nothing but node 2, which fetches tickets here"
    );
    let told = datagram(OWN, inside(1), 64, 100, 9);
    world.send(0, &told);
    world.run_for(Now::SECOND);
    assert!(!world.delivered(0).is_empty(), "the host hears that it is refused");
}
