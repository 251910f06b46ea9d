//! The stages of the packet path, in the order a packet meets them. Each takes a whole burst: it prepares one job a packet, runs
//! the cryptography of all of them at once, and sorts the losers out with a [`DropReason`](crate::verdict::DropReason).
//!
//! ```text
//! classify ─► verify ─┬─► peel ─┬─► forward ─────────────────────► sign ─► out
//!                     │         └─► deliver ─► (host) ─┐            ▲
//!                     └─► open ─┬─► signal             ├─► seal ────┤
//!                               └─► enter ─► pack ─► wrap ──────────┘
//!
//! shape: where a tunnel has a rate, what goes into `sign` or `seal` waits for its slot
//! ```

pub mod classify;
pub mod deliver;
pub mod enter;
pub mod esp;
pub mod exception;
pub mod for_node;
pub mod forward;
pub mod internet;
pub mod layer;
pub mod pack;
pub mod replay;
pub mod shape;
pub mod sign;
pub mod verify;

use arrayvec::ArrayVec;

use crate::id::{KeySlot, PeerId, Spi};
use crate::limits::BURST;
use crate::sa::SeqNo;
use crate::wire::ah::Family;

/// Up to a burst of something.
pub type Lane<T> = ArrayVec<T, BURST>;

/// An inbound packet whose (peer, SPI) names an association of this worker.
#[derive(Debug)]
pub struct Received<B> {
    /// The packet: from its IP header up to [`verify`], behind its AH from there on.
    pub buf: B,
    /// The whole AH sequence number, as the window infers it.
    pub seq: SeqNo,
    /// The association's slot.
    pub slot: u32,
    /// As on the wire.
    pub spi: Spi,
    /// Low half of the AH sequence number.
    pub seq_low: u32,
    /// Who sent it, if the ICV is right.
    pub peer: PeerId,
    /// Bytes of the AH.
    pub ah_len: u16,
    /// Bytes of the IP header and what else stands before the AH.
    pub ip_len: u16,
    /// Of the IP header.
    pub family: Family,
    /// Protocol of what follows the AH.
    pub next_header: u8,
    /// Whether the association has 64-bit sequence numbers; known from [`verify`] on.
    pub esn: bool,
}

impl<B> Received<B> {
    /// Bytes of the IP header and what else stands before the AH.
    pub fn ip_len(&self) -> usize {
        usize::from(self.ip_len)
    }

    /// Bytes of the AH.
    pub fn ah_len(&self) -> usize {
        usize::from(self.ah_len)
    }
}

/// A packet on its way out: the AH payload so far, and the association that will sign it.
#[derive(Debug)]
pub struct Outgoing<B> {
    /// A cell or an ESP packet.
    pub buf: B,
    /// To whom.
    pub peer: PeerId,
    /// AH association.
    pub spi: Spi,
    /// AH key.
    pub key: KeySlot,
    /// AH sequence number.
    pub seq: u64,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// What the AH carries.
    pub next_header: u8,
}
