//! A node between two neighbours that the test plays, against a model of the life of AIVTs that a page holds: random events go to
//! both, and after each the node must have said, installed and removed exactly what the model foretold.

mod net;

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ain_controlplane::action::{Action, Route};
use ain_controlplane::limits::CREATE_TIMEOUT_RELAY;
use ain_controlplane::node::Node;
use ain_controlplane::signal::create::{FlowToken, HopSpec, Terms, build};
use ain_controlplane::signal::destroy::Reason;
use ain_controlplane::signal::frame::{Frame, Message, Signal};
use ain_controlplane::signal::suite::x25519::KEM;
use ain_dataplane::entry::{Activity, Touch};
use ain_dataplane::id::{AivtId, Now, PeerId};
use net::{AH_SPI, INACTIVITY_S, MS, Plan, WALL, id, onion_key};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// Node 0, which asks, and node 2, which is asked, as node 1 knows them.
const ASKER: PeerId = PeerId(0);
const ASKED: PeerId = PeerId(1);

/// What the node does for all to see. SPIs and ids that the node draws are learnt, not foretold.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Deed {
    Create {
        to: PeerId,
    },
    Created {
        to: PeerId,
        spi: u32,
        create: u32,
    },
    Destroy {
        to: PeerId,
        spi: u32,
        create: u32,
        reason: u8,
    },
    InstallRelay {
        upstream: u32,
        downstream: u32,
    },
    InstallExit {
        upstream: u32,
    },
    Remove {
        upstream: u32,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Asked,
    Installing,
    Standing,
}

/// An AIVT in the model; its name is the upstream SPI.
#[derive(Clone, Debug)]
struct Expected {
    create: u32,
    /// SPI and message id of the CREATE that went on.
    downstream: Option<(u32, u32)>,
    stage: Stage,
    since: Now,
    aivt: Option<AivtId>,
    activity: Option<Arc<Activity>>,
}

impl Expected {
    fn deadline(&self) -> Now {
        match self.stage {
            Stage::Standing => self.since.plus(u64::from(INACTIVITY_S) * Now::SECOND),
            Stage::Asked | Stage::Installing => self.since.plus(CREATE_TIMEOUT_RELAY),
        }
    }
}

struct World {
    node: Node,
    now: Now,
    rng: ChaCha12Rng,
    aivts: BTreeMap<u32, Expected>,
    expected: Vec<Deed>,
    done: Vec<Deed>,
    /// Neighbours that say nothing.
    silent: HashSet<PeerId>,
    /// Requests already noted: the node repeats them to a silent neighbour.
    heard: HashSet<(PeerId, u32)>,
    next_spi: u32,
    next_id: u32,
}

