//! Line 7: limits of the packet path. Control nodes and packet paths together.

mod crypto;
#[path = "net/plan.rs"]
#[allow(dead_code)] // the other tests use the rest
mod plan;
mod sim;
mod world;

use std::net::Ipv4Addr;
use std::num::NonZeroU64;

use ain_dataplane::allowance::Allowance;
use ain_dataplane::id::Now;
use ain_dataplane::peers::{PeerKind, Peers};
use ain_dataplane::verdict::DropReason;
use ain_dataplane::wire::cell::CellProfile;
use plan::Plan;
use sim::datagram;
use world::{World, inside};

/// Seconds after which the plan's nodes end an idle AIVT.
const INACTIVITY_S: u32 = 300;

fn from(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, node, 1)
}

/// So much at once, and as much a second.
fn allowance(amount: u64) -> Option<Allowance> {
    let (per_s, burst) = (NonZeroU64::new(amount)?, amount);
    Some(Allowance { per_s, burst })
}

/// All hosts are held to `bytes` and `flows`.
fn with_allowances(world: &mut World, bytes: Option<Allowance>, flows: Option<Allowance>) {
    for machine in world.machines.values_mut() {
        let mut peers: Vec<_> = machine.peers.iter().map(|(_, peer)| peer.clone()).collect();
        for peer in &mut peers {
            if let PeerKind::Host(policy) = &mut peer.kind {
                (policy.allowance, policy.flows) = (bytes, flows);
            }
        }
        machine.peers = Peers::new(peers, CellProfile::Standard);
    }
}

fn drops(world: &World, node: u8, why: DropReason) -> u64 {
    world.machines[&(node + 1)].drops(why)
}

#[test]
fn line_7_a_greedy_initiator_is_held_to_its_rate_and_a_modest_one_is_not() {
    let mut world = World::new(&Plan::chain(3), 1);
    with_allowances(&mut world, allowance(1000), None);
    let (greedy, modest) = (0, 2);
    for second in 1..3 {
        for round in 0..50 {
            world.send(greedy, &datagram(from(greedy), inside(1), 64, 100, 1));
            if round % 10 == 0 {
                world.send(modest, &datagram(from(modest), inside(1), 64, 100, 2));
            }
        }
        world.run_for(Now::SECOND);
        let arrived = world.delivered(1);
        let of = |node: u8| {
            arrived
                .iter()
                .filter(|datagram| datagram.last() == Some(&(node / 2 + 1)))
                .count()
        };
        assert_eq!((of(greedy), of(modest)), (10, 5));
        assert_eq!(drops(&world, greedy, DropReason::InitiatorRate), 40 * second);
        assert_eq!(drops(&world, modest, DropReason::InitiatorRate), 0);
    }
}

#[test]
fn line_7_an_initiator_that_scans_asks_so_many_questions_and_a_modest_one_goes_on() {
    let mut world = World::new(&Plan::chain(3), 1);
    with_allowances(&mut world, None, allowance(10));
    let (scanner, modest) = (0, 2);
    for second in 1..4 {
        for last in 1..101 {
            let (source, victim) = (Ipv4Addr::new(198, 51, 0, second), Ipv4Addr::new(198, 51, 1, last));
            world.send(scanner, &datagram(source, victim, 64, 100, 1));
        }
        world.send(modest, &datagram(from(modest), inside(1), 64, 100, 2));
        world.run_for(Now::SECOND);
        assert_eq!(world.nodes[&(scanner + 1)].snapshot().flows, 10 * usize::from(second));
        assert_eq!(
            drops(&world, scanner, DropReason::InitiatorFlows),
            90 * u64::from(second)
        );
        let of_modest = world.delivered(1).iter().filter(|one| one.last() == Some(&2)).count();
        assert_eq!(of_modest, 1);
        assert_eq!(drops(&world, modest, DropReason::InitiatorFlows), 0);
    }
}

#[test]
fn line_7_a_refused_flow_costs_the_control_thread_a_question_a_second() {
    let mut world = World::new(&Plan::chain(2), 1);
    let nowhere = Ipv4Addr::new(203, 0, 113, 1);
    for second in 1..4 {
        for _ in 0..50 {
            world.send(0, &datagram(from(0), nowhere, 64, 100, 1));
        }
        assert_eq!(world.nodes[&1].counts().flows_refused, second);
        assert_eq!(world.delivered(0).len(), 50, "the host hears of each");
        world.run_for(Now::SECOND);
    }
    assert_eq!(drops(&world, 0, DropReason::Refused), 150);
}
