//! A port with fewer pairs of queues than there are workers: workers without one are guests of a worker that has one.
//!
//! ```text
//!   guest  tx ──ring──┐                     rx: nothing; packets come by hand-over
//!   guest  tx ──ring──┤
//!   host              └─► its next rx sends what guests left ─► the port
//! ```
//! Nothing is locked and nothing waits: a full ring drops, and the guest counts it.

use std::sync::Arc;

use ain_dataplane::handoff::{Consumer, Producer, ring};
use ain_dataplane::packet::PacketBuf;

use crate::limits::GUEST_RING;
use crate::port::{Burst, Port, PortCounters, bytes_of};

/// The end of the worker that has the queues.
pub struct HostPort<P: Port> {
    port: P,
    guests: Vec<Consumer<P::Buf>>,
    leaving: Burst<P::Buf>,
}

/// The end of a worker that has none.
pub struct GuestPort<B> {
    to_host: Producer<B>,
    counters: Arc<PortCounters>,
}

/// Lets `guests` workers send through `port`.
pub fn share<P: Port>(port: P, guests: usize) -> (HostPort<P>, Vec<GuestPort<P::Buf>>) {
    let (ins, outs) = (0..guests).map(|_| ring(GUEST_RING)).unzip::<_, _, Vec<_>, Vec<_>>();
    let guest = |to_host| GuestPort {
        to_host,
        counters: Arc::default(),
    };
    let host = HostPort {
        port,
        guests: outs,
        leaving: Burst::new(),
    };
    (host, ins.into_iter().map(guest).collect())
}

impl<P: Port> Port for HostPort<P> {
    type Buf = P::Buf;

    /// What guests sent counts too, so that a host with nothing but guests' work does not fall asleep.
    fn rx(&mut self, into: &mut Burst<P::Buf>) -> usize {
        let mut sent = 0;
        for guest in &mut self.guests {
            let room = self.leaving.remaining_capacity();
            self.leaving.extend((0..room).map_while(|_| guest.pop()));
            sent += self.leaving.len();
            if !self.leaving.is_empty() {
                self.port.tx(&mut self.leaving);
            }
        }
        sent + self.port.rx(into)
    }

    fn tx(&mut self, from: &mut Burst<P::Buf>) {
        self.port.tx(from);
    }

    fn counters(&self) -> &Arc<PortCounters> {
        self.port.counters()
    }
}

impl<B: PacketBuf> Port for GuestPort<B> {
    type Buf = B;

    fn rx(&mut self, _into: &mut Burst<B>) -> usize {
        0
    }

    /// The host counts what leaves, the guest what does not get that far.
    fn tx(&mut self, from: &mut Burst<B>) {
        let refused: Burst<B> = from
            .drain(..)
            .filter_map(|frame| self.to_host.push(frame).err())
            .collect();
        self.counters.sent(refused.len(), bytes_of(&refused), &refused);
    }

    fn counters(&self) -> &Arc<PortCounters> {
        &self.counters
    }
}
