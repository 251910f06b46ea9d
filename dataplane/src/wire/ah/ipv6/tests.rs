use hex_literal::hex;
use proptest::prelude::*;

use super::*;
use crate::wire::ah::Ah;

const FIXED_HEADER: [u8; HEADER_LEN] =
    hex!("6abc1234 0000 00 3f 20010db8000000000000000000000001 20010db8000000000000000000000002");

/// An AH of 24 bytes with SPI 256 before CELL, and 8 bytes of payload.
const AH_AND_PAYLOAD: [u8; 32] = hex!("63 04 0000 00000100 00000007 5a5a5a5a5a5a5a5a5a5a5a5a 5a5a5a5a5a5a5a5a");

/// One extension header: its own protocol number and everything behind the next header byte.
type Extension = (u8, Vec<u8>);

/// An option header with `options`, padded with Pad1 to a multiple of 8 bytes.
fn options(kind: u8, options: &[u8]) -> Extension {
    let total = (2 + options.len()).next_multiple_of(8);
    let mut bytes = vec![(total / 8 - 1) as u8];
    bytes.extend(options);
    bytes.resize(total - 1, PAD1);
    (kind, bytes)
}

/// A packet with `extensions` before what `last` announces.
fn packet_before(extensions: &[Extension], last: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = FIXED_HEADER.to_vec();
    let kinds: Vec<u8> = extensions.iter().map(|(kind, _)| *kind).chain([last]).collect();
    packet[6] = kinds[0];
    for ((_, bytes), next) in extensions.iter().zip(&kinds[1..]) {
        packet.push(*next);
        packet.extend(bytes);
    }
    packet.extend(rest);
    let payload = (packet.len() - HEADER_LEN) as u16;
    packet[4..6].copy_from_slice(&payload.to_be_bytes());
    packet
}

fn packet(extensions: &[Extension]) -> Vec<u8> {
    packet_before(extensions, protocol::AH, &AH_AND_PAYLOAD)
}

fn offset(packet: &[u8]) -> Result<usize, WireError> {
    offset_ipv6(&Ipv6::parse(packet)?)
}

/// What the ICV is computed over.
fn covered(packet: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut covered = packet.to_vec();
    let at = offset(packet)?;
    mask_mutable_ipv6(&mut covered[..at])?;
    Ok(covered)
}

/// Whether flipping that bit leaves what is covered as it was.
fn flip_is_invisible(packet: &[u8], bit: usize) -> bool {
    let mut flipped = packet.to_vec();
    flipped[bit / 8] ^= 0x80 >> (bit % 8);
    covered(&flipped) == covered(packet)
}

/// What RFC 4302 section 3.3.3.1.2.1 says of each field of the fixed header, in bits.
const FIXED: [(&str, usize, bool); 8] = [
    ("version", 4, false),
    ("DSCP, ECN", 8, true),
    ("flow label", 20, true),
    ("payload length", 16, false),
    ("next header", 8, false),
    ("hop limit", 8, true),
    ("source address", 128, false),
    ("destination address", 128, false),
];

#[test]
fn every_bit_of_a_packet_without_extension_headers() {
    let packet = packet(&[]);
    assert_eq!(offset(&packet), Ok(HEADER_LEN));
    let mut bit = 0;
    for (name, bits, mutable) in FIXED {
        for _ in 0..bits {
            assert_eq!(flip_is_invisible(&packet, bit), mutable, "{name}, bit {bit}");
            bit += 1;
        }
    }
    assert_eq!(bit, HEADER_LEN * 8);
    assert!((bit..packet.len() * 8).all(|bit| !flip_is_invisible(&packet, bit)));
}

/// (type, change en route) of options that may be skipped: IANA's list, and types it does not have.
const OPTIONS: [(u8, bool); 9] = [
    (0x01, false), // PadN
    (0x04, false), // tunnel encapsulation limit
    (0x05, false), // router alert
    (0x07, false), // CALIPSO
    (0x0f, false), // IP_DFF is 0xee; this one is free
    (0x23, true),  // RPL option of RFC 9008
    (0x30, true),  // minimum path MTU of RFC 9268
    (0x31, true),  // IOAM, mutable
    (0x3e, true),  // RFC 4727 experiment
];

