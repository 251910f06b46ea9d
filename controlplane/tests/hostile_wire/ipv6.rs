//! What IPv6 has that IPv4 has not: extension headers between the IP header and the AH (RFC 4302 section 3.3.3.1.2, RFC 8200).

use std::net::IpAddr;

use super::sim::forge::Extensions;
use super::*;

/// What a flip of `bit` of the fixed header must come to. The AH, whose length is the algorithm's, stands right behind.
pub fn verdict(bit: usize, packet: &[u8]) -> Option<DropReason> {
    let payload = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let ah_len = (usize::from(packet[41]) + 2) * 4;
    let octets = |number| match outer_of(number, Family::V6) {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(_) => unreachable!("asked for the other"),
    };
    match (bit, bit / 8) {
        (0..4, _) => Some(DropReason::Malformed), // version
        (_, 0..4) => None,                        // DSCP, ECN, flow label
        // Payload length: longer than what came, too short for an AH, or covered by the ICV.
        (_, 4 | 5) if !(ah_len..=packet.len() - 40).contains(&payload) => Some(DropReason::Malformed),
        (_, 4 | 5) => Some(DropReason::AhIcv),
        (_, 6) => Some(DropReason::ForTheKernel), // next header: no AH, and no extension header that is one bit from it
        (_, 7) => None,                           // hop limit
        // The initiator's address is one bit from that of AIN 3, which is a peer of the entrance too.
        (_, 23) if packet[8..24] == octets(3) && packet[24..40] == octets(2) => Some(DropReason::UnknownSpi),
        _ => Some(DropReason::UnknownPeer), // addresses
    }
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
const AH_NEXT: u8 = 51;

/// Relays, and what AIN 2 could send to each through their TVT: a packet of a number with extension headers.
fn relays() -> impl Iterator<Item = (Target, impl Fn(u64, Extensions<'_>) -> Vec<u8>)> {
    [GMAC_V6, HMAC_V6, CMAC_V6].into_iter().map(|suite| {
        let forge = move |seq, extensions: Extensions<'_>| Forged::tvt(suite, seq, &[7; 1408]).frame_with(extensions);
        (Target::relay(suite), forge)
    })
}

/// Whatever routers do to what they may change, and to nothing else.
#[test]
fn extension_headers_pass_with_their_mutable_options_changed() {
    // Router alert, Pad1 twice; then minimum path MTU (which changes en route), tunnel encapsulation limit.
    let hop = |data: [u8; 4]| {
        let [a, b, c, d] = data;
        [DESTINATION, 1, 5, 2, 0, 0, 0x30, 4, a, b, c, d, 4, 1, 3, 0]
    };
    let destination = [AH_NEXT, 0, 0x3e, 4, 0, 0, 0, 0];
    for (mut target, forge) in relays() {
        for (seq, en_route) in (2..).zip([[0; 4], [5, 220, 5, 220]]) {
            let mut changed = destination;
            changed[4..].copy_from_slice(&en_route);
            let extensions = Extensions {
                first: HOP_BY_HOP,
                sent: &[&hop(en_route)[..], &changed].concat(),
                covered: &[&hop([0; 4])[..], &destination].concat(),
            };
            let good = forge(seq, extensions);
            for (at, what) in [
                (54, "next header"),
                (58, "router alert"),
                (66, "encapsulation limit"),
                (71, "option type"),
            ] {
                let mut wrong = good.clone();
                wrong[at] ^= 1;
                let (_, lost) = target.burst(&[&wrong]);
                assert_eq!(lost.len(), 1, "{what}");
            }
            let end = AfterExtensions::of(&good);
            assert_eq!(end.sequence(&good), seq as u32, "the forger's own proof");
            assert_eq!(target.burst(&[&good]), (1, vec![]), "extension headers");
            assert_eq!(target.burst(&[&good]).1, [(DropReason::AhReplay, 1)], "again");
        }
    }
}

/// Where the AH of a frame with both headers of the test above begins.
struct AfterExtensions(usize);

impl AfterExtensions {
    fn of(frame: &[u8]) -> Self {
        let first = usize::from(frame[55] + 1) * 8;
        let second = usize::from(frame[54 + first + 1] + 1) * 8;
        Self(54 + first + second)
    }

    fn sequence(&self, frame: &[u8]) -> u32 {
        u32::from_be_bytes(frame[self.0 + 8..][..4].try_into().unwrap())
    }
}

#[test]
fn what_may_not_stand_before_an_ah_is_dropped_whoever_signed_it() {
    let refused: [(u8, &[u8], DropReason); 7] = [
        (ROUTING, &[AH_NEXT, 0, 0, 0, 0, 0, 0, 0], DropReason::OuterExtension), // type 0, used up
        (ROUTING, &[AH_NEXT, 0, 2, 1, 0, 0, 0, 0], DropReason::OuterExtension),
        (ROUTING, &[AH_NEXT, 0, 4, 1, 0, 0, 0, 0], DropReason::OuterExtension), // segment routing
        (
            DESTINATION,
            &[AH_NEXT, 0, 0xc9, 4, 0, 0, 0, 0],
            DropReason::OuterExtension,
        ), // home address
        (HOP_BY_HOP, &[AH_NEXT, 0, 5, 200, 0, 0, 0, 0], DropReason::Malformed),
        (FRAGMENT, &[AH_NEXT, 0, 0, 0, 0, 0, 0, 1], DropReason::OuterFragment), // even if it is all there is
        (FRAGMENT, &[AH_NEXT, 0, 0, 1, 0, 0, 0, 1], DropReason::OuterFragment),
    ];
    for (mut target, forge) in relays() {
        for (first, header, why) in refused {
            let extensions = Extensions {
                first,
                sent: header,
                covered: header,
            };
            target.assert_lost(&forge(2, extensions), why, "extension header");
        }
        target.assert_passes(&forge(2, Extensions::NONE), "without them");
        let late = target.packet();
        target.assert_lost(&late, DropReason::AhReplay, "its number is taken");
        target.assert_unhurt();
    }
}

/// Neighbour discovery, listener reports and everything else that is not AH.
#[test]
fn other_packets_are_the_kernels() {
    for (mut target, forge) in relays() {
        let whole = forge(2, Extensions::NONE);
        for next_header in [58, 17, 6, 50, 59] {
            let mut other = whole.clone();
            other[20] = next_header;
            target.assert_lost(&other, DropReason::ForTheKernel, "not AH");
            let extensions = Extensions {
                first: HOP_BY_HOP,
                sent: &[next_header, 0, 5, 2, 0, 0, 1, 0],
                covered: &[],
            };
            target.assert_lost(&forge(2, extensions), DropReason::ForTheKernel, "not AH behind options");
        }
        target.assert_passes(&whole, "AH");
    }
}
