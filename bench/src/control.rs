//! A whole intermediate AIN, control node included, and the neighbours that ask it to join AIVTs.
//!
//! ```text
//!   neighbour A               the node                                   neighbour B
//!      CREATE ──ESP+AH──►  engine ─► Node: a public-key operation ─► CREATE ──►
//!             ◄── ACK                                                      ◄── ACK, CREATED
//!             ◄── CREATED   entries made and installed ◄─────────────────
//!      ACK ──►
//! ```
//! One core does it all: the packet path, the control node, the table writer, the expansion of keys.

pub mod flood;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use ain_controlplane::action::{Action, Opening};
use ain_controlplane::associations::Keying;
use ain_controlplane::directory::{Directory, Entry, NodeId, OnionKey};
use ain_controlplane::generation::AhPair;
use ain_controlplane::limits::AIVTS_MAX;
use ain_controlplane::node::{Config, Neighbour, Node, Peer, Quotas, SpiSecret};
use ain_controlplane::sa::Generation;
use ain_controlplane::share::NeighbourShare;
use ain_controlplane::signal::create::{FlowToken, HopSpec, Terms, build};
use ain_controlplane::signal::frame::{Frame, Kind, Message, Signal};
use ain_controlplane::signal::suite::{Kem, OnionPrivateKey};
use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use ain_daemon::onion_key;
use ain_dataplane::command::Event;
use ain_dataplane::engine::Capacity;
use ain_dataplane::id::{Now, PeerId};
use ain_dataplane::packet::{BufPool, PacketBuf};
use ain_dataplane::peers::PeerKind;
use ain_dataplane::stage::Lane;
use ain_dataplane::usage::SaUse;
use ain_dataplane::wire::cell::CellProfile;
use ain_dataplane::wire::protocol;
use anyhow::{Context, ensure};
use ed25519_dalek::SigningKey;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use crate::backend::Fresh;
use crate::clock::Clock;
use crate::forge::{Forge, Origin};
use crate::memory::Memory;
use crate::role::SIDE;
use crate::site::{Sa, Shape, Site, tunnel_spi};

/// Unix time at the start.
const WALL: u64 = 1_800_000_000;
/// Time that a round of creations takes, ns: no neighbour asks for more than its share a second.
const ROUND_NS: u64 = Now::SECOND / 10;
/// Packets of a burst.
const BURST: usize = 32;
const AH: MacAlgorithm = MacAlgorithm::Aes128Gmac;
const ESP: AeadAlgorithm = AeadAlgorithm::Aes128Gcm16;
const PROFILE: CellProfile = CellProfile::Standard;

/// The node and its neighbours.
pub struct Control<C: Fresh, M: Memory> {
    /// Its packet path.
    pub site: Site<C, M>,
    node: Node,
    forge: Forge<C>,
    /// Last sequence number of each neighbour's tunnel.
    tunnel_sent: Vec<u64>,
    /// Last message id of each neighbour.
    messages: Vec<u32>,
    /// What the node sent since last looked at.
    sent: Vec<(PeerId, Vec<u8>)>,
    /// SPI of the next CREATE.
    next_spi: u32,
    now: Now,
    /// Creating signals that wait for an opener, if there is one; else they are opened at once.
    to_open: Option<VecDeque<Opening>>,
    kem: Kem,
    /// The onion key of every node: a neighbour's is never used.
    public_key: Vec<u8>,
    rng: ChaCha12Rng,
}

fn key_of(number: u16, what: u8) -> [u8; 32] {
    let mut key = [what; 32];
    key[..2].copy_from_slice(&number.to_be_bytes());
    key
}

/// Node `number`: the neighbours in order of their peer ids, this node behind them.
fn identity(number: u16) -> [u8; 32] {
    SigningKey::from_bytes(&key_of(number, 1)).verifying_key().to_bytes()
}

const NEIGHBOURS: u16 = 2 * SIDE;
const THIS: u16 = NEIGHBOURS;

fn address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(192, 168, high, low + 1)
}

fn config(kem: Kem, onion_key: OnionPrivateKey) -> anyhow::Result<Config> {
    let id = |number| NodeId::of(&identity(number));
    let entry = |number: u16| Entry {
        onion_keys: vec![OnionKey::always(kem.suite.id, onion_key.public().to_vec())],
        neighbours: if number == THIS {
            (0..NEIGHBOURS).map(id).collect()
        } else {
            vec![id(THIS)]
        },
        ..Entry::new(format!("ain{number}"), identity(number), IpAddr::V4(address(number)))
    };
    let neighbour = |number: u16| {
        Peer::Neighbour(Neighbour {
            id: id(number),
            rate_pps: None,
            share: NeighbourShare::default(),
        })
    };
    let directory = Directory::new((0..=THIS).map(entry).collect())?;
    Ok(Config {
        id: id(THIS),
        onion_keys: onion_key.into(),
        kem,
        directory,
        guards: Vec::new(),
        guard_time_s: 0,
        peers: (0..NEIGHBOURS).map(neighbour).collect(),
        min_nodes: 2,
        max_nodes: 6,
        profile: PROFILE,
        inactivity_s: 3600,
        lifetime_s: 0,
        replay_floor_s: 0,
        quotas: Quotas::halves(AIVTS_MAX, 1),
        open_exit: None,
        tickets: None,
    })
}

