//! IPv6 (RFC 8200): the outer header of tunnels, and inner datagrams.

use std::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::WireError;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;

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
    payload: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// The datagram at the front of `bytes`; what lies behind its payload is left out. Jumbograms (RFC 2675) are not understood:
    /// their payload length of 0 is taken at its word.
    ///
    /// # Errors
    /// `Truncated`, `Version` or `TotalLength` of [`WireError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let (header, rest) = Ipv6Header::ref_from_prefix(bytes).map_err(|_| WireError::Truncated("IPv6"))?;
        if header.version_class_flow.get() >> 28 != 6 {
            return Err(WireError::Version);
        }
        let payload = rest
            .get(..usize::from(header.payload_len.get()))
            .ok_or(WireError::TotalLength("IPv6"))?;
        Ok(Self { header, payload })
    }

    /// The fixed header.
    pub fn header(&self) -> &'a Ipv6Header {
        self.header
    }

    /// Header and payload, bytes.
    pub fn total_len(&self) -> usize {
        HEADER_LEN + self.payload.len()
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
        self.payload
    }
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
