//! Receive and transmit queues: the packet path into and out of a port.
//!
//! A burst reads the driver's function and queue from DPDK's public table `rte_eth_fp_ops` and calls it: the one foreign call of
//! a burst. DPDK's rx/tx callbacks (packet capture) are not run.
//!
//! Two threads cannot poll one queue:
//!
//! ```compile_fail,E0277
//! fn shared<T: Sync>() {}
//! shared::<dpdk_sys::queue::RxQueue>();
//! ```
//!
//! ```
//! fn moved<T: Send>() {}
//! moved::<dpdk_sys::queue::RxQueue>();
//! ```

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::mbuf::Mbuf;
use crate::port::Running;
use crate::sys;

/// One receive queue of a running port. May move to another thread, not be shared; the port runs as long as it exists.
#[derive(Debug)]
pub struct RxQueue {
    queue: Queue,
    broken: u64,
}

/// One transmit queue of a running port. May move to another thread, not be shared; the port runs as long as it exists.
#[derive(Debug)]
pub struct TxQueue {
    queue: Queue,
}

#[derive(Debug)]
struct Queue {
    ops: *const sys::rte_eth_fp_ops,
    index: u16,
    port: Arc<Running>,
}

// SAFETY: a queue may be polled by any one thread at a time, which `&mut self` sees to; the table is static.
unsafe impl Send for Queue {}

impl Queue {
    fn new(port: &Arc<Running>, index: u16) -> Self {
        let table = (&raw const sys::rte_eth_fp_ops).cast::<sys::rte_eth_fp_ops>();
        // SAFETY: the table has an entry for every port number that DPDK gives.
        let ops = unsafe { table.add(usize::from(port.device().id())) };
        Self {
            ops,
            index,
            port: Arc::clone(port),
        }
    }
}

impl RxQueue {
    pub(crate) fn new(port: &Arc<Running>, index: u16) -> Self {
        Self {
            queue: Queue::new(port, index),
            broken: 0,
        }
    }

    /// Takes waiting packets into the free places of `into`; returns how many came. Never waits.
    ///
    /// Give it 32 or more places: some drivers deliver in fours and nothing below.
    #[inline]
    pub fn rx_burst<const N: usize>(&mut self, into: &mut ArrayVec<Mbuf, N>) -> usize {
        self.rx_burst_up_to(N, into)
    }

    /// As [`Self::rx_burst`], but `max` packets at most.
    #[inline]
    pub fn rx_burst_up_to<const N: usize>(&mut self, max: usize, into: &mut ArrayVec<Mbuf, N>) -> usize {
        let start = into.len();
        let room = (N - start).min(max).min(usize::from(u16::MAX)) as u16;
        // SAFETY: the port runs while `self.queue.port` lives, so the table's entry holds the driver's function and this
        // queue's data; `Mbuf` is a transparent pointer, `room` of them fit behind `start`, and the driver gives away what it
        // puts there.
        unsafe {
            let ops = self.queue.ops;
            let data = *(*ops).rxq.data.add(usize::from(self.queue.index));
            let receive = (*ops).rx_pkt_burst.unwrap_unchecked();
            let received = receive(data, into.as_mut_ptr().add(start).cast(), room);
            into.set_len(start + usize::from(received));
        }
        if !into[start..].iter().all(Mbuf::is_whole) {
            self.mend(start, into);
        }
        into.len() - start
    }

    /// Packets thrown away because they came in segments that did not fit into one buffer.
    pub fn broken(&self) -> u64 {
        self.broken
    }

    /// The queue's number at its port.
    pub fn index(&self) -> u16 {
        self.queue.index
    }

    /// The port's number.
    pub fn port_id(&self) -> u16 {
        self.queue.port.device().id()
    }

    #[cold]
    fn mend<const N: usize>(&mut self, start: usize, into: &mut ArrayVec<Mbuf, N>) {
        let mut place = start;
        while place < into.len() {
            if into[place].is_whole() || into[place].linearize() {
                place += 1;
            } else {
                self.broken += 1;
                into.remove(place);
            }
        }
    }
}

impl TxQueue {
    pub(crate) fn new(port: &Arc<Running>, index: u16) -> Self {
        Self {
            queue: Queue::new(port, index),
        }
    }

    /// Hands packets to the driver in order, from the first; returns how many it took. The others stay in `from`. Never waits.
    #[inline]
    pub fn tx_burst<const N: usize>(&mut self, from: &mut ArrayVec<Mbuf, N>) -> usize {
        let waiting = from.len().min(usize::from(u16::MAX));
        // SAFETY: the port runs while `self.queue.port` lives; `waiting` owned buffers, of which the driver takes the first
        // `sent`. The vector forgets those and moves the others to its start.
        unsafe {
            let ops = self.queue.ops;
            let data = *(*ops).txq.data.add(usize::from(self.queue.index));
            let transmit = (*ops).tx_pkt_burst.unwrap_unchecked();
            let all = from.len();
            from.set_len(0);
            let first = from.as_mut_ptr();
            let sent = usize::from(transmit(data, first.cast(), waiting as u16));
            if sent < all {
                first.copy_from(first.add(sent), all - sent);
            }
            from.set_len(all - sent);
            sent
        }
    }

    /// The queue's number at its port.
    pub fn index(&self) -> u16 {
        self.queue.index
    }

    /// The port's number.
    pub fn port_id(&self) -> u16 {
        self.queue.port.device().id()
    }
}
