//! Worker threads on in-memory ports: datagrams from one host's device to another's and back through an ESP+AH tunnel, where the
//! worker that has the port's only pair of queues is not the one that owns the tunnel.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ain_controlplane::action::{HopKeys, Link as TvtLink, Route};
use ain_controlplane::lifetime::Lifetime;
use ain_controlplane::sa::{Generation, Numbers, SaKind, SaSpec};
use ain_controlplane::table_writer::{TableWriter, TunnelShape, TunnelSpec};
use ain_crypto::{AeadAlgorithm, MacAlgorithm, Portable};
use ain_daemon::control_thread::AllReins;
use ain_dataplane::count::{Counters, Traffic};
use ain_dataplane::engine::{Capacity, Engine};
use ain_dataplane::entry::Activity;
use ain_dataplane::handoff::Mesh;
use ain_dataplane::id::{AivtId, FlowTag, Now, PeerId, PortId, Spi, WorkerId};
use ain_dataplane::packet::{BufPool, PacketBuf};
use ain_dataplane::peers::{Link, Peer, PeerKind, Peers};
use ain_dataplane::publish::published;
use ain_dataplane::table::flow_table;
use ain_dataplane::verdict::DropReason;
use ain_dataplane::wire::cell::CellProfile;
use ain_dataplane::wire::ethernet::MacAddr;
use ain_dataplane::wire::ipv4::{self, Ipv4Fields};
use ain_worker::idle::{Adaptive, IdlePolicy};
use ain_worker::mem::{MemPort, pair};
use ain_worker::port::{Burst, Port};
use ain_worker::run::{AnyPort, Clock, Device, Worker, reins};
use ain_worker::share::share;
use ain_worker::vec_buf::{VecBuf, VecPool};
use zeroize::Zeroizing;

const CAPACITY: Capacity = Capacity {
    tvts: 0,
    tunnels: 1,
    flows: 0,
};
const GATEWAY: PeerId = PeerId(0);
const DATAGRAMS: u16 = 20_000;
const IN_FLIGHT: u16 = 256;

/// One of the two ends: address, MAC, SPIs and keys follow from its number.
#[derive(Clone, Copy)]
struct End(u8);

impl End {
    fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, self.0)
    }

    fn mac(self) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, self.0])
    }

    fn spi(self, offset: u32) -> Spi {
        Spi::new(0x1000 * u32::from(self.0) + offset).expect("SPI")
    }

    fn key(self, offset: u32, bytes: usize) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(
            (0..bytes)
                .map(|i| (i as u8).wrapping_mul(7) ^ self.0 ^ offset as u8)
                .collect(),
        )
    }
}

/// The tunnel from `own` to `other`, owned by `owner`, one of `workers`; its slot.
fn tunnel(writer: &mut TableWriter<Portable, VecBuf>, (own, other): (End, End), owner: WorkerId, workers: u8) -> u32 {
    let (ah, esp) = (MacAlgorithm::Aes128Gmac, AeadAlgorithm::Aes128Gcm16);
    let slot = writer.add_tunnel(&TunnelSpec {
        peer: GATEWAY,
        owner,
        shape: TunnelShape::default(),
    });
    for (end, offset, numbers) in [
        (own, 0, Numbers::fresh_in()),
        (other, 0, Numbers::fresh_out(workers)),
        (own, 1, Numbers::fresh_in()),
        (other, 1, Numbers::fresh_out(workers)),
    ] {
        let generation = Generation::HAND_MADE;
        let (kind, bytes) = match offset {
            0 => (
                SaKind::Ah {
                    algorithm: ah,
                    generation,
                    spi_counter: None,
                },
                ah.key_bytes(),
            ),
            _ => (SaKind::Esp(esp), esp.key_bytes()),
        };
        let spec = SaSpec {
            peer: GATEWAY,
            spi: end.spi(offset),
            kind,
            key: end.key(offset, bytes),
            esn: true,
            numbers,
            lifetime: Lifetime::NONE,
        };
        writer.add_sa(&spec, None).expect("association");
    }
    slot.expect("tunnel")
}

/// One machine's running workers.
struct Running {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
    counters: Vec<Arc<Counters>>,
}

impl Running {
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .for_each(|thread| thread.join().expect("worker"));
    }
}

/// Starts a machine whose first worker has the wire's queues, the others being its guests, and whose last one owns tunnel and device.
fn start(own: End, other: End, workers: u8, wire: MemPort<VecBuf>, device: MemPort<VecBuf>, pool: &VecPool) -> Running {
    let owner = WorkerId(workers - 1);
    let (table, reader) = flow_table(16, [1, 2]);
    let mut writer = TableWriter::<Portable, VecBuf>::new(table, workers, CAPACITY);
    let slot = tunnel(&mut writer, (own, other), owner, workers);
    let peer = Peer {
        port: PortId(0),
        local: IpAddr::V4(own.address()),
        remote: IpAddr::V4(other.address()),
        link: Some(Link {
            source: own.mac(),
            destination: other.mac(),
        }),
        owner,
        tunnel: slot,
        kind: PeerKind::Gateway,
    };
    let (_publisher, readers) = published(Peers::new(vec![peer], CellProfile::Standard), usize::from(workers));
    let stop = Arc::new(AtomicBool::new(false));
    let (mut all, mut threads, mut counters) = (Vec::new(), Vec::new(), Vec::new());
    let (host, guests) = share(wire, usize::from(workers) - 1);
    let guests = guests.into_iter().map(|guest| Box::new(guest) as AnyPort<VecBuf>);
    let mut wires = std::iter::once(Box::new(host) as AnyPort<VecBuf>).chain(guests);
    let mut device = Some(device);
    for ((number, mesh), peers) in (0..workers)
        .zip(Mesh::new(usize::from(workers), 1024).into_ends())
        .zip(readers)
    {
        let engine = Engine::new(
            WorkerId(number),
            Portable::default(),
            reader.clone(),
            CAPACITY,
            CellProfile::Standard,
        );
        counters.push(engine.counters());
        let (rein, bit) = reins();
        all.push(rein);
        let owns = number + 1 == workers;
        let worker = Worker {
            engine,
            ports: vec![wires.next().expect("a port for each")],
            device: owns.then(|| Device {
                port: Box::new(device.take().expect("one owner")),
                gateway: GATEWAY,
            }),
            kernel: Vec::new(),
            pool: pool.clone(),
            peers,
            bit,
            mesh,
            control: thread::current(),
            idle: IdlePolicy::Adaptive(Adaptive::default()),
            clock: Clock::start(),
        };
        let stop = Arc::clone(&stop);
        threads.push(thread::spawn(move || worker.run(&stop)));
    }
    writer.pump(&mut AllReins(all));
    Running {
        stop,
        threads,
        counters,
    }
}

