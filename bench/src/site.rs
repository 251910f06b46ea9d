//! A node under test: one engine, filled by the table writer as the control thread fills it, between ports that free what they send.
//!
//! ```text
//!    peers 0, 1, 2 ...: neighbours and hosts at 10.1.x.y, this node at 10.0.0.1
//!    frames ──► Engine ──► Sink: counts, frees by the handful
//!                 ▲
//!    TableWriter ─┘ commands, carried out at once
//! ```

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use ain_controlplane::action::Route;
use ain_controlplane::lifetime::Lifetime;
use ain_controlplane::sa::{Generation, Numbers, SaKind, SaSpec};
use ain_controlplane::table_writer::{TableError, TableWriter, TunnelShape, TunnelSpec, Workers};
use ain_crypto::{AeadAlgorithm, Backend, MacAlgorithm};
use ain_dataplane::command::{Command, Event, Handoff};
use ain_dataplane::engine::{Capacity, Engine};
use ain_dataplane::entry::Activity;
use ain_dataplane::id::{AivtId, Now, PeerId, PortId, Spi, WorkerId};
use ain_dataplane::limits::BURST;
use ain_dataplane::outside::Outside;
use ain_dataplane::packet::BufPool;
use ain_dataplane::peers::{Link, Peer, PeerKind, Peers};
use ain_dataplane::stage::Lane;
use ain_dataplane::table::flow_table;
use ain_dataplane::verdict::DropReason;
use ain_dataplane::wire::cell::CellProfile;
use ain_dataplane::wire::ethernet::MacAddr;
use arrayvec::ArrayVec;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use zeroize::Zeroizing;

use crate::backend::Fresh;
use crate::memory::Memory;

/// This node.
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// This node's port.
pub const LOCAL_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// The switch behind which all peers are.
pub const REMOTE_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
/// SPIs of TVTs begin here, those of tunnels lie below.
pub const FIRST_TVT_SPI: u32 = ain_controlplane::benchmark::FIRST_SPI;
/// Nanoseconds of virtual time a burst.
const BURST_NS: u64 = 10_000;

/// A peer's outer address.
pub fn remote(peer: PeerId) -> Ipv4Addr {
    let [high, low] = peer.0.to_be_bytes();
    Ipv4Addr::new(10, 1, high, low)
}

/// The four associations of a tunnel, as this node names them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Sa {
    /// AH from the peer.
    AhIn = 0,
    /// AH to the peer.
    AhOut = 1,
    /// ESP from the peer.
    EspIn = 2,
    /// ESP to the peer.
    EspOut = 3,
}

/// Key material of an association, the same in every run.
pub fn material(sa: Sa, peer: PeerId, len: usize) -> Zeroizing<Vec<u8>> {
    let mut rng = ChaCha12Rng::seed_from_u64(u64::from(peer.0) << 8 | sa as u64);
    Zeroizing::new((0..len).map(|_| rng.random()).collect())
}

/// SPI of a tunnel's association.
pub fn tunnel_spi(sa: Sa, peer: PeerId) -> Spi {
    let value = 0x400 + 4 * u32::from(peer.0) + sa as u32;
    Spi::new(value).expect("above the reserved ones")
}

/// What a site is like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// AH algorithm of all tunnels.
    pub ah: MacAlgorithm,
    /// ESP algorithm of all tunnels.
    pub esp: AeadAlgorithm,
    /// The network's cell length.
    pub profile: CellProfile,
    /// Peers in order of id.
    pub peers: Vec<PeerKind>,
    /// Room in the engine.
    pub capacity: Capacity,
}

/// The node.
pub struct Site<C: Backend, M: Memory> {
    /// Its packet path.
    pub engine: Engine<C, M::Buf>,
    /// Its peers.
    pub peers: Peers,
    /// Its surroundings.
    pub io: Sink<C, M>,
    /// Its control thread's side of the tables.
    pub writer: TableWriter<C, M::Buf>,
    /// Commands carried out.
    done: u64,
    now: Now,
}

