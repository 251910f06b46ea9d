//! What may be done to a packet on a wire, bit by bit and byte by byte, and what becomes of it: by a table written from RFC 4302
//! section 3.3.3.1 and appendix A. After every attempt all other counters are as before, and the untouched packet still passes.

#[path = "../crypto/mod.rs"]
mod crypto;
mod exception;
mod ipv6;
#[path = "../sim/mod.rs"]
mod sim;

use std::collections::BTreeSet;

use ain_dataplane::packet::PacketBuf;
use ain_dataplane::verdict::DropReason;
use ain_dataplane::wire::ah::Family;
use sim::chain::{Chain, Plan, initiator, responder};
use sim::forge::{Forged, fix_checksum};
use sim::{Buf, CMAC_V6, GMAC, GMAC_SHORT, GMAC_V6, HMAC, HMAC_ESN, HMAC_V6, Suite, datagram, outer_of};

const ETHERNET: usize = 14;

/// Bytes of an IP header without options or extension headers.
const fn ip_len(family: Family) -> usize {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// Where the AH of a frame begins that has neither.
fn ah_of(frame: &[u8]) -> usize {
    ETHERNET + ip_len(family_of(frame))
}

fn family_of(frame: &[u8]) -> Family {
    if frame[12..14] == [8, 0] {
        Family::V4
    } else {
        Family::V6
    }
}

/// Has the IP header say how long the frame is.
fn fix_length(frame: &mut [u8]) {
    let len = (frame.len() - ETHERNET) as u16;
    match family_of(frame) {
        Family::V4 => frame[16..18].copy_from_slice(&len.to_be_bytes()),
        Family::V6 => frame[18..20].copy_from_slice(&(len - 40).to_be_bytes()),
    }
}

/// A machine under attack, and packets that it would accept: each makes it send exactly one.
struct Target {
    chain: Chain,
    machine: u8,
    /// Sequence numbers accepted so far.
    accepted: BTreeSet<u32>,
}

impl Target {
    /// AIN 3 of three, which relays TVT packets of AIN 2.
    fn relay(suite: Suite) -> Self {
        Self::new(suite, 3)
    }

    /// The entrance, which takes ESP+AH packets of the initiator.
    fn entrance(suite: Suite) -> Self {
        Self::new(suite, 2)
    }

    fn new(suite: Suite, machine: u8) -> Self {
        let mut chain = Chain::new(Plan::new(3, suite));
        chain.send(1, &[datagram(initiator(0), responder(0), 64, 60, 1)]);
        chain.assert_no_drops();
        let accepted = BTreeSet::from([0, 1]); // nobody sends 0
        Self {
            chain,
            machine,
            accepted,
        }
    }

    /// The next good packet, on the wire before the machine.
    fn packet(&mut self) -> Vec<u8> {
        let now = self.chain.now;
        let sent = datagram(initiator(0), responder(0), 64, 60, 2);
        self.chain.machine(1).send(now, [Buf::of(&sent)]);
        for machine in 1.. {
            let frame = self
                .chain
                .machine(machine)
                .io
                .frames
                .pop()
                .expect("a packet on its way");
            if machine + 1 == self.machine {
                return frame.data().to_vec();
            }
            self.chain.machine(machine + 1).receive(now, 0, [frame]);
        }
        unreachable!("the machine is on the path")
    }

    /// What becomes of a burst: packets sent, and packets lost by reason. Nothing else is counted than what was sent.
    fn burst(&mut self, frames: &[&[u8]]) -> (usize, Vec<(DropReason, u64)>) {
        let now = self.chain.now;
        let machine = self.chain.machine(self.machine);
        let before = machine.snapshot();
        machine.receive(now, 0, frames.iter().map(|frame| Buf::of(frame)));
        let sent = machine.io.frames.drain(..).count();
        let after = machine.snapshot();
        let (drops, moved) = before.split_at(DropReason::COUNT);
        let lost = DropReason::ALL.iter().zip(&after).zip(drops);
        let lost = lost.map(|((why, after), before)| (*why, after - before));
        assert!(sent > 0 || moved == &after[DropReason::COUNT..], "nothing else counted");
        assert_eq!(machine.io.events.len() + machine.io.delivered.len(), 0);
        (sent, lost.filter(|(_, lost)| *lost > 0).collect())
    }

    fn assert_lost(&mut self, frame: &[u8], why: DropReason, what: &str) {
        assert_eq!(self.burst(&[frame]), (0, vec![(why, 1)]), "{what}");
    }

    fn assert_passes(&mut self, frame: &[u8], what: &str) {
        assert_eq!(self.burst(&[frame]), (1, vec![]), "{what}");
        self.accepted.insert(sequence(frame));
    }

    fn assert_unhurt(&mut self) {
        let packet = self.packet();
        self.assert_passes(&packet, "the next good packet");
    }
}

fn sequence(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[ah_of(frame) + 8..][..4].try_into().unwrap())
}

