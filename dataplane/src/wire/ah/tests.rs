use hex_literal::hex;
use proptest::prelude::*;

use super::*;

const SPI: Spi = Spi::new(0x1234_5678).unwrap();

#[test]
fn lengths_are_protocol_section_2() {
    use Family::{V4, V6};
    use MacAlgorithm::{Aes128Gmac, AesCmac96, HmacSha256_128};
    let all = [
        (HmacSha256_128, V4, 28),
        (HmacSha256_128, V6, 32),
        (Aes128Gmac, V4, 36),
        (Aes128Gmac, V6, 40),
        (AesCmac96, V4, 24),
        (AesCmac96, V6, 24),
    ];
    for (algorithm, family, len) in all {
        assert_eq!(ah_len(algorithm, family), len);
        for other in 0..=1028 {
            let accepted = other == len || (algorithm, family, other) == (HmacSha256_128, V4, 32);
            assert_eq!(
                IcvLayout::received(algorithm, family, other).is_ok(),
                accepted,
                "{algorithm:?} {family:?} {other}"
            );
        }
    }
}

#[test]
fn golden_header_with_gmac() {
    let layout = IcvLayout::sent(MacAlgorithm::Aes128Gmac, Family::V4);
    let mut ah = [0xee; 40];
    write_header(&mut ah, layout, super::super::protocol::CELL, SPI, 7).unwrap();
    let icv = Icv {
        iv: hex!("0102030405060708"),
        tag: [0xab; 16],
    };
    put_icv(&mut ah, layout, &icv).unwrap();
    let golden = hex!("63 07 0000 12345678 00000007 0102030405060708 abababababababababababababababab eeeeeeee");
    assert_eq!(ah, golden);

    let parsed = Ah::parse(&ah).unwrap();
    assert_eq!(
        (parsed.next_header(), parsed.spi(), parsed.sequence_low(), parsed.len()),
        (99, SPI, 7, 36)
    );
    assert_eq!(parsed.payload(), hex!("eeeeeeee"));
    assert_eq!(parsed.layout(MacAlgorithm::Aes128Gmac, Family::V4), Ok(layout));
    assert_eq!(
        parsed.layout(MacAlgorithm::HmacSha256_128, Family::V4),
        Err(WireError::IcvLength)
    );

    assert_eq!(take_icv(&mut ah, layout), Ok(icv));
    assert_eq!(ah[..12], golden[..12]);
    assert_eq!(ah[12..36], [0; 24]);
    assert_eq!(ah[36..], golden[36..]);
}

/// The tag of CMAC is short: no byte behind it is touched, and zeros fill the tag that is compared.
#[test]
fn golden_header_with_cmac() {
    let layout = IcvLayout::sent(MacAlgorithm::AesCmac96, Family::V4);
    let mut ah = [0xee; 28];
    write_header(&mut ah, layout, super::super::protocol::CELL, SPI, 7).unwrap();
    let mut tag = [0; 16];
    tag[..12].fill(0xab);
    let icv = Icv { iv: [0; 8], tag };
    put_icv(&mut ah, layout, &icv).unwrap();
    let golden = hex!("63 04 0000 12345678 00000007 abababababababababababab eeeeeeee");
    assert_eq!(ah, golden);
    assert_eq!(
        Ah::parse(&ah).unwrap().layout(MacAlgorithm::AesCmac96, Family::V4),
        Ok(layout)
    );
    assert_eq!(take_icv(&mut ah, layout), Ok(icv));
    assert_eq!(ah[12..24], [0; 12]);
    assert_eq!(ah[24..], golden[24..]);
    assert!(take_icv(&mut [0; 23], layout).is_err());
}

#[test]
fn padding_of_a_long_hmac_header_is_covered_as_received() {
    let layout = IcvLayout::received(MacAlgorithm::HmacSha256_128, Family::V4, 32).unwrap();
    let mut ah = [0x11; 32];
    ah[1] = 6;
    let icv = take_icv(&mut ah, layout).unwrap();
    assert_eq!(
        icv,
        Icv {
            iv: [0; 8],
            tag: [0x11; 16]
        }
    );
    assert_eq!(ah[12..28], [0; 16]);
    assert_eq!(ah[28..], [0x11; 4]);
}

