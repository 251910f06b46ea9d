//! ICMP errors that a node makes for its users: RFC 792, RFC 1122 section 3.2.2, RFC 1812 section 4.3.2, RFC 1191; for IPv6
//! RFC 4443.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use crate::entry::OPENING;
use crate::wire::icmp::{self, HEADER_LEN, IcmpHeader};
use crate::wire::ip::{Ip, is_single_host};
use crate::wire::ipv4::{self, Ipv4Fields};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::{icmpv6, protocol};

/// Longest error about an IPv4 datagram, IP header included (RFC 1812 section 4.3.2.3).
pub const MAX_ERROR_V4: usize = 576;
/// Longest error, IP header included: that about an IPv6 datagram (RFC 4443 section 2.4).
pub const MAX_ERROR: usize = ipv6::MIN_MTU as usize;

/// What is wrong with a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The network will not carry it (RFC 1812 section 5.2.7.1, code 13; RFC 4443 section 3.1, code 1).
    AdministrativelyProhibited,
    /// It is not to be cut and longer than the next hop's MTU, this many bytes (RFC 1191 section 4, RFC 4443 section 3.2).
    TooBig(u16),
    /// Its time to live or hop limit ran out (RFC 792, RFC 4443 section 3.3).
    TtlExceeded,
}

impl Problem {
    /// Type, code and the header's last four bytes in ICMP.
    fn fields_v4(self) -> (u8, u8, u32) {
        match self {
            Self::AdministrativelyProhibited => (icmp::UNREACHABLE, icmp::CODE_ADMINISTRATIVELY_PROHIBITED, 0),
            Self::TooBig(mtu) => (icmp::UNREACHABLE, icmp::CODE_FRAGMENTATION_NEEDED, u32::from(mtu)),
            Self::TtlExceeded => (icmp::TIME_EXCEEDED, 0, 0),
        }
    }

    /// The same in ICMPv6.
    fn fields_v6(self) -> (u8, u8, u32) {
        match self {
            Self::AdministrativelyProhibited => (icmpv6::UNREACHABLE, icmpv6::CODE_ADMINISTRATIVELY_PROHIBITED, 0),
            Self::TooBig(mtu) => (icmpv6::PACKET_TOO_BIG, 0, u32::from(mtu)),
            Self::TtlExceeded => (icmpv6::TIME_EXCEEDED, 0, 0),
        }
    }
}

/// Writes the error about `datagram`, from `from` to the datagram's source, into the front of `out` and returns its length,
/// [`MAX_ERROR_V4`] or [`MAX_ERROR`] at most. It quotes as much of the datagram as fits there.
///
/// `None` where no error may be sent ([`may_report`]), `from` is of another family or `out` has no room for the datagram's header
/// and 8 bytes more.
pub fn error(problem: Problem, datagram: &Ip<'_>, from: IpAddr, out: &mut [u8]) -> Option<usize> {
    let longest = match datagram {
        Ip::V4(_) => MAX_ERROR_V4,
        Ip::V6(_) => MAX_ERROR,
    };
    let room = out.len().min(longest).checked_sub(headers(from))?;
    if room < least(datagram).len() || !may_report(datagram) {
        return None;
    }
    let whole = datagram.bytes();
    write_error(problem, &whole[..whole.len().min(room)], (from, datagram.source()), out)
}

/// What an error must quote of `datagram`: its header and 8 bytes more; of an IPv6 one as much as there is room for, for its headers
/// are a chain. Empty where no error may be sent.
pub fn opening(datagram: &[u8]) -> ArrayVec<u8, OPENING> {
    let ip = Ip::parse(datagram).ok().filter(may_report);
    let quoted = ip.map(|ip| match ip {
        Ip::V4(_) => least(&ip),
        Ip::V6(ip) => &ip.bytes()[..ip.total_len().min(OPENING)],
    });
    quoted.unwrap_or_default().iter().copied().collect()
}

/// [`error`], administratively prohibited, to the host `to` about a datagram of which only the [`opening`] is left.
pub fn prohibited(opening: &[u8], (from, to): (IpAddr, IpAddr), out: &mut [u8]) -> Option<usize> {
    if opening.is_empty() {
        return None;
    }
    write_error(Problem::AdministrativelyProhibited, opening, (from, to), out)
}

