//! What is the kernel's, on ports that it does not share: it goes there through a tap that stands for the port, in kinds each of which
//! has a rate of its own, so that a flood of one starves no other, and all of them together cost a worker little.

use ain_crypto::Backend;

use crate::allowance::{Allowance, Used};
use crate::engine::Engine;
use crate::id::{Now, PortId};
use crate::limits::{EXCEPTIONS_IKE, EXCEPTIONS_NEIGHBOUR, EXCEPTIONS_OTHER};
use crate::nat::neighbour::ETHERTYPE_ARP;
use crate::outside::Outside;
use crate::packet::PacketBuf;
use crate::verdict::DropReason;
use crate::wire::WireError;
use crate::wire::ah::offset_ipv6;
use crate::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader};
use crate::wire::icmpv6::{REDIRECT, ROUTER_SOLICITATION};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::protocol;
use crate::wire::udp::UdpHeader;

/// UDP ports of IKE, and of IKE where it looks for NATs (RFC 7296 section 2).
const IKE_PORTS: [u16; 2] = [500, 4500];

/// What the kernel gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exception {
    /// ARP and neighbour discovery, without which nothing leaves the port.
    Neighbour,
    /// IKE, without which tunnels end.
    Ike,
    /// The rest: ping, SSH.
    Other,
}

/// What a worker has given of each kind for one port.
pub(crate) type Given = [Used; 3];

impl Exception {
    /// The kind of an Ethernet frame; none of what the kernel never gets: neither ARP nor IP, malformed, AH or ESP.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let (header, packet) = EthernetHeader::parse(frame).ok()?;
        match header.ethertype.get() {
            ETHERTYPE_ARP => Some(Self::Neighbour),
            ETHERTYPE_IPV4 => Self::of_ipv4(&Ipv4::parse(packet).ok()?),
            ETHERTYPE_IPV6 => Self::of_ipv6(&Ipv6::parse(packet).ok()?),
            _ => None,
        }
    }

    fn of_ipv4(ip: &Ipv4<'_>) -> Option<Self> {
        match ip.protocol() {
            protocol::AH | protocol::ESP => None,
            protocol::UDP if !ip.is_fragment() => Some(Self::of_udp(ip.payload())),
            _ => Some(Self::Other),
        }
    }

    fn of_ipv6(ip: &Ipv6<'_>) -> Option<Self> {
        match (ip.next_header(), offset_ipv6(ip)) {
            (protocol::UDP, _) => Some(Self::of_udp(ip.payload())),
            (protocol::ICMPV6, _) if is_discovery(ip.payload()) => Some(Self::Neighbour),
            (_, Err(WireError::NextHeader(carries))) if carries != protocol::ESP => Some(Self::Other),
            _ => None,
        }
    }

    fn of_udp(segment: &[u8]) -> Self {
        match UdpHeader::parse(segment) {
            Ok((header, _)) if IKE_PORTS.contains(&header.destination_port.get()) => Self::Ike,
            _ => Self::Other,
        }
    }

    const fn allowance(self) -> Allowance {
        match self {
            Self::Neighbour => EXCEPTIONS_NEIGHBOUR,
            Self::Ike => EXCEPTIONS_IKE,
            Self::Other => EXCEPTIONS_OTHER,
        }
    }
}

/// Whether an ICMPv6 message is one of the five of neighbour discovery (RFC 4861 section 4).
fn is_discovery(message: &[u8]) -> bool {
    let kind = message.first();
    kind.is_some_and(|kind| (ROUTER_SOLICITATION..=REDIRECT).contains(kind))
}

impl<C: Backend, B: PacketBuf> Engine<C, B> {
    /// The kernel does not share these ports: what is its own is given to it from now on.
    pub fn give_to_kernel(&mut self, ports: impl IntoIterator<Item = PortId>) {
        for port in ports.into_iter().map(|port| usize::from(port.0)) {
            self.given.resize(self.given.len().max(port + 1), None);
            self.given[port] = Some(Given::default());
        }
    }

    /// A frame that is not the packet path's is the kernel's: it has seen it where it shares the port, and is given it elsewhere.
    pub(crate) fn exception(
        &mut self,
        now: Now,
        port: PortId,
        frame: &[u8],
        io: &mut impl Outside<C, B>,
    ) -> Result<(), DropReason> {
        let given = self.given.get_mut(usize::from(port.0)).and_then(Option::as_mut);
        let given = given.ok_or(DropReason::ForTheKernel)?;
        let kind = Exception::of(frame).ok_or(DropReason::ForNobody)?;
        if !given[kind as usize].admit(now, kind.allowance(), 1) {
            return Err(DropReason::ExceptionRate);
        }
        io.give_to_kernel(port, kind, frame)
    }
}

#[cfg(test)]
mod tests;
