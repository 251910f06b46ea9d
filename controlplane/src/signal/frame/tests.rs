//! The frame's layout in both families, and what it refuses.

use std::net::{Ipv4Addr, Ipv6Addr};

use ain_dataplane::wire::{checksum, esp};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::*;

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// Both ends of a PVT with IPv4, and of one with IPv6 signalling addresses.
fn both_families() -> [(Frame, Frame); 2] {
    [
        (Frame::new((A, B), 1408), Frame::new((B, A), 1408)),
        (Frame::new((A6, B6), 1408), Frame::new((B6, A6), 1408)),
    ]
}

fn ends() -> (Frame, Frame) {
    both_families()[0]
}

fn rng() -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(6)
}

fn messages() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<u32>(), prop::collection::vec(any::<u8>(), 1..=1310usize))
            .prop_map(|(ah, onion)| Message::Create { ah, onion }),
        (any::<u32>(), 0..12u8).prop_map(|(create, reason)| Message::Destroy {
            create,
            reason: Reason::from_number(reason)
        }),
        (any::<u32>(), any::<[u8; 32]>()).prop_map(|(create, confirmation)| Message::Created { create, confirmation }),
        Just(Message::Keepalive),
        Just(Message::KeepaliveAck),
        Just(Message::Ack),
    ]
}

proptest! {
    #[test]
    fn what_one_end_writes_the_other_reads(spi: u32, message_id: u32, message in messages()) {
        for (a, b) in both_families() {
            let signal = Signal { spi, message_id, message: message.clone() };
            let datagram = a.encode(&signal, &mut rng()).unwrap();
            prop_assert_eq!(datagram.len(), 1374);
            prop_assert_eq!(b.decode(&datagram), Ok(signal));
            prop_assert_eq!(a.decode(&datagram), Err(FrameError::Addresses));
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 1374)) {
        for (a, b) in both_families() {
            prop_assert!(b.decode(&bytes).is_err());
            let mut valid =
                a.encode(&Signal { spi: 256, message_id: 1, message: Message::Ack }, &mut rng()).unwrap();
            let headers = a.ends.headers_bytes();
            valid[headers..].copy_from_slice(&bytes[headers..]);
            valid[headers - 2..headers].fill(0);
            let _ = b.decode(&valid);
        }
    }
}

fn sample() -> Vec<u8> {
    sample_of(&ends().0)
}

fn sample_of(sender: &Frame) -> Vec<u8> {
    let message = Message::Destroy {
        create: 7,
        reason: Reason::Inactive,
    };
    sender
        .encode(
            &Signal {
                spi: 0x1234_5678,
                message_id: 9,
                message,
            },
            &mut rng(),
        )
        .unwrap()
}

#[test]
fn layout_is_the_protocols() {
    let datagram = sample();
    assert_eq!(
        datagram[..12],
        [0x45, 0, 0x05, 0x5e, 0, 0, 0x40, 0, 64, 17, datagram[10], datagram[11]]
    );
    assert_eq!(datagram[20..26], [0x12, 0xbd, 0x12, 0xbd, 0x05, 0x4a]);
    assert_eq!(
        datagram[28..45],
        [1, 0, 0, 5, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 9, 0, 0, 0, 7, 2]
    );
    assert!(datagram[45..].iter().any(|byte| *byte != 0), "padding is random");
}

#[test]
fn layout_over_ipv6_is_the_protocols() {
    let datagram = sample_of(&both_families()[1].0);
    assert_eq!(datagram[..8], [0x60, 0, 0, 0, 0x05, 0x36, 17, 64]);
    assert_eq!(datagram[8..40], [A6.octets(), B6.octets()].concat());
    assert_eq!(datagram[40..46], [0x12, 0xbd, 0x12, 0xbd, 0x05, 0x36]);
    assert_eq!(
        datagram[48..65],
        [1, 0, 0, 5, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 9, 0, 0, 0, 7, 2]
    );
}

