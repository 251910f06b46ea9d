//! Nodes in memory: virtual time, PVTs that lose, repeat and reorder, workers that install routes after a while.
//!
//! Data is modelled by following routes: [`Net::send`] goes from TVT to TVT as a cell would and checks at each node that its keys
//! are those the entrance holds for that position.

#![allow(dead_code, reason = "each test program uses a part")]

mod forge;
mod plan;
mod site;

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use ain_controlplane::action::{Action, HopKeys, Link, Opened, Route};
use ain_controlplane::node::{Node, Snapshot};
use ain_controlplane::sa::Generation;
use ain_dataplane::id::{AivtId, FlowId, Now, Pair, PeerId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

#[allow(unused_imports, reason = "each test program uses a part")]
pub use plan::{AH_SPI, Plan, SLICE_S, id, onion_key, ticket_seed};
use site::Site;

pub const MS: u64 = Now::SECOND / 1000;
pub const WALL: u64 = 1_800_000_000;
pub const INACTIVITY_S: u32 = 120;

/// What a link does to datagrams.
#[derive(Clone, Copy)]
pub struct Weather {
    pub loss: f64,
    pub repeat: f64,
    pub delay_ms: (u64, u64),
}

pub const FAIR: Weather = Weather {
    loss: 0.0,
    repeat: 0.0,
    delay_ms: (5, 5),
};
pub const FOUL: Weather = Weather {
    loss: 0.2,
    repeat: 0.2,
    delay_ms: (1, 400),
};

/// A flow of an initiator of some node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sender {
    pub node: usize,
    pub pair: Pair,
    pub second_host: bool,
}

/// From an initiator of `node` to the responder of `exit`; `number` tells senders apart.
pub fn sender(node: usize, exit: usize, number: u8) -> Sender {
    let source = IpAddr::V4(Ipv4Addr::new(192, 168, 7, number));
    let destination = IpAddr::V4(Ipv4Addr::new(198, 51, u8::try_from(exit).unwrap(), 9));
    Sender {
        node,
        pair: Pair { source, destination },
        second_host: false,
    }
}

enum Event {
    Datagram {
        to: usize,
        from: usize,
        bytes: Vec<u8>,
    },
    Installed {
        node: usize,
        life: u32,
        aivt: AivtId,
    },
    Opened {
        node: usize,
        life: u32,
        opened: Box<Opened>,
    },
    Saved {
        node: usize,
        life: u32,
        peer: PeerId,
        up_to: u32,
    },
}

/// The network.
pub struct Net {
    pub plan: Plan,
    pub now: Now,
    pub sites: Vec<Site>,
    pub weather: Weather,
    /// Links that lose everything, each in one direction.
    pub cut: HashSet<(usize, usize)>,
    /// Sees every signal on its way: (from, to, bytes).
    pub captured: Vec<(usize, usize, Vec<u8>)>,
    pub install_ms: u64,
    /// How long one creating signal takes to be opened; a node opens one after the other. 0: no time.
    pub open_ms: u64,
    /// Message id of the last signal that a test made up.
    pub forged: u32,
    pub install_fails: HashSet<usize>,
    queue: BTreeMap<(Now, u64), Event>,
    next_event: u64,
    rng: ChaCha12Rng,
}

impl Net {
    /// All nodes started, and a few seconds gone, so that all PVTs are up.
    pub fn new(plan: Plan, seed: u64) -> Self {
        let mut net = Self {
            now: Now(0),
            sites: Vec::new(),
            weather: FAIR,
            cut: HashSet::new(),
            captured: Vec::new(),
            install_ms: 3,
            open_ms: 0,
            forged: 0x7777_7777,
            install_fails: HashSet::new(),
            queue: BTreeMap::new(),
            next_event: 0,
            rng: ChaCha12Rng::seed_from_u64(seed),
            plan,
        };
        for index in 0..net.plan.nodes {
            net.sites.push(Site::new());
            net.start(index, 0);
        }
        net.run_ms(3000);
        net
    }

    pub fn wall(&self) -> u64 {
        WALL + self.now.0 / Now::SECOND
    }

