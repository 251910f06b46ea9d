//! A worker's thread: its core, its name, its timers.

use std::ffi::CString;

use core_affinity::CoreId;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl;
use nix::unistd::Pid;

use crate::limits::CORES;

/// A thread could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// No such core, or not one that this process may use.
    #[error("thread {thread}: core {core} does not exist or is not allowed to this process")]
    Core {
        /// The thread's name.
        thread: String,
        /// The core asked for.
        core: usize,
    },
    /// A name with a NUL byte in it.
    #[error("thread {0:?}: the name contains a NUL byte")]
    Name(String),
    /// The kernel refused.
    #[error("thread {thread}: prctl: {errno}")]
    Prctl {
        /// The thread's name.
        thread: String,
        /// The reason.
        errno: Errno,
    },
}

/// Names the calling thread (15 bytes show), gives it `core` for itself if one is named, and makes its sleeps exact to the
/// microsecond: by default the kernel may add 50 to each.
///
/// # Errors
/// When the core is not to be had.
pub fn set_up_thread(thread: &str, core: Option<usize>) -> Result<(), PinError> {
    let name = CString::new(thread).map_err(|_| PinError::Name(thread.into()))?;
    let failed = |errno| PinError::Prctl {
        thread: thread.into(),
        errno,
    };
    prctl::set_name(&name).map_err(failed)?;
    prctl::set_timerslack(1).map_err(failed)?;
    match core {
        Some(id) if id >= CORES || !core_affinity::set_for_current(CoreId { id }) => Err(PinError::Core {
            thread: thread.into(),
            core: id,
        }),
        _ => Ok(()),
    }
}

/// Leaves `cores` to others: the calling thread stays off them, and so do the threads that it starts from now on and that are pinned
/// nowhere. If it may use no other core, nothing changes.
///
/// # Errors
/// The kernel refuses.
pub fn keep_off(cores: &[u16]) -> nix::Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let mut left = CpuSet::new();
    for core in (0..CpuSet::count()).filter(|core| cores.iter().all(|other| usize::from(*other) != *core)) {
        if allowed.is_set(core)? {
            left.set(core)?;
        }
    }
    if left == CpuSet::new() {
        return Ok(());
    }
    sched_setaffinity(this, &left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Vec<usize> {
        let set = sched_getaffinity(Pid::from_raw(0)).expect("affinity");
        (0..CpuSet::count())
            .filter(|&core| set.is_set(core).expect("in range"))
            .collect()
    }

    #[test]
    fn thread_is_named_and_pinned() {
        let last = *allowed().last().expect("a core");
        set_up_thread("ain-worker-7", Some(last)).expect("set up");
        assert_eq!(allowed(), [last]);
        assert_eq!(prctl::get_name().expect("name").to_str(), Ok("ain-worker-7"));
        assert_eq!(prctl::get_timerslack().expect("slack"), 1);
    }

    #[test]
    fn threads_that_a_thread_starts_keep_off_cores_too() {
        let all = allowed();
        let numbers: Vec<u16> = all.iter().map(|core| u16::try_from(*core).expect("a core")).collect();
        keep_off(&numbers).expect("nothing is left: unchanged");
        assert_eq!(allowed(), all);
        keep_off(&numbers[1..]).expect("one is left");
        assert_eq!(std::thread::spawn(allowed).join().expect("a thread"), all[..1]);
    }

    #[test]
    fn bad_cores_and_names_are_refused() {
        for core in [CORES - 1, CORES, usize::MAX] {
            assert!(
                matches!(set_up_thread("t", Some(core)), Err(PinError::Core { .. })),
                "core {core}"
            );
        }
        assert!(matches!(set_up_thread("a\0b", None), Err(PinError::Name(_))));
    }
}
