//! What neighbours and hops may not do, and what a node does when they try.

mod net;

use ain_controlplane::associations::Keying;
use ain_controlplane::config::SpiSecret;
use ain_controlplane::generation::AhPair;
use ain_controlplane::sa::Generation;
use ain_controlplane::signal::destroy::Reason;
use ain_controlplane::signal::frame::{Kind, Message};
use ain_dataplane::id::{Now, PeerId, Spi};
use ain_dataplane::usage::SaUse;
use net::{AH_SPI, Net, Plan, sender};

/// SPI and message id of the first CREATE that went from `from` to `to`.
fn create_on(net: &Net, from: usize, to: usize) -> (u32, u32) {
    let is_create = |(a, b, bytes): &&(usize, usize, Vec<u8>)| (*a, *b, bytes[28]) == (from, to, Kind::Create as u8);
    let bytes = &net.captured.iter().find(is_create).expect("it was sent").2;
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(32), number(36))
}

/// SPI of the last CREATE that went from `from` to `to`.
fn newest_spi(net: &Net, from: usize, to: usize) -> u32 {
    let is_create = |(a, b, bytes): &&(usize, usize, Vec<u8>)| (*a, *b, bytes[28]) == (from, to, Kind::Create as u8);
    let bytes = &net.captured.iter().rev().find(is_create).expect("it was sent").2;
    u32::from_be_bytes(bytes[32..36].try_into().unwrap())
}

#[test]
fn a_captured_create_is_refused_when_it_comes_again() {
    let mut net = Net::new(Plan::chain(3), 14);
    net.send_until_arrival(&sender(0, 2, 1), 1000).unwrap();
    let create = net
        .captured
        .iter()
        .find(|(from, to, bytes)| (*from, *to, bytes[28]) == (0, 1, 0))
        .unwrap()
        .2
        .clone();
    let peer = net.peer(1, 0);
    let joined = net.snapshot(1).standing[1];
    let replay = |net: &mut Net, spi: u8, id: u8| {
        let mut again = create.clone();
        (again[35], again[39]) = (again[35] ^ spi, again[39] ^ id);
        again[26..28].fill(0);
        net.drive(1, |node, now, _| node.handle_signal(now, peer, &again));
        *net.node(1).counts()
    };
    assert_eq!(replay(&mut net, 0, 0).repeated, 1);
    assert_eq!(replay(&mut net, 0, 1).refused.of(Reason::SpiCollision), 1);
    assert_eq!(replay(&mut net, 1, 2).refused.of(Reason::ReplayedCreate), 1);
    net.run_ms(120_000 - 3000);
    assert_eq!(replay(&mut net, 1, 4).refused.of(Reason::ReplayedCreate), 2, "stale");
    // A restarted node has no memory, but a floor.
    let floor = net.wall() - 3;
    net.start(1, floor);
    net.run_ms(100); // it takes no CREATE before it has met the neighbour
    let refused = net.node(1).counts().refused.of(Reason::ReplayedCreate);
    assert_eq!(replay(&mut net, 1, 8).refused.of(Reason::ReplayedCreate), refused + 1);
    assert_eq!(joined, 1);
    net.settle();
}

#[test]
fn a_create_under_keys_that_the_neighbour_lacks_is_refused_and_its_flow_goes_on_under_others() {
    let mut net = Net::new(Plan::chain(3), 31);
    let (sender, peer, generation) = (sender(0, 2, 1), net.peer(0, 1), Generation(7));
    let lacked = AhPair {
        generation,
        spi_in: Spi::new(AH_SPI + 1).unwrap(),
        spi_out: Spi::new(AH_SPI + 1).unwrap(),
        spi_secret: SpiSecret::derive(b"one end", b"the other"),
        spi_counter: None,
        heard: SaUse::new(0),
    };
    net.drive(0, |node, now, _| node.handle_keying(now, Keying::Begun(peer, lacked)));
    assert_eq!(net.send_until_arrival(&sender, 500), None);
    let (asked, refused) = (net.node(0).counts().sent.of(Kind::Create), net.node(1).counts().refused);
    assert_eq!((refused.of(Reason::ProtocolError), refused.total()), (asked, asked));
    assert_eq!(
        net.node(0).counts().failed.of(Reason::ProtocolError),
        asked,
        "each was ACKed and sent once"
    );
    assert!(asked > 0 && net.snapshot(1).is_empty());
    net.drive(0, |node, now, _| {
        node.handle_keying(now, Keying::Over(peer, generation))
    });
    net.send_until_arrival(&sender, 5000)
        .expect("under the keys that both have");
    net.settle();
}

#[test]
fn only_the_neighbour_that_shares_a_tvt_ends_it() {
    let mut net = Net::new(Plan::new(4, &[(0, 1), (1, 2), (1, 3)]), 24);
    let sender = sender(0, 2, 1);
    net.send_until_arrival(&sender, 1000).unwrap();
    let (spi, _) = create_on(&net, 0, 1);
    let destroy = |from: usize, net: &mut Net| {
        net.say(
            from,
            1,
            spi,
            Message::Destroy {
                create: 0,
                reason: Reason::None,
            },
        );
    };
    destroy(3, &mut net);
    destroy(2, &mut net);
    assert_eq!(net.snapshot(1).standing[1], 1);
    assert_eq!(net.node(1).counts().stray, 2);
    destroy(0, &mut net);
    assert_eq!(net.snapshot(1).standing[1], 0);
    net.settle();
}

