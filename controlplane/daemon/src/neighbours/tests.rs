//! Against a real kernel.

use super::*;
use crate::testnet::{ip, two_hosts};

fn target(remote: &str) -> Target {
    Target {
        peer: PeerId(7),
        port: 3,
        interface: "veth0".into(),
        remote: remote.parse().unwrap(),
    }
}

/// Refreshes until `done`, or for so long that the kernel has given up.
fn refresh_until(neighbours: &mut Neighbours, done: impl Fn(&Neighbours) -> bool) {
    for _ in 0..600 {
        neighbours.refresh().unwrap();
        if done(neighbours) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not reached: {:?}", neighbours.found());
}

#[test]
fn finds_a_peer_on_the_link() {
    finds("192.0.2.2");
}

#[test]
fn finds_a_peer_by_neighbour_discovery() {
    finds("2001:db8::2");
}

fn finds(remote: &'static str) {
    two_hosts(|there| {
        there(Box::new(|| ip("link set veth1 address 02:00:00:00:00:02")));
        ip("link set veth0 address 02:00:00:00:00:01");
        let mut neighbours = Neighbours::new(vec![target(remote)]).unwrap();
        assert_eq!(neighbours.refresh_after(), REFRESH_WANTING);
        refresh_until(&mut neighbours, |neighbours| neighbours.found().len() == 1);
        let adjacency = Adjacency {
            port: 3,
            source: [2, 0, 0, 0, 0, 1],
            destination: [2, 0, 0, 0, 0, 2],
        };
        assert_eq!(neighbours.found()[&PeerId(7)], adjacency);
        assert_eq!((neighbours.refresh_after(), neighbours.lost()), (REFRESH, 0));
    });
}

#[test]
fn finds_the_gateway_of_a_peer_behind_one() {
    two_hosts(|there| {
        there(Box::new(|| ip("link set veth1 address 02:00:00:00:00:09")));
        ip("route add 203.0.113.0/24 via 192.0.2.2");
        ip("-6 route add 2001:db8:1::/48 via 2001:db8::2");
        for remote in ["203.0.113.5", "2001:db8:1::5"] {
            let mut neighbours = Neighbours::new(vec![target(remote)]).unwrap();
            refresh_until(&mut neighbours, |neighbours| neighbours.found().len() == 1);
            assert_eq!(neighbours.found()[&PeerId(7)].destination, [2, 0, 0, 0, 0, 9]);
        }
    });
}

#[test]
fn counts_a_loss_and_recovers_from_it() {
    two_hosts(|there| {
        let mut neighbours = Neighbours::new(vec![target("192.0.2.2")]).unwrap();
        refresh_until(&mut neighbours, |neighbours| neighbours.found().len() == 1);
        there(Box::new(|| ip("link set veth1 arp off")));
        ip("neigh flush dev veth0");
        refresh_until(&mut neighbours, |neighbours| neighbours.found().is_empty());
        assert_eq!(neighbours.lost(), 1);
        there(Box::new(|| ip("link set veth1 arp on")));
        refresh_until(&mut neighbours, |neighbours| neighbours.found().len() == 1);
        assert_eq!(neighbours.lost(), 1);
    });
}

#[test]
fn tells_what_is_missing() {
    two_hosts(|_| {
        let mut no_interface = target("192.0.2.2");
        no_interface.interface = "veth9".into();
        let mut neighbours = Neighbours::new(vec![no_interface]).unwrap();
        assert!(matches!(neighbours.refresh(), Err(NeighbourError::NoInterface(name)) if name == "veth9"));
        let mut no_route = Neighbours::new(vec![target("198.51.100.1")]).unwrap();
        ip("link set veth0 down");
        assert!(!no_route.refresh().unwrap());
        assert!(no_route.found().is_empty());
        let mut no_route = Neighbours::new(vec![target("2001:db8:2::1")]).unwrap();
        assert!(!no_route.refresh().unwrap());
        assert!(no_route.found().is_empty());
    });
}
