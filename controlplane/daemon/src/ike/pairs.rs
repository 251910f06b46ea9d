//! Which AH associations of charon's are a pair, and so a key generation.
//!
//! ```text
//!   inbound ─► waits ◄─ outbound: theirs is one generation         two wait ◄─ outbound: whose? none is whole, and a successor is due
//! ```
//! charon makes the two one after the other, inbound first, and does not say which belong together. Who answers a rekeying makes the
//! outbound one only when the old one is deleted; where both ends rekey at once, two inbound ones wait for one outbound one, and charon
//! says of each whether this end began. Two of a kind wait where the other end rekeys twice before it deletes once.

use ain_controlplane::sa::{Generation, SaDirection, SaName};

/// An inbound association.
struct Half {
    name: SaName,
    /// This end began the exchange that made it.
    initiator: bool,
    generation: Generation,
}

/// The generations that charon makes.
pub struct Pairs {
    /// Those that wait for the other half.
    halves: Vec<Half>,
    newest: Generation,
}

impl Default for Pairs {
    fn default() -> Self {
        Self {
            halves: Vec::new(),
            newest: Generation::HAND_MADE,
        }
    }
}

impl Pairs {
    /// The generation of an AH association that is new, and whether that will never be whole: nobody knows the other half.
    pub fn generation(&mut self, name: SaName, initiator: bool) -> (Generation, bool) {
        if name.direction == SaDirection::In {
            let generation = self.begin();
            self.halves.push(Half {
                name,
                initiator,
                generation,
            });
            return (generation, false);
        }
        let is_partner = |half: &mut Half| (half.name.peer, half.initiator) == (name.peer, initiator);
        let waiting: Vec<Half> = self.halves.extract_if(.., is_partner).collect();
        match waiting.as_slice() {
            [only] => (only.generation, false),
            _ => (self.begin(), true),
        }
    }

    /// `name` is gone.
    pub fn forget(&mut self, name: SaName) {
        self.halves.retain(|half| half.name != name);
    }

    /// What waits, waits in vain.
    pub fn clear(&mut self) {
        self.halves.clear();
    }

    fn begin(&mut self) -> Generation {
        self.newest.0 += 1;
        self.newest
    }
}
