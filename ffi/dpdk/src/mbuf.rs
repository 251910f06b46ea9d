//! Packet buffers.
//!
//! ```text
//!   buf_addr            data_off                data_off + len           buf_len
//!      |---- headroom ----|-------- data ----------|------ tailroom ------|
//! ```
//!
//! Fields are read and written here in Rust, without a call into C, at the offsets that `csrc/shim.h` took from DPDK's headers.

use std::fmt;
use std::ptr::NonNull;
use std::slice;

use arrayvec::ArrayVec;

use crate::sys::{self, shim_mbuf_offset as offset};

/// The buffer has not the room, or the packet not the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("packet buffer: {asked} bytes asked for, {there} there")]
pub struct NoRoom {
    /// Bytes asked for.
    pub asked: usize,
    /// Bytes of room or packet.
    pub there: usize,
}

/// One packet in one buffer of a pool, with one owner. Goes back to its pool on drop.
#[repr(transparent)]
pub struct Mbuf(
    /// Invariant: a live buffer of one segment and one reference, nobody else's, `data_off + data_len <= buf_len`.
    NonNull<sys::rte_mbuf>,
);

// SAFETY: the buffer has one owner, and returning it to the pool is safe from any thread.
unsafe impl Send for Mbuf {}
// SAFETY: `&Mbuf` only reads.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// The packet.
    #[inline]
    pub fn data(&self) -> &[u8] {
        // SAFETY: by the invariant, bytes of this buffer, initialised as all memory that the EAL maps is, borrowed with `self`.
        unsafe { slice::from_raw_parts(self.start(), self.len()) }
    }

    /// The packet.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`; one reference to the buffer exists and it is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.start(), self.len()) }
    }

    /// Bytes of the packet.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.u16_at(offset::SHIM_MBUF_DATA_LEN))
    }

    /// No byte in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes free before the packet.
    #[inline]
    pub fn headroom(&self) -> usize {
        usize::from(self.u16_at(offset::SHIM_MBUF_DATA_OFF))
    }

    /// Bytes free behind the packet.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.capacity() - self.headroom() - self.len()
    }

    /// Bytes of the buffer.
    #[inline]
    pub fn capacity(&self) -> usize {
        usize::from(self.u16_at(offset::SHIM_MBUF_BUF_LEN))
    }

    /// Grows the packet at its front by `n` bytes that keep what the buffer held.
    ///
    /// # Errors
    /// Past the headroom; nothing changes then.
    #[inline]
    pub fn prepend(&mut self, n: usize) -> Result<(), NoRoom> {
        let there = self.headroom();
        if n > there {
            return Err(NoRoom { asked: n, there });
        }
        self.set(there - n, self.len() + n);
        Ok(())
    }

    /// Grows the packet at its back by `n` bytes that keep what the buffer held.
    ///
    /// # Errors
    /// Past the tailroom; nothing changes then.
    #[inline]
    pub fn append(&mut self, n: usize) -> Result<(), NoRoom> {
        let there = self.tailroom();
        if n > there {
            return Err(NoRoom { asked: n, there });
        }
        self.set(self.headroom(), self.len() + n);
        Ok(())
    }

    /// Takes `n` bytes off the front.
    ///
    /// # Errors
    /// Past the length; nothing changes then.
    #[inline]
    pub fn adj(&mut self, n: usize) -> Result<(), NoRoom> {
        let there = self.len();
        if n > there {
            return Err(NoRoom { asked: n, there });
        }
        self.set(self.headroom() + n, there - n);
        Ok(())
    }

    /// Takes `n` bytes off the back.
    ///
    /// # Errors
    /// Past the length; nothing changes then.
    #[inline]
    pub fn trim(&mut self, n: usize) -> Result<(), NoRoom> {
        let there = self.len();
        if n > there {
            return Err(NoRoom { asked: n, there });
        }
        self.set(self.headroom(), there - n);
        Ok(())
    }

    /// Asks for the buffer's own fields, which a driver has just written when it hands the packet over.
    #[inline]
    pub fn prefetch(&self) {
        // SAFETY: a live buffer's structure begins with its first cache line, which is only hinted at.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(self.0.as_ptr().cast());
        }
    }

    /// Gives a whole burst back at once, cheaper than one by one.
    #[inline]
    pub fn free_bulk<const N: usize>(burst: &mut ArrayVec<Self, N>) {
        let count = burst.len();
        // SAFETY: `count` owned buffers, forgotten by the vector before DPDK takes them.
        unsafe {
            burst.set_len(0);
            sys::shim_free_bulk(burst.as_mut_ptr().cast(), count as u32);
        }
    }

    /// One segment, and its bytes inside the buffer: what a driver delivers must be so before it is an `Mbuf` to anyone.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        let end = self.headroom() + self.len();
        self.u16_at(offset::SHIM_MBUF_NB_SEGS) == 1 && end <= self.capacity()
    }

    /// Copies a packet of several segments into its first one; `false` if it does not fit.
    pub(crate) fn linearize(&mut self) -> bool {
        // SAFETY: a chain as the driver delivered it, which DPDK checks for room.
        unsafe { sys::shim_linearize(self.0.as_ptr()) == 0 && self.is_whole() }
    }

    #[inline]
    fn start(&self) -> *mut u8 {
        // SAFETY: the field is a pointer to the buffer's bytes, and `data_off` lies inside them.
        unsafe {
            self.field::<*mut u8>(offset::SHIM_MBUF_BUF_ADDR)
                .read()
                .add(self.headroom())
        }
    }

    /// Callers keep `data_off + len` within the buffer, whose length is a u16.
    #[inline]
    fn set(&mut self, data_off: usize, len: usize) {
        // SAFETY: the three fields, of these types, of a buffer that is borrowed mutably.
        unsafe {
            self.field::<u16>(offset::SHIM_MBUF_DATA_OFF).write(data_off as u16);
            self.field::<u16>(offset::SHIM_MBUF_DATA_LEN).write(len as u16);
            self.field::<u32>(offset::SHIM_MBUF_PKT_LEN).write(len as u32);
        }
    }

    #[inline]
    fn u16_at(&self, offset: offset::Type) -> u16 {
        // SAFETY: used for fields of that type alone.
        unsafe { self.field::<u16>(offset).read() }
    }

    #[inline]
    fn field<T>(&self, offset: offset::Type) -> *mut T {
        // SAFETY: an offset within the structure.
        unsafe { self.0.as_ptr().byte_add(offset as usize).cast() }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: an owned, live buffer.
        unsafe { sys::shim_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    /// Sizes alone: what is inside is a user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Mbuf({} bytes, {} before, {} behind)",
            self.len(),
            self.headroom(),
            self.tailroom()
        )
    }
}
