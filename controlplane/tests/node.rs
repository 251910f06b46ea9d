//! Chains and meshes of control nodes in memory: creation, loss, ends from every position, rebuilds, refusals, quotas.

mod net;

use std::net::IpAddr;

use ain_controlplane::action::Verdict;
use ain_controlplane::limits::{ENDS_AT_A_TIME, PENDING_CREATES_PER_NEIGHBOUR};
use ain_controlplane::node::{Quotas, SourceOption};
use ain_controlplane::signal::destroy::Reason;
use ain_controlplane::signal::frame::Kind;
use ain_dataplane::id::Pair;
use net::{FOUL, INACTIVITY_S, Net, Plan, sender};

/// Two ways from 0 to 3, over 1 or over 2.
fn diamond(seed: u64) -> Net {
    Net::new(Plan::new(4, &[(0, 1), (1, 3), (0, 2), (2, 3)]), seed)
}

fn is_private(source: IpAddr) -> bool {
    matches!(source, IpAddr::V4(v4) if v4.octets()[0] == 10)
}

/// One of many initiators of node 0.
fn numbered(exit: usize, number: u32) -> net::Sender {
    let mut sender = sender(0, exit, 0);
    sender.pair.source = IpAddr::V4((0xc0a8_0000 + number).into());
    sender
}

#[test]
fn an_aivt_comes_to_stand_over_two_to_six_nodes() {
    for nodes in 2..=6 {
        let mut net = Net::new(Plan::chain(nodes), 1);
        let sender = sender(0, nodes - 1, 1);
        let source = net.send_until_arrival(&sender, 1000).expect("it arrives");
        assert!(is_private(source));
        assert_eq!(net.path(&sender), (0..nodes).collect::<Vec<_>>());
        for node in 0..nodes {
            let mut standing = [0, 0, 0];
            standing[if node == 0 {
                0
            } else {
                1 + usize::from(node + 1 == nodes)
            }] = 1;
            assert_eq!(net.snapshot(node).standing, standing, "node {node} of {nodes}");
        }
        net.settle();
    }
}

#[test]
fn lost_repeated_and_reordered_signals_do_no_harm() {
    for seed in 0..20 {
        let mut net = Net::new(Plan::chain(4), seed);
        net.weather = FOUL;
        let senders: Vec<_> = (1..=5).map(|number| sender(0, 3, number)).collect();
        let arrived = senders
            .iter()
            .filter(|sender| net.send_until_arrival(sender, 60_000).is_some())
            .count();
        assert_eq!(arrived, senders.len(), "seed {seed}");
        let counts = net.node(1).counts();
        assert!(counts.resent > 0 && counts.repeated > 0);
        net.settle();
    }
}

#[test]
fn created_leaves_only_after_the_workers_have_the_route() {
    let mut net = Net::new(Plan::chain(3), 2);
    net.install_ms = 1000;
    let sender = sender(0, 2, 1);
    net.send(&sender);
    net.run_ms(900);
    assert_eq!(net.node(2).counts().sent.of(Kind::Created), 0);
    net.run_ms(200);
    assert_eq!(net.node(2).counts().sent.of(Kind::Created), 1);
    assert_eq!(net.node(1).counts().sent.of(Kind::Created), 0);
    net.run_ms(1000);
    assert_eq!(net.node(1).counts().sent.of(Kind::Created), 1);
    assert!(net.send_until_arrival(&sender, 2000).is_some());
    net.settle();
}

#[test]
fn an_end_at_any_node_ends_all_of_it() {
    for position in 0..4 {
        let mut net = Net::new(Plan::chain(4), 3);
        let sender = sender(0, 3, 1);
        let before = net.send_until_arrival(&sender, 1000).unwrap();
        let (aivt, at_exit) = (net.aivt_at(&sender, position), net.aivt_at(&sender, 3));
        net.drive(position, |node, now, _| node.handle_misbehaviour(now, aivt));
        net.run_ms(30);
        let bound = &net.sites[3].bound;
        assert!(!bound.contains_key(&at_exit), "after an end at {position}");
        // A chain has no other path, so the suspect one is taken again: same flow, same address.
        assert_eq!(net.send_until_arrival(&sender, 5000), Some(before));
        assert_eq!(net.node(0).counts().rebuilds, 1);
        net.settle();
    }
}

