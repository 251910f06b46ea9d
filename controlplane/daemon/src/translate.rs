//! From the configuration's words to those of the control node, the table writer and the packet path.

use std::net::IpAddr;
use std::sync::Arc;

use ain_controlplane::config as control;
use ain_controlplane::guard::Guard;
use ain_controlplane::lifetime::Lifetime;
use ain_controlplane::sa::{Generation, Numbers, SaDirection, SaKind, SaName, SaProtocol, SaSpec};
use ain_controlplane::share::{AivtsPerSlice, NeighbourShare};
use ain_controlplane::signal::suite::OnionKeys;
use ain_crypto::MacAlgorithm;
use ain_dataplane::id::{PeerId, PortId, WorkerId};
use ain_dataplane::nat;
use ain_dataplane::peers::{HostPolicy, Peer, PeerKind, Uplink, Uplinks};
use ain_dataplane::usage::SaUse;
use ain_dataplane::wire::cell;
use anyhow::{Context, ensure};
use zeroize::Zeroizing;

use crate::config::secret::KeyMaterial;
use crate::config::{self, AnonymityOption, CellProfile, HandMade, Host, Neighbour, NodeConfig, Role, Sa, Tunnel};
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

/// What the packet path is told of each peer, in order of [`PeerId`]; slots and link-layer addresses come later.
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

/// The four associations of a tunnel with hand-made keys, with numbers that no earlier process has used.
///
/// # Errors
/// When the state cannot be written.
pub fn associations<K>(
    peer: PeerId,
    (tunnel, sas): (&Tunnel<K>, &HandMade),
    workers: u8,
    durable: &mut Durable,
) -> anyhow::Result<[SaSpec; 4]> {
    ensure!(workers > 0, "no worker");
    let spi_counter = durable.spi_counter([&sas.ah_in.key, &sas.ah_out.key]);
    let ah_ivs = match tunnel.ah {
        MacAlgorithm::Aes128Gmac => durable.ivs(&sas.ah_out.key, workers)?,
        MacAlgorithm::HmacSha256_128 | MacAlgorithm::AesCmac96 => Vec::new(),
    };
    let ah = SaKind::Ah {
        algorithm: tunnel.ah,
        generation: Generation::HAND_MADE,
        spi_counter: Some(spi_counter),
    };
    let sa = |sa: &Sa, kind, numbers| SaSpec {
        peer,
        spi: sa.spi,
        kind,
        key: material(&sa.key),
        esn: tunnel.esn,
        numbers,
        lifetime: Lifetime::NONE,
    };
    let inbound = |durable: &Durable, key: &KeyMaterial| Numbers::In {
        resume_after: durable.accepted(key),
    };
    let outbound = |durable: &mut Durable, key: &KeyMaterial, ah_ivs| -> anyhow::Result<Numbers> {
        let grant = durable.sequence(key)?;
        Ok(Numbers::Out { grant, ah_ivs })
    };
    let esp = SaKind::Esp(tunnel.esp);
    Ok([
        sa(&sas.ah_in, ah, inbound(durable, &sas.ah_in.key)),
        sa(&sas.esp_in, esp, inbound(durable, &sas.esp_in.key)),
        sa(&sas.ah_out, ah, outbound(durable, &sas.ah_out.key, ah_ivs)?),
        sa(&sas.esp_out, esp, outbound(durable, &sas.esp_out.key, Vec::new())?),
    ])
}

/// Makes hand-made associations known as durable: what has been accepted on `name`, one of `sas`, is kept from now on.
pub fn follow(durable: &mut Durable, sas: &HandMade, name: SaName, used: &SaUse) {
    let key = match (name.direction, name.protocol) {
        (SaDirection::In, SaProtocol::Ah) => &sas.ah_in.key,
        (SaDirection::In, SaProtocol::Esp) => &sas.esp_in.key,
        (SaDirection::Out, _) => return,
    };
    durable.follow(key, used.shared_highest());
}

fn material(key: &KeyMaterial) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(key.expose().to_vec())
}
