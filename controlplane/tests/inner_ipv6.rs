//! IPv6 inside (issue 4, line 1) and what is too long (line 5): over chains of AINs that speak IPv4 or IPv6 outside, beside flows of
//! IPv4.

mod crypto;
mod sim;

use std::net::{IpAddr, Ipv6Addr};

use ain_controlplane::action::Verdict;
use ain_dataplane::packet::PacketBuf;
use ain_dataplane::verdict::DropReason;
use ain_dataplane::wire::ah::Family;
use ain_dataplane::wire::checksum::transport_ipv6;
use ain_dataplane::wire::ip::Ip;
use ain_dataplane::wire::ipv4::refresh_checksum;
use ain_dataplane::wire::ipv6::{Ipv6, Ipv6Header};
use sim::chain::{Chain, Heard, Plan, aivt, ends, initiator, pair_v6, responder, shown_v6};
use sim::{Buf, GMAC, GMAC_V6, HMAC, HMAC_V6, datagram, datagram_v6, outer_of};
use zerocopy::IntoBytes;

fn answers_to(source: Ipv6Addr) -> (Ipv6Addr, Ipv6Addr) {
    (pair_v6(0).1, source)
}

/// An ICMPv6 error: (source, destination), type and code, MTU, quoted bytes; the checksum is right.
fn icmpv6(bytes: &[u8]) -> ((Ipv6Addr, Ipv6Addr), [u8; 2], u32, Vec<u8>) {
    let ip = Ipv6::parse(bytes).unwrap();
    let message = ip.payload();
    assert_eq!(ip.next_header(), 58);
    assert_eq!(transport_ipv6(ip.source(), ip.destination(), 58, message), 0);
    let rest = u32::from_be_bytes(message[4..8].try_into().unwrap());
    let between = (ip.source(), ip.destination());
    (between, [message[0], message[1]], rest, message[8..].to_vec())
}

/// A UDP datagram with a right checksum, behind a header of destination options.
fn udp(between: (Ipv6Addr, Ipv6Addr), hop_limit: u8, content: &[u8]) -> Vec<u8> {
    let len = (8 + content.len()) as u16;
    let mut udp = [&[0x30, 0x39, 0, 53][..], &len.to_be_bytes(), &[0; 2], content].concat();
    let sum = transport_ipv6(between.0, between.1, 17, &udp);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let options = [17, 0, 1, 4, 0, 0, 0, 0];
    let mut header = Ipv6Header::plain(between.0, between.1, 60, (options.len() + udp.len()) as u16);
    header.hop_limit = hop_limit;
    [header.as_bytes(), &options, &udp].concat()
}

#[test]
fn line_1_ipv6_crosses_whatever_is_outside() {
    for (suite, ains) in [(GMAC, 2), (GMAC_V6, 3), (HMAC_V6, 6), (HMAC, 3)] {
        for private in [false, true] {
            let mut chain = Chain::new(Plan {
                shown: private,
                ..Plan::new(ains, suite)
            });
            let last = chain.responder();
            let (own, to) = pair_v6(0);
            let from = if private { shown_v6(0) } else { own };
            chain.send(1, &[udp((own, to), 64, b"question"), udp((own, to), 2, b"another")]);
            let arrived = [udp((from, to), 63, b"question"), udp((from, to), 1, b"another")];
            assert_eq!(chain.delivered(last), arrived);
            chain.send(last, &[udp(answers_to(from), 64, b"answer")]);
            assert_eq!(chain.delivered(1), [udp(answers_to(own), 63, b"answer")]);
            chain.assert_no_drops();
        }
    }
}