#[test]
fn when_the_flow_is_gone_one_destroy_runs_down_the_path() {
    let mut net = Net::new(Plan::chain(4), 4);
    let sender = sender(0, 3, 1);
    net.send_until_arrival(&sender, 1000).unwrap();
    let flow = *net.sites[0].flows.keys().next().unwrap();
    net.sites[0].flows.clear();
    net.drive(0, |node, now, _| node.handle_flow_gone(now, flow));
    net.run_ms(100);
    net.assert_empty();
    assert_eq!(
        (0..4)
            .map(|node| net.node(node).counts().sent.of(Kind::Destroy))
            .collect::<Vec<_>>(),
        [1, 1, 1, 0]
    );
    assert_eq!(net.node(3).counts().ended.of(Reason::None), 1);
}

#[test]
fn shutdown_tells_both_sides() {
    for position in 0..4 {
        let mut net = Net::new(Plan::chain(4), 5);
        let sender = sender(0, 3, 1);
        net.send_until_arrival(&sender, 1000).unwrap();
        net.drive(position, |node, now, _| node.handle_shutdown(now));
        net.run_ms(400);
        assert!(net.node(position).is_quiet());
        let snapshot = net.snapshot(position);
        assert!(snapshot.is_empty(), "{snapshot:?}");
        for node in (0..4).filter(|node| *node != position) {
            assert_eq!(net.node(node).counts().ended.of(Reason::Shutdown), 1, "node {node}");
        }
        net.kill(position);
        net.settle();
    }
}

#[test]
fn a_node_that_goes_down_is_avoided_with_the_same_token_and_source() {
    for seed in 0..10 {
        let mut net = diamond(seed);
        let sender = sender(0, 3, 1);
        let before = net.send_until_arrival(&sender, 1000).unwrap();
        let dead = net.path(&sender)[1];
        net.kill(dead);
        net.run_ms(5000);
        assert_eq!(net.send_until_arrival(&sender, 2000), Some(before), "seed {seed}");
        assert_eq!(net.path(&sender), [0, 3 - dead, 3]);
        assert_eq!(net.sites[0].closed, []);
        assert_eq!(net.snapshot(3).bindings, 1);
        net.settle();
    }
}

// The exit has not noticed that the old AIVT is dead when the new one arrives: only the token tells that both are one flow's.
#[test]
fn a_rebuilt_aivt_takes_over_the_binding() {
    let mut net = diamond(7);
    let sender = sender(0, 3, 1);
    let before = net.send_until_arrival(&sender, 1000).unwrap();
    let relay = net.path(&sender)[1];
    net.cut.extend([(relay, 3), (0, relay)]);
    let aivt = net.aivt_at(&sender, 0);
    net.drive(0, |node, now, _| node.handle_misbehaviour(now, aivt));
    assert_eq!(net.send_until_arrival(&sender, 3000), Some(before));
    assert_eq!((net.snapshot(3).bindings, net.sites[3].bound.len()), (1, 1));
    assert_eq!(net.sites[3].refused, []);
    net.settle();
}

// A responder in the middle of a long answer must be heard again although the initiator has nothing to say.
#[test]
fn a_rebuilt_aivt_is_bound_before_its_first_datagram() {
    for seed in 0..10 {
        let mut net = diamond(seed);
        let sender = sender(0, 3, 1);
        net.send_until_arrival(&sender, 1000).unwrap();
        let (dead, before) = (net.path(&sender)[1], net.aivt_at(&sender, 3));
        net.kill(dead);
        net.run_ms(8000);
        let after = net.aivt_at(&sender, 3);
        assert_ne!(before, after, "seed {seed}");
        assert_eq!(net.sites[3].bound.keys().collect::<Vec<_>>(), [&after]);
        net.settle();
    }
}

