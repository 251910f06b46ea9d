//! Line 3: every way to end an AIVT, with all that every node holds counted before and after. Control nodes and packet paths together,
//! over paths of 2 to 6 AINs, in fair weather and with signals that are lost, repeated, out of order and crossing each other.

mod crypto;
#[path = "net/plan.rs"]
#[allow(dead_code)] // the other tests use the rest
mod plan;
mod sim;
mod world;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ain_controlplane::by_aivt::name;
use ain_controlplane::limits::{HOST_AWAY, HOST_ENDS_WITHIN};
use ain_controlplane::node::SourceOption;
use ain_controlplane::request::Outcome;
use ain_dataplane::id::Now;
use ain_dataplane::wire::ah::Family;
use plan::Plan;
use sim::datagram;
use world::{FAIR, MILLISECOND, State, WALL, Weather, World, inside};

/// Seconds after which the plan's nodes end an idle AIVT.
const INACTIVITY_S: u32 = 300;
/// Signals are lost, late and out of order; lost ACKs make repetitions.
const FOUL: Weather = Weather {
    lost_percent: 25,
    late_ms: (1, 400),
};
/// Each signal takes 10 ms, so that those of two ends cross.
const SLOW: Weather = Weather {
    lost_percent: 0,
    late_ms: (10, 10),
};
/// Longer than any timer that frees what signals did not.
const LONG: u64 = 2 * INACTIVITY_S as u64 * Now::SECOND;

/// A chain of AINs whose first host is about to speak to the host of the last.
struct Case {
    world: World,
    before: BTreeMap<u8, State>,
    last: u8,
}

impl Case {
    fn new(nodes: usize) -> Self {
        Self::expiring(nodes, 0, WALL)
    }

    /// At this Unix time, AIVTs of this lifetime: it is rounded up to a multiple of 600 s.
    fn expiring(nodes: usize, lifetime_s: u32, wall: u64) -> Self {
        let mut plan = Plan::chain(nodes);
        plan.option = SourceOption::AsSent;
        plan.family = if nodes == 3 { Family::V6 } else { Family::V4 };
        plan.lifetime_s = lifetime_s;
        let mut world = World::at(&plan, 2, wall);
        let before = world.states();
        let last = nodes as u8 - 1;
        Self { world, before, last }
    }

    /// With an AIVT that has carried a datagram each way.
    fn standing(nodes: usize) -> Self {
        Self::new(nodes).made()
    }

    /// The first datagram each way.
    fn made(self) -> Self {
        let nodes = usize::from(self.last) + 1;
        let mut case = self;
        case.speak(1);
        let answer = datagram(inside(case.last), initiator(), 64, 100, 2);
        case.world.send(case.last, &answer);
        case.world.run_for(Now::SECOND / 10);
        assert_eq!(case.world.delivered(0).len(), 1);
        assert_eq!(case.world.aivts(), nodes);
        case
    }

    /// The initiator speaks, and is heard.
    fn speak(&mut self, fill: u8) {
        self.world
            .send(0, &datagram(initiator(), inside(self.last), 64, 100, fill));
        self.world.run_for(Now::SECOND);
        assert_eq!(self.world.delivered(self.last).len(), 1);
    }

    fn assert_freed(&mut self, when: &str) {
        for (node, state) in self.world.states() {
            assert_eq!(state, self.before[&node], "AIN {node} of {}: {when}", self.last + 1);
        }
    }

    fn initiator_asks(&mut self) {
        self.world.ask_to_close(0, initiator(), inside(self.last));
    }

    fn responder_asks(&mut self) {
        self.world.ask_to_close(self.last, inside(self.last), initiator());
    }

    /// AIN `node` ends its part of the first AIVT, if it has one, and tells both sides.
    fn ends_at(&mut self, node: u8) {
        let now = self.world.now;
        let ain = self.world.nodes.get_mut(&(node + 1)).unwrap();
        ain.handle_misbehaviour(now, name(1, 0));
        self.world.settle();
    }

