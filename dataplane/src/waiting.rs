//! Datagrams that wait: for an AIVT at its entrance, for its binding at its exit. One bounded queue a worker, of which one tunnel has
//! half at most, oldest dropped first.

use std::collections::VecDeque;

use crate::id::PeerId;
use crate::limits::WAITING_PER_FLOW;

/// What a datagram waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitsFor {
    /// An AIVT for the flow in this slot.
    Flow(u32),
    /// The binding of the inbound TVT in this slot.
    Binding(u32),
}

/// The queue.
pub struct Waiting<B> {
    queue: VecDeque<(WaitsFor, PeerId, B)>,
    capacity: usize,
}

impl<B> Waiting<B> {
    /// Room for `capacity` datagrams in all; nothing is allocated later.
    pub fn new(capacity: usize) -> Self {
        Self {
            queue: VecDeque::with_capacity(capacity),
            capacity,
        }
    }

    /// Adds a datagram that came through the tunnel of `from` and returns the one that had to make room: the oldest of its kind beyond
    /// [`WAITING_PER_FLOW`], the oldest from there beyond half of the room, or the oldest of all.
    pub fn push(&mut self, waits_for: WaitsFor, from: PeerId, datagram: B) -> Option<B> {
        let (mut of_kind, mut of_tunnel) = (0, 0);
        for (what, whose, _) in &self.queue {
            of_kind += usize::from(*what == waits_for);
            of_tunnel += usize::from(*whose == from);
        }
        let evicted = if of_kind >= WAITING_PER_FLOW {
            self.take_first(waits_for)
        } else if of_tunnel >= self.capacity.div_ceil(2) {
            self.take_where(|_, whose| whose == from)
        } else if self.queue.len() >= self.capacity {
            self.take_where(|_, _| true)
        } else {
            None
        };
        self.queue.push_back((waits_for, from, datagram));
        evicted
    }

    /// The oldest datagram that waits for `waits_for`.
    pub fn take_first(&mut self, waits_for: WaitsFor) -> Option<B> {
        self.take_where(|what, _| what == waits_for)
    }

    fn take_where(&mut self, fits: impl Fn(WaitsFor, PeerId) -> bool) -> Option<B> {
        let at = self.queue.iter().position(|(what, whose, _)| fits(*what, *whose))?;
        self.queue.remove(at).map(|(_, _, datagram)| datagram)
    }

    /// Datagrams waiting.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_drops_the_oldest() {
        let mut waiting = Waiting::new(WAITING_PER_FLOW + 2);
        let (a, b) = (WaitsFor::Flow(1), WaitsFor::Binding(1));
        let mut tunnel = 0;
        let mut push = |waiting: &mut Waiting<usize>, what, datagram| {
            // Each from a tunnel of its own.
            tunnel += 1;
            waiting.push(what, PeerId(tunnel), datagram)
        };
        assert_eq!(push(&mut waiting, b, 1000), None);
        for n in 0..WAITING_PER_FLOW {
            assert_eq!(push(&mut waiting, a, n), None);
        }
        assert_eq!(push(&mut waiting, a, 2000), Some(0), "the flow's own oldest");
        assert_eq!(push(&mut waiting, b, 1001), None);
        assert_eq!(push(&mut waiting, b, 1002), Some(1000), "the oldest of all");
        assert_eq!(waiting.take_first(a), Some(1));
        assert_eq!(waiting.take_first(b), Some(1001));
        assert_eq!(waiting.len(), WAITING_PER_FLOW);
    }

    #[test]
    fn line_7_a_greedy_tunnel_waits_in_half_of_the_room() {
        let mut waiting = Waiting::new(8);
        let (greedy, modest) = (PeerId(1), PeerId(2));
        assert_eq!(waiting.push(WaitsFor::Flow(100), modest, 100), None);
        for flow in 0..20 {
            let evicted = waiting.push(WaitsFor::Flow(flow), greedy, flow);
            assert_eq!(evicted, flow.checked_sub(4), "its own oldest");
        }
        assert_eq!(waiting.push(WaitsFor::Flow(101), modest, 101), None);
        assert_eq!(waiting.take_first(WaitsFor::Flow(100)), Some(100));
    }
}
