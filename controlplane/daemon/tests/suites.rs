//! Line 2: the creating signal in every suite, and in as many datagrams as it takes. A network in memory, with the keys and the
//! cryptography of the daemon.

#[path = "../../tests/net/mod.rs"]
mod net;

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use ain_controlplane::limits::{HALF_RECEIVED_MEMORY, HALF_RECEIVED_PER_NEIGHBOUR};
use ain_controlplane::signal::create::{CreateError, FlowToken, HopSpec, Next, Terms, build, peel};
use ain_controlplane::signal::destroy::Reason;
use ain_controlplane::signal::frame::{Frame, Kind, Message, Signal};
use ain_controlplane::signal::suite::OnionPrivateKey;
use ain_daemon::onion_key::{generate, kem, load};
use net::{AH_SPI, FOUL, MS, Net, Plan, id, sender};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use zeroize::Zeroizing;

/// Suite, bytes of its onion, datagrams of its CREATE.
const SUITES: [(u8, usize, usize); 4] = [(1, 2436, 2), (2, 3204, 3), (3, 1092, 1), (4, 7620, 6)];
const NODES: usize = 6;

/// Key files of every suite's nodes.
static KEYS: LazyLock<Vec<Vec<Zeroizing<Vec<u8>>>>> = LazyLock::new(|| {
    let of_suite = |suite: u8| (0..NODES).map(|_| generate(suite).unwrap()).collect();
    SUITES.map(|(suite, ..)| of_suite(suite)).into()
});

fn key<const SUITE: u8>(node: usize) -> OnionPrivateKey {
    load(SUITE, &KEYS[usize::from(SUITE) - 1][node]).unwrap()
}

fn keys(suite: u8) -> fn(usize) -> OnionPrivateKey {
    [key::<1>, key::<2>, key::<3>, key::<4>][usize::from(suite) - 1]
}

fn chain(suite: u8, nodes: usize, seed: u64) -> Net {
    let mut plan = Plan::chain(nodes);
    (plan.kem, plan.onion_key) = (kem(suite).unwrap(), keys(suite));
    Net::new(plan, seed)
}

/// A creating signal for node 1, in its datagrams.
fn create(net: &mut Net, spi: u32, message_id: u32) -> Vec<Vec<u8>> {
    net.forged += 1;
    let message = Message::Create {
        ah: AH_SPI,
        onion: net.onion(&[1, 2]),
    };
    let signal = Signal {
        spi,
        message_id,
        message,
    };
    let frame = Frame::new((Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)), 1408);
    frame.encode_all(&signal, &mut ChaCha12Rng::seed_from_u64(9)).unwrap()
}

#[test]
fn line_2_five_hops_open_their_layers_in_every_suite() {
    let rng = &mut ChaCha12Rng::seed_from_u64(3);
    for (suite, bytes, _) in SUITES {
        let keys: Vec<_> = (0..5).map(keys(suite)).collect();
        let hops: Vec<_> = (0..5)
            .zip(&keys)
            .map(|(node, key)| HopSpec {
                id: id(node),
                onion_key: key.public(),
                created: 1000,
                ticket: None,
            })
            .collect();
        let terms = Terms {
            profile: 0,
            expires: 0,
            flow_token: FlowToken::random(rng),
        };
        let (mut onion, secrets) = build(&kem(suite).unwrap(), &hops, &terms, rng).unwrap();
        for (at, (key, secrets)) in keys.iter().zip(&secrets).enumerate() {
            assert_eq!(onion.len(), bytes);
            // Version, suite, encapsulation at both ends, mac, beta: a bad one looks like any other.
            let kem_ct = key.suite().kem_ct;
            for byte in [0, 1, 4, 3 + kem_ct, 4 + kem_ct, 20 + kem_ct, bytes - 1] {
                onion[byte] ^= 1;
                assert_eq!(
                    peel(&onion, key).err(),
                    Some(CreateError::Unauthentic),
                    "suite {suite} byte {byte}"
                );
                onion[byte] ^= 1;
            }
            assert!(peel(&onion, &keys[(at + 1) % 5]).is_err());
            let peeled = peel(&onion, key).unwrap();
            assert_eq!(peeled.keys.suite, suite);
            assert_eq!(peeled.keys.forward, secrets.data.forward);
            match peeled.next {
                Next::Relay { onion: next, .. } => onion = next,
                Next::Exit { .. } => assert_eq!(at, 4),
            }
        }
    }
}