#[test]
fn another_token_gets_no_binding() {
    let mut plan = Plan::chain(3);
    plan.option = SourceOption::AsSent;
    let mut net = Net::new(plan, 8);
    let first = sender(0, 2, 1);
    let same_source = net::Sender {
        second_host: true,
        ..first
    };
    net.send_until_arrival(&first, 1000).unwrap();
    assert_eq!(net.send_until_arrival(&same_source, 1000), None);
    assert!(!net.sites[2].refused.is_empty());
    assert!(
        net.sites[2]
            .refused
            .iter()
            .all(|verdict| *verdict == Verdict::AddressCollision)
    );
    assert!(net.sites[0].closed.contains(&(same_source, true)));
    assert!(net.send(&first).is_some(), "the first is undisturbed");
    net.settle();
}

#[test]
fn random_private_draws_again_after_a_collision() {
    let mut net = Net::new(Plan::chain(3), 9);
    let sender = sender(0, 2, 1);
    let before = net.send_until_arrival(&sender, 1000).unwrap();
    let aivt = net.aivt_at(&sender, 0);
    net.drive(0, |node, now, _| {
        node.handle_verdict(now, aivt, Verdict::AddressCollision as u8)
    });
    let after = net.send_until_arrival(&sender, 3000).unwrap();
    assert!(is_private(after) && after != before);
    net.settle();
}

#[test]
fn an_exit_without_a_tunnel_refuses_and_the_initiator_is_told() {
    let mut net = Net::new(Plan::chain(3), 10);
    let mut sender = sender(0, 2, 1);
    sender.pair.destination = "198.51.2.200".parse().unwrap();
    assert_eq!(net.send_until_arrival(&sender, 500), None);
    assert_eq!(net.sites[2].refused.first(), Some(&Verdict::ExitRefused));
    assert_eq!(net.sites[0].closed.first(), Some(&(sender, true)));
    net.settle();
}

#[test]
fn a_binding_without_room_is_refused_and_leaves_nothing() {
    let mut net = Net::new(Plan::chain(3), 25);
    let sender = sender(0, 2, 1);
    net.send_until_arrival(&sender, 1000).unwrap();
    let aivt = net.aivt_at(&sender, 2);
    net.sites[2].bound.clear();
    net.drive(2, |node, now, _| node.handle_bind_failed(now, aivt));
    assert_eq!(net.sites[2].refused, [Verdict::ExitRefused]);
    assert_eq!(net.snapshot(2).bindings, 0);
    assert!(net.send(&sender).is_some(), "it may ask again");
    net.settle();
}

#[test]
fn flows_that_cannot_be_are_refused_at_once() {
    let mut plan = Plan::chain(3);
    plan.option = SourceOption::AsSent;
    let mut net = Net::new(plan, 11);
    let with = |source: &str, destination: &str| {
        let pair = Pair {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        };
        net::Sender {
            pair,
            ..sender(0, 2, 1)
        }
    };
    for (source, destination) in [
        ("192.168.1.1", "198.51.0.9"),
        ("192.168.1.1", "203.0.113.1"),
        ("203.0.113.7", "198.51.2.9"),
        ("198.51.0.200", "198.51.2.9"),
        ("127.0.0.1", "198.51.2.9"),
        ("224.0.0.1", "198.51.2.9"),
        ("fd00::1", "fd00::2"),
    ] {
        net.send(&with(source, destination));
        assert_eq!(
            net.sites[0].closed.pop(),
            Some((with(source, destination), true)),
            "{source} {destination}"
        );
    }
    let registered = with("198.51.0.7", "198.51.2.9");
    assert_eq!(net.send_until_arrival(&registered, 1000), Some(registered.pair.source));
    let neighbour = net.peer(0, 1);
    net.drive(0, |node, now, wall| {
        let (flow, pair) = (ain_dataplane::id::FlowId(999), registered.pair);
        node.handle_new_flow(now, wall, flow, neighbour, pair);
        assert!(matches!(
            node.poll_action(),
            Some(ain_controlplane::action::Action::CloseFlow { refused: true, .. })
        ));
    });
    net.settle();
}

