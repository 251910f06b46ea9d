//! The datagram signals travel in: UDP inside the PVT, always of one length (protocol section 6, the paper's Figure 7).
//!
//! ```text
//! IPv4[20] or IPv6[40] | UDP[8] | command u8 | fragment u8 | length u16 | SPI u32 | message id u32 | payload | random padding
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

/// Bytes of payload one fragment carries with standard cells, in either family.
pub const CAPACITY: usize = 1314;
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

/// A payload that does not fit one fragment.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a signal's payload of {0} bytes does not fit one fragment of {CAPACITY}")]
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
    /// A part of a longer signal; no suite of this version needs one.
    #[error("fragment {index} of {count}: signals in several fragments are not supported")]
    Fragmented {
        /// Position, from 0.
        index: u8,
        /// Fragments in all.
        count: u8,
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
}

impl Frame {
    /// Signals between `ends` in a network with cells of `cell_bytes`.
    pub fn new(ends: impl Into<Ends>, cell_bytes: usize) -> Self {
        Self {
            ends: ends.into(),
            bytes: cell_bytes - SHORTER_THAN_CELL,
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

    /// The whole inner datagram from `local` to `remote`. Errors: an onion longer than one fragment.
    pub fn encode(&self, signal: &Signal, rng: &mut dyn CryptoRng) -> Result<Vec<u8>, TooLong> {
        let payload = signal.message.payload();
        let length = u16::try_from(payload.len()).ok().filter(|_| payload.len() <= CAPACITY);
        let length = length.ok_or(TooLong(payload.len()))?;
        let mut datagram = vec![0; self.bytes];
        let body = &mut datagram[self.ends.headers_bytes()..];
        body[0] = signal.message.kind() as u8;
        body[2..4].copy_from_slice(&length.to_be_bytes());
        body[4..8].copy_from_slice(&signal.spi.to_be_bytes());
        body[8..12].copy_from_slice(&signal.message_id.to_be_bytes());
        body[HEADER_BYTES..][..payload.len()].copy_from_slice(&payload);
        rng.fill_bytes(&mut body[HEADER_BYTES + payload.len()..]);
        self.ends.write_headers(&mut datagram);
        Ok(datagram)
    }

    /// Reads an inner datagram that came from the neighbour. Errors: see [`FrameError`].
    pub fn decode(&self, datagram: &[u8]) -> Result<Signal, FrameError> {
        if datagram.len() != self.bytes {
            return Err(FrameError::Length {
                given: datagram.len(),
                wanted: self.bytes,
            });
        }
        let body = self.ends.check_headers(datagram)?;
        let (index, count) = (body[1] >> 4, (body[1] & 0x0f) + 1);
        if (index, count) != (0, 1) {
            return Err(FrameError::Fragmented { index, count });
        }
        let kind = *Kind::ALL
            .get(usize::from(body[0]))
            .ok_or(FrameError::Command(body[0]))?;
        let length = usize::from(u16::from_be_bytes([body[2], body[3]]));
        let payload = body[HEADER_BYTES..].get(..length).filter(|_| length <= CAPACITY);
        let message = payload.and_then(|payload| parse(kind, payload));
        Ok(Signal {
            spi: number(&body[4..]),
            message_id: number(&body[8..]),
            message: message.ok_or(FrameError::Payload { kind, length })?,
        })
    }
}

fn parse(kind: Kind, payload: &[u8]) -> Option<Message> {
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
            prop::collection::vec(any::<u8>(), 1..=CAPACITY).prop_map(|onion| Message::Create { onion }),
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
        assert_eq!(
            CAPACITY,
            1408 - SHORTER_THAN_CELL - both_families()[1].0.ends.headers_bytes() - HEADER_BYTES
        );
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

    #[test]
    fn one_fragment_holds_no_more_than_its_capacity() {
        let signal = |bytes| Signal {
            spi: 256,
            message_id: 1,
            message: Message::Create { onion: vec![1; bytes] },
        };
        let (a, _) = ends();
        assert!(a.encode(&signal(CAPACITY), &mut rng()).is_ok());
        assert_eq!(a.encode(&signal(CAPACITY + 1), &mut rng()), Err(TooLong(CAPACITY + 1)));
    }
}
