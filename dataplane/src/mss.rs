//! TCP connections that fit a tunnel: the maximum segment size of SYN and SYN-ACK is lowered on its way (protocol section 7).

use crate::wire::checksum::{checksum, update};
use crate::wire::ipv4::Ipv4;
use crate::wire::protocol;

/// Headers of IPv4 and TCP without options, which the MSS leaves out (RFC 6691).
const HEADERS: u16 = 40;
/// Where an IPv4 header has the protocol.
const PROTOCOL: usize = 9;
const TCP_HEADER: usize = 20;
const CHECKSUM: usize = 16;
const SYN: u8 = 2;

/// Lowers the MSS option of a SYN or SYN-ACK to `mtu` less 40 where it is larger, and moves the checksum along; says whether it did.
/// Anything else, malformed bytes included, stays as it is.
pub fn clamp(datagram: &mut [u8], mtu: u16) -> bool {
    let Some((start, end)) = syn_header(datagram) else {
        return false;
    };
    let tcp = &mut datagram[start..end];
    let limit = mtu.saturating_sub(HEADERS);
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
    if datagram.get(PROTOCOL) != Some(&protocol::TCP) {
        return None; // most of what is not TCP, without reading the rest
    }
    let ip = Ipv4::parse(datagram).ok()?;
    let tcp = ip.payload();
    if ip.fragment_offset() != 0 || tcp.len() < TCP_HEADER || tcp[13] & SYN == 0 {
        return None;
    }
    let length = usize::from(tcp[12] >> 4) * 4;
    (TCP_HEADER..=tcp.len())
        .contains(&length)
        .then(|| (ip.header_len(), ip.header_len() + length))
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

    use super::*;
    use crate::wire::checksum::transport_ipv4;
    use crate::wire::ipv4::{Ipv4Fields, write_header};

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn datagram(flags: u8, options: &[u8], fragment_offset: u16) -> Vec<u8> {
        let mut tcp = vec![0x11; TCP_HEADER];
        tcp[12] = (5 + options.len() as u8 / 4) << 4;
        tcp[13] = flags;
        tcp[16..18].fill(0);
        tcp.extend(options);
        tcp.extend([0x99; 5]);
        let sum = transport_ipv4(A, B, 6, &tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
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
