//! The NAT of one worker, and of several beside each other.

mod fragments;
mod ipv6;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;

use super::policy::Rule;
use super::*;
use crate::icmp::{self, Problem};
use crate::wire::checksum::transport_ipv4;
use crate::wire::ip::Ip;
use crate::wire::ipv4::{self, Ipv4Fields, write_header};

const SERVER: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
const ROUTER: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const INNER: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);

fn settings(workers: u8) -> Settings {
    let all: Vec<Rule> = ["0.0.0.0/0", "::/0"]
        .map(|prefix| Rule {
            prefix: prefix.parse::<IpNet>().unwrap(),
            protocol: None,
            ports: None,
        })
        .into();
    let mail = Rule {
        ports: Some(25..=25),
        ..all[0].clone()
    };
    Settings {
        pool: Pool::new(
            ["203.0.113.64", "203.0.113.65", "2001:db8::64"].map(|one| one.parse().unwrap()),
            &(1024..=65535),
            workers,
        ),
        policy: Policy {
            allow: all,
            refuse: vec![mail],
            ..Policy::default()
        },
        limits: Limits {
            mappings_per_aivt: 64,
            new_mappings_per_s: 1000,
            packets_per_s: 100_000,
            mappings_per_worker: 10_000,
            held_ports_per_worker: 10_000,
        },
        timeouts: Timeouts::default(),
    }
}

fn nat_of(me: u8, settings: Settings) -> Nat {
    Nat::new(WorkerId(me), Arc::new(settings), 100, [7 + me; 32])
}

fn nat() -> Nat {
    nat_of(0, settings(1))
}

fn pair(source: Ipv4Addr) -> Pair {
    Pair {
        source: source.into(),
        destination: SERVER.into(),
    }
}

/// An IPv4 datagram whose checksums are right.
fn datagram(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, mut segment: Vec<u8>) -> Vec<u8> {
    let sum_at = match protocol {
        6 => Some(16),
        17 => Some(6),
        _ => Some(2),
    };
    if let Some(at) = sum_at {
        segment[at..at + 2].fill(0);
        let sum = match protocol {
            1 => checksum(&segment),
            _ => transport_ipv4(source, destination, protocol, &segment),
        };
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    let mut bytes = vec![0; 20];
    let total = 20 + segment.len() as u16;
    write_header(
        bytes.first_chunk_mut().unwrap(),
        &Ipv4Fields::outer(source, destination, protocol, total),
    );
    bytes.extend(segment);
    bytes
}

fn udp(source: Ipv4Addr, destination: Ipv4Addr, ports: (u16, u16)) -> Vec<u8> {
    let mut segment = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), [0, 13], [0, 0]].concat();
    segment.extend(b"hello");
    datagram(source, destination, 17, segment)
}

fn tcp(source: Ipv4Addr, destination: Ipv4Addr, ports: (u16, u16), flags: u8) -> Vec<u8> {
    let mut segment = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0, 42]);
    datagram(source, destination, 6, segment)
}

fn echo(source: Ipv4Addr, destination: Ipv4Addr, kind: u8, identifier: u16) -> Vec<u8> {
    let mut segment = vec![kind, 0, 0, 0];
    segment.extend(identifier.to_be_bytes());
    segment.extend([0, 1, 99]);
    datagram(source, destination, 1, segment)
}

fn ends(bytes: &[u8]) -> (Ipv4Addr, Ipv4Addr, u16, u16) {
    let ip = Ipv4::parse(bytes).expect("header checksum");
    let sum = match ip.protocol() {
        1 => checksum(ip.payload()),
        _ => transport_ipv4(ip.source(), ip.destination(), ip.protocol(), ip.payload()),
    };
    assert_eq!(sum, 0, "transport checksum");
    let found = locate(bytes).unwrap();
    (ip.source(), ip.destination(), found.source, found.destination)
}

/// The number of a NAT's first session.
const FIRST: u32 = 0;

/// An AIVT of a flow of its own.
fn begin(nat: &mut Nat, flow: u32, pair: Pair) -> Option<u32> {
    nat.begin(Now(1), flow, pair, FlowTag([flow as u8; 16]))
}

