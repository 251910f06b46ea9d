//! Numbers that must never repeat under a key, even across a crash: the control thread reserves them on disk ahead of use, the
//! worker takes them one by one.
//!
//! ```text
//!   worker: next ──────────►                    control: limit (on disk before it is granted here)
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The shared half: what the worker has reached and how far it may go.
#[derive(Debug)]
pub struct Grant {
    next: AtomicU64,
    limit: AtomicU64,
}

impl Grant {
    /// Numbers from `next` up to, not including, `limit`.
    pub fn new(next: u64, limit: u64) -> Arc<Self> {
        Arc::new(Self {
            next: AtomicU64::new(next),
            limit: AtomicU64::new(limit),
        })
    }

    /// The first number not yet taken.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The first number that may not be taken.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Moves the limit forward; never back.
    pub fn extend(&self, limit: u64) {
        self.limit.fetch_max(limit, Ordering::Relaxed);
    }
}

/// The worker's half. Exactly one exists a grant.
#[derive(Debug)]
pub struct Reserved {
    next: u64,
    limit: u64,
    grant: Arc<Grant>,
}

impl Reserved {
    /// Takes numbers from `grant`.
    pub fn new(grant: Arc<Grant>) -> Self {
        Self {
            next: grant.next(),
            limit: grant.limit(),
            grant,
        }
    }

    /// The next number, or `None` until the grant is extended.
    pub fn take(&mut self) -> Option<u64> {
        if self.next >= self.limit {
            self.limit = self.grant.limit();
            if self.next >= self.limit {
                return None;
            }
        }
        let taken = self.next;
        self.next += 1;
        self.grant.next.store(self.next, Ordering::Relaxed);
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However taking and extending alternate: every number below the highest limit, once and in order, and none beyond it.
        #[test]
        fn numbers_follow_the_grant(start in 0u64..1 << 40, steps in prop::collection::vec((0usize..20, 0u64..40), 1..50)) {
            let grant = Grant::new(start, start);
            let mut reserved = Reserved::new(Arc::clone(&grant));
            let (mut next, mut limit) = (start, start);
            for (take, ahead) in steps {
                grant.extend(next + ahead);
                limit = limit.max(next + ahead);
                for _ in 0..take {
                    let expected = (next < limit).then_some(next);
                    prop_assert_eq!(reserved.take(), expected);
                    next += u64::from(expected.is_some());
                    prop_assert_eq!((grant.next(), grant.limit()), (next, limit));
                }
            }
        }
    }

    #[test]
    fn takes_each_number_once_and_stops_at_the_limit() {
        let grant = Grant::new(5, 7);
        let mut reserved = Reserved::new(Arc::clone(&grant));
        assert_eq!(
            [reserved.take(), reserved.take(), reserved.take()],
            [Some(5), Some(6), None]
        );
        grant.extend(8);
        grant.extend(6);
        assert_eq!([reserved.take(), reserved.take()], [Some(7), None]);
        assert_eq!(grant.next(), 8);
    }
}
