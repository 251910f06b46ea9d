//! One deadline a thing, the earliest first.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use ain_dataplane::id::Now;

/// Deadlines of things named by `K`.
#[derive(Debug)]
pub struct Timers<K> {
    queue: BTreeSet<(Now, K)>,
    at: HashMap<K, Now>,
}

impl<K: Copy + Ord + Hash> Timers<K> {
    /// No deadline.
    pub fn new() -> Self {
        Self {
            queue: BTreeSet::new(),
            at: HashMap::new(),
        }
    }

    /// Gives `key` the deadline `at`, in place of any it had.
    pub fn set(&mut self, key: K, at: Now) {
        self.clear(key);
        self.queue.insert((at, key));
        self.at.insert(key, at);
    }

    /// Takes the deadline of `key` away.
    pub fn clear(&mut self, key: K) {
        if let Some(at) = self.at.remove(&key) {
            self.queue.remove(&(at, key));
        }
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Now> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes out one thing whose deadline is `now` or earlier.
    pub fn pop(&mut self, now: Now) -> Option<K> {
        let (_, key) = self.queue.first().copied().filter(|(at, _)| *at <= now)?;
        self.clear(key);
        Some(key)
    }
}

impl<K: Copy + Ord + Hash> Default for Timers<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earliest_first_and_one_deadline_each() {
        let mut timers = Timers::new();
        for (key, at) in [('a', 30), ('b', 10), ('a', 20), ('c', 5)] {
            timers.set(key, Now(at));
        }
        timers.clear('c');
        assert_eq!(timers.next(), Some(Now(10)));
        assert_eq!(timers.pop(Now(9)), None);
        assert_eq!(
            [timers.pop(Now(25)), timers.pop(Now(25)), timers.pop(Now(25))],
            [Some('b'), Some('a'), None]
        );
        assert_eq!(timers.next(), None);
    }
}
