//! What charon's plugin and the node say to each other, byte by byte (`docs/ike-socket.md`).
//!
//! ```text
//!   0 version u8 | 1 type u8 | 2 zero u16 | 4 id u32 | 8 body        one message a packet, integers big-endian
//! ```
//! Nothing is guessed: what is not exactly a message is refused, and the error names the field. Keys are [`KeyMaterial`] from the
//! first moment; buffers that hold messages are the caller's to wipe.

mod fields;

use std::net::IpAddr;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::secret::KeyMaterial;
use fields::{Reader, Writer};

/// Version of the messages.
pub const VERSION: u8 = 1;
/// Longest message, bytes.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// Bytes in front of the body.
const HEADER_BYTES: usize = 8;
/// Longest text in a message, bytes.
const TEXT_BYTES_MAX: usize = MESSAGE_BYTES_MAX - HEADER_BYTES - 8;
/// Longest key in a message, bytes.
const KEY_BYTES_MAX: usize = 256;

/// What is wrong with a message.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum MessageError {
    /// It ends too early.
    #[error("the message ends before `{0}` does")]
    Short(&'static str),
    /// A field says what it cannot.
    #[error("`{field}` is {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// A text is not one.
    #[error("`{0}` is not UTF-8")]
    NotText(&'static str),
    /// It goes on behind its last field.
    #[error("{0} bytes behind the last field")]
    Long(usize),
}

/// A message that is none, with the id to refuse it under; 0 where none is to be had.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("{error}")]
pub struct Malformed {
    /// Of the request.
    pub id: u32,
    /// What is wrong.
    pub error: MessageError,
}

/// Which way packets of an association go, seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// To it.
    In,
    /// From it.
    Out,
}

/// What an association is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// RFC 4303, number 50.
    Esp,
    /// RFC 4302, number 51.
    Ah,
}

impl Protocol {
    /// Its number at IANA.
    pub const fn number(self) -> u8 {
        match self {
            Self::Esp => 50,
            Self::Ah => 51,
        }
    }
}

/// How an association wraps what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Behind the datagram's own header.
    Transport,
    /// Around the whole datagram.
    Tunnel,
    /// Something else, by its number.
    Other(u8),
}

/// What charon calls an association by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Which way its packets go.
    pub direction: Direction,
    /// Of what it is.
    pub protocol: Protocol,
    /// Its SPI, as any number.
    pub spi: u32,
    /// Outer address of who sends.
    pub source: IpAddr,
    /// Outer address of who receives.
    pub destination: IpAddr,
}

/// A traffic selector (RFC 7296 section 3.13.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selector {
    /// Protocol number; 0: any.
    pub protocol: u8,
    /// First and last port.
    pub ports: (u16, u16),
    /// First address; not above `last`, and of its family.
    pub first: IpAddr,
    /// Last address.
    pub last: IpAddr,
}

/// A limit at which a successor is wanted, and one at which the association ends; 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// Successor wanted.
    pub soft: u64,
    /// The end.
    pub hard: u64,
}

/// An algorithm by its IKEv2 transform id, 0: none, with its key.
#[derive(Debug)]
pub struct Keyed {
    /// Transform id (IANA).
    pub id: u16,
    /// Key, salt behind it.
    pub key: KeyMaterial,
}

/// What an ADD asks for besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Extended sequence numbers.
    pub esn: bool,
    /// In UDP, for there is a NAT.
    pub udp: bool,
    /// This side began the exchange.
    pub initiator: bool,
}

/// A new association.
#[derive(Debug)]
pub struct Add {
    /// Its name.
    pub name: Name,
    /// Encryption, or both at once.
    pub encryption: Keyed,
    /// Integrity.
    pub integrity: Keyed,
    /// More.
    pub flags: Flags,
    /// How it wraps.
    pub mode: Mode,
    /// Padding for traffic flow confidentiality, bytes.
    pub tfc: u16,
    /// Packets of the replay window.
    pub window: u32,
    /// Ties associations to policies.
    pub reqid: u32,
    /// Seconds.
    pub seconds: Limit,
    /// Packets.
    pub packets: Limit,
    /// Bytes.
    pub bytes: Limit,
    /// What may be inside, by its source.
    pub source: Vec<Selector>,
    /// What may be inside, by its destination.
    pub destination: Vec<Selector>,
}

/// Where a policy applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyDirection {
    /// What comes for this node.
    In,
    /// What leaves it.
    Out,
    /// What comes for others.
    Forward,
}

/// A policy made or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Where.
    pub direction: PolicyDirection,
    /// Made, not gone.
    pub is_added: bool,
    /// Of what source.
    pub source: Selector,
    /// For what destination.
    pub destination: Selector,
    /// Of which associations.
    pub reqid: u32,
}

/// charon to node.
#[derive(Debug)]
pub enum Request {
    /// First of a connection.
    Hello {
        /// Of this charon process, random.
        session: u64,
        /// Version of libcharon.
        version: String,
    },
    /// An SPI for inbound packets is wanted.
    Spi {
        /// Of what.
        protocol: Protocol,
        /// Who will send.
        source: IpAddr,
        /// Who will receive.
        destination: IpAddr,
    },
    /// An association is made.
    Add(Box<Add>),
    /// An association has moved.
    Update {
        /// Which.
        name: Name,
        /// New address of who sends.
        source: IpAddr,
        /// New address of who receives.
        destination: IpAddr,
        /// As of an ADD.
        flags: Flags,
    },
    /// How much was it used?
    Query(Name),
    /// It is over.
    Delete(Name),
    /// All are over.
    Flush,
    /// A policy.
    Policy(Policy),
}