/// RFC 4302: what a flip of `bit` must come to. Bits count from the IP header. None: the field is mutable, the packet passes.
fn verdict(bit: usize, flipped: &[u8], accepted: &BTreeSet<u32>) -> Option<DropReason> {
    let packet = &flipped[ETHERNET..];
    let family = family_of(flipped);
    match (bit / 8).checked_sub(ip_len(family)) {
        None if family == Family::V4 => verdict_ipv4(bit / 8, packet),
        None => ipv6::verdict(bit, packet),
        Some(at) => Some(verdict_ah(at, flipped, accepted)),
    }
}

fn verdict_ipv4(at: usize, packet: &[u8]) -> Option<DropReason> {
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let ah_len = (usize::from(packet[21]) + 2) * 4;
    match at {
        0 => Some(DropReason::Malformed), // version, header length
        1 => None,                        // DSCP and ECN
        // Total length: longer than what came, too short for an AH, or covered by the ICV.
        2 | 3 if !(20 + ah_len..=packet.len()).contains(&total) => Some(DropReason::Malformed),
        2 | 3 => Some(DropReason::AhIcv),
        4 | 5 => Some(DropReason::AhIcv),         // identification
        6 if packet[6] & 0x3f == 0 => None,       // reserved bit, DF
        6 | 7 => Some(DropReason::OuterFragment), // MF, offset: mutable, but tunnels never fragment outside
        8 => None,                                // TTL
        9 => Some(DropReason::ForTheKernel),      // protocol: no AH
        10 | 11 => Some(DropReason::Malformed),   // checksum: mutable, yet IP itself refuses a wrong one
        // The initiator's address is one bit from that of AIN 3, which is a peer of the entrance too.
        15 if packet[12..20] == [192, 0, 2, 3, 192, 0, 2, 2] => Some(DropReason::UnknownSpi),
        _ => Some(DropReason::UnknownPeer), // addresses
    }
}

/// At a byte from the AH on.
fn verdict_ah(at: usize, flipped: &[u8], accepted: &BTreeSet<u32>) -> DropReason {
    let ah = &flipped[ah_of(flipped)..];
    match at {
        0 => DropReason::WrongProtocol, // next header
        1 => DropReason::Malformed,     // length of the AH: not that of the algorithm
        2 | 3 => DropReason::AhIcv,     // reserved, covered
        // Reserved SPIs, 255 and below, are nobody's.
        4..8 if ah[4..7] == [0; 3] => DropReason::Malformed,
        4..8 => DropReason::UnknownSpi,
        8..12 if accepted.contains(&sequence(flipped)) => DropReason::AhReplay,
        _ => DropReason::AhIcv, // a fresh sequence number, the ICV field and its padding, the payload
    }
}

fn flip_every_bit(mut target: Target) {
    let mut packet = target.packet();
    for bit in 0..(packet.len() - ETHERNET) * 8 {
        let at = bit / 8;
        let mut flipped = packet.clone();
        flipped[ETHERNET + at] ^= 0x80 >> (bit % 8);
        // So that AH decides, not IP. A wrong header length covers other bytes; leave it wrong.
        if !matches!(at, 0 | 10 | 11) {
            fix_checksum(&mut flipped);
        }
        let what = format!("bit {} of byte {at}", bit % 8);
        match verdict(bit, &flipped, &target.accepted) {
            Some(why) => target.assert_lost(&flipped, why, &what),
            None => {
                target.assert_passes(&flipped, &what);
                target.assert_lost(&packet, DropReason::AhReplay, "it was the same packet");
                packet = target.packet();
            }
        }
    }
    target.assert_passes(&packet, "after every flip");
    target.assert_unhurt();
}

