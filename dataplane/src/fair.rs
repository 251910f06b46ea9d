//! Cells that wait for slots: a line each TVT, and TVTs take turns, so that none can starve another.
//!
//! ```text
//!   turns   7 ─► 3 ─► 9 ─► back to 7        pop: the first cell of the line whose turn it is
//!   lines   7: c c c c c   3: c   9: c c    push: refused where the line is as long as all the room that is left
//! ```
//! A line may never be longer than what is free, so that however many lines are greedy, one more still finds room.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::id::Spi;

/// The end of a chain of places.
const NONE: u32 = u32::MAX;

struct Place<B> {
    item: Option<B>,
    /// The next one of the same line, or of those that are free.
    next: u32,
}

struct Line {
    first: u32,
    last: u32,
    len: usize,
}

/// A bounded queue. Nothing is allocated after it was made.
pub struct FairQueue<B> {
    places: Vec<Place<B>>,
    free: u32,
    room: usize,
    longest: usize,
    lines: FxHashMap<Spi, Line>,
    turns: VecDeque<Spi>,
}

impl<B> FairQueue<B> {
    /// Room for `capacity` items, at most `longest` in a line.
    pub fn new(capacity: u32, longest: usize) -> Self {
        let room = capacity as usize;
        let next = |place| if place + 1 < capacity { place + 1 } else { NONE };
        Self {
            places: (0..capacity)
                .map(|place| Place {
                    item: None,
                    next: next(place),
                })
                .collect(),
            free: if capacity > 0 { 0 } else { NONE },
            room,
            longest,
            // Twice the room: a table that is never more than half full clears removed entries in place.
            lines: FxHashMap::with_capacity_and_hasher(2 * room, rustc_hash::FxBuildHasher),
            turns: VecDeque::with_capacity(room),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Puts an item at the end of a line.
    ///
    /// # Errors
    /// The item, if the line is as long as it may be.
    pub fn push(&mut self, of: Spi, item: B) -> Result<(), B> {
        let length = self.lines.get(&of).map_or(0, |line| line.len);
        let Some(place) = self
            .places
            .get_mut(self.free as usize)
            .filter(|_| length < self.longest.min(self.room))
        else {
            return Err(item);
        };
        let at = std::mem::replace(&mut self.free, std::mem::replace(&mut place.next, NONE));
        place.item = Some(item);
        self.room -= 1;
        if let Some(line) = self.lines.get_mut(&of) {
            self.places[line.last as usize].next = at;
            line.last = at;
            line.len += 1;
        } else {
            let line = Line {
                first: at,
                last: at,
                len: 1,
            };
            self.lines.insert(of, line);
            self.turns.push_back(of);
        }
        Ok(())
    }

    /// The first item of the line whose turn it is.
    pub fn pop(&mut self) -> Option<(Spi, B)> {
        let of = self.turns.pop_front()?;
        let line = self.lines.get_mut(&of)?;
        let at = line.first;
        let place = &mut self.places[at as usize];
        let item = place.item.take()?;
        line.first = std::mem::replace(&mut place.next, self.free);
        line.len -= 1;
        self.free = at;
        self.room += 1;
        if line.len == 0 {
            self.lines.remove(&of);
        } else {
            self.turns.push_back(of);
        }
        Some((of, item))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn spi(n: u32) -> Spi {
        Spi::new(1000 + n).unwrap()
    }

    fn popped(queue: &mut FairQueue<u32>) -> Vec<(u32, u32)> {
        std::iter::from_fn(|| queue.pop())
            .map(|(of, item)| (of.value() - 1000, item))
            .collect()
    }

    #[test]
    fn line_6_tvts_take_turns_and_keep_their_order() {
        let mut queue = FairQueue::new(16, 8);
        for item in 0..4 {
            queue.push(spi(1), item).unwrap();
        }
        queue.push(spi(2), 100).unwrap();
        queue.push(spi(3), 200).unwrap();
        queue.push(spi(3), 201).unwrap();
        assert_eq!(
            popped(&mut queue),
            [(1, 0), (2, 100), (3, 200), (1, 1), (3, 201), (1, 2), (1, 3)]
        );
    }

    #[test]
    fn line_6_greedy_tvts_leave_room_for_one_more() {
        let mut queue = FairQueue::new(64, 32);
        for item in 0..1000 {
            for greedy in 0..7 {
                let _full = queue.push(spi(greedy), item);
            }
        }
        assert_eq!(queue.push(spi(99), 1), Ok(()));
        let mut turns: Vec<u32> = popped(&mut queue).into_iter().take(8).map(|(of, _)| of).collect();
        turns.sort_unstable();
        assert_eq!(turns, [0, 1, 2, 3, 4, 5, 6, 99]);
    }

    proptest! {
        #[test]
        fn is_as_many_queues_in_turn(steps in prop::collection::vec((any::<bool>(), 0u32..5, any::<u32>()), 0..400)) {
            let mut queue = FairQueue::new(24, 10);
            let (mut model, mut turns): (BTreeMap<u32, VecDeque<u32>>, VecDeque<u32>) = Default::default();
            for (push, of, item) in steps {
                let held: usize = model.values().map(VecDeque::len).sum();
                if push {
                    let line = model.entry(of).or_default();
                    let fits = line.len() < (24 - held).min(10);
                    prop_assert_eq!(queue.push(spi(of), item).is_ok(), fits);
                    if fits {
                        if line.is_empty() {
                            turns.push_back(of);
                        }
                        line.push_back(item);
                    }
                } else {
                    let expected = turns.pop_front().map(|of| {
                        let line = model.get_mut(&of).unwrap();
                        let item = line.pop_front().unwrap();
                        if !line.is_empty() {
                            turns.push_back(of);
                        }
                        (spi(of), item)
                    });
                    prop_assert_eq!(queue.pop(), expected);
                }
            }
        }
    }
}
