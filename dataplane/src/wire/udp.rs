//! UDP (RFC 768).

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::WireError;

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// Where the checksum lies in the header.
pub const CHECKSUM_OFFSET: usize = 6;

/// The header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UdpHeader {
    /// Source port.
    pub source_port: U16,
    /// Destination port.
    pub destination_port: U16,
    /// Header and payload, bytes.
    pub len: U16,
    /// Checksum with pseudo-header ([`super::checksum::transport_ipv4`]); 0 means none was made.
    pub checksum: U16,
}

impl UdpHeader {
    /// A header whose checksum is still 0.
    pub fn new(source_port: u16, destination_port: u16, len: u16) -> Self {
        Self {
            source_port: U16::new(source_port),
            destination_port: U16::new(destination_port),
            len: U16::new(len),
            checksum: U16::ZERO,
        }
    }

    /// The header and the payload of `segment`, as long as the header's length field says. The checksum is not looked at.
    ///
    /// # Errors
    /// `Truncated`, `HeaderLength` or `TotalLength` of [`WireError`].
    pub fn parse(segment: &[u8]) -> Result<(&Self, &[u8]), WireError> {
        let (header, rest) = Self::ref_from_prefix(segment).map_err(|_| WireError::Truncated("UDP"))?;
        let len = usize::from(header.len.get())
            .checked_sub(HEADER_LEN)
            .ok_or(WireError::HeaderLength("UDP"))?;
        let payload = rest.get(..len).ok_or(WireError::TotalLength("UDP"))?;
        Ok((header, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn golden_segment_is_read_and_written() {
        let segment = hex!("12bd 0035 000a 0000 cafe ff");
        let (header, payload) = UdpHeader::parse(&segment).unwrap();
        assert_eq!(payload, hex!("cafe"));
        assert_eq!(*header, UdpHeader::new(4797, 53, 10));
        assert_eq!(header.as_bytes(), &segment[..8]);
        assert_eq!(
            UdpHeader::parse(&hex!("12bd 0035 0007 0000")),
            Err(WireError::HeaderLength("UDP"))
        );
        for len in 0..10 {
            assert!(UdpHeader::parse(&segment[..len]).is_err());
        }
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = UdpHeader::parse(&bytes);
        }
    }
}