#[test]
fn line_2_every_suite_carries_flows_in_packets_of_one_size() {
    for (suite, _, datagrams) in SUITES {
        let mut net = chain(suite, 4, 11);
        net.captured.clear();
        net.send_until_arrival(&sender(0, 3, 1), 1000).expect("it stands");
        for (from, to) in [(0, 1), (1, 2), (2, 3)] {
            let sent = net
                .captured
                .iter()
                .filter(|(a, b, bytes)| (*a, *b, bytes[28]) == (from, to, 0));
            assert_eq!(sent.count(), datagrams, "suite {suite}");
        }
        net.settle();
    }
}

#[test]
fn line_2_parts_are_lost_repeated_and_reordered() {
    for (suite, seed) in [(1, 1), (2, 2), (4, 3), (4, 4)] {
        let mut net = chain(suite, 3, seed);
        net.weather = FOUL;
        for number in 1..6 {
            net.send_until_arrival(&sender(0, 2, number), 60_000)
                .expect("in the end");
        }
        let counts = net.node(1).counts();
        assert!(counts.parts > 0 && counts.malformed == 0 && counts.repeated > 0);
        net.settle();
    }
}

#[test]
fn line_2_parts_of_two_sendings_make_one_create() {
    let mut net = chain(4, 3, 5);
    let parts = create(&mut net, 0x5000, 77);
    for at in [0, 2, 4] {
        net.hear(0, 1, &parts[at]);
    }
    assert_eq!(net.snapshot(1).half_received, 1);
    net.run_ms(500);
    for at in [5, 4, 3, 1] {
        net.hear(0, 1, &parts[at]);
    }
    assert_eq!(net.node(1).counts().sent.of(Kind::Create), 1);
    let acks = net.node(1).counts().sent.of(Kind::Ack);
    parts.iter().for_each(|part| net.hear(0, 1, part));
    let counts = *net.node(1).counts();
    assert_eq!(counts.sent.of(Kind::Create), 1, "a repetition changes nothing");
    assert_eq!(
        (counts.repeated, counts.sent.of(Kind::Ack)),
        (6, acks + 6),
        "and is ACKed"
    );
    // The same onion under another number is a replay.
    let mut again = create(&mut net, 0x5001, 78);
    for (part, first) in again.iter_mut().zip(&parts) {
        part[40..].copy_from_slice(&first[40..]);
        part[26..28].fill(0);
    }
    again.iter().for_each(|part| net.hear(0, 1, part));
    assert_eq!(net.node(1).counts().refused.of(Reason::ReplayedCreate), 1);
    net.settle();
}

#[test]
fn line_2_hostile_parts_are_counted_and_harmless() {
    let mut net = chain(2, 3, 6);
    // First parts of signals that never go on.
    let most = HALF_RECEIVED_PER_NEIGHBOUR as u32;
    for number in 0..3 * most {
        let mut first = create(&mut net, 0x5000, 1).remove(0);
        first[36..40].copy_from_slice(&(0x1000 + number).to_be_bytes());
        first[26..28].fill(0);
        net.hear(0, 1, &first);
        assert!(net.snapshot(1).half_received <= HALF_RECEIVED_PER_NEIGHBOUR);
    }
    assert_eq!(net.snapshot(1).never_whole, u64::from(2 * most));
    // One about another TVT, one of another count, one that cannot be.
    let parts = create(&mut net, 0x6000, 5);
    net.hear(0, 1, &parts[0]);
    for (at, byte) in [(32, 7), (29, 0x13), (29, 0x32)] {
        let mut bad = parts[1].clone();
        bad[at] = byte;
        bad[26..28].fill(0);
        net.hear(0, 1, &bad);
    }
    assert_eq!(net.node(1).counts().malformed, 3);
    parts.iter().for_each(|part| net.hear(0, 1, part));
    assert_eq!(net.node(1).counts().sent.of(Kind::Create), 1, "what is good goes on");
    net.run_ms(HALF_RECEIVED_MEMORY / MS + 1100);
    assert_eq!(net.snapshot(1).half_received, 0);
    net.send_until_arrival(&sender(0, 2, 1), 1000)
        .expect("nobody else was hurt");
    net.settle();
}
