//! The addresses and ports that an open exit shows to the Internet, and whose they are among the workers.
//!
//! ```text
//!   port          1024   1025   1026   1027   1028 ...         with three workers; the same for every address, TCP, UDP and
//!   its worker       0      1      2      0      1             echo identifiers alike
//! ```
//! So a packet from the Internet names the worker that knows its mapping, and workers share nothing.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use rustc_hash::FxHashMap;

use crate::id::WorkerId;

/// An address of the pool: its place in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AddressId(pub u16);

/// Addresses and ports.
#[derive(Clone, Debug)]
pub struct Pool {
    addresses: Vec<IpAddr>,
    by_address: FxHashMap<IpAddr, AddressId>,
    v4: Vec<AddressId>,
    v6: Vec<AddressId>,
    first_port: u16,
    /// Ports of each address, 65536 at most.
    ports: u32,
    workers: u16,
}

impl Pool {
    /// `ports` of each of `addresses`, shared out among `workers`, at least one.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>, ports: &RangeInclusive<u16>, workers: u8) -> Self {
        let addresses: Vec<IpAddr> = addresses.into_iter().collect();
        let numbered = || (0..).map(AddressId).zip(&addresses);
        let of = |v4: bool| {
            numbered()
                .filter(|(_, one)| one.is_ipv4() == v4)
                .map(|(id, _)| id)
                .collect()
        };
        Self {
            by_address: numbered().map(|(id, address)| (*address, id)).collect(),
            v4: of(true),
            v6: of(false),
            first_port: *ports.start(),
            ports: u32::from(*ports.end()) + 1 - u32::from(*ports.start()).min(u32::from(*ports.end())),
            workers: u16::from(workers.max(1)),
            addresses,
        }
    }

    /// All addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The place of `address`, if it is one of the pool's.
    pub fn find(&self, address: IpAddr) -> Option<AddressId> {
        self.by_address.get(&address).copied()
    }

    /// The address of this place.
    pub fn address(&self, id: AddressId) -> Option<IpAddr> {
        self.addresses.get(usize::from(id.0)).copied()
    }

    /// Some address of the family of `like`, by `draw`; `None` if the pool has none of it.
    pub fn some_address(&self, like: IpAddr, draw: u32) -> Option<AddressId> {
        let family = if like.is_ipv4() { &self.v4 } else { &self.v6 };
        let at = draw as usize % family.len().max(1);
        family.get(at).copied()
    }

    /// How many workers share the ports.
    pub fn workers(&self) -> u8 {
        // It was made of a byte.
        self.workers as u8
    }

    /// The worker of `port`; `None` outside the range.
    pub fn owner(&self, port: u16) -> Option<WorkerId> {
        let at = u32::from(port.checked_sub(self.first_port)?);
        // Fewer workers than a byte holds.
        (at < self.ports).then(|| WorkerId((at % u32::from(self.workers)) as u8))
    }

    /// How many ports of each address `worker` has.
    pub fn share(&self, worker: WorkerId) -> u32 {
        let (workers, me) = (u32::from(self.workers), u32::from(worker.0));
        (self.ports + workers - 1).saturating_sub(me) / workers
    }

    /// The `nth` port of `worker`, counted round its share. 0 if it has none.
    pub fn port(&self, worker: WorkerId, nth: u32) -> u16 {
        let Some(nth) = nth.checked_rem(self.share(worker)) else {
            return 0;
        };
        // Below 65536: within the range.
        (u32::from(self.first_port) + u32::from(worker.0) + nth * u32::from(self.workers)) as u16
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn pool(addresses: &[&str], ports: RangeInclusive<u16>, workers: u8) -> Pool {
        Pool::new(addresses.iter().map(|one| one.parse().unwrap()), &ports, workers)
    }

    #[test]
    fn addresses_by_family() {
        let pool = pool(&["203.0.113.64", "2001:db8::1", "203.0.113.65"], 1024..=65535, 2);
        let like = |text: &str| -> IpAddr { text.parse().unwrap() };
        let drawn = |text: &str, draw| pool.some_address(like(text), draw).and_then(|id| pool.address(id));
        assert_eq!(
            [0, 1, 2].map(|draw| drawn("9.9.9.9", draw)),
            [0, 2, 0].map(|at| Some(pool.addresses()[at]))
        );
        assert_eq!(drawn("2620::1", 77), Some(like("2001:db8::1")));
        assert_eq!(pool.find(like("203.0.113.65")), Some(AddressId(2)));
        assert_eq!(pool.find(like("203.0.113.66")), None);
        assert_eq!(Pool::new([], &(1..=2), 1).some_address(like("9.9.9.9"), 0), None);
    }

    proptest! {
        /// Every port of the range belongs to one worker, which finds it in its share once.
        #[test]
        fn shares_are_apart_and_complete(first: u16, length in 0u16..300, workers in 1u8..9) {
            let last = first.saturating_add(length);
            let pool = pool(&["203.0.113.64"], first..=last, workers);
            let mut seen = BTreeSet::new();
            for worker in (0..workers).map(WorkerId) {
                for nth in 0..pool.share(worker) {
                    let port = pool.port(worker, nth);
                    prop_assert_eq!(pool.owner(port), Some(worker));
                    prop_assert!(seen.insert(port));
                }
            }
            prop_assert_eq!(seen, (first..=last).collect());
            prop_assert_eq!(first.checked_sub(1).and_then(|port| pool.owner(port)), None);
            prop_assert_eq!(last.checked_add(1).and_then(|port| pool.owner(port)), None);
        }
    }
}
