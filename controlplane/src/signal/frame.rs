//! The datagram signals travel in: UDP inside the PVT, always of one length (protocol section 6, the paper's Figure 7).
//!
//! ```text
//! IPv4[20] or IPv6[40] | UDP[8] | command u8 | part u8 | length u16 | SPI u32 | message id u32 | payload | random padding
//! |<------------------------------------ cell - 34 bytes --------------------------------------------------------->|
//! ```

use ain_dataplane::stage::shape::VEIL_LEN;
/// UDP port of signals, both ends.
pub use ain_dataplane::wire::protocol::AIN_PORT as PORT;
use rand::CryptoRng;
use thiserror::Error;

use super::created::Confirmation;
use super::destroy::Reason;
use super::ends::Ends;
use super::part::Part;
use crate::limits::PARTS_MAX;

/// Bytes by which the payload of one datagram is shorter than a cell, at most, in either family: 1314 in standard cells.
pub const LESS_THAN_CELL: usize = SHORTER_THAN_CELL + 40 + 8 + HEADER_BYTES;
/// Bytes by which the inner datagram is shorter than a cell: what ESP in tunnel mode adds.
pub const SHORTER_THAN_CELL: usize = 34;
/// The same on a PVT with a rate, whose cells come with a veil.
pub const SHORTER_THAN_VEILED_CELL: usize = SHORTER_THAN_CELL - VEIL_LEN;

const HEADER_BYTES: usize = 12;

/// What a signal says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Join an AIVT.
    Create {
        /// The onion for the receiver.
        onion: Vec<u8>,
    },
    /// End an AIVT.
    Destroy {
        /// Message id of the CREATE this refuses, 0 for an AIVT that stood.
        create: u32,
        /// Why.
        reason: Reason,
    },
    /// An AIVT stands up to the exit.
    Created {
        /// Message id of the CREATE this answers.
        create: u32,
        /// c_i of the sender.
        confirmation: Confirmation,
    },
    /// Are you there?
    Keepalive,
    /// Yes; the message id is the KEEPALIVE's.
    KeepaliveAck,
    /// A request arrived; the message id is the request's.
    Ack,
}

/// Kinds of [`Message`], for counting.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// CREATE.
    Create = 0,
    /// DESTROY.
    Destroy = 1,
    /// CREATED.
    Created = 2,
    /// KEEPALIVE.
    Keepalive = 3,
    /// KEEPALIVE-ACK.
    KeepaliveAck = 4,
    /// ACK.
    Ack = 5,
}

impl Kind {
    /// Every kind, in the order of the command numbers.
    pub const ALL: [Self; 6] = [
        Self::Create,
        Self::Destroy,
        Self::Created,
        Self::Keepalive,
        Self::KeepaliveAck,
        Self::Ack,
    ];

    /// Name in counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Destroy => "destroy",
            Self::Created => "created",
            Self::Keepalive => "keepalive",
            Self::KeepaliveAck => "keepalive_ack",
            Self::Ack => "ack",
        }
    }
}

impl Message {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Create { .. } => Kind::Create,
            Self::Destroy { .. } => Kind::Destroy,
            Self::Created { .. } => Kind::Created,
            Self::Keepalive => Kind::Keepalive,
            Self::KeepaliveAck => Kind::KeepaliveAck,
            Self::Ack => Kind::Ack,
        }
    }

    /// Whether it is ACKed and sent again.
    pub const fn is_request(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Destroy { .. } | Self::Created { .. })
    }

    fn payload(&self) -> Vec<u8> {
        match self {
            Self::Create { onion } => onion.clone(),
            Self::Destroy { create, reason } => [create.to_be_bytes().as_slice(), &[*reason as u8]].concat(),
            Self::Created { create, confirmation } => [create.to_be_bytes().as_slice(), confirmation].concat(),
            Self::Keepalive | Self::KeepaliveAck | Self::Ack => Vec::new(),
        }
    }
}

/// A signal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signal {
    /// The TVT meant; 0 where none is (KEEPALIVE).
    pub spi: u32,
    /// Per sender and direction.
    pub message_id: u32,
    /// What it says.
    pub message: Message,
}

