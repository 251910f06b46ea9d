//! The same for IPv6: every checksum is computed from scratch here, behind every chain of extension headers.

use std::net::Ipv6Addr;

use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;
use crate::wire::checksum::transport_ipv6;
use crate::wire::extension::{self, MOBILITY, ROUTING};
use crate::wire::ipv6::Ipv6Header;

const HOST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const DRAWN: Ipv6Addr = Ipv6Addr::new(0xfd12, 0x3456, 0x789a, 1, 2, 3, 4, 5);
const RESPONDER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x33, 0, 0, 0, 0, 0x80);

fn source(datagram: &mut [u8], new: Ipv6Addr) -> Result<(), RewriteError> {
    super::source(datagram, new.into())
}

fn destination(datagram: &mut [u8], new: Ipv6Addr) -> Result<(), RewriteError> {
    super::destination(datagram, new.into())
}

/// Extension headers before something: their kinds, and the bytes of each but for the first, which names the next.
type Chain = Vec<(u8, Vec<u8>)>;

/// Padding of `units` times 8 bytes as hop-by-hop or destination options.
fn options(kind: u8, units: u8) -> (u8, Vec<u8>) {
    let mut bytes = vec![units - 1, 1, units * 8 - 4];
    bytes.resize(usize::from(units) * 8 - 1, 0);
    (kind, bytes)
}

/// A fragment header; the offset counts bytes.
fn fragment(offset: u16, more: bool) -> (u8, Vec<u8>) {
    let field = (offset | u16::from(more)).to_be_bytes();
    (FRAGMENT, [&[0], &field[..], &[0xca, 0xfe, 0xba, 0xbe]].concat())
}

fn datagram(from: Ipv6Addr, to: Ipv6Addr, chain: &[(u8, Vec<u8>)], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut behind = Vec::new();
    for (at, (_, bytes)) in chain.iter().enumerate() {
        behind.push(chain.get(at + 1).map_or(protocol, |next| next.0));
        behind.extend(bytes);
    }
    behind.extend(payload);
    let next_header = chain.first().map_or(protocol, |first| first.0);
    let header = Ipv6Header::plain(from, to, next_header, behind.len() as u16);
    [header.as_bytes(), &behind].concat()
}

/// A transport segment with its checksum for these addresses.
fn segment(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    if let Some(at) = checksum_place_v6(protocol) {
        set_word(&mut bytes, at, 0);
        let sum = match transport_ipv6(from, to, protocol, &bytes) {
            0 if protocol == protocol::UDP => 0xffff,
            sum => sum,
        };
        set_word(&mut bytes, at, sum);
    }
    bytes
}

fn whole(from: Ipv6Addr, to: Ipv6Addr, chain: &[(u8, Vec<u8>)], protocol: u8, content: &[u8]) -> Vec<u8> {
    datagram(from, to, chain, protocol, &segment(from, to, protocol, content))
}

/// An ICMPv6 error of `kind` about the start of `quoted`.
fn error(from: Ipv6Addr, to: Ipv6Addr, kind: u8, quoted: &[u8]) -> Vec<u8> {
    let message = [&[kind, 0, 0, 0, 0, 0, 5, 0], quoted].concat();
    whole(from, to, &[], protocol::ICMPV6, &message)
}

