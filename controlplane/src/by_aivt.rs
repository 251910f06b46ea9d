//! What belongs to an AIVT, found by its id.
//!
//! ```text
//!   AivtId = serial u40 | place u24        place ──► chunk ──► Some((id, T))
//! ```
//!
//! Places are used again, ids are not. Chunks come as they are needed and never move: no insertion copies a table, whatever its size,
//! and what stands is as dense as what stood at most.

use ain_dataplane::id::AivtId;

const PLACE_BITS: u32 = 24;
/// AIVTs that there can be places for.
pub const PLACES: usize = 1 << PLACE_BITS;
const CHUNK: usize = 1024;

/// The AIVT `serial`, counted from 1, at `place`.
pub fn name(serial: u64, place: u32) -> AivtId {
    AivtId(serial << PLACE_BITS | u64::from(place))
}

/// Where what belongs to `id` lies, whatever table it is in.
pub fn place(id: AivtId) -> u32 {
    (id.0 as u32) & (PLACES as u32 - 1)
}

type Chunk<T> = Box<[Option<(AivtId, T)>]>;

/// A table of `T`s.
pub struct ByAivt<T> {
    chunks: Vec<Option<Chunk<T>>>,
    len: usize,
}

impl<T> Default for ByAivt<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T> ByAivt<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What belongs to `id`.
    pub fn of(&self, id: AivtId) -> Option<&T> {
        let (owner, one) = self.at(place(id))?;
        (owner == id).then_some(one)
    }

    /// What belongs to `id`.
    pub fn of_mut(&mut self, id: AivtId) -> Option<&mut T> {
        match self.slot(place(id))? {
            Some((owner, one)) if *owner == id => Some(one),
            Some(_) | None => None,
        }
    }

    /// Whose place this is, and what belongs to it.
    pub fn at(&self, place: u32) -> Option<(AivtId, &T)> {
        let chunk = self.chunks.get(place as usize / CHUNK)?.as_ref()?;
        chunk[place as usize % CHUNK].as_ref().map(|(id, one)| (*id, one))
    }

    /// Gives `id` a thing, in place of whatever lies there.
    pub fn insert(&mut self, id: AivtId, one: T) {
        let (chunk, at) = (place(id) as usize / CHUNK, place(id) as usize % CHUNK);
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk + 1, || None);
        }
        let chunk = self.chunks[chunk].get_or_insert_with(|| std::iter::repeat_with(|| None).take(CHUNK).collect());
        self.len += usize::from(chunk[at].replace((id, one)).is_none());
    }

    /// Takes out what belongs to `id`.
    pub fn remove(&mut self, id: AivtId) -> Option<T> {
        self.of(id)?;
        let (_, one) = self.slot(place(id))?.take()?;
        self.len -= 1;
        Some(one)
    }

    /// Everything, by place.
    pub fn iter(&self) -> impl Iterator<Item = (AivtId, &T)> {
        let chunks = self.chunks.iter().flatten();
        chunks.flat_map(|chunk| chunk.iter().flatten().map(|(id, one)| (*id, one)))
    }

    fn slot(&mut self, place: u32) -> Option<&mut Option<(AivtId, T)>> {
        let chunk = self.chunks.get_mut(place as usize / CHUNK)?.as_mut()?;
        chunk.get_mut(place as usize % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_same_as_a_map(steps in prop::collection::vec((0u64..3, 0u32..3000, any::<bool>()), 0..400)) {
            let (mut table, mut model) = (ByAivt::default(), HashMap::new());
            for (serial, at, insert) in steps {
                let id = name(serial, at);
                if insert && !model.keys().any(|other| place(*other) == at) {
                    table.insert(id, serial);
                    model.insert(id, serial);
                } else {
                    prop_assert_eq!(table.remove(id), model.remove(&id));
                }
                prop_assert_eq!(table.of(id), model.get(&id));
                prop_assert_eq!(table.of_mut(id).copied(), model.get(&id).copied());
            }
            prop_assert_eq!(table.len(), model.len());
            let listed: HashMap<_, _> = table.iter().map(|(id, one)| (id, *one)).collect();
            prop_assert_eq!(listed, model);
        }
    }

    #[test]
    fn an_older_id_of_the_same_place_finds_nothing() {
        let mut table = ByAivt::default();
        table.insert(name(7, 5), 'a');
        assert_eq!(table.of(name(6, 5)), None);
        assert_eq!(table.remove(name(6, 5)), None);
        assert_eq!(table.of(name(7, 5)), Some(&'a'));
    }
}
