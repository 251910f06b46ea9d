//! The environment abstraction layer: DPDK's process-wide start and end.

use std::collections::BTreeSet;
use std::ffi::{CString, c_char, c_int};
use std::fs;
use std::iter;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::errno::Errno;
use crate::sys;

/// DPDK starts once in a process and cannot be started again, not even after its end.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Why DPDK did not start, or did not take a device.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// A second start in one process.
    #[error("EAL: already started once in this process")]
    AlreadyStarted,
    /// An argument with a NUL byte in it.
    #[error("EAL: argument {0:?} contains a NUL byte")]
    BadArgument(String),
    /// `rte_eal_init` refused; it has printed its reasons to standard error.
    #[error("EAL: rte_eal_init: {0}")]
    Init(Errno),
    /// `rte_dev_probe` refused a device.
    #[error("EAL: no device from {device:?}: {errno}")]
    Probe {
        /// What was asked for.
        device: String,
        /// DPDK's reason.
        errno: Errno,
    },
}

/// Why DPDK was left running at the end; the kernel then reclaims all with the process.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CleanupError {
    /// Ports, lcores, pools or handles still exist.
    #[error("EAL: not cleaned up, {0} handles are still in use")]
    HandlesInUse(usize),
    /// Packet buffers still exist.
    #[error("EAL: not cleaned up, {0} packet buffers are still in use")]
    BuffersInUse(usize),
    /// `rte_eal_cleanup` failed.
    #[error("EAL: rte_eal_cleanup: {0}")]
    Cleanup(Errno),
}

/// DPDK, running. Made once, by the thread that becomes DPDK's main lcore, and kept by it (hence not `Send`).
///
/// Dropping it gives DPDK's memory back, unless a handle or a packet buffer still exists: then all stays as it is until the
/// process ends, which is always sound.
#[derive(Debug)]
pub struct Eal {
    handle: Option<Handle>,
    /// The main lcore's mempool caches belong to this thread: counting buffers elsewhere would race with it.
    _main_thread: PhantomData<*const ()>,
}

/// A share in running DPDK, for any thread. Ports, lcores and pools are made from it.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    claimed_ports: Mutex<BTreeSet<u16>>,
    pools: Mutex<Vec<PoolPointer>>,
    /// Held while devices come; DPDK's probing is not thread-safe.
    probing: Mutex<()>,
}

/// A pool, kept for the count at the end.
#[derive(Debug)]
struct PoolPointer(NonNull<sys::rte_mempool>);

// SAFETY: only `rte_mempool_in_use_count` is called through it, which any thread may call.
unsafe impl Send for PoolPointer {}

impl Eal {
    /// Starts DPDK with command-line options, one string each, without a program name: `["--no-pci", "--vdev", "net_null0"]`.
    ///
    /// Say which cores it gets (`--lcores 0`): by default it starts a sleeping thread on each. The calling thread is pinned to
    /// its core, and threads that it makes later inherit that.
    ///
    /// # Errors
    /// On a second call in one process, on a NUL byte, and when DPDK refuses. DPDK ends the process itself on a few bad options.
    pub fn init<S: Into<String>>(options: impl IntoIterator<Item = S>) -> Result<Self, EalError> {
        let arguments = arguments(options.into_iter().map(Into::into))?;
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(EalError::AlreadyStarted);
        }
        // The EAL keeps pointers into its arguments: they stay for good, as does it.
        let count = arguments.len() as c_int;
        let strings = arguments.into_iter().map(CString::into_raw);
        let arguments: &'static mut [*mut c_char] = strings.chain([ptr::null_mut()]).collect::<Vec<_>>().leak();
        // SAFETY: `count` writable, NUL-terminated strings and a null pointer behind them, all of static life; called once.
        let parsed = unsafe { sys::rte_eal_init(count, arguments.as_mut_ptr()) };
        if parsed < 0 {
            return Err(EalError::Init(Errno::last()));
        }
        Ok(Self {
            handle: Some(Handle(Arc::default())),
            _main_thread: PhantomData,
        })
    }

    /// A share for other threads and objects.
    pub fn handle(&self) -> Handle {
        let Some(handle) = &self.handle else {
            unreachable!("the handle leaves in cleanup and drop alone")
        };
        handle.clone()
    }

    /// Ends DPDK, and says why not if it could not.
    ///
    /// # Errors
    /// If anything of DPDK is still in use; all of it then stays.
    pub fn cleanup(mut self) -> Result<(), CleanupError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), CleanupError> {
        let Some(handle) = self.handle.take() else {
            return Ok(());
        };
        match Arc::try_unwrap(handle.0) {
            Ok(shared) => shared.end(),
            Err(others) => Err(CleanupError::HandlesInUse(Arc::strong_count(&others) - 1)),
        }
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // A refusal leaves memory to the kernel, as documented.
        let _ = self.end();
    }
}

