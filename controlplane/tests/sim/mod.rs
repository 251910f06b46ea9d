//! An Internet in memory: AINs and hosts, each with the real packet path, joined by a network that loses, repeats and reorders
//! by a seeded rule. No clock, no thread. Whose cryptography runs is said in the module `crypto` of the test that includes this one.

#![allow(dead_code)] // each test uses its part

pub mod chain;
pub mod forge;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ain_controlplane::associations::Associations;
use ain_controlplane::hand_made::HandMadeSource;
use ain_controlplane::lifetime::Lifetime;
use ain_controlplane::sa::{Generation, Numbers, SaEvent, SaKind, SaSpec};
use ain_controlplane::table_writer::{Rate, TableWriter, TunnelShape, TunnelSpec, Workers};
use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use ain_dataplane::command::{Command, Event, Handoff};
use ain_dataplane::count::{Counters, Traffic};
use ain_dataplane::engine::{Capacity, Engine};
use ain_dataplane::id::{Now, PeerId, PortId, Spi, WorkerId};
use ain_dataplane::outside::Outside;
use ain_dataplane::packet::{BufPool, HEADROOM, PacketBuf};
use ain_dataplane::peers::{HostPolicy, Link, Peer, PeerKind, Peers};
use ain_dataplane::reserve::Grant;
use ain_dataplane::stage::Lane;
use ain_dataplane::stage::exception::Exception;
use ain_dataplane::table::flow_table;
use ain_dataplane::verdict::DropReason;
use ain_dataplane::wire::ah::Family;
use ain_dataplane::wire::cell::CellProfile;
use ain_dataplane::wire::ethernet::MacAddr;
use ain_dataplane::wire::ipv4::{self, Ipv4Fields};
use ain_dataplane::wire::ipv6;
use zeroize::Zeroizing;

use crate::crypto::{Crypto, crypto};

/// Flows that each worker has room for.
pub const FLOWS: u32 = 1024;
/// Largest packet of the in-memory network, bytes.
const BUFFER: usize = 16_384;

thread_local! {
    /// Storage of dropped packets, used again with whatever it holds.
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A packet on the heap. Its storage is used again, so that once enough packets have been there none is allocated any more.
#[derive(Debug, Clone)]
pub struct Buf {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// What a test calls the packet. Stays with the buffer whatever becomes of its content; 0 in a fresh one.
    pub tag: usize,
}

impl Drop for Buf {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // A thread that ends has no list any more.
        let _ = FREE.try_with(|free| free.borrow_mut().push(bytes));
    }
}

impl Buf {
    /// An empty buffer.
    pub fn new() -> Self {
        let used = FREE.with(|free| free.borrow_mut().pop());
        Self {
            bytes: used.unwrap_or_else(|| vec![0; BUFFER]),
            start: HEADROOM,
            end: HEADROOM,
            tag: 0,
        }
    }

    /// A buffer that holds `data`.
    pub fn of(data: &[u8]) -> Self {
        let mut buf = Self::new();
        buf.grow_back(data.len());
        buf.data_mut().copy_from_slice(data);
        buf
    }
}

impl PacketBuf for Buf {
    fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }
    fn headroom(&self) -> usize {
        self.start
    }
    fn tailroom(&self) -> usize {
        self.bytes.len() - self.end
    }
    fn grow_front(&mut self, n: usize) {
        self.start = self.start.checked_sub(n).expect("headroom");
    }
    fn grow_back(&mut self, n: usize) {
        self.end += n;
        assert!(self.end <= self.bytes.len(), "tailroom");
    }
    fn trim_front(&mut self, n: usize) {
        self.start += n;
        assert!(self.start <= self.end, "length");
    }
    fn truncate(&mut self, n: usize) {
        self.end = self.end.min(self.start + n);
    }
}

