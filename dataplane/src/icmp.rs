//! ICMP errors that a node makes for its users: RFC 792, RFC 1122 section 3.2.2, RFC 1812 section 4.3.2, RFC 1191.

use std::net::Ipv4Addr;

use arrayvec::ArrayVec;

use crate::entry::OPENING;
use crate::wire::icmp::{
    CODE_ADMINISTRATIVELY_PROHIBITED, CODE_FRAGMENTATION_NEEDED, HEADER_LEN, IcmpHeader, TIME_EXCEEDED, UNREACHABLE,
    write,
};
use crate::wire::ipv4::{self, Ipv4, Ipv4Fields, write_header};
use crate::wire::protocol;

/// Longest error, IP header included (RFC 1812 section 4.3.2.3).
pub const MAX_ERROR: usize = 576;

/// IP and ICMP header of an error.
const HEADERS: usize = ipv4::HEADER_LEN + HEADER_LEN;

/// What is wrong with a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The network will not carry it (RFC 1812 section 5.2.7.1, code 13).
    AdministrativelyProhibited,
    /// It has DF and is longer than the next hop's MTU, this many bytes (RFC 1191 section 4).
    FragmentationNeeded(u16),
    /// Its time to live ran out (RFC 792).
    TtlExceeded,
}

impl Problem {
    /// Type, code and the header's last four bytes.
    fn fields(self) -> (u8, u8, u32) {
        match self {
            Self::AdministrativelyProhibited => (UNREACHABLE, CODE_ADMINISTRATIVELY_PROHIBITED, 0),
            Self::FragmentationNeeded(mtu) => (UNREACHABLE, CODE_FRAGMENTATION_NEEDED, u32::from(mtu)),
            Self::TtlExceeded => (TIME_EXCEEDED, 0, 0),
        }
    }
}

/// Writes the error about `datagram`, a whole IP datagram from `from` to the datagram's source, into the front of `out` and returns
/// its length, [`MAX_ERROR`] at most. It quotes as much of the datagram as fits there.
///
/// `None` where no error may be sent ([`may_report`]) or `out` has no room for the datagram's header and 8 bytes more.
pub fn error(problem: Problem, datagram: &Ipv4<'_>, from: Ipv4Addr, out: &mut [u8]) -> Option<usize> {
    let least = datagram.total_len().min(datagram.header_len() + 8);
    let room = out.len().min(MAX_ERROR).checked_sub(HEADERS);
    let room = room.filter(|&room| room >= least && may_report(datagram))?;
    let quoted = &datagram.bytes()[..datagram.total_len().min(room)];
    write_error(problem, quoted, (from, datagram.source()), out)
}

/// What an error must quote of `datagram`: its header and 8 bytes more. Empty where none may be sent.
pub fn opening(datagram: &[u8]) -> ArrayVec<u8, OPENING> {
    let quoted = Ipv4::parse(datagram).ok().filter(may_report).map(|ip| {
        let end = ip.total_len().min(ip.header_len() + 8);
        &ip.bytes()[..end]
    });
    quoted.unwrap_or_default().iter().copied().collect()
}

/// [`error`], administratively prohibited, about a datagram of which only the [`opening`] is left.
pub fn prohibited(opening: &[u8], from: Ipv4Addr, out: &mut [u8]) -> Option<usize> {
    let source: [u8; 4] = *opening.get(12..)?.first_chunk()?;
    let problem = Problem::AdministrativelyProhibited;
    write_error(problem, opening, (from, source.into()), out)
}

/// Writes an error that quotes `quoted`, from and to these addresses; `None` if `out` has no room.
fn write_error(problem: Problem, quoted: &[u8], (from, to): (Ipv4Addr, Ipv4Addr), out: &mut [u8]) -> Option<usize> {
    let length = HEADERS + quoted.len();
    let (header, message) = out.get_mut(..length)?.split_first_chunk_mut()?;
    let total = u16::try_from(length).ok()?;
    write_header(header, &Ipv4Fields::outer(from, to, protocol::ICMP, total));
    message[HEADER_LEN..].copy_from_slice(quoted);
    let (kind, code, rest) = problem.fields();
    write(message, kind, code, rest).ok()?;
    Some(length)
}

/// Whether an error about `datagram` may be sent: not about an ICMP error, a fragment behind the first, a destination that is
/// multicast or broadcast, or a source that is no single host (RFC 1122 section 3.2.2). Subnets' broadcast addresses are not known
/// here.
pub fn may_report(datagram: &Ipv4<'_>) -> bool {
    datagram.fragment_offset() == 0
        && !is_icmp_error(datagram)
        && !datagram.destination().is_multicast()
        && !datagram.destination().is_broadcast()
        && is_single_host(datagram.source())
}

/// Whether it is an ICMP error, or too short to tell.
fn is_icmp_error(datagram: &Ipv4<'_>) -> bool {
    datagram.protocol() == protocol::ICMP
        && IcmpHeader::parse(datagram.payload()).map_or(true, |(header, _)| header.is_error())
}

/// Not 0/8, 127/8, 224/4 or 240/4.
fn is_single_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first < 224 && !address.is_loopback()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::checksum::checksum;

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
            &Ipv4::parse(&bytes).unwrap(),
            FROM,
            &mut [0; MAX_ERROR],
        )
        .is_some()
    }

    #[test]
    fn messages() {
        let about = datagram(HOST, FROM, 17, &[0x42; 30], 0);
        let cases = [
            (Problem::AdministrativelyProhibited, [3, 13], [0, 0, 0, 0]),
            (Problem::FragmentationNeeded(1386), [3, 4], [0, 0, 0x05, 0x6a]),
            (Problem::TtlExceeded, [11, 0], [0, 0, 0, 0]),
        ];
        for (problem, kind, rest) in cases {
            let mut out = [0xee; 1500];
            let length = error(problem, &Ipv4::parse(&about).unwrap(), FROM, &mut out).unwrap();
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
        let about = Ipv4::parse(&about).unwrap();
        let length = |room| error(Problem::TtlExceeded, &about, FROM, &mut vec![0; room]);
        assert_eq!(length(1500), Some(MAX_ERROR));
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
            write(&mut message, kind, 0, 0).unwrap();
            assert_eq!(reported(HOST, FROM, 1, &message, 0), !error, "{kind}");
        }
        assert!(!reported(HOST, FROM, 1, &[8, 0, 0], 0));
    }

    proptest! {
        #[test]
        fn any_datagram_any_room(payload in prop::collection::vec(any::<u8>(), 0..700), source: u32, destination: u32, protocol in prop_oneof![Just(1u8), any::<u8>()], room in 0..700usize) {
            let bytes = datagram(source.into(), destination.into(), protocol, &payload, 0);
            let mut out = vec![0; room];
            if let Some(length) = error(Problem::FragmentationNeeded(68), &Ipv4::parse(&bytes).unwrap(), FROM, &mut out) {
                let ip = Ipv4::parse(&out[..length]).unwrap();
                prop_assert!(length <= MAX_ERROR && checksum(ip.payload()) == 0);
                prop_assert!(bytes.starts_with(&ip.payload()[8..]));
            }
        }
    }
}
