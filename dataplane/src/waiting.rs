//! Datagrams that wait: for an AIVT at its entrance, for its binding at its exit. One bounded queue a worker, oldest dropped first.

use std::collections::VecDeque;

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
    queue: VecDeque<(WaitsFor, B)>,
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

    /// Adds a datagram and returns the one that had to make room: the oldest of its kind beyond [`WAITING_PER_FLOW`], or the
    /// oldest of all.
    pub fn push(&mut self, waits_for: WaitsFor, datagram: B) -> Option<B> {
        let evicted = if self.queue.iter().filter(|(w, _)| *w == waits_for).count() >= WAITING_PER_FLOW {
            self.take_first(waits_for)
        } else if self.queue.len() >= self.capacity {
            self.queue.pop_front().map(|(_, b)| b)
        } else {
            None
        };
        self.queue.push_back((waits_for, datagram));
        evicted
    }

    /// The oldest datagram that waits for `waits_for`.
    pub fn take_first(&mut self, waits_for: WaitsFor) -> Option<B> {
        let at = self.queue.iter().position(|(w, _)| *w == waits_for)?;
        self.queue.remove(at).map(|(_, b)| b)
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
        assert_eq!(waiting.push(b, 1000), None);
        for n in 0..WAITING_PER_FLOW {
            assert_eq!(waiting.push(a, n), None);
        }
        assert_eq!(waiting.push(a, 2000), Some(0), "the flow's own oldest");
        assert_eq!(waiting.push(b, 1001), None);
        assert_eq!(waiting.push(b, 1002), Some(1000), "the oldest of all");
        assert_eq!(waiting.take_first(a), Some(1));
        assert_eq!(waiting.take_first(b), Some(1001));
        assert_eq!(waiting.len(), WAITING_PER_FLOW);
    }
}