    /// Starts node `index`, anew if it was running.
    pub fn start(&mut self, index: usize, replay_floor_s: u64) {
        self.kill(index);
        let config = self.plan.config(index, replay_floor_s);
        let keys = self.plan.keys(index, &self.sites[index].saved_spis);
        let rng = Box::new(ChaCha12Rng::seed_from_u64(self.rng.random()));
        self.sites[index].node = Some(Node::new(config, self.now, rng).expect("a good configuration"));
        let now = self.now;
        keys.into_iter()
            .for_each(|keying| self.node(index).handle_keying(now, keying));
        self.carry_out(index);
    }

    /// Node `index` dies without a word; what it had on disk stays.
    pub fn kill(&mut self, index: usize) {
        let (life, saved_spis) = (
            self.sites[index].life + 1,
            std::mem::take(&mut self.sites[index].saved_spis),
        );
        self.sites[index] = Site {
            life,
            saved_spis,
            ..Site::new()
        };
    }

    pub fn node(&mut self, index: usize) -> &mut Node {
        self.sites[index].node.as_mut().expect("alive")
    }

    pub fn snapshot(&mut self, index: usize) -> Snapshot {
        self.node(index).snapshot()
    }

    /// Calls into node `index` and carries out what it wants done.
    pub fn drive<T>(&mut self, index: usize, call: impl FnOnce(&mut Node, Now, u64) -> T) -> Option<T> {
        let (now, wall) = (self.now, self.wall());
        let answer = call(self.sites[index].node.as_mut()?, now, wall);
        self.carry_out(index);
        Some(answer)
    }

