//! The packet path through chains of AINs whose tables are written by hand: what goes in comes out, both ways.

mod sim;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ain_controlplane::action::{HopKeys, Link, Route};
use ain_dataplane::command::Event;
use ain_dataplane::id::{AivtId, Now, PeerId, Spi, WorkerId};
use ain_dataplane::packet::PacketBuf;
use ain_dataplane::peers::PeerKind;
use ain_dataplane::wire::ethernet::EthernetHeader;
use ain_dataplane::wire::ipv4::{self, Ipv4Fields};
use sim::{Buf, GMAC, HMAC, Joint, Machine, Suite, host, towards};

const INITIATOR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const RESPONDER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
const AIVT: AivtId = AivtId(7);

/// Machine 1 is the initiator, 2 to n+1 are AINs, n+2 the responder.
struct Chain {
    machines: BTreeMap<u8, Machine>,
    ains: u8,
    now: Now,
    shown: Option<IpAddr>,
}

fn hop_keys(hop: u8) -> HopKeys {
    HopKeys {
        suite: 3,
        forward: [hop; 16],
        backward: [hop ^ 0x80; 16],
    }
}

fn link(peer: u16, hop: u8) -> Link {
    Link {
        peer: PeerId(peer),
        spi: Spi::new(0x5000_0000 + u32::from(hop)).unwrap(),
    }
}

impl Chain {
    fn new(ains: u8, workers: u8, suite: Suite, inner_mtu: u16) -> Self {
        let last = ains + 1;
        let mut joints = vec![Joint {
            a: 1,
            b: 2,
            b_is: PeerKind::Gateway,
            a_is: host(true, &["10.1.0.0/16"], inner_mtu),
            suite,
            seed: 1,
        }];
        joints.push(Joint {
            a: last + 1,
            b: last,
            b_is: PeerKind::Gateway,
            a_is: host(false, &["10.2.0.0/16"], inner_mtu),
            suite,
            seed: 3,
        });
        joints.extend((2..last).map(|a| Joint {
            a,
            b: a + 1,
            b_is: PeerKind::Neighbour,
            a_is: PeerKind::Neighbour,
            suite,
            seed: 2 * a + 1,
        }));
        let machine = |number: u8| {
            let workers = if number == 1 || number == last + 1 { 1 } else { workers };
            // Tunnels of hosts are the first peers of their AINs and belong to the last worker.
            let owner = WorkerId(workers - 1);
            let towards = joints
                .iter()
                .filter_map(|joint| towards(joint, number, owner))
                .collect();
            (number, Machine::new(number, workers, towards))
        };
        let mut chain = Self {
            machines: (1..=last + 1).map(machine).collect(),
            ains,
            now: Now(1),
            shown: None,
        };
        chain.machines.values_mut().for_each(|machine| machine.settle(Now(1)));
        chain.install();
        chain
    }

    /// Everything but the entrance's part, which waits for the first datagram.
    fn install(&mut self) {
        let last = self.ains + 1;
        for number in 3..=last {
            let upstream = link(if number == last { 1 } else { 0 }, number - 1);
            let keys = hop_keys(number);
            let route = if number == last {
                Route::Exit { upstream, keys }
            } else {
                Route::Intermediate {
                    upstream,
                    downstream: link(1, number),
                    keys,
                }
            };
            let machine = self.machines.get_mut(&number).unwrap();
            machine.writer.install(self.now, AIVT, route).unwrap();
            machine.settle(self.now);
            assert_eq!(machine.installed(), Some(AIVT));
            assert_eq!(machine.installed(), None);
        }
    }

    /// Answers the events of AINs as a control node would.
    fn control(&mut self) {
        let (last, now, shown) = (self.ains + 1, self.now, self.shown);
        for (number, machine) in &mut self.machines {
            while let Some(event) = machine.io.events.pop_front() {
                match event {
                    Event::NewFlow { flow, tunnel, pair } => {
                        assert_eq!(*number, 2, "flows begin at the entrance");
                        machine.writer.note_flow(flow, tunnel, pair);
                        if let Some(source) = shown {
                            machine.writer.rewrite(flow, source);
                        }
                        let keys = (3..=last).map(hop_keys).collect();
                        let route = Route::Entrance {
                            flow,
                            downstream: link(1, 2),
                            keys,
                        };
                        machine.writer.install(now, AIVT, route).unwrap();
                    }
                    Event::FirstDatagram(aivt, pair) => {
                        assert_eq!((*number, aivt), (last, AIVT));
                        machine.writer.bind(aivt, pair, PeerId(0)).unwrap();
                    }
                    Event::Retired(_) => {}
                    Event::Signal(..) | Event::Misbehaviour(_) | Event::Verdict(..) => panic!("not in this test"),
                }
            }
            machine.settle(now);
        }
    }

