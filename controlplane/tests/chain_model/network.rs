//! What happens: bursts of hosts, and links that lose, repeat and reorder by a seeded rule. Every burst that a machine receives is
//! shown to the model too, and what the machine does is compared.

use std::collections::BTreeMap;

use ain_dataplane::verdict::DropReason;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::model::{Association, Carries, Fates, Id, Model, Sent, Way};
use crate::sim::Buf;
use crate::sim::chain::{Chain, Plan, ends, initiator, responder, shown};

/// Nanoseconds from one step to the next.
const STEP_NS: u64 = 1_000_000;
/// A pause that is longer than any edge waits.
const PAUSE_NS: u64 = 101_000_000;
/// Longest delay, steps: some hundred cells of a flow.
const DELAY: u64 = 40;
/// Largest burst.
const BURST: usize = 64;

/// What the links do to a packet, in thousandths.
#[derive(Clone, Copy)]
struct Weather {
    lost: u32,
    repeated: u32,
    /// Behind up to 40 packets that were sent after it.
    overtaken: u32,
    /// By up to [`DELAY`] steps.
    delayed: u32,
}

const FINE: Weather = Weather {
    lost: 0,
    repeated: 0,
    overtaken: 0,
    delayed: 0,
};
const STORM: Weather = Weather {
    lost: 8,
    repeated: 20,
    overtaken: 60,
    delayed: 50,
};

/// A packet on a wire.
struct Flying {
    to: u8,
    association: Association,
    /// Of its association, from 1.
    number: u64,
    frame: Buf,
}

pub struct Network {
    chain: Chain,
    model: Model,
    rng: ChaCha12Rng,
    weather: Weather,
    step: u64,
    launched: u64,
    /// By step and order of arrival.
    flying: BTreeMap<(u64, u64, u64), Flying>,
    /// By tag of the frame.
    carried: Vec<Carries>,
    numbers: BTreeMap<Association, u64>,
}

impl Network {
    pub fn new(plan: Plan, seed: u64) -> Self {
        Self {
            chain: Chain::new(plan),
            model: Model::new(usize::from(plan.inner_mtu)),
            rng: ChaCha12Rng::seed_from_u64(seed),
            weather: FINE,
            step: 0,
            launched: 0,
            flying: BTreeMap::new(),
            carried: vec![Carries::Up(usize::MAX)], // 0 is no tag
            numbers: BTreeMap::new(),
        }
    }

    pub fn fates(&self) -> Fates {
        self.model.fates
    }

    /// One datagram of each flow in fine weather, so that all are bound.
    pub fn begin_flows(&mut self) {
        for flow in 0..self.chain.plan.flows {
            self.host_sends(Way::Forward, &[(flow, 100)]);
            while !self.flying.is_empty() {
                self.advance();
            }
        }
        assert_eq!(self.model.fates.arrived, usize::from(self.chain.plan.flows));
    }

    /// `datagrams` in all, both ways, in bursts, through a storm.
    pub fn exchange(&mut self, datagrams: usize) {
        self.weather = STORM;
        let mut left = datagrams;
        while left > 0 || !self.flying.is_empty() {
            for way in [Way::Forward, Way::Backward] {
                let burst = self.rng.random_range(1..=BURST).min(left);
                if burst > 0 && self.rng.random_range(0..3) > 0 {
                    left -= burst;
                    let burst: Vec<_> = (0..burst).map(|_| self.any_datagram()).collect();
                    self.host_sends(way, &burst);
                }
            }
            if self.rng.random_range(0..15) == 0 {
                self.chain.now = self.chain.now.plus(PAUSE_NS);
            }
            self.advance();
        }
    }

    fn any_datagram(&mut self) -> (u8, usize) {
        let flow = self.rng.random_range(0..self.chain.plan.flows);
        let len = match self.rng.random_range(0..20) {
            0..12 => self.rng.random_range(20..200),
            12..19 => self.rng.random_range(200..1500),
            _ => self.rng.random_range(1500..=9000),
        };
        (flow, len)
    }

    /// The only losses are second copies, and pieces of datagrams that waited too long.
    pub fn assert_counters(&self) {
        let mut repeated = 0;
        for (number, machine) in &self.chain.machines {
            repeated += machine.drops(DropReason::AhReplay);
            for (why, _) in machine.all_drops() {
                let known = matches!(why, DropReason::AhReplay | DropReason::ReassemblyLost);
                assert!(known, "machine {number}: {why:?}");
            }
        }
        assert_eq!(repeated, self.model.fates.repeated);
        assert_eq!(self.chain.heard, []);
    }

    fn host_sends(&mut self, way: Way, burst: &[(u8, usize)]) {
        let host = match way {
            Way::Forward => 1,
            Way::Backward => self.chain.responder(),
        };
        let mut datagrams = Vec::new();
        let mut predicted = Vec::new();
        for &(flow, len) in burst {
            let id = self.model.send(Sent { flow, way, len });
            datagrams.push(Buf::of(&self.model.bytes(id, self.addresses(id, false), 64, None)));
            predicted.push(Carries::Up(id));
        }
        let now = self.chain.now;
        self.chain.machine(host).send(now, datagrams);
        self.collect(host, &predicted, true);
    }

    /// The inner addresses of a datagram where its receiver, or its sender, sees it.
    fn addresses(&self, id: Id, at_receiver: bool) -> ([u8; 4], [u8; 4]) {
        let Sent { flow, way, .. } = self.model.sent[id];
        let at_responder = at_receiver == (way == Way::Forward);
        let near = if at_responder && self.chain.plan.shown {
            shown(flow)
        } else {
            initiator(flow)
        };
        let (near, far) = (near.octets(), responder(flow).octets());
        match way {
            Way::Forward => (near, far),
            Way::Backward => (far, near),
        }
    }