/// Sends `bytes` out through the first session and returns the address and port that it shows.
fn out(nat: &mut Nat, now: Now, mut bytes: Vec<u8>) -> Result<(Ipv4Addr, u16), DropReason> {
    let before = ends(&bytes);
    nat.outbound(now, FIRST, &mut bytes)?;
    let after = ends(&bytes);
    assert_eq!(after.1, before.1);
    Ok((after.0, after.2))
}

#[test]
fn line_9_there_and_back() {
    let mut nat = nat();
    assert_eq!(begin(&mut nat, 1, pair(INNER)), Some(FIRST));
    let (address, port) = out(&mut nat, Now(1), udp(INNER, SERVER, (5000, 53))).unwrap();
    assert!(nat.settings().pool.find(address.into()).is_some());
    let mut answer = udp(SERVER, address, (53, port));
    assert_eq!(nat.inbound(Now(2), &mut answer), Ok(1));
    assert_eq!(ends(&answer), (SERVER, INNER, 53, 5000));

    let (address, port) = out(&mut nat, Now(3), tcp(INNER, SERVER, (5000, 80), SYN)).unwrap();
    let mut answer = tcp(SERVER, address, (80, port), SYN | ACK);
    assert_eq!(nat.inbound(Now(4), &mut answer), Ok(1));
    assert_eq!(ends(&answer), (SERVER, INNER, 80, 5000));

    let (address, identifier) = out(&mut nat, Now(5), echo(INNER, SERVER, 8, 77)).unwrap();
    let mut answer = echo(SERVER, address, 0, identifier);
    assert_eq!(nat.inbound(Now(6), &mut answer), Ok(1));
    assert_eq!(ends(&answer), (SERVER, INNER, 77, 77));
    assert_eq!((nat.in_use(), nat.made()), ([3, 1], Made { made: 3, ended: 0 }));
}

const SYN: u8 = 2;
const ACK: u8 = 16;
const FIN: u8 = 1;
const RST: u8 = 4;

/// RFC 4787 REQ-1 and REQ-2: one external endpoint for all destination ports, one address for all ports.
#[test]
fn line_9_mapping_is_endpoint_independent_within_an_aivt() {
    let mut nat = nat();
    begin(&mut nat, 1, pair(INNER));
    let one = out(&mut nat, Now(1), udp(INNER, SERVER, (5000, 53))).unwrap();
    assert_eq!(out(&mut nat, Now(1), udp(INNER, SERVER, (5000, 443))).unwrap(), one);
    let other = out(&mut nat, Now(1), udp(INNER, SERVER, (5001, 53))).unwrap();
    assert_eq!(other.0, one.0);
    assert_ne!(other.1, one.1);
    assert_eq!(nat.in_use()[0], 2);
}

/// RFC 4787 REQ-8: nobody but the destination gets through, and nothing that was not asked for.
#[test]
fn line_9_filtering_is_address_dependent() {
    let mut nat = nat();
    begin(&mut nat, 1, pair(INNER));
    let (address, port) = out(&mut nat, Now(1), udp(INNER, SERVER, (5000, 53))).unwrap();
    let mut from_elsewhere_on_the_server = udp(SERVER, address, (9999, port));
    assert_eq!(nat.inbound(Now(2), &mut from_elsewhere_on_the_server), Ok(1));
    for mut stranger in [
        udp(ROUTER, address, (53, port)),
        udp(SERVER, address, (53, port ^ 1)),
        tcp(SERVER, address, (53, port), SYN),
        echo(SERVER, address, 0, port),
        echo(SERVER, address, 8, port),
    ] {
        assert_eq!(nat.inbound(Now(2), &mut stranger), Err(DropReason::OpenExitUnsolicited));
    }
    let [one, other] = [64, 65].map(|last| Ipv4Addr::new(203, 0, 113, last));
    let mut to_the_other_address = udp(SERVER, if address == one { other } else { one }, (53, port));
    assert_eq!(
        nat.inbound(Now(2), &mut to_the_other_address),
        Err(DropReason::OpenExitUnsolicited)
    );
}

