//! The outer headers of everything sent to one peer, made once: Ethernet and IPv4 before the AH.
//!
//! ```text
//!  Ethernet (14) | IPv4 (20) | AH ...
//!                  `- DF, TTL 64, DSCP 0, ID 0 (protocol section 2): only total length and checksum differ from packet to packet
//! ```
//!
//! A packet gets them in two steps, as the ICV computation wants it: [`Outer::write_masked`] before, with the mutable fields zero
//! (RFC 4302 section 3.3.3.1.1), [`Outer::unmask`] after.

use std::net::Ipv4Addr;

use super::checksum::Sum;
use super::ethernet::{self, ETHERTYPE_IPV4, EthernetHeader};
use super::ipv4::{self, Ipv4Fields};
use super::protocol;
use crate::id::PortId;
use crate::peers::Link;

/// Bytes of both headers.
pub const OUTER_LEN: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN;

const IP: usize = ethernet::HEADER_LEN;
const TOTAL_LEN: std::ops::Range<usize> = IP + 2..IP + 4;
const FLAGS: usize = IP + 6;
const TTL: usize = IP + 8;
const CHECKSUM: std::ops::Range<usize> = IP + 10..IP + 12;

/// The headers of one peer, total length and checksum zero.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    bytes: [u8; OUTER_LEN],
    /// Sum of the IPv4 header but for the total length.
    sum: Sum,
    port: PortId,
}

impl Outer {
    /// Headers of AH packets over `link` of `port`.
    pub fn new(port: PortId, link: Link, source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        let mut bytes = [0; OUTER_LEN];
        let (frame, ip) = bytes.split_at_mut(ethernet::HEADER_LEN);
        let frame: &mut [u8; ethernet::HEADER_LEN] = frame.try_into().expect("split there");
        *frame = zerocopy::transmute!(EthernetHeader::new(link.destination, link.source, ETHERTYPE_IPV4));
        let ip: &mut [u8; ipv4::HEADER_LEN] = ip.try_into().expect("what is left");
        ipv4::write_header(ip, &Ipv4Fields::outer(source, destination, protocol::AH, 0));
        bytes[CHECKSUM].fill(0);
        Self {
            sum: Sum::new().add_bytes(&bytes[IP..]),
            bytes,
            port,
        }
    }

    /// The port towards the peer.
    pub const fn port(&self) -> PortId {
        self.port
    }

    /// Lays the headers of a packet of `total_len` bytes, IPv4 header included, with the mutable fields zero.
    pub fn write_masked(&self, front: &mut [u8; OUTER_LEN], total_len: u16) {
        *front = self.bytes;
        front[TOTAL_LEN].copy_from_slice(&total_len.to_be_bytes());
        front[FLAGS] = 0;
        front[TTL] = 0;
    }

    /// Fills in the mutable fields that [`Self::write_masked`] left zero.
    pub fn unmask(&self, front: &mut [u8; OUTER_LEN]) {
        front[FLAGS] = self.bytes[FLAGS];
        front[TTL] = self.bytes[TTL];
        let total_len = u16::from_be_bytes([front[TOTAL_LEN.start], front[TOTAL_LEN.start + 1]]);
        front[CHECKSUM].copy_from_slice(&self.sum.add_u16(total_len).finish().to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ah::mask_mutable_ipv4;
    use crate::wire::ethernet::MacAddr;
    use crate::wire::ipv4::Ipv4;
    use proptest::prelude::*;

    proptest! {
        /// Masked, it is what a receiver masks; unmasked, a header that holds its checksum and says what the protocol wants.
        #[test]
        fn both_steps_agree_with_the_header_writer(source: u32, destination: u32, payload in 0usize..1500) {
            let link = Link { source: MacAddr([2, 0, 0, 0, 0, 1]), destination: MacAddr([2, 0, 0, 0, 0, 2]) };
            let (source, destination) = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
            let outer = Outer::new(PortId(0), link, source, destination);
            let mut frame = vec![0xa5; OUTER_LEN + payload];
            let total = (ipv4::HEADER_LEN + payload) as u16;
            outer.write_masked(frame.first_chunk_mut().unwrap(), total);
            let masked = frame.clone();
            outer.unmask(frame.first_chunk_mut().unwrap());
            let mut expected = [0; ipv4::HEADER_LEN];
            ipv4::write_header(&mut expected, &Ipv4Fields::outer(source, destination, protocol::AH, total));
            prop_assert_eq!(&frame[IP..OUTER_LEN], &expected[..]);
            prop_assert!(Ipv4::parse(&frame[IP..]).is_ok());
            let (ethernet, _) = EthernetHeader::parse(&frame).unwrap();
            prop_assert_eq!(*ethernet, EthernetHeader::new(link.destination, link.source, ETHERTYPE_IPV4));
            mask_mutable_ipv4(&mut frame[IP..OUTER_LEN]).unwrap();
            prop_assert_eq!(frame, masked);
        }
    }
}
