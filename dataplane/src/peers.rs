//! The peers of this node as every worker sees them: small, immutable, published as a whole when a link-layer address or the
//! configuration changes.

use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use crate::allowance::Allowance;
use crate::id::{PeerId, PortId, WorkerId};
use crate::verdict::DropReason;
use crate::wire::cell::CellProfile;
use crate::wire::ethernet::MacAddr;
use crate::wire::outer::Outer;

/// What is at the other end of a tunnel.
#[derive(Clone, Debug)]
pub enum PeerKind {
    /// A neighbouring AIN: its ESP+AH tunnel is a PVT, and TVTs run beside it.
    Neighbour,
    /// A user's host behind an ESP+AH tunnel.
    Host(HostPolicy),
    /// This node itself as its own host, without a tunnel: datagrams of the control thread enter as an initiator's do, and what an exit
    /// would send to the host goes to the control thread.
    Own(HostPolicy),
    /// The AIN, seen from the host's own side (`ain endpoint`): datagrams come from and go to a local device.
    Gateway,
}

impl PeerKind {
    /// What the host may do, if it is one.
    pub const fn policy(&self) -> Option<&HostPolicy> {
        match self {
            Self::Host(policy) | Self::Own(policy) => Some(policy),
            Self::Neighbour | Self::Gateway => None,
        }
    }
}

/// What a host may do.
#[derive(Clone, Debug)]
pub struct HostPolicy {
    /// May begin flows.
    pub initiator: bool,
    /// Prefixes behind the tunnel: this node delivers to them as an exit.
    pub addresses: Vec<IpNet>,
    /// Largest inner datagram of the tunnel, bytes.
    pub inner_mtu: u16,
    /// What it may send as an initiator; none: all it can.
    pub allowance: Option<Allowance>,
    /// Flows that it may begin as an initiator, each a question to the control thread; none: all it can.
    pub flows: Option<Allowance>,
}

/// Link-layer addresses towards a peer's next hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// This node's port.
    pub source: MacAddr,
    /// The next hop.
    pub destination: MacAddr,
}

/// One peer.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The port towards it.
    pub port: PortId,
    /// This node's outer address.
    pub local: IpAddr,
    /// Its outer address.
    pub remote: IpAddr,
    /// Known once the kernel has resolved the next hop.
    pub link: Option<Link>,
    /// The worker that owns its ESP+AH tunnel.
    pub owner: WorkerId,
    /// The tunnel's slot there.
    pub tunnel: u32,
    /// What it is.
    pub kind: PeerKind,
}

/// The way to the Internet in one address family, for an open exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uplink {
    /// The port towards the next router.
    pub port: PortId,
    /// Largest packet, bytes.
    pub mtu: u16,
    /// Known once the kernel has resolved the router.
    pub link: Option<Link>,
}

/// The ways to the Internet; none where this node is no open exit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Uplinks {
    /// Of IPv4.
    pub v4: Option<Uplink>,
    /// Of IPv6.
    pub v6: Option<Uplink>,
}

impl Uplinks {
    /// The same ways with other link-layer addresses, of IPv4 and of IPv6.
    pub fn with_links(mut self, v4: Option<Link>, v6: Option<Link>) -> Self {
        for (uplink, link) in [(&mut self.v4, v4), (&mut self.v6, v6)] {
            if let Some(uplink) = uplink {
                uplink.link = link;
            }
        }
        self
    }

    /// The way that packets to `destination` take.
    pub const fn towards(&self, destination: IpAddr) -> Option<&Uplink> {
        match destination {
            IpAddr::V4(_) => self.v4.as_ref(),
            IpAddr::V6(_) => self.v6.as_ref(),
        }
    }
}

/// All peers.
#[derive(Clone, Debug)]
pub struct Peers {
    list: Vec<Peer>,
    outer: Vec<Result<Outer, DropReason>>,
    by_remote: FxHashMap<IpAddr, PeerId>,
    profile: CellProfile,
    /// Whether a peer's tunnel has a rate; empty if none has.
    rates: Vec<bool>,
    uplinks: Uplinks,
}