fn about(original: &[u8], from: Ipv4Addr, problem: Problem) -> Vec<u8> {
    let mut bytes = [0; icmp::MAX_ERROR];
    let original = Ip::parse(original).unwrap();
    let len = icmp::error(problem, &original, from.into(), &mut bytes).unwrap();
    bytes[..len].to_vec()
}

/// RFC 5508 section 4.2: what a router says about a packet of an AIVT reaches its initiator, as if the destination said it.
#[test]
fn line_9_icmp_errors_come_back_translated() {
    for original in [
        udp(INNER, SERVER, (5000, 53)),
        tcp(INNER, SERVER, (5000, 53), SYN),
        echo(INNER, SERVER, 8, 5000),
    ] {
        for (from, problem) in [(ROUTER, Problem::TooBig(1280)), (SERVER, Problem::TtlExceeded)] {
            let mut nat = nat();
            begin(&mut nat, 1, pair(INNER));
            let mut sent = original.clone();
            nat.outbound(Now(1), FIRST, &mut sent).unwrap();
            let mut error = about(&sent, from, problem);
            assert_eq!(nat.inbound(Now(2), &mut error), Ok(1));
            let mut carried = original.clone();
            carried[4..6].copy_from_slice(&sent[4..6]); // the identification is the exit's, and tells the hosts nothing
            ipv4::refresh_checksum(&mut carried).unwrap();
            assert_eq!(error, about(&carried, SERVER, problem), "as if about the original");
            let mut broken = about(&sent, from, problem);
            *broken.last_mut().unwrap() ^= 1;
            assert_eq!(nat.inbound(Now(2), &mut broken), Err(DropReason::Malformed));
        }
    }
}

#[test]
fn line_9_icmp_errors_about_nothing_of_ours_are_dropped() {
    let mut nat = nat();
    begin(&mut nat, 1, pair(INNER));
    let mut sent = udp(INNER, SERVER, (5000, 53));
    nat.outbound(Now(1), FIRST, &mut sent).unwrap();
    let (address, _, port, _) = ends(&sent);
    for original in [
        udp(address, ROUTER, (port, 53)),
        udp(address, SERVER, (port ^ 1, 53)),
        tcp(address, SERVER, (port, 53), 0),
    ] {
        let mut error = about(&original, ROUTER, Problem::TtlExceeded);
        assert_eq!(nat.inbound(Now(2), &mut error), Err(DropReason::OpenExitUnsolicited));
    }
}

#[test]
fn line_9_refusals() {
    let mut nat = nat();
    begin(&mut nat, 1, pair(INNER));
    let mut fragment = udp(INNER, SERVER, (5000, 53));
    fragment[7] = 1;
    ipv4::refresh_checksum(&mut fragment).unwrap();
    let mut gre = udp(INNER, SERVER, (5000, 53));
    gre[9] = 47;
    ipv4::refresh_checksum(&mut gre).unwrap();
    for (mut bytes, why) in [
        (tcp(INNER, SERVER, (5000, 25), SYN), DropReason::OpenExitPolicy),
        (echo(INNER, SERVER, 0, 7), DropReason::OpenExitPolicy),
        (gre, DropReason::OpenExitPolicy),
        (fragment, DropReason::OpenExitFragment),
        (vec![0x45; 19], DropReason::InnerMalformed),
    ] {
        let before = bytes.clone();
        assert_eq!(nat.outbound(Now(1), FIRST, &mut bytes), Err(why));
        assert_eq!(bytes, before, "unchanged, to be quoted");
    }
    assert_eq!(
        nat.outbound(Now(1), 2, &mut udp(INNER, SERVER, (5000, 53))),
        Err(DropReason::Gone)
    );
    assert_eq!(nat.in_use()[0], 0, "what is refused takes no port");
    out(&mut nat, Now(1), tcp(INNER, SERVER, (5000, 80), SYN)).unwrap();
    let known = out(&mut nat, Now(1), tcp(INNER, SERVER, (5000, 25), SYN));
    assert_eq!(known, Err(DropReason::OpenExitPolicy), "a mapping opens no other port");
}

