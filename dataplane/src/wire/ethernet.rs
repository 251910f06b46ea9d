//! Ethernet II: fourteen bytes before every packet of a port.

use std::fmt;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::WireError;

/// Bytes of the header.
pub const HEADER_LEN: usize = 14;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Whether the group bit is set: multicast or broadcast (IEEE 802-2014 section 8.2.2).
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MacAddr({self})")
    }
}

/// The header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EthernetHeader {
    /// Receiver.
    pub destination: MacAddr,
    /// Sender.
    pub source: MacAddr,
    /// What follows, [`ETHERTYPE_IPV4`] for instance.
    pub ethertype: U16,
}

impl EthernetHeader {
    /// A header.
    pub fn new(destination: MacAddr, source: MacAddr, ethertype: u16) -> Self {
        Self {
            destination,
            source,
            ethertype: U16::new(ethertype),
        }
    }

    /// The header at the front of `frame`, and what follows it.
    ///
    /// # Errors
    /// [`WireError::Truncated`] under 14 bytes.
    pub fn parse(frame: &[u8]) -> Result<(&Self, &[u8]), WireError> {
        Self::ref_from_prefix(frame).map_err(|_| WireError::Truncated("Ethernet"))
    }

    /// Writes the header over the front of `frame`.
    ///
    /// # Errors
    /// [`WireError::Truncated`] under 14 bytes.
    pub fn write(&self, frame: &mut [u8]) -> Result<(), WireError> {
        self.write_to_prefix(frame)
            .map_err(|_| WireError::Truncated("Ethernet"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn golden_header_round_trips() {
        let frame = hex!("0200000000ff 020000000001 0800 45");
        let (header, rest) = EthernetHeader::parse(&frame).unwrap();
        assert_eq!(header.destination.to_string(), "02:00:00:00:00:ff");
        assert_eq!(header.ethertype.get(), ETHERTYPE_IPV4);
        assert_eq!(rest, [0x45]);
        let mut out = [0; 15];
        EthernetHeader::new(header.destination, header.source, ETHERTYPE_IPV4)
            .write(&mut out)
            .unwrap();
        assert_eq!(out[..14], frame[..14]);
        for len in 0..HEADER_LEN {
            assert!(EthernetHeader::parse(&frame[..len]).is_err());
            assert!(header.write(&mut vec![0; len]).is_err());
        }
    }

    #[test]
    fn group_bit() {
        assert!(MacAddr([0xff; 6]).is_multicast());
        assert!(!MacAddr([2, 0, 0, 0, 0, 1]).is_multicast());
    }
}