impl<C: Fresh, M: Memory> Control<C, M> {
    /// Bytes of the longest frame.
    pub fn longest_frame() -> usize {
        crate::role::Case::HEADLINE.longest_frame()
    }

    /// A node with room for `aivts`, all of its PVTs up, in a network of `suite`.
    ///
    /// # Errors
    /// When a part of its configuration does not fit.
    pub fn new(suite: u8, aivts: u32, pool: M) -> anyhow::Result<Self> {
        let shape = Shape {
            ah: AH,
            esp: ESP,
            profile: PROFILE,
            peers: vec![PeerKind::Neighbour; usize::from(NEIGHBOURS)],
            capacity: Capacity {
                tvts: 2 * aivts,
                tunnels: u32::from(NEIGHBOURS),
                flows: 0,
            },
        };
        let now = Now(Now::SECOND);
        let kem = onion_key::kem(suite).context("no such suite")?;
        let onion_key = onion_key::load(suite, &onion_key::generate(suite)?).context("a key")?;
        let public_key = onion_key.public().to_vec();
        let mut node = Node::new(config(kem, onion_key)?, now, Box::new(ChaCha12Rng::seed_from_u64(1)))?;
        for peer in (0..NEIGHBOURS).map(PeerId) {
            node.handle_keying(now, Keying::Begun(peer, ah_pair(peer)));
        }
        let mut control = Self {
            site: Site::new(&shape, pool)?,
            node,
            forge: Forge::new(AH, ESP, NEIGHBOURS)?,
            tunnel_sent: vec![0; usize::from(NEIGHBOURS)],
            messages: vec![0; usize::from(NEIGHBOURS)],
            sent: Vec::new(),
            next_spi: crate::site::FIRST_TVT_SPI,
            now,
            to_open: None,
            kem,
            public_key,
            rng: ChaCha12Rng::seed_from_u64(2),
        };
        let hello = |peer| (PeerId(peer), say(7, 1, Message::Keepalive));
        control.ask((0..NEIGHBOURS).map(hello).collect(), &Clock::new())?;
        control.sent.clear();
        Ok(control)
    }

