//! Keys are replaced in a real packet path, with real files of numbers and scripted time.

use ain_controlplane::associations::Keying;
use ain_controlplane::limits::{GENERATION_GRACE, HAND_MADE_PATIENCE, SA_GRACE};
use ain_controlplane::table_writer::{TunnelShape, TunnelSpec, Workers};
use ain_crypto::{AeadAlgorithm, Portable};
use ain_dataplane::command::{Command, Event, Handoff};
use ain_dataplane::engine::{Capacity, Engine};
use ain_dataplane::id::{PortId, Spi, WorkerId};
use ain_dataplane::outside::Outside;
use ain_dataplane::packet::BufPool;
use ain_dataplane::peers::Peers;
use ain_dataplane::table::flow_table;
use ain_dataplane::wire::cell::CellProfile;
use ain_worker::vec_buf::{VecBuf, VecPool};

use super::*;
use crate::config::secret::KeyMaterial;

const PEER: PeerId = PeerId(0);
const CAPACITY: Capacity = Capacity {
    tvts: 8,
    tunnels: 1,
    flows: 8,
};

/// What an engine gives away, which is not looked at.
struct Away(VecPool);

impl BufPool for Away {
    type Buf = VecBuf;

    fn alloc(&mut self) -> Option<VecBuf> {
        self.0.alloc()
    }
}

impl Outside<Portable, VecBuf> for Away {
    fn transmit(&mut self, _port: PortId, _frame: VecBuf) {}

    fn hand_over(&mut self, _to: WorkerId, _item: Handoff<VecBuf>) -> Result<(), Handoff<VecBuf>> {
        Ok(())
    }

    fn report(&mut self, _event: Event<Portable, VecBuf>) -> Result<(), Event<Portable, VecBuf>> {
        Ok(())
    }

    fn deliver(&mut self, _datagram: VecBuf) {}
}

/// One worker, which does at once what it is told.
struct OneWorker {
    engine: Engine<Portable, VecBuf>,
    peers: Peers,
    away: Away,
    now: Now,
    done: u64,
}

impl Workers<Portable, VecBuf> for OneWorker {
    fn send(&mut self, _to: WorkerId, command: Command<Portable, VecBuf>) -> Result<(), Command<Portable, VecBuf>> {
        self.engine.command(self.now, &self.peers, command, &mut self.away);
        self.done += 1;
        Ok(())
    }

    fn done(&self, _worker: WorkerId) -> u64 {
        self.done
    }
}

fn key(seed: u8, at: u8) -> KeyMaterial {
    KeyMaterial::new((0..20).map(|byte| byte ^ seed ^ at << 6).collect())
}

/// Four keys and SPIs that follow from `seed`.
fn tunnel(seed: u8) -> Tunnel<HandMade> {
    let sa = |at: u8| Sa {
        spi: Spi::new(0x1000 + 8 * u32::from(seed) + u32::from(at)).unwrap(),
        key: key(seed, at),
    };
    Tunnel {
        local: [192, 0, 2, 1].into(),
        remote: [192, 0, 2, 2].into(),
        esn: true,
        ah: MacAlgorithm::Aes128Gmac,
        esp: AeadAlgorithm::Aes128Gcm16,
        keys: HandMade {
            ah_in: sa(0),
            ah_out: sa(1),
            esp_in: sa(2),
            esp_out: sa(3),
        },
        shape: TunnelShape::default(),
    }
}

struct Site {
    dir: tempfile::TempDir,
    durable: Durable,
    writer: TableWriter<Portable, VecBuf>,
    worker: OneWorker,
    associations: Associations,
    source: HandMadeSource,
    now: Now,
}

impl Site {
    /// With the keys of `seed`.
    fn new(seed: u8) -> Self {
        Self::start(tempfile::tempdir().unwrap(), &tunnel(seed)).unwrap()
    }

    fn start(dir: tempfile::TempDir, tunnel: &Tunnel<HandMade>) -> anyhow::Result<Self> {
        let mut durable = Durable::open(dir.path()).unwrap();
        let (table, reader) = flow_table(64, [1, 2]);
        let mut writer = TableWriter::new(table, 1, CAPACITY);
        let spec = TunnelSpec {
            peer: PEER,
            owner: WorkerId(0),
            shape: TunnelShape::default(),
        };
        writer.add_tunnel(&spec).unwrap();
        let worker = OneWorker {
            engine: Engine::new(
                WorkerId(0),
                Portable::default(),
                reader,
                CAPACITY,
                CellProfile::Standard,
            ),
            peers: Peers::new(Vec::new(), CellProfile::Standard),
            away: Away(VecPool::new(4, 2048)),
            now: Now(0),
            done: 0,
        };
        let place = &mut Place {
            workers: 1,
            writer: &mut writer,
            durable: &mut durable,
        };
        let tunnels = [(PEER, tunnel, &tunnel.keys)].into_iter();
        let (associations, source) = install(Now(0), tunnels, place)?;
        let mut site = Self {
            dir,
            durable,
            writer,
            worker,
            associations,
            source,
            now: Now(0),
        };
        site.run_for(0);
        Ok(site)
    }