/// Node to charon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done; nothing more to say.
    Done,
    /// To HELLO.
    Process(u64),
    /// To SPI.
    Spi(u32),
    /// To QUERY.
    Use {
        /// Packets carried.
        packets: u64,
        /// Bytes carried.
        bytes: u64,
        /// When last, Unix seconds; 0: never.
        last_s: u64,
    },
    /// Not done, and why, for charon's log.
    Refused(String),
    /// Asked by nobody: an association is at a limit.
    Expire {
        /// Of what.
        protocol: Protocol,
        /// Its SPI.
        spi: u32,
        /// Who receives its packets.
        destination: IpAddr,
        /// It is gone; else a successor is wanted.
        hard: bool,
    },
}

const HELLO: u8 = 1;
const SPI: u8 = 2;
const ADD: u8 = 3;
const UPDATE: u8 = 4;
const QUERY: u8 = 5;
const DELETE: u8 = 6;
const FLUSH: u8 = 7;
const POLICY: u8 = 8;
const OK: u8 = 128;
const REFUSED: u8 = 129;
const EXPIRE: u8 = 130;

/// Reads a request and its id, which is not 0.
///
/// # Errors
/// It is no request.
pub fn decode(message: &[u8]) -> Result<(u32, Request), Malformed> {
    let id = message
        .get(4..HEADER_BYTES)
        .map_or(0, |id| id.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)));
    decode_request(message)
        .map(|request| (id, request))
        .map_err(|error| Malformed { id, error })
}

fn decode_request(message: &[u8]) -> Result<Request, MessageError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(MessageError::Long(message.len() - MESSAGE_BYTES_MAX));
    }
    let mut reader = Reader::new(message);
    let wrong = |field, value| MessageError::Value { field, value };
    match reader.u8("version")? {
        VERSION => {}
        other => return Err(wrong("version", other.into())),
    }
    let kind = reader.u8("type")?;
    match reader.u16("zero")? {
        0 => {}
        other => return Err(wrong("zero", other.into())),
    }
    if reader.u32("id")? == 0 {
        return Err(wrong("id", 0));
    }
    let request = match kind {
        HELLO => Request::Hello {
            session: reader.u64("session")?,
            version: reader.text("version of libcharon")?,
        },
        SPI => Request::Spi {
            protocol: reader.protocol()?,
            source: reader.address("source")?,
            destination: reader.address("destination")?,
        },
        ADD => Request::Add(Box::new(reader.add()?)),
        UPDATE => Request::Update {
            name: reader.name()?,
            source: reader.address("new source")?,
            destination: reader.address("new destination")?,
            flags: reader.flags()?,
        },
        QUERY => Request::Query(reader.name()?),
        DELETE => Request::Delete(reader.name()?),
        FLUSH => Request::Flush,
        POLICY => Request::Policy(reader.policy()?),
        other => return Err(wrong("type", other.into())),
    };
    reader.finish()?;
    Ok(request)
}

impl Request {
    const fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => HELLO,
            Self::Spi { .. } => SPI,
            Self::Add(_) => ADD,
            Self::Update { .. } => UPDATE,
            Self::Query(_) => QUERY,
            Self::Delete(_) => DELETE,
            Self::Flush => FLUSH,
            Self::Policy(_) => POLICY,
        }
    }

    /// As charon's side writes it.
    pub fn encode(&self, id: u32) -> Zeroizing<Vec<u8>> {
        let mut writer = Writer::new(self.kind(), id);
        match self {
            Self::Hello { session, version } => {
                writer.u64(*session);
                writer.text(version);
            }
            Self::Spi {
                protocol,
                source,
                destination,
            } => {
                writer.u8(protocol.number());
                writer.address(*source);
                writer.address(*destination);
            }
            Self::Add(add) => writer.add(add),
            Self::Update {
                name,
                source,
                destination,
                flags,
            } => {
                writer.name(name);
                writer.address(*source);
                writer.address(*destination);
                writer.flags(*flags);
            }
            Self::Query(name) | Self::Delete(name) => writer.name(name),
            Self::Flush => {}
            Self::Policy(policy) => writer.policy(policy),
        }
        writer.finish()
    }
}

impl Reply {
    /// As the node writes it: with the id of what it answers, and with 0 if it answers nothing.
    pub fn encode(&self, id: u32) -> Zeroizing<Vec<u8>> {
        let mut writer = Writer::new(
            match self {
                Self::Refused(_) => REFUSED,
                Self::Expire { .. } => EXPIRE,
                Self::Done | Self::Process(_) | Self::Spi(_) | Self::Use { .. } => OK,
            },
            id,
        );
        match self {
            Self::Done => {}
            Self::Process(process) => writer.u64(*process),
            Self::Spi(spi) => writer.u32(*spi),
            Self::Use { packets, bytes, last_s } => [packets, bytes, last_s].into_iter().for_each(|n| writer.u64(*n)),
            Self::Refused(why) => writer.text(why),
            Self::Expire {
                protocol,
                spi,
                destination,
                hard,
            } => {
                writer.u8(protocol.number());
                writer.u32(*spi);
                writer.address(*destination);
                writer.u8((*hard).into());
            }
        }
        writer.finish()
    }
}

#[cfg(test)]
mod tests;
