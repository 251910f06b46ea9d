//! Line 4: end-to-end IPsec of the hosts inside an AIVT, the paper's second option. With `as-sent` an ESP and an AH packet arrive as
//! they were sent, but for what routers change; with `random-private` AH is refused in words, and ESP passes.

mod crypto;
#[path = "net/plan.rs"]
#[allow(dead_code)] // the other tests use the rest
mod plan;
mod sim;
mod world;

use std::net::Ipv4Addr;

use ain_controlplane::node::SourceOption;
use ain_crypto::{Mac, MacAlgorithm, MacJob};
use ain_dataplane::id::Now;
use ain_dataplane::verdict::DropReason;
use ain_dataplane::wire::ipv4::refresh_checksum;
use crypto::{Crypto, crypto};
use plan::Plan;
use sim::datagram;
use world::{World, inside};

const INACTIVITY_S: u32 = 300;
const ESP: u8 = 50;
const AH: u8 = 51;
const AH_BYTES: usize = 28;
const KEY: [u8; 32] = [0x5a; 32];

/// A datagram of `protocol` from one host to the other.
fn of_protocol(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut bytes = datagram(source, destination, 64, 20 + payload.len(), 0);
    bytes[9] = protocol;
    bytes[20..].copy_from_slice(payload);
    refresh_checksum(&mut bytes).unwrap();
    bytes
}

/// The ICV of a datagram whose AH follows its 20-byte header, mutable fields as zero (RFC 4302 section 3.3.3).
fn icv(datagram: &[u8]) -> [u8; 16] {
    let mut covered = datagram.to_vec();
    covered[1] = 0;
    covered[6..9].fill(0);
    covered[10..12].fill(0);
    covered[32..48].fill(0);
    let key = Crypto::mac_key(MacAlgorithm::HmacSha256_128, &KEY).unwrap();
    let mut jobs = [MacJob {
        key: &key,
        iv: [0; 8],
        message: &covered,
        tag: [0; 16],
    }];
    crypto().compute(&mut jobs);
    jobs[0].tag
}

/// An AH packet in transport mode: SPI 0x300, number 7, around `payload` of protocol 253.
fn with_ah(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut ah = vec![253, (AH_BYTES / 4 - 2) as u8, 0, 0, 0, 0, 3, 0, 0, 0, 0, 7];
    ah.resize(AH_BYTES, 0);
    ah.extend(payload);
    let mut bytes = of_protocol(AH, source, destination, &ah);
    let icv = icv(&bytes);
    bytes[32..48].copy_from_slice(&icv);
    bytes
}

/// What an AIVT makes of a datagram: the entrance takes one from its time to live.
fn a_hop_older(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[8] -= 1;
    refresh_checksum(&mut bytes).unwrap();
    bytes
}

fn world(nodes: usize, option: SourceOption) -> World {
    let mut plan = Plan::chain(nodes);
    plan.option = option;
    World::new(&plan, 2)
}

#[test]
fn line_4_as_sent_ipsec_passes_untouched() {
    for nodes in 2..=6 {
        let mut world = world(nodes, SourceOption::AsSent);
        let (initiator, last) = (inside(0), nodes as u8 - 1);
        let responder = inside(last);
        // Long and short, both kinds, both ways.
        for len in [8, 500, 1300] {
            let noise: Vec<u8> = (0..len).map(|at: usize| ((at * 167) >> 3) as u8).collect();
            for (from, to, source, destination) in [(0, last, initiator, responder), (last, 0, responder, initiator)] {
                let esp = of_protocol(ESP, source, destination, &noise);
                let ah = with_ah(source, destination, &noise);
                for packet in [esp, ah] {
                    world.send(from, &packet);
                    world.run_for(Now::SECOND);
                    let arrived = world.delivered(to);
                    assert_eq!(arrived, [a_hop_older(packet)], "{nodes} AINs, {len} bytes");
                    let is_ah = arrived[0][9] == AH;
                    assert!(!is_ah || arrived[0][32..48] == icv(&arrived[0]), "the ICV still holds");
                }
            }
        }
        world.assert_no_drops_but(&[]);
    }
}

#[test]
fn line_4_random_private_refuses_ah_in_words_and_passes_esp() {
    let mut world = world(3, SourceOption::RandomPrivate);
    let (initiator, responder) = (inside(0), inside(2));
    let esp = of_protocol(ESP, initiator, responder, &[0x77; 100]);
    world.send(0, &esp);
    world.run_for(Now::SECOND);
    let arrived = world.delivered(2);
    assert_eq!(arrived[0][20..], esp[20..], "ESP does not cover the address");
    assert_ne!(arrived[0][12..16], esp[12..16]);
    world.send(0, &with_ah(initiator, responder, &[0x77; 100]));
    world.run_for(Now::SECOND);
    assert_eq!(world.delivered(2), Vec::<Vec<u8>>::new());
    let told = world.delivered(0);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0][20..22], [3, 13], "administratively prohibited");
    world.assert_no_drops_but(&[DropReason::NotRewritable]);
    assert!(DropReason::NotRewritable.sentence().contains("inner AH"));
}
