//! Keys stay in memory and out of everything that memory leaks into: core files, debuggers, swap.

use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use thiserror::Error;

/// Why memory could not be locked: keys may end up in swap.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LockError {
    /// The limit is finite and may not be raised here.
    #[error(
        "key memory is not locked and may be swapped out: RLIMIT_MEMLOCK is {limit_bytes} bytes (raise it, \
         `LimitMEMLOCK=infinity` in a systemd unit, or give the process CAP_IPC_LOCK)"
    )]
    Limit {
        /// Bytes that may be locked.
        limit_bytes: u64,
    },
    /// The kernel refuses.
    #[error("key memory is not locked and may be swapped out: {0}")]
    Refused(nix::Error),
}

/// No core file of this process, and no debugger of another user on it.
///
/// # Errors
/// What the kernel says; the process must not go on to read keys then.
pub fn forbid_core_dumps() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // The limit does not bind a core_pattern that is a pipe; this does.
    prctl::set_dumpable(false)
}

/// Locks all memory of the process as it is touched, now and later.
///
/// # Errors
/// See [`LockError`]; a node may go on with a warning.
pub fn lock_memory() -> Result<(), LockError> {
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(LockError::Refused)?;
    // Under a finite limit, allocations past it would fail later, under load.
    let unlimited = soft == RLIM_INFINITY
        || has_ipc_lock()
        || setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_ok();
    if !unlimited {
        return Err(LockError::Limit { limit_bytes: soft });
    }
    try_lock().map_err(LockError::Refused)
}

/// Whether the process has CAP_IPC_LOCK, which the limit does not bind (capabilities(7)).
fn has_ipc_lock() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> CAP_IPC_LOCK & 1 == 1)
}

/// On fault: memory that is reserved but never touched costs nothing.
fn try_lock() -> nix::Result<()> {
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_core_dumps_afterwards() {
        forbid_core_dumps().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
        assert!(!prctl::get_dumpable().unwrap());
    }

    #[test]
    fn memory_is_locked_or_the_reason_is_told() {
        match lock_memory() {
            Ok(()) => {
                let status = std::fs::read_to_string("/proc/self/status").unwrap();
                let locked = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
                assert_ne!(locked.split_whitespace().nth(1), Some("0"), "{locked}");
            }
            Err(error) => assert!(error.to_string().contains("may be swapped out")),
        }
    }
}
