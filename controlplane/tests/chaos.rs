//! A mesh of nodes under random mischief: whatever happens, routes agree on keys, no two AIVTs are bound to one pair (the network in
//! memory checks both), flows come back once the mischief stops, and in the end nothing is left.

mod net;

use net::{FAIR, FOUL, Net, Plan, sender};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

const NODES: usize = 6;

fn mesh() -> Plan {
    let mut plan = Plan::new(NODES, &[(0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 4), (3, 5), (4, 5)]);
    plan.lifetime_s = 900;
    plan
}

fn mischief(net: &mut Net, rng: &mut ChaCha12Rng) {
    let node = rng.random_range(0..NODES);
    match rng.random_range(0..10) {
        0 => net.kill(node),
        1 => net.start(node, 0),
        2 => net.weather = if rng.random_bool(0.5) { FOUL } else { FAIR },
        3 => {
            let (a, b) = net.plan.links[rng.random_range(0..net.plan.links.len())];
            net.cut.insert(if rng.random() { (a, b) } else { (b, a) });
        }
        4 => net.cut.clear(),
        5 => {
            net.install_fails.clear();
            net.install_fails.extend(rng.random_bool(0.3).then_some(node));
        }
        6 => net.install_ms = rng.random_range(0..2000),
        7 | 8 => {
            let mut aivts: Vec<_> = net.sites[node].routes.keys().copied().collect();
            aivts.sort();
            if !aivts.is_empty() {
                let aivt = aivts[rng.random_range(0..aivts.len())];
                net.drive(node, |node, now, _| node.handle_misbehaviour(now, aivt));
            }
        }
        _ => {
            let mut flows: Vec<_> = net.sites[node].flows.keys().copied().collect();
            flows.sort();
            if let Some(flow) = flows.first().copied() {
                net.sites[node].flows.remove(&flow);
                net.sites[node].shown.remove(&flow);
                net.drive(node, |node, now, _| node.handle_flow_gone(now, flow));
            }
        }
    }
}

#[test]
fn mischief_leaves_nothing_behind() {
    for seed in 0..12 {
        let rng = &mut ChaCha12Rng::seed_from_u64(seed);
        let mut net = Net::new(mesh(), seed);
        let ends = [(0, 5), (0, 3), (5, 0), (4, 1), (2, 5)];
        let senders: Vec<_> = (1..)
            .zip(ends)
            .map(|(number, (from, to))| sender(from, to, number))
            .collect();
        let mut arrived = 0;
        for _ in 0..400 {
            if rng.random_bool(0.2) {
                mischief(&mut net, rng);
            }
            for sender in &senders {
                if net.sites[sender.node].node.is_some() {
                    arrived += usize::from(net.send(sender).is_some());
                }
            }
            net.run_ms(rng.random_range(1..1000));
        }
        assert!(arrived > 100, "only {arrived} datagrams arrived with seed {seed}");
        (net.weather, net.install_ms) = (FAIR, 3);
        net.cut.clear();
        net.install_fails.clear();
        for node in 0..NODES {
            if net.sites[node].node.is_none() {
                net.start(node, 0);
            }
        }
        for sender in &senders {
            assert!(
                net.send_until_arrival(sender, 130_000).is_some(),
                "{sender:?} does not recover with seed {seed}"
            );
        }
        net.settle();
    }
}
