//! Packet buffers, as the packet path sees them.

/// One packet in one contiguous buffer with room before and behind. DPDK's mbuf is one, the in-memory buffer of tests another.
pub trait PacketBuf: Send {
    /// The packet.
    fn data(&self) -> &[u8];
    /// The packet.
    fn data_mut(&mut self) -> &mut [u8];
    /// Bytes free before the packet.
    fn headroom(&self) -> usize;
    /// Bytes free behind the packet.
    fn tailroom(&self) -> usize;
    /// Grows the packet at its front by `n` bytes of unspecified content. Panics past the headroom.
    fn grow_front(&mut self, n: usize);
    /// Grows the packet at its back by `n` bytes of unspecified content. Panics past the tailroom.
    fn grow_back(&mut self, n: usize);
    /// Takes `n` bytes off the front. Panics past the length.
    fn trim_front(&mut self, n: usize);
    /// Cuts the packet to `n` bytes. No effect if it is shorter.
    fn truncate(&mut self, n: usize);
}

/// Where empty buffers come from.
pub trait BufPool {
    /// The buffers of this pool.
    type Buf: PacketBuf;
    /// An empty buffer: length 0, at least [`HEADROOM`] bytes before it. `None` when the pool is exhausted.
    fn alloc(&mut self) -> Option<Self::Buf>;
}

/// A buffer of `pool` that holds `bytes`, if there is one and it is long enough.
pub fn filled<A: BufPool>(pool: &mut A, bytes: &[u8]) -> Option<A::Buf> {
    let mut buf = pool.alloc().filter(|buf| buf.tailroom() >= bytes.len())?;
    buf.grow_back(bytes.len());
    buf.data_mut().copy_from_slice(bytes);
    Some(buf)
}

/// Bytes that go before a cell on its way out: Ethernet, the longer IP header and the longest AH.
pub const OUTER_ROOM: usize = 14 + 40 + 40;

/// Bytes that go behind a cell while its ICV is computed: the high half of the sequence number.
pub const BEHIND_ROOM: usize = 4;

/// Bytes every fresh buffer keeps free at its front: Ethernet, IPv6, AH and ESP header and IV fit.
pub const HEADROOM: usize = 128;
