//! What the control node tells its surroundings to do, in the words of the protocol. The table writer turns routes into entries
//! of the packet path.

use std::net::IpAddr;
use std::sync::Arc;

use ain_dataplane::entry::Activity;
pub use ain_dataplane::id::Pair;
use ain_dataplane::id::{AivtId, FlowId, FlowTag, PeerId, Spi};

use crate::guard::Guard;
use crate::sa::Generation;
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use crate::opening::{Opened, Opening};

/// The two data keys of one hop: `ain forward` and `ain backward` of protocol section 5.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct HopKeys {
    /// Suite of the creating signal, part of the tweak of every layer.
    pub suite: u8,
    /// HCTR2-AES-128 key of cells from the entrance to the exit.
    pub forward: [u8; 16],
    /// HCTR2-AES-128 key of cells from the exit to the entrance.
    pub backward: [u8; 16],
}

/// One TVT, seen from this node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Link {
    /// The neighbour at its other end.
    pub peer: PeerId,
    /// Its SPI, the same in both directions.
    pub spi: Spi,
}

impl Link {
    /// As a TVT that is born under `generation`.
    pub const fn under(self, generation: Generation) -> KeyedLink {
        KeyedLink { link: self, generation }
    }
}

/// A TVT, and the key generation of its PVT that it is born under and keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyedLink {
    /// The TVT.
    pub link: Link,
    /// Whose AH keys it has.
    pub generation: Generation,
}

/// A node's part in one AIVT, with what the packet path needs for it.
pub enum Route {
    /// Between two TVTs: forward cells lose a layer, backward cells gain one.
    Intermediate {
        /// Towards the entrance.
        upstream: KeyedLink,
        /// Towards the exit.
        downstream: KeyedLink,
        /// Hop keys.
        keys: HopKeys,
    },
    /// The entrance of flow `flow`. `keys[0]` belongs to AIN_2, the last to the exit.
    Entrance {
        /// The flow carried.
        flow: FlowId,
        /// The first TVT.
        downstream: KeyedLink,
        /// Hop keys in path order.
        keys: Vec<HopKeys>,
    },
    /// The exit. Bound to a (source, destination) later, by [`Action::Bind`].
    Exit {
        /// The last TVT.
        upstream: KeyedLink,
        /// Hop keys.
        keys: HopKeys,
        /// The flow that it carries.
        flow: FlowTag,
    },
}

/// What the exit says of a flow, authentic by K_n; byte in a verdict cell. A refusal is the cause of the ICMP an initiator gets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Verdict {
    /// No tunnel to the responder, policy, or no room.
    ExitRefused = 9,
    /// (responder, source) is bound under another flow token.
    AddressCollision = 10,
    /// The responder asked for the end: no refusal, and nothing to make again before new traffic.
    ClosedByResponder = 12,
}

/// One thing to do.
pub enum Action {
    /// Open a creating signal by [`Opening::open`], on a thread that has time for it; answer with `Node::handle_opened`. There are
    /// never more than [`crate::limits::OPENINGS_AT_A_TIME`] of them at a time.
    Open(Opening),
    /// Seal `datagram`, a whole inner IP datagram, into the tunnel of `peer`.
    Send {
        /// The neighbour; or the host, for an answer.
        peer: PeerId,
        /// The inner IP datagram; a signal is already padded to the network's one length.
        datagram: Vec<u8>,
    },
    /// A datagram of the node's own enters the packet path as if it came from a host, `peer` being the node itself.
    Enter {
        /// The node as its own host.
        peer: PeerId,
        /// The inner IP datagram.
        datagram: Vec<u8>,
    },
    /// Install `route`; answer with `Node::handle_installed` when every worker has it. CREATED leaves only then.
    Install {
        /// The AIVT.
        aivt: AivtId,
        /// This node's part.
        route: Route,
        /// Where workers note that a cell passed: read when the inactivity timer asks.
        activity: Arc<Activity>,
    },
    /// Take the AIVT's entries out of the packet path. The entrance's flow stays, waiting, until [`Action::CloseFlow`].
    Remove {
        /// The AIVT.
        aivt: AivtId,
    },
    /// The exit binds an AIVT to its pair and the responder's tunnel: waiting datagrams go out, the reverse pair comes back in. If
    /// there is no room for that, answer with `Node::handle_bind_failed`.
    Bind {
        /// The AIVT.
        aivt: AivtId,
        /// Forward pair.
        pair: Pair,
        /// The responder's tunnel, or [`PeerId::INTERNET`] from an open exit.
        tunnel: PeerId,
    },
    /// The exit sends a verdict cell back; on an AIVT that is not bound it drops what waits. [`Action::Remove`] follows when the
    /// entrance destroys it.
    Refuse {
        /// The AIVT.
        aivt: AivtId,
        /// Reason.
        verdict: Verdict,
    },
    /// The entrance's flow gets, or changes, the source that it shows to the responder (`random-private`). Sent before its Install.
    Rewrite {
        /// The flow.
        flow: FlowId,
        /// Source to put in place of the initiator's.
        source: IpAddr,
    },
    /// Forget the flow at the entrance; datagrams that wait are dropped, and answered with ICMP administratively-prohibited if `refused`.
    CloseFlow {
        /// The flow.
        flow: FlowId,
        /// Whether to tell the initiator.
        refused: bool,
    },
    /// Keep this list of guards; it becomes `Config::guards` of the next start.
    KeepGuards(Vec<Guard>),
    /// Save for the PVT of `peer` that SPI counter values below `up_to` are taken; answer with `Node::handle_spis_reserved` when it
    /// is on disk. No TVT is made from values that are not, so that no SPI repeats under one key generation after a crash.
    ReserveSpis {
        /// The neighbour.
        peer: PeerId,
        /// The generation.
        generation: Generation,
        /// First value still free; becomes the SPI counter of the generation's keys at the next start.
        up_to: u32,
    },
}
