//! Line 2: from a plugin's socket to the packet path's tables.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ain_controlplane::associations::{Associations, Keying};
use ain_controlplane::sa::SaDirection;
use ain_controlplane::table_writer::{TableWriter, TunnelShape, TunnelSpec};
use ain_crypto::Portable;
use ain_dataplane::engine::{Capacity, Engine};
use ain_dataplane::handoff::Mesh;
use ain_dataplane::id::WorkerId;
use ain_dataplane::peers::Peers;
use ain_dataplane::publish::published;
use ain_dataplane::table::{Reader, flow_table};
use ain_dataplane::wire::cell::CellProfile;
use ain_worker::idle::{Adaptive, IdlePolicy};
use ain_worker::run::{Clock, Reins, Worker, reins};
use ain_worker::vec_buf::{VecBuf, VecPool};
use rand::SeedableRng;

use super::message::{Direction, Name, Protocol};
use super::server::tests::Client;
use super::source::tests::{HERE, PEER, THERE, add, hello, tunnel};
use super::*;
use crate::control_thread::AllReins;

const CAPACITY: Capacity = Capacity {
    tvts: 8,
    tunnels: 1,
    flows: 8,
};

/// A node's control thread as far as charon is concerned, its worker, and a plugin that connects to it.
struct Site {
    _dir: tempfile::TempDir,
    sources: Sources,
    associations: Associations,
    writer: TableWriter<Portable, VecBuf>,
    reins: AllReins<Portable, VecBuf>,
    worker: Option<Worker<Portable, VecPool>>,
    running: Option<thread::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    client: Client,
    next_id: u32,
}

fn worker(table: Reader) -> (Reins<Portable, VecBuf>, Worker<Portable, VecPool>) {
    let profile = CellProfile::Standard;
    let (_publisher, mut peers) = published(Peers::new(Vec::new(), profile), 1);
    let (reins, bit) = reins();
    let worker = Worker {
        engine: Engine::new(WorkerId(0), Portable::default(), table, CAPACITY, profile),
        ports: Vec::new(),
        device: None,
        kernel: Vec::new(),
        pool: VecPool::new(1, 1500),
        peers: peers.remove(0),
        bit,
        mesh: Mesh::new(1, 2).into_ends().remove(0),
        control: thread::current(),
        idle: IdlePolicy::Adaptive(Adaptive::default()),
        clock: Clock::start(),
    };
    (reins, worker)
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.running
            .take()
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
    }
}

impl Site {
    fn new() -> Self {
        let mut site = Self::waiting();
        site.start_worker();
        site
    }

    /// Its worker does nothing yet.
    fn waiting() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ike.sock");
        let (table, reader) = flow_table(64, [1, 2]);
        let (reins, worker) = worker(reader);
        let mut writer = TableWriter::new(table, 1, CAPACITY);
        let spec = TunnelSpec {
            peer: PEER,
            owner: WorkerId(0),
            shape: TunnelShape::default(),
        };
        writer.add_tunnel(&spec).unwrap();
        let rng = StdRng::seed_from_u64(1);
        let ike = Ike::start(&path, (vec![tunnel()], 1), thread::current(), rng).unwrap();
        Self {
            _dir: dir,
            sources: Sources {
                ike: Some(ike),
                ..Sources::default()
            },
            associations: Associations::default(),
            writer,
            reins: AllReins(vec![reins]),
            worker: Some(worker),
            running: None,
            stop: Arc::default(),
            client: Client::connect(&path),
            next_id: 0,
        }
    }

    fn start_worker(&mut self) {
        let (worker, stop) = (self.worker.take().unwrap(), Arc::clone(&self.stop));
        self.running = Some(thread::spawn(move || worker.run(&stop)));
    }

    /// What the control thread does; whether charon has asked for something.
    fn round(&mut self, now: Now) -> bool {
        let ike = self.sources.ike.as_mut().unwrap();
        let asked = ike.step(now, |peer, spi| self.writer.is_free(peer, spi));
        self.associations.handle(now, &mut self.sources, &mut self.writer);
        self.writer.pump(&mut self.reins);
        self.sources.ike.as_mut().unwrap().reply();
        asked
    }

    fn is_installing(&self) -> bool {
        self.sources.ike.as_ref().unwrap().source().is_installing()
    }

    fn send(&mut self, now: Now, request: &Request) {
        self.next_id += 1;
        self.client.send(&request.encode(self.next_id));
        self.until(now, Self::round);
    }

    /// Rounds until `done`.
    fn until(&mut self, now: Now, done: impl Fn(&mut Self, Now) -> bool) {
        let begun = Instant::now();
        while !done(self, now) {
            assert!(begun.elapsed() < Duration::from_secs(20), "the request is lost");
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// The answer to `request` at `now`: what follows the header.
    fn ask(&mut self, now: Now, request: &Request) -> Vec<u8> {
        self.send(now, request);
        self.answer(now)
    }

    fn answer(&mut self, now: Now) -> Vec<u8> {
        self.until(now, |site, now| {
            site.round(now);
            !site.is_installing()
        });
        let answer = self.client.receive();
        assert_eq!(answer[1], 128, "{}", String::from_utf8_lossy(&answer[8..]));
        assert_eq!(answer[4..8], self.next_id.to_be_bytes());
        answer[8..].to_vec()
    }

    fn inbound(&mut self, now: Now, protocol: Protocol) -> Name {
        let request = Request::Spi {
            protocol,
            source: THERE.parse().unwrap(),
            destination: HERE.parse().unwrap(),
        };
        let spi = u32::from_be_bytes(self.ask(now, &request).try_into().unwrap());
        let add = add(Direction::In, protocol, spi);
        let name = add.name;
        self.ask(now, &Request::Add(Box::new(add)));
        name
    }

    /// All four, outbound under `spi`.
    fn come_up(&mut self, now: Now, spi: u32) -> [Name; 2] {
        [Protocol::Esp, Protocol::Ah].map(|protocol| {
            let name = self.inbound(now, protocol);
            self.ask(now, &Request::Add(Box::new(add(Direction::Out, protocol, spi))));
            name
        })
    }

    fn news(&mut self) -> Vec<&'static str> {
        std::iter::from_fn(|| self.associations.poll_keying())
            .map(|keying| match keying {
                Keying::Begun(..) => "begun",
                Keying::Over(..) => "over",
                Keying::Outlived(..) => "outlived",
                Keying::Up(_) => "up",
                Keying::Down(_) => "down",
            })
            .collect()
    }
}

