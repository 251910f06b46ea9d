//! IPv4 (RFC 791): the outer header of every tunnel, and inner datagrams.

use std::net::Ipv4Addr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{WireError, checksum};

/// Bytes of the header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of the longest header.
pub const MAX_HEADER_LEN: usize = 60;
/// Where the header names the protocol of the payload.
pub const PROTOCOL: usize = 9;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// The fixed part of the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv4Header {
    /// Version in the high nibble, header length in 32-bit words in the low one.
    pub version_ihl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Header and payload, bytes.
    pub total_len: U16,
    /// Identification.
    pub id: U16,
    /// Reserved bit, DF, MF, then the fragment offset in units of 8 bytes.
    pub flags_offset: U16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload, see [`super::protocol`].
    pub protocol: u8,
    /// Header checksum.
    pub checksum: U16,
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

/// An IPv4 datagram whose version, header length, total length and header checksum have been found right.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    header: &'a Ipv4Header,
    /// The whole datagram: header, options, payload, nothing behind.
    bytes: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// The datagram at the front of `bytes`; what lies behind its total length (Ethernet padding) is left out.
    ///
    /// # Errors
    /// `Truncated`, `Version`, `HeaderLength`, `TotalLength` or `Checksum` of [`WireError`], looked at in this order.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let (header, _) = Ipv4Header::ref_from_prefix(bytes).map_err(|_| WireError::Truncated("IPv4"))?;
        if header.version_ihl >> 4 != 4 {
            return Err(WireError::Version);
        }
        let header_len = usize::from(header.version_ihl & 0x0f) * 4;
        if header_len < HEADER_LEN {
            return Err(WireError::HeaderLength("IPv4"));
        }
        let total = usize::from(header.total_len.get());
        if total < header_len {
            return Err(WireError::TotalLength("IPv4"));
        }
        let bytes = bytes.get(..total).ok_or(WireError::TotalLength("IPv4"))?;
        let right = match bytes.first_chunk::<HEADER_LEN>() {
            Some(fixed) if header_len == HEADER_LEN => checksum::checksum(fixed) == 0,
            _ => checksum::checksum(&bytes[..header_len]) == 0,
        };
        if !right {
            return Err(WireError::Checksum("IPv4"));
        }
        Ok(Self { header, bytes })
    }

    /// The fixed header.
    pub fn header(&self) -> &'a Ipv4Header {
        self.header
    }

    /// Header bytes, options included: 20 to 60.
    pub fn header_len(&self) -> usize {
        usize::from(self.header.version_ihl & 0x0f) * 4
    }

    /// Header and payload, bytes.
    pub fn total_len(&self) -> usize {
        self.bytes.len()
    }

    /// Source address.
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.header.source)
    }

    /// Destination address.
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.header.destination)
    }

    /// Protocol of the payload, see [`super::protocol`].
    pub fn protocol(&self) -> u8 {
        self.header.protocol
    }

    /// Time to live.
    pub fn ttl(&self) -> u8 {
        self.header.ttl
    }

    /// Identification.
    pub fn id(&self) -> u16 {
        self.header.id.get()
    }

    /// Whether this is a piece of a datagram and not a whole one.
    pub fn is_fragment(&self) -> bool {
        self.header.flags_offset.get() & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// DF.
    pub fn dont_fragment(&self) -> bool {
        self.header.flags_offset.get() & DONT_FRAGMENT != 0
    }

    /// MF.
    pub fn more_fragments(&self) -> bool {
        self.header.flags_offset.get() & MORE_FRAGMENTS != 0
    }

    /// Where this fragment's payload begins in the whole datagram's, bytes.
    pub fn fragment_offset(&self) -> usize {
        usize::from(self.header.flags_offset.get() & OFFSET_MASK) * 8
    }

    /// What follows the header.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_len()..]
    }

    /// The whole datagram.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// What [`write_header`] writes: a header without options, DSCP 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Fields {
    /// Header and payload, bytes.
    pub total_len: u16,
    /// Identification; 0 on outer packets.
    pub id: u16,
    /// DF; set on outer packets.
    pub dont_fragment: bool,
    /// MF.
    pub more_fragments: bool,
    /// Fragment offset in bytes; rounded down to a multiple of 8, below 65536.
    pub fragment_offset: u16,
    /// Time to live; [`Ipv4Fields::OUTER_TTL`] on outer packets.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl Ipv4Fields {
    /// TTL of every outer packet (protocol section 2).
    pub const OUTER_TTL: u8 = 64;

    /// An outer header as protocol section 2 has it: DF, TTL 64, ID 0, nothing of the inner header.
    pub fn outer(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, total_len: u16) -> Self {
        Self {
            total_len,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: Self::OUTER_TTL,
            protocol,
            source,
            destination,
        }
    }
}