#[test]
fn line_9_an_aivt_takes_so_much_and_no_more() {
    let mut settings = settings(1);
    settings.limits = Limits {
        mappings_per_aivt: 5,
        new_mappings_per_s: 3,
        packets_per_s: 20,
        mappings_per_worker: 10_000,
        held_ports_per_worker: 10_000,
    };
    let mut nat = nat_of(0, settings);
    begin(&mut nat, 1, pair(INNER));
    let mut ports = 5000..;
    let mut more = |nat: &mut Nat, second: u64| {
        let sent = (0..4).map(|_| {
            out(
                nat,
                Now(second * Now::SECOND + 1),
                udp(INNER, SERVER, (ports.next().unwrap(), 53)),
            )
        });
        sent.filter(|sent| *sent != Err(DropReason::OpenExitMappings)).count()
    };
    assert_eq!([1, 2, 3].map(|second| more(&mut nat, second)), [3, 2, 0]);
    let later = Now(4 * Now::SECOND + 1);
    let sent = (0..30).map(|_| out(&mut nat, later, udp(INNER, SERVER, (5000, 53))));
    assert_eq!(sent.filter(|sent| *sent == Err(DropReason::OpenExitRate)).count(), 10);
    nat.end(later, 1);
    assert_eq!((nat.in_use(), nat.made()), ([5, 0], Made { made: 5, ended: 0 }));
    nat.tick(later.plus(NAT_KEPT_NS));
    assert_eq!((nat.in_use(), nat.made()), ([0, 0], Made { made: 5, ended: 5 }));
}

#[test]
fn line_9_exhausted_ports_are_refused_and_come_free_again() {
    let mut few = settings(1);
    few.pool = Pool::new(["203.0.113.64".parse().unwrap()], &(2000..=2009), 1);
    let mut nat = nat_of(0, few);
    begin(&mut nat, 1, pair(INNER));
    let mut seen = BTreeSet::new();
    for port in 5000..5010 {
        seen.insert(out(&mut nat, Now(1), udp(INNER, SERVER, (port, 53))).unwrap().1);
    }
    assert_eq!(seen, (2000..=2009).collect());
    let full = out(&mut nat, Now(1), udp(INNER, SERVER, (6000, 53)));
    assert_eq!(full, Err(DropReason::OpenExitExhausted));
    assert!(
        out(&mut nat, Now(1), tcp(INNER, SERVER, (6000, 53), SYN)).is_ok(),
        "TCP has ports of its own"
    );
    nat.end(Now(1), 1);
    let other = begin(&mut nat, 2, pair(INNER)).unwrap();
    assert!(
        nat.outbound(Now(1), other, &mut udp(INNER, SERVER, (6000, 53))).is_ok(),
        "what is kept for an AIVT that may come makes room for one that is there"
    );
}

#[test]
fn line_9_no_address_of_the_family() {
    let mut v4 = settings(1);
    v4.pool = Pool::new(["203.0.113.64".parse().unwrap()], &(2000..=2009), 1);
    let mut nat = nat_of(0, v4);
    let six: [IpAddr; 2] = [Ipv6Addr::LOCALHOST.into(), "2620:fe::fe".parse().unwrap()];
    let pair = Pair {
        source: six[0],
        destination: six[1],
    };
    assert_eq!(begin(&mut nat, 1, pair), None);
}