/// What a worker's engine asks for, kept in queues.
#[derive(Default)]
pub struct Io {
    pub frames: Vec<Buf>,
    pub handed: Vec<(WorkerId, Handoff<Buf>)>,
    pub events: VecDeque<Event<Crypto, Buf>>,
    pub delivered: Vec<Buf>,
    pub to_kernel: Vec<(Exception, Vec<u8>)>,
}

impl BufPool for Io {
    type Buf = Buf;
    fn alloc(&mut self) -> Option<Buf> {
        Some(Buf::new())
    }
}

impl Outside<Crypto, Buf> for Io {
    fn transmit(&mut self, _port: PortId, frame: Buf) {
        self.frames.push(frame);
    }
    fn give_to_kernel(&mut self, _port: PortId, kind: Exception, frame: &[u8]) -> Result<(), DropReason> {
        self.to_kernel.push((kind, frame.to_vec()));
        Ok(())
    }
    fn hand_over(&mut self, to: WorkerId, item: Handoff<Buf>) -> Result<(), Handoff<Buf>> {
        self.handed.push((to, item));
        Ok(())
    }
    fn report(&mut self, event: Event<Crypto, Buf>) -> Result<(), Event<Crypto, Buf>> {
        self.events.push_back(event);
        Ok(())
    }
    fn deliver(&mut self, datagram: Buf) {
        self.delivered.push(datagram);
    }
}

/// Command rings of one machine.
#[derive(Default)]
pub struct Rings {
    queues: Vec<VecDeque<Command<Crypto, Buf>>>,
    done: Vec<u64>,
}

impl Workers<Crypto, Buf> for Rings {
    fn send(&mut self, to: WorkerId, command: Command<Crypto, Buf>) -> Result<(), Command<Crypto, Buf>> {
        self.queues[usize::from(to.0)].push_back(command);
        Ok(())
    }
    fn done(&self, worker: WorkerId) -> u64 {
        self.done[usize::from(worker.0)]
    }
}

/// One machine: an AIN or a host, with its workers.
pub struct Machine {
    pub mac: MacAddr,
    pub engines: Vec<Engine<Crypto, Buf>>,
    pub writer: TableWriter<Crypto, Buf>,
    pub associations: Associations,
    pub keys: HandMadeSource,
    pub peers: Peers,
    pub io: Io,
    /// Outbound numbers of each tunnel: AH, ESP.
    pub grants: Vec<[Arc<Grant>; 2]>,
    rings: Rings,
}

/// Keys and SPIs of one direction of a tunnel.
#[derive(Clone, Copy)]
pub struct OneWay {
    seed: u8,
    spi: u32,
}

/// The algorithms of a tunnel, and the family of its outer addresses.
#[derive(Clone, Copy)]
pub struct Suite {
    pub family: Family,
    pub ah: MacAlgorithm,
    pub esp: AeadAlgorithm,
    pub esn: bool,
}

pub const GMAC: Suite = Suite {
    family: Family::V4,
    ah: MacAlgorithm::Aes128Gmac,
    esp: AeadAlgorithm::Aes128Gcm16,
    esn: true,
};
/// HMAC with extended sequence numbers, and GMAC without.
pub const HMAC_ESN: Suite = Suite { esn: true, ..HMAC };
pub const GMAC_SHORT: Suite = Suite { esn: false, ..GMAC };
pub const CMAC: Suite = Suite {
    ah: MacAlgorithm::AesCmac96,
    ..GMAC
};
pub const HMAC: Suite = Suite {
    family: Family::V4,
    ah: MacAlgorithm::HmacSha256_128,
    esp: AeadAlgorithm::Aes256Gcm16,
    esn: false,
};

/// Over IPv6.
pub const GMAC_V6: Suite = over_ipv6(GMAC);
pub const HMAC_V6: Suite = over_ipv6(HMAC);
pub const CMAC_V6: Suite = over_ipv6(CMAC);

const fn over_ipv6(suite: Suite) -> Suite {
    Suite {
        family: Family::V6,
        ..suite
    }
}

