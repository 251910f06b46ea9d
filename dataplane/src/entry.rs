//! What a worker keeps of each TVT and flow it owns; for tunnels see [`crate::tunnel`].
//!
//! ```text
//!   inbound packet ──(peer, SPI)──► Tunnel ─┬─► PVT: a signal for the control thread
//!                          │                └─► host: a datagram ──(tunnel, pair)──► Flow ─► Way ─► first or last TVT
//!                          └──────► Tvt ────┬─► Relay: the next TVT
//!                                           └─► Edge: datagrams ─► a host's Tunnel
//! ```
//! Everything that changes with a packet (sequence numbers, windows, reassembly) lives here and belongs to one worker.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ain_crypto::{Backend, Direction, LayerOp, MacAlgorithm, prefetch};
use arrayvec::ArrayVec;

use crate::aggfrag::Unpacker;
use crate::id::{AivtId, FlowId, KeySlot, Now, Pair, PeerId, Spi};
use crate::sa::TvtWindow;
use crate::wire::{ipv4, ipv6};

/// An AH key schedule: one an association, shared by the TVTs copied from it and by all workers.
pub struct AhKey<C: Backend> {
    /// Algorithm.
    pub algorithm: MacAlgorithm,
    /// Expanded key.
    pub key: C::MacKey,
}

/// When an AIVT last carried a cell, seen by the control thread for the inactivity timer; both directions touch it, each through
/// a [`Touch`] of its own.
#[derive(Debug, Default)]
pub struct Activity(AtomicU64);

impl Activity {
    /// As if a cell had passed at `now`.
    pub fn at(now: Now) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(now.0)))
    }

    /// The last time, accurate to 100 ms.
    pub fn last(&self) -> Now {
        Now(self.0.load(Ordering::Relaxed))
    }
}

/// One direction's hold on its AIVT's [`Activity`]. It remembers when it last wrote, so that a packet does not even read the
/// shared line, which with a million AIVTs would be one more cache miss.
#[derive(Debug)]
pub struct Touch {
    written: Now,
    shared: Arc<Activity>,
}

impl Touch {
    /// Nothing written yet.
    pub fn new(shared: &Arc<Activity>) -> Self {
        Self {
            written: Now(0),
            shared: Arc::clone(shared),
        }
    }

    /// A cell passed. Written at most every 100 ms so that two workers do not fight over the line.
    pub fn touch(&mut self, now: Now) {
        if now.since(self.written) >= Now::SECOND / 10 {
            self.written = now;
            self.shared.0.fetch_max(now.0, Ordering::Relaxed);
        }
    }
}

/// Onion layers of one direction at this node, in the order they are applied. The first lies beside the rest of its entry, so that
/// an intermediate AIN, which has no other, needs no further memory access to reach it; an entrance's others lie elsewhere.
pub struct Layers<C: Backend> {
    first: C::LayerKey,
    more: Box<[C::LayerKey]>,
}

impl<C: Backend> Layers<C> {
    /// `first`, then `more`.
    pub fn new(first: C::LayerKey, more: impl IntoIterator<Item = C::LayerKey>) -> Self {
        Self {
            first,
            more: more.into_iter().collect(),
        }
    }

    /// The key of the `pass`-th layer, from 0.
    pub fn layer(&self, pass: usize) -> Option<&C::LayerKey> {
        match pass.checked_sub(1) {
            None => Some(&self.first),
            Some(at) => self.more.get(at),
        }
    }

    /// Asks for the key of the `pass`-th layer, if there is one, to be near when its pass begins.
    pub fn prefetch(&self, pass: usize) {
        if let Some(key) = self.layer(pass) {
            prefetch(key);
        }
    }

