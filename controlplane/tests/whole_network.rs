//! Control nodes and packet paths together: AINs that find each other over their PVTs, make AIVTs by signals that travel as sealed
//! packets, and carry datagrams of hosts.

mod crypto;
#[path = "net/plan.rs"]
#[allow(dead_code)] // the other tests use the rest
mod plan;
mod sim;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use ain_controlplane::action::Action;
use ain_controlplane::node::{Node, SourceOption};
use ain_dataplane::command::Event;
use ain_dataplane::id::{Now, WorkerId};
use ain_dataplane::packet::PacketBuf;
use ain_dataplane::peers::PeerKind;
use ain_dataplane::verdict::DropReason;
use ain_dataplane::wire::ah::Family;
use ain_dataplane::wire::ipv4::Ipv4;
use plan::Plan;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sim::{Buf, GMAC, GMAC_V6, Joint, Machine, chain::ends, datagram, host, towards};

/// Seconds after which the plan's nodes end an idle AIVT.
const INACTIVITY_S: u32 = 300;
const WALL: u64 = 1_800_000_000;
const MILLISECOND: u64 = Now::SECOND / 1000;

/// Machine `node + 1` is an AIN; its first host is machine `100 + node`.
struct World {
    machines: BTreeMap<u8, Machine>,
    nodes: BTreeMap<u8, Node>,
    now: Now,
    /// Sizes of frames between AINs.
    sizes: BTreeSet<usize>,
}

fn inside(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, node, 1)
}