    /// Moves frames until none is on its way. Every packet between AINs has one size, which is returned.
    fn run(&mut self) -> Option<usize> {
        let mut sizes = std::collections::BTreeSet::new();
        loop {
            self.control();
            let mut moving = Vec::new();
            for machine in self.machines.values_mut() {
                moving.append(&mut machine.io.frames);
            }
            if moving.is_empty() {
                break;
            }
            for (at, frame) in moving.into_iter().enumerate() {
                let (header, _) = EthernetHeader::parse(frame.data()).unwrap();
                let (from, to) = (header.source.0[5], header.destination.0[5]);
                if (2..=self.ains + 1).contains(&from) && (2..=self.ains + 1).contains(&to) {
                    sizes.insert(frame.data().len());
                }
                let machine = self.machines.get_mut(&to).unwrap();
                let rx = at % machine.engines.len();
                machine.receive(self.now, rx, [frame]);
            }
        }
        assert!(sizes.len() <= 1, "one packet size between AINs, not {sizes:?}");
        sizes.pop_first()
    }

    fn delivered(&mut self, number: u8) -> Vec<Vec<u8>> {
        self.machines
            .get_mut(&number)
            .unwrap()
            .io
            .delivered
            .drain(..)
            .map(|buf| buf.data().to_vec())
            .collect()
    }

    fn assert_no_drops(&self) {
        for (number, machine) in &self.machines {
            assert_eq!(machine.all_drops(), [], "machine {number}");
        }
    }
}

fn datagram(source: Ipv4Addr, destination: Ipv4Addr, ttl: u8, len: usize, fill: u8) -> Vec<u8> {
    let mut bytes = vec![fill; len];
    let fields = Ipv4Fields {
        total_len: len as u16,
        id: 0x1234,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl,
        protocol: 253,
        source,
        destination,
    };
    ipv4::write_header(bytes.first_chunk_mut().unwrap(), &fields);
    bytes
}

#[test]
fn datagrams_cross_chains_both_ways() {
    for (ains, workers, suite) in [(2, 1, GMAC), (3, 1, HMAC), (4, 2, GMAC), (6, 3, GMAC)] {
        let mut chain = Chain::new(ains, workers, suite, 9000);
        let sizes = [20, 21, 100, 1383, 1384, 1385, 1400, 2768, 9000];
        for (fill, burst) in [(1, 1), (2, 9)] {
            let sent: Vec<_> = sizes
                .iter()
                .take(burst)
                .map(|&len| datagram(INITIATOR, RESPONDER, 64, len, fill))
                .collect();
            chain
                .machines
                .get_mut(&1)
                .unwrap()
                .send(chain.now, sent.iter().map(|d| Buf::of(d)));
            let size = chain.run();
            assert!(size.is_some());
            let expected: Vec<_> = sizes
                .iter()
                .take(burst)
                .map(|&len| datagram(INITIATOR, RESPONDER, 63, len, fill))
                .collect();
            assert_eq!(chain.delivered(ains + 2), expected, "{ains} AINs forward");
            let answers: Vec<_> = sizes
                .iter()
                .map(|&len| datagram(RESPONDER, INITIATOR, 64, len, 9))
                .collect();
            chain
                .machines
                .get_mut(&(ains + 2))
                .unwrap()
                .send(chain.now, answers.iter().map(|d| Buf::of(d)));
            assert_eq!(chain.run(), size, "backward cells have the size of forward ones");
            let expected: Vec<_> = sizes
                .iter()
                .map(|&len| datagram(RESPONDER, INITIATOR, 63, len, 9))
                .collect();
            assert_eq!(chain.delivered(1), expected, "{ains} AINs backward");
        }
        chain.assert_no_drops();
    }
}