#[test]
fn every_bit_of_each_option_in_either_header() {
    for kind in [HOP_BY_HOP_OPTIONS, DESTINATION_OPTIONS] {
        for (option, mutable) in OPTIONS {
            // Pad1, an option of 9 bytes, PadN with its 2 bytes of data.
            let packet = packet(&[options(kind, &[PAD1, option, 7, 1, 2, 3, 4, 5, 6, 7, 1, 2, 0, 0])]);
            let data = HEADER_LEN + 5..HEADER_LEN + 12;
            let masked = covered(&packet).unwrap();
            assert_eq!(masked[HEADER_LEN..data.start], packet[HEADER_LEN..data.start]);
            assert_eq!(masked[data.end..], packet[data.end..]);
            if mutable {
                assert_eq!(masked[data.clone()], [0; 7], "{option:#x}");
            } else {
                assert_eq!(masked[data.clone()], packet[data.clone()], "{option:#x}");
            }
            for bit in data.start * 8..data.end * 8 {
                assert_eq!(
                    flip_is_invisible(&packet, bit),
                    mutable,
                    "option {option:#x}, bit {bit}"
                );
            }
        }
    }
}

#[test]
fn headers_in_the_order_of_the_rfc_are_walked() {
    let hop = options(HOP_BY_HOP_OPTIONS, &[5, 2, 0, 0]);
    let destination = options(DESTINATION_OPTIONS, &[1; 20]);
    for (extensions, expected) in [
        (vec![hop.clone()], 48),
        (vec![destination.clone()], 64),
        (vec![hop.clone(), destination.clone()], 72),
        (vec![hop, destination.clone(), destination.clone(), destination], 120),
    ] {
        let packet = packet(&extensions);
        assert_eq!(offset(&packet), Ok(expected));
        assert_eq!(Ah::parse(&packet[expected..]).unwrap().spi().value(), 256);
        for len in 0..packet.len() {
            assert!(Ipv6::parse(&packet[..len]).is_err());
        }
    }
}

#[test]
fn what_has_no_place_before_an_ah_is_named() {
    let hop = || options(HOP_BY_HOP_OPTIONS, &[]);
    let destination = || options(DESTINATION_OPTIONS, &[]);
    let refused = |extensions: &[Extension]| matches!(covered(&packet(extensions)), Err(WireError::Extension(_)));
    // Types 0 (RFC 5095), 2 (RFC 6275), 3 (RFC 6554), 4 (RFC 8754), segments left or not.
    for routing_type in [0, 2, 3, 4, 99] {
        for segments_left in [0, 1] {
            let routing = (ROUTING, vec![0, routing_type, segments_left, 0, 0, 0, 0]);
            assert!(refused(&[hop(), routing]), "routing header of type {routing_type}");
        }
    }
    assert!(refused(&[destination(), hop()]), "hop-by-hop options stand in front");
    assert!(refused(&vec![destination(); OUTER_EXTENSIONS + 1]));
    assert!(!refused(&vec![destination(); OUTER_EXTENSIONS]));
    // Jumbo payload, home address, endpoint identification, and a type of each action that nobody has.
    for option in [0xc2, 0xc9, 0x8a, 0x40, 0x80, 0xc0, 0x7e] {
        assert!(
            refused(&[options(DESTINATION_OPTIONS, &[option, 4, 0, 0, 0, 0])]),
            "{option:#x}"
        );
    }
}

#[test]
fn fragments_are_told_from_other_peoples() {
    let fragment = |of: u8| offset(&packet_before(&[], FRAGMENT, &[of, 0, 0, 1, 0, 0, 0, 9, 1, 2, 3]));
    assert_eq!(fragment(protocol::AH), Err(WireError::Fragment));
    assert_eq!(fragment(DESTINATION_OPTIONS), Err(WireError::Fragment));
    assert_eq!(fragment(protocol::UDP), Err(WireError::NextHeader(protocol::UDP)));
    assert_eq!(
        offset(&packet_before(&[], protocol::ICMPV6, &[135, 0])),
        Err(WireError::NextHeader(58))
    );
    assert_eq!(
        offset(&packet_before(
            &[options(HOP_BY_HOP_OPTIONS, &[5, 2, 0, 0])],
            protocol::ICMPV6,
            &[143, 0]
        )),
        Err(WireError::NextHeader(58)),
        "multicast listener reports are the kernel's"
    );
}

