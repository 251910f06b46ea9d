//! How long a security association may be used (RFC 4301 section 4.4.2.1): past a soft limit its source is asked for a successor, at a
//! hard one it ends.

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