#[test]
fn line_1_flows_of_both_families_share_a_tunnel() {
    let mut chain = Chain::new(Plan {
        flows: 2,
        ..Plan::new(3, GMAC_V6)
    });
    let last = chain.responder();
    let v4 = |ttl, fill| datagram(initiator(1), responder(1), ttl, 700, fill);
    let v6 = |hops, fill| datagram_v6(pair_v6(0), hops, 700, fill);
    let burst: Vec<_> = (0..20).flat_map(|fill| [v4(64, fill), v6(64, fill)]).collect();
    let seen = chain.send(1, &burst);
    let (sixes, fours): (Vec<_>, Vec<_>) = chain.delivered(last).into_iter().partition(|bytes| bytes[0] >> 4 == 6);
    assert_eq!(fours, (0..20).map(|fill| v4(63, fill)).collect::<Vec<_>>());
    assert_eq!(sixes, (0..20).map(|fill| v6(63, fill)).collect::<Vec<_>>());
    assert_eq!(chain.sizes_between_ains(&seen).len(), 1);
    chain.assert_no_drops();
}

/// The entrance has an address of its own to speak with where both families are the same; else it speaks as the destination.
#[test]
fn line_1_hop_limit_ends_at_the_entrance() {
    for suite in [GMAC_V6, GMAC] {
        let mut chain = Chain::new(Plan::new(3, suite));
        let (own, to) = pair_v6(0);
        for hops in [1, 0] {
            let dying = datagram_v6((own, to), hops, 60, 6);
            chain.send(1, std::slice::from_ref(&dying));
            let from = match outer_of(2, suite.family) {
                IpAddr::V6(entrance) => entrance,
                IpAddr::V4(_) => to,
            };
            let answer = chain.delivered(1).pop().unwrap();
            assert_eq!(icmpv6(&answer), ((from, own), [3, 0], 0, dying));
        }
        assert_eq!(chain.machine(2).all_drops(), [(DropReason::TtlExceeded, 2)]);
    }
}

/// The exit answers as the responder, the entrance as the initiator that the responder knows; neither cuts.
#[test]
fn line_5_ipv6_too_big_for_a_hosts_tunnel() {
    for private in [false, true] {
        let mut chain = Chain::new(Plan {
            inner_mtu: 1300,
            shown: private,
            ..Plan::new(3, GMAC)
        });
        let last = chain.responder();
        let (own, to) = pair_v6(0);
        let from = if private { shown_v6(0) } else { own };
        let big = udp((own, to), 64, &[7; 2000]);
        chain.send(1, std::slice::from_ref(&big));
        let (between, kind, mtu, quoted) = icmpv6(&chain.delivered(1).pop().unwrap());
        assert_eq!((between, kind, mtu), ((to, own), [2, 0], 1300));
        // As the initiator sent it, one hop later: as much as 1280 bytes hold.
        assert_eq!(quoted, udp((own, to), 63, &[7; 2000])[..1232]);
        assert_eq!(chain.machine(4).all_drops(), [(DropReason::TooBig, 1)]);
        chain.send(1, &[udp((own, to), 64, &[7; 1244])]);
        assert_eq!(
            chain.delivered(last),
            [udp((from, to), 63, &[7; 1244])],
            "1300 bytes fit"
        );
        let big = udp(answers_to(from), 64, &[8; 2000]);
        chain.send(last, std::slice::from_ref(&big));
        let (between, kind, mtu, quoted) = icmpv6(&chain.delivered(last).pop().unwrap());
        assert_eq!((between, kind, mtu), ((from, to), [2, 0], 1300));
        assert_eq!(quoted, big[..1232]);
    }
}

#[test]
fn line_5_nine_thousand_bytes_of_either_family_span_cells() {
    for suite in [GMAC, GMAC_V6] {
        let mut chain = Chain::new(Plan {
            flows: 2,
            ..Plan::new(3, suite)
        });
        let last = chain.responder();
        let (own, to) = pair_v6(0);
        let sent = |ttl| {
            vec![
                datagram_v6((own, to), ttl, 9000, 1),
                datagram(initiator(1), responder(1), ttl, 9000, 2),
            ]
        };
        let seen = chain.send(1, &sent(64));
        assert_eq!(chain.delivered(last), sent(63));
        let back = |ttl| {
            vec![
                datagram_v6((to, own), ttl, 9000, 3),
                datagram(responder(1), initiator(1), ttl, 9000, 4),
            ]
        };
        chain.send(last, &back(64));
        assert_eq!(chain.delivered(1), back(63));
        assert_eq!(chain.sizes_between_ains(&seen).len(), 1, "as small ones");
        chain.assert_no_drops();
    }
}