/// Which of the mappings made at 1 s still stand after `minutes`.
fn standing_after(minutes: u64, script: &[(bool, u8)]) -> [bool; 3] {
    let mut nat = nat();
    begin(&mut nat, 1, pair(INNER));
    let start = Now(Now::SECOND);
    let (address, port) = out(&mut nat, start, tcp(INNER, SERVER, (1, 80), SYN)).unwrap();
    for (from_server, flags) in script {
        if *from_server {
            nat.inbound(start, &mut tcp(SERVER, address, (80, port), *flags))
                .unwrap();
        } else {
            out(&mut nat, start, tcp(INNER, SERVER, (1, 80), *flags)).unwrap();
        }
    }
    out(&mut nat, start, udp(INNER, SERVER, (1, 80))).unwrap();
    out(&mut nat, start, echo(INNER, SERVER, 8, 1)).unwrap();
    for _ in 0..10_000 / NAT_PLACES_A_TICK + 1 {
        nat.tick(start.plus(minutes * 60 * Now::SECOND));
    }
    [Protocol::Tcp, Protocol::Udp, Protocol::Echo].map(|protocol| {
        let internal = Internal {
            session: FIRST,
            protocol,
            port: 1,
        };
        nat.mappings.of(internal).is_some()
    })
}

/// RFC 4787 REQ-5, RFC 5382 REQ-5, RFC 5508 REQ-1.
#[test]
fn line_9_timeouts() {
    assert_eq!(standing_after(0, &[]), [true, true, true]);
    assert_eq!(standing_after(1, &[]), [true, true, false]);
    assert_eq!(standing_after(4, &[]), [false, true, false]);
    assert_eq!(standing_after(5, &[]), [false, false, false]);
    let answered = &[(true, SYN | ACK), (false, ACK)][..];
    assert_eq!(standing_after(123, answered), [true, false, false]);
    assert_eq!(standing_after(124, answered), [false, false, false]);
    let half_closed = [answered, &[(true, FIN | ACK)]].concat();
    assert!(standing_after(123, &half_closed)[0]);
    let closed = [&half_closed[..], &[(false, FIN | ACK)]].concat();
    assert_eq!([3, 4].map(|minutes| standing_after(minutes, &closed)[0]), [true, false]);
    let reset = [answered, &[(true, RST)]].concat();
    assert!(!standing_after(4, &reset)[0]);
    let reused = [&reset[..], &[(false, SYN), (true, SYN | ACK)]].concat();
    assert!(standing_after(123, &reused)[0]);
}

#[test]
fn line_9_workers_draw_ports_of_their_own_and_know_each_others() {
    let mut nats = [0, 1, 2].map(|me| nat_of(me, settings(3)));
    for me in 0..3 {
        begin(&mut nats[me], 1, pair(INNER));
        for port in 0..50 {
            let mut sent = udp(INNER, SERVER, (port, 53));
            nats[me].outbound(Now(1), FIRST, &mut sent).unwrap();
            let (address, _, shown, _) = ends(&sent);
            let answer = udp(SERVER, address, (53, shown));
            let error = about(&sent, ROUTER, Problem::TtlExceeded);
            for nat in &nats {
                assert_eq!(nat.owner(&answer), Some(WorkerId(me as u8)));
                assert_eq!(nat.owner(&error), Some(WorkerId(me as u8)));
            }
        }
    }
    assert_eq!(nats[0].owner(&udp(SERVER, ROUTER, (53, 2000))), None);
    assert_eq!(nats[0].owner(&[]), None);
}

#[test]
fn line_9_fragmentable_datagrams_get_identifications_of_their_own() {
    let mut nat = nat();
    begin(&mut nat, 1, pair(INNER));
    let identifications: BTreeSet<u16> = (0..20)
        .map(|_| {
            let mut bytes = udp(INNER, SERVER, (5000, 53));
            bytes[6] = 0;
            ipv4::refresh_checksum(&mut bytes).unwrap();
            nat.outbound(Now(1), FIRST, &mut bytes).unwrap();
            Ipv4::parse(&bytes).unwrap().id()
        })
        .collect();
    assert!(identifications.len() > 15);
}

#[derive(Clone, Debug)]
enum Step {
    Begin(u32),
    End(u32),
    Send(u32, u8, bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u32..4).prop_map(Step::Begin),
        (0u32..4).prop_map(Step::End),
        (0u32..4, 0u8..20, any::<bool>()).prop_map(|(flow, port, tcp)| Step::Send(flow, port, tcp)),
        (0u64..200).prop_map(Step::Wait),
    ]
}