impl Peers {
    /// Index of `list`, whose order gives the [`PeerId`]s. Of two peers with one remote address the first wins; configuration
    /// refuses that earlier.
    pub fn new(list: Vec<Peer>, profile: CellProfile) -> Self {
        let mut by_remote = FxHashMap::default();
        for (id, peer) in (0..).map(PeerId).zip(&list) {
            by_remote.entry(peer.remote).or_insert(id);
        }
        Self {
            outer: list.iter().map(outer).collect(),
            list,
            by_remote,
            profile,
            rates: Vec::new(),
            uplinks: Uplinks::default(),
        }
    }

    /// These peers, some of whose tunnels have a rate: `rates` in order of id.
    pub fn with_rates(mut self, rates: impl IntoIterator<Item = bool>) -> Self {
        self.rates = rates.into_iter().collect();
        if !self.rates.contains(&true) {
            self.rates.clear();
        }
        self
    }

    /// Whether any tunnel has a rate.
    pub fn have_rates(&self) -> bool {
        !self.rates.is_empty()
    }

    /// Whether the tunnel of a peer has a rate.
    pub fn has_rate(&self, id: PeerId) -> bool {
        self.rates.get(usize::from(id.0)).is_some_and(|has| *has)
    }

    /// These peers, and ways to the Internet.
    pub fn with_uplinks(mut self, uplinks: Uplinks) -> Self {
        self.uplinks = uplinks;
        self
    }

    /// The ways to the Internet.
    pub const fn uplinks(&self) -> &Uplinks {
        &self.uplinks
    }

    /// The peer of this id.
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.list.get(usize::from(id.0))
    }

    /// The outer headers of packets to a peer.
    ///
    /// # Errors
    /// [`DropReason::Gone`] without such a peer, [`DropReason::NoNeighbour`] before its next hop is known.
    pub fn outer(&self, id: PeerId) -> Result<&Outer, DropReason> {
        match self.outer.get(usize::from(id.0)) {
            Some(Ok(outer)) => Ok(outer),
            Some(Err(why)) => Err(*why),
            None => Err(DropReason::Gone),
        }
    }

    /// The peer at an outer address.
    pub fn by_remote(&self, remote: IpAddr) -> Option<PeerId> {
        self.by_remote.get(&remote).copied()
    }

    /// The host whose registered prefix covers `address`, by the longest prefix.
    pub fn host_for(&self, address: IpAddr) -> Option<PeerId> {
        let lengths = self.iter().filter_map(|(id, peer)| match &peer.kind {
            PeerKind::Host(policy) => {
                let covers = policy.addresses.iter().filter(|net| net.contains(&address));
                covers.map(|net| net.prefix_len()).max().map(|length| (length, id))
            }
            PeerKind::Neighbour | PeerKind::Own(_) | PeerKind::Gateway => None,
        });
        lengths.max().map(|(_, id)| id)
    }

    /// All peers in order of id.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        (0..).map(PeerId).zip(&self.list)
    }

    /// These peers with other link-layer addresses: `links` in order of id.
    pub fn with_links(&self, links: impl IntoIterator<Item = Option<Link>>) -> Self {
        let mut changed = self.clone();
        for (peer, link) in changed.list.iter_mut().zip(links) {
            peer.link = link;
        }
        changed.outer = changed.list.iter().map(outer).collect();
        changed
    }

    /// The network's cell profile.
    pub const fn profile(&self) -> CellProfile {
        self.profile
    }
}

fn outer(peer: &Peer) -> Result<Outer, DropReason> {
    let link = peer.link.ok_or(DropReason::NoNeighbour)?;
    Outer::new(peer.port, link, peer.local, peer.remote).ok_or(DropReason::WrongProtocol)
}