    /// Cycles that `count` creations take the node, from the neighbours' packets to its own.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn create(&mut self, count: u32, clock: &Clock) -> anyhow::Result<u64> {
        self.now = self.now.plus(ROUND_NS);
        let before = self.standing();
        let creates = (0..count).map(|n| self.creating(n)).collect::<Result<Vec<_>, _>>()?;
        let mut cycles = self.ask(creates, clock)?;
        let answers = self.answers();
        cycles += self.ask(answers, clock)?;
        let acks = self.answers();
        cycles += self.ask(acks, clock)?;
        self.sent.clear();
        let made = self.standing() - before;
        ensure!(
            made == count as usize,
            "{made} of {count} AIVTs were made: {:?}",
            self.site.drops()
        );
        Ok(cycles)
    }

    fn standing(&self) -> usize {
        self.site.writer.in_use()[0]
    }

    fn wall(&self) -> u64 {
        WALL + self.now.0 / Now::SECOND
    }

    /// A CREATE of a neighbour on the entrance's side, for a path over one on the exit's.
    fn creating(&mut self, number: u32) -> anyhow::Result<(PeerId, Signal)> {
        let (up, down) = (number as u16 % SIDE, SIDE + (number as u16 / SIDE) % SIDE);
        let created = u32::try_from(self.wall() / 10 * 10)?;
        let hop = |number| HopSpec {
            id: NodeId::of(&identity(number)),
            onion_key: &self.public_key,
            created,
            ticket: None,
        };
        let terms = Terms {
            profile: PROFILE as u8,
            expires: 0,
            flow_token: FlowToken::random(&mut self.rng),
        };
        let path = [hop(THIS), hop(down)];
        let (onion, _) = build(&self.kem, &path, &terms, &mut self.rng)?;
        self.next_spi += 1;
        let message = self.next_message(PeerId(up));
        let ah = tunnel_spi(Sa::AhIn, PeerId(up)).value();
        Ok((PeerId(up), say(self.next_spi, message, Message::Create { ah, onion })))
    }

    /// What neighbours answer to what the node sent: each request gets its ACK, a CREATE its CREATED too.
    fn answers(&mut self) -> Vec<(PeerId, Signal)> {
        let mut answers = Vec::new();
        for (peer, datagram) in std::mem::take(&mut self.sent) {
            let Ok(part) = frame(peer).read(&datagram) else {
                continue;
            };
            let is_request = matches!(part.kind, Kind::Create | Kind::Created | Kind::Destroy);
            if !is_request || part.index + 1 < part.count {
                continue;
            }
            answers.push((peer, say(part.spi, part.message_id, Message::Ack)));
            if part.kind == Kind::Create {
                let created = Message::Created {
                    create: part.message_id,
                    confirmation: [9; 32],
                };
                let own = self.next_message(peer);
                answers.push((peer, say(part.spi, own, created)));
            }
        }
        answers
    }

    fn next_message(&mut self, peer: PeerId) -> u32 {
        let last = &mut self.messages[usize::from(peer.0)];
        *last += 1;
        *last
    }

    /// Packs signals of neighbours into packets and gives these to the node. Cycles of the latter.
    fn ask(&mut self, signals: Vec<(PeerId, Signal)>, clock: &Clock) -> anyhow::Result<u64> {
        let mut cycles = 0;
        let mut datagrams = Vec::new();
        for (peer, signal) in signals {
            let parts = frame(peer).encode_all(&signal, &mut self.rng)?;
            datagrams.extend(parts.into_iter().map(|part| (peer, part)));
        }
        for burst in datagrams.chunks(BURST) {
            let mut packets: Lane<(Origin, M::Buf)> = Lane::new();
            for (peer, datagram) in burst {
                packets.push(self.packet(*peer, datagram)?);
            }
            self.forge.sign(&mut packets)?;
            let mut frames: Lane<M::Buf> = packets.into_iter().map(|(_, frame)| frame).collect();
            let start = clock.ticks();
            self.site.burst(&mut frames);
            self.obey()?;
            cycles += clock.ticks() - start;
        }
        Ok(cycles)
    }

    fn packet(&mut self, peer: PeerId, datagram: &[u8]) -> anyhow::Result<(Origin, M::Buf)> {
        let at = usize::from(peer.0);
        let mut buf = self.site.io.alloc().context("packet buffers are used up")?;
        buf.grow_back(datagram.len());
        buf.data_mut().copy_from_slice(datagram);
        self.tunnel_sent[at] += 1;
        let seq = self.tunnel_sent[at];
        self.forge.seal(peer, seq, &mut buf)?;
        let origin = Origin {
            peer,
            spi: tunnel_spi(Sa::AhIn, peer),
            seq,
            next_header: protocol::ESP,
        };
        Ok((origin, buf))
    }

    /// The control thread's round.
    fn obey(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.site.io.events.pop_front() {
            if let Event::Signal(peer, datagram) = event {
                self.node.handle_signal(self.now, peer, datagram.data());
            }
        }
        self.act()?;
        let mut installed = Vec::new();
        self.site.pump(|aivt| installed.push(aivt));
        for aivt in installed {
            self.node.handle_installed(self.now, aivt);
        }
        self.act()?;
        self.site.pump(|_| ());
        self.site.io.flush();
        Ok(())
    }

    fn act(&mut self) -> anyhow::Result<()> {
        while let Some(action) = self.node.poll_action() {
            match action {
                Action::Send { peer, datagram } => {
                    let mut buf = self.site.io.alloc().context("packet buffers are used up")?;
                    buf.grow_back(datagram.len());
                    buf.data_mut().copy_from_slice(&datagram);
                    self.site.writer.signal(peer, buf);
                    self.sent.push((peer, datagram));
                }
                Action::Install { aivt, route, activity } => self.site.writer.install(aivt, route, &activity)?,
                Action::Open(opening) => match &mut self.to_open {
                    Some(waiting) => waiting.push_back(opening),
                    None => self.node.handle_opened(self.now, self.wall(), opening.open()),
                },
                Action::ReserveSpis { .. } => {}
                Action::Remove { aivt } => self.site.writer.remove(self.now, aivt),
                Action::Enter { .. }
                | Action::KeepGuards(_)
                | Action::Bind { .. }
                | Action::Refuse { .. }
                | Action::Rewrite { .. }
                | Action::CloseFlow { .. } => {}
            }
        }
        Ok(())
    }
}

/// The keys of a neighbour's PVT, as the control node sees them.
fn ah_pair(peer: PeerId) -> AhPair {
    AhPair {
        generation: Generation::HAND_MADE,
        spi_in: tunnel_spi(Sa::AhIn, peer),
        spi_out: tunnel_spi(Sa::AhOut, peer),
        spi_secret: SpiSecret::derive(&peer.0.to_be_bytes(), b"the other direction"),
        spi_counter: None,
        heard: SaUse::new(0),
    }
}

fn say(spi: u32, message_id: u32, message: Message) -> Signal {
    Signal {
        spi,
        message_id,
        message,
    }
}

/// The frame of a neighbour's signals, as the neighbour sees it.
fn frame(peer: PeerId) -> Frame {
    Frame::new((address(peer.0), address(THIS)), PROFILE.cell_len())
}