#[test]
fn line_2_a_tunnel_comes_up_rekeys_and_goes() {
    let mut site = Site::new();
    let at = |seconds: u64| Now(seconds * Now::SECOND);
    assert_eq!(site.ask(at(1), &hello(1)).len(), 8);
    let first = site.come_up(at(1), 0x1000);
    assert!(site.associations.is_up(PEER));
    assert_eq!(site.news(), ["begun", "up"]);
    let second = site.come_up(at(2), 0x1001);
    assert_eq!(site.news(), ["begun"], "never down");
    let inbound = |site: &Site| {
        let names = site.associations.iter().map(|(name, _)| name.direction);
        names.filter(|direction| *direction == SaDirection::In).count()
    };
    assert_eq!(inbound(&site), 4, "the old ones are kept until charon deletes them");
    first
        .iter()
        .for_each(|name| drop(site.ask(at(3), &Request::Delete(*name))));
    assert_eq!(inbound(&site), 2);
    assert!(site.associations.is_up(PEER));
    // The soft limit of time, as the test's ADD has it, is at 50 seconds: charon is told.
    site.associations.handle(at(53), &mut site.sources, &mut site.writer);
    site.sources.ike.as_mut().unwrap().reply();
    let told = site.client.receive();
    assert_eq!((told[1], *told.last().unwrap()), (130, 0));
    let rest = site.sources.ike.as_ref().unwrap().source().counts();
    assert_eq!((rest.installed, rest.expired_soft, rest.refused), (8, 4, 0));
    (0..3).for_each(|_| drop(site.client.receive()));
    second
        .iter()
        .for_each(|name| drop(site.ask(at(54), &Request::Delete(*name))));
    assert!(!site.associations.is_up(PEER));
    assert!(site.news().contains(&"down"));
}

#[test]
fn line_2_charon_is_answered_when_the_worker_has_the_association() {
    let mut site = Site::waiting();
    site.ask(Now(1), &hello(1));
    let request = Request::Spi {
        protocol: Protocol::Esp,
        source: THERE.parse().unwrap(),
        destination: HERE.parse().unwrap(),
    };
    let spi = u32::from_be_bytes(site.ask(Now(1), &request).try_into().unwrap());
    site.send(Now(1), &Request::Add(Box::new(add(Direction::In, Protocol::Esp, spi))));
    site.round(Now(1));
    assert!(site.is_installing(), "it does nothing");
    site.sources.ike.as_mut().unwrap().every_second(Now(1), 1);
    site.round(Now(1));
    assert!(site.is_installing(), "for a second");
    site.sources.ike.as_mut().unwrap().every_second(Now(1), 1);
    assert!(
        site.answer(Now(1)).is_empty(),
        "a worker that stalls holds nobody up for long"
    );
    site.send(
        Now(1),
        &Request::Add(Box::new(add(Direction::Out, Protocol::Esp, 0x1000))),
    );
    site.round(Now(1));
    assert!(site.is_installing());
    site.start_worker();
    assert!(site.answer(Now(1)).is_empty());
}

#[test]
fn line_2_a_new_charon_takes_over_without_a_gap() {
    let mut site = Site::new();
    let at = |seconds: u64| Now(seconds * Now::SECOND);
    site.ask(at(1), &hello(1));
    site.come_up(at(1), 0x1000);
    site.client = {
        let path = site._dir.path().join("ike.sock");
        Client::connect(&path)
    };
    // The old connection's end comes first.
    let begun = Instant::now();
    while site.sources.ike.as_ref().unwrap().is_connected() {
        site.sources.ike.as_mut().unwrap().step(at(2), |_, _| true);
        assert!(begun.elapsed() < Duration::from_secs(20));
        thread::park_timeout(Duration::from_millis(20));
    }
    site.ask(at(2), &hello(2));
    site.come_up(at(3), 0x2000);
    site.sources.ike.as_mut().unwrap().every_second(at(62), 1);
    site.associations.handle(at(62), &mut site.sources, &mut site.writer);
    assert!(site.associations.is_up(PEER));
    assert_eq!(
        site.associations.iter().count(),
        4,
        "what the charon before had made is gone"
    );
    assert!(!site.news().contains(&"down"));
}
