//! Flows at the entrance: (host tunnel, inner source, inner destination), the AIVTs that carry one in turn, and what outlives them.
//!
//! ```text
//!          new flow                      CREATED, installed
//!   Idle ------------> Waiting --> Building ------------> Standing
//!    ^                    ^           | failed               | ended, and neither host asked
//!    |                    +-----------+----------------------+
//!    +---- inactivity, refusal, a host asked, or patience is at its end; after an hour it is forgotten
//! ```

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

use ain_dataplane::id::{AivtId, FlowId, Now, Pair, PeerId};

use crate::directory::NodeId;
use crate::limits::{REBUILD_DELAYS, REBUILD_WINDOW, REBUILDS};
use crate::signal::create::FlowToken;

/// A flow as the control node knows it, from its first packet until it is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FlowNumber(pub u64);

/// What carries a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    /// Nothing; the packet path does not know the flow.
    Idle,
    /// Nothing yet; its datagrams wait.
    Waiting,
    /// An AIVT that is being made.
    Building(AivtId),
    /// An AIVT that stands.
    Standing(AivtId),
}

/// One flow.
pub struct Flow {
    /// Initiator's tunnel.
    pub tunnel: PeerId,
    /// Source as the initiator sends it, and destination.
    pub pair: Pair,
    /// The exit that serves the destination.
    pub exit: NodeId,
    /// Kept across rebuilds.
    pub token: FlowToken,
    /// Source the responder sees, unless it is the initiator's own: kept across rebuilds.
    pub shown: Option<IpAddr>,
    /// Whether the exit refused it: the next AIVT shall leave at another one.
    pub is_refused: bool,
    /// What carries it.
    pub carrier: Carrier,
    /// Its name in the packet path, unless idle.
    pub id: Option<FlowId>,
    /// Since when its datagrams have been waiting, unless it stands or is idle.
    pub wanted: Now,
    /// When something last moved on it.
    pub last_active: Now,
    attempts: VecDeque<Now>,
}

impl Flow {
    /// A flow that nothing carries.
    pub fn new(now: Now, tunnel: PeerId, pair: Pair, exit: NodeId, token: FlowToken, shown: Option<IpAddr>) -> Self {
        Self {
            tunnel,
            pair,
            exit,
            token,
            shown,
            is_refused: false,
            carrier: Carrier::Idle,
            id: None,
            wanted: now,
            last_active: now,
            attempts: VecDeque::new(),
        }
    }

    /// When the next AIVT for it may be asked for: the first at once, then [`REBUILDS`] within [`REBUILD_WINDOW`], further and further apart.
    pub fn next_attempt(&mut self, now: Now) -> Now {
        while self.attempts.front().is_some_and(|at| now.since(*at) >= REBUILD_WINDOW) {
            self.attempts.pop_front();
        }
        match (self.attempts.len(), self.attempts.front()) {
            (0, _) | (_, None) => now,
            (made, _) if made <= REBUILDS => now.plus(REBUILD_DELAYS[made - 1]),
            (_, Some(first)) => first.plus(REBUILD_WINDOW),
        }
    }

    /// An AIVT is asked for at `now`. Returns whether it is a rebuild.
    pub fn attempt(&mut self, now: Now) -> bool {
        self.attempts.push_back(now);
        self.attempts.len() > 1
    }

    /// An AIVT ended well: the next one is no rebuild.
    pub fn forgive(&mut self) {
        self.attempts.clear();
    }
}

/// Flows of one host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OfHost {
    /// All, remembered ones included.
    pub all: usize,
    /// Those that the packet path knows.
    pub open: usize,
}

/// All flows of this node, remembered ones included.
#[derive(Default)]
pub struct Flows {
    flows: HashMap<FlowNumber, Flow>,
    by_key: HashMap<(PeerId, Pair), FlowNumber>,
    by_id: HashMap<FlowId, FlowNumber>,
    per_host: HashMap<PeerId, OfHost>,
    idle: BTreeSet<(PeerId, Now, FlowNumber)>,
    next: u64,
}

