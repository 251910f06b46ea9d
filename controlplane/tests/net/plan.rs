//! What a network in memory looks like.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ain_controlplane::associations::Keying;
use ain_controlplane::config::Tickets;
use ain_controlplane::directory::{Directory, Entry, NodeId, OnionKey, TicketKey};
use ain_controlplane::generation::AhPair;
use ain_controlplane::node::{CellProfile, Config, Host, HostRole, Neighbour, Peer, Quotas, SourceOption, SpiSecret};
use ain_controlplane::sa::Generation;
use ain_controlplane::share::NeighbourShare;
use ain_controlplane::signal::suite::{Kem, OnionPrivateKey, x25519};
use ain_controlplane::ticket::{Past, Slice, TicketSeed};
use ain_dataplane::id::{PeerId, Spi};
use ain_dataplane::nat::Settings;
use ain_dataplane::usage::SaUse;
use ain_dataplane::wire::ah::Family;
use ed25519_dalek::SigningKey;

use super::INACTIVITY_S;

/// What all nodes have in common.
#[derive(Clone)]
pub struct Plan {
    pub links: Vec<(usize, usize)>,
    pub nodes: usize,
    /// Of the nodes' addresses.
    pub family: Family,
    pub min_nodes: usize,
    pub max_nodes: usize,
    pub option: SourceOption,
    pub lifetime_s: u32,
    pub quotas: Quotas,
    pub kem: Kem,
    pub onion_key: fn(usize) -> OnionPrivateKey,
    /// How many tickets the wallet of each node holds, if nodes issue and demand them.
    pub tickets: Option<fn(usize) -> usize>,
    /// What every node knows of tickets at its start.
    pub past: Past,
    /// A node that is an open exit for all of IPv4, as far as it goes.
    pub open_exit: Option<(usize, Arc<Settings>)>,
    /// Changes the configuration of a node.
    pub adjust: fn(usize, &mut Config),
}

impl Plan {
    pub fn new(nodes: usize, links: &[(usize, usize)]) -> Self {
        let links = links.to_vec();
        Self {
            links,
            nodes,
            family: Family::V4,
            min_nodes: 2,
            max_nodes: 6,
            option: SourceOption::RandomPrivate,
            lifetime_s: 0,
            quotas: Quotas::default(),
            kem: x25519::KEM,
            onion_key,
            tickets: None,
            past: Past::default(),
            open_exit: None,
            adjust: |_, _| {},
        }
    }

    fn open_exit_of(&self, node: usize) -> Option<&Arc<Settings>> {
        self.open_exit
            .as_ref()
            .filter(|(at, _)| *at == node)
            .map(|(_, settings)| settings)
    }

    /// 0 - 1 - 2 - ...
    pub fn chain(nodes: usize) -> Self {
        Self::new(nodes, &(1..nodes).map(|node| (node - 1, node)).collect::<Vec<_>>())
    }

    pub fn neighbours(&self, node: usize) -> Vec<usize> {
        let ends = self.links.iter().flat_map(|&(a, b)| [(a, b), (b, a)]);
        let mut neighbours: Vec<_> = ends.filter(|(a, _)| *a == node).map(|(_, b)| b).collect();
        neighbours.sort();
        neighbours
    }

    /// Signalling address of a node.
    pub fn address(&self, node: usize) -> IpAddr {
        let number = u8::try_from(node).unwrap() + 1;
        match self.family {
            Family::V4 => Ipv4Addr::new(192, 0, 2, number).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into(),
        }
    }

    fn directory(&self) -> Directory {
        let entry = |node: usize| Entry {
            onion_keys: vec![OnionKey::always(
                self.kem.suite.id,
                (self.onion_key)(node).public().to_vec(),
            )],
            neighbours: self.neighbours(node).into_iter().map(id).collect(),
            exit_prefixes: [format!("198.51.{node}.0/24"), format!("2001:db8:33:{node}::/64")]
                .map(|net| net.parse().unwrap())
                .into(),
            ticket_keys: self.ticket_keys(node),
            open_exit: self
                .open_exit_of(node)
                .map(|_| "0.0.0.0/0".parse().unwrap())
                .into_iter()
                .collect(),
            ..Entry::new(format!("ain{node}"), identity(node), self.address(node))
        };
        Directory::new((0..self.nodes).map(entry).collect()).unwrap()
    }

