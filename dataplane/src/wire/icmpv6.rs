//! ICMPv6 (RFC 4443). The fixed header is ICMP's ([`icmp::IcmpHeader`]); the checksum covers the pseudo-header too.

use std::net::Ipv6Addr;

use super::{WireError, checksum, icmp, protocol};

/// Destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Packet too big; the MTU is in [`icmp::IcmpHeader::rest`].
pub const PACKET_TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Echo request.
pub const ECHO: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Router solicitation (RFC 4861 section 4.1).
pub const ROUTER_SOLICITATION: u8 = 133;
/// Neighbour solicitation (RFC 4861 section 4.3).
pub const SOLICITATION: u8 = 135;
/// Redirect (RFC 4861 section 4.5).
pub const REDIRECT: u8 = 137;
/// Code of [`UNREACHABLE`]: communication with destination administratively prohibited.
pub const CODE_ADMINISTRATIVELY_PROHIBITED: u8 = 1;

/// Whether messages of this type are errors, which quote the head of a datagram (RFC 4443 section 2.1).
pub const fn is_error(kind: u8) -> bool {
    kind < 128
}

/// As [`icmp::write`], for these addresses.
///
/// # Errors
/// [`WireError::Truncated`] under 8 bytes.
pub fn write(
    message: &mut [u8],
    (kind, code, rest): (u8, u8, u32),
    (source, destination): (Ipv6Addr, Ipv6Addr),
) -> Result<(), WireError> {
    icmp::write_unsummed(message, kind, code, rest)?;
    let sum = checksum::transport_ipv6(source, destination, protocol::ICMPV6, message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::icmp::IcmpHeader;

    #[test]
    fn written_message_sums_to_zero_with_its_addresses() {
        let (from, to) = ("2001:db8::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let mut message = [0x5a; 37];
        write(&mut message, (PACKET_TOO_BIG, 0, 1386), (from, to)).unwrap();
        assert_eq!(checksum::transport_ipv6(from, to, protocol::ICMPV6, &message), 0);
        let (header, rest) = IcmpHeader::parse(&message).unwrap();
        assert_eq!((header.kind, header.rest.get(), rest.len()), (2, 1386, 29));
        assert!(write(&mut [0; 7], (ECHO, 0, 0), (from, to)).is_err());
    }
}
