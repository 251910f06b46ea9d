//! Control nodes and packet paths together: AINs that find each other over their PVTs, make AIVTs by signals that travel as sealed
//! packets, and carry datagrams of hosts.

mod crypto;
#[path = "net/plan.rs"]
#[allow(dead_code)] // the other tests use the rest
mod plan;
mod sim;
mod world;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ain_controlplane::node::SourceOption;
use ain_dataplane::id::Now;
use ain_dataplane::verdict::DropReason;
use ain_dataplane::wire::ah::Family;
use ain_dataplane::wire::ipv4::Ipv4;
use ain_dataplane::wire::ipv6::Ipv6;
use plan::Plan;
use sim::{datagram, datagram_v6};
use world::{MILLISECOND, World, inside};

/// Seconds after which the plan's nodes end an idle AIVT.
const INACTIVITY_S: u32 = 300;

fn source_of(bytes: &[u8]) -> IpAddr {
    IpAddr::V4(Ipv4::parse(bytes).unwrap().source())
}

#[test]
fn flows_open_by_signals_over_two_to_six_ains() {
    for (nodes, option, workers, family) in [
        (2, SourceOption::AsSent, 1, Family::V4),
        (3, SourceOption::RandomPrivate, 2, Family::V4),
        (3, SourceOption::RandomPrivate, 2, Family::V6),
        (6, SourceOption::RandomPrivate, 1, Family::V4),
    ] {
        let mut plan = Plan::chain(nodes);
        (plan.option, plan.family) = (option, family);
        let mut world = World::new(&plan, workers);
        let last = nodes as u8 - 1;
        let own = Ipv4Addr::new(198, 51, 0, 1);
        for fill in 0..5 {
            world.send(0, &datagram(own, inside(last), 64, 1000, fill));
        }
        world.run_for(Now::SECOND);
        let arrived = world.delivered(last);
        assert_eq!(arrived.len(), 5, "{nodes} AINs");
        let shown = source_of(&arrived[0]);
        assert_eq!(shown == IpAddr::V4(own), option == SourceOption::AsSent);
        for (fill, bytes) in (0..).zip(&arrived) {
            assert_eq!(
                (bytes[900], source_of(bytes)),
                (fill, shown),
                "in order, under one source"
            );
        }
        let IpAddr::V4(shown) = shown else { panic!("IPv4") };
        world.send(last, &datagram(inside(last), shown, 64, 1386, 9));
        world.run_for(Now::SECOND);
        assert_eq!(world.delivered(0), [datagram(inside(last), own, 63, 1386, 9)]);
        assert_eq!(
            world.sizes.len(),
            1,
            "signals and cells have one size: {:?}",
            world.sizes
        );
        assert_eq!(world.aivts(), nodes);
        world.assert_no_drops_but(&[]);
    }
}

#[test]
fn inactivity_ends_an_aivt_and_the_next_packet_makes_a_new_one() {
    let mut world = World::new(&Plan::chain(3), 1);
    let own = Ipv4Addr::new(198, 51, 0, 1);
    world.send(0, &datagram(own, inside(2), 64, 100, 1));
    world.run_for(Now::SECOND);
    let first = source_of(&world.delivered(2)[0]);
    world.run_for(u64::from(INACTIVITY_S + 20) * Now::SECOND);
    assert_eq!(world.aivts(), 0, "nothing is left over on any node");
    world.send(0, &datagram(own, inside(2), 64, 100, 2));
    world.run_for(Now::SECOND);
    assert_eq!(
        source_of(&world.delivered(2)[0]),
        first,
        "the shown source is kept for the flow"
    );
    world.assert_no_drops_but(&[]);
}

#[test]
fn a_dead_ain_is_avoided_and_the_responder_sees_one_source() {
    for family in [Family::V4, Family::V6] {
        avoid_a_dead_ain(family);
    }
}

fn avoid_a_dead_ain(family: Family) {
    // 0 - 1 - 2 - 4 and 0 - 1 - 3 - 4
    let mut plan = Plan::new(5, &[(0, 1), (1, 2), (2, 4), (1, 3), (3, 4)]);
    plan.family = family;
    (plan.min_nodes, plan.max_nodes) = (4, 4);
    let mut world = World::new(&plan, 1);
    let own = Ipv4Addr::new(198, 51, 0, 1);
    world.send(0, &datagram(own, inside(4), 64, 100, 1));
    world.run_for(Now::SECOND);
    let shown = source_of(&world.delivered(4)[0]);
    let used = if world.machines[&3].writer.in_use()[0] > 0 {
        2
    } else {
        3
    };
    world.kill(used);
    for fill in 0..200 {
        world.send(0, &datagram(own, inside(4), 64, 100, fill));
        world.run_for(50 * MILLISECOND);
    }
    let arrived = world.delivered(4);
    assert!(arrived.len() > 50, "only {} of 200 arrived", arrived.len());
    assert_eq!(arrived.last().unwrap()[90], 199, "the last one did");
    assert!(arrived.iter().all(|bytes| source_of(bytes) == shown));
    let other = 5 - used;
    assert_eq!(
        world.machines[&(other + 1)].writer.in_use()[0],
        1,
        "the other way is in use"
    );
}

/// Issue 4, line 1: what is inside and what is outside have nothing to do with each other.
#[test]
fn line_1_ipv6_inside_over_either_family() {
    for family in [Family::V4, Family::V6] {
        for option in [SourceOption::AsSent, SourceOption::RandomPrivate] {
            let mut plan = Plan::chain(3);
            (plan.family, plan.option) = (family, option);
            let mut world = World::new(&plan, 1);
            let inside = |node| Ipv6Addr::new(0x2001, 0xdb8, 0x33, node, 0, 0, 0, 1);
            let own = inside(0);
            for fill in 0..5 {
                world.send(0, &datagram_v6((own, inside(2)), 64, 1000, fill));
            }
            world.run_for(Now::SECOND);
            let arrived = world.delivered(2);
            let shown = Ipv6::parse(&arrived[0]).unwrap().source();
            match option {
                SourceOption::AsSent => assert_eq!(shown, own),
                SourceOption::RandomPrivate => assert_eq!(shown.octets()[0], 0xfd),
            }
            for (fill, bytes) in (0..).zip(&arrived) {
                assert_eq!(*bytes, datagram_v6((shown, inside(2)), 63, 1000, fill));
            }
            world.send(2, &datagram_v6((inside(2), shown), 64, 1386, 9));
            world.run_for(Now::SECOND);
            assert_eq!(world.delivered(0), [datagram_v6((inside(2), own), 63, 1386, 9)]);
            assert_eq!(world.sizes.len(), 1, "one size between AINs");
            world.assert_no_drops_but(&[]);
            // No host's beyond the link, or not this one's: no flow.
            let stranger = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);
            let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
            let mapped = Ipv4Addr::new(198, 51, 0, 1).to_ipv6_mapped();
            let everyone = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 1);
            let mut wrong = vec![
                (link_local, inside(2)),
                (mapped, inside(2)),
                (own, everyone),
                (own, link_local),
            ];
            wrong.extend((option == SourceOption::AsSent).then_some((stranger, inside(2))));
            for pair in &wrong {
                world.send(0, &datagram_v6(*pair, 64, 100, 0));
            }
            world.run_for(Now::SECOND);
            assert_eq!(world.machines[&1].drops(DropReason::Refused), wrong.len() as u64);
            assert_eq!(world.delivered(2), Vec::<Vec<u8>>::new());
        }
    }
}
