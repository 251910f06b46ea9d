//! AH key schedules of one worker by slot, with the IVs this worker may use under each.

use std::cell::RefCell;
use std::sync::Arc;

use ain_crypto::{Backend, MacAlgorithm};

use crate::command::IvSource;
use crate::entry::AhKey;
use crate::id::KeySlot;
use crate::verdict::DropReason;

struct Held<C: Backend> {
    key: Arc<AhKey<C>>,
    /// Behind a cell, so that a burst may hold its keys while IVs are drawn.
    iv: Option<RefCell<IvSource>>,
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

    fn held(&self, slot: KeySlot) -> Option<&Held<C>> {
        self.slots.get(usize::from(slot.0))?.as_ref()
    }

    /// The schedule in a slot.
    pub fn ah(&self, slot: KeySlot) -> Option<&AhKey<C>> {
        Some(&*self.held(slot)?.key)
    }

    /// The schedule in a slot, and the next explicit IV under it: zero where the algorithm has none.
    ///
    /// # Errors
    /// [`DropReason::Gone`] without a key, [`DropReason::SequenceExhausted`] when the IVs are used up.
    pub fn for_sending(&self, slot: KeySlot) -> Result<(&AhKey<C>, u64), DropReason> {
        let held = self.held(slot).ok_or(DropReason::Gone)?;
        let iv = match &held.iv {
            Some(source) => source.borrow_mut().take().ok_or(DropReason::SequenceExhausted)?,
            None if held.key.algorithm == MacAlgorithm::Aes128Gmac => return Err(DropReason::SequenceExhausted),
            None => 0,
        };
        Ok((&held.key, iv))
    }

    /// Fills a slot and returns the key that was there, or the key itself if there is no such slot.
    pub fn put(&mut self, slot: KeySlot, key: Arc<AhKey<C>>, iv: Option<IvSource>) -> Option<Arc<AhKey<C>>> {
        let iv = iv.map(RefCell::new);
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
