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

use ain_controlplane::node::SourceOption;
use ain_controlplane::request::Outcome;
use ain_dataplane::id::Now;
use ain_dataplane::wire::ah::Family;
use plan::Plan;
use sim::datagram;
use world::{State, Weather, World, inside};

/// Seconds after which the plan's nodes end an idle AIVT.
const INACTIVITY_S: u32 = 300;
/// Signals are lost, late and out of order; lost ACKs make repetitions.
const FOUL: Weather = Weather {
    lost_percent: 25,
    late_ms: (1, 400),
};

/// A chain of AINs whose first host is about to speak to the host of the last.
struct Case {
    world: World,
    before: BTreeMap<u8, State>,
    last: u8,
}

impl Case {
    fn new(nodes: usize) -> Self {
        let mut plan = Plan::chain(nodes);
        plan.option = SourceOption::AsSent;
        plan.family = if nodes == 3 { Family::V6 } else { Family::V4 };
        let mut world = World::new(&plan, 2);
        let before = world.states();
        let last = nodes as u8 - 1;
        Self { world, before, last }
    }

    /// With an AIVT that has carried a datagram each way.
    fn standing(nodes: usize) -> Self {
        let mut case = Self::new(nodes);
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
