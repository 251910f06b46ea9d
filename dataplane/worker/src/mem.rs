//! A pair of ports joined in memory: what one sends the other receives.

use std::fmt;
use std::sync::Arc;

use ain_dataplane::packet::PacketBuf;
use crossbeam_queue::ArrayQueue;

use crate::port::{Burst, Port, PortCounters, bytes_of, offer_bounded};

/// One end of a pair of ports. Packets wait in a queue of bounded length each way.
pub struct MemPort<B> {
    incoming: Arc<ArrayQueue<B>>,
    outgoing: Arc<ArrayQueue<B>>,
    counters: Arc<PortCounters>,
}

/// Two ports joined to each other, for up to `capacity` waiting packets each way (at least one).
pub fn pair<B: PacketBuf>(capacity: usize) -> (MemPort<B>, MemPort<B>) {
    let (there, back) = (queue(capacity), queue(capacity));
    let one = MemPort {
        incoming: Arc::clone(&back),
        outgoing: Arc::clone(&there),
        counters: Arc::default(),
    };
    let other = MemPort {
        incoming: there,
        outgoing: back,
        counters: Arc::default(),
    };
    (one, other)
}

fn queue<B>(capacity: usize) -> Arc<ArrayQueue<B>> {
    Arc::new(ArrayQueue::new(capacity.max(1)))
}

impl<B: PacketBuf> Port for MemPort<B> {
    type Buf = B;

    fn rx(&mut self, into: &mut Burst<B>) -> usize {
        let start = into.len();
        let room = into.remaining_capacity();
        into.extend((0..room).map_while(|_| self.incoming.pop()));
        self.counters.received(&into[start..]);
        into.len() - start
    }

    fn tx(&mut self, from: &mut Burst<B>) {
        let (packets, bytes) = (from.len(), bytes_of(from));
        offer_bounded(from, |waiting| {
            waiting.reverse();
            while let Some(first) = waiting.pop() {
                if let Err(refused) = self.outgoing.push(first) {
                    waiting.push(refused);
                    break;
                }
            }
            waiting.reverse();
        });
        self.counters.sent(packets, bytes, from);
        from.clear();
    }

    fn counters(&self) -> &Arc<PortCounters> {
        &self.counters
    }
}

impl<B> fmt::Debug for MemPort<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemPort({} in, {} out)", self.incoming.len(), self.outgoing.len())
    }
}