#[test]
fn malformed_headers_and_options_are_refused() {
    let bad: [&[u8]; 3] = [
        &[5, 5, 0, 0, 0, 0],    // past the header
        &[1, 3, 0, 0, 0, 0x30], // no length byte
        &[0x31, 255, 0, 0, 0, 0],
    ];
    for options_bytes in bad {
        let extension = options(DESTINATION_OPTIONS, options_bytes);
        assert_eq!(
            covered(&packet(&[extension])),
            Err(WireError::Option),
            "{options_bytes:?}"
        );
    }
    let long = packet_before(&[], DESTINATION_OPTIONS, &[protocol::AH, 1, 1, 4, 0, 0, 0, 0]);
    assert_eq!(offset(&long), Err(WireError::Truncated("extension")));
    for rest in [&[][..], &[protocol::AH]] {
        assert_eq!(
            offset(&packet_before(&[], DESTINATION_OPTIONS, rest)),
            Err(WireError::Truncated("extension"))
        );
    }
    assert_eq!(mask_mutable_ipv6(&mut [0x60; 39]), Err(WireError::Truncated("IPv6")));
    assert_eq!(
        mask_mutable_ipv6(&mut [0x60; 41]),
        Err(WireError::Truncated("extension"))
    );
    assert_eq!(
        mask_mutable_ipv6(&mut [0x60; 48]),
        Err(WireError::Truncated("extension"))
    );
}

/// An option that may be skipped, and what masking makes of it.
fn option() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    prop_oneof![
        Just((vec![PAD1], vec![PAD1])),
        (1u8..64, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, data)| {
            let head = [kind, data.len() as u8];
            let masked = if kind & CHANGES_EN_ROUTE == 0 {
                data.clone()
            } else {
                vec![0; data.len()]
            };
            ([&head[..], &data].concat(), [&head[..], &masked].concat())
        }),
    ]
}

proptest! {
    /// Against packets built together with what they are masked to.
    #[test]
    fn masking_is_as_built(
        hop in prop::option::of(prop::collection::vec(option(), 0..6)),
        destination in prop::collection::vec(prop::collection::vec(option(), 0..6), 0..4),
        class: u8,
        flow in 0u32..1 << 20,
        hop_limit: u8,
    ) {
        let build = |masked: bool| {
            let header = |kind, parts: &Vec<(Vec<u8>, Vec<u8>)>| {
                let bytes = parts.iter().flat_map(|(plain, zeroed)| if masked { zeroed.clone() } else { plain.clone() });
                options(kind, &bytes.collect::<Vec<u8>>())
            };
            let extensions: Vec<Extension> = hop.iter().map(|parts| header(HOP_BY_HOP_OPTIONS, parts))
                .chain(destination.iter().map(|parts| header(DESTINATION_OPTIONS, parts)))
                .collect();
            let mut packet = packet(&extensions);
            let word = if masked { 6 << 28 } else { 6 << 28 | u32::from(class) << 20 | flow };
            packet[..4].copy_from_slice(&word.to_be_bytes());
            packet[7] = if masked { 0 } else { hop_limit };
            packet
        };
        let expected = build(true);
        prop_assert_eq!(&covered(&build(false)).unwrap(), &expected);
        prop_assert_eq!(&covered(&expected).unwrap(), &expected);
    }

    #[test]
    fn neither_panics_whatever_comes(mut bytes in prop::collection::vec(any::<u8>(), 0..160), plausible: bool) {
        if plausible && bytes.len() > 41 {
            bytes[0] = 0x60;
            let payload = (bytes.len() - HEADER_LEN) as u16;
            bytes[4..6].copy_from_slice(&payload.to_be_bytes());
            bytes[6] = [HOP_BY_HOP_OPTIONS, DESTINATION_OPTIONS, FRAGMENT, ROUTING][usize::from(bytes[6] % 4)];
            bytes[41] %= 4;
        }
        if let Ok(ip) = Ipv6::parse(&bytes)
            && let Ok(at) = offset_ipv6(&ip)
        {
            prop_assert!(at >= HEADER_LEN && at <= ip.total_len() && at % 8 == 0);
        }
        let _ = mask_mutable_ipv6(&mut bytes);
    }
}