    /// AIN `node` goes down.
    fn leaves(&mut self, node: u8) {
        let now = self.world.now;
        self.world.nodes.get_mut(&(node + 1)).unwrap().handle_shutdown(now);
        self.world.settle();
    }

    /// Nothing passes between AIN `node` and the next one any more.
    fn cut_after(&mut self, node: u8) {
        self.world.cut.insert((node + 1, node + 2));
    }

    /// Every AIN has its part of one AIVT and nothing else; then that ends, and nothing is left.
    fn assert_one_and_end_it(&mut self) {
        for (node, state) in self.world.states() {
            assert_eq!(
                (state.aivts, state.entries[0]),
                (1, 1),
                "AIN {node} of {}",
                self.last + 1
            );
        }
        self.initiator_asks();
        self.world.run_for(Now::SECOND / 2);
        self.assert_freed("after another one was made");
    }

    /// The initiator's first datagram sets out, and comes as far as it does in this time.
    fn making(nodes: usize, ms: u64) -> Self {
        let mut case = Self::new(nodes);
        case.world.weather = SLOW;
        let first = datagram(initiator(), inside(case.last), 64, 100, 1);
        case.world.send(0, &first);
        case.world.run_for(ms * MILLISECOND);
        case
    }
}

fn initiator() -> Ipv4Addr {
    inside(0)
}

/// Runs `test` for paths of 2 to 6 AINs.
fn for_each_length(test: impl Fn(usize)) {
    (2..=6).for_each(test);
}

#[test]
fn line_3_the_initiator_asks_for_the_end() {
    for_each_length(|nodes| {
        let mut case = Case::standing(nodes);
        case.initiator_asks();
        case.world.run_for(Now::SECOND / 10);
        let outcomes: Vec<_> = case.world.answers(0).iter().map(|answer| answer.outcome).collect();
        assert_eq!(outcomes, [Outcome::Closed]);
        case.assert_freed("at once");
        case.world.run_for(70 * Now::SECOND);
        case.assert_freed("and nothing is made again");
        case.speak(3);
        assert_eq!(case.world.aivts(), nodes, "but for new traffic");
    });
}

#[test]
fn line_3_the_responder_asks_for_the_end() {
    for_each_length(|nodes| {
        let mut case = Case::standing(nodes);
        case.responder_asks();
        case.world.run_for(Now::SECOND / 10);
        assert_eq!(case.world.answers(case.last).len(), 1);
        case.assert_freed("at once");
        case.world.run_for(70 * Now::SECOND);
        case.assert_freed("and nothing is made again");
        assert_eq!(
            case.world.delivered(0),
            Vec::<Vec<u8>>::new(),
            "the initiator is told nothing"
        );
        case.speak(3);
        assert_eq!(case.world.aivts(), nodes, "but for new traffic");
    });
}

/// Long before inactivity would: a host asks for it by IKE DELETE.
#[test]
fn line_3_a_host_without_a_tunnel_has_nothing_for_long() {
    for_each_length(|nodes| {
        for host in [0, nodes as u8 - 1] {
            let mut case = Case::standing(nodes);
            case.world.lose_host(host);
            case.world.run_for(HOST_AWAY - MILLISECOND);
            assert_eq!(case.world.aivts(), nodes, "it may be back in a moment");
            case.world.run_for(HOST_ENDS_WITHIN + Now::SECOND / 10);
            case.assert_freed("when it is not");
            case.world.run_for(70 * Now::SECOND);
            case.assert_freed("and nothing is made again");
            assert_eq!(case.world.delivered(0), Vec::<Vec<u8>>::new());
            let next = datagram(initiator(), inside(case.last), 64, 100, 3);
            case.world.send(0, &next);
            case.world.run_for(Now::SECOND);
            case.assert_freed("nor for new traffic");
            let told = case.world.delivered(0);
            assert_eq!(told.len(), usize::from(host > 0), "the other host hears of it");
            assert!(told.iter().all(|icmp| icmp[20..22] == [3, 13]));
        }
    });
}

