//! Whole nodes in memory: control node and packet path of each AIN, and hosts behind them. Time jumps from one event to the next.
//!
//! Signals between AINs may be lost or late, by a seeded rule; cells are not: they have no repetition to test.

#![allow(dead_code)] // each test uses its part

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ain_controlplane::action::Action;
use ain_controlplane::node::Node;
use ain_controlplane::request::{Answer, Close, open, wrap};
use ain_controlplane::sa::{SaEvent, SaProtocol};
use ain_controlplane::signal::ends::Ends;
use ain_dataplane::command::Event;
use ain_dataplane::engine::Engine;
use ain_dataplane::id::{Now, Pair, WorkerId};
use ain_dataplane::packet::PacketBuf;
use ain_dataplane::peers::PeerKind;
use ain_dataplane::verdict::DropReason;
use ain_dataplane::wire::ah::Family;
use ain_dataplane::wire::ethernet;
use ain_dataplane::wire::protocol::ESP;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::plan::Plan;
use crate::sim::chain::{AS_THEY_COME, ends};
use crate::sim::{Buf, GMAC, GMAC_V6, Joint, Machine, host, outer_of, towards};

/// Unix time at the start.
pub const WALL: u64 = 1_800_000_000;
pub const MILLISECOND: u64 = Now::SECOND / 1000;

/// What happens to signals between AINs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weather {
    /// Of a hundred, how many are lost.
    pub lost_percent: u32,
    /// How late one is, ms, at least and at most: those that are late in different ways change places.
    pub late_ms: (u64, u64),
}

/// Nothing is lost or late.
pub const FAIR: Weather = Weather {
    lost_percent: 0,
    late_ms: (0, 0),
};

/// What an AIN holds for users, in numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    pub aivts: usize,
    pub tvts: usize,
    pub flows: usize,
    pub bindings: usize,
    pub unanswered: usize,
    /// AIVTs, flows and associations of the table writer; the associations of tunnels stay.
    pub entries: [usize; 3],
    /// TVTs, flows, waiting datagrams and pieces of datagrams of all workers.
    pub in_workers: Vec<usize>,
}

/// A frame that has reached its machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Passed {
    /// Machines, sender first.
    pub ends: (u8, u8),
    pub frame: Vec<u8>,
    /// The datagram in it that went to the machine's control node, if one did.
    pub for_control: Option<Vec<u8>>,
}

/// Machine `node + 1` is an AIN; its first host is machine `100 + node`.
pub struct World {
    pub machines: BTreeMap<u8, Machine>,
    pub nodes: BTreeMap<u8, Node>,
    pub now: Now,
    /// Sizes of frames between AINs.
    pub sizes: BTreeSet<usize>,
    pub weather: Weather,
    /// Pairs of machines between which nothing passes.
    pub cut: BTreeSet<(u8, u8)>,
    /// Unix time at the start.
    pub wall_at_start: u64,
    /// Seconds by which a node's clock is off.
    pub clock_off: BTreeMap<u8, i64>,
    /// All frames, where a test looks at them.
    pub passed: Option<Vec<Passed>>,
    late: Vec<(Now, u8, Buf)>,
    asked: u32,
    family: Family,
    rng: ChaCha20Rng,
}

pub fn inside(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, node, 1)
}

impl World {
    pub fn new(plan: &Plan, workers: u8) -> Self {
        Self::at(plan, workers, WALL)
    }

