//! A chain of AINs with a host at either end, and a control node as simple as can be: it installs what its plan says and answers
//! the events of the packet path.
//!
//! ```text
//!   1 initiator ═ 2 entrance ─ 3 ─ ... ─ n+1 exit ═ n+2 responder        ═ host tunnel   ─ TVTs
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ain_controlplane::action::{HopKeys, Link, Route, Verdict};
use ain_controlplane::sa::Generation;
use ain_controlplane::table_writer::{Rate, TunnelShape};
use ain_dataplane::command::Event;
use ain_dataplane::entry::Activity;
use ain_dataplane::id::{AivtId, FlowId, FlowTag, Now, Pair, PeerId, Spi, WorkerId};
use ain_dataplane::packet::PacketBuf;
use ain_dataplane::peers::PeerKind;
use ain_dataplane::wire::ethernet::EthernetHeader;

use super::{Buf, Joint, Machine, Suite, host, towards};

/// The host tunnel of an edge, and the tunnel of a host.
pub const TO_HOST: PeerId = PeerId(0);
/// The only neighbour of an edge.
pub const TO_NEIGHBOUR: PeerId = PeerId(1);

/// Packets of any size at any time.
pub const AS_THEY_COME: TunnelShape = TunnelShape {
    padded_len: 0,
    rate: Rate::None,
};

/// What a chain is made of.
#[derive(Clone, Copy)]
pub struct Plan {
    pub ains: u8,
    /// Of each AIN; the last of them owns the tunnels.
    pub workers: u8,
    pub suite: Suite,
    /// Of both host tunnels.
    pub inner_mtu: u16,
    /// Flows that may be begun, an AIVT each.
    pub flows: u8,
    /// Whether each flow shows a source of its own.
    pub shown: bool,
    /// Sequence number of the first packet of each tunnel.
    pub first_number: u64,
    /// First numbers that the tunnels may not use, of AH and ESP.
    pub limits: [u64; 2],
    /// Of host tunnels and of PVTs.
    pub shapes: [TunnelShape; 2],
}

impl Plan {
    /// One worker each, one flow, wide host tunnels.
    pub const fn new(ains: u8, suite: Suite) -> Self {
        Self {
            ains,
            workers: 1,
            suite,
            inner_mtu: 9000,
            flows: 1,
            shown: false,
            first_number: 1,
            limits: [u64::MAX; 2],
            shapes: [AS_THEY_COME; 2],
        }
    }
}

/// What an AIN told its control node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    Misbehaviour(AivtId),
    Verdict(AivtId, u8),
    Signal(PeerId, Vec<u8>),
    ForNode(PeerId, Vec<u8>),
}

pub struct Chain {
    pub machines: BTreeMap<u8, Machine>,
    pub plan: Plan,
    pub now: Now,
    /// By machine.
    pub heard: Vec<(u8, Heard)>,
    /// Whether the exit refuses what it has not bound yet.
    pub refuses: bool,
    /// The tunnel that the exit's datagrams leave through.
    pub leaves_to: PeerId,
    /// Flows that the plan has no AIVT for.
    pub unserved: Vec<FlowId>,
    begun: BTreeMap<AivtId, FlowId>,
}

/// The address of a flow's initiator.
pub fn initiator(flow: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, flow + 1)
}

/// The address of a flow's responder.
pub fn responder(flow: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 2, 0, flow + 1)
}

/// The source that a flow may show.
pub fn shown(flow: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 7, 2 * flow + 1)
}

/// The pair of a flow of IPv6 datagrams.
pub fn pair_v6(flow: u8) -> (Ipv6Addr, Ipv6Addr) {
    let address = |side, flow| Ipv6Addr::new(0x2001, 0xdb8, side, 0, 0, 0, 0, u16::from(flow) + 1);
    (address(1, flow), address(2, flow))
}

/// The source that it may show.
pub fn shown_v6(flow: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd99, 0x1234, 0x5678, 0x9abc, 1, 2, 3, u16::from(flow) + 1)
}

/// The AIVT of a flow.
pub fn aivt(flow: u8) -> AivtId {
    AivtId(7 + u64::from(flow))
}

/// Data keys of an AIN for a flow's AIVT.
pub fn hop_keys(flow: u8, ain: u8) -> HopKeys {
    let mut forward = [ain; 16];
    forward[0] = flow;
    let mut backward = forward;
    backward[1] ^= 0x80;
    HopKeys {
        suite: 3,
        forward,
        backward,
    }
}

/// The TVT of a flow that begins at AIN `from`.
pub fn tvt_spi(flow: u8, from: u8) -> Spi {
    Spi::new(0x5000_0000 + 256 * u32::from(flow) + u32::from(from)).expect("SPI")
}

