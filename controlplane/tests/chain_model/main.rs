//! Chains of two to six AINs under loss, duplication and reordering on every link, 10^5 datagrams in all: a reference model, which
//! shares no code with the packet path, says exactly which arrive, and each of them arrives once and unaltered.
//!
//! ```text
//!   network.rs   what happens: hosts send bursts, links lose, repeat and reorder, machines receive bursts
//!   model.rs     what ought to happen, by arithmetic on cells and windows
//! ```

#[path = "../crypto/mod.rs"]
mod crypto;
mod model;
mod network;
#[path = "../sim/mod.rs"]
mod sim;

use network::Network;
use sim::chain::Plan;
use sim::{GMAC, HMAC, HMAC_V6, Suite};

/// Datagrams of each test.
const DATAGRAMS: usize = 20_000;

fn plan(ains: u8, workers: u8, suite: Suite) -> Plan {
    Plan {
        workers,
        flows: 4,
        ..Plan::new(ains, suite)
    }
}

/// Runs a plan to its end; the network itself compares every arrival with the model's prediction.
fn run(plan: Plan, seed: u64) {
    let mut network = Network::new(plan, seed);
    network.begin_flows();
    network.exchange(DATAGRAMS);
    network.assert_counters();
    // A run in which nothing went wrong, or nothing came through, would have shown nothing.
    let fates = network.fates();
    assert_eq!(fates.sent, DATAGRAMS + usize::from(plan.flows));
    assert!(fates.arrived > DATAGRAMS / 3 && fates.arrived < DATAGRAMS, "{fates:?}");
    assert!(
        fates.repeated > 100 && fates.late > 10 && fates.expired > 10,
        "{fates:?}"
    );
}

#[test]
fn two_nodes() {
    run(plan(2, 1, HMAC), 2);
}

#[test]
fn three_nodes_two_workers_showing_private_sources() {
    let plan = Plan {
        shown: true,
        ..plan(3, 2, GMAC)
    };
    run(plan, 3);
}

#[test]
fn four_nodes_narrow_host_tunnels() {
    let plan = Plan {
        inner_mtu: 1386,
        ..plan(4, 1, GMAC)
    };
    run(plan, 4);
}

#[test]
fn five_nodes_three_workers() {
    run(plan(5, 3, GMAC), 5);
}

#[test]
fn three_nodes_over_ipv6() {
    run(plan(3, 2, HMAC_V6), 7);
}

#[test]
fn six_nodes_showing_private_sources() {
    let plan = Plan {
        shown: true,
        ..plan(6, 1, GMAC)
    };
    run(plan, 6);
}