#[test]
fn every_bit_of_a_tvt_packet_gmac() {
    flip_every_bit(Target::relay(GMAC));
}

#[test]
fn every_bit_of_a_tvt_packet_hmac() {
    flip_every_bit(Target::relay(HMAC));
}

#[test]
fn every_bit_of_a_tvt_packet_over_ipv6() {
    for suite in [GMAC_V6, HMAC_V6, CMAC_V6] {
        flip_every_bit(Target::relay(suite));
    }
}

#[test]
fn every_bit_of_a_tunnel_packet() {
    for suite in [GMAC, GMAC_SHORT, HMAC, HMAC_ESN, GMAC_V6, HMAC_V6] {
        flip_every_bit(Target::entrance(suite));
    }
}

fn targets() -> Vec<Target> {
    let suites = [GMAC, GMAC_SHORT, HMAC, HMAC_ESN, GMAC_V6, HMAC_V6];
    let entrances = suites.into_iter().map(Target::entrance);
    entrances
        .chain([GMAC, HMAC, GMAC_V6, HMAC_V6].into_iter().map(Target::relay))
        .collect()
}

#[test]
fn truncated_at_every_length() {
    for mut target in targets() {
        let packet = target.packet();
        let ah = ah_of(&packet);
        let ah_end = ah + (usize::from(packet[ah + 1]) + 2) * 4;
        for len in 0..packet.len() {
            target.assert_lost(&packet[..len], DropReason::Malformed, &format!("cut to {len}"));
            if len < ah {
                continue;
            }
            // The IP header says that this is all.
            let mut shorter = packet[..len].to_vec();
            fix_length(&mut shorter);
            fix_checksum(&mut shorter);
            let why = if len < ah_end {
                DropReason::Malformed
            } else {
                DropReason::AhIcv
            };
            target.assert_lost(&shorter, why, &format!("shortened to {len}"));
        }
        target.assert_passes(&packet, "whole");
    }
}

#[test]
fn padding_of_the_link_is_left_out() {
    for mut target in targets() {
        for padding in [1, 4, 46, 200] {
            let mut longer = target.packet();
            longer.extend(vec![0xaa; padding]);
            target.assert_passes(&longer, "padded");
        }
        target.assert_unhurt();
    }
}

#[test]
fn another_ethertype_is_the_kernels() {
    for mut target in targets() {
        for ethertype in [[0x08, 0x06], [0x81, 0x00], [0, 0]] {
            let mut packet = target.packet();
            packet[12..14].copy_from_slice(&ethertype);
            target.assert_lost(&packet, DropReason::ForTheKernel, "not IP");
        }
        let mut packet = target.packet();
        let other: [u8; 2] = match family_of(&packet) {
            Family::V4 => [0x86, 0xdd],
            Family::V6 => [0x08, 0x00],
        };
        packet[12..14].copy_from_slice(&other);
        target.assert_lost(&packet, DropReason::Malformed, "the other family");
        target.assert_unhurt();
    }
}

#[test]
fn outer_fragments() {
    for mut target in targets() {
        let packet = target.packet();
        if family_of(&packet) == Family::V6 {
            continue; // a header of its own, in the module `ipv6`
        }
        for flags in [0x2000u16, 0x6000, 0x0001, 0x1fff, 0x3abc] {
            let mut fragment = packet.clone();
            fragment[20..22].copy_from_slice(&flags.to_be_bytes());
            fix_checksum(&mut fragment);
            target.assert_lost(&fragment, DropReason::OuterFragment, "fragment");
        }
        target.assert_passes(&packet, "whole");
    }
}

#[test]
fn replays() {
    for mut target in targets() {
        let packet = target.packet();
        let twins = target.burst(&[&packet, &packet]);
        assert_eq!(twins, (1, vec![(DropReason::AhReplay, 1)]), "two in a burst");
        target.assert_lost(&packet, DropReason::AhReplay, "again");
        // Both windows and more go by.
        for _ in 0..8192 / 64 + 1 {
            let burst: Vec<_> = (0..64).map(|_| target.packet()).collect();
            let burst: Vec<_> = burst.iter().map(Vec::as_slice).collect();
            let (sent, lost) = target.burst(&burst);
            assert!(sent > 0 && lost.is_empty(), "{lost:?}");
        }
        // Behind the window a number with ESN reads as one of the next 2^32, under which the ICV is wrong (RFC 4303 appendix A2.2).
        let extended = target.machine == 3 || target.chain.plan.suite.esn;
        let why = if extended {
            DropReason::AhIcv
        } else {
            DropReason::AhReplayOld
        };
        target.assert_lost(&packet, why, "long ago");
        target.assert_unhurt();
    }
}