impl Chain {
    pub fn new(plan: Plan) -> Self {
        let last = plan.ains + 1;
        let machine = |number: u8| {
            let workers = if number == 1 || number > last { 1 } else { plan.workers };
            let owner = WorkerId(workers - 1);
            let towards = joints(&plan)
                .iter()
                .filter_map(|joint| towards(joint, number, owner))
                .collect();
            (
                number,
                Machine::numbered(number, workers, (plan.first_number, plan.limits), towards),
            )
        };
        let mut chain = Self {
            machines: (1..=last + 1).map(machine).collect(),
            plan,
            now: Now(1),
            heard: Vec::new(),
            refuses: false,
            leaves_to: TO_HOST,
            unserved: Vec::new(),
            begun: BTreeMap::new(),
        };
        chain.machines.values_mut().for_each(|machine| machine.settle(Now(1)));
        for flow in 0..plan.flows {
            for ain in 3..=last {
                chain.install(flow, ain);
            }
        }
        chain
    }

    pub const fn exit(&self) -> u8 {
        self.plan.ains + 1
    }

    pub const fn responder(&self) -> u8 {
        self.plan.ains + 2
    }

    pub fn machine(&mut self, number: u8) -> &mut Machine {
        self.machines.get_mut(&number).expect("a machine of the chain")
    }

    /// Whether a flow has this pair where the initiator sends it, in either family.
    fn has_pair(flow: u8, pair: Pair) -> bool {
        let (source, destination) = match pair.source {
            IpAddr::V4(_) => (initiator(flow).into(), responder(flow).into()),
            IpAddr::V6(_) => (pair_v6(flow).0.into(), pair_v6(flow).1.into()),
        };
        pair == Pair { source, destination }
    }

    /// Everything but the entrance's part, which waits for the first datagram.
    fn install(&mut self, flow: u8, ain: u8) {
        let (last, now) = (self.exit(), self.now);
        let peer = if ain == last { TO_NEIGHBOUR } else { TO_HOST };
        let upstream = Link {
            peer,
            spi: tvt_spi(flow, ain - 1),
        }
        .under(Generation::HAND_MADE);
        let keys = hop_keys(flow, ain);
        let route = if ain == last {
            Route::Exit {
                upstream,
                keys,
                flow: FlowTag([flow; 16]),
            }
        } else {
            let downstream = Link {
                peer: PeerId(1),
                spi: tvt_spi(flow, ain),
            }
            .under(Generation::HAND_MADE);
            Route::Intermediate {
                upstream,
                downstream,
                keys,
            }
        };
        let machine = self.machine(ain);
        machine
            .writer
            .install(aivt(flow), route, &Activity::at(now))
            .expect("room");
        machine.settle(now);
        assert_eq!(machine.installed(), Some(aivt(flow)));
        assert_eq!(machine.installed(), None);
    }

