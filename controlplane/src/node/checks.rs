//! Whether the parts of a configuration fit each other, and the node's peers made from them.

use std::collections::{BTreeMap, HashMap};

use ain_dataplane::id::{Now, PeerId};
use ipnet::IpNet;
use rand::CryptoRng;
use thiserror::Error;

use crate::config::{Config, Host, HostRole, Neighbour, Peer, SourceOption};
use crate::directory::NodeId;
use crate::generation::Generations;
use crate::limits::{MAX_PATH_NODES, MIN_PATH_NODES};
use crate::pvt::Pvt;
use crate::signal::ends::Ends;
use crate::signal::frame::Frame;
use crate::table_writer::own_slot_ns;

/// What does not fit in a configuration. Peers are named by their position, from 0.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The node is not in its directory.
    #[error("the directory has no entry for this node, {0}")]
    NotInDirectory(NodeId),
    /// An onion key of another suite than the network's.
    #[error("the onion keys of this node are not of the network's suite")]
    OnionKey,
    /// Tickets demanded that nobody can get.
    #[error("this node demands tickets, but its directory entry has no ticket keys")]
    NoTicketKeys,
    /// A path length out of order.
    #[error(
        "min_nodes {min} and max_nodes {max} must satisfy {MIN_PATH_NODES} <= min_nodes <= max_nodes <= {MAX_PATH_NODES}"
    )]
    PathLength {
        /// Nodes at least.
        min: usize,
        /// Nodes at most.
        max: usize,
    },
    /// Inactivity of no time.
    #[error("inactivity_s must be at least 1")]
    Inactivity,
    /// More peers than can be told apart.
    #[error("{0} peers are more than 65535")]
    TooManyPeers(usize),
    /// A neighbour that the directory does not call one.
    #[error("peer {peer}: the directory does not name {node} as a neighbour of this node")]
    NotANeighbour {
        /// Position of the peer.
        peer: usize,
        /// The node.
        node: NodeId,
    },
    /// A neighbour twice.
    #[error("peer {peer}: node {node} has another PVT already")]
    RepeatedNeighbour {
        /// Position of the peer.
        peer: usize,
        /// The node.
        node: NodeId,
    },
    /// Two responders' tunnels that claim one address.
    #[error("peer {peer}: prefix {prefix} overlaps {other_prefix} of peer {other}")]
    OverlappingHosts {
        /// Position of the peer.
        peer: usize,
        /// Its prefix.
        prefix: IpNet,
        /// Position of the other.
        other: usize,
        /// Its prefix.
        other_prefix: IpNet,
    },
}

/// Checks what concerns the node itself and its hosts. [`split_peers`] checks the neighbours.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let entry = config
        .directory
        .entry(&config.id)
        .ok_or(ConfigError::NotInDirectory(config.id))?;
    // Whether the entry lists the key is a question of time: an entry is passed on after it was made.
    if config.onion_keys.iter().any(|key| key.suite() != config.kem.suite) {
        return Err(ConfigError::OnionKey);
    }
    let demands = config.tickets.as_ref().is_some_and(|tickets| tickets.demand);
    if demands && entry.ticket_keys.is_empty() {
        return Err(ConfigError::NoTicketKeys);
    }
    let (min, max) = (config.min_nodes, config.max_nodes);
    if min < MIN_PATH_NODES || max < min || max > MAX_PATH_NODES {
        return Err(ConfigError::PathLength { min, max });
    }
    if config.inactivity_s == 0 {
        return Err(ConfigError::Inactivity);
    }
    if config.peers.len() > usize::from(u16::MAX) {
        return Err(ConfigError::TooManyPeers(config.peers.len()));
    }
    check_hosts(config)
}

fn check_hosts(config: &Config) -> Result<(), ConfigError> {
    let mut claimed: Vec<(IpNet, usize)> = own_host(config)
        .into_iter()
        .flat_map(|(_, own)| own.prefixes)
        .map(|prefix| (prefix, config.peers.len()))
        .collect();
    for (peer, host) in config.peers.iter().enumerate() {
        let Peer::Host(host) = host else { continue };
        // Hosts that only initiate may well use the same private addresses: their flows tell them apart.
        if host.role.responds() {
            claimed.extend(host.prefixes.iter().map(|prefix| (prefix.trunc(), peer)));
        }
    }
    // Sorted, a prefix that contains others stands right before the first of them.
    claimed.sort();
    for pair in claimed.windows(2) {
        let ((other_prefix, other), (prefix, peer)) = (pair[0], pair[1]);
        if peer != other && (other_prefix.contains(&prefix) || prefix.contains(&other_prefix)) {
            return Err(ConfigError::OverlappingHosts {
                peer,
                prefix,
                other,
                other_prefix,
            });
        }
    }
    Ok(())
}

/// The node as its own host, which fetches and issues tickets: its flows show nothing of its address.
fn own_host(config: &Config) -> Option<(PeerId, Host)> {
    let own = Host {
        prefixes: vec![config.directory.entry(&config.id)?.address.into()],
        role: HostRole::Both,
        option: SourceOption::RandomPrivate,
        quota: None,
    };
    Some((config.own_peer()?, own))
}

type Peers = (BTreeMap<PeerId, Pvt>, HashMap<NodeId, PeerId>, BTreeMap<PeerId, Host>);

/// The PVTs, their peers by node, and the host tunnels of `config`.
pub(super) fn split_peers(config: &Config, now: Now, rng: &mut dyn CryptoRng) -> Result<Peers, ConfigError> {
    let (mut pvts, mut neighbours) = (BTreeMap::new(), HashMap::new());
    let mut hosts: BTreeMap<_, _> = own_host(config).into_iter().collect();
    let process = rng.next_u32();
    for (position, (index, peer)) in (0u16..).zip(&config.peers).enumerate() {
        let id = PeerId(index);
        match peer {
            Peer::Host(host) => {
                hosts.insert(id, host.clone());
            }
            Peer::Neighbour(neighbour) => {
                if neighbours.insert(neighbour.id, id).is_some() {
                    return Err(ConfigError::RepeatedNeighbour {
                        peer: position,
                        node: neighbour.id,
                    });
                }
                let mut frame = frame(config, neighbour, position)?;
                if neighbour.rate_pps.is_some() {
                    frame = frame.beside_veiled_cells();
                }
                let generations = Generations::new(config.id < neighbour.id);
                let mut pvt = Pvt::new(now, frame, generations, neighbour.share, process, rng);
                pvt.signals_wait(neighbour.rate_pps.map_or(0, own_slot_ns));
                pvts.insert(id, pvt);
            }
        }
    }
    Ok((pvts, neighbours, hosts))
}

fn frame(config: &Config, neighbour: &Neighbour, peer: usize) -> Result<Frame, ConfigError> {
    let own = config
        .directory
        .entry(&config.id)
        .ok_or(ConfigError::NotInDirectory(config.id))?;
    let other = config
        .directory
        .entry(&neighbour.id)
        .filter(|_| own.neighbours.contains(&neighbour.id));
    let other = other.ok_or(ConfigError::NotANeighbour {
        peer,
        node: neighbour.id,
    })?;
    let ends = Ends::between(own.address, other.address).expect("the directory has neighbours of one family alone");
    Ok(Frame::new(ends, config.profile.cell_len()))
}