    /// As [`World::new`], with another Unix time at the start.
    pub fn at(plan: &Plan, workers: u8, wall_at_start: u64) -> Self {
        let mut joints = Vec::new();
        let suite = match plan.family {
            Family::V4 => GMAC,
            Family::V6 => GMAC_V6,
        };
        let neighbour = PeerKind::Neighbour;
        for (at, &(a, b)) in (0u8..).zip(&plan.links) {
            let (a_is, b_is) = (neighbour.clone(), neighbour.clone());
            joints.push(Joint {
                shape: AS_THEY_COME,
                a: a as u8 + 1,
                b: b as u8 + 1,
                b_is,
                a_is,
                suite,
                seed: 100 + 2 * at,
            });
        }
        for node in 0..plan.nodes as u8 {
            let prefix = format!("198.51.{node}.0/25");
            let a_is = host(true, &[&prefix], 1386);
            joints.push(Joint {
                shape: AS_THEY_COME,
                a: 100 + node,
                b: node + 1,
                b_is: PeerKind::Gateway,
                a_is,
                suite,
                seed: 1 + 2 * node,
            });
        }
        let mut world = Self {
            machines: BTreeMap::new(),
            nodes: BTreeMap::new(),
            now: Now(1),
            sizes: BTreeSet::new(),
            weather: FAIR,
            cut: BTreeSet::new(),
            wall_at_start,
            clock_off: BTreeMap::new(),
            passed: None,
            late: Vec::new(),
            asked: 0,
            family: plan.family,
            rng: ChaCha20Rng::seed_from_u64(99),
        };
        for node in 0..plan.nodes as u8 {
            for (number, workers) in [(node + 1, workers), (100 + node, 1)] {
                let owner = WorkerId(workers - 1);
                // Neighbours in order, then the host: the order of the plan's configuration.
                let mut mine: Vec<_> = joints
                    .iter()
                    .filter_map(|joint| towards(joint, number, owner))
                    .collect();
                mine.sort_by_key(|one| one.remote);
                world.machines.insert(number, Machine::new(number, workers, mine));
            }
            let config = plan.config(usize::from(node), wall_at_start - 60);
            if let (Some(own), Some(machine)) = (config.own_peer(), world.machines.get_mut(&(node + 1))) {
                machine.add_own(own, WorkerId(workers - 1));
            }
            let rng = Box::new(ChaCha20Rng::seed_from_u64(u64::from(node) + 7));
            world.nodes.insert(node + 1, Node::new(config, world.now, rng).unwrap());
        }
        world.machines.values_mut().for_each(|machine| machine.settle(Now(1)));
        world.run_for(2 * Now::SECOND);
        world
    }

    pub fn wall(&self) -> u64 {
        self.wall_at_start + self.now.0 / Now::SECOND
    }

    /// Events to nodes, actions to machines, until nothing moves.
    pub fn settle(&mut self) {
        loop {
            let wall = self.wall();
            for (number, node) in &mut self.nodes {
                let Some(machine) = self.machines.get_mut(number) else {
                    continue;
                };
                let off = self.clock_off.get(&(number - 1)).copied().unwrap_or(0);
                drive(node, machine, self.now, wall.saturating_add_signed(off));
            }
            let frames: Vec<Buf> = self.machines.values_mut().flat_map(|m| m.io.frames.drain(..)).collect();
            if frames.is_empty() {
                return;
            }
            for frame in frames {
                self.pass(frame);
            }
        }
    }

    /// A frame on its way, through whatever the weather is.
    fn pass(&mut self, frame: Buf) {
        let (from, to) = ends(&frame);
        if from < 100 && to < 100 {
            self.sizes.insert(frame.data().len());
            if self.cut.contains(&(from.min(to), from.max(to))) {
                return;
            }
            if is_signal(&frame) && self.weather != FAIR {
                return self.pass_late(to, frame);
            }
        }
        self.arrive(to, frame);
    }

    fn pass_late(&mut self, to: u8, frame: Buf) {
        let Weather { lost_percent, late_ms } = self.weather;
        if self.rng.next_u32() % 100 >= lost_percent {
            let late_ms = late_ms.0 + self.rng.next_u64() % (late_ms.1 - late_ms.0 + 1);
            self.late.push((self.now.plus(late_ms * MILLISECOND), to, frame));
        }
    }

    fn arrive(&mut self, to: u8, frame: Buf) {
        let Some(machine) = self.machines.get_mut(&to) else {
            return;
        };
        let Some(passed) = &mut self.passed else {
            return machine.receive(self.now, 0, [frame]);
        };
        let (ends, bytes, known) = (ends(&frame), frame.data().to_vec(), machine.io.events.len());
        machine.receive(self.now, 0, [frame]);
        let for_control = machine.io.events.iter().skip(known).find_map(|event| match event {
            Event::Signal(_, datagram) | Event::ForNode(_, datagram) => Some(datagram.data().to_vec()),
            _ => None,
        });
        passed.push(Passed {
            ends,
            frame: bytes,
            for_control,
        });
    }

