//! TCP connections that fit a tunnel: the maximum segment size of SYN and SYN-ACK is lowered on its way (protocol section 7).

use crate::wire::checksum::{checksum, update};
use crate::wire::extension::is_extension;
use crate::wire::ip::Ip;
use crate::wire::{ipv4, ipv6, protocol};

const TCP_HEADER: usize = 20;
const CHECKSUM: usize = 16;
const SYN: u8 = 2;

/// Lowers the MSS option of a SYN or SYN-ACK to `mtu` less the headers of IP and TCP without options, which the MSS leaves out
/// (RFC 6691), where it is larger, and moves the checksum along; says whether it did. Anything else, malformed bytes included, stays
/// as it is.
pub fn clamp(datagram: &mut [u8], mtu: u16) -> bool {
    let Some((start, end)) = syn_header(datagram) else {
        return false;
    };
    let ip_header = if datagram[0] >> 4 == 4 {
        ipv4::HEADER_LEN
    } else {
        ipv6::HEADER_LEN
    };
    let limit = mtu.saturating_sub((ip_header + TCP_HEADER) as u16);
    let tcp = &mut datagram[start..end];
    let Some(at) = mss_option(tcp).filter(|&at| word(tcp, at) > limit) else {
        return false;
    };
    // The option may lie at an odd offset, so the sum of the whole header stands for the changed word.
    let before = checksum(tcp);
    tcp[at..at + 2].copy_from_slice(&limit.to_be_bytes());
    let moved = update(word(tcp, CHECKSUM), !before, !checksum(tcp));
    tcp[CHECKSUM..CHECKSUM + 2].copy_from_slice(&moved.to_be_bytes());
    true
}

/// Where the TCP header lies in a datagram that is, or begins, a SYN.
fn syn_header(datagram: &[u8]) -> Option<(usize, usize)> {
    if !may_be_tcp(datagram) {
        return None;
    }
    let ip = Ip::parse(datagram).ok()?;
    if let Ip::V6(ip) = &ip
        && ip
            .extensions()
            .any(|header| header.is_ok_and(|header| header.kind == protocol::AH))
    {
        return None; // what the hosts' own AH covers must stay as it is
    }
    let upper = ip.upper().ok()?;
    let tcp = &ip.bytes()[upper.at..];
    if upper.protocol != protocol::TCP || upper.later_fragment || tcp.len() < TCP_HEADER || tcp[13] & SYN == 0 {
        return None;
    }
    let length = usize::from(tcp[12] >> 4) * 4;
    (TCP_HEADER..=tcp.len())
        .contains(&length)
        .then(|| (upper.at, upper.at + length))
}

/// Finds most of what is not TCP out, without reading the rest.
fn may_be_tcp(datagram: &[u8]) -> bool {
    match datagram.first().map(|first| first >> 4) {
        Some(4) => datagram.get(ipv4::PROTOCOL) == Some(&protocol::TCP),
        Some(6) => datagram
            .get(ipv6::NEXT_HEADER)
            .is_some_and(|&next| next == protocol::TCP || is_extension(next)),
        _ => false,
    }
}

