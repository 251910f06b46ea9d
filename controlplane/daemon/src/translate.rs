//! From the configuration's words to those of the control node, the table writer and the packet path.

use std::net::IpAddr;
use std::sync::Arc;

use ain_controlplane::config as control;
use ain_controlplane::guard::Guard;
use ain_controlplane::share::{AivtsPerSlice, NeighbourShare};
use ain_controlplane::signal::suite::OnionKeys;
use ain_dataplane::id::{PortId, WorkerId};
use ain_dataplane::nat;
use ain_dataplane::peers::{HostPolicy, Peer, PeerKind, Uplink, Uplinks};
use ain_dataplane::wire::cell;
use anyhow::Context;

use crate::config::{self, AnonymityOption, CellProfile, Host, Neighbour, NodeConfig, Role, Tunnel};
use crate::durable::Durable;
use crate::onion_key;

/// Largest datagram of the node's own: as in a host tunnel.
const OWN_MTU: u16 = 1386;

/// The packet path's name of the cell profile.
pub fn profile(profile: CellProfile) -> cell::CellProfile {
    match profile {
        CellProfile::Standard => cell::CellProfile::Standard,
        CellProfile::Jumbo => cell::CellProfile::Jumbo,
    }
}

/// What the control node is told.
///
/// # Errors
/// Where the directory contradicts itself.
pub fn control_config(
    config: &NodeConfig,
    durable: &Durable,
    onion_keys: OnionKeys,
    guards: Vec<Guard>,
) -> anyhow::Result<control::Config> {
    let own = config.own_entry().context("this node is not in the directory")?;
    let neighbours = config
        .neighbours
        .iter()
        .map(|one| neighbour(config, one).map(control::Peer::Neighbour));
    let hosts = config
        .hosts
        .iter()
        .map(|one| Ok(control::Peer::Host(host(config, one))));
    Ok(control::Config {
        id: own.id(),
        onion_keys,
        kem: onion_key::kem(config.network.suite).context("no such suite")?,
        directory: config.directory.clone(),
        guards,
        guard_time_s: config.guard_time.as_secs(),
        peers: neighbours.chain(hosts).collect::<anyhow::Result<_>>()?,
        min_nodes: usize::from(config.network.min_path_nodes),
        max_nodes: usize::from(config.network.max_path_nodes),
        profile: profile(config.network.cell_profile),
        inactivity_s: u32::try_from(config.network.inactivity.as_secs()).unwrap_or(u32::MAX),
        lifetime_s: config.network.lifetime_s,
        replay_floor_s: durable.replay_floor(),
        quotas: quotas(config),
        open_exit: open_exit(config),
        tickets: None,
    })
}

/// The open exit as the control node and the workers know it.
pub fn open_exit(config: &NodeConfig) -> Option<Arc<nat::Settings>> {
    let open = config.open_exit.as_ref()?;
    Some(Arc::new(open.settings.clone()))
}

/// The ways to the Internet; link-layer addresses come later.
pub fn uplinks(config: &NodeConfig) -> Uplinks {
    let Some(open) = &config.open_exit else {
        return Uplinks::default();
    };
    let uplink = |v4: bool| {
        open.gateways
            .iter()
            .any(|gateway| gateway.is_ipv4() == v4)
            .then(|| Uplink {
                port: port_id(open.port),
                mtu: config.ports[open.port].mtu,
                link: None,
            })
    };
    Uplinks {
        v4: uplink(true),
        v6: uplink(false),
    }
}

/// How much signalled work the node takes on: nothing in a benchmark. Its associations may have no anti-replay windows, and names of
/// AIVTs that the control node gave out would be those of static ones.
pub fn quotas(config: &NodeConfig) -> control::Quotas {
    let config::Capacity { aivts, flows, .. } = config.capacity;
    match config.benchmark {
        None => control::Quotas::halves(aivts as usize, flows as usize),
        Some(_) => control::Quotas::halves(0, 0),
    }
}

fn neighbour(config: &NodeConfig, one: &Neighbour) -> anyhow::Result<control::Neighbour> {
    let entry = config
        .directory
        .named(&one.node)
        .with_context(|| format!("{} is not in the directory", one.node))?;
    Ok(control::Neighbour {
        id: entry.id(),
        rate_pps: one.tunnel.shape.rate.pps(),
        share: NeighbourShare {
            creates_per_second: one.limits.creates_per_second,
            aivts_percent: one.limits.aivts_percent,
        },
    })
}

fn host(config: &NodeConfig, one: &Host) -> control::Host {
    control::Host {
        prefixes: one.addresses.clone(),
        role: match one.role {
            Role::Initiator => control::HostRole::Initiator,
            Role::Responder => control::HostRole::Responder,
            Role::Both => control::HostRole::Both,
        },
        option: match one.option {
            AnonymityOption::AsSent => control::SourceOption::AsSent,
            AnonymityOption::RandomPrivate => control::SourceOption::RandomPrivate,
        },
        quota: one.limits.aivts_per_slice.map(|aivts| AivtsPerSlice {
            aivts,
            slice_s: config.network.ticket_slice_s,
        }),
    }
}

/// What the packet path is told of each peer, in order of [`PeerId`](ain_dataplane::id::PeerId); slots and link-layer addresses come later.
pub fn peers(config: &NodeConfig, workers: u8) -> Vec<Peer> {
    let neighbours = config
        .neighbours
        .iter()
        .map(|one| (one.port, &one.tunnel, PeerKind::Neighbour));
    let hosts = config.hosts.iter().map(|one| {
        let initiator = matches!(one.role, Role::Initiator | Role::Both);
        let addresses = one.addresses.clone();
        (
            one.port,
            &one.tunnel,
            PeerKind::Host(HostPolicy {
                initiator,
                addresses,
                inner_mtu: one.inner_mtu,
                allowance: one.limits.allowance,
                flows: one.limits.flows,
            }),
        )
    });
    let owners = (0..workers.max(1)).map(WorkerId).cycle();
    neighbours
        .chain(hosts)
        .zip(owners)
        .map(|((port, tunnel, kind), owner)| peer(port, tunnel, kind, owner))
        .collect()
}

/// One peer without slot and link-layer addresses.
pub fn peer<K>(port: usize, tunnel: &Tunnel<K>, kind: PeerKind, owner: WorkerId) -> Peer {
    Peer {
        port: port_id(port),
        local: tunnel.local,
        remote: tunnel.remote,
        link: None,
        owner,
        tunnel: 0,
        kind,
    }
}

/// The node as its own host, at its signalling address: it has no tunnel.
pub fn own_peer(address: IpAddr, owner: WorkerId) -> Peer {
    Peer {
        port: PortId(0),
        local: address,
        remote: address,
        link: None,
        owner,
        tunnel: 0,
        kind: PeerKind::Own(HostPolicy {
            initiator: true,
            addresses: Vec::new(),
            inner_mtu: OWN_MTU,
            allowance: None,
            flows: None,
        }),
    }
}

fn port_id(place: usize) -> PortId {
    PortId(u8::try_from(place).unwrap_or(u8::MAX))
}
