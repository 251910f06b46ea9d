//! Which creating signals are fresh (protocol section 5): a window on their date, and a memory of those seen within it.

use std::collections::{BTreeMap, HashSet};

use thiserror::Error;

use crate::key_schedule::ReplayTag;
use crate::limits::{CREATED_FUTURE_S, CREATED_PAST_S};

/// Why a creating signal is not accepted.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotFresh {
    /// Dated before the window, or before this node can have forgotten it.
    #[error("the creating signal is too old")]
    Stale,
    /// Dated after the window.
    #[error("the creating signal is dated in the future")]
    Future,
    /// Its tag is known.
    #[error("the creating signal was seen before")]
    Seen,
    /// No room for another tag.
    #[error("the replay cache is full")]
    Full,
}

/// The tags of all creating signals accepted whose date is still in the window.
pub struct ReplayCache {
    tags: HashSet<ReplayTag>,
    by_date: BTreeMap<u64, Vec<ReplayTag>>,
    /// Tags of earlier dates may be forgotten.
    floor: u64,
    latest: u64,
    capacity: usize,
}

impl ReplayCache {
    /// At most `capacity` tags; nothing dated before `floor`, in Unix seconds, is ever accepted.
    pub fn new(capacity: usize, floor: u64) -> Self {
        Self {
            tags: HashSet::new(),
            by_date: BTreeMap::new(),
            floor,
            latest: 0,
            capacity,
        }
    }

    /// Accepts the signal dated `created` with `tag` at `wall`, both in Unix seconds, and remembers it.
    pub fn accept(&mut self, wall: u64, created: u64, tag: ReplayTag) -> Result<(), NotFresh> {
        self.forget(wall);
        if created < self.floor.max(window_start(wall)) {
            return Err(NotFresh::Stale);
        }
        if created > wall.saturating_add(CREATED_FUTURE_S) {
            return Err(NotFresh::Future);
        }
        if self.tags.contains(&tag) {
            return Err(NotFresh::Seen);
        }
        if self.tags.len() >= self.capacity {
            return Err(NotFresh::Full);
        }
        self.tags.insert(tag);
        self.latest = self.latest.max(created);
        self.by_date.entry(created).or_default().push(tag);
        Ok(())
    }

    /// Drops the tags that are stale at `wall`. What was dropped stays refused, even if the clock goes back; and nothing that is
    /// younger, so that a clock that was ahead for a moment stops nobody for long.
    pub fn forget(&mut self, wall: u64) {
        let fresh = self.by_date.split_off(&window_start(wall));
        for (date, tags) in std::mem::replace(&mut self.by_date, fresh) {
            self.floor = self.floor.max(date + 1);
            tags.iter().for_each(|tag| _ = self.tags.remove(tag));
        }
    }

    /// The latest date accepted, Unix seconds; 0 if none was.
    pub const fn latest(&self) -> u64 {
        self.latest
    }

    /// Tags remembered.
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }
}

/// The earliest date that is fresh at `wall`.
const fn window_start(wall: u64) -> u64 {
    wall.saturating_sub(CREATED_PAST_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn tag(number: u8) -> ReplayTag {
        [number; 16]
    }

    #[test]
    fn the_window_is_sixty_back_and_ten_ahead() {
        for (created, answer) in [
            (NOW - 61, Err(NotFresh::Stale)),
            (NOW - 60, Ok(())),
            (NOW, Ok(())),
            (NOW + 10, Ok(())),
            (NOW + 11, Err(NotFresh::Future)),
        ] {
            assert_eq!(ReplayCache::new(9, 0).accept(NOW, created, tag(1)), answer);
        }
    }

    #[test]
    fn a_tag_is_accepted_once_for_as_long_as_its_date_is() {
        let mut cache = ReplayCache::new(9, 0);
        assert_eq!(cache.accept(NOW, NOW + 10, tag(1)), Ok(()));
        for wall in NOW..=NOW + 70 {
            assert_eq!(cache.accept(wall, NOW + 10, tag(1)), Err(NotFresh::Seen));
        }
        assert_eq!(cache.accept(NOW + 71, NOW + 10, tag(1)), Err(NotFresh::Stale));
        assert!(cache.is_empty());
    }

    #[test]
    fn nothing_from_before_the_process_started() {
        let mut cache = ReplayCache::new(9, NOW);
        assert_eq!(cache.accept(NOW + 5, NOW - 1, tag(1)), Err(NotFresh::Stale));
        assert_eq!(cache.accept(NOW + 5, NOW, tag(1)), Ok(()));
    }

    #[test]
    fn a_clock_set_back_brings_nothing_back() {
        let mut cache = ReplayCache::new(9, 0);
        assert_eq!(cache.accept(NOW, NOW, tag(1)), Ok(()));
        cache.forget(NOW + 100);
        assert_eq!(cache.accept(NOW, NOW, tag(1)), Err(NotFresh::Stale));
    }

    #[test]
    fn a_clock_that_was_ahead_stops_nobody_for_long() {
        let mut cache = ReplayCache::new(9, 0);
        assert_eq!(cache.accept(NOW, NOW, tag(1)), Ok(()));
        cache.forget(NOW + 86_400);
        assert!(cache.is_empty());
        assert_eq!(cache.accept(NOW + 1, NOW, tag(1)), Err(NotFresh::Stale));
        assert_eq!(cache.accept(NOW + 1, NOW + 1, tag(2)), Ok(()));
        assert_eq!(cache.accept(NOW + 1, NOW + 1, tag(2)), Err(NotFresh::Seen));
    }

    #[test]
    fn a_full_cache_refuses_until_something_is_stale() {
        let mut cache = ReplayCache::new(2, 0);
        assert_eq!(cache.accept(NOW, NOW - 60, tag(1)), Ok(()));
        assert_eq!(cache.accept(NOW, NOW, tag(2)), Ok(()));
        assert_eq!(cache.accept(NOW, NOW, tag(3)), Err(NotFresh::Full));
        assert_eq!(cache.accept(NOW + 1, NOW, tag(3)), Ok(()));
        assert_eq!(cache.len(), 2);
    }
}