/// From the initiator to the entrance through their tunnel.
fn tunnel(suite: Suite, seq: u64, payload: &[u8]) -> Forged<'_> {
    Forged {
        from: 1,
        to: 2,
        suite,
        seed: 1,
        spi: 0x1010,
        seq,
        esn: suite.esn,
        next_header: 50,
        payload,
    }
}

#[test]
fn under_another_key() {
    for suite in [GMAC, HMAC, GMAC_V6, HMAC_V6] {
        let mut relay = Target::relay(suite);
        let cell = [7; 1408];
        let right = Forged::tvt(suite, 2, &cell);
        for seed in [6, 7, 1] {
            let wrong = Forged { seed, ..right.clone() };
            relay.assert_lost(&wrong.frame(), DropReason::AhIcv, "TVT");
        }
        let high = Forged {
            seq: 1 << 32 | 2,
            ..right.clone()
        };
        relay.assert_lost(&high.frame(), DropReason::AhIcv, "another high half");
        relay.assert_passes(&right.frame(), "the forger's own proof");
        let late = relay.packet();
        relay.assert_lost(&late, DropReason::AhReplay, "its number is taken");
        relay.assert_unhurt();
        let mut entrance = Target::entrance(suite);
        let wrong = Forged {
            seed: 2,
            ..tunnel(suite, 2, &[0; 64])
        };
        entrance.assert_lost(&wrong.frame(), DropReason::AhIcv, "tunnel");
        entrance.assert_unhurt();
    }
}

/// A neighbour or host with the right key that does not keep to the protocol.
#[test]
fn signed_nonsense() {
    for suite in [GMAC, HMAC, GMAC_V6, HMAC_V6] {
        let mut relay = Target::relay(suite);
        let cell = vec![7; 1500];
        for next_header in [50, 4, 0, 59] {
            let wrong = Forged {
                next_header,
                ..Forged::tvt(suite, 100, &cell[..1408])
            };
            relay.assert_lost(&wrong.frame(), DropReason::WrongProtocol, "no cell on a TVT");
        }
        for (seq, len) in (100..).zip([0, 1, 16, 1407, 1409, 1500]) {
            let wrong = Forged::tvt(suite, seq, &cell[..len]).frame();
            relay.assert_lost(&wrong, DropReason::CellLength, &format!("cell of {len}"));
        }
        relay.assert_unhurt();
        let mut entrance = Target::entrance(suite);
        for next_header in [99, 4, 0, 59] {
            let wrong = Forged {
                next_header,
                ..tunnel(suite, 100, &cell[..64])
            };
            entrance.assert_lost(&wrong.frame(), DropReason::WrongProtocol, "no ESP on a tunnel");
        }
        // ESP inside right AH: cut, for another SPI, seen before, not authentic.
        let mut esp = [0; 64];
        entrance.assert_lost(
            &tunnel(suite, 100, &esp[..35]).frame(),
            DropReason::Malformed,
            "cut ESP",
        );
        entrance.assert_lost(&tunnel(suite, 101, &esp).frame(), DropReason::Malformed, "reserved SPI");
        esp[..4].copy_from_slice(&0x1012u32.to_be_bytes());
        entrance.assert_lost(&tunnel(suite, 102, &esp).frame(), DropReason::UnknownSpi, "ESP SPI");
        esp[..8].copy_from_slice(&[0, 0, 0x10, 0x11, 0, 0, 0, 1]);
        entrance.assert_lost(&tunnel(suite, 103, &esp).frame(), DropReason::EspReplay, "ESP number");
        esp[7] = 200;
        entrance.assert_lost(&tunnel(suite, 104, &esp).frame(), DropReason::EspIcv, "ESP tag");
        entrance.assert_unhurt();
    }
}