/// Key material that both ends of a joint make from its seed; AH has kind 3, ESP 5.
pub fn key(kind: u8, seed: u8, len: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(
        (0..len)
            .map(|i| (i as u8).wrapping_mul(kind).wrapping_add(seed.wrapping_mul(37)))
            .collect(),
    )
}

/// One machine's view of a tunnel.
pub struct Towards {
    pub kind: PeerKind,
    pub remote: IpAddr,
    pub remote_mac: MacAddr,
    pub suite: Suite,
    pub outbound: OneWay,
    pub inbound: OneWay,
    pub owner: WorkerId,
    pub shape: TunnelShape,
}

impl Machine {
    /// A machine with `workers` workers.
    pub fn new(number: u8, workers: u8, towards: Vec<Towards>) -> Self {
        Self::numbered(number, workers, (1, [u64::MAX; 2]), towards)
    }

    /// With the first sequence number of each tunnel, and those of AH and ESP at which it must stop.
    pub fn numbered(number: u8, workers: u8, numbers: (u64, [u64; 2]), towards: Vec<Towards>) -> Self {
        let capacity = Capacity {
            tvts: 4096,
            tunnels: 64,
            flows: FLOWS,
        };
        let (table, reader) = flow_table(8192, [1, 2]);
        let mut writer = TableWriter::new(table, workers, capacity);
        let profile = CellProfile::Standard;
        let engine = |id| Engine::new(WorkerId(id), crypto(), reader.clone(), capacity, profile);
        let engines: Vec<_> = (0..workers).map(engine).collect();
        let mac = mac_of(number);
        let rates: Vec<bool> = towards.iter().map(|to| to.shape.rate != Rate::None).collect();
        let (mut peers, mut grants) = (Vec::new(), Vec::new());
        let (mut associations, mut keys) = (Associations::default(), HandMadeSource::default());
        for (id, to) in (0..).map(PeerId).zip(towards) {
            let tunnel = TunnelSpec {
                peer: id,
                owner: to.owner,
                shape: to.shape,
            };
            let tunnel = writer.add_tunnel(&tunnel).expect("tunnel");
            let outbound = numbers.1.map(|limit| Grant::new(numbers.0, limit));
            for spec in sas(id, &to, workers, numbers.0 - 1, &outbound) {
                keys.push(SaEvent::Add(spec));
            }
            grants.push(outbound);
            peers.push(Peer {
                port: PortId(0),
                local: outer_of(number, to.suite.family),
                remote: to.remote,
                link: Some(Link {
                    source: mac,
                    destination: to.remote_mac,
                }),
                owner: to.owner,
                tunnel,
                kind: to.kind,
            });
        }
        let each = usize::from(workers);
        let rings = Rings {
            queues: (0..each).map(|_| VecDeque::new()).collect(),
            done: vec![0; each],
        };
        let io = Io::default();
        associations.handle(Now(1), &mut keys, &mut writer);
        assert!(keys.take_refused().is_empty(), "room");
        Self {
            mac,
            engines,
            writer,
            associations,
            keys,
            peers: Peers::new(peers, profile).with_rates(rates),
            io,
            grants,
            rings,
        }
    }

    /// The node as its own host, under the name that its control node has for it.
    pub fn add_own(&mut self, own: PeerId, owner: WorkerId) {
        let mut list: Vec<Peer> = self.peers.iter().map(|(_, peer)| peer.clone()).collect();
        // Hosts of the plan that have no machine.
        list.resize(usize::from(own.0), list[0].clone());
        list.push(Peer {
            remote: list[0].local,
            link: None,
            owner,
            kind: PeerKind::Own(HostPolicy {
                initiator: true,
                addresses: Vec::new(),
                inner_mtu: 1386,
                allowance: None,
                flows: None,
            }),
            ..list[0].clone()
        });
        self.peers = Peers::new(list, CellProfile::Standard);
        self.writer.add_own(own, owner);
    }

