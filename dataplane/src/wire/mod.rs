//! What the bytes on the wire mean.
//!
//! One file a header. A `parse` takes untrusted bytes and yields a type that proves what was checked (`Ipv4`, `Ah`, `EspPacket`);
//! a `write` takes the fields and fills a slice. Nothing here panics on any input, copies a packet or knows a key.
//!
//! ```text
//!  Ethernet | IP | AH | ESP header, IV | inner IP datagram, trailer | ICV      an ESP+AH tunnel (protocol section 2)
//!  Ethernet | IP | AH | cell                                                   a TVT (protocol section 3)
//! ```

pub mod ah;
pub mod cell;
pub mod checksum;
pub mod esp;
pub mod ethernet;
pub mod extension;
pub mod icmp;
pub mod icmpv6;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod outer;
pub mod udp;

use thiserror::Error;

/// IP protocol numbers (IANA "Assigned Internet Protocol Numbers") that the packet path knows, and one port.
pub mod protocol {
    /// UDP port of signals between AINs and of requests of hosts to theirs (protocol sections 6 and 7).
    pub const AIN_PORT: u16 = 4797;
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// IPv4 in IP: the inner datagram of an ESP tunnel is IPv4.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP: the inner datagram of an ESP tunnel is IPv6.
    pub const IPV6: u8 = 41;
    /// Encapsulating security payload (RFC 4303).
    pub const ESP: u8 = 50;
    /// Authentication header (RFC 4302).
    pub const AH: u8 = 51;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// No next header; in ESP a dummy packet (RFC 4303 section 2.6).
    pub const NONE: u8 = 59;
    /// "Any private encryption scheme": what follows the AH of a TVT is a cell (protocol section 3).
    pub const CELL: u8 = 99;
}

/// Why bytes were not what they had to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum WireError {
    /// The buffer ends inside a header.
    #[error("{0} header cut short")]
    Truncated(&'static str),
    /// Version nibble neither fits the header nor the EtherType or next header that announced it.
    #[error("wrong IP version")]
    Version,
    /// IHL under 5, AH payload length under 1, UDP length under 8, or a header longer than its packet.
    #[error("{0} header length impossible")]
    HeaderLength(&'static str),
    /// The datagram claims more bytes than the buffer has, or fewer than its header.
    #[error("{0} total length does not fit the buffer")]
    TotalLength(&'static str),
    /// Internet checksum of the header is wrong.
    #[error("{0} checksum wrong")]
    Checksum(&'static str),
    /// SPI 0..=255 (RFC 4302 section 2.4, RFC 4303 section 2.1).
    #[error("reserved SPI")]
    ReservedSpi,
    /// The ICV field has another length than the SA's algorithm makes.
    #[error("ICV length does not fit the algorithm")]
    IcvLength,
    /// An option runs past its header or is shorter than its fixed part.
    #[error("malformed IP option")]
    Option,
    /// A piece of a packet where a whole one has to be.
    #[error("a fragment")]
    Fragment,
    /// An IPv6 extension header or option that has no place before an AH.
    #[error("{0} before the AH")]
    Extension(&'static str),
    /// Text length not a multiple of four, or padding longer than the packet or not 1, 2, 3, ... (RFC 4303 section 2.4).
    #[error("ESP padding wrong")]
    Padding,
    /// A next header that has no place here.
    #[error("unexpected next header {0}")]
    NextHeader(u8),
    /// TTL or hop limit is used up.
    #[error("TTL exceeded")]
    TtlExceeded,
    /// More IPv6 extension headers than anyone needs ([`crate::limits::EXTENSION_HEADERS`]).
    #[error("too many IPv6 extension headers")]
    Extensions,
}

/// Length in bytes of the IPv4 or IPv6 datagram that begins with `bytes`, as its own header states it; the checksum is not looked at.
///
/// Serves where several datagrams, or a datagram and padding, share a buffer: AGGFRAG blocks (RFC 9347 section 6.1.4) and ESP
/// with traffic-flow-confidentiality padding (RFC 4303 section 2.7).
///
/// # Errors
/// [`WireError::Version`] for any other first nibble, `Truncated` if the length field is not there yet, `TotalLength` if the length is
/// less than the fixed header. It may exceed `bytes.len()`.
pub fn datagram_len(bytes: &[u8]) -> Result<usize, WireError> {
    let first = *bytes.first().ok_or(WireError::Truncated("IP"))?;
    match first >> 4 {
        4 => {
            let field = bytes.get(2..4).ok_or(WireError::Truncated("IPv4"))?;
            let total = usize::from(u16::from_be_bytes([field[0], field[1]]));
            if total < ipv4::HEADER_LEN {
                Err(WireError::TotalLength("IPv4"))
            } else {
                Ok(total)
            }
        }
        6 => {
            let field = bytes.get(4..6).ok_or(WireError::Truncated("IPv6"))?;
            Ok(ipv6::HEADER_LEN + usize::from(u16::from_be_bytes([field[0], field[1]])))
        }
        _ => Err(WireError::Version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagram_length_is_read_from_either_family() {
        assert_eq!(datagram_len(&[0x45, 0, 0x01, 0x02]), Ok(258));
        assert_eq!(datagram_len(&[0x60, 0, 0, 0, 0x00, 0x10]), Ok(56));
        assert_eq!(datagram_len(&[0x45, 0, 0, 19]), Err(WireError::TotalLength("IPv4")));
        assert_eq!(datagram_len(&[0x45, 0, 1]), Err(WireError::Truncated("IPv4")));
        assert_eq!(datagram_len(&[0x60, 0, 0, 0, 1]), Err(WireError::Truncated("IPv6")));
        assert_eq!(datagram_len(&[]), Err(WireError::Truncated("IP")));
        assert_eq!(datagram_len(&[0; 40]), Err(WireError::Version));
    }
}
