//! Line 2: creating signals while they wait to be opened. Nothing stays behind, whatever overtakes them, and a neighbour that floods
//! waits for itself.

mod net;

use ain_controlplane::limits::{OPENINGS_AT_A_TIME, OPENINGS_WAITING_PER_NEIGHBOUR, PENDING_REQUESTS};
use ain_controlplane::signal::destroy::Reason;
use ain_controlplane::signal::frame::{Kind, Message};
use net::{AH_SPI, MS, Net, Plan, onion_key, sender};

const SPI: u32 = 0x5000;

fn end() -> Message {
    Message::Destroy {
        create: 0,
        reason: Reason::Inactive,
    }
}

/// 0 - 1 - 2, and 3 - 1. Opening takes `open_ms`.
fn star(open_ms: u64) -> Net {
    let mut net = Net::new(Plan::new(4, &[(0, 1), (1, 2), (1, 3)]), 7);
    net.open_ms = open_ms;
    net
}

/// Node 1 hears so many good CREATEs of node 0.
fn ask(net: &mut Net, count: u32) {
    for number in 0..count {
        let onion = net.onion(&[1, 2]);
        net.say(0, 1, SPI + number, Message::Create { ah: AH_SPI, onion });
    }
}

fn waiting(net: &mut Net) -> (usize, usize) {
    let snapshot = net.snapshot(1);
    (snapshot.waiting, snapshot.opening)
}

#[test]
fn line_2_a_destroy_overtakes_a_create_that_waits_or_is_being_opened() {
    let mut net = star(10);
    let total = OPENINGS_AT_A_TIME as u32 + 5;
    ask(&mut net, total);
    assert_eq!(waiting(&mut net), (5, OPENINGS_AT_A_TIME));
    for number in 0..total {
        net.say(0, 1, SPI + number, end());
    }
    assert_eq!(net.node(1).counts().failed.of(Reason::Inactive), u64::from(total));
    assert_eq!(net.node(1).counts().stray, 0);
    net.run_ms(2000);
    assert_eq!(net.node(1).counts().sent.of(Kind::Create), 0, "none went on");
    assert_eq!(
        net.snapshot(1).pvts[0].opened,
        OPENINGS_AT_A_TIME as u64,
        "nobody opens what nobody wants"
    );
    net.settle();
}

#[test]
fn line_2_a_repeated_create_is_opened_once() {
    let mut net = star(10);
    let onion = net.onion(&[1, 2]);
    for spi in [SPI, SPI, SPI + 1] {
        let onion = onion.clone();
        net.say(0, 1, spi, Message::Create { ah: AH_SPI, onion });
    }
    // Another message id about the same TVT is another CREATE; another TVT with the same onion is a replay.
    assert_eq!(net.node(1).counts().refused.of(Reason::SpiCollision), 1);
    net.forged -= 1;
    net.say(0, 1, SPI + 1, Message::Create { ah: AH_SPI, onion });
    assert_eq!(net.node(1).counts().repeated, 1);
    net.run_ms(500);
    assert_eq!(net.node(1).counts().refused.of(Reason::ReplayedCreate), 1);
    assert_eq!(net.snapshot(1).pvts[0].opened, 2);
    assert_eq!(net.node(1).counts().sent.of(Kind::Create), 1);
    net.settle();
}

#[test]
fn line_2_a_lost_neighbours_creates_are_forgotten_and_others_are_not() {
    let mut net = star(500);
    ask(&mut net, 100);
    let onion = net.onion(&[1, 2]);
    net.say(3, 1, SPI, Message::Create { ah: AH_SPI, onion });
    net.kill(0);
    net.run_ms(6000);
    assert!(!net.snapshot(1).pvts[0].up);
    assert_eq!(net.snapshot(1).waiting, 0, "{:?}", net.snapshot(1));
    let failed = net.node(1).counts().failed.of(Reason::NextHopUnreachable);
    net.run_ms(40_000);
    assert_eq!(net.snapshot(1).opening, 0);
    assert!(failed >= 85, "{failed} of 100 were not opened when the neighbour went");
    assert_eq!(net.snapshot(1).pvts[2].opened, 1, "the other neighbour's turn came");
    net.settle();
}

#[test]
fn line_2_a_neighbour_that_starts_anew_has_forgotten_what_it_asked_for() {
    let mut net = star(500);
    ask(&mut net, 80);
    net.start(0, 0);
    net.run_ms(1500);
    assert_eq!(waiting(&mut net).0, 0);
    net.run_ms(40_000);
    assert_eq!(net.node(1).counts().sent.of(Kind::Create), 0);
    net.settle();
}