/// One that speaks to another and answers a third.
#[test]
fn line_3_a_host_without_a_tunnel_has_nothing_in_either_role() {
    for weather in [FAIR, FOUL] {
        let mut case = Case::new(3);
        for (from, to) in [(0, 1), (1, 2)] {
            case.world.send(from, &datagram(inside(from), inside(to), 64, 100, 1));
            case.world.run_for(Now::SECOND);
            assert_eq!(case.world.delivered(to).len(), 1);
        }
        assert_eq!(case.world.aivts(), 4);
        case.world.weather = weather;
        case.world.lose_host(1);
        case.world
            .run_for(HOST_AWAY + HOST_ENDS_WITHIN + if weather == FAIR { Now::SECOND } else { LONG });
        case.assert_freed("both");
    }
}

/// Whatever becomes of the signals, timers free what they did not.
#[test]
fn line_3_wishes_in_foul_weather() {
    for_each_length(|nodes| {
        for ask in [Case::initiator_asks, Case::responder_asks] {
            let mut case = Case::standing(nodes);
            case.world.weather = FOUL;
            ask(&mut case);
            case.world.run_for(2 * u64::from(INACTIVITY_S) * Now::SECOND);
            case.assert_freed("by signals or by time");
        }
    });
}

#[test]
fn line_3_any_ain_ends_it_in_both_directions() {
    for_each_length(|nodes| {
        for node in 0..nodes as u8 {
            let mut case = Case::standing(nodes);
            case.ends_at(node);
            case.world.run_for(Now::SECOND);
            case.assert_one_and_end_it();
        }
    });
}

#[test]
fn line_3_inactivity_ends_it() {
    for_each_length(|nodes| {
        let mut case = Case::standing(nodes);
        case.world.run_for(u64::from(INACTIVITY_S - 10) * Now::SECOND);
        assert_eq!(case.world.aivts(), nodes);
        case.world.run_for(20 * Now::SECOND);
        case.assert_freed("by each node's own timer");
    });
}

#[test]
fn line_3_absolute_expiry_ends_it() {
    for_each_length(|nodes| {
        // It comes to stand 2 s later, and expires 200 s after that.
        let mut case = Case::expiring(nodes, 1, WALL + 600 - 202).made();
        case.world.run_for(196 * Now::SECOND);
        assert_eq!(case.world.aivts(), nodes);
        case.world.run_for(5 * Now::SECOND);
        case.assert_freed("when its time is over");
    });
}

#[test]
fn line_3_a_lost_pvt_ends_it_on_both_sides() {
    for_each_length(|nodes| {
        for node in 0..nodes as u8 - 1 {
            let mut case = Case::standing(nodes);
            case.cut_after(node);
            case.world.run_for(10 * Now::SECOND);
            for (at, state) in case.world.states() {
                assert_eq!((state.entries[0], state.in_workers[0]), (0, 0), "AIN {at}");
            }
            case.world.run_for(70 * Now::SECOND);
            case.assert_freed("when the entrance has given up");
        }
    });
}

#[test]
fn line_3_a_node_that_goes_down_leaves_nothing_behind() {
    for_each_length(|nodes| {
        for node in 0..nodes as u8 {
            let mut case = Case::standing(nodes);
            case.leaves(node);
            case.world.run_for(Now::SECOND / 2);
            assert!(case.world.nodes[&(node + 1)].is_quiet(), "AIN {node} of {nodes}");
            assert_eq!(case.world.aivts(), 0);
            case.world.kill(node);
            case.world.run_for(70 * Now::SECOND);
            case.assert_freed("on the others");
        }
    });
}