    /// Carries out what the table writer has queued, and what workers have handed each other.
    pub fn settle(&mut self, now: Now) {
        loop {
            self.writer.pump(&mut self.rings);
            let mut idle = true;
            for (at, engine) in self.engines.iter_mut().enumerate() {
                while let Some(command) = self.rings.queues[at].pop_front() {
                    engine.command(now, &self.peers, command, &mut self.io);
                    self.rings.done[at] += 1;
                    idle = false;
                }
            }
            for (to, item) in std::mem::take(&mut self.io.handed) {
                let mut items = Lane::new();
                items.push(item);
                self.engines[usize::from(to.0)].from_workers(now, &self.peers, &mut items, &mut self.io);
                idle = false;
            }
            if idle {
                return;
            }
        }
    }

    /// AIVTs whose entries are in place.
    pub fn installed(&mut self) -> Option<ain_dataplane::id::AivtId> {
        self.writer.poll_installed(&self.rings)
    }

    /// A burst of frames arrives at worker `rx`'s queue.
    pub fn receive(&mut self, now: Now, rx: usize, frames: impl IntoIterator<Item = Buf>) {
        self.receive_on(PortId(0), now, rx, frames);
    }

    /// The same at a port of several.
    pub fn receive_on(&mut self, port: PortId, now: Now, rx: usize, frames: impl IntoIterator<Item = Buf>) {
        let mut burst: Lane<Buf> = frames.into_iter().collect();
        self.engines[rx].from_wire(now, &self.peers, port, &mut burst, &mut self.io);
        self.settle(now);
    }

    /// A host sends datagrams of its own.
    pub fn send(&mut self, now: Now, datagrams: impl IntoIterator<Item = Buf>) {
        let mut burst: Lane<Buf> = datagrams.into_iter().collect();
        self.engines[0].from_device(now, &self.peers, PeerId(0), &mut burst, &mut self.io);
        self.settle(now);
    }

    /// Lets tunnels with a rate use their slots.
    pub fn slots(&mut self, now: Now) {
        for engine in &mut self.engines {
            engine.slots(now, &self.peers, &mut self.io);
        }
    }

    /// Packets lost for `why` on all workers.
    pub fn drops(&self, why: DropReason) -> u64 {
        self.counters().iter().map(|counters| counters.drops(why)).sum()
    }

    /// Every counter: drops by reason, then packets and bytes moved by kind.
    pub fn snapshot(&self) -> Vec<u64> {
        let counters = self.counters();
        let sum = |of: &dyn Fn(&Counters) -> u64| counters.iter().map(|counters| of(counters)).sum();
        let drops = DropReason::ALL.iter().map(|why| sum(&|c| c.drops(*why)));
        let moved = Traffic::ALL.iter().map(|what| sum(&|c| c.traffic(*what).0));
        let bytes = Traffic::ALL.iter().map(|what| sum(&|c| c.traffic(*what).1));
        drops.chain(moved).chain(bytes).collect()
    }

    /// Every reason with a count.
    pub fn all_drops(&self) -> Vec<(DropReason, u64)> {
        DropReason::ALL
            .iter()
            .map(|why| (*why, self.drops(*why)))
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    /// Counters of the workers.
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.engines.iter().map(Engine::counters).collect()
    }
}

/// Outer IPv4 address of a machine.
pub fn address_of(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

/// Outer address of a machine.
pub fn outer_of(number: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => address_of(number).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, number.into()).into(),
    }
}

/// Link-layer address of a machine.
pub fn mac_of(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number])
}