fn inner(flow: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, flow as u8 + 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, rng_seed: proptest::test_runner::RngSeed::Fixed(4787), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, mappings are a bijection, answers go where the question came from, and nothing is left behind.
    #[test]
    fn line_9_mappings_are_a_bijection(steps in prop::collection::vec(step(), 1..200)) {
        let mut few = settings(1);
        few.pool = Pool::new(["203.0.113.64".parse().unwrap()], &(3000..=3029), 1);
        few.limits.mappings_per_aivt = 12;
        let mut nat = nat_of(0, few);
        let mut now = Now(1);
        let mut shown: BTreeMap<(u8, u16), (u32, u16)> = BTreeMap::new();
        let mut sessions = [None; 4];
        for (at, step) in (0u8..).zip(steps) {
            match step {
                Step::Begin(flow) => {
                    sessions[flow as usize] = nat.begin(now, flow, pair(inner(flow)), FlowTag([at; 16]));
                    shown.retain(|_, of| of.0 != flow);
                }
                Step::End(flow) => {
                    nat.end(now, flow);
                    sessions[flow as usize] = None;
                    shown.retain(|_, of| of.0 != flow);
                }
                Step::Send(flow, port, is_tcp) => {
                    let (port, to) = (u16::from(port), (u16::from(port), 80));
                    let mut bytes = if is_tcp { tcp(inner(flow), SERVER, to, 2) } else { udp(inner(flow), SERVER, to) };
                    if sessions[flow as usize].is_some_and(|session| nat.outbound(now, session, &mut bytes).is_ok()) {
                        let (_, _, external, _) = ends(&bytes);
                        let key = (bytes[9], external);
                        let before = shown.insert(key, (flow, port));
                        prop_assert!(before.is_none_or(|of| of == (flow, port)), "two behind one port");
                    }
                }
                Step::Wait(seconds) => {
                    now = now.plus(seconds * Now::SECOND);
                    (0..100).for_each(|_| nat.tick(now));
                    // What has timed out is told by asking.
                    let address = Ipv4Addr::new(203, 0, 113, 64);
                    shown.retain(|(protocol, external), _| {
                        let to = (80, *external);
                        let mut answer = if *protocol == 6 { tcp(SERVER, address, to, 16) } else { udp(SERVER, address, to) };
                        nat.inbound(now, &mut answer).is_ok()
                    });
                }
            }
            let address = Ipv4Addr::new(203, 0, 113, 64);
            for ((protocol, external), (flow, port)) in &shown {
                let mut answer = if *protocol == 6 { tcp(SERVER, address, (80, *external), 16) } else { udp(SERVER, address, (80, *external)) };
                prop_assert_eq!(nat.inbound(now, &mut answer), Ok(*flow));
                prop_assert_eq!(ends(&answer), (SERVER, inner(*flow), 80, *port));
            }
            prop_assert!(nat.in_use()[0] >= shown.len(), "those of AIVTs that have ended are kept a while");
        }
        (0..4).for_each(|flow| nat.end(now, flow));
        nat.tick(now.plus(NAT_KEPT_NS));
        prop_assert_eq!(nat.in_use(), [0, 0]);
        prop_assert_eq!(nat.made().made, nat.made().ended);
    }

    /// Anything from the Internet: no panic, and what is let in has right checksums.
    #[test]
    fn line_9_any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..120), port: u16, kind in 0..5usize) {
        let mut nat = nat();
        begin(&mut nat, 1, pair(INNER));
        out(&mut nat, Now(1), udp(INNER, SERVER, (port, 53))).unwrap();
        if bytes.len() > 20 {
            bytes[0] = if kind == 4 { 0x60 } else { 0x45 };
            let length = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes[6..8].fill(0);
            bytes[9] = [1, 6, 17, 58, 17][kind];
            let _ = ipv4::refresh_checksum(&mut bytes);
        }
        nat.owner(&bytes);
        let _ = nat.inbound(Now(2), &mut bytes.clone());
        let _ = nat.outbound(Now(2), FIRST, &mut bytes);
    }
}