impl Shared {
    /// No handle is left, so no lcore but the main one, which is this thread, holds a mempool cache. All other threads return
    /// buffers straight to the pool's ring, whose tail moves last: a pool that counts full here is full.
    fn end(self) -> Result<(), CleanupError> {
        let pools = self.pools.into_inner().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: pools live until the cleanup below.
        let in_use: usize = pools
            .iter()
            .map(|p| unsafe { sys::rte_mempool_in_use_count(p.0.as_ptr()) } as usize)
            .sum();
        if in_use > 0 {
            return Err(CleanupError::BuffersInUse(in_use));
        }
        // SAFETY: called once, with no port, lcore, pool or buffer of DPDK left in Rust's hands.
        let failed = unsafe { sys::rte_eal_cleanup() };
        if failed == 0 {
            Ok(())
        } else {
            Err(CleanupError::Cleanup(Errno::of(failed)))
        }
    }
}

impl Handle {
    /// Adds a device while running: `"net_null1,size=64"`, a PCI address, or any string that `--vdev` or `-a` take.
    ///
    /// # Errors
    /// When no driver takes it.
    pub fn plug(&self, device: &str) -> Result<(), EalError> {
        let text = CString::new(device).map_err(|_| EalError::BadArgument(device.into()))?;
        let _one_at_a_time = lock(&self.0.probing);
        // SAFETY: a NUL-terminated string that DPDK copies.
        let failed = unsafe { sys::rte_dev_probe(text.as_ptr()) };
        if failed != 0 {
            return Err(EalError::Probe {
                device: device.into(),
                errno: Errno::of(failed),
            });
        }
        Ok(())
    }

    /// Takes a port for one owner; `false` if it has one.
    pub(crate) fn claim(&self, port: u16) -> bool {
        lock(&self.0.claimed_ports).insert(port)
    }

    pub(crate) fn release(&self, port: u16) {
        lock(&self.0.claimed_ports).remove(&port);
    }

    pub(crate) fn remember_pool(&self, pool: NonNull<sys::rte_mempool>) {
        lock(&self.0.pools).push(PoolPointer(pool));
    }
}

/// A lock whose data is whole at every step, so that another thread's panic does not matter.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn arguments(options: impl Iterator<Item = String>) -> Result<Vec<CString>, EalError> {
    let all = iter::once("ain".to_owned()).chain(options);
    all.map(|s| CString::new(s.clone()).map_err(|_| EalError::BadArgument(s)))
        .collect()
}

/// Options that give DPDK `megabytes` of memory on this machine as it is: from hugepages if so many are free, else from ordinary
/// pages (slower: more TLB misses). Both leave no file behind and let many processes run side by side.
pub fn memory_options(megabytes: u32) -> Vec<String> {
    let size = megabytes.to_string();
    if free_hugepages_mb() >= u64::from(megabytes) {
        vec!["--in-memory".into(), "-m".into(), size]
    } else {
        vec!["--no-huge".into(), "--no-shconf".into(), "-m".into(), size]
    }
}

/// Megabytes of hugepages of all sizes that are still to be had: neither in use nor promised to a mapping that has not touched them.
pub fn free_hugepages_mb() -> u64 {
    let directories = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    directories
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let page_kb: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let pages = |file| -> Option<u64> {
                let text = fs::read_to_string(entry.path().join(file)).ok()?;
                text.trim().parse().ok()
            };
            let free = pages("free_hugepages")?.saturating_sub(pages("resv_hugepages")?);
            Some(free * page_kb / 1024)
        })
        .sum()
}
