//! ICMP (RFC 792): the fixed header that errors and echoes share.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{WireError, checksum};

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 8;
/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Source quench (deprecated by RFC 6633, still quotes a datagram).
pub const SOURCE_QUENCH: u8 = 4;
/// Redirect.
pub const REDIRECT: u8 = 5;
/// Echo request.
pub const ECHO: u8 = 8;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;
/// Code of [`UNREACHABLE`]: fragmentation needed and DF set; the MTU is in [`IcmpHeader::rest`] (RFC 1191 section 4).
pub const CODE_FRAGMENTATION_NEEDED: u8 = 4;
/// Code of [`UNREACHABLE`]: communication administratively prohibited (RFC 1812 section 5.2.7.1).
pub const CODE_ADMINISTRATIVELY_PROHIBITED: u8 = 13;

/// The fixed header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IcmpHeader {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum over the whole message, without pseudo-header.
    pub checksum: U16,
    /// What the type makes of it: next-hop MTU in the low half, identifier and sequence, pointer, gateway.
    pub rest: U32,
}

impl IcmpHeader {
    /// The header, and what follows it. The checksum is not looked at.
    ///
    /// # Errors
    /// [`WireError::Truncated`] under 8 bytes.
    pub fn parse(message: &[u8]) -> Result<(&Self, &[u8]), WireError> {
        Self::ref_from_prefix(message).map_err(|_| WireError::Truncated("ICMP"))
    }

    /// Whether the message is an error that quotes the head of a datagram (RFC 1122 section 3.2.2).
    pub fn is_error(&self) -> bool {
        matches!(
            self.kind,
            UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM
        )
    }
}

/// Writes the header over the front of `message` and the checksum over all of it.
///
/// # Errors
/// [`WireError::Truncated`] under 8 bytes.
pub fn write(message: &mut [u8], kind: u8, code: u8, rest: u32) -> Result<(), WireError> {
    write_unsummed(message, kind, code, rest)?;
    let sum = checksum::checksum(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

/// Writes the header with a checksum of 0.
pub(super) fn write_unsummed(message: &mut [u8], kind: u8, code: u8, rest: u32) -> Result<(), WireError> {
    let header = IcmpHeader {
        kind,
        code,
        checksum: U16::ZERO,
        rest: U32::new(rest),
    };
    header
        .write_to_prefix(message)
        .map_err(|_| WireError::Truncated("ICMP"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn written_message_sums_to_zero_and_reads_back() {
        let mut message = [0x5a; 37];
        write(&mut message, UNREACHABLE, CODE_FRAGMENTATION_NEEDED, 1386).unwrap();
        assert_eq!(checksum::checksum(&message), 0);
        let (header, rest) = IcmpHeader::parse(&message).unwrap();
        assert_eq!(
            (header.kind, header.code, header.rest.get(), rest.len()),
            (3, 4, 1386, 29)
        );
        assert!(header.is_error());
        assert!(write(&mut [0; 7], ECHO, 0, 0).is_err());
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            prop_assert_eq!(IcmpHeader::parse(&bytes).is_ok(), bytes.len() >= HEADER_LEN);
        }
    }
}
