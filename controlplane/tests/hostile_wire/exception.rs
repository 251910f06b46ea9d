//! What is the kernel's, at a port that it does not share (issue "Real IPsec on both sides", line 5).

use ain_dataplane::id::{Now, PortId};
use ain_dataplane::limits::{EXCEPTIONS_IKE, EXCEPTIONS_NEIGHBOUR, EXCEPTIONS_OTHER};
use ain_dataplane::stage::exception::Exception;
use ain_dataplane::wire::protocol::{AH, ESP, ICMP, TCP, UDP};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// A relay whose port has a tap.
fn relay(suite: Suite) -> Target {
    let mut target = Target::relay(suite);
    for engine in &mut target.chain.machine(3).engines {
        engine.give_to_kernel([PortId(0)]);
    }
    target
}

/// `packet` with another protocol and this behind its IP header.
fn other(packet: &[u8], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let family = family_of(packet);
    let mut frame = [&packet[..ETHERNET + ip_len(family)], payload].concat();
    frame[ETHERNET + if family == Family::V4 { 9 } else { 6 }] = protocol;
    fix_length(&mut frame);
    fix_checksum(&mut frame);
    frame
}

fn arp(packet: &[u8]) -> Vec<u8> {
    [&packet[..12], &[8, 6], &[0; 28]].concat()
}

const IKE: [u8; 12] = [0x12, 0x34, 0x01, 0xf4, 0, 12, 0, 0, 1, 2, 3, 4];

/// What became of each frame: it was sent on, went to the kernel, or was dropped for one reason; never two of these, never none.
#[test]
fn every_frame_has_one_fate() {
    let mut rng = StdRng::seed_from_u64(5);
    for suite in [GMAC, HMAC_ESN, GMAC_V6] {
        let mut target = relay(suite);
        let mut fates = [0; 3];
        for step in 0..4000_u64 {
            let packet = target.packet();
            let mut frame = match step % 8 {
                0 | 1 => packet,
                2 => arp(&packet),
                3 => other(&packet, ESP, &[7; 80]),
                4 => other(&packet, UDP, &IKE),
                5 => other(&packet, TCP, &[7; 20]),
                6 => other(&packet, ICMP, &[8, 0, 0, 0]),
                _ => other(&packet, AH, &[7; 40]),
            };
            for _ in 0..rng.random_range(0..3) {
                let at = rng.random_range(0..frame.len());
                frame[at] ^= 1 << rng.random_range(0..8);
            }
            frame.truncate(rng.random_range(0..2 * frame.len()));
            let machine = target.chain.machine(3);
            let before: u64 = machine.snapshot()[..DropReason::COUNT].iter().sum();
            machine.receive(Now(step * Now::SECOND), 0, [Buf::of(&frame)]);
            let dropped = machine.snapshot()[..DropReason::COUNT].iter().sum::<u64>() - before;
            let fate = [
                machine.io.frames.drain(..).count(),
                machine.io.to_kernel.len(),
                dropped as usize,
            ];
            assert_eq!(fate.iter().sum::<usize>(), 1, "{fate:?} of {frame:02x?}");
            for (_, given) in machine.io.to_kernel.drain(..) {
                assert_eq!(given, frame, "the kernel gets the whole frame");
                assert!(Exception::of(&given).is_some());
            }
            fates.iter_mut().zip(fate).for_each(|(sum, one)| *sum += one);
        }
        assert!(fates.iter().all(|fate| *fate > 100), "{fates:?}");
    }
}

/// A flood of one kind is cut to its rate and leaves the others theirs, and AH all.
#[test]
fn floods_do_not_starve_each_other() {
    let mut target = relay(GMAC);
    let packet = target.packet();
    let kinds = [
        (other(&packet, ICMP, &[8, 0, 0, 0]), EXCEPTIONS_OTHER),
        (other(&packet, UDP, &IKE), EXCEPTIONS_IKE),
        (arp(&packet), EXCEPTIONS_NEIGHBOUR),
    ];
    for (frame, allowance) in &kinds {
        let machine = target.chain.machine(3);
        for _ in 0..allowance.burst + 100 {
            machine.receive(Now(1), 0, [Buf::of(frame)]);
        }
        assert_eq!(machine.io.to_kernel.drain(..).count() as u64, allowance.burst);
    }
    let machine = target.chain.machine(3);
    assert_eq!(machine.all_drops(), [(DropReason::ExceptionRate, 300)]);
    target.assert_passes(&packet, "AH has no part in it");
}

/// On a port beside it, which the kernel shares, all is as without taps.
#[test]
fn a_shared_port_gives_nothing() {
    let mut target = relay(GMAC);
    let frames = [arp(&target.packet()), other(&target.packet(), UDP, &IKE)];
    let machine = target.chain.machine(3);
    machine.receive_on(PortId(1), Now(1), 0, frames.iter().map(|frame| Buf::of(frame)));
    assert!(machine.io.to_kernel.is_empty());
    assert_eq!(machine.all_drops(), [(DropReason::ForTheKernel, 2)]);
}