/// Header and 8 bytes more.
fn least<'a>(datagram: &Ip<'a>) -> &'a [u8] {
    let header = match datagram {
        Ip::V4(ip) => ip.header_len(),
        Ip::V6(_) => ipv6::HEADER_LEN,
    };
    let bytes = datagram.bytes();
    &bytes[..bytes.len().min(header + 8)]
}

/// Bytes of IP and ICMP header of an error from this address.
const fn headers(from: IpAddr) -> usize {
    match from {
        IpAddr::V4(_) => ipv4::HEADER_LEN + HEADER_LEN,
        IpAddr::V6(_) => ipv6::HEADER_LEN + HEADER_LEN,
    }
}

/// Writes an error that quotes `quoted`, from and to these addresses; `None` if `out` has no room or the addresses do not fit each
/// other.
fn write_error(problem: Problem, quoted: &[u8], between: (IpAddr, IpAddr), out: &mut [u8]) -> Option<usize> {
    let length = headers(between.0) + quoted.len();
    let out = out.get_mut(..length)?;
    out[length - quoted.len()..].copy_from_slice(quoted);
    match between {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (header, message) = out.split_first_chunk_mut()?;
            let total = u16::try_from(length).ok()?;
            ipv4::write_header(header, &Ipv4Fields::outer(from, to, protocol::ICMP, total));
            let (kind, code, rest) = problem.fields_v4();
            icmp::write(message, kind, code, rest).ok()?;
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let (header, message) = out.split_first_chunk_mut::<{ ipv6::HEADER_LEN }>()?;
            let len = u16::try_from(message.len()).ok()?;
            *header = zerocopy::transmute!(Ipv6Header::plain(from, to, protocol::ICMPV6, len));
            icmpv6::write(message, problem.fields_v6(), (from, to)).ok()?;
        }
        _ => return None,
    }
    Some(length)
}

/// Whether an error about `datagram` may be sent: not about an ICMP error, a destination that is multicast or broadcast, or a source
/// that is no single host (RFC 1122 section 3.2.2, RFC 4443 section 2.4); in IPv4 not about a fragment behind the first. Subnets'
/// broadcast addresses are not known here.
pub fn may_report(datagram: &Ip<'_>) -> bool {
    let to_one = match datagram {
        Ip::V4(ip) => ip.fragment_offset() == 0 && !ip.destination().is_broadcast(),
        Ip::V6(_) => true,
    };
    to_one && !datagram.destination().is_multicast() && is_single_host(datagram.source()) && !is_icmp_error(datagram)
}