    /// The process is killed, and starts again with these keys.
    fn restart(self, tunnel: &Tunnel<HandMade>) -> anyhow::Result<Self> {
        let Self { dir, durable, .. } = self;
        drop(durable);
        Self::start(dir, tunnel)
    }

    fn replace(&mut self, seed: u8) -> Result<(), String> {
        self.replace_by(tunnel(seed))
    }

    fn replace_by(&mut self, tunnel: Tunnel<HandMade>) -> Result<(), String> {
        let keys = [NewKeys {
            peer: PEER,
            tunnel,
            protocols: PROTOCOLS.to_vec(),
        }];
        let place = &mut Place {
            workers: 1,
            writer: &mut self.writer,
            durable: &mut self.durable,
        };
        let sources = (&mut self.source, &self.associations);
        replace(self.now, &keys, sources, place).map_err(|obstacle| obstacle.to_string())?;
        self.run_for(0);
        Ok(())
    }

    /// Rounds of a control thread, as many as it takes.
    fn run_for(&mut self, ns: u64) {
        let until = self.now.plus(ns);
        loop {
            self.source.handle_timeout(self.now);
            self.associations.handle(self.now, &mut self.source, &mut self.writer);
            while let Some(keying) = self.associations.poll_keying() {
                if let Keying::Over(peer, generation) = keying {
                    self.durable.end_generation((peer, generation));
                }
            }
            self.worker.now = self.now;
            self.writer.pump(&mut self.worker);
            self.durable.write_accepted().unwrap();
            self.durable.top_up().unwrap();
            if self.now >= until {
                return;
            }
            self.now = Now(until.0.min(self.now.plus(Now::SECOND).0));
        }
    }

    /// SPIs in the packet path.
    fn spis(&self, direction: SaDirection, protocol: SaProtocol) -> Vec<u32> {
        let all = self.associations.iter().map(|(name, _)| name);
        let like = all.filter(|name| (name.direction, name.protocol) == (direction, protocol));
        like.map(|name| name.spi.value()).collect()
    }

    /// A packet comes under an inbound association of the keys of `seed`.
    fn hear(&self, seed: u8, protocol: SaProtocol) {
        let spi = tunnel(seed).keys.pair(protocol)[0].spi;
        let name = SaName {
            peer: PEER,
            direction: SaDirection::In,
            protocol,
            spi,
        };
        let (_, used) = self.associations.iter().find(|(held, _)| *held == name).unwrap();
        used.count(100, used.highest() + 1);
    }
}

fn spi(seed: u8, at: u32) -> u32 {
    0x1000 + 8 * u32::from(seed) + at
}

#[test]
fn line_1_new_keys_are_good_at_once_and_used_when_the_other_end_is_ready() {
    let mut site = Site::new(0);
    site.replace(1).unwrap();
    assert_eq!(site.spis(SaDirection::In, SaProtocol::Ah), [spi(0, 0), spi(1, 0)]);
    assert_eq!(site.spis(SaDirection::Out, SaProtocol::Ah), [spi(0, 1)]);
    site.run_for(10 * Now::SECOND);
    let waits = site.replace(2).unwrap_err();
    assert!(waits.ends_with("try again in 35 s"), "{waits}");
    site.hear(1, SaProtocol::Ah);
    site.run_for(0);
    assert_eq!(site.spis(SaDirection::Out, SaProtocol::Ah), [spi(0, 1), spi(1, 1)]);
    assert_eq!(site.spis(SaDirection::Out, SaProtocol::Esp), [spi(0, 3)], "by itself");
    site.run_for(HAND_MADE_PATIENCE);
    assert_eq!(site.spis(SaDirection::Out, SaProtocol::Esp), [spi(0, 3), spi(1, 3)]);
    site.run_for(SA_GRACE - 15 * Now::SECOND);
    let accepted = site.spis(SaDirection::In, SaProtocol::Esp);
    assert_eq!(
        accepted,
        [spi(0, 2), spi(1, 2)],
        "an idle end that was told last uses the old one"
    );
    site.run_for(15 * Now::SECOND);
    for (at, (protocol, direction)) in (0..).zip(
        PROTOCOLS
            .into_iter()
            .flat_map(|protocol| [SaDirection::In, SaDirection::Out].map(|direction| (protocol, direction))),
    ) {
        assert_eq!(site.spis(direction, protocol), [spi(1, at)], "the old ones are gone");
    }
    assert!(site.source.take_expired().is_empty() && site.source.take_refused().is_empty());
    assert!(site.associations.is_up(PEER));
}

