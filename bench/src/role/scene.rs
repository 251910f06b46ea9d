//! A node in one of its roles with all AIVTs standing, and the peers around it that make its packets.

use ain_controlplane::action::{Link, Route};
use ain_controlplane::sa::Generation;
use ain_crypto::{AeadAlgorithm, LayerJob, LayerOp};
use ain_dataplane::command::Event;
use ain_dataplane::engine::Capacity;
use ain_dataplane::id::{AivtId, FlowTag, PeerId};
use ain_dataplane::packet::{BufPool, PacketBuf};
use ain_dataplane::peers::{HostPolicy, PeerKind};
use ain_dataplane::stage::Lane;
use ain_dataplane::wire::cell::{CellHeader, HEADER_LEN, SUB_TYPE_DATA};
use ain_dataplane::wire::protocol;
use anyhow::{Context, bail};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use zerocopy::IntoBytes;

use super::{Case, Half, Role, SIDE, Ways, hop_keys, layer_key};
use crate::backend::Fresh;
use crate::forge::{Forge, Origin, write_datagram};
use crate::memory::Memory;
use crate::site::{Sa, Shape, Site, tunnel_spi};

/// ESP of host tunnels.
pub const ESP: AeadAlgorithm = AeadAlgorithm::Aes128Gcm16;

/// The node and its peers.
pub struct Scene<C: Fresh, M: Memory> {
    /// What is measured.
    pub case: Case,
    /// The node.
    pub site: Site<C, M>,
    forge: Forge<C>,
    crypto: C,
    /// Last AH sequence number, and inner one, by half.
    sent: Vec<u32>,
    /// Last sequence number of host tunnels, by peer.
    tunnel_sent: Vec<u64>,
    noise: Vec<u8>,
    rng: ChaCha12Rng,
}

impl<C: Fresh, M: Memory> Scene<C, M> {
    /// Installs all AIVTs, as CREATEs and first datagrams would.
    ///
    /// # Errors
    /// When the engine has no room for them.
    pub fn new(case: Case, pool: M) -> anyhow::Result<Self> {
        Self::with_room(case, case.aivts, pool)
    }

    /// The same with room for `room` AIVTs.
    ///
    /// # Errors
    /// As [`Scene::new`].
    pub fn with_room(case: Case, room: u32, pool: M) -> anyhow::Result<Self> {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let noise = 2 * case.profile.cell_len().max(case.datagram());
        let mut scene = Self {
            case,
            site: Site::new(&shape(&case, room), pool)?,
            forge: Forge::new(case.ah, ESP, 2 * SIDE)?,
            crypto: C::fresh(),
            sent: vec![0; 2 * case.aivts as usize],
            tunnel_sent: vec![0; usize::from(2 * SIDE)],
            noise: (0..noise).map(|_| rng.random()).collect(),
            rng,
        };
        for aivt in 0..case.aivts {
            scene.install(aivt).with_context(|| format!("AIVT {aivt}"))?;
        }
        scene.site.io.flush();
        Ok(scene)
    }

    fn install(&mut self, aivt: u32) -> anyhow::Result<()> {
        let forward = Half::of(aivt, true);
        let (up, down) = forward.sides();
        let spi = forward.spi();
        let link = |peer| Link { peer, spi }.under(Generation::HAND_MADE);
        let id = AivtId(u64::from(aivt));
        match self.case.role {
            Role::Intermediate => {
                let route = Route::Intermediate {
                    upstream: link(up),
                    downstream: link(down),
                    keys: hop_keys(aivt, 0),
                };
                self.site.install(id, route)?;
            }
            Role::Entrance => {
                self.send_first(forward)?;
                let Some(Event::NewFlow { flow, tunnel, pair }) = self.site.io.events.pop_front() else {
                    bail!("the first datagram began no flow: {:?}", self.site.drops());
                };
                self.site.writer.note_flow(flow, tunnel, pair);
                let route = Route::Entrance {
                    flow,
                    downstream: link(down),
                    keys: (0..self.case.hops).map(|hop| hop_keys(aivt, hop)).collect(),
                };
                self.site.install(id, route)?;
            }
            Role::Exit => {
                let route = Route::Exit {
                    upstream: link(up),
                    keys: hop_keys(aivt, 0),
                    flow: FlowTag([0; 16]),
                };
                self.site.install(id, route)?;
                self.send_first(forward)?;
                let Some(Event::FirstDatagram(id, pair)) = self.site.io.events.pop_front() else {
                    bail!("the first datagram was not reported: {:?}", self.site.drops());
                };
                self.site.writer.bind(id, pair, down)?;
                self.site.pump(|_| ());
            }
        }
        Ok(())
    }

    fn send_first(&mut self, half: Half) -> anyhow::Result<()> {
        let mut frames = Vec::new();
        self.make(&[half], &mut frames)?;
        let mut burst: Lane<M::Buf> = frames.into_iter().collect();
        self.site.burst(&mut burst);
        Ok(())
    }

