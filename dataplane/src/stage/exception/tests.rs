use hex_literal::hex;
use proptest::prelude::*;

use super::*;
use crate::wire::ipv4::refresh_checksum;

/// A frame around a packet.
fn frame(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &ethertype.to_be_bytes(), packet].concat()
}

/// An IPv4 packet; `fragment` is the field with flags and offset.
fn v4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = hex!("4500 0000 0001 0000 4000 0000 c0000201 c0000202").to_vec();
    packet[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[9] = protocol;
    packet.extend(payload);
    refresh_checksum(&mut packet).unwrap();
    frame(ETHERTYPE_IPV4, &packet)
}

fn v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    packet[6] = next_header;
    packet.extend(payload);
    frame(ETHERTYPE_IPV6, &packet)
}

fn udp(port: u16) -> Vec<u8> {
    [&[0x12, 0x34][..], &port.to_be_bytes(), &[0, 12, 0, 0], &[7; 4]].concat()
}

#[test]
fn kinds() {
    let (neighbour, ike, other) = (Some(Exception::Neighbour), Some(Exception::Ike), Some(Exception::Other));
    let discovery = (133..=137).map(|kind| (v6(58, &[kind, 0, 0, 0]), neighbour));
    let cases = [
        (frame(0x0806, &[0; 28]), neighbour),
        (v6(58, &[128, 0, 0, 0]), other),
        (v6(58, &[132, 0, 0, 0]), other),
        (v6(58, &[138, 0, 0, 0]), other),
        (v6(58, &[]), other),
        (v4(17, 0, &udp(500)), ike),
        (v4(17, 0, &udp(4500)), ike),
        (v6(17, &udp(4500)), ike),
        (v4(17, 0, &udp(501)), other),
        (v6(17, &udp(53)), other),
        (v4(17, 0, &[0, 1]), other),
        (v4(17, 0x2000, &udp(500)), other), // the first fragment
        (v4(17, 0x0010, &udp(500)), other), // a later one
        (v4(1, 0, &[8, 0, 0, 0]), other),
        (v4(6, 0, &[0; 20]), other),
        (v6(6, &[0; 20]), other),
        (v4(2, 0, &[0; 8]), other),
        // Router alert, listener report: behind hop-by-hop options.
        (v6(0, &hex!("3a00 05020000 0100 8f000000")), other),
        // A fragment of UDP.
        (v6(44, &hex!("1100 0001 00000001 0000000000000000")), other),
        // What the kernel never gets.
        (v4(50, 0, &[0; 40]), None),
        (v4(51, 0, &[0; 40]), None),
        (v4(51, 0x2000, &[0; 40]), None),
        (v4(50, 0x0010, &[0; 40]), None),
        (v6(50, &[0; 40]), None),
        (v6(51, &[0; 40]), None),
        (v6(0, &hex!("3200 010400000000 0000000000000000")), None),
        (v6(44, &hex!("3300 0001 00000001 0000000000000000")), None),
        (v6(44, &hex!("3200 0001 00000001 0000000000000000")), None),
        (v6(43, &hex!("3300 0000 00000000 0000000000000000")), None),
        (frame(0x8100, &[0, 0, 8, 0, 0x45]), None),
        (frame(0x88cc, &[0; 46]), None),
        (frame(38, &[0x42; 46]), None),
        (frame(ETHERTYPE_IPV4, &[0x45; 19]), None),
        (vec![0; 13], None),
    ];
    for (frame, kind) in cases.into_iter().chain(discovery) {
        assert_eq!(Exception::of(&frame), kind, "{frame:02x?}");
    }
}

proptest! {
    /// Whatever carries AH or ESP, as far as anybody can see, is never the kernel's.
    #[test]
    fn never_ah_or_esp(protocol in 50_u8..=51, fragment: u16, options in 0_usize..4, payload: Vec<u8>) {
        prop_assert_eq!(Exception::of(&v4(protocol, fragment, &payload)), None);
        let mut packet = [60, 0, 1, 4, 0, 0, 0, 0].repeat(options);
        let next = if options > 0 { 60 } else { protocol };
        if let Some(last) = packet.len().checked_sub(8) {
            packet[last] = protocol;
        }
        packet.extend(&payload);
        prop_assert_eq!(Exception::of(&v6(next, &packet)), None);
    }

    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        let _ = Exception::of(&bytes);
    }
}
