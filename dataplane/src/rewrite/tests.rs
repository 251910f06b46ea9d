//! Every checksum is computed from scratch here and compared with the one that was moved along.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::wire::checksum::transport_ipv4;
use crate::wire::ipv4::{Ipv4Fields, refresh_checksum, write_header};

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const DRAWN: Ipv4Addr = Ipv4Addr::new(10, 99, 3, 1);
const RESPONDER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 80);

fn source(datagram: &mut [u8], new: Ipv4Addr) -> Result<(), RewriteError> {
    super::source(datagram, new.into())
}

fn destination(datagram: &mut [u8], new: Ipv4Addr) -> Result<(), RewriteError> {
    super::destination(datagram, new.into())
}

/// Why a datagram gets no source `new`; it stays as it was.
pub(super) fn refused(mut bytes: Vec<u8>, new: IpAddr) -> RewriteError {
    let before = bytes.clone();
    let error = super::source(&mut bytes, new).unwrap_err();
    assert_eq!(bytes, before);
    error
}

/// A datagram with right checksums. `fragment` is (offset in bytes, more).
fn datagram(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8], fragment: (u16, bool)) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    let fields = Ipv4Fields {
        total_len: 20 + payload.len() as u16,
        id: 0x1234,
        dont_fragment: false,
        more_fragments: fragment.1,
        fragment_offset: fragment.0,
        ttl: 61,
        protocol,
        source: from,
        destination: to,
    };
    write_header(bytes.first_chunk_mut().unwrap(), &fields);
    bytes.extend(payload);
    bytes
}

/// A transport segment with its checksum for these addresses.
fn segment(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    if let Some(at) = checksum_place(protocol) {
        set_word(&mut bytes, at, 0);
        let sum = transport_ipv4(from, to, protocol, &bytes);
        set_word(
            &mut bytes,
            at,
            if sum == 0 && protocol == protocol::UDP {
                0xffff
            } else {
                sum
            },
        );
    }
    bytes
}

fn icmp_error(quoted: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 8];
    message.extend(quoted);
    icmp::write(&mut message, icmp::UNREACHABLE, 1, 0).unwrap();
    message
}

/// What `datagram` would make for whole datagrams: source `from` instead of whatever it was.
fn whole(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, content: &[u8]) -> Vec<u8> {
    datagram(from, to, protocol, &segment(from, to, protocol, content), (0, false))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, rng_seed: proptest::test_runner::RngSeed::Fixed(768), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn as_if_sent_from_there(
        content in prop::collection::vec(any::<u8>(), 20..100),
        protocol in prop_oneof![Just(6u8), Just(17), Just(33), Just(136), Just(50), Just(132)],
        old: u32, new: u32, other: u32,
    ) {
        let (old, new, other) = (Ipv4Addr::from(old), Ipv4Addr::from(new), Ipv4Addr::from(other));
        let mut out = whole(old, other, protocol, &content);
        source(&mut out, new).unwrap();
        prop_assert_eq!(&out, &whole(new, other, protocol, &content));
        destination(&mut out, old).unwrap();
        prop_assert_eq!(&out, &whole(new, old, protocol, &content));
    }

    #[test]
    fn errors_as_if_about_the_other(
        content in prop::collection::vec(any::<u8>(), 20..100),
        protocol in prop_oneof![Just(6u8), Just(17), Just(1)],
        cut in 20..120usize,
        new: u32,
    ) {
        let new = Ipv4Addr::from(new);
        let content = if protocol == 1 { icmp_echo(&content) } else { content };
        // Half a checksum cannot be moved along.
        let cut = if checksum_place(protocol).is_some_and(|at| cut == 20 + at + 1) { cut + 1 } else { cut };
        // The responder's error about what came from the drawn address, on its way back to the host.
        let error = |to: Ipv4Addr| {
            let about = whole(to, RESPONDER, protocol, &content);
            whole(RESPONDER, to, 1, &icmp_error(&about[..cut.min(about.len())]))
        };
        let mut back = error(DRAWN);
        destination(&mut back, new).unwrap();
        assert_same_and_right(&back, &error(new));
        // The host's error about what the responder sent, on its way out.
        let error = |from: Ipv4Addr| {
            let about = whole(RESPONDER, from, protocol, &content);
            whole(from, RESPONDER, 1, &icmp_error(&about[..cut.min(about.len())]))
        };
        let mut out = error(HOST);
        source(&mut out, new).unwrap();
        assert_same_and_right(&out, &error(new));
    }

    #[test]
    fn hostile_bytes_do_no_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..120), protocol in prop_oneof![Just(1u8), Just(6), Just(17), Just(51)], kind: bool, ihl in 5..16u8) {
        if bytes.len() > 24 {
            let len = bytes.len() as u16;
            bytes[0] = 0x40 | ihl;
            bytes[9] = protocol;
            set_word(&mut bytes, 2, len);
            set_word(&mut bytes, 6, 0);
            if kind {
                bytes[20] = 3;
            }
            let _ = refresh_checksum(&mut bytes);
        }
        let before = bytes.clone();
        match source(&mut bytes, DRAWN) {
            Ok(()) => prop_assert_eq!(Ipv4::parse(&bytes).unwrap().source(), DRAWN),
            Err(_) => prop_assert_eq!(bytes, before),
        }
    }
}

