//! What the other end of a host tunnel says to this end itself: UDP to port 4797 of this end's address (protocol section 7). It is
//! no part of any flow: it goes to the control thread, so many a second and tunnel.
//!
//! ```text
//!   host ── UDP 4797 ──► AIN       please end an AIVT
//!   host ◄── UDP 4797 ── AIN       what came of it         (`ain endpoint` is this end then)
//! ```

use std::net::IpAddr;

use ain_crypto::Backend;

use crate::command::Event;
use crate::count::{Counters, Traffic};
use crate::engine::Engine;
use crate::id::{Now, PeerId};
use crate::outside::Outside;
use crate::packet::PacketBuf;
use crate::peers::Peer;
use crate::verdict::DropReason;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::protocol::{AIN_PORT, UDP};
use crate::wire::udp::UdpHeader;

/// Whether `datagram` is a whole UDP datagram to port 4797 of `node`.
pub(crate) fn is_for(node: IpAddr, datagram: &[u8]) -> bool {
    let segment = match node {
        // Most datagrams are for somebody else, which one comparison tells.
        IpAddr::V4(node) if datagram.get(16..20) == Some(&node.octets()) => Ipv4::parse(datagram)
            .ok()
            .filter(|ip| ip.protocol() == UDP && !ip.is_fragment())
            .map(|ip| ip.payload()),
        IpAddr::V6(node) if datagram.get(24..40) == Some(&node.octets()) => Ipv6::parse(datagram)
            .ok()
            .filter(|ip| ip.next_header() == UDP)
            .map(|ip| ip.payload()),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    segment
        .and_then(|segment| UdpHeader::parse(segment).ok())
        .is_some_and(|(udp, _)| udp.destination_port.get() == AIN_PORT)
}

impl<C: Backend, B: PacketBuf> Engine<C, B> {
    /// Brings a datagram that `peer`, the other end of a tunnel of this worker, sent to this end itself to the control thread.
    pub(crate) fn for_node(&mut self, now: Now, (id, peer): (PeerId, &Peer), datagram: B, io: &mut impl Outside<C, B>) {
        self.counters.moved(Traffic::HostIn, datagram.data().len());
        let within = self
            .tunnels
            .entry_mut(peer.tunnel)
            .is_some_and(|tunnel| tunnel.for_node.admit(now));
        if !within {
            self.counters.dropped(DropReason::TooManyRequests);
        } else if io.report(Event::ForNode(id, datagram)).is_err() {
            self.counters.dropped(DropReason::ControlFull);
        }
    }
}

/// Brings a datagram that came through an AIVT to this node itself to the control thread if it is `admitted`: from whom it is nobody
/// knows, hence so many a second and worker.
pub(crate) fn for_own<C: Backend, B: PacketBuf>(
    counters: &Counters,
    admitted: bool,
    own: PeerId,
    datagram: B,
    io: &mut impl Outside<C, B>,
) {
    counters.moved(Traffic::HostOut, datagram.data().len());
    if !admitted {
        counters.dropped(DropReason::TooManyRequests);
    } else if io.report(Event::ForNode(own, datagram)).is_err() {
        counters.dropped(DropReason::ControlFull);
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::ipv4::refresh_checksum;

    const NODE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    /// UDP from 10.0.0.1 port 9 to 192.0.2.7 port 4797, one byte.
    fn request() -> Vec<u8> {
        let mut bytes = hex!("4500 001d 0000 4000 4011 0000 0a000001 c0000207  0009 12bd 0009 0000 2a").to_vec();
        refresh_checksum(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn only_whole_udp_to_the_port_of_this_end() {
        assert!(is_for(NODE, &request()));
        assert!(!is_for("192.0.2.8".parse().unwrap(), &request()));
        assert!(!is_for("2001:db8::7".parse().unwrap(), &request()));
        for (at, value) in [(9, 6), (6, 0x20), (7, 1), (19, 8), (23, 0xbe), (25, 0x0a)] {
            let mut other = request();
            other[at] = value;
            refresh_checksum(&mut other).unwrap();
            assert!(!is_for(NODE, &other), "byte {at}");
        }
    }

    #[test]
    fn ipv6_likewise() {
        let node = "2001:db8::7".parse().unwrap();
        let header = hex!("60000000 0009 11 40 20010db8000000000000000000000001 20010db8000000000000000000000007");
        let request = [&header[..], &hex!("0009 12bd 0009 0000 2a")].concat();
        assert!(is_for(node, &request));
        assert!(!is_for(NODE, &request));
        assert!((0..request.len()).all(|len| !is_for(node, &request[..len])));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80), v6: bool) {
            let node: IpAddr = if v6 { "2001:db8::7".parse().unwrap() } else { NODE };
            let _ = is_for(node, &bytes);
        }
    }
}