// The UDP checksum covers the pseudo-header, ports and all of the payload, the IPv4 checksum the rest. IPv6 has none, and
// leaves traffic class, flow label and hop limit open.
#[test]
fn every_changed_bit_is_noticed() {
    for (family, (a, b)) in both_families().iter().enumerate() {
        let mut datagram = sample_of(a);
        for bit in 0..datagram.len() * 8 {
            let free = family == 1 && matches!(bit / 8, 1..=3 | 7);
            let free = free || family == 1 && bit < 4;
            datagram[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(b.decode(&datagram).is_ok(), free, "bit {bit}");
            datagram[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(b.decode(&datagram).is_ok());
    }
}

#[test]
fn ipv6_demands_a_checksum() {
    let with_none = |(a, b): &(Frame, Frame)| {
        let mut datagram = sample_of(a);
        let headers = a.ends.headers_bytes();
        datagram[headers - 2..headers].fill(0);
        b.decode(&datagram).map(|_| ())
    };
    assert_eq!(
        both_families().each_ref().map(with_none),
        [Ok(()), Err(FrameError::Udp)]
    );
}

/// Sealed into the PVT, a signal is as long as a cell, whatever the families outside and inside and the algorithms: only what is
/// behind the AH differs between them.
#[test]
fn a_sealed_signal_is_as_long_as_a_cell() {
    for cell_bytes in [1408, 8896] {
        for ends in [Ends::from((A, B)), Ends::from((A6, B6))] {
            assert_eq!(esp::packet_len(Frame::new(ends, cell_bytes).bytes), cell_bytes);
        }
    }
    let (six, _) = both_families()[1];
    assert_eq!(six.capacity, six.bytes - six.ends.headers_bytes() - HEADER_BYTES);
}

#[test]
fn every_other_length_is_refused() {
    let (_, b) = ends();
    let datagram = sample();
    for length in 0..datagram.len() {
        let error = FrameError::Length {
            given: length,
            wanted: 1374,
        };
        assert_eq!(b.decode(&datagram[..length]), Err(error));
    }
}

#[test]
fn errors_name_their_cause() {
    let (_, b) = ends();
    let with = |changes: &[(usize, u8)]| {
        let mut datagram = sample();
        changes.iter().for_each(|&(at, byte)| datagram[at] = byte);
        datagram[10..12].fill(0);
        let sum = checksum::checksum(&datagram[..20]);
        datagram[10..12].copy_from_slice(&sum.to_be_bytes());
        datagram[26..28].fill(0);
        b.decode(&datagram).unwrap_err()
    };
    assert_eq!(with(&[(6, 0x20)]), FrameError::Ip);
    assert_eq!(with(&[(9, 6)]), FrameError::Udp);
    assert_eq!(with(&[(23, 0)]), FrameError::Port);
    assert_eq!(with(&[(29, 0x11)]), FrameError::Fragmented { index: 1, count: 2 });
    assert_eq!(with(&[(29, 0x01)]), FrameError::Fragmented { index: 0, count: 2 });
    assert_eq!(with(&[(28, 6)]), FrameError::Command(6));
    assert_eq!(
        with(&[(31, 4)]),
        FrameError::Payload {
            kind: Kind::Destroy,
            length: 4
        }
    );
    assert_eq!(
        with(&[(28, 0), (30, 0xff)]),
        FrameError::Payload {
            kind: Kind::Create,
            length: 0xff05
        }
    );
}

/// Onions of suites 3, 1, 2 and 4 with the SPI before them, and the longest that six datagrams take.
#[test]
fn line_2_long_signals_come_in_parts_of_one_length() {
    let signal = |bytes| Signal {
        spi: 256,
        message_id: 1,
        message: Message::Create {
            ah: 256,
            onion: vec![1; bytes - 4],
        },
    };
    for (a, b) in both_families() {
        assert_eq!(a.capacity, 1314);
        for (bytes, count) in [
            (1096, 1),
            (1314, 1),
            (1315, 2),
            (2440, 2),
            (3208, 3),
            (7624, 6),
            (7884, 6),
        ] {
            let datagrams = a.encode_all(&signal(bytes), &mut rng()).unwrap();
            assert_eq!(datagrams.len(), count);
            let read = |datagram: &Vec<u8>| b.read(datagram).map(|part| (part.index, part.payload.len()));
            let parts: Vec<_> = datagrams.iter().map(|one| read(one).unwrap()).collect();
            assert_eq!(parts[count - 1], (count - 1, bytes - (count - 1) * 1314));
            assert!(datagrams.iter().all(|datagram| datagram.len() == 1374));
        }
        assert_eq!(a.encode(&signal(1315), &mut rng()), Err(TooLong(1315)));
        assert_eq!(a.encode_all(&signal(7885), &mut rng()), Err(TooLong(7885)));
    }
    let jumbo = Frame::new((A, B), 8896);
    assert_eq!(jumbo.encode_all(&signal(7624), &mut rng()).unwrap().len(), 1);
}

#[test]
fn line_2_parts_that_cannot_be_are_refused() {
    let (_, b) = ends();
    let part = |kind: u8, part: u8, length: usize| {
        let mut datagram = sample();
        datagram[26..28].fill(0);
        (datagram[28], datagram[29]) = (kind, part);
        datagram[30..32].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        b.read(&datagram).map(|part| (part.index, part.count))
    };
    assert_eq!(part(0, 0x01, 1314), Ok((0, 2)));
    assert_eq!(part(0, 0x11, 1), Ok((1, 2)));
    assert_eq!(part(0, 0x55, 1050), Ok((5, 6)));
    // Index beyond count; not full; empty; more than six; another kind.
    for (kind, byte, length) in [
        (0, 0x21, 1),
        (0, 0xf0, 5),
        (0, 0x01, 1313),
        (0, 0x11, 0),
        (0, 0x66, 5),
        (0, 0x0f, 1314),
        (1, 0x11, 5),
        (2, 0x01, 1314),
        (5, 0x11, 0),
    ] {
        let error = part(kind, byte, length);
        assert!(
            matches!(error, Err(FrameError::Fragmented { .. })),
            "{kind} {byte:#x} {length}: {error:?}"
        );
    }
}
