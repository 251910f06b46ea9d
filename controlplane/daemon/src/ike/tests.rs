//! Line 2: from a plugin's socket to the packet path's tables.

use std::thread;
use std::time::{Duration, Instant};

use ain_controlplane::associations::{Associations, Keying};
use ain_controlplane::sa::SaDirection;
use ain_controlplane::table_writer::{TableWriter, TunnelShape, TunnelSpec};
use ain_crypto::Portable;
use ain_dataplane::engine::Capacity;
use ain_dataplane::id::WorkerId;
use ain_dataplane::table::flow_table;
use ain_worker::vec_buf::VecBuf;
use rand::SeedableRng;

use super::message::{Direction, Name, Protocol};
use super::server::tests::Client;
use super::source::tests::{HERE, PEER, THERE, add, hello, tunnel};
use super::*;

const CAPACITY: Capacity = Capacity {
    tvts: 8,
    tunnels: 1,
    flows: 8,
};

/// A node's control thread as far as charon is concerned, and a plugin that connects to it.
struct Site {
    _dir: tempfile::TempDir,
    sources: Sources,
    associations: Associations,
    writer: TableWriter<Portable, VecBuf>,
    client: Client,
    next_id: u32,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ike.sock");
        let (table, _reader) = flow_table(64, [1, 2]);
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
            client: Client::connect(&path),
            next_id: 0,
        }
    }

    /// The answer to `request` at `now`: what follows the header.
    fn ask(&mut self, now: Now, request: &Request) -> Vec<u8> {
        self.next_id += 1;
        self.client.send(&request.encode(self.next_id));
        let begun = Instant::now();
        loop {
            self.associations.handle(now, &mut self.sources, &mut self.writer);
            let ike = self.sources.ike.as_mut().unwrap();
            ike.reply();
            if ike.step(now, |peer, spi| self.writer.is_free(peer, spi)) {
                self.associations.handle(now, &mut self.sources, &mut self.writer);
                self.sources.ike.as_mut().unwrap().reply();
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "the request is lost");
            thread::park_timeout(Duration::from_millis(20));
        }
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
