//! Line 9: who is the exit for a destination that no prefix names, and what an open exit refuses to be bound to.

mod net;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ain_controlplane::config::Config;
use ain_controlplane::directory::{Directory, Entry};
use ain_dataplane::id::Pair;
use ain_dataplane::nat::mappings::Timeouts;
use ain_dataplane::nat::policy::{Policy, Rule};
use ain_dataplane::nat::pool::Pool;
use ain_dataplane::nat::{Limits, Settings};
use net::{INACTIVITY_S, Net, Plan, Sender, sender};

const OPEN: usize = 3;
const OTHER: usize = 1;

fn settings() -> Settings {
    let everything = Rule {
        prefix: "0.0.0.0/0".parse().unwrap(),
        protocol: None,
        ports: None,
    };
    Settings {
        pool: Pool::new(["203.0.113.64".parse().unwrap()], &(1024..=65535), 1),
        policy: Policy {
            allow: vec![everything],
            // Its network is a laboratory, where nodes have addresses that would be refused in any case.
            closed_lab: vec!["192.0.2.0/24".parse().unwrap()],
            ..Policy::default()
        },
        limits: Limits {
            mappings_per_aivt: 64,
            new_mappings_per_s: 64,
            packets_per_s: 1000,
            mappings_per_worker: 1000,
            held_ports_per_worker: 1000,
        },
        timeouts: Timeouts::default(),
    }
}

/// A ring of five nodes, one of them an open exit.
fn network() -> Net {
    network_of(|_, _| ())
}

fn network_of(adjust: fn(usize, &mut Config)) -> Net {
    let links = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)];
    let plan = Plan {
        open_exit: Some((OPEN, Arc::new(settings()))),
        adjust,
        ..Plan::new(5, &links)
    };
    Net::new(plan, 9)
}

fn to(node: usize, destination: [u8; 4]) -> Sender {
    Sender {
        node,
        pair: Pair {
            source: IpAddr::V4(Ipv4Addr::new(192, 168, 7, 1)),
            destination: destination.into(),
        },
        second_host: false,
    }
}

#[test]
fn line_9_what_no_prefix_names_leaves_at_an_open_exit() {
    let mut net = network();
    let outside = to(0, [9, 9, 9, 9]);
    assert!(net.send_until_arrival(&outside, 10_000).is_some());
    assert_eq!(net.path(&outside).last(), Some(&OPEN));
    let named = sender(0, 2, 1);
    assert!(net.send_until_arrival(&named, 10_000).is_some());
    assert_eq!(net.path(&named).last(), Some(&2), "a prefix goes before an open exit");
    net.settle();
}

#[test]
fn line_9_special_addresses_and_nodes_of_the_network_are_refused() {
    let mut net = network();
    for refused in [
        [10, 1, 1, 1],
        [127, 0, 0, 1],
        [203, 0, 113, 9],
        [192, 0, 2, 2],
        [192, 0, 2, 4],
    ] {
        assert_eq!(net.send_until_arrival(&to(0, refused), 5_000), None, "{refused:?}");
    }
    assert!(
        net.send_until_arrival(&to(0, [192, 0, 2, 77]), 10_000).is_some(),
        "the laboratory's others"
    );
    net.settle();
}

#[test]
fn line_9_no_entrance_is_its_own_open_exit() {
    let mut net = network();
    assert_eq!(net.send_until_arrival(&to(OPEN, [9, 9, 9, 9]), 5_000), None);
    net.settle();
}

/// The directory of node 0 becomes one with these changes.
fn publish(net: &mut Net, change: impl FnOnce(&mut [Entry])) {
    let mut entries = net.plan.config(0, 0).directory.entries().to_vec();
    change(&mut entries);
    let directory = Directory::new(entries).unwrap();
    net.drive(0, |node, _, _| node.handle_directory(directory));
}

#[test]
fn line_8_a_flow_whose_exit_is_none_any_more_gets_another_one() {
    let (open, named) = (to(0, [9, 9, 9, 9]), sender(0, OPEN, 1));
    for rests in [false, true] {
        let mut net = network_of(|node, config| {
            if node == OTHER {
                config.open_exit = Some(Arc::new(settings()));
            }
        });
        let before = [&open, &named].map(|sender| {
            let source = net.send_until_arrival(sender, 10_000);
            assert_eq!(net.path(sender).last(), Some(&OPEN));
            source.expect("it arrives")
        });
        if rests {
            net.run_ms(2000 * u64::from(INACTIVITY_S));
        }
        // Another node is the open exit, and has the prefix. What stands stays.
        publish(&mut net, |entries| {
            entries[OTHER].open_exit = std::mem::take(&mut entries[OPEN].open_exit);
            let prefixes = std::mem::take(&mut entries[OPEN].exit_prefixes);
            entries[OTHER].exit_prefixes.extend(prefixes);
        });
        if !rests {
            assert!([&open, &named].iter().all(|sender| net.send(sender).is_some()));
            net.kill(OPEN);
        }
        // The next one leaves where it can.
        let after = net.send_until_arrival(&open, 30_000);
        assert!(
            after.is_some_and(|source| source != before[0]),
            "{rests}: the exits know of each other by nothing"
        );
        assert_eq!(net.path(&open).last(), Some(&OTHER), "{rests}");
        net.send(&named);
        net.run_ms(500);
        assert_eq!(net.path(&named).last(), Some(&OTHER), "{rests}");
        // Nobody is: refused, as a new flow would be.
        publish(&mut net, |entries| entries[OPEN].open_exit.clear());
        net.run_ms(2000 * u64::from(INACTIVITY_S));
        let refused = net.node(0).counts().flows_refused;
        assert_eq!(net.send_until_arrival(&open, 5_000), None, "{rests}");
        assert!(net.node(0).counts().flows_refused > refused, "{rests}");
    }
}

/// The other one says that it is an open exit, and refuses everything.
#[test]
fn line_9_a_flow_that_an_open_exit_refuses_asks_another_one() {
    let mut net = network();
    publish(&mut net, |entries| {
        entries[OTHER].open_exit = entries[OPEN].open_exit.clone()
    });
    let senders: Vec<_> = (1..=20).map(|number| to(0, [9, 9, 9, number])).collect();
    for sender in &senders {
        assert!(net.send_until_arrival(sender, 2_000).is_some());
        assert_eq!(net.path(sender).last(), Some(&OPEN));
    }
    let refused = net.sites[OTHER].refused.len();
    assert!((1..20).contains(&refused), "some drew it first: {refused}");
    assert!(senders.iter().all(|sender| {
        let told = net.sites[0].closed.iter().filter(|closed| **closed == (*sender, true));
        told.count() <= 1
    }));
    // Alone, it is asked again.
    publish(&mut net, |entries| {
        entries[OTHER].open_exit = std::mem::take(&mut entries[OPEN].open_exit);
    });
    assert_eq!(net.send_until_arrival(&to(0, [9, 9, 9, 99]), 3_000), None);
    assert!(net.sites[OTHER].refused.len() > refused + 1);
    net.settle();
}