#[test]
fn inactivity_ends_an_aivt_everywhere_and_traffic_makes_a_new_one_with_the_same_address() {
    let mut net = Net::new(Plan::chain(4), 12);
    let sender = sender(0, 3, 1);
    let before = net.send_until_arrival(&sender, 1000).unwrap();
    for _ in 0..2 * INACTIVITY_S {
        net.send(&sender).expect("traffic keeps it alive");
        net.run_ms(1000);
    }
    net.run_ms(1000 * u64::from(INACTIVITY_S) + 1000);
    net.assert_empty();
    assert_eq!(net.snapshot(0).remembered_flows, 1);
    assert_eq!(net.sites[0].closed, [(sender, false)]);
    assert_eq!(net.node(0).counts().rebuilds, 0);
    assert_eq!(net.send_until_arrival(&sender, 1000), Some(before));
    net.settle();
    net.run_ms(3_700_000);
    assert_eq!(net.snapshot(0).remembered_flows, 0);
}

#[test]
fn absolute_expiry_ends_an_aivt_under_traffic_and_another_follows() {
    let mut plan = Plan::chain(3);
    plan.lifetime_s = 300;
    let mut net = Net::new(plan, 13);
    let sender = sender(0, 2, 1);
    let before = net.send_until_arrival(&sender, 1000).unwrap();
    // WALL is a multiple of 600: the AIVT expires 600 s after it.
    for _ in 0..650 {
        net.run_ms(1000);
        net.send(&sender);
    }
    assert_eq!(net.send(&sender), Some(before));
    assert_eq!(net.node(0).counts().ended.of(Reason::Expired), 1);
    assert_eq!(
        net.node(0).counts().rebuilds,
        0,
        "an AIVT that lived its life is no failure"
    );
    net.settle();
}

#[test]
fn a_create_from_before_the_replay_floor_is_refused_and_the_entrance_tries_until_it_may() {
    let mut net = Net::new(Plan::chain(3), 15);
    let floor = net.wall();
    net.start(1, floor);
    net.run_ms(1500);
    let sender = sender(0, 2, 1);
    assert!(net.send_until_arrival(&sender, 40_000).is_some());
    assert!(net.node(1).counts().refused.of(Reason::ReplayedCreate) > 0);
    net.settle();
}

#[test]
fn silence_makes_the_entrance_try_another_path_after_ten_seconds() {
    // Over 1 or 2 to 3, then to the exit 4. What node 3's neighbour 1 sends to 3 is lost, but KEEPALIVEs keep that PVT up: the
    // workers of node 1 never finish.
    let mut net = Net::new(Plan::new(5, &[(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)]), 16);
    let mut seen = 0;
    for number in 1..20 {
        let sender = sender(0, 4, number);
        net.install_ms = 60_000;
        net.send(&sender);
        net.run_ms(9900);
        assert_eq!(net.snapshot(0).creating[0], 1);
        let timeouts = net.node(0).counts().failed.of(Reason::NextHopUnreachable);
        net.install_ms = 3;
        net.run_ms(200);
        assert_eq!(net.node(0).counts().failed.of(Reason::NextHopUnreachable), timeouts + 1);
        seen += usize::from(net.send_until_arrival(&sender, 1000).is_some());
    }
    assert_eq!(seen, 19);
    net.settle();
}

