//! How many bytes a second an initiator may send, in bursts of some length: a token bucket, kept as the time at which all that it sent
//! would be through at its rate.

use std::num::NonZeroU64;

use crate::id::Now;

/// What a tunnel may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowance {
    /// Bytes a second.
    pub bytes_per_s: NonZeroU64,
    /// Bytes at once.
    pub burst: u64,
}

impl Allowance {
    /// Nanoseconds that `bytes` take, rounded down; right for all that a burst can be.
    const fn time_of(self, bytes: u64) -> u64 {
        bytes.saturating_mul(Now::SECOND) / self.bytes_per_s.get()
    }
}

/// What a tunnel has sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    through_at: Now,
}

impl Sent {
    /// Nothing yet.
    pub const NOTHING: Self = Self { through_at: Now(0) };

    /// Whether a datagram of `len` bytes may leave at `now`; counts it if so.
    pub fn admit(&mut self, now: Now, allowance: Allowance, len: usize) -> bool {
        let through_at = self.through_at.max(now).plus(allowance.time_of(len as u64));
        let within = through_at.since(now) <= allowance.time_of(allowance.burst);
        if within {
            self.through_at = through_at;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        let allowance = Allowance {
            bytes_per_s: NonZeroU64::new(10_000).unwrap(),
            burst: 3000,
        };
        let mut sent = Sent::NOTHING;
        let mut admitted = |at: u64| (0..10).filter(|_| sent.admit(Now(at), allowance, 1000)).count();
        let tenth = Now::SECOND / 10;
        assert_eq!(
            [0, tenth - 1, tenth, 3 * tenth, 100 * tenth].map(&mut admitted),
            [3, 0, 1, 2, 3]
        );
    }
}