    fn arrive_late(&mut self) {
        let now = self.now;
        let (due, late) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|(at, ..)| *at <= now);
        self.late = late;
        for (_, to, frame) in due as Vec<(Now, u8, Buf)> {
            self.arrive(to, frame);
        }
    }

    /// Lets time pass, from one event to the next.
    pub fn run_for(&mut self, ns: u64) {
        let end = self.now.plus(ns);
        loop {
            self.settle();
            let timeouts = self.nodes.values().filter_map(Node::poll_timeout);
            let next = timeouts.chain(self.late.iter().map(|(at, ..)| *at)).min();
            let next = next.filter(|next| *next < end);
            self.now = next.map_or(end, |next| next.max(self.now.plus(MILLISECOND / 10)));
            self.arrive_late();
            if next.is_none() {
                return self.settle();
            }
        }
    }

    /// An AIN dies with all it knows.
    pub fn kill(&mut self, node: u8) {
        self.nodes.remove(&(node + 1));
        self.machines.remove(&(node + 1));
    }

    pub fn send(&mut self, from: u8, bytes: &[u8]) {
        self.machines
            .get_mut(&(100 + from))
            .unwrap()
            .send(self.now, [Buf::of(bytes)]);
        self.settle();
    }

    /// AIN `node` loses the ESP associations of its first host's tunnel.
    pub fn lose_host(&mut self, node: u8) {
        let outer = outer_of(100 + node, self.family);
        let machine = self.machines.get_mut(&(node + 1)).unwrap();
        let (host, _) = machine.peers.iter().find(|(_, peer)| peer.remote == outer).unwrap();
        let names = machine.associations.iter().map(|(name, _)| name);
        let esp = names.filter(|name| (name.peer, name.protocol) == (host, SaProtocol::Esp));
        for name in esp.collect::<Vec<_>>() {
            machine.keys.push(SaEvent::Remove(name));
        }
        self.settle();
    }

    pub fn delivered(&mut self, to: u8) -> Vec<Vec<u8>> {
        let io = &mut self.machines.get_mut(&(100 + to)).unwrap().io;
        io.delivered.drain(..).map(|buf| buf.data().to_vec()).collect()
    }

    /// The host of AIN `node` asks it to close what carries its datagrams from `source` to `destination`.
    pub fn ask_to_close(&mut self, node: u8, source: Ipv4Addr, destination: Ipv4Addr) -> u32 {
        self.asked += 1;
        let pair = Pair {
            source: source.into(),
            destination: destination.into(),
        };
        let close = Close { id: self.asked, pair };
        let [host, ain] = [100 + node, node + 1].map(|number| outer_of(number, self.family));
        let ends = Ends::between(host, ain).unwrap();
        self.send(node, &wrap(&ends, &close.to_bytes()));
        self.asked
    }

    /// What the AIN `node` has answered its host.
    pub fn answers(&mut self, node: u8) -> Vec<Answer> {
        let host = self.machines.get_mut(&(100 + node)).unwrap();
        let mut answers = Vec::new();
        for event in host.io.events.drain(..) {
            if let Event::ForNode(_, datagram) = event {
                let (_, payload) = open(datagram.data()).unwrap();
                answers.push(Answer::parse(payload).unwrap());
            }
        }
        answers
    }

    /// Everything that the AIN `node` holds for users: in its control node, its table writer and its workers.
    pub fn state(&mut self, node: u8) -> State {
        let snapshot = self.nodes[&(node + 1)].snapshot();
        let machine = self.machines.get_mut(&(node + 1)).unwrap();
        let workers: Vec<_> = machine.engines.iter_mut().map(Engine::in_use).collect();
        State {
            aivts: snapshot.creating.iter().chain(&snapshot.standing).sum(),
            tvts: snapshot.tvts,
            flows: snapshot.flows,
            bindings: snapshot.bindings,
            unanswered: snapshot.pvts.iter().map(|pvt| pvt.pending).sum(),
            entries: machine.writer.in_use(),
            in_workers: (0..4)
                .map(|what| workers.iter().map(|worker| worker[what]).sum())
                .collect(),
        }
    }

    /// [`World::state`] of every AIN that lives.
    pub fn states(&mut self) -> BTreeMap<u8, State> {
        let alive: Vec<u8> = self.nodes.keys().map(|number| number - 1).collect();
        alive.into_iter().map(|node| (node, self.state(node))).collect()
    }

    pub fn aivts(&self) -> usize {
        self.machines.values().map(|machine| machine.writer.in_use()[0]).sum()
    }

    pub fn assert_no_drops_but(&self, expected: &[DropReason]) {
        for (number, machine) in &self.machines {
            let drops: Vec<_> = machine
                .all_drops()
                .into_iter()
                .filter(|(why, _)| !expected.contains(why))
                .collect();
            assert_eq!(drops, [], "machine {number}");
        }
    }
}