fn any_chain() -> impl Strategy<Value = Chain> {
    let padded = prop_oneof![Just(HOP_BY_HOP), Just(DESTINATION_OPTIONS)];
    let header = prop_oneof![
        3 => (padded, 1..4u8).prop_map(|(kind, units)| options(kind, units)),
        1 => any::<bool>().prop_map(|more| fragment(0, more)),
    ];
    prop::collection::vec(header, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, rng_seed: proptest::test_runner::RngSeed::Fixed(8200), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn as_if_sent_from_there(
        content in prop::collection::vec(any::<u8>(), 20..100),
        chain in any_chain(),
        protocol in prop_oneof![Just(6u8), Just(17), Just(58), Just(33), Just(136), Just(50), Just(132)],
        old: u128, new: u128, other: u128,
    ) {
        let (old, new, other) = (Ipv6Addr::from(old), Ipv6Addr::from(new), Ipv6Addr::from(other));
        let mut content = content;
        if protocol == 58 {
            content[0] = icmpv6::ECHO;
        }
        let mut out = whole(old, other, &chain, protocol, &content);
        source(&mut out, new).unwrap();
        prop_assert_eq!(&out, &whole(new, other, &chain, protocol, &content));
        destination(&mut out, old).unwrap();
        prop_assert_eq!(&out, &whole(new, old, &chain, protocol, &content));
    }

    #[test]
    fn errors_as_if_about_the_other(
        content in prop::collection::vec(any::<u8>(), 20..100),
        chain in any_chain(),
        protocol in prop_oneof![Just(6u8), Just(17), Just(58)],
        kind in 1..5u8,
        cut in 40..200usize,
        new: u128,
    ) {
        let new = Ipv6Addr::from(new);
        // Half a checksum cannot be moved along; nor one behind a chain that is cut.
        let at = 40 + chain.iter().map(|(_, bytes)| 1 + bytes.len()).sum::<usize>() + checksum_place_v6(protocol).unwrap();
        let cut = if cut == at + 1 { cut + 1 } else { cut };
        // The responder's error about what came from the drawn address, on its way back to the host.
        let about = |to| whole(to, RESPONDER, &chain, protocol, &content);
        let quoting = |to| { let about = about(to); error(RESPONDER, to, kind, &about[..cut.min(about.len())]) };
        let mut back = quoting(DRAWN);
        destination(&mut back, new).unwrap();
        prop_assert_eq!(&back, &quoting(new));
        // The host's error about what the responder sent, on its way out.
        let about = |from| whole(RESPONDER, from, &chain, protocol, &content);
        let quoting = |from| { let about = about(from); error(from, RESPONDER, kind, &about[..cut.min(about.len())]) };
        let mut out = quoting(HOST);
        source(&mut out, new).unwrap();
        prop_assert_eq!(&out, &quoting(new));
        prop_assert_eq!(transport_ipv6(new, RESPONDER, 58, &out[40..]), 0);
    }

    #[test]
    fn hostile_bytes_do_no_harm(mut bytes in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..160), first in prop_oneof![Just(0u8), Just(6), Just(17), Just(44), Just(51), Just(58), Just(60)]) {
        if bytes.len() >= 40 {
            let len = bytes.len() as u16 - 40;
            bytes[0] = 0x60;
            bytes[6] = first;
            set_word(&mut bytes, 4, len);
        }
        let before = bytes.clone();
        match source(&mut bytes, DRAWN) {
            Ok(()) => prop_assert_eq!(Ipv6::parse(&bytes).unwrap().source(), DRAWN),
            Err(_) => prop_assert_eq!(bytes, before),
        }
    }
}

#[test]
fn fragments() {
    let content = segment(HOST, RESPONDER, 17, &[0x33; 64]);
    let expected = segment(DRAWN, RESPONDER, 17, &[0x33; 64]);
    for (range, header) in [(0..32, fragment(0, true)), (32..64, fragment(32, false))] {
        let chain = [options(HOP_BY_HOP, 1), header];
        let mut out = datagram(HOST, RESPONDER, &chain, 17, &content[range.clone()]);
        source(&mut out, DRAWN).unwrap();
        assert_eq!(out, datagram(DRAWN, RESPONDER, &chain, 17, &expected[range]));
    }
}

#[test]
fn udp_without_checksum_stays_without_and_none_becomes_so() {
    let mut payload = [0x5a; 30];
    set_word(&mut payload, 6, 0);
    let mut out = datagram(HOST, RESPONDER, &[], 17, &payload);
    source(&mut out, DRAWN).unwrap();
    assert_eq!(out, datagram(DRAWN, RESPONDER, &[], 17, &payload));
    let mut content = vec![0; 12];
    let sum = transport_ipv6(DRAWN, RESPONDER, 17, &content);
    set_word(&mut content, 8, sum);
    let mut out = whole(HOST, RESPONDER, &[], 17, &content);
    source(&mut out, DRAWN).unwrap();
    assert_eq!(word(&out, 46), 0xffff);
}

