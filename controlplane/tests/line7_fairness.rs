//! Line 7: a greedy initiator or neighbour next to a modest one, which gets what it wants.

mod net;

use ain_controlplane::config::{Config, HostRole, Peer, Quotas};
use ain_controlplane::share::{AivtsPerSlice, NeighbourShare};
use ain_controlplane::signal::destroy::Reason;
use net::{Net, Plan, SLICE_S, Sender, sender};

const GREEDY: usize = 0;
const MODEST: usize = 2;

/// What node 1 gives its neighbour [`GREEDY`].
fn give(config: &mut Config, share: NeighbourShare) {
    for peer in &mut config.peers {
        match peer {
            Peer::Neighbour(neighbour) if neighbour.id == net::id(GREEDY) => neighbour.share = share,
            Peer::Neighbour(_) | Peer::Host(_) => {}
        }
    }
}

/// Sends for `count` initiators of `node` to the responder of node 1, and counts the AIVTs that stand half a second later.
fn standing_after(net: &mut Net, node: usize, count: u8) -> usize {
    let before = net.snapshot(1).standing[2];
    for number in 0..count {
        net.send(&sender(node, 1, number));
    }
    net.run_ms(500);
    net.snapshot(1).standing[2] - before
}

#[test]
fn line_7_an_initiator_that_had_its_quota_waits_for_the_next_slice() {
    let mut plan = Plan::chain(3);
    plan.adjust = |_, config| {
        for peer in &mut config.peers {
            if let Peer::Host(host) = peer {
                host.quota = Some(AivtsPerSlice {
                    aivts: 5,
                    slice_s: SLICE_S,
                });
            }
        }
    };
    let mut net = Net::new(plan, 7);
    for round in 1..3 {
        for number in 0..20 {
            net.send(&sender(0, 2, number));
        }
        net.run_ms(500);
        assert_eq!(net.snapshot(0).standing[0], 5);
        let over = net.sites[0].closed.iter().filter(|(_, refused)| *refused).count();
        assert_eq!(
            (over, net.node(0).counts().flows_over_quota),
            (15 * round, 15 * round as u64)
        );
        let modest = Sender {
            second_host: true,
            ..sender(0, 2, 100)
        };
        assert!(net.send_until_arrival(&modest, 500).is_some());
        // All of them end for want of use, and the next slice begins.
        net.run_ms(u64::from(SLICE_S) * 1000);
        assert_eq!(net.snapshot(0).standing[0], 0);
    }
}

#[test]
fn line_7_a_neighbour_gets_so_many_creating_signals_opened_in_a_second() {
    let mut plan = Plan::chain(3);
    plan.adjust = |node, config| {
        if node == 1 {
            let creates_per_second = 4;
            give(
                config,
                NeighbourShare {
                    creates_per_second,
                    ..NeighbourShare::default()
                },
            );
        }
    };
    let mut net = Net::new(plan, 8);
    assert_eq!(standing_after(&mut net, GREEDY, 20), 4);
    assert!(net.node(1).counts().refused.of(Reason::ResourceLimit) >= 16);
    assert_eq!(standing_after(&mut net, MODEST, 20), 20);
}

#[test]
fn line_7_a_neighbour_has_its_percentage_of_the_aivts() {
    let mut plan = Plan::chain(3);
    plan.quotas = Quotas::halves(100, 200);
    plan.adjust = |node, config| {
        if node == 1 {
            let aivts_percent = 10;
            give(
                config,
                NeighbourShare {
                    aivts_percent,
                    ..NeighbourShare::default()
                },
            );
        }
    };
    let mut net = Net::new(plan, 9);
    assert_eq!(standing_after(&mut net, GREEDY, 60), 10);
    assert_eq!(standing_after(&mut net, MODEST, 60), 50);
}

#[test]
fn line_7_one_responder_has_half_of_the_bindings() {
    let mut plan = Plan::chain(3);
    plan.adjust = |node, config| {
        if node == 1 {
            config.quotas = Quotas::halves(1000, 20);
            config.peers.iter_mut().for_each(|peer| {
                if let Peer::Host(host) = peer {
                    host.role = HostRole::Both;
                }
            });
        }
    };
    let mut net = Net::new(plan, 10);
    for number in 0..20 {
        net.send(&sender(GREEDY, 1, number));
    }
    net.run_ms(500);
    let arrived = (0..20).filter(|number| net.send(&sender(GREEDY, 1, *number)).is_some());
    assert_eq!(arrived.count(), 10);
    let mut beside = sender(MODEST, 1, 1);
    beside.pair.destination = [198, 51, 1, 200].into();
    assert!(net.send_until_arrival(&beside, 500).is_some(), "the other responder");
}