#[test]
fn rebuilds_are_bounded_and_the_initiator_is_told_in_the_end() {
    let mut net = Net::new(Plan::chain(3), 17);
    net.install_fails.insert(2);
    let sender = sender(0, 2, 1);
    net.send(&sender);
    net.run_ms(30_000);
    assert_eq!(net.node(0).counts().sent.of(Kind::Create), 4);
    assert_eq!(net.sites[0].closed, [(sender, true)]);
    for _ in 0..50 {
        net.send(&sender);
        net.run_ms(100);
    }
    assert_eq!(
        net.node(0).counts().sent.of(Kind::Create),
        4,
        "new traffic buys no more attempts"
    );
    net.install_fails.clear();
    net.run_ms(60_000);
    assert!(net.send_until_arrival(&sender, 1000).is_some());
    net.settle();
}

#[test]
fn without_a_path_the_flow_waits_and_is_refused_when_patience_ends() {
    let mut net = Net::new(Plan::chain(3), 18);
    net.kill(1);
    net.run_ms(5000);
    let sender = sender(0, 2, 1);
    net.send(&sender);
    net.run_ms(59_000);
    assert_eq!(net.sites[0].closed, []);
    net.run_ms(2000);
    assert_eq!(net.sites[0].closed, [(sender, true)]);
    net.start(1, 0);
    net.run_ms(2000);
    assert!(net.send_until_arrival(&sender, 1000).is_some());
    net.settle();
}

// It comes back before anyone misses its KEEPALIVEs, and knows nothing of the AIVTs that went through it.
#[test]
fn a_neighbour_that_restarts_within_a_second_is_noticed() {
    let mut net = Net::new(Plan::chain(3), 19);
    let sender = sender(0, 2, 1);
    let before = net.send_until_arrival(&sender, 1000).unwrap();
    net.start(1, 0);
    net.run_ms(50);
    assert_eq!(net.node(0).counts().pvt_downs, 1);
    assert_eq!(net.node(2).counts().ended.total(), 1);
    assert_eq!(net.send_until_arrival(&sender, 3000), Some(before));
    net.settle();
}

/// It was taken for dead, and does not know: its neighbours tell it by the number in their KEEPALIVEs.
#[test]
fn line_3_a_node_that_was_stopped_for_a_while_notices_what_it_missed() {
    for position in 0..3 {
        let mut net = Net::new(Plan::chain(3), 19);
        let sender = sender(0, 2, 1);
        let before = net.send_until_arrival(&sender, 1000).unwrap();
        let stopped = net.sites[position].node.take();
        net.run_ms(8000);
        net.sites[position].node = stopped;
        net.run_ms(2500);
        assert_eq!(net.send_until_arrival(&sender, 30_000), Some(before), "node {position}");
        for node in 0..3 {
            assert_eq!(net.snapshot(node).standing.iter().sum::<usize>(), 1, "node {node}");
        }
        net.settle();
    }
}

/// After an outage between two nodes both have forgotten; what they make then stays, whatever is lost of their first words.
#[test]
fn line_3_what_is_made_after_an_outage_stays() {
    for seed in 0..20 {
        let mut net = Net::new(Plan::chain(3), seed);
        let sender = sender(0, 2, 1);
        let before = net.send_until_arrival(&sender, 1000).unwrap();
        net.cut.extend([(0, 1), (1, 0)]);
        net.run_ms(8000);
        net.cut.clear();
        net.weather = net::Weather { loss: 0.5, ..net::FAIR };
        net.run_ms(3000);
        net.weather = net::FAIR;
        net.run_ms(30_000);
        assert_eq!(net.send_until_arrival(&sender, 30_000), Some(before), "seed {seed}");
        net.run_ms(3000);
        assert!(net.send(&sender).is_some(), "seed {seed}: and goes on");
        net.settle();
    }
}

#[test]
fn no_spi_is_used_twice_between_two_nodes_across_crashes() {
    let mut net = Net::new(Plan::chain(2), 20);
    let (mut spis, mut creates) = (std::collections::HashSet::new(), 0);
    for round in 0..10 {
        for number in 1..=10 {
            net.send_until_arrival(&sender(round % 2, 1 - round % 2, number), 5000)
                .unwrap();
        }
        for (_, _, bytes) in net.captured.drain(..).filter(|(_, _, bytes)| bytes[28] == 0) {
            creates += 1;
            spis.insert(bytes[32..36].to_vec());
        }
        net.start(round % 2, 0);
        net.run_ms(2000);
    }
    assert_eq!(spis.len(), creates);
    assert!(creates >= 100);
    net.settle();
}

