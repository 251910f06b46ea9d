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
        /// SPI of the PVT's AH association towards the receiver: names the key generation that the TVT is born under.
        ah: u32,
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

    /// Whether its SPI field names the sender's process.
    pub const fn tells_process(&self) -> bool {
        matches!(self, Self::Keepalive | Self::KeepaliveAck)
    }

    /// Whether it is ACKed and sent again.
    pub const fn is_request(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Destroy { .. } | Self::Created { .. })
    }

    fn payload(&self) -> Vec<u8> {
        match self {
            Self::Create { ah, onion } => [ah.to_be_bytes().as_slice(), onion].concat(),
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
        (Kind::Create, 5..) => Some(Message::Create {
            ah: number(payload),
            onion: payload[4..].to_vec(),
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
mod tests;
