//! What the control node is told at its start, already validated in its parts; [`crate::node::Node::new`] checks how they fit.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use ain_dataplane::id::PeerId;
use ain_dataplane::nat;
pub use ain_dataplane::wire::cell::CellProfile;
use ed25519_dalek::SigningKey;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::directory::{Directory, NodeId};
use crate::guard::Guard;
use crate::limits::{AIVTS, AIVTS_MAX, FLOWS, FLOWS_REMEMBERED};
use crate::share::{AivtsPerSlice, NeighbourShare};
use crate::signal::suite::{Kem, OnionKeys};
use crate::ticket::{Past, TicketSeed};

/// Everything a node knows from its configuration.
#[derive(Debug)]
pub struct Config {
    /// This node; must have an entry in the directory.
    pub id: NodeId,
    /// Private halves of this node's onion keys: those that its directory entry lists, or will.
    pub onion_keys: OnionKeys,
    /// The network's suite: this node makes creating signals of it, and its onion keys are of it.
    pub kem: Kem,
    /// The network.
    pub directory: Directory,
    /// Guards of an earlier process: the list of the last [`crate::action::Action::KeepGuards`].
    pub guards: Vec<Guard>,
    /// For how long a guard stays one, seconds, give or take a quarter; 0 = no guards, any neighbour may stand second on a path.
    pub guard_time_s: u64,
    /// Peers; the index is the [`ain_dataplane::id::PeerId`].
    pub peers: Vec<Peer>,
    /// Nodes on a path this node chooses as entrance, at least: 2..=6, both ends counted.
    pub min_nodes: usize,
    /// Nodes on a path at most: `min_nodes`..=6.
    pub max_nodes: usize,
    /// The network's cell length.
    pub profile: CellProfile,
    /// Inactivity after which a node ends an AIVT, seconds; a constant of the network.
    pub inactivity_s: u32,
    /// Age at which AIVTs that this node creates expire, seconds, rounded up to 600 on the wire; 0 = none.
    pub lifetime_s: u32,
    /// Creating signals dated before this are refused, Unix seconds (protocol section 5: the replay cache does not survive the
    /// process): one more than [`crate::node::Node::latest_create`] of the process before, 0 at the first start.
    pub replay_floor_s: u64,
    /// How much the node takes on.
    pub quotas: Quotas,
    /// How the node reaches hosts without IPsec, if it does.
    pub open_exit: Option<Arc<nat::Settings>>,
    /// Tickets of protocol section 8; without them it neither issues, nor fetches, nor demands any.
    pub tickets: Option<Tickets>,
}

impl Config {
    /// The name of the node as its own host, if it is one.
    pub fn own_peer(&self) -> Option<PeerId> {
        let after_all = u16::try_from(self.peers.len()).ok()?;
        self.tickets.as_ref().map(|_| PeerId(after_all))
    }
}

/// What a node needs for tickets. The node itself becomes a host of its own, the [`ain_dataplane::id::PeerId`] after all peers: its
/// requests are datagrams of that host.
#[derive(Debug)]
pub struct Tickets {
    /// The key of the node's id: signs its requests.
    pub identity: SigningKey,
    /// From which the keys of all slices come whose public halves are in the node's directory entry.
    pub seed: TicketSeed,
    /// Length of a slice, seconds; a constant of the network.
    pub slice_s: u32,
    /// Whether a CREATE needs a ticket.
    pub demand: bool,
    /// Tickets issued to one entrance in a slice at most.
    pub quota: u32,
    /// Tickets of one issuer and slice in this node's wallet; 0: it fetches none.
    pub wallet: usize,
    /// What earlier processes have issued and accepted: see [`crate::node::Node::take_spent_tickets`].
    pub past: Past,
}

/// How much a node takes on, and how much of it may be one host's; for one neighbour's part see [`NeighbourShare`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quotas {
    /// AIVTs in any role.
    pub aivts: usize,
    /// Flows at the entrance, those remembered for their address and token included.
    pub flows: usize,
    /// Flows of one host tunnel, those remembered included.
    pub flows_per_host: usize,
    /// Flows of one host tunnel that have or wait for an AIVT, and again as many bindings of one responder: each takes a slot of the
    /// worker that the host shares with others.
    pub open_flows_per_host: usize,
}

impl Quotas {
    /// Half of all flows for each host. `aivts` is brought to [`AIVTS_MAX`] at most; `flows` are those that have or
    /// wait for an AIVT.
    pub fn halves(aivts: usize, flows: usize) -> Self {
        let (aivts, known) = (aivts.min(AIVTS_MAX), flows.saturating_mul(FLOWS_REMEMBERED));
        Self {
            aivts,
            flows: known,
            flows_per_host: known.div_ceil(2),
            open_flows_per_host: flows.div_ceil(2),
        }
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Self::halves(AIVTS, FLOWS)
    }
}

/// An IPsec peer.
#[derive(Debug)]
pub enum Peer {
    /// A neighbouring AIN behind a PVT.
    Neighbour(Neighbour),
    /// A host behind an ESP+AH tunnel.
    Host(Host),
}

/// A neighbouring AIN. The addresses of its signals are those of the directory.
#[derive(Debug)]
pub struct Neighbour {
    /// Its id; both nodes name each other in the directory.
    pub id: NodeId,
    /// Packets a second in each direction, the same at both ends; none: they leave as they come.
    pub rate_pps: Option<NonZeroU32>,
    /// What it may have of this node.
    pub share: NeighbourShare,
}

/// A host tunnel.
#[derive(Clone, Debug)]
pub struct Host {
    /// Addresses of the host as responder, and the public ones its datagrams may show as source (`as-sent`).
    pub prefixes: Vec<IpNet>,
    /// What the host may do.
    pub role: HostRole,
    /// Anonymity option of its flows as initiator.
    pub option: SourceOption,
    /// AIVTs made for it as initiator; none: as many as its flows want.
    pub quota: Option<AivtsPerSlice>,
}

/// What a host may do through its tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostRole {
    /// Opens flows.
    Initiator,
    /// Is reached by flows.
    Responder,
    /// Both.
    Both,
}

impl HostRole {
    /// Whether the host may open flows.
    pub const fn initiates(self) -> bool {
        matches!(self, Self::Initiator | Self::Both)
    }

    /// Whether flows may reach the host.
    pub const fn responds(self) -> bool {
        matches!(self, Self::Responder | Self::Both)
    }
}

/// Options of protocol section 7 (the paper's section 4.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceOption {
    /// The responder sees the inner source as the initiator sent it.
    AsSent,
    /// The responder sees a fresh private address of this flow.
    RandomPrivate,
}

/// Secret of the SPI order of a key generation: 32 bytes that both ends derive from its keys.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SpiSecret(pub(crate) [u8; 32]);

impl SpiSecret {
    /// From the AH key material of both directions, in either order.
    pub fn derive(one: &[u8], other: &[u8]) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        let mut hash = Sha256::new();
        hash.update(b"ain spi order");
        for part in [low, high] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for SpiSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpiSecret(redacted)")
    }
}