fn frame(peer: PeerId) -> Frame {
    let address = if peer == ASKER { 1 } else { 3 };
    Frame::new((Ipv4Addr::new(192, 0, 2, address), Ipv4Addr::new(192, 0, 2, 2)), 1408)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let config = Plan::chain(3).config(1, 0);
        let node_rng = Box::new(ChaCha12Rng::seed_from_u64(rng.random()));
        let mut world = Self {
            node: Node::new(config, Now(0), node_rng).unwrap(),
            now: Now(0),
            rng,
            aivts: BTreeMap::new(),
            expected: Vec::new(),
            done: Vec::new(),
            silent: HashSet::new(),
            heard: HashSet::new(),
            next_spi: 1000,
            next_id: 0,
        };
        for keying in Plan::chain(3).keys(1, &std::collections::HashMap::new()) {
            world.node.handle_keying(Now(0), keying);
        }
        world.carry_out();
        world.keep_alive();
        world
    }

    fn wall(&self) -> u64 {
        WALL + self.now.0 / Now::SECOND
    }

    /// `from` says `message`; the message id.
    fn say(&mut self, from: PeerId, spi: u32, message: Message) -> u32 {
        self.next_id += 1;
        self.say_as(from, spi, self.next_id, message)
    }

    fn say_as(&mut self, from: PeerId, spi: u32, message_id: u32, message: Message) -> u32 {
        let datagram = frame(from)
            .encode(
                &Signal {
                    spi,
                    message_id,
                    message,
                },
                &mut self.rng,
            )
            .unwrap();
        self.node.handle_signal(self.now, from, &datagram);
        self.carry_out();
        message_id
    }

    fn keep_alive(&mut self) {
        for peer in [ASKER, ASKED] {
            if !self.silent.contains(&peer) {
                self.say(peer, 0, Message::Keepalive);
            }
        }
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.node.poll_action() {
            match action {
                Action::Send { peer, datagram } => self.listen(peer, &datagram),
                Action::ReserveSpis {
                    peer,
                    generation,
                    up_to,
                } => self.node.handle_spis_reserved(peer, generation, up_to),
                Action::Open(opening) => self.node.handle_opened(self.now, self.wall(), opening.open()),
                Action::Install { aivt, route, activity } => self.install(aivt, &route, activity),
                Action::Remove { aivt } => {
                    let named = self.aivts.iter().find(|(_, expected)| expected.aivt == Some(aivt));
                    self.done.push(Deed::Remove {
                        upstream: *named.expect("it was installed").0,
                    });
                }
                _ => panic!("neither flows nor bindings here"),
            }
        }
    }

    fn install(&mut self, aivt: AivtId, route: &Route, activity: Arc<Activity>) {
        let (upstream, deed) = match route {
            Route::Intermediate {
                upstream, downstream, ..
            } => {
                let (upstream, downstream) = (upstream.link.spi.value(), downstream.link.spi.value());
                (upstream, Deed::InstallRelay { upstream, downstream })
            }
            Route::Exit { upstream, .. } => {
                let upstream = upstream.link.spi.value();
                (upstream, Deed::InstallExit { upstream })
            }
            Route::Entrance { .. } => panic!("no flows here"),
        };
        self.done.push(deed);
        let expected = self.aivts.get_mut(&upstream).expect("the model has it");
        expected.aivt = Some(aivt);
        expected.activity = Some(activity);
    }

    /// A neighbour hears the node: ACKs, and learns.
    fn listen(&mut self, peer: PeerId, datagram: &[u8]) {
        let signal = frame(peer)
            .decode(datagram)
            .expect("the node writes what its neighbour reads");
        if !signal.message.is_request() {
            return;
        }
        if !self.silent.contains(&peer) {
            self.say_as(peer, signal.spi, signal.message_id, Message::Ack);
        }
        if !self.heard.insert((peer, signal.message_id)) {
            return;
        }
        let (to, spi) = (peer, signal.spi);
        self.done.push(match signal.message {
            Message::Create { .. } => {
                let waiting = self.aivts.values_mut().find(|aivt| aivt.downstream == Some((0, 0)));
                waiting.expect("the model waits for it").downstream = Some((spi, signal.message_id));
                Deed::Create { to }
            }
            Message::Created { create, .. } => Deed::Created { to, spi, create },
            Message::Destroy { create, reason } => Deed::Destroy {
                to,
                spi,
                create,
                reason: reason as u8,
            },
            _ => unreachable!("no request"),
        });
    }

    fn check(&mut self, event: &str) {
        self.expected.sort();
        self.done.sort();
        assert_eq!(self.done, self.expected, "after {event} at {:?}", self.now);
        self.expected.clear();
        self.done.clear();
        let snapshot = self.node.snapshot();
        let count = |exit: bool, standing: bool| {
            let matches =
                |aivt: &&Expected| aivt.downstream.is_none() == exit && (aivt.stage == Stage::Standing) == standing;
            self.aivts.values().filter(matches).count()
        };
        assert_eq!(
            snapshot.creating,
            [0, count(false, false), count(true, false)],
            "after {event}"
        );
        assert_eq!(
            snapshot.standing,
            [0, count(false, true), count(true, true)],
            "after {event}"
        );
        assert_eq!(
            snapshot.tvts,
            self.aivts
                .values()
                .map(|aivt| 1 + usize::from(aivt.downstream.is_some()))
                .sum()
        );
    }

    /// The model's AIVT `name` ends; all but `teller` must be told.
    fn end(&mut self, name: u32, reason: Reason, teller: Option<PeerId>) {
        let aivt = self.aivts[&name].clone();
        let reason = reason as u8;
        if aivt.stage != Stage::Asked {
            self.expected.push(Deed::Remove { upstream: name });
        }
        if teller != Some(ASKER) {
            let create = if aivt.stage == Stage::Standing { 0 } else { aivt.create };
            self.expected.push(Deed::Destroy {
                to: ASKER,
                spi: name,
                create,
                reason,
            });
        }
        if let Some((spi, _)) = aivt.downstream.filter(|_| teller != Some(ASKED)) {
            self.expected.push(Deed::Destroy {
                to: ASKED,
                spi,
                create: 0,
                reason,
            });
        }
    }

    fn onion(&mut self, relay: bool, created: u64) -> Vec<u8> {
        self.onion_over(if relay { &[1, 2] } else { &[1] }, created)
    }

    fn onion_over(&mut self, path: &[usize], created: u64) -> Vec<u8> {
        let keys: Vec<_> = path.iter().map(|node| onion_key(*node).public().to_vec()).collect();
        let created = u32::try_from(created).unwrap();
        let hop = |(node, onion_key): (&usize, _)| HopSpec {
            id: id(*node),
            onion_key,
            created,
            ticket: None,
        };
        let hops: Vec<_> = path
            .iter()
            .zip(keys.iter().map(|key| key.as_slice()))
            .map(hop)
            .collect();
        let terms = Terms {
            profile: 0,
            expires: 0,
            flow_token: FlowToken::random(&mut self.rng),
        };
        build(&KEM, &hops, &terms, &mut self.rng).unwrap().0
    }

    fn create(&mut self, relay: bool) -> (u32, Vec<u8>) {
        let onion = self.onion(relay, self.wall());
        self.next_spi += 1;
        let name = self.next_spi;
        let create = self.next_id + 1;
        let stage = if relay { Stage::Asked } else { Stage::Installing };
        let downstream = relay.then_some((0, 0));
        self.aivts.insert(
            name,
            Expected {
                create,
                downstream,
                stage,
                since: self.now,
                aivt: None,
                activity: None,
            },
        );
        self.expected.push(match relay {
            true => Deed::Create { to: ASKED },
            false => Deed::InstallExit { upstream: name },
        });
        let sent = onion.clone();
        self.say(ASKER, name, Message::Create { ah: AH_SPI, onion });
        (name, sent)
    }

    fn refused(&mut self, spi: u32, onion: Vec<u8>, reason: Reason) {
        let create = self.next_id + 1;
        self.expected.push(Deed::Destroy {
            to: ASKER,
            spi,
            create,
            reason: reason as u8,
        });
        self.say(ASKER, spi, Message::Create { ah: AH_SPI, onion });
    }

    fn pick(&mut self, wanted: impl Fn(&Expected) -> bool) -> Option<u32> {
        let names: Vec<u32> = self
            .aivts
            .iter()
            .filter(|(_, aivt)| wanted(aivt))
            .map(|(name, _)| *name)
            .collect();
        (!names.is_empty()).then(|| names[self.rng.random_range(0..names.len())])
    }

    fn installed(&mut self, name: u32, fails: bool) {
        let (aivt, create) = (self.aivts[&name].aivt.unwrap(), self.aivts[&name].create);
        if fails {
            self.end(name, Reason::ResourceLimit, None);
            self.node.handle_install_failed(self.now, aivt);
            self.carry_out();
            self.aivts.remove(&name);
        } else {
            self.expected.push(Deed::Created {
                to: ASKER,
                spi: name,
                create,
            });
            self.node.handle_installed(self.now, aivt);
            self.carry_out();
            let expected = self.aivts.get_mut(&name).unwrap();
            (expected.stage, expected.since) = (Stage::Standing, self.now);
        }
    }

    fn destroy(&mut self, name: u32, from: PeerId) {
        let (spi, create) = match (from, self.aivts[&name].downstream) {
            (ASKED, Some((spi, create))) if self.aivts[&name].stage == Stage::Asked => (spi, create),
            (ASKED, Some((spi, _))) => (spi, 0),
            _ => (name, 0),
        };
        let reason = Reason::ALL[self.rng.random_range(5..12)];
        self.end(name, reason, Some(if spi == name { ASKER } else { ASKED }));
        self.say(
            if spi == name { ASKER } else { ASKED },
            spi,
            Message::Destroy { create, reason },
        );
        self.aivts.remove(&name);
    }

    /// `ms` pass, less than a second.
    fn pass(&mut self, ms: u64) {
        let end = self.now.plus(ms * MS);
        let due: Vec<u32> = self
            .aivts
            .iter()
            .filter(|(_, a)| a.deadline() <= end)
            .map(|(name, _)| *name)
            .collect();
        for name in &due {
            let standing = self.aivts[name].stage == Stage::Standing;
            let asked = self.aivts[name].stage == Stage::Asked;
            let reason = match (standing, asked) {
                (true, _) => Reason::Inactive,
                (_, true) => Reason::NextHopUnreachable,
                _ => Reason::ResourceLimit,
            };
            self.end(*name, reason, None);
        }
        while let Some(at) = self.node.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            let wall = self.wall();
            self.node.handle_timeout(self.now, wall);
            self.carry_out();
        }
        self.now = end;
        self.aivts.retain(|name, _| !due.contains(name));
        self.keep_alive();
    }

    /// `peer` says nothing until its PVT is down, which ends what runs over it.
    fn silence(&mut self, peer: PeerId) {
        let clear = |aivt: &Expected| aivt.deadline() > self.now.plus(10 * Now::SECOND);
        if !self.aivts.values().all(clear) {
            return;
        }
        self.silent.insert(peer);
        for _ in 0..3 {
            self.pass(990);
            self.check("silence");
        }
        let over: Vec<u32> = self
            .aivts
            .iter()
            .filter(|(_, aivt)| peer == ASKER || aivt.downstream.is_some())
            .map(|(name, _)| *name)
            .collect();
        over.iter()
            .for_each(|name| self.end(*name, Reason::NextHopUnreachable, Some(peer)));
        // Four seconds after its last word the PVT is down.
        self.pass(990);
        self.pass(200);
        self.aivts.retain(|name, _| !over.contains(name));
        self.check("silence that ended");
        let onion = self.onion(true, self.wall());
        if peer == ASKED {
            self.refused(7777, onion, Reason::NextHopUnreachable);
        }
        self.silent.clear();
        self.keep_alive();
    }

    fn event(&mut self) -> &'static str {
        let now = self.now;
        match self.rng.random_range(0..20) {
            0..4 => {
                let relay = self.rng.random_bool(0.6);
                self.create(relay);
                "a CREATE"
            }
            4 => {
                let (name, onion) = self.create(true);
                self.refused(name, onion.clone(), Reason::SpiCollision);
                self.refused(name + 1_000_000, onion, Reason::ReplayedCreate);
                "a CREATE seen before"
            }
            5 => {
                let mut onion = self.onion(true, self.wall());
                onion[50] ^= 1;
                self.refused(5555, onion, Reason::ProtocolError);
                let back = self.onion_over(&[1, 0], self.wall());
                self.refused(5555, back, Reason::ProtocolError);
                let unknown = self.onion_over(&[1, 3], self.wall());
                self.refused(5555, unknown, Reason::NextHopUnreachable);
                let stale = self.onion(false, self.wall() - 71);
                self.refused(5555, stale, Reason::ReplayedCreate);
                "CREATEs that are none"
            }
            6..9 => {
                if let Some(name) = self.pick(|aivt| aivt.stage == Stage::Asked) {
                    let (downstream, create) = self.aivts[&name].downstream.unwrap();
                    let confirmation = [7; 32];
                    self.say(
                        ASKED,
                        downstream,
                        Message::Created {
                            create: create ^ 1,
                            confirmation,
                        },
                    );
                    self.say(ASKER, name, Message::Created { create, confirmation });
                    assert_eq!(self.done, [], "neither is an answer to the CREATE");
                    self.expected.push(Deed::InstallRelay {
                        upstream: name,
                        downstream,
                    });
                    self.say(ASKED, downstream, Message::Created { create, confirmation });
                    self.aivts.get_mut(&name).unwrap().stage = Stage::Installing;
                }
                "a CREATED"
            }
            9..12 => {
                let fails = self.rng.random_bool(0.2);
                if let Some(name) = self.pick(|aivt| aivt.stage == Stage::Installing) {
                    self.installed(name, fails);
                }
                "an installation"
            }
            12 | 13 => {
                let from = if self.rng.random() { ASKER } else { ASKED };
                if let Some(name) = self.pick(|_| true) {
                    self.destroy(name, from);
                }
                self.say(
                    from,
                    4444,
                    Message::Destroy {
                        create: 0,
                        reason: Reason::None,
                    },
                );
                "a DESTROY"
            }
            14 => {
                if let Some(name) = self.pick(|aivt| aivt.aivt.is_some()) {
                    self.end(name, Reason::ProtocolError, None);
                    self.node.handle_misbehaviour(now, self.aivts[&name].aivt.unwrap());
                    self.carry_out();
                    self.aivts.remove(&name);
                }
                "misbehaviour"
            }
            15 => {
                if let Some(name) = self.pick(|aivt| aivt.stage == Stage::Standing) {
                    let aivt = self.aivts.get_mut(&name).unwrap();
                    let activity = aivt.activity.as_ref().unwrap();
                    Touch::new(activity).touch(now);
                    aivt.since = now;
                }
                "activity"
            }
            16 => {
                let peer = if self.rng.random() { ASKER } else { ASKED };
                self.silence(peer);
                "silence and a new word"
            }
            _ => {
                for _ in 0..self.rng.random_range(1..15) {
                    let ms = self.rng.random_range(1..990);
                    self.pass(ms);
                    self.check("time");
                }
                "time"
            }
        }
    }
}

#[test]
fn the_node_does_what_the_model_foretells() {
    let mut seen = [0; 4];
    for seed in 0..30 {
        let mut world = World::new(seed);
        for _ in 0..300 {
            let event = world.event();
            world.check(event);
        }
        for _ in 0..200 {
            world.pass(990);
            world.check("the end");
        }
        assert!(world.aivts.is_empty() && world.node.snapshot().is_empty());
        let counts = world.node.counts();
        let inactive = counts.ended.of(Reason::Inactive);
        let (late, full) = (
            counts.failed.of(Reason::NextHopUnreachable),
            counts.failed.of(Reason::ResourceLimit),
        );
        for (sum, count) in seen.iter_mut().zip([counts.pvt_downs, inactive, late, full]) {
            *sum += count;
        }
    }
    assert!(seen.iter().all(|count| *count >= 30), "too rare to mean much: {seen:?}");
}