/// Whether it is an ICMP error or, in IPv6, a redirect; or of ICMP and too short, or too deep in a chain of headers, to tell.
fn is_icmp_error(datagram: &Ip<'_>) -> bool {
    let Ok(upper) = datagram.upper() else { return true };
    let header = || IcmpHeader::parse(&datagram.bytes()[upper.at..]);
    match (datagram, upper.protocol) {
        (Ip::V4(_), protocol::ICMP) => header().map_or(true, |(header, _)| header.is_error()),
        (Ip::V6(_), protocol::ICMPV6) => {
            let tells = |kind| icmpv6::is_error(kind) || kind == icmpv6::REDIRECT;
            upper.later_fragment || header().map_or(true, |(header, _)| tells(header.kind))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::wire::checksum::{checksum, transport_ipv6};
    use crate::wire::ipv4::{Ipv4, write_header};
    use crate::wire::ipv6::Ipv6;

    const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
    const FROM: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 80);

    fn datagram(
        source: Ipv4Addr,
        destination: Ipv4Addr,
        protocol: u8,
        payload: &[u8],
        fragment_offset: u16,
    ) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        let total = 20 + payload.len() as u16;
        let fields = Ipv4Fields {
            fragment_offset,
            ..Ipv4Fields::outer(source, destination, protocol, total)
        };
        write_header(bytes.first_chunk_mut().unwrap(), &fields);
        bytes.extend(payload);
        bytes
    }

    fn reported(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8], fragment_offset: u16) -> bool {
        let bytes = datagram(source, destination, protocol, payload, fragment_offset);
        error(
            Problem::TtlExceeded,
            &Ip::parse(&bytes).unwrap(),
            FROM.into(),
            &mut [0; MAX_ERROR],
        )
        .is_some()
    }

    #[test]
    fn messages() {
        let about = datagram(HOST, FROM, 17, &[0x42; 30], 0);
        let cases = [
            (Problem::AdministrativelyProhibited, [3, 13], [0, 0, 0, 0]),
            (Problem::TooBig(1386), [3, 4], [0, 0, 0x05, 0x6a]),
            (Problem::TtlExceeded, [11, 0], [0, 0, 0, 0]),
        ];
        for (problem, kind, rest) in cases {
            let mut out = [0xee; 1500];
            let length = error(problem, &Ip::parse(&about).unwrap(), FROM.into(), &mut out).unwrap();
            let ip = Ipv4::parse(&out[..length]).unwrap();
            assert_eq!(
                (ip.source(), ip.destination(), ip.protocol(), ip.ttl()),
                (FROM, HOST, 1, 64)
            );
            assert_eq!(ip.total_len(), 20 + 8 + about.len());
            let message = ip.payload();
            assert_eq!(
                (&message[..2], &message[4..8], checksum(message)),
                (&kind[..], &rest[..], 0)
            );
            assert_eq!(message[8..], about);
            assert!(out[length..].iter().all(|&b| b == 0xee));
        }
    }

    #[test]
    fn quotes_what_fits() {
        let about = datagram(HOST, FROM, 17, &[0x42; 1400], 0);
        let about = Ip::parse(&about).unwrap();
        let length = |room| error(Problem::TtlExceeded, &about, FROM.into(), &mut vec![0; room]);
        assert_eq!(length(1500), Some(MAX_ERROR_V4));
        assert_eq!(length(100), Some(100));
        assert_eq!(length(56), Some(56));
        assert_eq!(length(55), None);
        assert_eq!(length(0), None);
    }

    #[test]
    fn no_error_where_none_may_be() {
        let ok = |s: [u8; 4], d: [u8; 4]| reported(s.into(), d.into(), 17, &[0; 8], 0);
        assert!(ok([192, 0, 2, 7], [198, 51, 100, 80]));
        for source in [
            [0, 0, 0, 0],
            [0, 1, 2, 3],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [239, 1, 1, 1],
            [240, 0, 0, 1],
            [255; 4],
        ] {
            assert!(!ok(source, [198, 51, 100, 80]), "{source:?}");
        }
        for destination in [[224, 0, 0, 5], [239, 255, 255, 255], [255; 4]] {
            assert!(!ok([192, 0, 2, 7], destination), "{destination:?}");
        }
        assert!(!reported(HOST, FROM, 17, &[0; 8], 8));
        for kind in 0..=255 {
            let error = matches!(kind, 3 | 4 | 5 | 11 | 12);
            let mut message = [0; 16];
            icmp::write(&mut message, kind, 0, 0).unwrap();
            assert_eq!(reported(HOST, FROM, 1, &message, 0), !error, "{kind}");
        }
        assert!(!reported(HOST, FROM, 1, &[8, 0, 0], 0));
    }

    const HOST_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
    const FROM_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x33, 0, 0, 0, 0, 0x80);

    fn datagram_v6(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
        let header = Ipv6Header::plain(source, destination, next_header, payload.len() as u16);
        [zerocopy::IntoBytes::as_bytes(&header), payload].concat()
    }

    fn error_v6(problem: Problem, about: &[u8], out: &mut [u8]) -> Option<usize> {
        error(problem, &Ip::parse(about).unwrap(), FROM_6.into(), out)
    }

    #[test]
    fn messages_v6() {
        let about = datagram_v6(HOST_6, FROM_6, 17, &[0x42; 30]);
        let cases = [
            (Problem::AdministrativelyProhibited, [1, 1], [0, 0, 0, 0]),
            (Problem::TooBig(1386), [2, 0], [0, 0, 0x05, 0x6a]),
            (Problem::TtlExceeded, [3, 0], [0, 0, 0, 0]),
        ];
        for (problem, kind, rest) in cases {
            let mut out = [0xee; 1500];
            let length = error_v6(problem, &about, &mut out).unwrap();
            let ip = Ipv6::parse(&out[..length]).unwrap();
            assert_eq!(
                (ip.source(), ip.destination(), ip.next_header(), ip.hop_limit()),
                (FROM_6, HOST_6, 58, 64)
            );
            let message = ip.payload();
            assert_eq!((&message[..2], &message[4..8]), (&kind[..], &rest[..]));
            assert_eq!(transport_ipv6(FROM_6, HOST_6, 58, message), 0);
            assert_eq!(message[8..], about);
            assert!(out[length..].iter().all(|&b| b == 0xee));
        }
    }

    /// RFC 4443 section 2.4 (c): as much as the minimum MTU holds.
    #[test]
    fn quotes_what_fits_v6() {
        let about = datagram_v6(HOST_6, FROM_6, 17, &[0x42; 8000]);
        let length = |room| error_v6(Problem::TooBig(1280), &about, &mut vec![0; room]);
        assert_eq!((length(1500), length(200)), (Some(1280), Some(200)));
        assert_eq!((length(96), length(95), length(0)), (Some(96), None, None));
        let from_other_family = error(
            Problem::TtlExceeded,
            &Ip::parse(&about).unwrap(),
            FROM.into(),
            &mut [0; 1500],
        );
        assert_eq!(from_other_family, None);
        let quoted = opening(&about);
        assert_eq!(quoted[..], about[..OPENING]);
        let mut out = [0; 200];
        let length = prohibited(&quoted, (FROM_6.into(), HOST_6.into()), &mut out).unwrap();
        assert_eq!(&out[48..length], &quoted[..]);
        assert_eq!(prohibited(&[], (FROM_6.into(), HOST_6.into()), &mut out), None);
    }

    #[test]
    fn no_error_where_none_may_be_v6() {
        let reported = |source: &str, destination: &str, next, payload: &[u8]| {
            let about = datagram_v6(source.parse().unwrap(), destination.parse().unwrap(), next, payload);
            let sent = error_v6(Problem::TtlExceeded, &about, &mut [0; MAX_ERROR]).is_some();
            assert_eq!(sent, !opening(&about).is_empty());
            sent
        };
        let (host, from) = ("2001:db8::7", "2001:db8:33::80");
        assert!(reported(host, from, 17, &[0; 8]));
        for source in ["::", "::1", "fe80::1", "ff02::1", "::ffff:192.0.2.7"] {
            assert!(!reported(source, from, 17, &[0; 8]), "{source}");
        }
        for destination in ["ff02::2", "ff0e::1"] {
            assert!(!reported(host, destination, 17, &[0; 8]));
        }
        for kind in 0..=255u8 {
            let error = kind < 128 || kind == 137;
            assert_eq!(reported(host, from, 58, &[kind; 8]), !error, "{kind}");
            // Behind destination options, and in the first and a later fragment.
            assert_eq!(
                reported(host, from, 60, &[[58, 0, 1, 4, 0, 0, 0, 0], [kind; 8]].concat()),
                !error
            );
            assert_eq!(
                reported(host, from, 44, &[[58, 0, 0, 1, 0, 0, 0, 0], [kind; 8]].concat()),
                !error
            );
            assert!(!reported(
                host,
                from,
                44,
                &[[58, 0, 0, 9, 0, 0, 0, 0], [kind; 8]].concat()
            ));
        }
        assert!(reported(host, from, 44, &[[17, 0, 0, 9, 0, 0, 0, 0], [1; 8]].concat()));
        assert!(!reported(host, from, 58, &[128; 7]));
        assert!(!reported(host, from, 0, &[0; 4]), "cut inside the chain");
    }

    proptest! {
        #[test]
        fn any_datagram_any_room(payload in prop::collection::vec(any::<u8>(), 0..700), source: u32, destination: u32, protocol in prop_oneof![Just(1u8), any::<u8>()], room in 0..700usize) {
            let bytes = datagram(source.into(), destination.into(), protocol, &payload, 0);
            let mut out = vec![0; room];
            if let Some(length) = error(Problem::TooBig(68), &Ip::parse(&bytes).unwrap(), FROM.into(), &mut out) {
                let ip = Ipv4::parse(&out[..length]).unwrap();
                prop_assert!(length <= MAX_ERROR_V4 && checksum(ip.payload()) == 0);
                prop_assert!(bytes.starts_with(&ip.payload()[8..]));
            }
        }
    }
}