fn icmp_echo(content: &[u8]) -> Vec<u8> {
    let mut message = content.to_vec();
    icmp::write(&mut message, icmp::ECHO, 0, 0x0001_0002).unwrap();
    message
}

#[track_caller]
fn assert_same_and_right(a: &[u8], b: &[u8]) {
    assert_eq!(a, b);
    let ip = Ipv4::parse(a).unwrap();
    assert_eq!(checksum(ip.payload()), 0);
}

#[test]
fn udp_without_checksum_stays_without() {
    let mut payload = [0x5a; 30];
    set_word(&mut payload, 6, 0);
    let mut out = datagram(HOST, RESPONDER, 17, &payload, (0, false));
    source(&mut out, DRAWN).unwrap();
    assert_eq!(out, datagram(DRAWN, RESPONDER, 17, &payload, (0, false)));
    // The same, quoted.
    let mut error = datagram(
        HOST,
        RESPONDER,
        1,
        &icmp_error(&datagram(RESPONDER, HOST, 17, &payload, (0, false))),
        (0, false),
    );
    source(&mut error, DRAWN).unwrap();
    let expected = icmp_error(&datagram(RESPONDER, DRAWN, 17, &payload, (0, false)));
    assert_eq!(error, datagram(DRAWN, RESPONDER, 1, &expected, (0, false)));
}

#[test]
fn udp_checksum_never_becomes_zero() {
    // Find the content whose sum for the new address is zero; RFC 768 has 0xffff sent then.
    let mut content = vec![0; 12];
    let sum = transport_ipv4(DRAWN, RESPONDER, 17, &content);
    set_word(&mut content, 8, sum);
    assert_eq!(transport_ipv4(DRAWN, RESPONDER, 17, &content), 0);
    let mut out = whole(HOST, RESPONDER, 17, &content);
    source(&mut out, DRAWN).unwrap();
    assert_eq!(word(&out, 26), 0xffff);
}

#[test]
fn fragments() {
    let content = segment(HOST, RESPONDER, 17, &[0x33; 64]);
    let expected = segment(DRAWN, RESPONDER, 17, &[0x33; 64]);
    for (range, fragment) in [(0..32, (0, true)), (32..64, (32, false))] {
        let mut out = datagram(HOST, RESPONDER, 17, &content[range.clone()], fragment);
        source(&mut out, DRAWN).unwrap();
        assert_eq!(out, datagram(DRAWN, RESPONDER, 17, &expected[range], fragment));
    }
}