#[test]
fn line_1_keys_that_come_back_are_refused_until_nothing_has_them_and_repeat_no_number() {
    let mut site = Site::new(0);
    (0..100).for_each(|_| site.hear(0, SaProtocol::Esp));
    site.replace(1).unwrap();
    PROTOCOLS.into_iter().for_each(|protocol| site.hear(1, protocol));
    site.run_for(Now::SECOND);
    assert!(
        site.replace(0)
            .unwrap_err()
            .ends_with("the SPI is in use with this peer, or was until lately; take another one")
    );
    site.run_for(SA_GRACE);
    let refused = site.replace(0).unwrap_err();
    assert!(
        refused.contains("Inbound Ah: the key is in use"),
        "CREATEs still name the pair: {refused}"
    );
    site.run_for(GENERATION_GRACE + Now::SECOND);
    site.replace(0).unwrap();
    let esp_in = site.associations.iter().find(|(name, _)| name.spi.value() == spi(0, 2));
    assert_eq!(esp_in.unwrap().1.highest(), 100, "what was accepted stays refused");
    site.run_for(HAND_MADE_PATIENCE);
    let esp_out = site.associations.iter().find(|(name, _)| name.spi.value() == spi(0, 3));
    let used = esp_out.unwrap().1.highest();
    assert!(
        used >= crate::state::BLOCK,
        "{used}: behind all that was reserved before"
    );
}

#[test]
fn line_1_a_killed_process_goes_on_with_the_new_keys() {
    let mut site = Site::new(0);
    site.replace(1).unwrap();
    (0..7).for_each(|_| site.hear(1, SaProtocol::Esp));
    site.run_for(0);
    let site = site.restart(&tunnel(1)).unwrap();
    let find = |at| {
        site.associations
            .iter()
            .find(move |(name, _)| name.spi.value() == spi(1, at))
            .unwrap()
            .1
    };
    assert_eq!(find(2).highest(), 7);
    assert!(find(3).highest() >= crate::state::BLOCK);
}

#[test]
fn line_1_what_cannot_be_taken_changes_nothing() {
    let mut site = Site::new(0);
    // Numbers that cannot be saved.
    std::fs::create_dir(site.dir.path().join("numbers.new")).unwrap();
    assert!(site.replace(1).is_err());
    std::fs::remove_dir(site.dir.path().join("numbers.new")).unwrap();
    assert_eq!(site.associations.iter().count(), 4);
    site.replace(1).unwrap();
    assert_eq!(site.associations.iter().count(), 6);
}

/// New keys, but the one at `to` is the one that was at `from`; AH in and out, ESP in and out.
fn moved(from: u8, to: usize) -> Tunnel<HandMade> {
    let mut new = tunnel(2);
    let HandMade {
        ah_in,
        ah_out,
        esp_in,
        esp_out,
    } = &mut new.keys;
    [ah_in, ah_out, esp_in, esp_out][to].key = key(0, from);
    new
}

#[test]
fn line_1_a_key_that_comes_back_elsewhere_is_refused() {
    let mut site = Site::new(0);
    let refused = |site: &mut Site| {
        for (from, to, which) in [
            (3, 1, "Outbound Ah"),
            (1, 3, "Outbound Esp"),
            (2, 3, "Outbound Esp"),
            (0, 1, "Outbound Ah"),
            (0, 0, "Inbound Ah"),
        ] {
            let refused = site.replace_by(moved(from, to)).unwrap_err();
            assert_eq!(refused, format!("{which}: {}", DurableError::Elsewhere), "{from} {to}");
        }
    };
    refused(&mut site);
    site.replace(1).unwrap();
    site.run_for(HAND_MADE_PATIENCE + SA_GRACE + GENERATION_GRACE + 2 * Now::SECOND);
    refused(&mut site);
    site.replace_by(moved(3, 3)).expect("where it was");
    assert!(site.restart(&moved(3, 1)).is_err());
}