#[test]
fn refusals() {
    let header = hex!("32 05 0000 00000100 00000001 00000000000000000000000000000000");
    assert!(Ah::parse(&header).is_ok());
    for len in 0..header.len() {
        assert_eq!(
            Ah::parse(&header[..len]).map(|_| ()),
            Err(WireError::Truncated("AH")),
            "{len}"
        );
    }
    let mut reserved = header;
    reserved[4..8].copy_from_slice(&255u32.to_be_bytes());
    assert_eq!(Ah::parse(&reserved).map(|_| ()), Err(WireError::ReservedSpi));
    let mut short = header;
    short[1] = 0;
    assert_eq!(Ah::parse(&short).map(|_| ()), Err(WireError::HeaderLength("AH")));
    // RFC 4302 section 2.3: a reserved field in use is the receiver's to ignore.
    let mut odd = header;
    odd[2..4].fill(0xff);
    assert!(Ah::parse(&odd).is_ok());
    let layout = IcvLayout::sent(MacAlgorithm::HmacSha256_128, Family::V4);
    assert!(take_icv(&mut [0; 27], layout).is_err());
    assert!(
        put_icv(
            &mut [0; 27],
            layout,
            &Icv {
                iv: [0; 8],
                tag: [0; 16]
            }
        )
        .is_err()
    );
    assert!(write_header(&mut [0; 27], layout, 50, SPI, 1).is_err());
}

/// What RFC 4302 section 3.3.3.1.1.1 says of each byte of the fixed header.
const FIXED: [(&str, usize, bool); 12] = [
    ("version, IHL", 1, false),
    ("DSCP, ECN", 1, true),
    ("total length", 2, false),
    ("identification", 2, false),
    ("flags, fragment offset", 2, true),
    ("TTL", 1, true),
    ("protocol", 1, false),
    ("header checksum", 2, true),
    ("source address", 4, false),
    ("destination address", 4, false),
    ("AH: next header to sequence number", 12, false),
    ("AH: padding, payload", 8, false),
];

/// One outer packet: header with `options`, then the covered parts of AH and payload.
fn packet(options: &[u8]) -> Vec<u8> {
    let mut packet = hex!("4500 0050 beef 4000 40 33 aaaa c0000201 c6336407").to_vec();
    packet[0] = 0x45 + (options.len() / 4) as u8;
    packet.extend(options);
    packet.extend([0x5a; 20]);
    packet
}

/// What the ICV is computed over.
fn covered(packet: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut packet = packet.to_vec();
    let header_len = usize::from(packet[0] & 0x0f) * 4;
    let header = packet.get_mut(..header_len).ok_or(WireError::Truncated("IPv4"))?;
    mask_mutable_ipv4(header)?;
    Ok(packet)
}

/// Whether flipping that bit leaves what is covered as it was.
fn flip_is_invisible(packet: &[u8], bit: usize) -> bool {
    let mut flipped = packet.to_vec();
    flipped[bit / 8] ^= 0x80 >> (bit % 8);
    covered(&flipped) == covered(packet)
}

#[test]
fn every_bit_of_a_packet_without_options() {
    let packet = packet(&[]);
    let mut at = 0;
    for (name, len, mutable) in FIXED {
        for bit in at * 8..(at + len) * 8 {
            assert_eq!(flip_is_invisible(&packet, bit), mutable, "{name}, bit {}", bit - at * 8);
        }
        at += len;
    }
    assert_eq!(at, packet.len());
}

/// (option, immutable) as RFC 4302 appendix A1 lists them, copied flag and class in the type byte, and two that it does not list.
const OPTIONS: [(u8, bool); 22] = [
    (0x82, true),  // security
    (0x85, true),  // extended security
    (0x86, true),  // commercial security
    (0x94, true),  // router alert
    (0x95, true),  // sender-directed multi-destination delivery
    (0x83, false), // loose source route
    (0x44, false), // time stamp
    (0x07, false), // record route
    (0x89, false), // strict source route
    (0x52, false), // traceroute
    (0x88, false), // stream ID
    (0x0b, false), // MTU probe
    (0x0c, false), // MTU reply
    (0x91, false), // extended internet protocol
    (0x0a, false), // experimental measurement
    (0xcd, false), // experimental flow control
    (0x8e, false), // experimental access control
    (0x0f, false), // ???
    (0x90, false), // IMI traffic descriptor
    (0x93, false), // address extension
    (0x1e, false), // RFC 4727 experiment
    (0x02, false), // security without the copied flag: no such option
];

