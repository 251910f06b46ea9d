//! AH key schedules of one worker by slot, with the IVs this worker may use under each.

use std::sync::Arc;

use ain_crypto::Backend;

use crate::command::IvSource;
use crate::entry::AhKey;
use crate::id::KeySlot;

struct Held<C: Backend> {
    key: Arc<AhKey<C>>,
    iv: Option<IvSource>,
}

/// The schedules.
pub struct Keys<C: Backend> {
    slots: Vec<Option<Held<C>>>,
}

impl<C: Backend> Keys<C> {
    /// `capacity` empty slots.
    pub fn new(capacity: usize) -> Self {
        Self {
            slots: std::iter::repeat_with(|| None).take(capacity).collect(),
        }
    }

    /// The schedule in a slot.
    pub fn ah(&self, slot: KeySlot) -> Option<&AhKey<C>> {
        Some(&*self.slots.get(usize::from(slot.0))?.as_ref()?.key)
    }

    /// The next explicit IV under the key of a slot; zero where the key has none, `None` when they are used up.
    pub fn next_iv(&mut self, slot: KeySlot) -> Option<[u8; 8]> {
        match &mut self.slots.get_mut(usize::from(slot.0))?.as_mut()?.iv {
            Some(source) => source.take(),
            None => Some([0; 8]),
        }
    }

    /// Fills a slot and returns the key that was there, or the key itself if there is no such slot.
    pub fn put(&mut self, slot: KeySlot, key: Arc<AhKey<C>>, iv: Option<IvSource>) -> Option<Arc<AhKey<C>>> {
        match self.slots.get_mut(usize::from(slot.0)) {
            Some(place) => place.replace(Held { key, iv }).map(|held| held.key),
            None => Some(key),
        }
    }

    /// Empties a slot.
    pub fn take(&mut self, slot: KeySlot) -> Option<Arc<AhKey<C>>> {
        self.slots.get_mut(usize::from(slot.0))?.take().map(|held| held.key)
    }
}