    pub fn run_ms(&mut self, ms: u64) {
        let end = self.now.plus(ms * MS);
        loop {
            let timeout = |site: &Site| site.node.as_ref().and_then(Node::poll_timeout);
            let timeouts = self
                .sites
                .iter()
                .enumerate()
                .filter_map(|(index, site)| Some((timeout(site)?, index)));
            let (timeout, event) = (timeouts.min(), self.queue.first_key_value().map(|(key, _)| *key));
            match (timeout, event) {
                (_, Some(key)) if key.0 <= end && timeout.is_none_or(|(at, _)| key.0 <= at) => {
                    let event = self.queue.remove(&key).expect("it is first");
                    self.now = self.now.max(key.0);
                    self.happen(event);
                }
                (Some((at, index)), _) if at <= end => {
                    self.now = self.now.max(at);
                    self.drive(index, |node, now, wall| node.handle_timeout(now, wall));
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Datagram { to, from, bytes } => {
                let peer = self.peer(to, from);
                self.drive(to, |node, now, _| node.handle_signal(now, peer, &bytes));
            }
            Event::Installed { node, life, aivt } if self.sites[node].life == life => {
                let fails = self.install_fails.contains(&node);
                self.drive(node, |node, now, _| match fails {
                    true => node.handle_install_failed(now, aivt),
                    false => node.handle_installed(now, aivt),
                });
            }
            Event::Opened { node, life, opened } if self.sites[node].life == life => {
                self.drive(node, |node, now, wall| node.handle_opened(now, wall, *opened));
            }
            Event::Saved {
                node,
                life,
                peer,
                up_to,
            } if self.sites[node].life == life => {
                self.sites[node].saved_spis.insert(peer, up_to);
                self.drive(node, |node, _, _| {
                    node.handle_spis_reserved(peer, Generation::HAND_MADE, up_to)
                });
            }
            Event::Installed { .. } | Event::Opened { .. } | Event::Saved { .. } => {}
        }
    }

    fn later(&mut self, delay: u64, event: Event) {
        self.next_event += 1;
        self.queue.insert((self.now.plus(delay), self.next_event), event);
    }

    /// The peer id that node `at` has for node `of`.
    pub fn peer(&self, at: usize, of: usize) -> PeerId {
        let position = self
            .plan
            .neighbours(at)
            .iter()
            .position(|node| *node == of)
            .expect("neighbours");
        PeerId(u16::try_from(position).unwrap())
    }

    fn neighbour(&self, at: usize, peer: PeerId) -> usize {
        self.plan.neighbours(at)[usize::from(peer.0)]
    }

    pub fn tunnel(&self, sender: &Sender) -> PeerId {
        let first = u16::try_from(self.plan.neighbours(sender.node).len()).unwrap();
        PeerId(first + u16::from(sender.second_host))
    }

    fn carry_out(&mut self, index: usize) {
        while let Some(action) = self.sites[index].node.as_mut().and_then(Node::poll_action) {
            let life = self.sites[index].life;
            match action {
                Action::Send { peer, datagram } => self.transmit(index, peer, &datagram),
                Action::Install { aivt, route, activity } => {
                    self.sites[index].install(aivt, route, activity);
                    self.later(
                        self.install_ms * MS,
                        Event::Installed {
                            node: index,
                            life,
                            aivt,
                        },
                    );
                }
                Action::ReserveSpis { peer, up_to, .. } => self.later(
                    MS,
                    Event::Saved {
                        node: index,
                        life,
                        peer,
                        up_to,
                    },
                ),
                Action::Open(opening) if self.open_ms == 0 => {
                    let (now, wall) = (self.now, self.wall());
                    self.node(index).handle_opened(now, wall, opening.open());
                }
                Action::Open(opening) => {
                    let free = self.sites[index].opener_free.max(self.now).plus(self.open_ms * MS);
                    self.sites[index].opener_free = free;
                    let opened = Box::new(opening.open());
                    self.later(
                        free.since(self.now),
                        Event::Opened {
                            node: index,
                            life,
                            opened,
                        },
                    );
                }
                action => self.sites[index].note(&action),
            }
        }
    }

    fn transmit(&mut self, from: usize, peer: PeerId, datagram: &[u8]) {
        assert_eq!(datagram.len(), 1374, "every signal has one length");
        let to = self.neighbour(from, peer);
        self.captured.push((from, to, datagram.to_vec()));
        let Weather {
            loss,
            repeat,
            delay_ms: (least, most),
        } = self.weather;
        let copies = 1 + usize::from(self.rng.random_bool(repeat));
        for _ in 0..copies {
            let delay = self.rng.random_range(least..=most) * MS;
            if !self.rng.random_bool(loss) && !self.cut.contains(&(from, to)) {
                self.later(
                    delay,
                    Event::Datagram {
                        to,
                        from,
                        bytes: datagram.to_vec(),
                    },
                );
            }
        }
    }

    /// A datagram of `sender` arrives at its entrance: it travels as far as routes lead, and opens a flow if there is none.
    /// Returns the source the responder saw.
    pub fn send(&mut self, sender: &Sender) -> Option<IpAddr> {
        let site = &mut self.sites[sender.node];
        let known = site
            .flows
            .iter()
            .find(|(_, known)| *known == sender)
            .map(|(flow, _)| *flow);
        let Some(flow) = known else {
            site.next_flow += 1;
            let flow = FlowId(site.next_flow);
            site.flows.insert(flow, *sender);
            let tunnel = self.tunnel(sender);
            self.drive(sender.node, |node, now, wall| {
                node.handle_new_flow(now, wall, flow, tunnel, sender.pair)
            });
            return None;
        };
        let source = site.shown.get(&flow).copied().unwrap_or(sender.pair.source);
        let (aivt, _) = site
            .routes
            .iter()
            .find(|(_, route)| matches!(route, Route::Entrance { flow: of, .. } if *of == flow))?;
        let aivt = *aivt;
        let (hops, arrived) = self.follow(sender.node, aivt);
        hops.iter()
            .for_each(|(node, aivt)| self.sites[*node].touch(*aivt, self.now));
        let (exit, exit_aivt) = hops.last().copied().filter(|_| arrived)?;
        let pair = Pair {
            source,
            destination: sender.pair.destination,
        };
        if !self.sites[exit].bound.contains_key(&exit_aivt) {
            let refused = self.sites[exit].refused.len();
            self.drive(exit, |node, now, _| node.handle_bind(now, exit_aivt, pair));
            if let Some(verdict) = self.sites[exit].refused.get(refused).copied() {
                self.drive(sender.node, |node, now, _| {
                    node.handle_verdict(now, aivt, verdict as u8)
                });
            }
        }
        (self.sites[exit].bound.get(&exit_aivt) == Some(&pair)).then_some(source)
    }

    /// Every node that an AIVT's cell reaches, the entrance first, and whether the last of them is the exit.
    pub fn follow(&self, entrance: usize, aivt: AivtId) -> (Vec<(usize, AivtId)>, bool) {
        let Some(Route::Entrance { downstream, keys, .. }) = self.sites[entrance].routes.get(&aivt) else {
            panic!("no entrance here");
        };
        let (mut hops, mut at, mut link) = (vec![(entrance, aivt)], entrance, downstream.link);
        for expected in keys {
            let next = self.neighbour(at, link.peer);
            let upstream = Link {
                peer: self.peer(next, at),
                spi: link.spi,
            };
            let Some((aivt, route)) = self.sites[next].with_upstream(upstream) else {
                return (hops, false);
            };
            hops.push((next, aivt));
            match route {
                Route::Intermediate { downstream, keys, .. } => {
                    assert!(same(keys, expected), "node {next} and the entrance disagree");
                    (at, link) = (next, downstream.link);
                }
                Route::Exit { keys, .. } => {
                    assert!(same(keys, expected), "exit {next} and the entrance disagree");
                    assert_eq!(hops.len(), self.keys_of(entrance, hops[0].1) + 1);
                    return (hops, true);
                }
                Route::Entrance { .. } => unreachable!("it has no upstream"),
            }
        }
        (hops, false)
    }

    fn keys_of(&self, entrance: usize, aivt: AivtId) -> usize {
        match &self.sites[entrance].routes[&aivt] {
            Route::Entrance { keys, .. } => keys.len(),
            _ => 0,
        }
    }

    /// Sends for `sender` every 100 ms until something arrives, for `ms` at most. The source the responder saw.
    pub fn send_until_arrival(&mut self, sender: &Sender, ms: u64) -> Option<IpAddr> {
        let end = self.now.plus(ms * MS);
        while self.now < end {
            if let Some(source) = self.send(sender) {
                return Some(source);
            }
            self.run_ms(100);
        }
        None
    }

    /// The nodes of the AIVT that carries `sender` now.
    pub fn path(&self, sender: &Sender) -> Vec<usize> {
        let site = &self.sites[sender.node];
        let carries =
            |route: &Route| matches!(route, Route::Entrance { flow, .. } if site.flows.get(flow) == Some(sender));
        let aivt = site
            .routes
            .iter()
            .find(|(_, route)| carries(route))
            .map(|(aivt, _)| *aivt);
        aivt.map(|aivt| {
            self.follow(sender.node, aivt)
                .0
                .into_iter()
                .map(|(node, _)| node)
                .collect()
        })
        .unwrap_or_default()
    }

    /// The AIVT of `sender` at `node` of its path.
    pub fn aivt_at(&self, sender: &Sender, node: usize) -> AivtId {
        let site = &self.sites[sender.node];
        let carries =
            |route: &Route| matches!(route, Route::Entrance { flow, .. } if site.flows.get(flow) == Some(sender));
        let (aivt, _) = site.routes.iter().find(|(_, route)| carries(route)).expect("carried");
        self.follow(sender.node, *aivt)
            .0
            .into_iter()
            .find(|(at, _)| *at == node)
            .expect("on the path")
            .1
    }

    /// Asserts that no node that lives holds anything but memories.
    pub fn assert_empty(&mut self) {
        for index in 0..self.sites.len() {
            if self.sites[index].node.is_some() {
                let snapshot = self.snapshot(index);
                assert!(snapshot.is_empty(), "node {index} still has {snapshot:?}");
                let site = &self.sites[index];
                assert!(
                    site.routes.is_empty() && site.bound.is_empty() && site.flows.is_empty(),
                    "node {index}"
                );
            }
        }
    }

    /// Lets a minute's worth of stragglers and twice the inactivity pass, then [`Net::assert_empty`].
    pub fn settle(&mut self) {
        self.weather = FAIR;
        self.cut.clear();
        self.run_ms(2000 * u64::from(INACTIVITY_S) + 60_000);
        self.assert_empty();
    }
}

fn same(one: &HopKeys, other: &HopKeys) -> bool {
    (one.suite, one.forward, one.backward) == (other.suite, other.forward, other.backward)
}