impl<C: Fresh, M: Memory> Site<C, M> {
    /// A node of this shape with all tunnels up and no AIVT.
    ///
    /// # Errors
    /// When the capacity is too small for the peers.
    pub fn new(shape: &Shape, pool: M) -> Result<Self, TableError> {
        let ids = (0..).map(PeerId).take(shape.peers.len());
        let tunnels: Vec<_> = ids.map(|id| tunnel(shape, id)).collect();
        Self::with_tunnels(shape, &tunnels, pool)
    }

    /// The same with other tunnels, one a peer.
    ///
    /// # Errors
    /// When the capacity is too small for the peers.
    pub fn with_tunnels(shape: &Shape, tunnels: &[[SaSpec; 4]], pool: M) -> Result<Self, TableError> {
        let entries = (shape.capacity.tvts + shape.capacity.tunnels) as usize;
        let (table, reader) = flow_table(entries, [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);
        let mut writer = TableWriter::new(table, 1, shape.capacity);
        let mut peers = Vec::new();
        for (sas, kind) in tunnels.iter().zip(&shape.peers) {
            let tunnel = add_tunnel(&mut writer, sas)?;
            peers.push(Peer {
                port: PortId(0),
                local: LOCAL.into(),
                remote: remote(sas[0].peer).into(),
                link: Some(Link {
                    source: LOCAL_MAC,
                    destination: REMOTE_MAC,
                }),
                owner: WorkerId(0),
                tunnel,
                kind: kind.clone(),
            });
        }
        let mut site = Self {
            engine: Engine::new(WorkerId(0), C::fresh(), reader, shape.capacity, shape.profile),
            peers: Peers::new(peers, shape.profile),
            io: Sink::new(pool),
            writer,
            done: 0,
            now: Now(Now::SECOND),
        };
        site.pump(|_| ());
        Ok(site)
    }

    /// Installs this node's part in an AIVT.
    ///
    /// # Errors
    /// When there is no room.
    pub fn install(&mut self, aivt: AivtId, route: Route) -> Result<(), TableError> {
        self.writer.install(aivt, route, &Activity::at(self.now))?;
        self.pump(|_| ());
        Ok(())
    }

    /// Carries out all commands of the table writer, and names the AIVTs whose entries are all there now.
    pub fn pump(&mut self, mut installed: impl FnMut(AivtId)) {
        let mut direct = Direct {
            engine: &mut self.engine,
            peers: &self.peers,
            io: &mut self.io,
            done: &mut self.done,
            now: self.now,
        };
        self.writer.pump(&mut direct);
        while let Some(aivt) = self.writer.poll_installed(&direct) {
            installed(aivt);
        }
    }

    /// The engine, for a worker; an empty one stays.
    pub fn take_engine(&mut self) -> Engine<C, M::Buf> {
        let nothing = Capacity {
            tvts: 0,
            tunnels: 0,
            flows: 0,
        };
        let (_, reader) = flow_table(1, [0; 2]);
        let empty = Engine::new(WorkerId(0), C::fresh(), reader, nothing, self.peers.profile());
        std::mem::replace(&mut self.engine, empty)
    }

    /// Commands carried out so far.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Virtual time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// A burst from the wire.
    #[inline]
    pub fn burst(&mut self, frames: &mut Lane<M::Buf>) {
        self.now = self.now.plus(BURST_NS);
        self.engine
            .from_wire(self.now, &self.peers, PortId(0), frames, &mut self.io);
    }

    /// Every drop so far, by reason.
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        let counters = self.engine.counters();
        DropReason::ALL
            .iter()
            .map(|why| (why.name(), counters.drops(*why)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// The associations of a peer's tunnel at the node under test: AH and ESP in, then out.
pub fn tunnel(shape: &Shape, peer: PeerId) -> [SaSpec; 4] {
    let ah = SaKind::Ah {
        algorithm: shape.ah,
        generation: Generation::HAND_MADE,
        spi_counter: None,
    };
    let esp = SaKind::Esp(shape.esp);
    let (ah_bytes, esp_bytes) = (shape.ah.key_bytes(), shape.esp.key_bytes());
    let association = |sa, kind, len, numbers| SaSpec {
        peer,
        spi: tunnel_spi(sa, peer),
        kind,
        key: material(sa, peer, len),
        esn: true,
        numbers,
        lifetime: Lifetime::NONE,
    };
    [
        association(Sa::AhIn, ah, ah_bytes, Numbers::fresh_in()),
        association(Sa::EspIn, esp, esp_bytes, Numbers::fresh_in()),
        association(Sa::AhOut, ah, ah_bytes, Numbers::fresh_out(1)),
        association(Sa::EspOut, esp, esp_bytes, Numbers::fresh_out(1)),
    ]
}

/// Installs a tunnel with its associations; its slot.
///
/// # Errors
/// Where there is no room.
pub fn add_tunnel<C: Backend, B>(writer: &mut TableWriter<C, B>, sas: &[SaSpec; 4]) -> Result<u32, TableError> {
    let slot = writer.add_tunnel(&TunnelSpec {
        peer: sas[0].peer,
        owner: WorkerId(0),
        shape: TunnelShape::default(),
    })?;
    for sa in sas {
        writer.add_sa(sa, None)?;
    }
    Ok(slot)
}

/// Commands go straight into the engine.
struct Direct<'a, C: Backend, M: Memory> {
    engine: &'a mut Engine<C, M::Buf>,
    peers: &'a Peers,
    io: &'a mut Sink<C, M>,
    done: &'a mut u64,
    now: Now,
}

impl<C: Backend, M: Memory> Workers<C, M::Buf> for Direct<'_, C, M> {
    fn send(&mut self, _to: WorkerId, command: Command<C, M::Buf>) -> Result<(), Command<C, M::Buf>> {
        self.engine.command(self.now, self.peers, command, self.io);
        *self.done += 1;
        Ok(())
    }

    fn done(&self, _worker: WorkerId) -> u64 {
        *self.done
    }
}

/// Ports that count what they send and free it by the handful, and a control thread that listens later.
pub struct Sink<C: Backend, M: Memory> {
    /// Empty buffers.
    pub pool: M,
    sending: ArrayVec<M::Buf, BURST>,
    /// Frames sent.
    pub sent: u64,
    /// What the engine reported.
    pub events: VecDeque<Event<C, M::Buf>>,
    /// The last datagram for the local device.
    pub delivered: Option<M::Buf>,
}

impl<C: Backend, M: Memory> Sink<C, M> {
    fn new(pool: M) -> Self {
        Self {
            pool,
            sending: ArrayVec::new(),
            sent: 0,
            events: VecDeque::new(),
            delivered: None,
        }
    }

    /// Frees what is left of the last handful.
    pub fn flush(&mut self) {
        M::free(&mut self.sending);
    }
}

impl<C: Backend, M: Memory> BufPool for Sink<C, M> {
    type Buf = M::Buf;

    #[inline]
    fn alloc(&mut self) -> Option<M::Buf> {
        self.pool.alloc()
    }
}

impl<C: Backend, M: Memory> Outside<C, M::Buf> for Sink<C, M> {
    #[inline]
    fn transmit(&mut self, _port: PortId, frame: M::Buf) {
        if self.sending.is_full() {
            M::free(&mut self.sending);
        }
        self.sending.push(frame);
        self.sent += 1;
    }

    fn hand_over(&mut self, _to: WorkerId, item: Handoff<M::Buf>) -> Result<(), Handoff<M::Buf>> {
        Err(item)
    }

    fn report(&mut self, event: Event<C, M::Buf>) -> Result<(), Event<C, M::Buf>> {
        self.events.push_back(event);
        Ok(())
    }

    fn deliver(&mut self, datagram: M::Buf) {
        self.delivered = Some(datagram);
    }
}