    /// Answers the events of every AIN.
    pub fn control(&mut self) {
        let numbers: Vec<u8> = self.machines.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.control_one(number));
    }

    /// Answers the events of one machine as a control node would.
    pub fn control_one(&mut self, number: u8) {
        while let Some(event) = self.machine(number).io.events.pop_front() {
            match event {
                Event::NewFlow { flow, tunnel, pair } => self.begin(number, flow, tunnel, pair),
                Event::FirstDatagram(aivt, pair) => self.bind(number, aivt, pair),
                Event::Verdict(aivt, reason) => {
                    let flow = self.begun[&aivt];
                    self.machine(number).writer.close_flow(flow, true);
                    self.heard.push((number, Heard::Verdict(aivt, reason)));
                }
                Event::Misbehaviour(aivt) => self.heard.push((number, Heard::Misbehaviour(aivt))),
                Event::ForNode(peer, datagram) => {
                    let heard = Heard::ForNode(peer, datagram.data().to_vec());
                    self.heard.push((number, heard));
                }
                Event::Signal(peer, datagram) => {
                    let heard = Heard::Signal(peer, datagram.data().to_vec());
                    self.heard.push((number, heard));
                }
                Event::Retired(_) => {}
            }
        }
        let now = self.now;
        self.machine(number).settle(now);
    }

    fn begin(&mut self, number: u8, id: FlowId, tunnel: PeerId, pair: Pair) {
        assert_eq!((number, tunnel), (2, TO_HOST), "flows begin at the entrance");
        let (last, now, plan) = (self.exit(), self.now, self.plan);
        let Some(flow) = (0..plan.flows).find(|flow| Self::has_pair(*flow, pair)) else {
            self.unserved.push(id);
            return self.machine(2).writer.note_flow(id, tunnel, pair);
        };
        self.begun.insert(aivt(flow), id);
        let writer = &mut self.machine(2).writer;
        writer.note_flow(id, tunnel, pair);
        if plan.shown {
            let source = match pair.source {
                IpAddr::V4(_) => shown(flow).into(),
                IpAddr::V6(_) => shown_v6(flow).into(),
            };
            writer.rewrite(id, source);
        }
        let route = Route::Entrance {
            flow: id,
            downstream: Link {
                peer: TO_NEIGHBOUR,
                spi: tvt_spi(flow, 2),
            }
            .under(Generation::HAND_MADE),
            keys: (3..=last).map(|ain| hop_keys(flow, ain)).collect(),
        };
        writer.install(aivt(flow), route, &Activity::at(now)).expect("room");
    }

    fn bind(&mut self, number: u8, aivt: AivtId, pair: Pair) {
        assert_eq!(number, self.exit());
        let (refuses, leaves_to) = (self.refuses, self.leaves_to);
        let writer = &mut self.machine(number).writer;
        if refuses {
            writer.refuse(aivt, Verdict::ExitRefused).expect("installed");
        } else {
            writer.bind(aivt, pair, leaves_to).expect("installed");
        }
    }

    /// A host sends, and everything moves until it is still. Returns what was on the wires, by sender and receiver.
    pub fn send(&mut self, from: u8, datagrams: &[Vec<u8>]) -> Vec<(u8, u8, Buf)> {
        let now = self.now;
        self.machine(from)
            .send(now, datagrams.iter().map(|datagram| Buf::of(datagram)));
        self.run()
    }

    /// Moves frames until none is on its way; the wires neither lose nor reorder.
    pub fn run(&mut self) -> Vec<(u8, u8, Buf)> {
        let mut seen = Vec::new();
        loop {
            self.control();
            let moving: Vec<Buf> = self.machines.values_mut().flat_map(|m| m.io.frames.drain(..)).collect();
            if moving.is_empty() {
                return seen;
            }
            for (at, frame) in moving.into_iter().enumerate() {
                let (from, to) = ends(&frame);
                seen.push((from, to, frame.clone()));
                let now = self.now;
                let machine = self.machine(to);
                let rx = at % machine.engines.len();
                machine.receive(now, rx, [frame]);
            }
        }
    }

    /// What has come out at a host since the last call.
    pub fn delivered(&mut self, number: u8) -> Vec<Vec<u8>> {
        let delivered = self.machine(number).io.delivered.drain(..);
        delivered.map(|buf| buf.data().to_vec()).collect()
    }

    /// Lengths of the frames between AINs.
    pub fn sizes_between_ains(&self, seen: &[(u8, u8, Buf)]) -> BTreeSet<usize> {
        let ains = 2..=self.exit();
        let between = seen
            .iter()
            .filter(|(from, to, _)| ains.contains(from) && ains.contains(to));
        between.map(|(_, _, frame)| frame.data().len()).collect()
    }

    pub fn assert_no_drops(&self) {
        self.assert_no_drops_but(0);
    }

    /// No machine but perhaps this one has lost a packet.
    pub fn assert_no_drops_but(&self, except: u8) {
        for (number, machine) in self.machines.iter().filter(|(number, _)| **number != except) {
            assert_eq!(machine.all_drops(), [], "machine {number}");
        }
    }
}

/// Sender and receiver of a frame.
pub fn ends(frame: &Buf) -> (u8, u8) {
    let (header, _) = EthernetHeader::parse(frame.data()).expect("a frame");
    (header.source.0[5], header.destination.0[5])
}

/// Host tunnels first, so that they are the first peers of their AINs.
fn joints(plan: &Plan) -> Vec<Joint> {
    let (last, suite, mtu) = (plan.ains + 1, plan.suite, plan.inner_mtu);
    let joint = |a, b, b_is: PeerKind, a_is, seed| Joint {
        shape: plan.shapes[usize::from(matches!(b_is, PeerKind::Neighbour))],
        a,
        b,
        b_is,
        a_is,
        suite,
        seed,
    };
    let mut joints = vec![
        joint(1, 2, PeerKind::Gateway, host(true, &["10.1.0.0/16"], mtu), 1),
        joint(last + 1, last, PeerKind::Gateway, host(false, &["10.2.0.0/16"], mtu), 3),
    ];
    joints.extend((2..last).map(|a| joint(a, a + 1, PeerKind::Neighbour, PeerKind::Neighbour, 2 * a + 1)));
    joints
}
