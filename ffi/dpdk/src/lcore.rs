//! Threads as DPDK sees them, and the time-stamp counter.

use std::marker::PhantomData;

use crate::eal::Handle;
use crate::errno::Errno;
use crate::sys;

/// This thread could not become an lcore.
#[derive(Debug, thiserror::Error)]
#[error("lcore: this thread is not registered: {0}")]
pub struct LcoreError(Errno);

/// The calling thread as an lcore of DPDK: pools then serve it from a cache of its own instead of their shared ring.
///
/// For threads that DPDK did not make. Bound to its thread, hence not `Send`; gives the place back on drop.
#[derive(Debug)]
pub struct Lcore {
    id: u32,
    _eal: Handle,
    _this_thread: PhantomData<*const ()>,
}

impl Lcore {
    /// Registers the calling thread.
    ///
    /// # Errors
    /// If it is an lcore already, or no place is free (DPDK is built for 128 lcores).
    pub fn register(eal: &Handle) -> Result<Self, LcoreError> {
        if current_id().is_some() {
            // EEXIST: DPDK would take a second registration and undo both with one call.
            return Err(LcoreError(Errno(libc::EEXIST)));
        }
        // SAFETY: the EAL runs, as a handle proves.
        let failed = unsafe { sys::rte_thread_register() };
        if failed != 0 {
            return Err(LcoreError(Errno::of(failed)));
        }
        let Some(id) = current_id() else {
            return Err(LcoreError(Errno(libc::ENOENT)));
        };
        Ok(Self {
            id,
            _eal: eal.clone(),
            _this_thread: PhantomData,
        })
    }

    /// DPDK's number of this lcore.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Lcore {
    fn drop(&mut self) {
        // SAFETY: registered in `register`, on this same thread as the type is not `Send`.
        unsafe { sys::rte_thread_unregister() }
    }
}

/// The calling thread's number, if it is an lcore.
pub fn current_id() -> Option<u32> {
    // SAFETY: reads a thread-local number.
    let id = unsafe { sys::shim_lcore_id() };
    (id != u32::MAX).then_some(id)
}

/// The time-stamp counter, in ticks of [`tsc_hz`].
#[inline]
pub fn tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads a counter.
    unsafe {
        sys::shim_tsc()
    }
}

/// Ticks of [`tsc`] in a second, as the EAL measured at its start.
pub fn tsc_hz(_eal: &Handle) -> u64 {
    // SAFETY: the EAL runs, as a handle proves.
    unsafe { sys::rte_get_tsc_hz() }
}