/// Whether the frame carries ESP under its AH: a signal, and no cell.
fn is_signal(frame: &Buf) -> bool {
    let ip = &frame.data()[ethernet::HEADER_LEN..];
    let ah = if ip[0] >> 4 == 4 { 20 } else { 40 };
    ip.get(ah) == Some(&ESP)
}

fn drive(node: &mut Node, machine: &mut Machine, now: Now, wall: u64) {
    while let Some(event) = machine.io.events.pop_front() {
        match event {
            Event::Signal(peer, datagram) => node.handle_signal(now, peer, datagram.data()),
            Event::ForNode(tunnel, datagram) => node.handle_for_node(now, wall, tunnel, datagram.data()),
            Event::NewFlow { flow, tunnel, pair } => {
                machine.writer.note_flow(flow, tunnel, pair);
                node.handle_new_flow(now, wall, flow, tunnel, pair);
            }
            Event::FirstDatagram(aivt, pair) => node.handle_bind(now, aivt, pair),
            Event::Misbehaviour(aivt) => node.handle_misbehaviour(now, aivt),
            Event::Verdict(aivt, code) => node.handle_verdict(now, aivt, code),
            Event::Retired(_) => {}
        }
    }
    machine.keys.handle_timeout(now);
    machine.associations.handle(now, &mut machine.keys, &mut machine.writer);
    while let Some(keying) = machine.associations.poll_keying() {
        node.handle_keying(now, keying);
    }
    if node.poll_timeout().is_some_and(|due| due <= now) {
        node.handle_timeout(now, wall);
    }
    loop {
        while let Some(action) = node.poll_action() {
            match action {
                Action::Send { peer, datagram } => machine.writer.signal(peer, Buf::of(&datagram)),
                Action::Install { aivt, route, activity } => machine.writer.install(aivt, route, &activity).unwrap(),
                Action::Remove { aivt } => machine.writer.remove(now, aivt),
                Action::Bind { aivt, pair, tunnel } => machine.writer.bind(aivt, pair, tunnel).unwrap(),
                Action::Refuse { aivt, verdict } => machine.writer.refuse(aivt, verdict).unwrap(),
                Action::Rewrite { flow, source } => machine.writer.rewrite(flow, source),
                Action::CloseFlow { flow, refused } => machine.writer.close_flow(flow, refused),
                Action::KeepGuards(_) => unreachable!("no guards here"),
                Action::ReserveSpis {
                    peer,
                    generation,
                    up_to,
                } => node.handle_spis_reserved(peer, generation, up_to),
                Action::Enter { peer, datagram } => machine.writer.enter(peer, Buf::of(&datagram)),
                Action::Open(opening) => node.handle_opened(now, wall, opening.open()),
            }
        }
        machine.settle(now);
        match machine.installed() {
            Some(aivt) => node.handle_installed(now, aivt),
            None => return,
        }
    }
}