#[test]
fn echo_changes_only_outside() {
    let echo = icmp_echo(&[7; 40]);
    let mut out = datagram(HOST, RESPONDER, 1, &echo, (0, false));
    source(&mut out, DRAWN).unwrap();
    assert_eq!(out, datagram(DRAWN, RESPONDER, 1, &echo, (0, false)));
}

#[test]
fn quoted_fragment_has_no_transport_header() {
    let about = |to| datagram(RESPONDER, to, 17, &[0x77; 20], (64, false));
    let error = |from| datagram(from, RESPONDER, 1, &icmp_error(&about(from)), (0, false));
    let mut out = error(HOST);
    source(&mut out, DRAWN).unwrap();
    assert_eq!(out, error(DRAWN));
}

/// An error that wrongly quotes a datagram of the host's own does not give the host away.
#[test]
fn old_address_is_gone_from_either_side_of_a_quote() {
    let about = datagram(HOST, RESPONDER, 17, &[0; 16], (0, false));
    let mut out = datagram(HOST, RESPONDER, 1, &icmp_error(&about), (0, false));
    source(&mut out, DRAWN).unwrap();
    assert!(!out.windows(4).any(|w| w == HOST.octets()));
}

#[test]
fn refusals() {
    let refused = |bytes: Vec<u8>| refused(bytes, DRAWN.into());
    assert_eq!(
        refused(datagram(HOST, RESPONDER, 51, &[0; 40], (0, false))),
        RewriteError::AuthenticationHeader
    );
    assert_eq!(
        refused(datagram(HOST, RESPONDER, 51, &[0; 40], (80, false))),
        RewriteError::AuthenticationHeader
    );
    assert_eq!(
        refused(datagram(HOST, RESPONDER, 6, &[0; 17], (0, true))),
        RewriteError::Transport(6)
    );
    assert_eq!(
        refused(datagram(HOST, RESPONDER, 17, &[0; 7], (0, false))),
        RewriteError::Transport(17)
    );
    assert_eq!(
        refused(datagram(HOST, RESPONDER, 1, &[3; 7], (0, false))),
        RewriteError::Transport(1)
    );
    assert_eq!(
        refused(datagram(HOST, RESPONDER, 1, &icmp_error(&[0x45; 19]), (0, false))),
        RewriteError::Quote
    );
    assert_eq!(
        refused(datagram(HOST, RESPONDER, 1, &icmp_error(&[0x60; 40]), (0, false))),
        RewriteError::Quote
    );
    let mut other = datagram(HOST, RESPONDER, 17, &[0; 8], (0, false));
    assert_eq!(
        super::source(&mut other, std::net::Ipv6Addr::LOCALHOST.into()),
        Err(RewriteError::Family)
    );
    assert_eq!(
        refused(vec![0x45; 19]),
        RewriteError::Datagram(WireError::Truncated("IPv4"))
    );
}

#[test]
fn options() {
    let with = |options: &[u8]| {
        let mut bytes = datagram(HOST, RESPONDER, 17, &[options, &[0; 8]].concat(), (0, false));
        bytes[0] = 0x40 | (5 + options.len() as u8 / 4);
        refresh_checksum(&mut bytes).unwrap();
        bytes
    };
    for fine in [&[1, 1, 0, 7][..], &[148, 4, 0, 0], &[1; 8]] {
        let mut bytes = with(fine);
        source(&mut bytes, DRAWN).unwrap();
        assert_eq!(Ipv4::parse(&bytes).unwrap().source(), DRAWN);
    }
    // Record route, timestamp, loose and strict source route.
    for kind in [7, 68, 131, 137] {
        let mut bytes = with(&[1, kind, 7, 4, 0, 0, 0, 0]);
        assert_eq!(source(&mut bytes, DRAWN), Err(RewriteError::Option(kind)));
    }
}
