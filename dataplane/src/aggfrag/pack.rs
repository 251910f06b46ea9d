//! From datagrams to cells.

use zerocopy::IntoBytes;

use super::{Block, block};
use crate::packet::{BEHIND_ROOM, OUTER_ROOM, PacketBuf};
use crate::wire::cell::{CellHeader, HEADER_LEN, SUB_TYPE_DATA, SUB_TYPE_VERDICT};

/// Why a datagram did not go into cells. What was packed before it stays good.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PackError {
    /// The bytes are not one IP datagram of the length its header says.
    #[error("not one whole IP datagram")]
    NotADatagram,
    /// No buffer, or no sequence number, for the next cell.
    #[error("no cell to be had")]
    NoCell,
}

/// Packs the datagrams of one burst and one AIVT into as few cells as hold them, cutting where a cell ends.
///
/// ```text
/// put(a) put(b) put(c) finish()        | a | b.. |  | ..b | c.. |  | ..c | pad |
/// ```
///
/// Buffers come from the caller one at a time, each with its sequence number and with the cell as its whole content; full cells go
/// back at once through `done`. Does not allocate.
pub struct Packer<B> {
    open: Option<Cell<B>>,
}

struct Cell<B> {
    buf: B,
    at: usize,
}

impl<B: PacketBuf> Packer<B> {
    /// A packer without a cell yet.
    pub const fn new() -> Self {
        Self { open: None }
    }

    /// Packs one whole datagram. `next` gives the next sequence number and a buffer of the network's cell length with any content;
    /// `done` takes each cell that is full.
    ///
    /// # Errors
    /// [`PackError`]; the datagram is then lost, and only it. Go on with the next or [`Self::finish`].
    pub fn put(
        &mut self,
        datagram: &[u8],
        mut next: impl FnMut() -> Option<(u64, B)>,
        mut done: impl FnMut(B),
    ) -> Result<(), PackError> {
        if datagram.is_empty() || block(datagram) != Block::Datagram(datagram.len()) {
            return Err(PackError::NotADatagram);
        }
        let mut rest = datagram;
        while !rest.is_empty() {
            let cell = match &mut self.open {
                Some(cell) if cell.room() > 0 => cell,
                _ => {
                    let Some((sequence, buf)) = next() else {
                        self.take_back(datagram.len() - rest.len());
                        return Err(PackError::NoCell);
                    };
                    // At the start of a datagram nothing is continued; later its rest is, whatever part of it fits here.
                    let continued = if rest.len() == datagram.len() { 0 } else { rest.len() };
                    if let Some(full) = self.open.replace(Cell::start(buf, sequence, continued)) {
                        done(full.buf);
                    }
                    continue;
                }
            };
            rest = cell.fill(rest);
        }
        Ok(())
    }

    /// Packs one whole datagram without copying it, if it begins a cell and fits into it: its own buffer becomes a cell of `cell_len`
    /// bytes. `sequence` gives the cell's number, `done` takes the cell before if there is one.
    ///
    /// # Errors
    /// Gives the datagram back if it is not one or needs [`Self::put`]: the open cell has room, or the buffer or the cell has none.
    pub fn adopt(
        &mut self,
        mut datagram: B,
        cell_len: usize,
        sequence: impl FnOnce() -> u64,
        done: impl FnOnce(B),
    ) -> Result<(), B> {
        let len = datagram.data().len();
        let fits = self.open.as_ref().is_none_or(|cell| cell.room() == 0)
            && len != 0
            && block(datagram.data()) == Block::Datagram(len)
            && HEADER_LEN + len <= cell_len
            && datagram.headroom() >= HEADER_LEN + OUTER_ROOM
            && datagram.tailroom() >= cell_len - HEADER_LEN - len + BEHIND_ROOM;
        if !fits {
            return Err(datagram);
        }
        datagram.grow_front(HEADER_LEN);
        datagram.grow_back(cell_len - HEADER_LEN - len);
        let mut cell = Cell::start(datagram, sequence(), 0);
        cell.at += len;
        if let Some(full) = self.open.replace(cell) {
            done(full.buf);
        }
        Ok(())
    }

    /// Pads the last cell and gives it away.
    pub fn finish(self, mut done: impl FnMut(B)) {
        if let Some(mut cell) = self.open {
            let at = cell.at;
            cell.buf.data_mut()[at..].fill(0);
            done(cell.buf);
        }
    }

    /// Takes back the `put` bytes of a datagram that found no further cell. Were they more than the open cell holds, pieces have
    /// left already: this one must follow as it is, and the receiver gives the datagram up.
    fn take_back(&mut self, put: usize) {
        if let Some(cell) = &mut self.open
            && cell.at - HEADER_LEN >= put
        {
            cell.at -= put;
        }
    }
}

impl<B: PacketBuf> Default for Packer<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: PacketBuf> Cell<B> {
    fn start(mut buf: B, sequence: u64, continued: usize) -> Self {
        let offset = u16::try_from(continued).expect("a datagram's length fits 16 bits");
        write_header(buf.data_mut(), &CellHeader::new(sequence, SUB_TYPE_DATA, offset));
        Self { buf, at: HEADER_LEN }
    }

    fn room(&self) -> usize {
        self.buf.data().len() - self.at
    }

    /// Takes as much of `bytes` as there is room for and returns the rest.
    fn fill<'d>(&mut self, bytes: &'d [u8]) -> &'d [u8] {
        let (now, later) = bytes.split_at(bytes.len().min(self.room()));
        self.buf.data_mut()[self.at..self.at + now.len()].copy_from_slice(now);
        self.at += now.len();
        later
    }
}

/// Makes `cell` a dummy: nothing but padding. Panics unless longer than [`HEADER_LEN`].
pub fn write_dummy(cell: &mut [u8], sequence: u64) {
    write_header(cell, &CellHeader::new(sequence, SUB_TYPE_DATA, 0)).fill(0);
}

/// Makes `cell` a verdict of the exit: sub-type 255, the reason as first byte of the data, all else zero. Panics unless longer than
/// [`HEADER_LEN`].
pub fn write_verdict(cell: &mut [u8], sequence: u64, reason: u8) {
    let data = write_header(cell, &CellHeader::new(sequence, SUB_TYPE_VERDICT, 0));
    data.fill(0);
    data[0] = reason;
}

/// Writes the header and returns the data behind it, at least one byte.
fn write_header<'c>(cell: &'c mut [u8], header: &CellHeader) -> &'c mut [u8] {
    assert!(cell.len() > HEADER_LEN, "a cell holds its header and data");
    let (front, data) = cell.split_at_mut(HEADER_LEN);
    front.copy_from_slice(header.as_bytes());
    data
}