impl World {
    fn new(plan: &Plan, workers: u8) -> Self {
        let mut joints = Vec::new();
        let suite = match plan.family {
            Family::V4 => GMAC,
            Family::V6 => GMAC_V6,
        };
        let neighbour = PeerKind::Neighbour;
        for (at, &(a, b)) in (0u8..).zip(&plan.links) {
            let (a_is, b_is) = (neighbour.clone(), neighbour.clone());
            joints.push(Joint {
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
            let config = plan.config(usize::from(node), &HashMap::new(), WALL - 60);
            let rng = Box::new(ChaCha20Rng::seed_from_u64(u64::from(node) + 7));
            world.nodes.insert(node + 1, Node::new(config, world.now, rng).unwrap());
        }
        world.machines.values_mut().for_each(|machine| machine.settle(Now(1)));
        world.run_for(2 * Now::SECOND);
        world
    }

    fn wall(&self) -> u64 {
        WALL + self.now.0 / Now::SECOND
    }

    /// Events to nodes, actions to machines, until nothing moves.
    fn settle(&mut self) {
        loop {
            let wall = self.wall();
            for (number, node) in &mut self.nodes {
                let Some(machine) = self.machines.get_mut(number) else {
                    continue;
                };
                drive(node, machine, self.now, wall);
            }
            let frames: Vec<Buf> = self.machines.values_mut().flat_map(|m| m.io.frames.drain(..)).collect();
            if frames.is_empty() {
                return;
            }
            for frame in frames {
                let (from, to) = ends(&frame);
                if from < 100 && to < 100 {
                    self.sizes.insert(frame.data().len());
                }
                if let Some(machine) = self.machines.get_mut(&to) {
                    machine.receive(self.now, 0, [frame]);
                }
            }
        }
    }

    fn run_for(&mut self, ns: u64) {
        let end = self.now.plus(ns);
        while self.now < end {
            self.settle();
            self.now = self.now.plus(20 * MILLISECOND);
        }
        self.settle();
    }

    /// An AIN dies with all it knows.
    fn kill(&mut self, node: u8) {
        self.nodes.remove(&(node + 1));
        self.machines.remove(&(node + 1));
    }

    fn send(&mut self, from: u8, bytes: &[u8]) {
        self.machines
            .get_mut(&(100 + from))
            .unwrap()
            .send(self.now, [Buf::of(bytes)]);
        self.settle();
    }

    fn delivered(&mut self, to: u8) -> Vec<Vec<u8>> {
        let io = &mut self.machines.get_mut(&(100 + to)).unwrap().io;
        io.delivered.drain(..).map(|buf| buf.data().to_vec()).collect()
    }

    fn aivts(&self) -> usize {
        self.machines.values().map(|machine| machine.writer.in_use()[0]).sum()
    }

    fn assert_no_drops_but(&self, expected: &[DropReason]) {
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

fn drive(node: &mut Node, machine: &mut Machine, now: Now, wall: u64) {
    while let Some(event) = machine.io.events.pop_front() {
        match event {
            Event::Signal(peer, datagram) => node.handle_signal(now, peer, datagram.data()),
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
    if node.poll_timeout().is_some_and(|due| due <= now) {
        node.handle_timeout(now, wall);
    }
    loop {
        while let Some(action) = node.poll_action() {
            match action {
                Action::Send { peer, datagram } => machine.writer.signal(peer, Buf::of(&datagram)),
                Action::Install { aivt, route, activity } => machine.writer.install(aivt, route, &activity).unwrap(),
                Action::Remove { aivt } => machine.writer.remove(aivt),
                Action::Bind { aivt, pair, tunnel } => machine.writer.bind(aivt, pair, tunnel).unwrap(),
                Action::Refuse { aivt, verdict } => machine.writer.refuse(aivt, verdict).unwrap(),
                Action::Rewrite { flow, source } => machine.writer.rewrite(flow, source),
                Action::CloseFlow { flow, refused } => machine.writer.close_flow(flow, refused),
                Action::ReserveSpis { peer, up_to } => node.handle_spis_reserved(peer, up_to),
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

fn source_of(bytes: &[u8]) -> IpAddr {
    IpAddr::V4(Ipv4::parse(bytes).unwrap().source())
}

#[test]
fn flows_open_by_signals_over_two_to_six_ains() {
    for (nodes, option, workers, family) in [
        (2, SourceOption::AsSent, 1, Family::V4),
        (3, SourceOption::RandomPrivate, 2, Family::V4),
        (3, SourceOption::RandomPrivate, 2, Family::V6),
        (6, SourceOption::RandomPrivate, 1, Family::V4),
    ] {
        let mut plan = Plan::chain(nodes);
        (plan.option, plan.family) = (option, family);
        let mut world = World::new(&plan, workers);
        let last = nodes as u8 - 1;
        let own = Ipv4Addr::new(198, 51, 0, 1);
        for fill in 0..5 {
            world.send(0, &datagram(own, inside(last), 64, 1000, fill));
        }
        world.run_for(Now::SECOND);
        let arrived = world.delivered(last);
        assert_eq!(arrived.len(), 5, "{nodes} AINs");
        let shown = source_of(&arrived[0]);
        assert_eq!(shown == IpAddr::V4(own), option == SourceOption::AsSent);
        for (fill, bytes) in (0..).zip(&arrived) {
            assert_eq!(
                (bytes[900], source_of(bytes)),
                (fill, shown),
                "in order, under one source"
            );
        }
        let IpAddr::V4(shown) = shown else { panic!("IPv4") };
        world.send(last, &datagram(inside(last), shown, 64, 1386, 9));
        world.run_for(Now::SECOND);
        assert_eq!(world.delivered(0), [datagram(inside(last), own, 63, 1386, 9)]);
        assert_eq!(
            world.sizes.len(),
            1,
            "signals and cells have one size: {:?}",
            world.sizes
        );
        assert_eq!(world.aivts(), nodes);
        world.assert_no_drops_but(&[]);
    }
}

#[test]
fn inactivity_ends_an_aivt_and_the_next_packet_makes_a_new_one() {
    let mut world = World::new(&Plan::chain(3), 1);
    let own = Ipv4Addr::new(198, 51, 0, 1);
    world.send(0, &datagram(own, inside(2), 64, 100, 1));
    world.run_for(Now::SECOND);
    let first = source_of(&world.delivered(2)[0]);
    world.run_for(u64::from(INACTIVITY_S + 20) * Now::SECOND);
    assert_eq!(world.aivts(), 0, "nothing is left over on any node");
    world.send(0, &datagram(own, inside(2), 64, 100, 2));
    world.run_for(Now::SECOND);
    assert_eq!(
        source_of(&world.delivered(2)[0]),
        first,
        "the shown source is kept for the flow"
    );
    world.assert_no_drops_but(&[]);
}

#[test]
fn a_dead_ain_is_avoided_and_the_responder_sees_one_source() {
    for family in [Family::V4, Family::V6] {
        avoid_a_dead_ain(family);
    }
}

fn avoid_a_dead_ain(family: Family) {
    // 0 - 1 - 2 - 4 and 0 - 1 - 3 - 4
    let mut plan = Plan::new(5, &[(0, 1), (1, 2), (2, 4), (1, 3), (3, 4)]);
    plan.family = family;
    (plan.min_nodes, plan.max_nodes) = (4, 4);
    let mut world = World::new(&plan, 1);
    let own = Ipv4Addr::new(198, 51, 0, 1);
    world.send(0, &datagram(own, inside(4), 64, 100, 1));
    world.run_for(Now::SECOND);
    let shown = source_of(&world.delivered(4)[0]);
    let used = if world.machines[&3].writer.in_use()[0] > 0 {
        2
    } else {
        3
    };
    world.kill(used);
    for fill in 0..200 {
        world.send(0, &datagram(own, inside(4), 64, 100, fill));
        world.run_for(50 * MILLISECOND);
    }
    let arrived = world.delivered(4);
    assert!(arrived.len() > 50, "only {} of 200 arrived", arrived.len());
    assert_eq!(arrived.last().unwrap()[90], 199, "the last one did");
    assert!(arrived.iter().all(|bytes| source_of(bytes) == shown));
    let other = 5 - used;
    assert_eq!(
        world.machines[&(other + 1)].writer.in_use()[0],
        1,
        "the other way is in use"
    );
}