/// A payload that does not fit.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a signal's payload of {0} bytes is too long")]
pub struct TooLong(usize);

/// A datagram that is no signal of this PVT.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// Not as long as every signal is.
    #[error("a signal has {wanted} bytes on this PVT, not {given}")]
    Length {
        /// Bytes given.
        given: usize,
        /// Bytes every signal has.
        wanted: usize,
    },
    /// Not a plain, whole IP datagram of the family of the signalling addresses, in IPv4 with a right checksum.
    #[error("the IP header of a signal is malformed")]
    Ip,
    /// Not between the signalling addresses of the PVT.
    #[error("a signal is not between the signalling addresses of its PVT")]
    Addresses,
    /// Not UDP, a wrong length or a wrong checksum.
    #[error("the UDP header of a signal is malformed")]
    Udp,
    /// Not between the signalling ports.
    #[error("a signal is not between ports {PORT}")]
    Port,
    /// No part of a signal, or not the only one: see [`Part`].
    #[error("part {index} of {count} is no signal, or none of that length")]
    Fragmented {
        /// Position, from 0.
        index: usize,
        /// Parts in all.
        count: usize,
    },
    /// An unknown command.
    #[error("command {0} of a signal is unknown")]
    Command(u8),
    /// A payload that does not fit its command.
    #[error("a {kind:?} signal cannot have {length} bytes of payload")]
    Payload {
        /// The command.
        kind: Kind,
        /// The length it states.
        length: usize,
    },
}

/// The two ends of a PVT's signals and their one length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Signalling addresses of this node and the neighbour.
    pub ends: Ends,
    /// Bytes of every inner datagram.
    pub bytes: usize,
    /// Bytes of payload in one of them at most.
    pub capacity: usize,
}

impl Frame {
    /// Signals between `ends` in a network with cells of `cell_bytes`.
    pub fn new(ends: impl Into<Ends>, cell_bytes: usize) -> Self {
        Self {
            ends: ends.into(),
            bytes: cell_bytes - SHORTER_THAN_CELL,
            capacity: cell_bytes - LESS_THAN_CELL,
        }
    }

    /// The same on a PVT with a rate.
    #[must_use]
    pub const fn beside_veiled_cells(self) -> Self {
        Self {
            bytes: self.bytes + SHORTER_THAN_CELL - SHORTER_THAN_VEILED_CELL,
            ..self
        }
    }

    /// The inner datagrams that carry `signal`, in order. Errors: it takes more than [`PARTS_MAX`].
    pub fn encode_all(&self, signal: &Signal, rng: &mut dyn CryptoRng) -> Result<Vec<Vec<u8>>, TooLong> {
        let payload = signal.message.payload();
        let count = payload.len().div_ceil(self.capacity).max(1);
        if count > PARTS_MAX {
            return Err(TooLong(payload.len()));
        }
        let part = |index| Part {
            kind: signal.message.kind(),
            spi: signal.spi,
            message_id: signal.message_id,
            index,
            count,
            payload: &payload[index * self.capacity..payload.len().min((index + 1) * self.capacity)],
        };
        Ok((0..count).map(|index| self.write(&part(index), rng)).collect())
    }

    /// The inner datagram that carries `signal`. Errors: it takes more than one.
    pub fn encode(&self, signal: &Signal, rng: &mut dyn CryptoRng) -> Result<Vec<u8>, TooLong> {
        let [datagram] =
            <[_; 1]>::try_from(self.encode_all(signal, rng)?).map_err(|_| TooLong(signal.message.payload().len()))?;
        Ok(datagram)
    }

    fn write(&self, part: &Part<'_>, rng: &mut dyn CryptoRng) -> Vec<u8> {
        let length = u16::try_from(part.payload.len()).expect("shorter than a cell");
        let mut datagram = vec![0; self.bytes];
        let body = &mut datagram[self.ends.headers_bytes()..];
        body[0] = part.kind as u8;
        body[1] = (part.index << 4 | (part.count - 1)) as u8;
        body[2..4].copy_from_slice(&length.to_be_bytes());
        body[4..8].copy_from_slice(&part.spi.to_be_bytes());
        body[8..12].copy_from_slice(&part.message_id.to_be_bytes());
        body[HEADER_BYTES..][..part.payload.len()].copy_from_slice(part.payload);
        rng.fill_bytes(&mut body[HEADER_BYTES + part.payload.len()..]);
        self.ends.write_headers(&mut datagram);
        datagram
    }