/// Writes a header of 20 bytes, checksum included.
pub fn write_header(out: &mut [u8; HEADER_LEN], fields: &Ipv4Fields) {
    let mut flags_offset = fields.fragment_offset / 8;
    if fields.dont_fragment {
        flags_offset |= DONT_FRAGMENT;
    }
    if fields.more_fragments {
        flags_offset |= MORE_FRAGMENTS;
    }
    let mut header = Ipv4Header {
        version_ihl: 0x45,
        tos: 0,
        total_len: U16::new(fields.total_len),
        id: U16::new(fields.id),
        flags_offset: U16::new(flags_offset),
        ttl: fields.ttl,
        protocol: fields.protocol,
        checksum: U16::ZERO,
        source: fields.source.octets(),
        destination: fields.destination.octets(),
    };
    header.checksum = U16::new(checksum::checksum(header.as_bytes()));
    out.copy_from_slice(header.as_bytes());
}

/// Takes one from the TTL in place and moves the header checksum along; the new TTL.
///
/// # Errors
/// [`WireError::TtlExceeded`] if the TTL is 0 or 1, `Truncated` if `datagram` has no whole header; nothing is changed then.
pub fn decrement_ttl(datagram: &mut [u8]) -> Result<u8, WireError> {
    let (header, _) = Ipv4Header::mut_from_prefix(datagram).map_err(|_| WireError::Truncated("IPv4"))?;
    if header.ttl <= 1 {
        return Err(WireError::TtlExceeded);
    }
    let old = u16::from_be_bytes([header.ttl, header.protocol]);
    header.ttl -= 1;
    let new = u16::from_be_bytes([header.ttl, header.protocol]);
    header.checksum = U16::new(checksum::update(header.checksum.get(), old, new));
    Ok(header.ttl)
}

