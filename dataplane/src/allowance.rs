//! How many bytes a second an initiator may send and how many flows it may begin, in bursts of some length: token buckets, kept as the
//! time at which all that it did would be through at its rate.

use std::num::NonZeroU64;

use crate::id::Now;

/// What an initiator may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowance {
    /// Bytes, or flows, a second.
    pub per_s: NonZeroU64,
    /// As many at once.
    pub burst: u64,
}

impl Allowance {
    /// Nanoseconds that `amount` takes, rounded down; right for all that a burst can be.
    const fn time_of(self, amount: u64) -> u64 {
        amount.saturating_mul(Now::SECOND) / self.per_s.get()
    }
}

/// How much of an allowance is used.
#[derive(Clone, Copy, Default, Debug)]
pub struct Used {
    through_at: Now,
}

impl Used {
    /// Whether `amount` more is within `allowance` at `now`; counts it if so.
    pub fn admit(&mut self, now: Now, allowance: Allowance, amount: usize) -> bool {
        let through_at = self.through_at.max(now).plus(allowance.time_of(amount as u64));
        let within = through_at.since(now) <= allowance.time_of(allowance.burst);
        if within {
            self.through_at = through_at;
        }
        within
    }
}

/// What the initiator behind a tunnel has used.
#[derive(Clone, Copy, Default, Debug)]
pub struct OfInitiator {
    /// Bytes sent.
    pub bytes: Used,
    /// Flows begun.
    pub flows: Used,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        let allowance = Allowance {
            per_s: NonZeroU64::new(10_000).unwrap(),
            burst: 3000,
        };
        let mut used = Used::default();
        let mut admitted = |at: u64| (0..10).filter(|_| used.admit(Now(at), allowance, 1000)).count();
        let tenth = Now::SECOND / 10;
        assert_eq!(
            [0, tenth - 1, tenth, 3 * tenth, 100 * tenth].map(&mut admitted),
            [3, 0, 1, 2, 3]
        );
    }
}