#[test]
fn line_2_shutdown_refuses_what_is_not_open_yet() {
    let mut net = star(10);
    ask(&mut net, 100);
    net.drive(1, |node, now, _| node.handle_shutdown(now));
    assert_eq!(net.node(1).counts().refused.of(Reason::Shutdown), 100);
    ask(&mut net, 1);
    assert_eq!(net.node(1).counts().refused.of(Reason::Shutdown), 101);
    net.run_ms(2000);
    assert!(net.node(1).is_quiet() && net.snapshot(1).is_empty());
    net.settle();
}

/// The entrance knows only the old key: it is refused, in words, and goes another way.
#[test]
fn line_2_a_retired_key_is_refused_and_the_entrance_goes_another_way() {
    for seed in 0..4 {
        let mut net = Net::new(Plan::new(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]), seed);
        let rotate = |net: &mut Net, keep: bool| {
            net.drive(1, |node, _, _| {
                node.handle_onion_keys(ain_controlplane::signal::suite::OnionKeys {
                    current: onion_key(77),
                    previous: keep.then(|| onion_key(1)),
                });
            });
        };
        rotate(&mut net, true);
        net.send_until_arrival(&sender(0, 3, 1), 1000)
            .expect("the key before is still welcome");
        rotate(&mut net, false);
        for number in 2..8 {
            net.send_until_arrival(&sender(0, 3, number), 5000)
                .expect("another way");
            assert_eq!(net.path(&sender(0, 3, number)), [0, 2, 3]);
        }
        let counts = *net.node(1).counts();
        assert!(counts.refused.total() == counts.refused.of(Reason::ProtocolError));
        net.settle();
    }
}

/// 100 000 CREATEs a second for a second, none of which is any good, while the opener manages 1000.
#[test]
fn line_2_a_flood_of_creates_fills_its_own_queue_and_nobody_elses() {
    let mut net = star(1);
    let flows: Vec<_> = (1..=20).map(|number| sender(3, 2, number)).collect();
    let began = net.now;
    let mut arrived = Vec::new();
    for ms in 0..1000 {
        for number in 0..100 {
            let onion = vec![number; 1092];
            net.say(
                0,
                1,
                SPI + ms * 100 + u32::from(number),
                Message::Create { ah: AH_SPI, onion },
            );
        }
        net.run_ms(1);
        let snapshot = net.snapshot(1);
        assert!(snapshot.waiting <= OPENINGS_WAITING_PER_NEIGHBOUR + 1 && snapshot.opening <= OPENINGS_AT_A_TIME);
        assert!(snapshot.pvts.iter().all(|pvt| pvt.pending <= PENDING_REQUESTS));
        if let Some(flow) = flows.get(ms as usize / 50).filter(|_| ms % 50 == 0) {
            net.send(flow);
        }
        let begun = &flows[..(ms as usize / 50 + 1).min(flows.len())];
        for flow in begun.iter().filter(|flow| !net.path(flow).is_empty()) {
            if !arrived.contains(flow) {
                arrived.push(*flow);
                let began = began.plus(50 * MS * (arrived.len() as u64 - 1));
                let took = net.now.since(began) / MS;
                assert!(
                    took <= 2 * OPENINGS_AT_A_TIME as u64 + 40,
                    "flow {} took {took} ms",
                    arrived.len()
                );
            }
        }
        net.captured.clear();
    }
    net.run_ms(200);
    for flow in &flows {
        assert_eq!(net.path(flow), [3, 1, 2], "every other neighbour's flow stands");
    }
    let (counts, snapshot) = (*net.node(1).counts(), net.snapshot(1));
    assert_eq!(snapshot.pvts[2].opened, 20);
    let [flood, others] = [0, 2].map(|at: usize| snapshot.pvts[at].opened);
    // What the opener did in 1.2 s, and not one more: the flood had what the others left.
    assert!((1150..=1300).contains(&(flood + others)), "{flood} + {others}");
    let turned_away = counts.refused.of(Reason::ResourceLimit);
    let unauthentic = counts.refused.of(Reason::ProtocolError);
    assert!(counts.queue_full > 0 && counts.queue_full <= turned_away);
    let left = (snapshot.waiting + snapshot.opening) as u64;
    assert_eq!(
        turned_away + unauthentic + left,
        100_000,
        "every CREATE is accounted for"
    );
    net.run_ms(5_000);
    assert_eq!(waiting(&mut net), (0, 0));
    net.settle();
}
