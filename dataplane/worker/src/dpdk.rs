//! DPDK's buffers and queues as the packet path's.

use std::sync::Arc;

use ain_dataplane::limits::BURST;
use ain_dataplane::packet::{BufPool, PacketBuf};
use arrayvec::ArrayVec;
use dpdk_sys::mbuf::Mbuf;
use dpdk_sys::mempool::Mempool;
use dpdk_sys::queue::{RxQueue, TxQueue};

use crate::limits::POOL_STASH;
use crate::port::{Burst, Port, PortCounters, bytes_of, offer_bounded};

/// A DPDK packet buffer.
#[derive(Debug)]
pub struct DpdkBuf(pub Mbuf);

impl PacketBuf for DpdkBuf {
    #[inline]
    fn data(&self) -> &[u8] {
        self.0.data()
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        self.0.data_mut()
    }

    #[inline]
    fn headroom(&self) -> usize {
        self.0.headroom()
    }

    #[inline]
    fn tailroom(&self) -> usize {
        self.0.tailroom()
    }

    #[inline]
    fn grow_front(&mut self, n: usize) {
        self.0.prepend(n).expect("headroom");
    }

    #[inline]
    fn grow_back(&mut self, n: usize) {
        self.0.append(n).expect("tailroom");
    }

    #[inline]
    fn trim_front(&mut self, n: usize) {
        self.0.adj(n).expect("length");
    }

    #[inline]
    fn truncate(&mut self, n: usize) {
        let surplus = self.0.len().saturating_sub(n);
        self.0.trim(surplus).expect("length");
    }
}

/// A worker's way to a DPDK pool: takes buffers by the handful. They go back by themselves.
#[derive(Debug)]
pub struct DpdkPool {
    pool: Mempool,
    stash: ArrayVec<Mbuf, POOL_STASH>,
}

impl DpdkPool {
    /// Buffers of `pool`.
    pub fn new(pool: Mempool) -> Self {
        Self {
            pool,
            stash: ArrayVec::new(),
        }
    }
}

impl BufPool for DpdkPool {
    type Buf = DpdkBuf;

    #[inline]
    fn alloc(&mut self) -> Option<DpdkBuf> {
        if self.stash.is_empty() && self.pool.alloc_bulk(POOL_STASH, &mut self.stash).is_err() {
            // Fewer than a handful are left.
            return self.pool.alloc().map(DpdkBuf);
        }
        self.stash.pop().map(DpdkBuf)
    }
}

/// One queue pair of a DPDK port.
#[derive(Debug)]
pub struct DpdkPort {
    rx: RxQueue,
    tx: TxQueue,
    /// Packets between the driver and the caller's burst, whose type they take on here.
    staging: ArrayVec<Mbuf, BURST>,
    counters: Arc<PortCounters>,
    broken_before: u64,
}

impl DpdkPort {
    /// Joins two queues, of one port as a rule.
    pub fn new(rx: RxQueue, tx: TxQueue) -> Self {
        Self {
            rx,
            tx,
            staging: ArrayVec::new(),
            counters: Arc::default(),
            broken_before: 0,
        }
    }
}

impl Port for DpdkPort {
    type Buf = DpdkBuf;

    #[inline]
    fn rx(&mut self, into: &mut Burst<DpdkBuf>) -> usize {
        let start = into.len();
        let received = self.rx.rx_burst_up_to(into.remaining_capacity(), &mut self.staging);
        into.extend(self.staging.drain(..).map(DpdkBuf));
        self.counters.received(&into[start..]);
        let broken = self.rx.broken();
        self.counters.dropped_at_rx(broken - self.broken_before);
        self.broken_before = broken;
        received
    }

    #[inline]
    fn tx(&mut self, from: &mut Burst<DpdkBuf>) {
        let (packets, bytes) = (from.len(), bytes_of(from));
        self.staging.extend(from.drain(..).map(|buf| buf.0));
        let queue = &mut self.tx;
        offer_bounded(&mut self.staging, |waiting| {
            queue.tx_burst(waiting);
        });
        from.extend(self.staging.drain(..).map(DpdkBuf));
        self.counters.sent(packets, bytes, from);
        // What the driver did not take goes back to the pool at once, not one by one.
        self.staging.extend(from.drain(..).map(|buf| buf.0));
        Mbuf::free_bulk(&mut self.staging);
    }

    fn counters(&self) -> &Arc<PortCounters> {
        &self.counters
    }
}