    /// How many layers there are: one at least.
    pub fn count(&self) -> usize {
        1 + self.more.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &C::LayerKey> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

/// The outbound half of a TVT.
#[derive(Debug)]
pub struct TvtOut {
    /// The neighbour at its other end.
    pub peer: PeerId,
    /// Its SPI.
    pub spi: Spi,
    /// AH key of the PVT in this direction.
    pub key: KeySlot,
    /// Next AH sequence number; a TVT's SPI is never used twice under a key, so it begins at 1. Without meaning on a PVT with a rate.
    pub next_seq: u64,
}

/// The inbound half of a TVT: one direction of an AIVT at this node.
pub struct Tvt<C: Backend> {
    /// The AIVT.
    pub aivt: AivtId,
    /// The neighbour it comes from.
    pub peer: PeerId,
    /// Its SPI.
    pub spi: Spi,
    /// AH key of the PVT in this direction.
    pub key: KeySlot,
    /// Anti-replay window over AH sequence numbers.
    pub window: TvtWindow,
    /// This node's layers.
    pub layers: Layers<C>,
    /// Add or take off.
    pub op: LayerOp,
    /// Tweak of the layers.
    pub tweak: [u8; 16],
    /// Where the cell goes.
    pub next: Next,
    /// For the inactivity timer.
    pub activity: Touch,
}

/// Where a cell goes after its layers.
pub enum Next {
    /// On through another TVT.
    Relay {
        /// The TVT.
        out: TvtOut,
        /// Whether towards the exit.
        direction: Direction,
    },
    /// Out of the AIVT.
    Edge(Box<Edge>),
}

/// The end of an AIVT, where cells become datagrams again.
pub struct Edge {
    /// Window over the cells' inner sequence numbers.
    pub window: TvtWindow,
    /// Datagrams split across cells.
    pub unpacker: Unpacker,
    /// Whose datagrams.
    pub to: EdgeTo,
    /// The control thread has been told what ends the AIVT, and hears nothing more of it.
    pub told: bool,
}

/// Whose datagrams come out at an edge.
#[derive(Clone, Copy, Debug)]
pub enum EdgeTo {
    /// The entrance's initiator.
    Initiator {
        /// The initiator's tunnel.
        tunnel: PeerId,
        /// The flow, as the initiator sends it.
        pair: Pair,
        /// The source that the responder sees in place of the initiator's.
        shown: Option<IpAddr>,
    },
    /// Not bound yet: the first datagram's pair has been reported to the control thread, if `asked`.
    Unbound {
        /// The pair reported.
        asked: Option<Pair>,
    },
    /// The exit's responder.
    Responder {
        /// The responder's tunnel.
        tunnel: PeerId,
        /// The flow, as it leaves the AIVT.
        pair: Pair,
    },
    /// The open exit's destination in the Internet.
    Internet {
        /// The flow, as it leaves the AIVT.
        pair: Pair,
        /// Number of its session at the open exit.
        session: u32,
    },
}

/// The way from an edge into an AIVT.
pub struct Way<C: Backend> {
    /// The AIVT.
    pub aivt: AivtId,
    /// Layers to add.
    pub layers: Layers<C>,
    /// Tweak of the layers.
    pub tweak: [u8; 16],
    /// Inner sequence number of the next cell, from 1.
    pub next_cell: u64,
    /// The first TVT.
    pub out: TvtOut,
    /// For the inactivity timer.
    pub activity: Touch,
}

/// Bytes of a datagram that an ICMP error must quote: its header and 8 more (RFC 792). For IPv6 that is room for the fixed header,
/// 32 bytes of extension headers and 8 more.
pub const OPENING: usize = ipv6::HEADER_LEN + 32 + 8;
const _: () = assert!(OPENING >= ipv4::MAX_HEADER_LEN + 8);

/// Datagrams of one pair coming in through a host tunnel.
pub struct Flow<C: Backend> {
    /// The tunnel.
    pub tunnel: PeerId,
    /// Their pair.
    pub pair: Pair,
    /// Entrance or exit.
    pub end: FlowEnd,
    /// The AIVT that carries them; none while it is being made.
    pub way: Option<Box<Way<C>>>,
    /// What must be quoted of an entrance's first datagram when the exit refuses the flow after the datagram has left; empty where no
    /// ICMP error may be sent.
    pub opening: ArrayVec<u8, OPENING>,
}

/// Which end of an AIVT a flow is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowEnd {
    /// Of an initiator.
    Entrance {
        /// Its name at the control thread.
        id: FlowId,
        /// Source to show in place of the initiator's.
        shown: Option<IpAddr>,
    },
    /// Of a responder, answering.
    Exit,
}
