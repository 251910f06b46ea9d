//! DPDK's error numbers with DPDK's own words.

use std::ffi::CStr;
use std::fmt;

use crate::sys;

/// An error number of a DPDK call, positive as in `errno.h`; shows itself as `rte_strerror` has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// What a call that returns a negative number or sets `rte_errno` has left behind.
    pub(crate) fn of(returned: i32) -> Self {
        if returned < -1 { Self(-returned) } else { Self::last() }
    }

    /// This thread's `rte_errno`.
    pub(crate) fn last() -> Self {
        // SAFETY: reads a thread-local number.
        Self(unsafe { sys::shim_errno() })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: returns a NUL-terminated string, static or in a buffer of this thread that lives until the next call here.
        let text = unsafe { CStr::from_ptr(sys::rte_strerror(self.0)) };
        write!(f, "{} (errno {})", text.to_string_lossy(), self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