#[test]
fn a_neighbour_cannot_have_more_creates_under_way_than_its_quota() {
    let mut net = Net::new(Plan::chain(3), 22);
    net.install_ms = 9000;
    let most = PENDING_CREATES_PER_NEIGHBOUR;
    let total = most as u32 + 100;
    for number in 0..total {
        net.send(&numbered(1, number));
    }
    net.run_ms(500);
    let counts = *net.node(1).counts();
    // Each of the 100 others tries once more within that time.
    assert_eq!(counts.refused.of(Reason::ResourceLimit), 200);
    assert_eq!(net.snapshot(1).creating[2], most);
    net.sites[0].flows.clear();
    net.kill(0);
    net.settle();
}

/// Between two slices of the end the node is driven: its other neighbour never misses it.
#[test]
fn many_aivts_over_a_lost_neighbour_end_in_slices() {
    let mut net = Net::new(Plan::chain(3), 24);
    let total = ENDS_AT_A_TIME as u32 + 500;
    for number in 0..total {
        net.send(&numbered(2, number));
        if number % 500 == 0 {
            net.run_ms(200);
        }
    }
    net.run_ms(500);
    assert_eq!(net.snapshot(1).standing[1], total as usize);
    net.kill(2);
    let mut seen = Vec::new();
    while net.snapshot(1).standing[1] > 0 {
        net.run_ms(1);
        seen.push(net.snapshot(1).standing[1]);
        assert!(seen.len() < 10_000, "they never end");
    }
    assert!(seen.windows(2).all(|pair| pair[0] - pair[1] <= ENDS_AT_A_TIME));
    assert_eq!(
        net.node(1).counts().ended.of(Reason::NextHopUnreachable),
        u64::from(total)
    );
    assert!(
        net.snapshot(1).pvts.iter().any(|pvt| pvt.up),
        "the other neighbour is there"
    );
    net.settle();
}

#[test]
fn a_neighbour_has_half_of_what_there_is() {
    let mut plan = Plan::chain(3);
    plan.quotas = Quotas::halves(100, 200);
    let mut net = Net::new(plan, 23);
    for number in 0..60u32 {
        net.send(&numbered(1, number));
    }
    net.run_ms(500);
    assert_eq!(net.snapshot(1).standing[2], 50);
    assert!(net.node(1).counts().refused.of(Reason::ResourceLimit) >= 10);
    net.sites[0].flows.clear();
    net.kill(0);
    net.settle();
}

/// A host that scans leaves the others their half, and gets its own back as its flows end.
#[test]
fn a_host_has_half_of_the_flows_open_at_once() {
    let mut plan = Plan::chain(2);
    plan.quotas = Quotas::halves(1000, 100);
    let mut net = Net::new(plan, 41);
    for number in 0..60 {
        net.send(&sender(0, 1, number));
    }
    net.run_ms(500);
    assert_eq!(net.snapshot(0).flows, 50);
    assert_eq!(net.sites[0].closed.len(), 10);
    let mut other = sender(0, 1, 100);
    other.second_host = true;
    assert!(net.send_until_arrival(&other, 500).is_some());
    let mut flows = net.sites[0].flows.iter();
    let closed = *flows.find(|(_, sender)| !sender.second_host).unwrap().0;
    net.drive(0, |node, now, _| node.handle_flow_gone(now, closed));
    net.sites[0].flows.remove(&closed);
    assert!(net.send_until_arrival(&sender(0, 1, 59), 500).is_some());
    assert_eq!(net.send_until_arrival(&sender(0, 1, 58), 500), None);
    net.settle();
}
