//! Tables that the control thread publishes and workers read: one load a burst, no lock waited for, nothing freed by a worker.
//!
//! ```text
//!  control   publish(T) -> version 7 ........ all_passed(7)? no .... yes: what only version 6 knew may be reused
//!              |                                    ^                 ^
//!              v version, Mutex<Arc<T>>             | seen = 6        | seen = 7
//!  worker    current() ... burst ... quiescent() ---+ current() ... burst ... quiescent()
//! ```
//!
//! A worker begins each burst with [`Reader::current`]: one load of the version, and only when that has moved a `try_lock` to fetch
//! the new table; should control hold the lock just then, the worker keeps the old table for one more burst. It ends each burst with
//! [`Reader::quiescent`], which tells control the version it has worked with. [`Publisher::all_passed`] is the grace period:
//! every worker has finished a burst that began after that version was published, or is asleep ([`Reader::offline`]).
//!
//! Everything that control did before it published (entries taken out of the flow table, for instance) is visible to a worker that
//! has seen the version. Old tables stay with the publisher until no worker holds them, so that it is always the control thread that
//! frees; only after the publisher itself is gone, at shutdown, the last worker does.

use std::fmt;

use crossbeam_utils::CachePadded;

use crate::sync::{Arc, AtomicU64, Mutex, Ordering, PoisonError, TryLockError, fence};

/// `seen` of a worker that sleeps or has not begun: it holds no reference into any table and passes every grace period.
const OFFLINE: u64 = u64::MAX;

struct Shared<T> {
    /// A hint that `current` has moved: the lock, not this, orders what control did before a worker's use of it, hence relaxed.
    version: CachePadded<AtomicU64>,
    /// Locked by control for the exchange of one pointer, never longer.
    current: Mutex<(u64, Arc<T>)>,
    /// Per reader, the version it was quiescent with, or [`OFFLINE`].
    seen: Box<[CachePadded<AtomicU64>]>,
}

/// The control thread's end. There is one.
pub struct Publisher<T> {
    shared: Arc<Shared<T>>,
    version: u64,
    current: Arc<T>,
    retired: Vec<Arc<T>>,
}

/// A worker's end.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    index: usize,
    version: u64,
    table: Arc<T>,
    /// What `seen` says, so that an unchanged version costs no store.
    announced: u64,
}

impl<T> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("version", &self.version)
            .field("retired", &self.retired.len())
            .finish()
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("index", &self.index)
            .field("version", &self.version)
            .finish()
    }
}

/// Publishes `initial` as version 1 to `readers` workers, which all begin offline.
pub fn published<T>(initial: T, readers: usize) -> (Publisher<T>, Vec<Reader<T>>) {
    let current = Arc::new(initial);
    let shared = Arc::new(Shared {
        version: CachePadded::new(AtomicU64::new(1)),
        current: Mutex::new((1, Arc::clone(&current))),
        seen: (0..readers)
            .map(|_| CachePadded::new(AtomicU64::new(OFFLINE)))
            .collect(),
    });
    let reader = |index| Reader {
        shared: Arc::clone(&shared),
        index,
        version: 1,
        table: Arc::clone(&current),
        announced: OFFLINE,
    };
    let readers = (0..readers).map(reader).collect();
    (
        Publisher {
            shared,
            version: 1,
            current,
            retired: Vec::new(),
        },
        readers,
    )
}

impl<T> Publisher<T> {
    /// Publishes a table; its version, one above the last.
    pub fn publish(&mut self, table: T) -> u64 {
        let old = std::mem::replace(&mut self.current, Arc::new(table));
        self.retired.push(old);
        self.advance()
    }

    /// Publishes the same table under a new version: begins a grace period for changes made elsewhere, in the flow table for instance.
    pub fn advance(&mut self) -> u64 {
        self.version += 1;
        let next = (self.version, Arc::clone(&self.current));
        let previous = {
            let mut current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, next)
        };
        drop(previous); // after the lock is free
        self.shared.version.store(self.version, Ordering::Relaxed);
        self.reclaim();
        self.version
    }

    /// The table published last.
    pub fn current(&self) -> &T {
        &self.current
    }

    /// The version published last.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether every worker has finished a burst that began with `version` or a later one, or is offline. One
    /// `true` is enough: a worker that wakes later may be behind for a moment here, but works with the newest table.
    pub fn all_passed(&self, version: u64) -> bool {
        // Pairs with the fence of a worker that wakes: either this sees it awake with its old version, or it sees ours.
        fence(Ordering::SeqCst);
        self.shared
            .seen
            .iter()
            .all(|seen| seen.load(Ordering::Acquire) >= version)
    }

    /// Frees old tables that no worker holds any more; how many are still held. [`Publisher::publish`] does this too.
    pub fn reclaim(&mut self) -> usize {
        // Only this end could hand out a retired table again, and never does: a count of one is final.
        self.retired.retain(|table| Arc::strong_count(table) > 1);
        self.retired.len()
    }
}

impl<T> Reader<T> {
    /// The newest table that can be had without waiting; called at the start of each burst.
    ///
    /// A worker that comes back from [`Reader::offline`] must not miss what was published meanwhile: only then this waits, for the
    /// exchange of one pointer, should control be publishing at that very moment.
    pub fn current(&mut self) -> &Arc<T> {
        if self.announced == OFFLINE {
            self.wake();
        } else if self.shared.version.load(Ordering::Relaxed) != self.version {
            self.refresh();
        }
        &self.table
    }

    /// Tells control that the burst has ended: the worker holds nothing it looked up under an older version than its table's.
    pub fn quiescent(&mut self) {
        if self.announced != self.version && self.announced != OFFLINE {
            self.announce(self.version, Ordering::Release);
        }
    }

    /// Tells control not to wait for this worker, which holds nothing it ever looked up. [`Reader::current`] ends that.
    pub fn offline(&mut self) {
        self.announce(OFFLINE, Ordering::Release);
    }

    /// The version of the table last returned by [`Reader::current`].
    pub fn version(&self) -> u64 {
        self.version
    }

    fn refresh(&mut self) {
        let published = match self.shared.current.try_lock() {
            Ok(published) => published,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        (self.version, self.table) = published.clone();
    }

    fn wake(&mut self) {
        self.announce(self.version, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.shared.version.load(Ordering::Relaxed) != self.version {
            let published = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
            (self.version, self.table) = published.clone();
        }
    }

    fn announce(&mut self, value: u64, ordering: Ordering) {
        self.announced = value;
        self.shared.seen[self.index].store(value, ordering);
    }
}

#[cfg(test)]
mod tests;
