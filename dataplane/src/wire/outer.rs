//! The outer headers of everything sent to one peer, made once: Ethernet and IP before the AH.
//!
//! ```text
//!  Ethernet (14) | IPv4 (20) | AH ...
//!                  `- DF, TTL 64, DSCP 0, ID 0 (protocol section 2): only total length and checksum differ from packet to packet
//!  Ethernet (14) | IPv6 (40) | AH ...
//!                  `- hop limit 64, DSCP 0, flow label 0: only the payload length differs
//! ```
//!
//! A packet gets them in two steps, as the ICV computation wants it: [`Outer::write_masked`] before, with the mutable fields zero
//! (RFC 4302 section 3.3.3.1), [`Outer::unmask`] after.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ah::Family;
use super::checksum::Sum;
use super::ethernet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader};
use super::ipv4::{self, Ipv4Fields};
use super::ipv6::{self, Ipv6Header};
use super::{WireError, protocol};
use crate::id::PortId;
use crate::peers::Link;

const IP: usize = ethernet::HEADER_LEN;

/// The headers of one peer and the port towards it.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    port: PortId,
    headers: Headers,
}

#[derive(Clone, Copy, Debug)]
enum Headers {
    V4(V4),
    V6(V6),
}

impl Outer {
    /// Headers of AH packets over `link` of `port`; `None` if the addresses are of two families.
    pub fn new(port: PortId, link: Link, source: IpAddr, destination: IpAddr) -> Option<Self> {
        let headers = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Headers::V4(V4::new(link, source, destination)),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Headers::V6(V6::new(link, source, destination)),
            _ => return None,
        };
        Some(Self { port, headers })
    }

    /// The port towards the peer.
    pub const fn port(&self) -> PortId {
        self.port
    }

    /// Of the IP header.
    pub const fn family(&self) -> Family {
        match self.headers {
            Headers::V4(_) => Family::V4,
            Headers::V6(_) => Family::V6,
        }
    }

    /// Bytes of both headers.
    #[allow(clippy::len_without_is_empty)] // headers are never empty
    pub const fn len(&self) -> usize {
        match self.headers {
            Headers::V4(_) => V4::LEN,
            Headers::V6(_) => V6::LEN,
        }
    }

    /// Lays the headers, the mutable fields zero, over the front of a whole frame; what follows them.
    ///
    /// # Errors
    /// `Truncated`, or `TotalLength` for what is longer than an IP packet can be, of [`WireError`].
    pub fn write_masked<'f>(&self, frame: &'f mut [u8]) -> Result<&'f mut [u8], WireError> {
        match &self.headers {
            Headers::V4(headers) => {
                let (front, rest) = split(frame)?;
                let total_len =
                    u16::try_from(ipv4::HEADER_LEN + rest.len()).map_err(|_| WireError::TotalLength("IPv4"))?;
                headers.write_masked(front, total_len);
                Ok(rest)
            }
            Headers::V6(headers) => {
                let (front, rest) = split(frame)?;
                let payload_len = u16::try_from(rest.len()).map_err(|_| WireError::TotalLength("IPv6"))?;
                headers.write_masked(front, payload_len);
                Ok(rest)
            }
        }
    }

    /// Fills in the mutable fields that [`Self::write_masked`] left zero; what follows the headers.
    ///
    /// # Errors
    /// [`WireError::Truncated`] if the headers are not there.
    pub fn unmask<'f>(&self, frame: &'f mut [u8]) -> Result<&'f mut [u8], WireError> {
        match &self.headers {
            Headers::V4(headers) => {
                let (front, rest) = split(frame)?;
                headers.unmask(front);
                Ok(rest)
            }
            Headers::V6(headers) => {
                let (front, rest) = split(frame)?;
                headers.unmask(front);
                Ok(rest)
            }
        }
    }
}

fn split<const LEN: usize>(frame: &mut [u8]) -> Result<(&mut [u8; LEN], &mut [u8]), WireError> {
    frame.split_first_chunk_mut().ok_or(WireError::Truncated("IP"))
}

/// The Ethernet header before either.
fn ethernet_bytes(link: Link, ethertype: u16) -> [u8; ethernet::HEADER_LEN] {
    zerocopy::transmute!(EthernetHeader::new(link.destination, link.source, ethertype))
}

/// With IPv4: total length and checksum zero.
#[derive(Clone, Copy, Debug)]
struct V4 {
    bytes: [u8; Self::LEN],
    /// Sum of the IPv4 header but for the total length.
    sum: Sum,
}

impl V4 {
    const LEN: usize = IP + ipv4::HEADER_LEN;
    const TOTAL_LEN: std::ops::Range<usize> = IP + 2..IP + 4;
    const FLAGS: usize = IP + 6;
    const TTL: usize = IP + 8;
    const CHECKSUM: std::ops::Range<usize> = IP + 10..IP + 12;

    fn new(link: Link, source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        let mut ip = [0; ipv4::HEADER_LEN];
        ipv4::write_header(&mut ip, &Ipv4Fields::outer(source, destination, protocol::AH, 0));
        let mut bytes = [0; Self::LEN];
        bytes[..IP].copy_from_slice(&ethernet_bytes(link, ETHERTYPE_IPV4));
        bytes[IP..].copy_from_slice(&ip);
        bytes[Self::CHECKSUM].fill(0);
        Self {
            sum: Sum::new().add_bytes(&bytes[IP..]),
            bytes,
        }
    }

    /// `total_len`: bytes of the packet, IPv4 header included.
    fn write_masked(&self, front: &mut [u8; Self::LEN], total_len: u16) {
        *front = self.bytes;
        front[Self::TOTAL_LEN].copy_from_slice(&total_len.to_be_bytes());
        front[Self::FLAGS] = 0;
        front[Self::TTL] = 0;
    }

