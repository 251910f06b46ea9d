//! IPv6 (RFC 8200): the outer header of tunnels, and inner datagrams. What may lie between the fixed header and the payload is
//! [`super::extension`]'s.

use std::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::WireError;
use super::extension::Extensions;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
/// Where the fixed header names the next one.
pub const NEXT_HEADER: usize = 6;
/// What every link carries (RFC 8200 section 5), bytes.
pub const MIN_MTU: u16 = 1280;

/// The fixed header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv6Header {
    /// Version (4 bits), traffic class (8), flow label (20).
    pub version_class_flow: U32,
    /// Bytes behind this header.
    pub payload_len: U16,
    /// First extension header or protocol, see [`super::protocol`].
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

impl Ipv6Header {
    /// Hop limit of what this node sends of its own (protocol section 2).
    pub const HOP_LIMIT: u8 = 64;

    /// A header of a packet of this node's own: traffic class and flow label 0.
    pub fn plain(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, payload_len: u16) -> Self {
        Self {
            version_class_flow: U32::new(6 << 28),
            payload_len: U16::new(payload_len),
            next_header,
            hop_limit: Self::HOP_LIMIT,
            source: source.octets(),
            destination: destination.octets(),
        }
    }
}

/// An IPv6 datagram whose version and payload length have been found right. Extension headers are part of the payload.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a> {
    header: &'a Ipv6Header,
    /// The whole datagram: header, payload, nothing behind.
    bytes: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// The datagram at the front of `bytes`; what lies behind its payload is left out. Jumbograms (RFC 2675) are not understood:
    /// their payload length of 0 is taken at its word.
    ///
    /// # Errors
    /// `Truncated`, `Version` or `TotalLength` of [`WireError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let (header, _) = Ipv6Header::ref_from_prefix(bytes).map_err(|_| WireError::Truncated("IPv6"))?;
        if header.version_class_flow.get() >> 28 != 6 {
            return Err(WireError::Version);
        }
        let bytes = bytes
            .get(..HEADER_LEN + usize::from(header.payload_len.get()))
            .ok_or(WireError::TotalLength("IPv6"))?;
        Ok(Self { header, bytes })
    }

    /// The fixed header.
    pub fn header(&self) -> &'a Ipv6Header {
        self.header
    }

    /// Header and payload, bytes.
    pub fn total_len(&self) -> usize {
        self.bytes.len()
    }

    /// Source address.
    pub fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.header.source)
    }

    /// Destination address.
    pub fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.header.destination)
    }

    /// First extension header or protocol.
    pub fn next_header(&self) -> u8 {
        self.header.next_header
    }

    /// Hop limit.
    pub fn hop_limit(&self) -> u8 {
        self.header.hop_limit
    }

    /// What follows the fixed header.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// The whole datagram.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The extension headers.
    pub fn extensions(&self) -> Extensions<'a> {
        Extensions::new(self.header.next_header, self.payload())
    }
}

/// Takes one from the hop limit in place; the new one.
///
/// # Errors
/// [`WireError::TtlExceeded`] if it is 0 or 1, `Truncated` if `datagram` has no whole header; nothing is changed then.
pub fn decrement_hop_limit(datagram: &mut [u8]) -> Result<u8, WireError> {
    let (header, _) = Ipv6Header::mut_from_prefix(datagram).map_err(|_| WireError::Truncated("IPv6"))?;
    if header.hop_limit <= 1 {
        return Err(WireError::TtlExceeded);
    }
    header.hop_limit -= 1;
    Ok(header.hop_limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn golden_header_is_read() {
        let datagram =
            hex!("60012345 0004 3b 40 20010db8000000000000000000000001 20010db8000000000000000000000002 deadbeef");
        let ip = Ipv6::parse(&datagram).unwrap();
        assert_eq!((ip.next_header(), ip.hop_limit(), ip.total_len()), (59, 64, 44));
        assert_eq!(ip.source(), "2001:db8::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(ip.destination(), "2001:db8::2".parse::<Ipv6Addr>().unwrap());
        assert_eq!(ip.payload(), hex!("deadbeef"));
        for len in 0..datagram.len() {
            assert!(Ipv6::parse(&datagram[..len]).is_err());
        }
    }

    #[test]
    fn hop_limit_counts_down_to_one_and_stops() {
        let (source, destination) = (Ipv6Addr::LOCALHOST, "2001:db8::2".parse().unwrap());
        let mut header = Ipv6Header::plain(source, destination, 59, 4);
        header.hop_limit = 3;
        let mut datagram = [header.as_bytes(), &[7; 4]].concat();
        let ip = Ipv6::parse(&datagram).unwrap();
        assert_eq!((ip.source(), ip.destination()), (source, destination));
        assert_eq!((ip.next_header(), ip.hop_limit(), ip.bytes().len()), (59, 3, 44));
        assert_eq!(decrement_hop_limit(&mut datagram), Ok(2));
        assert_eq!(decrement_hop_limit(&mut datagram), Ok(1));
        assert_eq!(decrement_hop_limit(&mut datagram), Err(WireError::TtlExceeded));
        assert!(decrement_hop_limit(&mut datagram[..39]).is_err());
    }

    proptest! {
        #[test]
        fn parse_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..120), plausible: bool) {
            if plausible && bytes.len() > 5 {
                bytes[0] = 0x60;
                bytes[4] = 0;
            }
            if let Ok(ip) = Ipv6::parse(&bytes) {
                prop_assert_eq!(ip.payload().len() + HEADER_LEN, ip.total_len());
            }
        }
    }
}
