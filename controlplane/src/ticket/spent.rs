//! Which tickets are spent. A slice's are forgotten when the slice is not good any more.

use std::collections::{BTreeMap, HashSet};

use thiserror::Error;

use super::{Mark, Past, Slice, TicketTag};

/// Why a good ticket is of no use.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotSpent {
    /// It was spent before.
    #[error("the ticket is spent")]
    Twice,
    /// Its slice is over.
    #[error("the ticket is stale")]
    Stale,
    /// No room to remember it.
    #[error("no room for another spent ticket of this slice")]
    Full,
}

/// The tickets spent, slice by slice.
pub struct Spent {
    slices: BTreeMap<Slice, HashSet<TicketTag>>,
    /// Nothing of an earlier slice is ever accepted again, even if the clock goes back.
    earliest: Slice,
    slice_s: u32,
    capacity: usize,
}

impl Spent {
    /// At most `capacity` tickets of each slice, slices being `slice_s` long, after `past`.
    pub fn new(slice_s: u32, capacity: usize, past: &Past) -> Self {
        let mut slices: BTreeMap<_, HashSet<_>> = BTreeMap::new();
        for mark in &past.spent {
            slices.entry(mark.slice).or_default().insert(mark.tag);
        }
        Self {
            slices,
            earliest: past.earliest,
            slice_s,
            capacity,
        }
    }

    /// Spends a ticket at the Unix time `wall`.
    pub fn spend(&mut self, wall: u64, mark: &Mark) -> Result<(), NotSpent> {
        self.forget(wall);
        if mark.slice < self.earliest || !mark.slice.is_good(wall, self.slice_s) {
            return Err(NotSpent::Stale);
        }
        let tags = self.slices.entry(mark.slice).or_default();
        if tags.contains(&mark.tag) {
            return Err(NotSpent::Twice);
        }
        if tags.len() >= self.capacity {
            return Err(NotSpent::Full);
        }
        tags.insert(mark.tag);
        Ok(())
    }

    /// Forgets the slices that are over, and accepts nothing of them any more. A clock that was ahead for a moment harms no more than
    /// the slices that had tickets by then.
    fn forget(&mut self, wall: u64) {
        let kept = self.slices.split_off(&Slice::at(wall, self.slice_s).previous());
        if let Some((last, _)) = std::mem::replace(&mut self.slices, kept).last_key_value() {
            self.earliest = self.earliest.max(last.next());
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.slices.values().map(HashSet::len).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u32 = 3600;
    const WALL: u64 = 500_000 * 3600 + 1800;

    fn mark(slice: u32, tag: u8) -> Mark {
        let slice = Slice(slice);
        Mark { slice, tag: [tag; 16] }
    }

    #[test]
    fn line_7_a_ticket_is_good_once_in_its_slice_and_the_next() {
        let mut spent = Spent::new(HOUR, 9, &Past::default());
        for slice in [499_999, 500_000] {
            assert_eq!(spent.spend(WALL, &mark(slice, 1)), Ok(()));
            assert_eq!(spent.spend(WALL, &mark(slice, 1)), Err(NotSpent::Twice));
        }
        assert_eq!(spent.spend(WALL, &mark(499_998, 1)), Err(NotSpent::Stale));
        assert_eq!(spent.spend(WALL, &mark(500_001, 1)), Err(NotSpent::Stale));
        let next = WALL + u64::from(HOUR);
        assert_eq!(spent.spend(next, &mark(500_000, 1)), Err(NotSpent::Twice));
        assert_eq!(spent.spend(next, &mark(499_999, 2)), Err(NotSpent::Stale));
        assert_eq!(spent.len(), 1, "the slice that is over takes no room");
    }

    #[test]
    fn line_7_clocks_may_differ_by_a_minute() {
        let boundary = 500_001 * 3600;
        let mut spent = Spent::new(HOUR, 9, &Past::default());
        assert_eq!(
            spent.spend(boundary - 60, &mark(500_001, 1)),
            Ok(()),
            "the entrance is ahead"
        );
        assert_eq!(
            spent.spend(boundary + 60, &mark(500_000, 1)),
            Ok(()),
            "the entrance is behind"
        );
        assert_eq!(spent.spend(boundary + 60, &mark(500_001, 1)), Err(NotSpent::Twice));
    }

    #[test]
    fn line_7_a_clock_set_back_brings_nothing_back() {
        let mut spent = Spent::new(HOUR, 9, &Past::default());
        assert_eq!(spent.spend(WALL, &mark(500_000, 1)), Ok(()));
        assert_eq!(spent.spend(WALL + 2 * 3600, &mark(500_002, 1)), Ok(()));
        assert_eq!(spent.spend(WALL, &mark(500_000, 1)), Err(NotSpent::Stale));
        assert_eq!(spent.spend(WALL + 10_000 * 3600, &mark(510_000, 1)), Ok(()));
        assert_eq!(
            spent.spend(WALL + 3 * 3600, &mark(500_003, 1)),
            Ok(()),
            "a clock that ran away for a moment stops nobody for long"
        );
    }

    #[test]
    fn line_7_a_full_memory_refuses_and_a_restart_forgets_nothing() {
        let past = Past {
            earliest: Slice(499_999),
            spent: vec![mark(500_000, 1)],
            issued: Vec::new(),
        };
        let mut spent = Spent::new(HOUR, 2, &past);
        assert_eq!(spent.spend(WALL, &mark(500_000, 1)), Err(NotSpent::Twice));
        assert_eq!(spent.spend(WALL, &mark(500_000, 2)), Ok(()));
        assert_eq!(spent.spend(WALL, &mark(500_000, 3)), Err(NotSpent::Full));
        assert_eq!(spent.spend(WALL, &mark(499_999, 3)), Ok(()));
        let back = WALL - u64::from(HOUR);
        assert_eq!(
            spent.spend(back, &mark(499_998, 3)),
            Err(NotSpent::Stale),
            "forgotten by an earlier process"
        );
    }
}