/// Computes the header checksum anew, after fields were changed in place.
///
/// # Errors
/// [`WireError::Truncated`] or [`WireError::HeaderLength`] if `datagram` has no whole header.
pub fn refresh_checksum(datagram: &mut [u8]) -> Result<(), WireError> {
    let first = *datagram.first().ok_or(WireError::Truncated("IPv4"))?;
    let header_len = usize::from(first & 0x0f) * 4;
    if header_len < HEADER_LEN {
        return Err(WireError::HeaderLength("IPv4"));
    }
    let header = datagram.get_mut(..header_len).ok_or(WireError::Truncated("IPv4"))?;
    header[10..12].fill(0);
    let sum = checksum::checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    /// A UDP datagram of 115 bytes whose header checksum, 0xb861, is the customary worked example.
    const GOLDEN: [u8; 20] = hex!("4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7");

    fn golden() -> Vec<u8> {
        let mut datagram = GOLDEN.to_vec();
        datagram.resize(0x73, 7);
        datagram
    }

    #[test]
    fn golden_header_is_read_and_written() {
        let datagram = golden();
        let ip = Ipv4::parse(&datagram).unwrap();
        assert_eq!((ip.header_len(), ip.total_len(), ip.payload().len()), (20, 115, 95));
        assert_eq!(ip.source(), Ipv4Addr::new(192, 168, 0, 1));
        assert_eq!(ip.destination(), Ipv4Addr::new(192, 168, 0, 199));
        assert_eq!((ip.protocol(), ip.ttl(), ip.id()), (17, 64, 0));
        assert!(ip.dont_fragment() && !ip.more_fragments() && !ip.is_fragment());
        let mut out = [0xaa; 20];
        write_header(&mut out, &Ipv4Fields::outer(ip.source(), ip.destination(), 17, 115));
        assert_eq!(out, GOLDEN);
    }

    #[test]
    fn each_check_refuses() {
        let change = |at: usize, value: u8| {
            let mut datagram = golden();
            datagram[at] = value;
            Ipv4::parse(&datagram).map(|_| ()).unwrap_err()
        };
        assert_eq!(change(0, 0x65), WireError::Version);
        assert_eq!(change(0, 0x44), WireError::HeaderLength("IPv4"));
        assert_eq!(change(3, 0x74), WireError::TotalLength("IPv4"));
        assert_eq!(change(3, 19), WireError::TotalLength("IPv4"));
        assert_eq!(change(8, 63), WireError::Checksum("IPv4"));
        let datagram = golden();
        for len in 0..datagram.len() {
            assert!(Ipv4::parse(&datagram[..len]).is_err());
        }
    }

    #[test]
    fn bytes_behind_the_datagram_are_left_out() {
        let mut datagram = golden();
        datagram.extend([0; 9]);
        assert_eq!(Ipv4::parse(&datagram).unwrap().bytes().len(), 115);
    }

    #[test]
    fn ttl_counts_down_to_one_and_stops() {
        let mut datagram = golden();
        for ttl in (1..64).rev() {
            assert_eq!(decrement_ttl(&mut datagram), Ok(ttl));
            assert_eq!(Ipv4::parse(&datagram).unwrap().ttl(), ttl);
        }
        let before = datagram.clone();
        assert_eq!(decrement_ttl(&mut datagram), Err(WireError::TtlExceeded));
        assert_eq!(datagram, before);
        assert!(decrement_ttl(&mut datagram[..19]).is_err());
    }

    #[test]
    fn refreshed_checksum_is_right() {
        let mut datagram = golden();
        datagram[12] = 10;
        refresh_checksum(&mut datagram).unwrap();
        assert_eq!(Ipv4::parse(&datagram).unwrap().source(), Ipv4Addr::new(10, 168, 0, 1));
        assert_eq!(refresh_checksum(&mut [0x44; 20]), Err(WireError::HeaderLength("IPv4")));
        assert_eq!(refresh_checksum(&mut [0x4f; 59]), Err(WireError::Truncated("IPv4")));
    }

    proptest! {
        #[test]
        fn parse_of_write_is_identity(
            payload in 0u16..100, id: u16, dont_fragment: bool, more_fragments: bool, offset in 0u16..8192, ttl: u8, protocol: u8,
            source: u32, destination: u32,
        ) {
            let fields = Ipv4Fields {
                total_len: 20 + payload, id, dont_fragment, more_fragments, fragment_offset: offset * 8, ttl, protocol,
                source: source.into(), destination: destination.into(),
            };
            let mut datagram = vec![0; usize::from(fields.total_len)];
            write_header(datagram.first_chunk_mut().unwrap(), &fields);
            let ip = Ipv4::parse(&datagram).unwrap();
            let read = Ipv4Fields {
                total_len: ip.total_len() as u16, id: ip.id(), dont_fragment: ip.dont_fragment(), more_fragments: ip.more_fragments(),
                fragment_offset: ip.fragment_offset() as u16, ttl: ip.ttl(), protocol: ip.protocol(),
                source: ip.source(), destination: ip.destination(),
            };
            prop_assert_eq!(read, fields);
            prop_assert_eq!(ip.is_fragment(), more_fragments || offset != 0);
        }

        #[test]
        fn parse_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..120), plausible: bool) {
            if plausible && !bytes.is_empty() {
                bytes[0] = 0x40 | bytes[0] & 0x0f;
                if bytes.len() > 3 {
                    bytes[2] = 0;
                }
                let _ = refresh_checksum(&mut bytes);
            }
            if let Ok(ip) = Ipv4::parse(&bytes) {
                prop_assert_eq!(ip.header_len() + ip.payload().len(), ip.total_len());
            }
            let _ = decrement_ttl(&mut bytes);
        }
    }
}