/// An error that wrongly quotes a datagram of the host's own does not give the host away.
#[test]
fn old_address_is_gone_from_either_side_of_a_quote() {
    let mut out = error(HOST, RESPONDER, 1, &datagram(HOST, RESPONDER, &[], 17, &[0; 16]));
    source(&mut out, DRAWN).unwrap();
    assert!(!out.windows(16).any(|w| w == HOST.octets()));
}

#[test]
fn refusals() {
    let refused = |bytes: Vec<u8>| tests::refused(bytes, DRAWN.into());
    let with = |chain: &[(u8, Vec<u8>)], protocol, payload: &[u8]| datagram(HOST, RESPONDER, chain, protocol, payload);
    let ah = (
        51,
        vec![4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
    );
    assert_eq!(refused(with(&[ah], 6, &[0; 20])), RewriteError::AuthenticationHeader);
    let later = with(&[fragment(80, false)], 51, &[0; 20]);
    assert_eq!(refused(later), RewriteError::AuthenticationHeader);
    for kind in [ROUTING, MOBILITY, extension::HIP, extension::SHIM6] {
        let header = (kind, [&[2, 0, 1, 0, 0, 0, 0][..], &[7; 16]].concat());
        assert_eq!(
            refused(with(&[options(DESTINATION_OPTIONS, 2), header], 17, &[0; 8])),
            RewriteError::Extension(kind)
        );
        assert_eq!(
            refused(with(&[fragment(80, false)], kind, &[0; 8])),
            RewriteError::Extension(kind)
        );
    }
    // A home address (RFC 6275 section 6.3), and a jumbo payload length (RFC 2675).
    for (kind, option) in [(DESTINATION_OPTIONS, 0xc9), (HOP_BY_HOP, 0xc2)] {
        let header = (kind, [&[2, 1, 0, option, 16][..], &[7; 16], &[0, 0]].concat());
        assert_eq!(refused(with(&[header], 17, &[0; 8])), RewriteError::Option(option));
    }
    assert_eq!(refused(with(&[], 6, &[0; 17])), RewriteError::Transport(6));
    assert_eq!(refused(with(&[], 17, &[0; 7])), RewriteError::Transport(17));
    assert_eq!(refused(with(&[], 58, &[1; 7])), RewriteError::Transport(58));
    // What speaks of a link, a group or a node: a solicitation, a report, an answer with a node's addresses.
    for kind in [133, 135, 136, 137, 143, 140, 200] {
        assert_eq!(refused(with(&[], 58, &[kind; 24])), RewriteError::Message(kind));
    }
    assert_eq!(refused(error(HOST, RESPONDER, 1, &[0x60; 39])), RewriteError::Quote);
    assert_eq!(refused(error(HOST, RESPONDER, 1, &[0x45; 40])), RewriteError::Quote);
    let endless = (0..9).map(|_| options(DESTINATION_OPTIONS, 1)).collect::<Vec<_>>();
    assert_eq!(
        refused(with(&endless, 17, &[0; 8])),
        RewriteError::Datagram(WireError::Extensions)
    );
    let mut other = with(&[], 17, &[0; 8]);
    assert_eq!(
        super::source(&mut other, std::net::Ipv4Addr::LOCALHOST.into()),
        Err(RewriteError::Family)
    );
}

#[test]
fn options_without_addresses_pass() {
    // Router alert, the encapsulation limit and padding of one byte.
    let header = (HOP_BY_HOP, vec![1, 5, 2, 0, 0, 4, 1, 3, 0, 0, 0, 0, 1, 1, 0]);
    let mut out = whole(HOST, RESPONDER, std::slice::from_ref(&header), 17, &[3; 20]);
    source(&mut out, DRAWN).unwrap();
    assert_eq!(out, whole(DRAWN, RESPONDER, &[header], 17, &[3; 20]));
}