fn datagram(number: u16, pool: &mut VecPool) -> VecBuf {
    let len = 24 + usize::from(number) % 1300;
    let mut buf = pool.alloc().expect("buffer");
    buf.grow_back(len);
    let bytes = buf.data_mut();
    bytes.fill(number as u8);
    let fields = Ipv4Fields {
        total_len: len as u16,
        id: number,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol: 253,
        source: Ipv4Addr::new(10, 0, 0, 1),
        destination: Ipv4Addr::new(10, 0, 0, 2),
    };
    ipv4::write_header(bytes.first_chunk_mut().expect("header"), &fields);
    buf
}

#[test]
fn datagrams_cross_workers_that_hand_packets_over() {
    let mut pool = VecPool::new(16_384, 2048);
    let (a_wire, b_wire) = pair(4096);
    let (mut a_device, a_end) = pair(4096);
    let (mut b_device, b_end) = pair(4096);
    let sender = start(End(1), End(2), 1, a_wire, a_end, &pool);
    let receiver = start(End(2), End(1), 2, b_wire, b_end, &pool);
    let (mut sent, mut received, mut returned) = (0, 0, 0);
    let mut burst: Burst<VecBuf> = Burst::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while returned < DATAGRAMS {
        assert!(
            Instant::now() < deadline,
            "{received} of {DATAGRAMS} came, {returned} returned"
        );
        while sent < DATAGRAMS && sent - returned < IN_FLIGHT && !burst.is_full() {
            burst.push(datagram(sent, &mut pool));
            sent += 1;
        }
        a_device.tx(&mut burst);
        b_device.rx(&mut burst);
        for arrived in &burst {
            let expected = datagram(received, &mut pool);
            assert_eq!(arrived.data(), expected.data(), "whole and in order");
            received += 1;
        }
        // Back the same way: what the owner sends leaves through the queues of the other worker.
        b_device.tx(&mut burst);
        a_device.rx(&mut burst);
        for arrived in burst.drain(..) {
            let expected = datagram(returned, &mut pool);
            assert_eq!(arrived.data(), expected.data(), "whole and in order");
            returned += 1;
        }
        thread::yield_now();
    }
    let handed: u64 = receiver.counters.iter().map(|counters| counters.handovers()).sum();
    assert_eq!(
        handed,
        u64::from(DATAGRAMS),
        "the first worker gave every packet to the owner"
    );
    let owner = receiver.counters[1].traffic(Traffic::HostOut).0;
    assert_eq!(
        owner,
        2 * u64::from(DATAGRAMS),
        "each went to the device and back into the tunnel"
    );
    for counters in sender.counters.iter().chain(&receiver.counters) {
        let drops: Vec<_> = DropReason::ALL.iter().filter(|why| counters.drops(**why) > 0).collect();
        assert!(drops.is_empty(), "{drops:?}");
    }
    sender.end();
    receiver.end();
}

/// Where a port says which worker an SPI's packets come to, that worker owns the TVT; else workers take turns.
#[test]
fn owners_follow_the_ports_where_these_tell() {
    let capacity = Capacity {
        tvts: 8,
        tunnels: 1,
        flows: 0,
    };
    let told = |spi: Spi| (spi.value() < 0x8000).then_some(WorkerId(2));
    let (table, reader) = flow_table(64, [1, 2]);
    let mut writer = TableWriter::<Portable, VecBuf>::new(table, 3, capacity);
    tunnel(&mut writer, (End(1), End(2)), WorkerId(0), 3);
    writer.steer_by(Box::new(move |_, spi| told(spi)));
    let spis = [0x7000, 0x7001, 0x7002, 0x9000, 0x9001, 0x9002].map(|spi| Spi::new(spi).expect("SPI"));
    for (number, spi) in (1..).zip(spis) {
        let route = Route::Exit {
            upstream: TvtLink { peer: GATEWAY, spi }.under(Generation::HAND_MADE),
            keys: HopKeys {
                suite: 3,
                forward: [1; 16],
                backward: [2; 16],
            },
            flow: FlowTag([0; 16]),
        };
        writer
            .install(AivtId(number), route, &Activity::at(Now(1)))
            .expect("room");
    }
    let owners = spis.map(|spi| reader.lookup(GATEWAY, spi).expect("installed").worker.0);
    assert_eq!(owners, [2, 2, 2, 0, 1, 2]);
}