    /// One step: everything due arrives.
    fn advance(&mut self) {
        self.step += 1;
        self.chain.now = self.chain.now.plus(STEP_NS);
        let later = self.flying.split_off(&(self.step + 1, 0, 0));
        let mut due: BTreeMap<u8, Vec<Flying>> = BTreeMap::new();
        for packet in std::mem::replace(&mut self.flying, later).into_values() {
            due.entry(packet.to).or_default().push(packet);
        }
        for (machine, packets) in due {
            for mut lane in self.lanes(packets) {
                while !lane.is_empty() {
                    let burst = self.rng.random_range(1..=BURST.min(lane.len()));
                    let burst = lane.drain(..burst).collect();
                    self.receive(machine, burst);
                }
            }
        }
    }

    /// A lone worker gets everything in one lane. With several, each association has its own, as with a network card that tells them
    /// apart, so that the order is the same whoever works.
    fn lanes(&self, packets: Vec<Flying>) -> Vec<Vec<Flying>> {
        if self.chain.plan.workers == 1 {
            return vec![packets];
        }
        let mut lanes: BTreeMap<Association, Vec<Flying>> = BTreeMap::new();
        for packet in packets {
            lanes.entry(packet.association).or_default().push(packet);
        }
        lanes.into_values().collect()
    }

    /// A burst arrives; what comes of it is what the model says.
    fn receive(&mut self, number: u8, burst: Vec<Flying>) {
        let workers = self.chain.machine(number).engines.len();
        let rx = self.rng.random_range(0..workers);
        let mut news = Vec::new();
        for packet in &burst {
            if self.model.passes(packet.association, packet.number) {
                news.push(self.carried[packet.frame.tag]);
            }
        }
        let now = self.chain.now;
        let frames = burst.into_iter().map(|packet| packet.frame);
        self.chain.machine(number).receive(now, rx, frames);
        self.chain.control_one(number);
        if number == 1 || number == self.chain.responder() {
            return self.host_receives(number, &news);
        }
        // What comes from the host, packed: by the burst, or one by one where another worker owns the tunnel.
        let up: Vec<Id> = news.iter().filter_map(up).collect();
        let together = if rx == workers - 1 { BURST } else { 1 };
        let packed: Vec<_> = up.chunks(together).flat_map(|ids| self.model.pack(ids)).collect();
        let mut onward = packed.clone();
        let mut down = Vec::new();
        for news in news {
            match news {
                Carries::Cell(flow, way, cell) if number == self.end_of(way) => {
                    for id in self.model.unpack(now.0, flow, way, cell) {
                        down.extend(self.model.deliver(id));
                    }
                }
                Carries::Cell(..) => onward.push(news),
                Carries::Up(_) | Carries::Down(..) => {}
            }
        }
        onward.extend(down);
        let relay = packed.is_empty() && (3..self.chain.exit()).contains(&number);
        self.collect(number, &onward, !relay);
    }

    fn end_of(&self, way: Way) -> u8 {
        match way {
            Way::Forward => self.chain.exit(),
            Way::Backward => 2,
        }
    }

    /// Every datagram of `news` comes out, in this order, and nothing else.
    fn host_receives(&mut self, number: u8, news: &[Carries]) {
        let delivered = self.chain.delivered(number);
        assert_eq!(delivered.len(), news.len(), "datagrams out at machine {number}");
        for (bytes, carried) in delivered.iter().zip(news) {
            let Carries::Down(id, piece) = *carried else {
                panic!("{carried:?} came to host {number}");
            };
            self.model.arrive(id);
            let expected = self.model.bytes(id, self.addresses(id, true), 63, Some(piece));
            assert_eq!(*bytes, expected, "datagram {id}, piece {piece}");
        }
    }

    /// What a machine has sent is what was predicted: frames that it made get their tags here, those it relayed have theirs.
    fn collect(&mut self, number: u8, predicted: &[Carries], made: bool) {
        let frames: Vec<Buf> = self.chain.machine(number).io.frames.drain(..).collect();
        assert_eq!(frames.len(), predicted.len(), "packets out of machine {number}");
        for (mut frame, &carries) in frames.into_iter().zip(predicted) {
            if made {
                frame.tag = self.carried.len();
                self.carried.push(carries);
            }
            assert_eq!(self.carried[frame.tag], carries, "out of machine {number}");
            self.launch(carries, &frame);
        }
    }

    /// Puts a packet on its wire.
    fn launch(&mut self, carries: Carries, frame: &Buf) {
        let (from, to) = ends(frame);
        let tvt = match carries {
            Carries::Cell(flow, way, _) => Some((flow, way)),
            Carries::Up(_) | Carries::Down(..) => None,
        };
        let association = (from, to, tvt);
        let number = self.numbers.entry(association).or_default();
        *number += 1;
        let number = *number;
        let copies = match () {
            () if self.happens(self.weather.lost) => 0,
            () if self.happens(self.weather.repeated) => 2,
            () => 1,
        };
        for _ in 0..copies {
            let delay = if self.happens(self.weather.delayed) {
                self.rng.random_range(2..=DELAY)
            } else {
                1
            };
            self.launched += 1;
            let overtaken = if self.happens(self.weather.overtaken) {
                self.rng.random_range(1..=40)
            } else {
                0
            };
            let order = (self.step + delay, self.launched + overtaken, self.launched);
            let flying = Flying {
                to,
                association,
                number,
                frame: frame.clone(),
            };
            self.flying.insert(order, flying);
        }
    }

    fn happens(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.rng.random_range(0..1000) < thousandths
    }
}

fn up(carries: &Carries) -> Option<Id> {
    match carries {
        Carries::Up(id) => Some(*id),
        Carries::Cell(..) | Carries::Down(..) => None,
    }
}
