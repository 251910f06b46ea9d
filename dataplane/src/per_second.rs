//! So many a second and no more.

use crate::id::Now;

/// Counts within seconds that begin with the first event after the one before is over.
#[derive(Clone, Copy, Debug)]
pub struct PerSecond {
    most: u32,
    since: Now,
    counted: u32,
}

impl PerSecond {
    /// `most` a second.
    pub const fn new(most: u32) -> Self {
        Self {
            most,
            since: Now(0),
            counted: 0,
        }
    }

    /// Whether another one may be at `now`; counts it if so.
    pub fn admit(&mut self, now: Now) -> bool {
        if now.since(self.since) >= Now::SECOND {
            (self.since, self.counted) = (now, 0);
        }
        let within = self.counted < self.most;
        self.counted += u32::from(within);
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_and_no_more() {
        let mut limit = PerSecond::new(3);
        let mut admitted = |at| (0..5).filter(|_| limit.admit(Now(at))).count();
        assert_eq!(
            [0, Now::SECOND - 1, Now::SECOND, 5 * Now::SECOND / 2].map(&mut admitted),
            [3, 0, 3, 3]
        );
    }
}
