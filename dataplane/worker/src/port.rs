//! What a worker needs of a port, and what a port counts.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ain_dataplane::limits::BURST;
use ain_dataplane::packet::PacketBuf;
use arrayvec::ArrayVec;
use crossbeam_utils::CachePadded;

use crate::limits::TX_TRIES;

/// Up to [`BURST`] packets.
pub type Burst<B> = ArrayVec<B, BURST>;

/// A source and sink of packets, polled by one worker. No call waits.
pub trait Port: Send {
    /// The buffers that come and go.
    type Buf: PacketBuf;

    /// Puts waiting packets into the free places of `into`; returns how many it moved.
    fn rx(&mut self, into: &mut Burst<Self::Buf>) -> usize;

    /// Sends all of `from`, in order, and leaves it empty. What the port does not take within [`TX_TRIES`] tries is dropped and
    /// counted.
    fn tx(&mut self, from: &mut Burst<Self::Buf>);

    /// The port's counters, for any thread to read.
    fn counters(&self) -> &Arc<PortCounters>;
}

/// Counters of one port at one worker: one writer, any reader, no lock.
#[derive(Debug, Default)]
pub struct PortCounters(CachePadded<Cells>);

#[derive(Debug, Default)]
struct Cells {
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    rx_dropped: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    tx_dropped: AtomicU64,
}

/// What [`PortCounters`] said at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortCounts {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets lost at reception: longer than a buffer, or the call failed.
    pub rx_dropped: u64,
    /// Packets handed to the port.
    pub tx_packets: u64,
    /// Bytes handed to the port.
    pub tx_bytes: u64,
    /// Packets that the port did not take.
    pub tx_dropped: u64,
}

impl PortCounters {
    /// All of them now.
    pub fn read(&self) -> PortCounts {
        let cells = &self.0;
        PortCounts {
            rx_packets: cells.rx_packets.load(Relaxed),
            rx_bytes: cells.rx_bytes.load(Relaxed),
            rx_dropped: cells.rx_dropped.load(Relaxed),
            tx_packets: cells.tx_packets.load(Relaxed),
            tx_bytes: cells.tx_bytes.load(Relaxed),
            tx_dropped: cells.tx_dropped.load(Relaxed),
        }
    }

    /// Packets came.
    pub(crate) fn received<B: PacketBuf>(&self, packets: &[B]) {
        if !packets.is_empty() {
            add(&self.0.rx_packets, packets.len() as u64);
            add(&self.0.rx_bytes, bytes_of(packets));
        }
    }

    pub(crate) fn dropped_at_rx(&self, packets: u64) {
        if packets > 0 {
            add(&self.0.rx_dropped, packets);
        }
    }

    /// Of `packets` offered with `bytes`, `left` stay behind.
    pub(crate) fn sent<B: PacketBuf>(&self, packets: usize, bytes: u64, left: &[B]) {
        add(&self.0.tx_packets, (packets - left.len()) as u64);
        add(&self.0.tx_bytes, bytes - bytes_of(left));
        if !left.is_empty() {
            add(&self.0.tx_dropped, left.len() as u64);
        }
    }
}

/// The only writer adds by load and store.
fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

/// Bytes of all packets.
pub(crate) fn bytes_of<B: PacketBuf>(packets: &[B]) -> u64 {
    packets.iter().map(|p| p.data().len() as u64).sum()
}

/// Offers packets until none is left or [`TX_TRIES`] offers in a row moved nothing. `offer` takes what it can from the front.
pub(crate) fn offer_bounded<B, const N: usize>(
    packets: &mut ArrayVec<B, N>,
    mut offer: impl FnMut(&mut ArrayVec<B, N>),
) {
    let mut fruitless = 0;
    while !packets.is_empty() && fruitless < TX_TRIES {
        let before = packets.len();
        offer(packets);
        if packets.len() == before {
            fruitless += 1;
            spin_loop();
        } else {
            fruitless = 0;
        }
    }
}