/// What is on its way towards the exit when a node goes down still gets there.
#[test]
fn line_3_datagrams_under_way_pass_a_node_that_goes_down() {
    let mut case = Case::standing(4);
    case.leaves(2);
    for fill in 0..10 {
        case.world.send(0, &datagram(initiator(), inside(3), 64, 100, fill));
    }
    assert_eq!(
        case.world.delivered(3).len(),
        0,
        "in fair weather the entrance knows at once"
    );
    let mut case = Case::standing(4);
    case.world.weather = SLOW;
    case.leaves(2);
    for fill in 0..10 {
        case.world.send(0, &datagram(initiator(), inside(3), 64, 100, fill));
    }
    assert_eq!(case.world.delivered(3).len(), 10);
}

#[test]
fn line_3_both_hosts_ask_at_once() {
    for_each_length(|nodes| {
        for weather in [SLOW, FOUL] {
            let mut case = Case::standing(nodes);
            case.world.weather = weather;
            case.responder_asks();
            case.initiator_asks();
            case.world.run_for(LONG);
            case.assert_freed("signals crossed");
        }
    });
}

#[test]
fn line_3_two_ains_end_it_at_once() {
    for_each_length(|nodes| {
        for one in 0..nodes as u8 {
            for other in one + 1..nodes as u8 {
                let mut case = Case::standing(nodes);
                case.world.weather = SLOW;
                case.ends_at(other);
                case.ends_at(one);
                case.world.run_for(2 * Now::SECOND);
                case.assert_one_and_end_it();
            }
        }
    });
}

/// At each stage of the creation: the wish of either host, and an end at every AIN.
#[test]
fn line_3_an_end_while_it_is_made() {
    for_each_length(|nodes| {
        for hop in 0..2 * nodes as u64 {
            let ms = 10 * hop + 5;
            let mut case = Case::making(nodes, ms);
            case.initiator_asks();
            case.world.run_for(Now::SECOND);
            case.assert_freed("the initiator wished so");
            let mut case = Case::making(nodes, ms);
            case.responder_asks();
            case.world.run_for(LONG);
            case.assert_freed("the responder wished so");
            for node in 0..nodes as u8 {
                let mut case = Case::making(nodes, ms);
                case.ends_at(node);
                case.world.run_for(2 * Now::SECOND);
                case.assert_one_and_end_it();
            }
        }
    });
}

#[test]
fn line_3_expiry_while_it_is_made() {
    for_each_length(|nodes| {
        // A second from the first datagram to the date, which CREATE and CREATED need longer for.
        let mut case = Case::expiring(nodes, 1, WALL + 600 - 3);
        case.world.weather = Weather {
            lost_percent: 0,
            late_ms: (700, 700),
        };
        let first = datagram(initiator(), inside(case.last), 64, 100, 1);
        case.world.send(0, &first);
        case.world.run_for(LONG);
        case.assert_freed("by its date");
    });
}

/// Every way to end, at every place, while signals are lost, repeated and out of order.
#[test]
fn line_3_every_end_in_foul_weather() {
    let ways: [fn(&mut Case, u8); 4] = [
        |case, node| case.ends_at(node),
        |case, node| case.leaves(node),
        |case, node| case.cut_after(node.min(case.last - 1)),
        |case, node| case.world.kill(node),
    ];
    for_each_length(|nodes| {
        for way in ways {
            for node in 0..nodes as u8 {
                let mut case = Case::standing(nodes);
                case.world.weather = FOUL;
                way(&mut case, node);
                case.world.run_for(100 * Now::SECOND);
                // So much loss takes PVTs down again and again, and each end makes the entrance try once more.
                case.world.weather = FAIR;
                case.world.run_for(LONG);
                case.assert_freed("in foul weather");
            }
        }
    });
}

/// The exit serves the prefix, but has no tunnel to this address of it.
#[test]
fn line_3_a_refusal_of_the_exit_reaches_the_initiator() {
    for_each_length(|nodes| {
        let mut case = Case::new(nodes);
        let nobody = Ipv4Addr::new(198, 51, case.last, 200);
        case.world.send(0, &datagram(initiator(), nobody, 64, 100, 1));
        case.world.run_for(Now::SECOND / 2);
        let told = case.world.delivered(0);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0][20..22], [3, 13], "administratively prohibited");
        case.assert_freed("at once");
    });
}