    /// Of an hour before and two after the tests' beginning.
    fn ticket_keys(&self, node: usize) -> Vec<TicketKey> {
        let (seed, now) = (ticket_seed(node), Slice::at(WALL, SLICE_S).0);
        let slices = now - 6..now + 12;
        let keys = slices.map(|slice| seed.key(Slice(slice)).entry());
        if self.tickets.is_some() {
            keys.collect()
        } else {
            Vec::new()
        }
    }

    /// Node `node`: its neighbours in order, then two host tunnels. The first host responds to 198.51.<node>.0/25 and
    /// 2001:db8:33:<node>::/65.
    pub fn config(&self, node: usize, replay_floor_s: u64) -> Config {
        let neighbour = |other: usize| {
            Peer::Neighbour(Neighbour {
                id: id(other),
                rate_pps: None,
                share: NeighbourShare::default(),
            })
        };
        let host = |half: u8| {
            let v6 = format!("2001:db8:33:{node}:{:x}::/65", u16::from(half) << 8);
            let prefixes = [format!("198.51.{node}.{half}/25"), v6]
                .map(|net| net.parse().unwrap())
                .into();
            let role = if half == 0 { HostRole::Both } else { HostRole::Initiator };
            Peer::Host(Host {
                prefixes,
                role,
                option: self.option,
                quota: None,
            })
        };
        let neighbours = self.neighbours(node).into_iter().map(neighbour);
        let mut config = Config {
            id: id(node),
            onion_keys: (self.onion_key)(node).into(),
            kem: self.kem,
            directory: self.directory(),
            guards: Vec::new(),
            guard_time_s: 0,
            peers: neighbours.chain([host(0), host(128)]).collect(),
            min_nodes: self.min_nodes,
            max_nodes: self.max_nodes,
            profile: CellProfile::Standard,
            inactivity_s: INACTIVITY_S,
            lifetime_s: self.lifetime_s,
            replay_floor_s,
            quotas: self.quotas,
            tickets: self.tickets.map(|wallet| Tickets {
                past: self.past.clone(),
                ..tickets(node, wallet(node))
            }),
            open_exit: self.open_exit_of(node).cloned(),
        };
        (self.adjust)(node, &mut config);
        config
    }
}

/// SPI of every AH association of a PVT that has no packet path, in either direction.
pub const AH_SPI: u32 = 0x0a0a_0a0a;

impl Plan {
    /// The keys of node `node`'s PVTs, whose neighbours never rekey.
    pub fn keys(&self, node: usize, saved_spis: &HashMap<PeerId, u32>) -> Vec<Keying> {
        let neighbours = (0..).map(PeerId).zip(self.neighbours(node));
        let keys = neighbours.flat_map(|(peer, other)| {
            let ends = [node.min(other), node.max(other)].map(|end| u8::try_from(end).unwrap());
            let pair = AhPair {
                generation: Generation::HAND_MADE,
                spi_in: Spi::new(AH_SPI).unwrap(),
                spi_out: Spi::new(AH_SPI).unwrap(),
                spi_secret: SpiSecret::derive(&ends[..1], &ends[1..]),
                spi_counter: Some(saved_spis.get(&peer).copied().unwrap_or(0)),
                heard: SaUse::new(0),
            };
            [Keying::Begun(peer, pair), Keying::Up(peer)]
        });
        keys.collect()
    }
}

fn identity(node: usize) -> [u8; 32] {
    SigningKey::from_bytes(&[u8::try_from(node).unwrap() + 1; 32])
        .verifying_key()
        .to_bytes()
}

pub fn id(node: usize) -> NodeId {
    NodeId::of(&identity(node))
}

pub fn onion_key(node: usize) -> OnionPrivateKey {
    x25519::onion_key(&[u8::try_from(node).unwrap() + 101; 32])
}

const WALL: u64 = 1_800_000_000;
/// Length of a slice, seconds.
pub const SLICE_S: u32 = 600;

/// What node `node` needs for tickets, which it demands.
pub fn tickets(node: usize, wallet: usize) -> Tickets {
    Tickets {
        identity: SigningKey::from_bytes(&[u8::try_from(node).unwrap() + 1; 32]),
        seed: ticket_seed(node),
        slice_s: SLICE_S,
        demand: true,
        quota: 1000,
        wallet,
        past: Past::default(),
    }
}

/// From which the ticket keys of `node` come.
pub fn ticket_seed(node: usize) -> TicketSeed {
    TicketSeed::from_bytes([u8::try_from(node).unwrap() + 201; 32])
}