    /// Which half comes next.
    pub fn draw(&mut self) -> Half {
        let aivt = self.rng.random_range(0..self.case.aivts);
        let forward = match self.case.ways {
            Ways::Forward => true,
            Ways::Backward => false,
            Ways::Both => self.rng.random(),
        };
        Half::of(aivt, forward)
    }

    /// The next frame of each half, as its peer sends it.
    ///
    /// # Errors
    /// When buffers run out.
    pub fn make(&mut self, halves: &[Half], into: &mut Vec<M::Buf>) -> anyhow::Result<()> {
        for burst in halves.chunks(Lane::<M::Buf>::new().capacity()) {
            let mut packets: Lane<(Origin, M::Buf)> = Lane::new();
            for &half in burst {
                let packet = if self.case.from_host(half.forward()) {
                    self.host_packet(half)?
                } else {
                    self.cell(half)?
                };
                packets.push(packet);
            }
            self.forge.sign(&mut packets)?;
            into.extend(packets.into_iter().map(|(_, frame)| frame));
        }
        Ok(())
    }

    /// A datagram inside ESP.
    fn host_packet(&mut self, half: Half) -> anyhow::Result<(Origin, M::Buf)> {
        let (peer, len) = (half.ends().0, self.case.datagram());
        let mut buf = self.site.io.alloc().context("packet buffers are used up")?;
        buf.grow_back(len);
        self.fill(buf.data_mut());
        write_datagram(buf.data_mut(), half.pair());
        let seq = &mut self.tunnel_sent[usize::from(peer.0)];
        *seq += 1;
        self.forge.seal(peer, *seq, &mut buf)?;
        let origin = Origin {
            peer,
            spi: tunnel_spi(Sa::AhIn, peer),
            seq: *seq,
            next_header: protocol::ESP,
        };
        Ok((origin, buf))
    }

    /// A cell as the last AIN before this one leaves it.
    fn cell(&mut self, half: Half) -> anyhow::Result<(Origin, M::Buf)> {
        let mut buf = self.site.io.alloc().context("packet buffers are used up")?;
        buf.grow_back(self.case.profile.cell_len());
        self.fill(buf.data_mut());
        let seq = &mut self.sent[half.0 as usize];
        *seq += 1;
        let seq = u64::from(*seq);
        if self.case.role != Role::Intermediate {
            self.write_cell(half, seq, buf.data_mut());
        }
        let origin = Origin {
            peer: half.ends().0,
            spi: half.spi(),
            seq,
            next_header: protocol::CELL,
        };
        Ok((origin, buf))
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        let at = self.rng.random_range(0..=self.noise.len() - bytes.len());
        bytes.copy_from_slice(&self.noise[at..at + bytes.len()]);
    }

    /// Datagrams, and the layers that this node will take off.
    fn write_cell(&mut self, half: Half, seq: u64, cell: &mut [u8]) {
        let (header, mut data) = cell.split_at_mut(HEADER_LEN);
        header.copy_from_slice(CellHeader::new(seq, SUB_TYPE_DATA, 0).as_bytes());
        for _ in 0..self.case.datagrams_in_cell() {
            let (datagram, rest) = data.split_at_mut(self.case.datagram());
            write_datagram(datagram, half.pair());
            data = rest;
        }
        data.fill(0);
        let mut tweak = [0; 16];
        tweak[0] = half.direction() as u8;
        tweak[1] = hop_keys(0, 0).suite;
        for hop in (0..self.case.layers()).rev() {
            let key = C::layer_key(&layer_key(half, hop));
            let job = LayerJob {
                key: &key,
                tweak,
                op: LayerOp::Encrypt,
                cell: &mut *cell,
            };
            self.crypto.apply(&mut [job]);
        }
    }
}

/// The node of a case with room for `room` AIVTs; peers of the entrance's side first.
pub fn shape(case: &Case, room: u32) -> Shape {
    let host = PeerKind::Host(HostPolicy {
        initiator: case.role == Role::Entrance,
        addresses: Vec::new(),
        inner_mtu: u16::try_from(case.datagram().max(576)).unwrap_or(u16::MAX),
        allowance: None,
        flows: None,
    });
    let side = |host_side: bool| {
        let kind = if host_side { host.clone() } else { PeerKind::Neighbour };
        std::iter::repeat_n(kind, usize::from(SIDE))
    };
    let up = side(case.role == Role::Entrance);
    let down = side(case.role == Role::Exit);
    Shape {
        ah: case.ah,
        esp: ESP,
        profile: case.profile,
        peers: up.chain(down).collect(),
        capacity: Capacity {
            tvts: if case.role == Role::Intermediate {
                2 * room
            } else {
                room
            },
            tunnels: u32::from(2 * SIDE),
            // The engine keeps an eighth for the answers of exits.
            flows: if case.role == Role::Intermediate {
                0
            } else {
                room + room / 4 + 8
            },
        },
    }
}

/// Peers of a scene.
pub fn peers() -> impl Iterator<Item = PeerId> {
    (0..2 * SIDE).map(PeerId)
}