    /// Reads an inner datagram that came from the neighbour. Errors: see [`FrameError`].
    pub fn read<'a>(&self, datagram: &'a [u8]) -> Result<Part<'a>, FrameError> {
        if datagram.len() != self.bytes {
            return Err(FrameError::Length {
                given: datagram.len(),
                wanted: self.bytes,
            });
        }
        let body = self.ends.check_headers(datagram)?;
        let kind = *Kind::ALL
            .get(usize::from(body[0]))
            .ok_or(FrameError::Command(body[0]))?;
        let (index, count) = (usize::from(body[1] >> 4), usize::from(body[1] & 0x0f) + 1);
        let length = usize::from(u16::from_be_bytes([body[2], body[3]]));
        let payload = body[HEADER_BYTES..].get(..length).filter(|_| length <= self.capacity);
        let part = Part {
            kind,
            spi: number(&body[4..]),
            message_id: number(&body[8..]),
            index,
            count,
            payload: payload.ok_or(FrameError::Payload { kind, length })?,
        };
        if self.is_possible(&part) {
            Ok(part)
        } else {
            Err(FrameError::Fragmented { index, count })
        }
    }

    /// Only creating signals come in parts, and each part but the last is full.
    fn is_possible(&self, part: &Part<'_>) -> bool {
        let last = part.index + 1 == part.count;
        let in_parts = part.kind == Kind::Create && part.count <= PARTS_MAX && !part.payload.is_empty();
        part.index < part.count && (part.count == 1 || in_parts && (last || part.payload.len() == self.capacity))
    }

    /// Reads an inner datagram that is the neighbour's whole signal. Errors: see [`FrameError`].
    pub fn decode(&self, datagram: &[u8]) -> Result<Signal, FrameError> {
        self.read(datagram)?.signal()
    }
}

pub(super) fn parse(kind: Kind, payload: &[u8]) -> Option<Message> {
    match (kind, payload.len()) {
        (Kind::Create, 1..) => Some(Message::Create {
            onion: payload.to_vec(),
        }),
        (Kind::Destroy, 5) => Some(Message::Destroy {
            create: number(payload),
            reason: Reason::from_number(payload[4]),
        }),
        (Kind::Created, 36) => Some(Message::Created {
            create: number(payload),
            confirmation: payload[4..].try_into().ok()?,
        }),
        (Kind::Keepalive, 0) => Some(Message::Keepalive),
        (Kind::KeepaliveAck, 0) => Some(Message::KeepaliveAck),
        (Kind::Ack, 0) => Some(Message::Ack),
        _ => None,
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(*bytes.first_chunk().expect("the length was checked"))
}

#[cfg(test)]
mod tests {
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
            prop::collection::vec(any::<u8>(), 1..=1314usize).prop_map(|onion| Message::Create { onion }),
            (any::<u32>(), 0..12u8).prop_map(|(create, reason)| Message::Destroy {
                create,
                reason: Reason::from_number(reason)
            }),
            (any::<u32>(), any::<[u8; 32]>())
                .prop_map(|(create, confirmation)| Message::Created { create, confirmation }),
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

    /// Onions of suites 3, 1, 2 and 4, and the longest that six datagrams take.
    #[test]
    fn line_2_long_signals_come_in_parts_of_one_length() {
        let signal = |bytes| Signal {
            spi: 256,
            message_id: 1,
            message: Message::Create { onion: vec![1; bytes] },
        };
        for (a, b) in both_families() {
            assert_eq!(a.capacity, 1314);
            for (bytes, count) in [
                (1092, 1),
                (1314, 1),
                (1315, 2),
                (2436, 2),
                (3204, 3),
                (7620, 6),
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
        assert_eq!(jumbo.encode_all(&signal(7620), &mut rng()).unwrap().len(), 1);
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
}