#[test]
fn every_bit_of_a_packet_with_each_option() {
    for (kind, immutable) in OPTIONS {
        // NOP, an option of 10 bytes, whose pointer says "used up" if it is a source route, then EOL.
        let packet = packet(&[1, kind, 10, 0xff, 1, 2, 3, 4, 5, 6, 7, 0]);
        let masked = covered(&packet).unwrap();
        assert_eq!(masked[20], 1, "NOP is immutable");
        if immutable {
            assert_eq!(masked[21..31], packet[21..31], "{kind:#x}");
        } else {
            assert_eq!(masked[21..31], [0; 10], "{kind:#x}");
        }
        for bit in 24 * 8..31 * 8 {
            assert_eq!(
                flip_is_invisible(&packet, bit),
                !immutable,
                "option {kind:#x}, bit {}",
                bit - 21 * 8
            );
        }
        for bit in (0..20 * 8).chain(31 * 8..packet.len() * 8) {
            let mutable = matches!(bit / 8, 1 | 6..=8 | 10 | 11);
            assert_eq!(
                flip_is_invisible(&packet, bit),
                mutable,
                "option {kind:#x}, byte {}",
                bit / 8
            );
        }
    }
}

#[test]
fn source_route_still_in_use_predicts_its_last_address() {
    for kind in [0x83, 0x89] {
        let underway = packet(&[kind, 11, 4, 10, 0, 0, 1, 192, 0, 2, 99, 0]);
        let masked = covered(&underway).unwrap();
        assert_eq!(masked[16..20], [192, 0, 2, 99]);
        assert_eq!(masked[20..31], [0; 11]);
        // Arrived: the last address has become the destination, addresses of the routers stand in the route.
        let mut arrived = underway.clone();
        arrived[16..20].copy_from_slice(&[192, 0, 2, 99]);
        arrived[22..31].copy_from_slice(&[12, 1, 1, 1, 1, 2, 2, 2, 2]);
        assert_eq!(covered(&arrived).unwrap(), masked);
    }
}

#[test]
fn malformed_options_are_refused() {
    let bad: [&[u8]; 8] = [
        &[7, 0, 0, 0],                   // length 0 would never end
        &[7, 1, 0, 0],                   // shorter than type and length
        &[7, 5, 0, 0],                   // past the header
        &[1, 1, 1, 7],                   // no length byte
        &[0x94, 4, 0, 0, 0x82, 5, 0, 0], // immutable and past the header
        &[0x83, 2, 1, 1],                // source route without pointer
        &[0x83, 7, 3, 1, 2, 3, 4, 0],    // pointer into the option's head
        &[0x89, 8, 4, 1, 2, 3, 4, 5],    // route of five bytes
    ];
    for options in bad {
        assert_eq!(covered(&packet(options)), Err(WireError::Option), "{options:?}");
    }
    assert!(
        covered(&packet(&[0, 7, 0, 9])).is_ok(),
        "nothing behind the end of options is parsed"
    );
}

#[test]
fn header_must_be_exact() {
    assert_eq!(mask_mutable_ipv4(&mut [0x45; 19]), Err(WireError::Truncated("IPv4")));
    assert_eq!(mask_mutable_ipv4(&mut [0x45; 24]), Err(WireError::HeaderLength("IPv4")));
    assert_eq!(mask_mutable_ipv4(&mut [0x46; 20]), Err(WireError::HeaderLength("IPv4")));
}

proptest! {
    #[test]
    fn parse_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..80), payload_len in 0u8..12) {
        if bytes.len() > 1 {
            bytes[1] = payload_len;
        }
        if let Ok(ah) = Ah::parse(&bytes) {
            prop_assert_eq!(ah.len() + ah.payload().len(), bytes.len());
        }
    }

    #[test]
    fn mask_never_panics_and_is_idempotent(mut header in prop::collection::vec(any::<u8>(), 0..64)) {
        let words = header.len() / 4;
        header.truncate(words * 4);
        if let Some(first) = header.first_mut() {
            *first = 0x40 | words as u8 & 0x0f;
        }
        if mask_mutable_ipv4(&mut header).is_ok() && header.len() == 20 {
            let once = header.clone();
            mask_mutable_ipv4(&mut header).unwrap();
            prop_assert_eq!(once, header);
        }
    }
}