/// Where the header has the value of its MSS option (RFC 9293 section 3.1).
fn mss_option(tcp: &[u8]) -> Option<usize> {
    let mut at = TCP_HEADER;
    loop {
        at += match tcp.get(at..)? {
            [] | [0, ..] => return None,
            [1, ..] => 1,
            [2, 4, _, _, ..] => return Some(at + 2),
            [_, length @ 2..=255, ..] => usize::from(*length),
            _ => return None,
        };
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::wire::checksum::{transport_ipv4, transport_ipv6};
    use crate::wire::ipv4::{Ipv4Fields, write_header};
    use crate::wire::ipv6::Ipv6Header;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn segment(flags: u8, options: &[u8], sum: impl Fn(&[u8]) -> u16) -> Vec<u8> {
        let mut tcp = vec![0x11; TCP_HEADER];
        tcp[12] = (5 + options.len() as u8 / 4) << 4;
        tcp[13] = flags;
        tcp[16..18].fill(0);
        tcp.extend(options);
        tcp.extend([0x99; 5]);
        let sum = sum(&tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        tcp
    }

    fn datagram(flags: u8, options: &[u8], fragment_offset: u16) -> Vec<u8> {
        let tcp = segment(flags, options, |tcp| transport_ipv4(A, B, 6, tcp));
        let mut bytes = vec![0; 20];
        let fields = Ipv4Fields {
            fragment_offset,
            ..Ipv4Fields::outer(A, B, 6, 20 + tcp.len() as u16)
        };
        write_header(bytes.first_chunk_mut().unwrap(), &fields);
        bytes.extend(tcp);
        bytes
    }

    #[test]
    fn lowers_and_never_raises() {
        for (flags, mss, after) in [
            (2, 1460u16, 1346),
            (0x12, 1347, 1346),
            (2, 1346, 1346),
            (2, 536, 536),
            (0x10, 1460, 1460),
        ] {
            let option = |mss: u16| [2, 4, (mss >> 8) as u8, mss as u8];
            let mut bytes = datagram(flags, &option(mss), 0);
            assert_eq!(clamp(&mut bytes, 1386), mss != after);
            assert_eq!(bytes, datagram(flags, &option(after), 0));
        }
    }

    /// An IPv6 datagram with these extension headers, each 8 bytes long.
    fn datagram_v6(flags: u8, mss: u16, chain: &[[u8; 8]]) -> Vec<u8> {
        let (a, b) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let option = [2, 4, (mss >> 8) as u8, mss as u8];
        let tcp = segment(flags, &option, |tcp| transport_ipv6(a, b, 6, tcp));
        let behind = [chain.concat(), tcp].concat();
        let next_header = if chain.is_empty() { 6 } else { 60 };
        let header = Ipv6Header::plain(a, b, next_header, behind.len() as u16);
        [header.as_bytes(), &behind].concat()
    }

    #[test]
    fn ipv6_behind_extension_headers() {
        // Destination options before TCP; before a fragment header, of the first fragment; and of a later one.
        let (last, first) = ([6, 0, 1, 4, 0, 0, 0, 0], [44, 0, 1, 4, 0, 0, 0, 0]);
        let fragment = |offset: u8| [6, 0, 0, offset | 1, 0, 0, 0, 1];
        for chain in [
            &[][..],
            &[last],
            &[[60, 0, 1, 4, 0, 0, 0, 0], last],
            &[first, fragment(0)],
        ] {
            let mut bytes = datagram_v6(2, 1440, chain);
            assert!(clamp(&mut bytes, 1386));
            assert_eq!(bytes, datagram_v6(2, 1326, chain));
            assert!(!clamp(&mut datagram_v6(0x10, 1440, chain), 1386), "no SYN");
        }
        assert!(!clamp(&mut datagram_v6(2, 1440, &[first, fragment(64)]), 1386));
    }

    #[test]
    fn found_behind_other_options_at_any_offset() {
        for before in [&[1u8][..], &[1, 1], &[8, 10, 2, 4, 9, 9, 9, 9, 9, 9], &[4, 2, 3, 3, 7]] {
            let make = |mss: u16| {
                let mut options = before.to_vec();
                options.extend([2, 4, (mss >> 8) as u8, mss as u8]);
                options.resize(options.len().next_multiple_of(4), 0);
                datagram(2, &options, 0)
            };
            let mut bytes = make(1460);
            assert!(clamp(&mut bytes, 1386));
            assert_eq!(bytes, make(1346));
        }
    }

    #[test]
    fn malformed_options_and_later_fragments_stay() {
        for options in [
            &[2u8, 3, 9, 9][..],
            &[9, 0, 2, 4],
            &[9, 1, 9, 9],
            &[0, 2, 4, 255],
            &[9, 200, 2, 4, 255, 255, 0, 0],
            &[1, 1, 2, 4],
        ] {
            let mut bytes = datagram(2, options, 0);
            assert!(!clamp(&mut bytes, 1386));
            assert_eq!(bytes, datagram(2, options, 0));
        }
        assert!(!clamp(&mut datagram(2, &[2, 4, 255, 255], 64), 1386));
    }

    proptest! {
        #[test]
        fn any_options_keep_a_right_checksum(options in prop::collection::vec(prop_oneof![0..5u8, any::<u8>()], 0..40), mtu: u16) {
            let mut options = options;
            options.truncate(options.len() & !3);
            let mut bytes = datagram(2, &options, 0);
            clamp(&mut bytes, mtu);
            prop_assert_eq!(transport_ipv4(A, B, 6, &bytes[20..]), 0);
        }

        #[test]
        fn hostile_bytes_do_no_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..80), at in 0..60usize) {
            clamp(&mut bytes, 1386);
            let mut framed = datagram(2, &[2, 4, 255, 255], 0);
            framed.truncate(at);
            clamp(&mut framed, 1386);
        }
    }
}
