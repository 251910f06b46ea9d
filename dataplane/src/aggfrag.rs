//! Cells: the one length every packet between nodes has, and the datagrams packed into it.
//!
//! ```text
//!  0        8          20        24                                              cell length
//!  | seq u64 | zero[12] | AGGFRAG | end of a datagram | datagram | ... | start of one | pad |
//!                                 |<-- BlockOffset -->|
//! ```
//!
//! The AGGFRAG header and the data blocks are those of RFC 9347 (sections 2.2 and 6.1): IP datagrams back to back, told apart by
//! their own version nibble and length field, cut wherever a cell ends; version 0 means padding up to the end. `BlockOffset` counts
//! the bytes still belonging to a datagram begun earlier, and points past the cell's end when that datagram goes on in the next one.
//! Two things are narrower here: a sender gives the pieces of a datagram consecutive sequence numbers, with no all-pad cell between;
//! and reserved bits must be zero.
//!
//! [`Packer`] fills cells from the datagrams of a burst, [`open`] checks a cell that came out of the onion, [`Unpacker`] gives the
//! datagrams back: whole ones at arrival, cut ones when their last piece is there. Pieces wait in an [`EdgePool`].

mod pack;
mod pool;
#[cfg(test)]
mod tests;
mod unpack;

pub use pack::{PackError, Packer, write_dummy, write_verdict};
pub use pool::EdgePool;
pub use unpack::{Fed, Unpacker};

use crate::wire::cell::{self, CellHeader};
use crate::wire::ipv6;

/// Longest datagram that travels in cells, bytes. `BlockOffset` and IPv4's length field end here, so an IPv6 datagram does too.
pub const MAX_DATAGRAM: usize = 65535;

/// A cell after its check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened<'a> {
    /// Number of the cell in its AIVT and direction, from 1. The caller checks it against a window before using the content.
    pub sequence: u64,
    /// What the cell carries.
    pub content: Content<'a>,
}

/// What a cell carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content<'a> {
    /// Datagrams, or only padding.
    Data(Blocks<'a>),
    /// The exit refuses the flow, for this reason (protocol section 6).
    Verdict(u8),
}

/// The data blocks of one cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blocks<'a> {
    /// Bytes from here on that end a datagram begun in an earlier cell; past the end of `bytes` when it goes on in the next.
    pub offset: u16,
    /// Everything behind the AGGFRAG header.
    pub bytes: &'a [u8],
}

impl Blocks<'_> {
    /// Bytes of the datagram that the cell begins with, if nothing but padding is with it.
    pub fn only_datagram(&self) -> Option<usize> {
        match (self.offset, block(self.bytes)) {
            (0, Block::Datagram(len)) => match self.bytes.get(len..)? {
                [] => Some(len),
                rest => (block(rest) == Block::Pad).then_some(len),
            },
            _ => None,
        }
    }
}

/// Why a cell is refused. AH keeps the wire out, so each of these proves a misbehaving hop (protocol section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CellError {
    /// No room for header and one data byte.
    #[error("cell of {0} bytes is too short")]
    Short(usize),
    /// The twelve bytes behind the sequence number are not all zero.
    #[error("cell's redundancy is not zero")]
    Redundancy,
    /// Neither data nor a verdict.
    #[error("cell has unknown AGGFRAG sub-type {0}")]
    SubType(u8),
    /// Reserved bits of the AGGFRAG header are set.
    #[error("cell has reserved AGGFRAG bits set")]
    Reserved,
    /// More bytes to come than any datagram has.
    #[error("cell has impossible block offset {0}")]
    BlockOffset(u16),
}

/// Checks a cell whose onion layers are off: redundancy (in constant time), sub-type, reserved bits, block offset.
///
/// # Errors
/// [`CellError`] names the first check that failed.
pub fn open(cell: &[u8]) -> Result<Opened<'_>, CellError> {
    let Some((header, bytes)) = CellHeader::parse(cell).ok().filter(|(_, bytes)| !bytes.is_empty()) else {
        return Err(CellError::Short(cell.len()));
    };
    if !header.is_intact() {
        return Err(CellError::Redundancy);
    }
    let offset = header.block_offset.get();
    let content = match (header.sub_type, header.reserved, offset) {
        (cell::SUB_TYPE_DATA, 0, u16::MAX) => return Err(CellError::BlockOffset(offset)),
        (cell::SUB_TYPE_DATA, 0, _) => Content::Data(Blocks { offset, bytes }),
        (cell::SUB_TYPE_VERDICT, 0, 0) => Content::Verdict(bytes[0]),
        (cell::SUB_TYPE_DATA | cell::SUB_TYPE_VERDICT, ..) => return Err(CellError::Reserved),
        (other, ..) => return Err(CellError::SubType(other)),
    };
    let sequence = header.sequence.get();
    Ok(Opened { sequence, content })
}

/// What the first bytes of a data block say about its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Block {
    /// Padding up to the end of the cell.
    Pad,
    /// A datagram of this many bytes, [`MAX_DATAGRAM`] at most.
    Datagram(usize),
    /// A datagram cut before its length field.
    Unknown,
    /// No datagram that can exist.
    Nonsense,
}

/// Reads version and length of the block at the start of `bytes`, which is not empty (RFC 791 section 3.1, RFC 8200 section 3).
fn block(bytes: &[u8]) -> Block {
    let word = |at: usize| Some(usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])));
    match bytes[0] >> 4 {
        0 => Block::Pad,
        4 => match word(2) {
            None => Block::Unknown,
            Some(length) if length >= usize::from(bytes[0] & 15) * 4 && bytes[0] & 15 >= 5 => Block::Datagram(length),
            Some(_) => Block::Nonsense,
        },
        6 => match word(4) {
            None => Block::Unknown,
            Some(payload) if payload <= MAX_DATAGRAM - ipv6::HEADER_LEN => Block::Datagram(payload + ipv6::HEADER_LEN),
            Some(_) => Block::Nonsense,
        },
        _ => Block::Nonsense,
    }
}
