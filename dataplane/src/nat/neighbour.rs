//! Who has a pool address? This node: it answers ARP requests (RFC 826) and neighbour solicitations (RFC 4861) for exactly the
//! addresses of the pool, which the kernel does not have and so does not answer for.
//!
//! Only routers and hosts of the uplink's own link ask, untagged: on another port or VLAN the addresses are nobody's. A pool that the upstream router routes to the node's outer address is never
//! asked for, and needs none of this.

use std::net::{IpAddr, Ipv6Addr};

use super::pool::Pool;
use crate::wire::checksum::transport_ipv6;
use crate::wire::ethernet::{self, ETHERTYPE_IPV6, EthernetHeader, MacAddr};
use crate::wire::icmpv6;
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::protocol::ICMPV6;

/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// Bytes of the longest answer: Ethernet, IPv6, advertisement, one option.
pub const ANSWER: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN + ADVERTISEMENT;

/// Hardware type Ethernet, protocol type IPv4, their lengths.
const ARP_ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP_REQUEST: [u8; 2] = [0, 1];
const ARP_REPLY: [u8; 2] = [0, 2];
const ARP: usize = 28;

const ADVERTISEMENT_TYPE: u8 = 136;
/// Solicitation without options: type, code, checksum, reserved, target.
const SOLICITATION: usize = 24;
/// Advertisement with the target's link-layer address.
const ADVERTISEMENT: usize = SOLICITATION + 8;
/// What has passed no router (RFC 4861 section 7.1.1).
const FROM_THE_LINK: u8 = 255;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Whether an IP packet is a neighbour solicitation. Who makes sure of what it knows sends it to the address itself (RFC 4861 section
/// 7.3.3).
pub(super) fn is_solicitation(packet: &[u8]) -> bool {
    Ipv6::parse(packet)
        .is_ok_and(|ip| ip.next_header() == ICMPV6 && ip.payload().first() == Some(&icmpv6::SOLICITATION))
}

/// Writes this node's answer to the Ethernet frame `frame`, if that is an ARP request or a neighbour solicitation for an address of the
/// pool, as a whole frame into the front of `out`; returns its length. `own` is the port's address.
pub fn answer(frame: &[u8], own: MacAddr, pool: &Pool, out: &mut [u8; ANSWER]) -> Option<usize> {
    let (header, rest) = EthernetHeader::parse(frame).ok()?;
    if header.destination != own && !header.destination.is_multicast() {
        return None;
    }
    match header.ethertype.get() {
        ETHERTYPE_ARP => answer_arp(rest, own, pool, out),
        ETHERTYPE_IPV6 => answer_solicitation(rest, header.source, own, pool, out),
        _ => None,
    }
}

fn answer_arp(request: &[u8], own: MacAddr, pool: &Pool, out: &mut [u8; ANSWER]) -> Option<usize> {
    let request: &[u8; ARP] = request.first_chunk()?;
    let (asker, target) = (&request[8..18], &request[24..28]);
    let address = IpAddr::from(*target.first_chunk::<4>()?);
    let asks = request[..6] == ARP_ETHERNET_IPV4 && request[6..8] == ARP_REQUEST;
    // Who announces the address for itself does not ask.
    if !asks || request[14..18] == *target || pool.find(address).is_none() {
        return None;
    }
    let to = MacAddr(*asker.first_chunk()?);
    if to.is_multicast() {
        return None;
    }
    let total = ethernet::HEADER_LEN + ARP;
    EthernetHeader::new(to, own, ETHERTYPE_ARP).write(out).ok()?;
    let reply = &mut out[ethernet::HEADER_LEN..total];
    reply[..6].copy_from_slice(&ARP_ETHERNET_IPV4);
    reply[6..8].copy_from_slice(&ARP_REPLY);
    reply[8..14].copy_from_slice(&own.0);
    reply[14..18].copy_from_slice(target);
    reply[18..28].copy_from_slice(asker);
    Some(total)
}

/// `from` is the link-layer address that the packet came from.
fn answer_solicitation(
    packet: &[u8],
    from: MacAddr,
    own: MacAddr,
    pool: &Pool,
    out: &mut [u8; ANSWER],
) -> Option<usize> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    let ip = Ipv6::parse(packet).ok()?;
    let message = ip.payload();
    let asks = ip.next_header() == ICMPV6
        && ip.hop_limit() == FROM_THE_LINK
        && message.len() >= SOLICITATION
        && message[..2] == [icmpv6::SOLICITATION, 0]
        && transport_ipv6(ip.source(), ip.destination(), ICMPV6, message) == 0;
    if !asks {
        return None;
    }
    let target = Ipv6Addr::from(*message[8..].first_chunk::<16>()?);
    pool.find(IpAddr::V6(target))?;
    // Who wants the address for itself (RFC 4862 section 5.4) hears with all others that it is taken.
    let (to, to_mac, flags) = if ip.source().is_unspecified() {
        (ALL_NODES, ALL_NODES_MAC, OVERRIDE)
    } else {
        // To all it must say where the answer goes; to this node alone it need not (RFC 4861 section 4.3).
        let unsaid = (!ip.destination().is_multicast()).then_some(from);
        (
            ip.source(),
            asker(&message[SOLICITATION..], unsaid)?,
            SOLICITED | OVERRIDE,
        )
    };
    EthernetHeader::new(to_mac, own, ETHERTYPE_IPV6).write(out).ok()?;
    let (header, message) = out[ethernet::HEADER_LEN..].split_at_mut(ipv6::HEADER_LEN);
    header.fill(0);
    header[0] = 0x60;
    header[4..6].copy_from_slice(&(ADVERTISEMENT as u16).to_be_bytes());
    header[6] = ICMPV6;
    header[7] = FROM_THE_LINK;
    header[8..24].copy_from_slice(&target.octets());
    header[24..40].copy_from_slice(&to.octets());
    message.fill(0);
    message[0] = ADVERTISEMENT_TYPE;
    message[4] = flags;
    message[8..24].copy_from_slice(&target.octets());
    message[24..26].copy_from_slice(&[2, 1]);
    message[26..32].copy_from_slice(&own.0);
    let sum = transport_ipv6(target, to, ICMPV6, message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(ANSWER)
}

/// The source's link-layer address among the options of a solicitation (RFC 4861 section 4.6.1), or `unsaid` if they have none.
fn asker(mut options: &[u8], unsaid: Option<MacAddr>) -> Option<MacAddr> {
    const SOURCE: u8 = 1;
    let mut address = unsaid;
    while let [kind, eights, ..] = *options {
        let option = options
            .get(..usize::from(eights) * 8)
            .filter(|option| !option.is_empty())?;
        if kind == SOURCE {
            address = option[2..].first_chunk().copied().map(MacAddr);
            break;
        }
        options = &options[option.len()..];
    }
    address.filter(|address| !address.is_multicast())
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);

    fn pool() -> Pool {
        let addresses = ["203.0.113.64", "2001:db8::64"].map(|one| one.parse().unwrap());
        Pool::new(addresses, &(1024..=65535), 1)
    }

    fn answered(frame: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0xee; ANSWER];
        answer(frame, OWN, &pool(), &mut out).map(|len| out[..len].to_vec())
    }

    const ARP_FRAME: [u8; 42] =
        hex!("ffffffffffff 020000000009 0806  0001 0800 06 04 0001 020000000009 c0000209 000000000000 cb007140");

    /// From fe80::9 to the solicited-node address of 2001:db8::64.
    fn solicitation() -> Vec<u8> {
        let mut frame = hex!(
            "3333ff000064 020000000009 86dd  60000000 0020 3a ff fe800000000000000000000000000009"
            "ff0200000000000000000001ff000064  87 00 0000 00000000 20010db8000000000000000000000064 01 01 020000000009"
        )
        .to_vec();
        sum(&mut frame);
        frame
    }

    fn sum(frame: &mut [u8]) {
        frame[56..58].fill(0);
        let ip = Ipv6::parse(&frame[14..]).unwrap();
        let sum = transport_ipv6(ip.source(), ip.destination(), ICMPV6, ip.payload());
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
    }

    #[test]
    fn line_9_arp_requests_for_the_pool_are_answered() {
        let reply =
            hex!("020000000009 020000000003 0806  0001 0800 06 04 0002 020000000003 cb007140 020000000009 c0000209");
        assert_eq!(answered(&ARP_FRAME), Some(reply.to_vec()));
    }

    #[test]
    fn line_9_other_arp_is_left_to_the_kernel() {
        // For another station, on a VLAN, another address, a reply, no IPv4, a gratuitous one, a group address that asks.
        for (at, bytes) in [
            (0, &[2, 0, 0, 0, 0, 4][..]),
            (12, &[0x81, 0, 0, 7]),
            (41, &[0x41]),
            (21, &[2]),
            (16, &[0x86]),
            (28, &[0xcb, 0, 0x71, 0x40]),
            (22, &[3]),
        ] {
            let mut frame = ARP_FRAME;
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            assert_eq!(answered(&frame), None, "byte {at}");
        }
        for len in 0..ARP_FRAME.len() {
            assert_eq!(answered(&ARP_FRAME[..len]), None);
        }
    }

    #[test]
    fn line_9_solicitations_for_the_pool_are_answered() {
        let reply = answered(&solicitation()).unwrap();
        let (header, packet) = EthernetHeader::parse(&reply).unwrap();
        assert_eq!((header.destination, header.source), (MacAddr([2, 0, 0, 0, 0, 9]), OWN));
        let ip = Ipv6::parse(packet).unwrap();
        assert_eq!(
            (ip.source().to_string(), ip.destination().to_string()),
            ("2001:db8::64".into(), "fe80::9".into())
        );
        assert_eq!((ip.hop_limit(), ip.payload().len()), (255, ADVERTISEMENT));
        assert_eq!(transport_ipv6(ip.source(), ip.destination(), ICMPV6, ip.payload()), 0);
        assert_eq!(
            ip.payload()[4..],
            hex!("60000000 20010db8000000000000000000000064 02 01 020000000003")
        );
    }

    #[test]
    fn line_9_who_wants_a_pool_address_hears_that_it_is_taken() {
        let mut frame = solicitation();
        frame[22..38].fill(0);
        sum(&mut frame);
        let reply = answered(&frame).unwrap();
        assert_eq!(reply[..6], hex!("333300000001"));
        assert_eq!(
            (&reply[38..54], reply[58]),
            (&hex!("ff020000000000000000000000000001")[..], OVERRIDE)
        );
    }

    #[test]
    fn line_9_the_asker_may_stand_behind_other_options() {
        let mut frame = solicitation();
        frame[19] += 8;
        frame.splice(78..78, hex!("0e 01 112233445566"));
        sum(&mut frame);
        assert_eq!(
            answered(&frame).map(|reply| reply[..6].to_vec()),
            Some(hex!("020000000009").to_vec())
        );
    }

    /// A router that makes sure of what it knows need not say who it is (RFC 4861 section 7.3.3): the answer goes where the question
    /// came from.
    #[test]
    fn line_9_unicast_solicitations_are_answered_without_the_option() {
        let mut frame = solicitation();
        frame.truncate(78);
        frame[19] -= 8;
        sum(&mut frame);
        assert_eq!(answered(&frame), None, "to a group it must say");
        frame[..6].copy_from_slice(&OWN.0);
        frame[38..54].copy_from_slice(&hex!("20010db8000000000000000000000064"));
        sum(&mut frame);
        let reply = answered(&frame).unwrap();
        assert_eq!((&reply[..6], reply[58]), (&frame[6..12], SOLICITED | OVERRIDE));
        frame[6] |= 1;
        assert_eq!(answered(&frame), None, "from a group");
    }

    #[test]
    fn line_9_other_solicitations_are_left_to_the_kernel() {
        // Routed, another type, another code, another target, an option of no length, a group's address; each with a right checksum.
        for (at, value) in [(21, 64), (54, 136), (55, 1), (77, 0x65), (79, 0), (80, 3)] {
            let mut frame = solicitation();
            frame[at] = value;
            sum(&mut frame);
            assert_eq!(answered(&frame), None, "byte {at}");
        }
        let mut wrong = solicitation();
        wrong[57] ^= 1;
        assert_eq!(answered(&wrong), None);
        let frame = solicitation();
        assert!((0..frame.len()).all(|len| answered(&frame[..len]).is_none()));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100), kind in 0..3usize) {
            let mut frame = bytes;
            if frame.len() > 14 {
                frame[12..14].copy_from_slice(&[[8, 6], [0x86, 0xdd], [8, 0]][kind]);
            }
            let _ = answered(&frame);
        }
    }
}
