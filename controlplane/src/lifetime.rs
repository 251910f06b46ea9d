//! How long a security association may be used (RFC 4301 section 4.4.2.1): past a soft limit its source is asked for a successor, at a
//! hard one it ends.

use ain_dataplane::id::Now;

/// Amounts of use; [`Self::NONE`] as limits never come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Amounts {
    /// Packets, or sequence numbers if more of these are used up.
    pub packets: u64,
    /// Octets, as [`ain_dataplane::usage::SaUse`] counts them.
    pub octets: u64,
    /// Time since the association was made, nanoseconds.
    pub age: u64,
}

impl Amounts {
    /// Limits that never come.
    pub const NONE: Self = Self {
        packets: u64::MAX,
        octets: u64::MAX,
        age: u64::MAX,
    };

    /// The lesser of each.
    fn min(self, other: Self) -> Self {
        Self {
            packets: self.packets.min(other.packets),
            octets: self.octets.min(other.octets),
            age: self.age.min(other.age),
        }
    }

    fn reaches(self, limits: Self) -> bool {
        self.packets >= limits.packets || self.octets >= limits.octets || self.age >= limits.age
    }
}

/// Which limit was reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Expiry {
    /// A successor is wanted; the association goes on.
    Soft,
    /// The association is over.
    Hard,
}

/// Soft and hard limits of an association.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetime {
    /// When to ask for a successor.
    pub soft: Amounts,
    /// When to end.
    pub hard: Amounts,
}

impl Lifetime {
    /// For ever, as far as sequence numbers go.
    pub const NONE: Self = Self {
        soft: Amounts::NONE,
        hard: Amounts::NONE,
    };

    /// The same, but not longer than there are sequence numbers; the last sixteenth of them is for the time that a successor takes.
    #[must_use]
    pub fn within_numbers(self, esn: bool) -> Self {
        let last = if esn { u64::MAX } else { u32::MAX.into() };
        let up_to = |packets| Amounts {
            packets,
            ..Amounts::NONE
        };
        let hard = self.hard.min(up_to(last));
        Self {
            soft: self.soft.min(hard).min(up_to(last - last / 16)),
            hard,
        }
    }

    /// The worst limit that `spent` reaches.
    pub fn expiry(&self, spent: Amounts) -> Option<Expiry> {
        if spent.reaches(self.hard) {
            Some(Expiry::Hard)
        } else {
            spent.reaches(self.soft).then_some(Expiry::Soft)
        }
    }

    /// When an association made at `made` reaches a limit by age alone after `now`.
    pub fn next_by_age(&self, made: Now, now: Now) -> Option<Now> {
        let ends = [self.soft.age, self.hard.age].map(|age| made.plus(age));
        ends.into_iter().filter(|at| *at > now && *at < Now(u64::MAX)).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amounts() -> impl Strategy<Value = Amounts> {
        let amount = || prop_oneof![Just(u64::MAX), 0..1000u64, Just(u64::from(u32::MAX)), any::<u64>()];
        (amount(), amount(), amount()).prop_map(|(packets, octets, age)| Amounts { packets, octets, age })
    }

    proptest! {
        #[test]
        fn limits_come_in_order_and_stay_reached(soft in amounts(), hard in amounts(), esn: bool, spent in amounts(), more in amounts()) {
            let lifetime = Lifetime { soft, hard }.within_numbers(esn);
            let later = Amounts {
                packets: spent.packets.max(more.packets),
                octets: spent.octets.max(more.octets),
                age: spent.age.max(more.age),
            };
            prop_assert!(lifetime.expiry(spent) <= lifetime.expiry(later), "use never makes an association younger");
            let hard_reached = spent.packets >= lifetime.hard.packets || spent.octets >= hard.octets || spent.age >= hard.age;
            prop_assert_eq!(lifetime.expiry(spent) == Some(Expiry::Hard), hard_reached);
            prop_assert!(lifetime.soft.min(lifetime.hard) == lifetime.soft, "soft before hard");
            if !esn {
                prop_assert!(lifetime.hard.packets <= u64::from(u32::MAX) && lifetime.soft.packets < u64::from(u32::MAX));
            }
        }

        #[test]
        fn the_next_limit_by_age_is_one(soft in amounts(), hard in amounts(), made in 0u64..1 << 40, now in 0u64..1 << 41) {
            let lifetime = Lifetime { soft, hard };
            let (made, now) = (Now(made), Now(now));
            let spent = |at: Now| Amounts { packets: 0, octets: 0, age: at.since(made) };
            let by_age = |at| Lifetime {
                soft: Amounts { age: soft.age, ..Amounts::NONE },
                hard: Amounts { age: hard.age, ..Amounts::NONE },
            }.expiry(spent(at));
            if let Some(next) = lifetime.next_by_age(made, now) {
                prop_assert!(next > now && by_age(next).is_some());
                prop_assert!(by_age(Now(next.0 - 1)) == by_age(now.max(made)) || next <= made);
            }
        }
    }

    #[test]
    fn numbers_end_an_association_without_esn() {
        let lifetime = Lifetime::NONE.within_numbers(false);
        let spent = |packets| Amounts {
            packets,
            octets: 0,
            age: 0,
        };
        assert_eq!(lifetime.expiry(spent(1 << 31)), None);
        assert_eq!(lifetime.expiry(spent((1 << 32) - (1 << 28))), Some(Expiry::Soft));
        assert_eq!(lifetime.expiry(spent(u32::MAX.into())), Some(Expiry::Hard));
        assert_eq!(Lifetime::NONE.within_numbers(true).expiry(spent(1 << 60)), None);
    }
}