#[test]
fn line_1_a_refused_flow_is_told_so() {
    let mut chain = Chain::new(Plan::new(3, GMAC_V6));
    chain.refuses = true;
    let (own, to) = pair_v6(0);
    chain.send(1, &[udp((own, to), 64, &[8; 60])]);
    let verdict = Heard::Verdict(aivt(0), Verdict::ExitRefused as u8);
    assert_eq!(chain.heard, [(2, verdict)]);
    let (between, kind, _, quoted) = icmpv6(&chain.delivered(1).pop().unwrap());
    assert_eq!((IpAddr::from(between.0), between.1), (outer_of(2, GMAC_V6.family), own));
    assert_eq!(kind, [1, 1]);
    let sent = udp((own, to), 63, &[8; 60]);
    assert_eq!(quoted, sent[..80], "headers, ports and some more");
    assert!(Ip::parse(&chain.delivered(5).concat()).is_err(), "nothing came through");
}

/// With a source of its own, a flow carries no AH and no routing header; with the initiator's it carries all.
#[test]
fn line_1_what_cannot_be_rewritten_is_dropped() {
    for private in [false, true] {
        let mut chain = Chain::new(Plan {
            shown: private,
            ..Plan::new(3, GMAC_V6)
        });
        let (own, to) = pair_v6(0);
        let with = |kind, len: u8| {
            let extension = [&[59, len][..], &[0; 22]].concat();
            let mut header = Ipv6Header::plain(own, to, kind, 24);
            header.hop_limit = 63;
            [header.as_bytes(), &extension].concat()
        };
        let (ah, routing) = (with(51, 4), with(43, 2));
        let mut sent = [ah.clone(), routing.clone()];
        sent.iter_mut().for_each(|bytes| bytes[7] = 64);
        chain.send(1, &sent);
        let last = chain.responder();
        let arrived = chain.delivered(last);
        if private {
            assert_eq!(arrived.len(), 0);
            assert_eq!(chain.machine(2).all_drops(), [(DropReason::NotRewritable, 2)]);
        } else {
            assert_eq!(arrived, [ah, routing]);
        }
    }
}

/// Every packet is marked on its way, as a router or somebody else could: what is inside comes out as it was sent, and nothing of it
/// shows outside.
#[test]
fn line_5_dscp_and_ecn_stay_inside() {
    for suite in [GMAC, GMAC_V6] {
        let mut chain = Chain::new(Plan {
            flows: 2,
            ..Plan::new(3, suite)
        });
        let marked = |ttl| {
            let mut four = datagram(initiator(1), responder(1), ttl, 100, 1);
            four[1] = 0xba;
            refresh_checksum(&mut four).unwrap();
            let mut six = datagram_v6(pair_v6(0), ttl, 100, 2);
            six[..4].copy_from_slice(&[0x6b, 0xa5, 0x43, 0x21]);
            vec![four, six]
        };
        let now = chain.now;
        chain
            .machine(1)
            .send(now, marked(64).iter().map(|bytes| Buf::of(bytes)));
        let last = chain.responder();
        let mut seen = 0;
        loop {
            chain.control();
            let moving: Vec<Buf> = chain
                .machines
                .values_mut()
                .flat_map(|m| m.io.frames.drain(..))
                .collect();
            if moving.is_empty() {
                break;
            }
            for mut frame in moving {
                let to = ends(&frame).1;
                let outer = &mut frame.data_mut()[14..];
                if suite.family == Family::V4 {
                    assert_eq!(outer[1], 0);
                    outer[1] = 0x03;
                    refresh_checksum(outer).unwrap();
                } else {
                    assert_eq!(outer[..4], [0x60, 0, 0, 0]);
                    outer[..4].copy_from_slice(&[0x60, 0x30, 0, 7]);
                }
                chain.machine(to).receive(now, 0, [frame]);
                seen += 1;
            }
        }
        assert!(seen >= 6, "{seen} packets");
        let mut arrived = chain.delivered(last);
        arrived.sort();
        assert_eq!(arrived, marked(63));
        chain.assert_no_drops();
    }
}
