//! Pools of packet buffers.

use std::ffi::CString;
use std::ptr::NonNull;

use arrayvec::ArrayVec;

use crate::eal::Handle;
use crate::errno::Errno;
use crate::mbuf::Mbuf;
use crate::sys;

/// Bytes that a fresh buffer keeps free at its front.
pub const HEADROOM: usize = sys::SHIM_HEADROOM as usize;

/// A pool could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// A name with a NUL byte in it.
    #[error("pool {0:?}: the name contains a NUL byte")]
    BadName(String),
    /// DPDK refused: `ENOMEM` when memory is short, `EEXIST` when the name is taken.
    #[error("pool {name:?} of {buffers} buffers of {data_room} bytes: {errno}")]
    Create {
        /// The pool's name.
        name: String,
        /// Buffers asked for.
        buffers: u32,
        /// Bytes asked for in each.
        data_room: u16,
        /// DPDK's reason.
        errno: Errno,
    },
}

/// What a pool should be.
#[derive(Clone, Debug)]
pub struct PoolConfig<'a> {
    /// Its name, one of a kind in the process, up to 25 bytes.
    pub name: &'a str,
    /// Buffers in it; 2^n - 1 wastes no memory.
    pub buffers: u32,
    /// Bytes of each, [`HEADROOM`] included.
    pub data_room: u16,
    /// Buffers that each lcore may keep for itself, at most 512 and two thirds of `buffers`; 0 for none.
    pub cache: u32,
    /// Memory node; `None` for any.
    pub socket: Option<u32>,
}

/// A pool of packet buffers, for use from any thread. Clones share it; it lives until the EAL is cleaned up.
#[derive(Clone, Debug)]
pub struct Mempool {
    pool: NonNull<sys::rte_mempool>,
    data_room: u16,
    size: u32,
    _eal: Handle,
}

// SAFETY: a pktmbuf pool's handler is multi-producer and multi-consumer, and its caches are one per lcore, that is per thread.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

/// The pool had not enough buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("pool: not enough free buffers")]
pub struct Exhausted;

impl Mempool {
    /// Makes a pool.
    ///
    /// # Errors
    /// When the name is bad or taken, a figure out of range, or memory short.
    pub fn create(eal: &Handle, config: &PoolConfig<'_>) -> Result<Self, PoolError> {
        let name = CString::new(config.name).map_err(|_| PoolError::BadName(config.name.into()))?;
        let socket = config.socket.map_or(-1, |s| s as i32);
        // SAFETY: the EAL runs; the name is NUL-terminated and copied. 0 bytes of private area per buffer.
        let pool = unsafe {
            sys::rte_pktmbuf_pool_create(name.as_ptr(), config.buffers, config.cache, 0, config.data_room, socket)
        };
        let Some(pool) = NonNull::new(pool) else {
            return Err(PoolError::Create {
                name: config.name.into(),
                buffers: config.buffers,
                data_room: config.data_room,
                errno: Errno::last(),
            });
        };
        eal.remember_pool(pool);
        // SAFETY: a pktmbuf pool.
        let data_room = unsafe { sys::shim_data_room(pool.as_ptr()) };
        Ok(Self {
            pool,
            data_room,
            size: config.buffers,
            _eal: eal.clone(),
        })
    }

    /// One empty buffer, [`HEADROOM`] before it; `None` when the pool is exhausted.
    pub fn alloc(&self) -> Option<Mbuf> {
        let mut one = ArrayVec::<Mbuf, 1>::new();
        self.alloc_bulk(1, &mut one).ok()?;
        one.pop()
    }

    /// `count` empty buffers behind those in `into`, all or none.
    ///
    /// # Errors
    /// When the pool has not so many free.
    ///
    /// # Panics
    /// When `into` has no room for `count`.
    #[inline]
    pub fn alloc_bulk<const N: usize>(&self, count: usize, into: &mut ArrayVec<Mbuf, N>) -> Result<(), Exhausted> {
        let start = into.len();
        assert!(count <= N - start, "room for {} buffers, asked for {count}", N - start);
        // SAFETY: `Mbuf` is a transparent non-null pointer; there is room for `count` of them behind `start`, and DPDK fills
        // all of it or none. Fresh buffers are whole: one segment, one reference, length 0.
        unsafe {
            let spare = into.as_mut_ptr().add(start).cast::<*mut sys::rte_mbuf>();
            if sys::shim_alloc_bulk(self.pool.as_ptr(), spare, count as u32) != 0 {
                return Err(Exhausted);
            }
            into.set_len(start + count);
        }
        Ok(())
    }

    /// Free buffers, those in the lcores' caches included. Exact only while nobody allocates or frees.
    pub fn available(&self) -> usize {
        // SAFETY: the pool lives.
        unsafe { sys::rte_mempool_avail_count(self.pool.as_ptr()) as usize }
    }

    /// Buffers in the program's or a driver's hands. Exact only while nobody allocates or frees.
    pub fn in_use(&self) -> usize {
        // SAFETY: the pool lives.
        unsafe { sys::rte_mempool_in_use_count(self.pool.as_ptr()) as usize }
    }

    /// Buffers in all.
    pub fn size(&self) -> usize {
        self.size as usize
    }

    /// Bytes of each buffer, [`HEADROOM`] included.
    pub fn data_room(&self) -> usize {
        usize::from(self.data_room)
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.pool.as_ptr()
    }
}
