//! A worker's entries by slot. The control thread chooses the slots, so entries never move and nothing is searched.

use ain_crypto::prefetch;

/// Entries of one kind owned by one worker.
pub struct Slab<T> {
    slots: Vec<Option<Box<T>>>,
}

impl<T> Slab<T> {
    /// `capacity` empty slots.
    pub fn new(capacity: usize) -> Self {
        Self {
            slots: std::iter::repeat_with(|| None).take(capacity).collect(),
        }
    }

    /// Slots, full and empty.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// The entry in a slot.
    pub fn entry(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.as_deref()
    }

    /// The entry in a slot.
    pub fn entry_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    /// Asks for the entries of a burst, to be near when they are read: first the places, then what they point to, so that the cache
    /// misses of different packets overlap.
    pub fn prefetch(&self, slots: impl Iterator<Item = u32> + Clone) {
        for slot in slots.clone() {
            if let Some(place) = self.slots.get(slot as usize) {
                prefetch(place);
            }
        }
        for slot in slots {
            if let Some(entry) = self.entry(slot) {
                prefetch(entry);
            }
        }
    }

    /// Puts an entry into a slot and returns what was there, or the entry itself if there is no such slot.
    pub fn put(&mut self, slot: u32, entry: Box<T>) -> Option<Box<T>> {
        match self.slots.get_mut(slot as usize) {
            Some(place) => place.replace(entry),
            None => Some(entry),
        }
    }

    /// Empties a slot.
    pub fn take(&mut self, slot: u32) -> Option<Box<T>> {
        self.slots.get_mut(slot as usize)?.take()
    }

    /// All entries.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(Option::as_deref_mut)
    }
}