#[test]
fn what_is_no_signal_is_counted_and_changes_nothing() {
    let mut net = Net::new(Plan::chain(2), 23);
    let peer = net.peer(0, 1);
    let before = net.snapshot(0);
    net.drive(0, |node, now, _| {
        node.handle_signal(now, peer, &[]);
        node.handle_signal(now, peer, &[0x45; 1374]);
        node.handle_signal(now, PeerId(77), &[0x45; 1374]);
    });
    assert_eq!(net.node(0).counts().malformed, 3);
    assert_eq!(net.snapshot(0), before);
}

// The last hop is left out: it answers as if it held no key.
#[test]
fn a_created_that_does_not_confirm_every_hop_makes_no_aivt() {
    let mut net = Net::new(Plan::chain(3), 31);
    net.cut.insert((2, 1));
    net.send(&sender(0, 2, 1));
    net.run_ms(100);
    let (spi, create) = create_on(&net, 1, 2);
    net.say(
        2,
        1,
        spi,
        Message::Created {
            create,
            confirmation: [0; 32],
        },
    );
    net.run_ms(15);
    assert_eq!(net.node(0).counts().received.of(Kind::Created), 1);
    assert!(net.sites[0].routes.is_empty());
    assert_eq!(net.node(0).counts().failed.of(Reason::ProtocolError), 1);
    net.settle();
}

#[test]
fn a_path_with_a_misbehaving_hop_is_avoided() {
    for seed in 0..10 {
        let mut net = Net::new(Plan::new(4, &[(0, 1), (1, 3), (0, 2), (2, 3)]), seed);
        let sender = sender(0, 3, 1);
        let before = net.send_until_arrival(&sender, 1000).unwrap();
        let suspect = net.path(&sender)[1];
        let aivt = net.aivt_at(&sender, 0);
        net.drive(0, |node, now, _| node.handle_misbehaviour(now, aivt));
        assert_eq!(net.send_until_arrival(&sender, 1000), Some(before));
        assert_eq!(net.path(&sender)[1], 3 - suspect);
        net.settle();
    }
}

// Or a late repetition could make the neighbour join what is already over.
/// Reasons of others are hints (protocol section 6): none of them lets a hop have the entrance try again without limit.
#[test]
fn a_hop_that_ends_all_it_carries_gets_few_tries() {
    for reason in [Reason::Expired, Reason::None, Reason::Inactive, Reason::ProtocolError] {
        let mut net = Net::new(Plan::chain(3), 31);
        let sender = sender(0, 2, 1);
        net.send_until_arrival(&sender, 1000).unwrap();
        let sent = net.node(0).counts().sent.of(Kind::Create);
        let started = net.now;
        while net.now.since(started) < 60 * Now::SECOND {
            let spi = newest_spi(&net, 0, 1);
            net.say(1, 0, spi, Message::Destroy { create: 0, reason });
            net.send(&sender);
            net.run_ms(100);
        }
        let tries = net.node(0).counts().sent.of(Kind::Create) - sent;
        assert!(tries <= 8, "{tries} CREATEs in a minute after {reason:?}");
    }
}

#[test]
fn a_create_overtaken_by_the_end_is_not_repeated() {
    let mut net = Net::new(Plan::chain(2), 32);
    net.cut.insert((0, 1));
    net.send(&sender(0, 1, 1));
    net.run_ms(300);
    let flow = *net.sites[0].flows.keys().next().unwrap();
    net.sites[0].flows.clear();
    net.drive(0, |node, now, _| node.handle_flow_gone(now, flow));
    net.cut.clear();
    net.run_ms(3000);
    assert_eq!(net.node(1).counts().received.of(Kind::Create), 0);
    net.settle();
}

#[test]
fn a_collision_makes_the_sender_draw_again_a_few_times() {
    let mut net = Net::new(Plan::chain(3), 33);
    net.cut.insert((0, 1));
    net.send(&sender(0, 2, 1));
    let mut spis = Vec::new();
    for _ in 0..3 {
        net.run_ms(10);
        let (spi, create) = create_on(&net, 0, 1);
        net.captured.clear();
        spis.push(spi);
        net.say(
            1,
            0,
            spi,
            Message::Destroy {
                create: create ^ 1,
                reason: Reason::SpiCollision,
            },
        );
        assert_eq!(net.node(0).counts().failed.total(), 0, "that CREATE is none of ours");
        net.say(
            1,
            0,
            spi,
            Message::Destroy {
                create,
                reason: Reason::SpiCollision,
            },
        );
        assert_eq!((net.snapshot(0).creating[0], net.snapshot(0).tvts), (1, 1));
    }
    net.cut.clear();
    net.run_ms(1000);
    let (spi, create) = create_on(&net, 0, 1);
    assert!(!spis.contains(&spi));
    assert_eq!(net.snapshot(0).standing, [1, 0, 0]);
    assert_eq!(net.node(0).counts().rebuilds, 0, "one AIVT, four SPIs");
    net.say(
        1,
        0,
        spi,
        Message::Destroy {
            create,
            reason: Reason::SpiCollision,
        },
    );
    assert_eq!(net.snapshot(0).standing, [0, 0, 0], "too late for another SPI");
    net.settle();
}
