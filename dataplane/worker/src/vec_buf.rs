//! Packet buffers in ordinary memory, for ports without DPDK and for tests.

use std::fmt;
use std::sync::Arc;

use ain_dataplane::packet::{BufPool, HEADROOM, PacketBuf};
use crossbeam_queue::ArrayQueue;

type Bytes = Box<[u8]>;

/// A fixed number of buffers of one size, made at the start: afterwards taking and returning them allocates nothing.
/// Clones share the buffers.
#[derive(Clone)]
pub struct VecPool {
    free: Arc<ArrayQueue<Bytes>>,
    room: usize,
}

impl VecPool {
    /// `buffers` buffers, at least one, for packets of up to `room` bytes behind [`HEADROOM`].
    pub fn new(buffers: usize, room: usize) -> Self {
        let free = ArrayQueue::new(buffers.max(1));
        while free.push(vec![0; HEADROOM + room].into_boxed_slice()).is_ok() {}
        Self {
            free: Arc::new(free),
            room,
        }
    }

    /// Bytes that a fresh buffer has behind its headroom.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Buffers not in use.
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// Buffers in all.
    pub fn size(&self) -> usize {
        self.free.capacity()
    }
}

impl BufPool for VecPool {
    type Buf = VecBuf;

    fn alloc(&mut self) -> Option<VecBuf> {
        let bytes = self.free.pop()?;
        Some(VecBuf {
            bytes,
            start: HEADROOM,
            end: HEADROOM,
            home: Arc::clone(&self.free),
        })
    }
}

impl fmt::Debug for VecPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "VecPool({} of {} free, {} bytes each)",
            self.available(),
            self.size(),
            self.room
        )
    }
}

/// One packet in a buffer of a [`VecPool`]; goes back to it on drop.
pub struct VecBuf {
    bytes: Bytes,
    start: usize,
    end: usize,
    home: Arc<ArrayQueue<Bytes>>,
}

impl PacketBuf for VecBuf {
    fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    fn headroom(&self) -> usize {
        self.start
    }

    fn tailroom(&self) -> usize {
        self.bytes.len() - self.end
    }

    fn grow_front(&mut self, n: usize) {
        assert!(
            n <= self.headroom(),
            "{n} bytes before a packet with room for {}",
            self.headroom()
        );
        self.start -= n;
    }

    fn grow_back(&mut self, n: usize) {
        assert!(
            n <= self.tailroom(),
            "{n} bytes behind a packet with room for {}",
            self.tailroom()
        );
        self.end += n;
    }

    fn trim_front(&mut self, n: usize) {
        assert!(
            n <= self.end - self.start,
            "{n} bytes off a packet of {}",
            self.end - self.start
        );
        self.start += n;
    }

    fn truncate(&mut self, n: usize) {
        self.end = self.end.min(self.start + n);
    }
}

impl Drop for VecBuf {
    fn drop(&mut self) {
        // Never full: it has a place for every buffer that it gave away.
        let _ = self.home.push(std::mem::take(&mut self.bytes));
    }
}

impl fmt::Debug for VecBuf {
    /// Sizes alone: what is inside is a user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "VecBuf({} bytes, {} before, {} behind)",
            self.data().len(),
            self.headroom(),
            self.tailroom()
        )
    }
}
