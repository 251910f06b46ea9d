//! Which AH associations of charon's are a pair, and so a key generation.
//!
//! ```text
//!   inbound ─► waits ◄─ outbound: theirs is one generation         two wait ◄─ outbound: whose? none is whole, and a successor is due
//! ```
//! charon makes the two one after the other, inbound first, and does not say which belong together. Who answers a rekeying makes the
//! outbound one only when the old one is deleted; where both ends rekey at once, two inbound ones wait for one outbound one, and charon
//! says of each whether this end began. Two of a kind wait where the other end rekeys twice before it deletes once: then none of those that
//! wait becomes whole, for which of them is left when the next outbound one comes is a guess too.

use ain_controlplane::sa::{Generation, SaDirection, SaName};

/// An inbound association.
struct Half {
    name: SaName,
    /// This end began the exchange that made it.
    initiator: bool,
    generation: Generation,
    /// It has waited with others when an outbound one came: the next one need not be its own.
    is_doubtful: bool,
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
                is_doubtful: false,
            });
            return (generation, false);
        }
        let is_like = |half: &Half| (half.name.peer, half.initiator) == (name.peer, initiator);
        let oldest = self.halves.iter().position(is_like).map(|at| self.halves.remove(at));
        let mut others = self.halves.iter_mut().filter(|half| is_like(half)).peekable();
        match oldest {
            Some(only) if others.peek().is_none() && !only.is_doubtful => (only.generation, false),
            _ => {
                others.for_each(|half| half.is_doubtful = true);
                (self.begin(), true)
            }
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