/// The first four associations of a tunnel.
fn sas(peer: PeerId, to: &Towards, workers: u8, resume_after: u64, grants: &[Arc<Grant>; 2]) -> [SaSpec; 4] {
    let Suite { ah, esp, esn, .. } = to.suite;
    let Numbers::Out { ah_ivs, .. } = Numbers::fresh_out(workers) else {
        unreachable!()
    };
    let inbound = || Numbers::In {
        highest: Arc::new(AtomicU64::new(resume_after)),
    };
    let outbound = |grant: &Arc<Grant>, ah_ivs| Numbers::Out {
        grant: Arc::clone(grant),
        ah_ivs,
    };
    let sa = |way: OneWay, is_ah: bool, numbers| SaSpec {
        peer,
        spi: Spi::new(way.spi + u32::from(!is_ah)).expect("SPI"),
        kind: if is_ah {
            SaKind::Ah {
                algorithm: ah,
                generation: Generation::HAND_MADE,
                spi_counter: Some(0),
            }
        } else {
            SaKind::Esp(esp)
        },
        key: if is_ah {
            key(3, way.seed, ah.key_bytes())
        } else {
            key(5, way.seed, esp.key_bytes())
        },
        esn,
        numbers,
        lifetime: Lifetime::NONE,
    };
    [
        sa(to.inbound, true, inbound()),
        sa(to.inbound, false, inbound()),
        sa(to.outbound, true, outbound(&grants[0], ah_ivs)),
        sa(to.outbound, false, outbound(&grants[1], Vec::new())),
    ]
}

/// What joins two machines: (kind of b as a sees it, kind of a as b sees it).
pub struct Joint {
    pub a: u8,
    pub b: u8,
    pub b_is: PeerKind,
    pub a_is: PeerKind,
    pub suite: Suite,
    pub seed: u8,
    pub shape: TunnelShape,
}

/// `joint` as machine `number` sees it, if it is at one of its ends.
pub fn towards(joint: &Joint, number: u8, owner: WorkerId) -> Option<Towards> {
    let there = OneWay {
        seed: joint.seed,
        spi: 0x1000 + 16 * u32::from(joint.seed),
    };
    let back = OneWay {
        seed: joint.seed + 1,
        spi: 0x9000 + 16 * u32::from(joint.seed),
    };
    let (remote, kind, outbound, inbound) = match number {
        n if n == joint.a => (joint.b, joint.b_is.clone(), there, back),
        n if n == joint.b => (joint.a, joint.a_is.clone(), back, there),
        _ => return None,
    };
    let (remote, remote_mac) = (outer_of(remote, joint.suite.family), mac_of(remote));
    Some(Towards {
        kind,
        remote,
        remote_mac,
        suite: joint.suite,
        outbound,
        inbound,
        owner,
        shape: joint.shape,
    })
}

/// A host policy.
pub fn host(initiator: bool, addresses: &[&str], inner_mtu: u16) -> PeerKind {
    let addresses = addresses.iter().map(|net| net.parse().expect("prefix")).collect();
    PeerKind::Host(HostPolicy {
        initiator,
        addresses,
        inner_mtu,
        allowance: None,
        flows: None,
    })
}

/// An IPv4 datagram of `len` bytes without DF, of a protocol that has no checksum.
pub fn datagram(source: Ipv4Addr, destination: Ipv4Addr, ttl: u8, len: usize, fill: u8) -> Vec<u8> {
    let mut bytes = vec![fill; len];
    let fields = Ipv4Fields {
        total_len: len as u16,
        id: 0x1234,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl,
        protocol: 253,
        source,
        destination,
    };
    ipv4::write_header(bytes.first_chunk_mut().expect("at least a header"), &fields);
    bytes
}

/// An IPv6 datagram of `len` bytes of a protocol that has no checksum.
pub fn datagram_v6((source, destination): (Ipv6Addr, Ipv6Addr), hop_limit: u8, len: usize, fill: u8) -> Vec<u8> {
    let payload = vec![fill; len - ipv6::HEADER_LEN];
    let [high, low] = (payload.len() as u16).to_be_bytes();
    let first = [0x60, 0, 0, 0, high, low, 253, hop_limit];
    [&first, &source.octets()[..], &destination.octets(), &payload].concat()
}