    fn unmask(&self, front: &mut [u8; Self::LEN]) {
        front[Self::FLAGS] = self.bytes[Self::FLAGS];
        front[Self::TTL] = self.bytes[Self::TTL];
        let total_len = u16::from_be_bytes([front[Self::TOTAL_LEN.start], front[Self::TOTAL_LEN.start + 1]]);
        front[Self::CHECKSUM].copy_from_slice(&self.sum.add_u16(total_len).finish().to_be_bytes());
    }
}

/// With IPv6: payload length and hop limit zero.
#[derive(Clone, Copy, Debug)]
struct V6 {
    bytes: [u8; Self::LEN],
}

impl V6 {
    const LEN: usize = IP + ipv6::HEADER_LEN;
    const PAYLOAD_LEN: std::ops::Range<usize> = IP + 4..IP + 6;
    const HOP_LIMIT: usize = IP + 7;

    fn new(link: Link, source: Ipv6Addr, destination: Ipv6Addr) -> Self {
        let ip: [u8; ipv6::HEADER_LEN] = zerocopy::transmute!(Ipv6Header::plain(source, destination, protocol::AH, 0));
        let mut bytes = [0; Self::LEN];
        bytes[..IP].copy_from_slice(&ethernet_bytes(link, ETHERTYPE_IPV6));
        bytes[IP..].copy_from_slice(&ip);
        bytes[Self::HOP_LIMIT] = 0;
        Self { bytes }
    }

    /// `payload_len`: bytes behind the IPv6 header.
    fn write_masked(&self, front: &mut [u8; Self::LEN], payload_len: u16) {
        *front = self.bytes;
        front[Self::PAYLOAD_LEN].copy_from_slice(&payload_len.to_be_bytes());
    }

    fn unmask(&self, front: &mut [u8; Self::LEN]) {
        front[Self::HOP_LIMIT] = Ipv6Header::HOP_LIMIT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ah::{mask_mutable_ipv4, mask_mutable_ipv6, offset_ipv6};
    use crate::wire::ethernet::MacAddr;
    use crate::wire::ipv4::Ipv4;
    use crate::wire::ipv6::Ipv6;
    use proptest::prelude::*;

    const LINK: Link = Link {
        source: MacAddr([2, 0, 0, 0, 0, 1]),
        destination: MacAddr([2, 0, 0, 0, 0, 2]),
    };

    /// A frame with a payload, masked and as it is sent.
    fn both_steps(outer: &Outer, payload: usize) -> (Vec<u8>, Vec<u8>) {
        let mut frame = vec![0xa5; outer.len() + payload];
        assert_eq!(outer.write_masked(&mut frame).unwrap(), vec![0xa5; payload]);
        let masked = frame.clone();
        assert_eq!(outer.unmask(&mut frame).unwrap(), vec![0xa5; payload]);
        (masked, frame)
    }

    proptest! {
        /// Masked, it is what a receiver masks; unmasked, a header that holds its checksum and says what the protocol wants.
        #[test]
        fn both_steps_agree_with_the_header_writer(source: u32, destination: u32, payload in 0usize..1500) {
            let (source, destination) = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
            let outer = Outer::new(PortId(0), LINK, source.into(), destination.into()).unwrap();
            let (masked, mut frame) = both_steps(&outer, payload);
            let mut expected = [0; ipv4::HEADER_LEN];
            let total = (ipv4::HEADER_LEN + payload) as u16;
            ipv4::write_header(&mut expected, &Ipv4Fields::outer(source, destination, protocol::AH, total));
            prop_assert_eq!(&frame[IP..outer.len()], &expected[..]);
            prop_assert!(Ipv4::parse(&frame[IP..]).is_ok());
            let (ethernet, _) = EthernetHeader::parse(&frame).unwrap();
            prop_assert_eq!(*ethernet, EthernetHeader::new(LINK.destination, LINK.source, ETHERTYPE_IPV4));
            mask_mutable_ipv4(&mut frame[IP..outer.len()]).unwrap();
            prop_assert_eq!(frame, masked);
        }

        #[test]
        fn both_steps_agree_over_ipv6(source: u128, destination: u128, payload in 0usize..1500) {
            let (source, destination) = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
            let outer = Outer::new(PortId(0), LINK, source.into(), destination.into()).unwrap();
            let (masked, mut frame) = both_steps(&outer, payload);
            prop_assert_eq!(&frame[IP..IP + 4], &[0x60, 0, 0, 0]);
            let ip = Ipv6::parse(&frame[IP..]).unwrap();
            prop_assert_eq!((ip.source(), ip.destination(), ip.hop_limit()), (source, destination, 64));
            prop_assert_eq!((ip.payload().len(), offset_ipv6(&ip)), (payload, Ok(ipv6::HEADER_LEN)));
            let (ethernet, _) = EthernetHeader::parse(&frame).unwrap();
            prop_assert_eq!(*ethernet, EthernetHeader::new(LINK.destination, LINK.source, ETHERTYPE_IPV6));
            mask_mutable_ipv6(&mut frame[IP..outer.len()]).unwrap();
            prop_assert_eq!(frame, masked);
        }
    }

    #[test]
    fn addresses_are_of_one_family_and_packets_not_too_long() {
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        assert!(Outer::new(PortId(0), LINK, v4, v6).is_none());
        assert!(Outer::new(PortId(0), LINK, v6, v4).is_none());
        for (address, most) in [(v4, 65_535 + IP), (v6, 65_535 + V6::LEN)] {
            let outer = Outer::new(PortId(0), LINK, address, address).unwrap();
            assert!(outer.write_masked(&mut vec![0; most]).is_ok());
            assert!(outer.write_masked(&mut vec![0; most + 1]).is_err());
        }
    }
}