impl Flows {
    #[cfg(feature = "test-dump")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values()
    }

    /// How many there are, remembered ones included.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// How many the packet path knows.
    pub fn open(&self) -> usize {
        self.by_id.len()
    }

    /// How many `host` has.
    pub fn of_host(&self, host: PeerId) -> OfHost {
        self.per_host.get(&host).copied().unwrap_or_default()
    }

    /// The flow `number`.
    pub fn by_number(&self, number: FlowNumber) -> Option<&Flow> {
        self.flows.get(&number)
    }

    /// The flow `number`; it is opened and closed only through [`Flows::open_as`] and [`Flows::close`].
    pub fn by_number_mut(&mut self, number: FlowNumber) -> Option<&mut Flow> {
        self.flows.get_mut(&number)
    }

    /// The flow the packet path calls `id`.
    pub fn with_id(&self, id: FlowId) -> Option<FlowNumber> {
        self.by_id.get(&id).copied()
    }

    /// The flow of `pair` from `tunnel`.
    pub fn with_pair(&self, tunnel: PeerId, pair: Pair) -> Option<FlowNumber> {
        self.by_key.get(&(tunnel, pair)).copied()
    }

    /// Every flow the packet path knows, oldest first.
    pub fn open_numbers(&self) -> Vec<FlowNumber> {
        let mut numbers: Vec<_> = self.by_id.values().copied().collect();
        numbers.sort();
        numbers
    }

    /// Takes in an idle flow.
    pub fn insert(&mut self, flow: Flow) -> FlowNumber {
        self.next += 1;
        let number = FlowNumber(self.next);
        self.by_key.insert((flow.tunnel, flow.pair), number);
        self.per_host.entry(flow.tunnel).or_default().all += 1;
        self.idle.insert((flow.tunnel, flow.last_active, number));
        self.flows.insert(number, flow);
        number
    }

    /// The packet path knows the idle flow `number` as `id` from `now` on; its datagrams wait.
    pub fn open_as(&mut self, now: Now, number: FlowNumber, id: FlowId) {
        let Some(flow) = self.flows.get_mut(&number) else {
            return;
        };
        self.idle.remove(&(flow.tunnel, flow.last_active, number));
        self.by_id.insert(id, number);
        self.per_host.entry(flow.tunnel).or_default().open += 1;
        flow.id = Some(id);
        flow.carrier = Carrier::Waiting;
        (flow.wanted, flow.last_active) = (now, now);
    }

    /// The packet path forgets the flow `number`, which becomes idle. Returns the name it had.
    pub fn close(&mut self, number: FlowNumber) -> Option<FlowId> {
        let flow = self.flows.get_mut(&number)?;
        let id = flow.id.take()?;
        self.by_id.remove(&id);
        self.per_host.entry(flow.tunnel).or_default().open -= 1;
        flow.carrier = Carrier::Idle;
        self.idle.insert((flow.tunnel, flow.last_active, number));
        Some(id)
    }

    /// Forgets the idle flow `number`.
    pub fn remove(&mut self, number: FlowNumber) {
        let Some(flow) = self.flows.remove(&number) else {
            return;
        };
        self.by_key.remove(&(flow.tunnel, flow.pair));
        self.idle.remove(&(flow.tunnel, flow.last_active, number));
        self.per_host.entry(flow.tunnel).or_default().all -= 1;
    }

    /// Of `host`'s idle flows the one that moved longest ago.
    pub fn oldest_idle(&self, host: PeerId) -> Option<FlowNumber> {
        let from = (host, Now(0), FlowNumber(0));
        let to = (host, Now(u64::MAX), FlowNumber(u64::MAX));
        self.idle.range(from..=to).next().map(|(_, _, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SECOND: u64 = Now::SECOND;

    fn flow(last: u8) -> Flow {
        let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        let pair = Pair {
            source: address(1),
            destination: address(last),
        };
        Flow::new(Now(0), PeerId(3), pair, NodeId([1; 32]), FlowToken([2; 16]), None)
    }

    #[test]
    fn one_attempt_and_three_rebuilds_a_minute() {
        let mut flow = flow(2);
        let mut now = Now(0);
        let mut times = Vec::new();
        for _ in 0..6 {
            now = flow.next_attempt(now);
            flow.attempt(now);
            times.push(now.0 / SECOND);
        }
        assert_eq!(times, [0, 0, 2, 17, 60, 75]);
        flow.forgive();
        assert_eq!(flow.next_attempt(now), now);
        assert!(!flow.attempt(now) && flow.attempt(now));
    }

    #[test]
    fn only_idle_flows_give_way_and_the_oldest_first() {
        let mut flows = Flows::default();
        let numbers: Vec<_> = (2..5).map(|last| flows.insert(flow(last))).collect();
        for (index, number) in numbers.iter().enumerate() {
            flows.open_as(Now(10 - index as u64), *number, FlowId(index as u64));
        }
        assert_eq!((flows.open(), flows.oldest_idle(PeerId(3))), (3, None));
        assert_eq!(flows.close(numbers[0]), Some(FlowId(0)));
        assert_eq!(flows.close(numbers[2]), Some(FlowId(2)));
        assert_eq!(flows.close(numbers[2]), None);
        assert_eq!(flows.oldest_idle(PeerId(3)), Some(numbers[2]));
        flows.remove(numbers[2]);
        assert_eq!(flows.oldest_idle(PeerId(3)), Some(numbers[0]));
        assert_eq!(flows.of_host(PeerId(3)), OfHost { all: 2, open: 1 });
        assert_eq!((flows.len(), flows.oldest_idle(PeerId(4))), (2, None));
    }
}
