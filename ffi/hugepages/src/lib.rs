//! The heap in pages of 2 MiB, for tables of which every packet reads another part: the fewer pages, the fewer misses of the TLB.
//!
//! ```text
//!   heap of glibc   |in use|.......... made at once by [`place`] ..........|
//!                          |  transparent hugepages, or the machine's pool |   what is allocated from now on lies here
//! ```
//!
//! No allocator of its own: glibc's heap is made to grow once, by as much as will be needed, and told to stay; then the kernel is
//! asked for other pages under what nothing has touched yet. This serves the main thread's allocations, small and large.

use std::fs;

use thiserror::Error;

/// Bytes of a page.
pub const PAGE: usize = 2 << 20;
const MIB: usize = 1 << 20;
const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// Which hugepages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The kernel's as it finds them, page by page as they are touched; ordinary ones where it finds none.
    Transparent,
    /// Of the pool that the machine's owner has set aside (`vm.nr_hugepages`), all now.
    Pool,
}

/// Why the heap is not where it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PlaceError {
    /// The pool is too small.
    #[error("{needed_mib} MiB of hugepages are needed, {free_mib} MiB are free")]
    Pool {
        /// MiB asked for.
        needed_mib: usize,
        /// MiB there are.
        free_mib: usize,
    },
    /// Not even ordinary memory.
    #[error("{needed_mib} MiB of memory are needed, and the kernel has not got them")]
    Memory {
        /// MiB asked for.
        needed_mib: usize,
    },
    /// No glibc.
    #[error("the heap can be placed with glibc alone")]
    Unsupported,
}

/// MiB of the machine's pool that are still to be had: neither in use nor promised to a mapping that has not touched them.
pub fn free_mib() -> usize {
    let pages = |file: &str| -> usize {
        let text = fs::read_to_string(format!("{POOL}/{file}")).ok();
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    pages("free_hugepages").saturating_sub(pages("resv_hugepages")) * (PAGE / MIB)
}

/// Makes the next `bytes` of the calling (main) thread's heap lie in hugepages, rounded up to whole ones. Once a process, early.
///
/// # Errors
/// See [`PlaceError`]; the heap is then as it was, but for a limit or two of glibc's.
#[cfg(target_env = "gnu")]
pub fn place(bytes: usize, kind: Kind) -> Result<(), PlaceError> {
    let bytes = bytes.next_multiple_of(PAGE);
    let needed_mib = bytes / MIB;
    // The pool is asked first: below, the kernel's refusal could not be told from a lack of address space.
    if kind == Kind::Pool && free_mib() < needed_mib {
        return Err(PlaceError::Pool {
            needed_mib,
            free_mib: free_mib(),
        });
    }
    // SAFETY: parameters of the allocator, which it may be given at any time: never give heap back to the kernel, and let large
    // blocks lie in the heap too. The block's bytes are not touched by the allocator until it is freed; `change_pages` leaves
    // them zero and readable, as fresh ones are; then it is freed, once.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_MMAP_MAX, 0);
        let block = libc::malloc(bytes + PAGE);
        if block.is_null() {
            return Err(PlaceError::Memory { needed_mib });
        }
        let start = (block as usize).next_multiple_of(PAGE);
        let changed = change_pages(start, bytes, kind);
        libc::free(block);
        match (changed, kind) {
            (false, Kind::Pool) => Err(PlaceError::Pool {
                needed_mib,
                free_mib: free_mib(),
            }),
            // Transparent pages are a wish: a kernel without them serves as well, more slowly.
            (true, _) | (false, Kind::Transparent) => Ok(()),
        }
    }
}

/// As above, where there is no glibc.
///
/// # Errors
/// Always.
#[cfg(not(target_env = "gnu"))]
pub fn place(_bytes: usize, _kind: Kind) -> Result<(), PlaceError> {
    Err(PlaceError::Unsupported)
}

/// Puts hugepages below `bytes` bytes from `start`, both multiples of [`PAGE`]. Whether the kernel did.
///
/// # Safety
/// The range is mapped, belongs to the caller, and nothing has been written to it.
#[cfg(target_env = "gnu")]
unsafe fn change_pages(start: usize, bytes: usize, kind: Kind) -> bool {
    let start = start as *mut libc::c_void;
    // SAFETY: the caller's promise. A refused fixed mapping may take the old one away, and then ordinary pages come in its place.
    unsafe {
        let map = |flags| {
            let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            libc::mmap(start, bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) != libc::MAP_FAILED
        };
        match kind {
            Kind::Transparent => libc::madvise(start, bytes, libc::MADV_HUGEPAGE) == 0,
            Kind::Pool if map(libc::MAP_HUGETLB | libc::MAP_HUGE_2MB) => true,
            Kind::Pool => {
                assert!(map(0), "the heap's pages are gone");
                false
            }
        }
    }
}
