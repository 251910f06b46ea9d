//! The directory: which nodes there are, who neighbours whom, and which node serves which responders.
//!
//! ```text
//! SignedEntry --verify--> Entry                  each by its node's identity key
//!                         Entry ... --new--> Directory     none contradicts another
//! ```
//!
//! A [`Directory`] is only ever free of contradictions: [`Directory::new`] refuses the others and says which entry is to blame. What
//! time brings is none: an entry that has expired stays, and path choice passes it over.

mod entry;
mod error;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use rand::{CryptoRng, RngExt};
use sha2::{Digest, Sha256};
use thiserror::Error;

pub use entry::{Entry, EntryError, OnionKey, SignedEntry, TicketKey, valid_identity};
pub use error::DirectoryError;

use crate::limits::{ENTRY_FAMILIES, ENTRY_ONION_KEYS, ENTRY_PREFIXES, ENTRY_TICKET_KEYS};
use crate::signal::suite;

/// Identity of an AIN: SHA-256 of its Ed25519 identity key (protocol section 1). Printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 32]);

impl NodeId {
    /// The id of the node whose Ed25519 public key is `identity`.
    pub fn of(identity: &[u8; 32]) -> Self {
        Self(Sha256::digest(identity).into())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A node id that is not 64 hexadecimal digits.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a node id is 64 hexadecimal digits, not {0:?}")]
pub struct NodeIdError(String);

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        let error = || NodeIdError(text.to_owned());
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(error());
        }
        let mut id = [0; 32];
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = str::from_utf8(digits).map_err(|_| error())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| error())?;
        }
        Ok(Self(id))
    }
}

/// A directory that has been found free of contradictions.
#[derive(Clone, Debug)]
pub struct Directory {
    entries: Vec<Entry>,
    by_id: HashMap<NodeId, usize>,
    exits: Exits,
}

/// Who is the exit for what, found without a look at every node.
#[derive(Clone, Debug)]
struct Exits {
    /// By the first address of prefixes that do not overlap.
    by_prefix: BTreeMap<IpAddr, (IpNet, usize)>,
    by_signalling_address: HashMap<IpAddr, usize>,
    open: Vec<usize>,
}

impl Exits {
    fn of(entries: &[Entry]) -> Self {
        let numbered = || entries.iter().enumerate();
        let prefixes = numbered().flat_map(|(index, entry)| {
            let prefixes = entry.exit_prefixes.iter();
            prefixes.map(move |prefix| (prefix.network(), (prefix.trunc(), index)))
        });
        Self {
            by_prefix: prefixes.collect(),
            by_signalling_address: numbered().map(|(index, entry)| (entry.address, index)).collect(),
            open: numbered()
                .filter(|(_, entry)| !entry.open_exit.is_empty())
                .map(|(index, _)| index)
                .collect(),
        }
    }

    /// The one node that every flow to `destination` has to leave at.
    fn owner(&self, destination: IpAddr) -> Option<usize> {
        let of_prefix = || {
            let (_, (prefix, index)) = self.by_prefix.range(..=destination).next_back()?;
            prefix.contains(&destination).then_some(*index)
        };
        self.by_signalling_address.get(&destination).copied().or_else(of_prefix)
    }
}

impl Directory {
    /// Checks `entries` against each other. Errors: the first contradiction, in the order of the entries.
    pub fn new(entries: Vec<Entry>) -> Result<Self, DirectoryError> {
        if entries.is_empty() {
            return Err(DirectoryError::Empty);
        }
        check_unique(&entries)?;
        entries.iter().try_for_each(check_entry)?;
        let by_id = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (entry.id(), index))
            .collect();
        let exits = Exits::of(&entries);
        let directory = Self { entries, by_id, exits };
        directory.check_neighbours()?;
        directory.check_prefixes()?;
        Ok(directory)
    }

    /// All entries, in the order given.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of `id`.
    pub fn entry(&self, id: &NodeId) -> Option<&Entry> {
        self.by_id.get(id).map(|&index| &self.entries[index])
    }

    /// The entry with the operators' name `name`.
    pub fn named(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Whether `address` is the signalling address of a node.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.exits.by_signalling_address.contains_key(&address)
    }

    /// The node at which a flow of `entrance` to `destination` leaves: the one that the address or a prefix belongs to, else any open
    /// exit for it, drawn by weight among those that hold at `wall`, Unix seconds, and may stand on a path with the entrance; not `but`
    /// if there is another such.
    pub fn exit_for(
        &self,
        destination: IpAddr,
        entrance: &NodeId,
        but: Option<NodeId>,
        wall: u64,
        rng: &mut dyn CryptoRng,
    ) -> Option<NodeId> {
        if let Some(owner) = self.exits.owner(destination) {
            return Some(self.entries[owner].id());
        }
        let entrance = self.entry(entrance)?;
        let open = self.exits.open.iter().map(|index| &self.entries[*index]);
        let mut open: Vec<&Entry> = open
            .filter(|entry| is_open_for(entry, destination, entrance, wall))
            .collect();
        let mut draw = || draw_by_weight(&mut open, |entry| entry.weight, rng).map(Entry::id);
        let first = draw()?;
        let another = if Some(first) == but { draw() } else { None };
        another.or(Some(first))
    }

    /// Whether a flow of `entrance` to `destination` may leave at `exit` at `wall`, Unix seconds: whether [`Self::exit_for`] may be it.
    pub fn is_exit_for(&self, exit: &NodeId, destination: IpAddr, entrance: &NodeId, wall: u64) -> bool {
        match (self.exits.owner(destination), self.entry(exit), self.entry(entrance)) {
            (Some(owner), _, _) => self.by_id.get(exit) == Some(&owner),
            (None, Some(exit), Some(entrance)) => is_open_for(exit, destination, entrance, wall),
            (None, _, _) => false,
        }
    }

    fn check_neighbours(&self) -> Result<(), DirectoryError> {
        for entry in &self.entries {
            let id = entry.id();
            for (index, neighbour) in entry.neighbours.iter().enumerate() {
                let node = entry.name.clone();
                let Some(other) = self.entry(neighbour) else {
                    return Err(DirectoryError::UnknownNeighbour {
                        node,
                        neighbour: *neighbour,
                    });
                };
                let neighbour_name = other.name.clone();
                if *neighbour == id || entry.neighbours[..index].contains(neighbour) {
                    return Err(DirectoryError::RepeatedNeighbour {
                        node,
                        neighbour: neighbour_name,
                    });
                }
                if other.address.is_ipv4() != entry.address.is_ipv4() {
                    return Err(DirectoryError::NeighbourFamily {
                        node,
                        neighbour: neighbour_name,
                    });
                }
                if !other.neighbours.contains(&id) {
                    return Err(DirectoryError::AsymmetricNeighbour {
                        node,
                        neighbour: neighbour_name,
                    });
                }
            }
        }
        Ok(())
    }

    fn check_prefixes(&self) -> Result<(), DirectoryError> {
        let mut prefixes: Vec<(IpNet, &str)> = Vec::new();
        for entry in &self.entries {
            prefixes.extend(
                entry
                    .exit_prefixes
                    .iter()
                    .map(|prefix| (prefix.trunc(), entry.name.as_str())),
            );
        }
        // Sorted by address and then by length, a prefix that contains others stands right before the first of them.
        prefixes.sort();
        for pair in prefixes.windows(2) {
            let ((other_prefix, other), (prefix, node)) = (pair[0], pair[1]);
            if other_prefix.contains(&prefix) || prefix.contains(&other_prefix) {
                let (node, other) = (node.to_owned(), other.to_owned());
                return Err(DirectoryError::OverlappingPrefix {
                    node,
                    prefix,
                    other,
                    other_prefix,
                });
            }
        }
        Ok(())
    }
}

/// Whether `exit` is an open exit for `destination` that holds at `wall` and may stand on a path with `entrance`.
fn is_open_for(exit: &Entry, destination: IpAddr, entrance: &Entry, wall: u64) -> bool {
    exit.open_exit.iter().any(|prefix| prefix.contains(&destination))
        && exit.check_valid(wall).is_ok()
        && exit.is_apart_from(entrance)
}

fn check_unique(entries: &[Entry]) -> Result<(), DirectoryError> {
    let (mut names, mut ids, mut addresses) = (HashMap::new(), HashMap::new(), HashMap::new());
    for entry in entries {
        let name = || entry.name.clone();
        if entry.name.is_empty() || names.insert(&entry.name, ()).is_some() {
            return Err(DirectoryError::Name(name()));
        }
        if let Some(other) = ids.insert(entry.identity, &entry.name) {
            return Err(DirectoryError::DuplicateId(other.clone(), name()));
        }
        if entry.address.is_unspecified() || entry.address.is_multicast() || entry.address.is_loopback() {
            return Err(DirectoryError::Address(name(), entry.address));
        }
        if let Some(other) = addresses.insert(entry.address, &entry.name) {
            return Err(DirectoryError::DuplicateAddress(other.clone(), name(), entry.address));
        }
    }
    Ok(())
}

fn check_entry(entry: &Entry) -> Result<(), DirectoryError> {
    let node = || entry.name.clone();
    if valid_identity(&entry.identity).is_none() {
        return Err(DirectoryError::Identity(node()));
    }
    let prefixes = entry.exit_prefixes.len().max(entry.open_exit.len());
    let lists = [
        ("onion keys", entry.onion_keys.len(), ENTRY_ONION_KEYS),
        ("families", entry.families.len(), ENTRY_FAMILIES),
        ("prefixes", prefixes, ENTRY_PREFIXES),
        ("ticket keys", entry.ticket_keys.len(), ENTRY_TICKET_KEYS),
    ];
    if let Some((what, _, most)) = lists.into_iter().find(|(_, length, most)| length > most) {
        let node = node();
        return Err(DirectoryError::TooMany { node, what, most });
    }
    let mut times = entry.onion_keys.iter().map(|key| (key.not_before, key.not_after));
    if entry.valid_from >= entry.valid_until || times.any(|(from, until)| from >= until) {
        return Err(DirectoryError::NoTime(node()));
    }
    for (index, family) in entry.families.iter().enumerate() {
        if family.is_empty() || entry.families[..index].contains(family) {
            let family = family.clone();
            return Err(DirectoryError::Family { node: node(), family });
        }
    }
    for (index, ticket) in entry.ticket_keys.iter().enumerate() {
        let slice = ticket.slice;
        if entry.ticket_keys[..index].iter().any(|earlier| earlier.slice == slice) {
            return Err(DirectoryError::DuplicateTicketKey { node: node(), slice });
        }
    }
    check_onion_keys(entry)
}

fn check_onion_keys(entry: &Entry) -> Result<(), DirectoryError> {
    let node = || entry.name.clone();
    if entry.onion_keys.is_empty() {
        return Err(DirectoryError::NoOnionKey(node()));
    }
    for (index, key) in entry.onion_keys.iter().enumerate() {
        let suite = key.suite;
        let begins = (suite, key.not_before);
        let mut earlier = entry.onion_keys[..index].iter();
        if earlier.any(|earlier| (earlier.suite, earlier.not_before) == begins) {
            return Err(DirectoryError::DuplicateOnionKey { node: node(), suite });
        }
        let Some(known) = suite::by_id(suite) else {
            return Err(DirectoryError::UnknownSuite { node: node(), suite });
        };
        if key.key.len() != known.public_key {
            let (given, wanted) = (key.key.len(), known.public_key);
            return Err(DirectoryError::KeyLength {
                node: node(),
                suite,
                given,
                wanted,
            });
        }
    }
    Ok(())
}

/// Takes one of `items` out, each with a probability proportional to its weight. `None` if all weights are 0.
pub(crate) fn draw_by_weight<T>(items: &mut Vec<T>, weight: impl Fn(&T) -> u32, rng: &mut dyn CryptoRng) -> Option<T> {
    let total: u64 = items.iter().map(|item| u64::from(weight(item))).sum();
    if total == 0 {
        return None;
    }
    let mut left = rng.random_range(0..total);
    let at = items.iter().position(|item| {
        let weight = u64::from(weight(item));
        let hit = left < weight;
        left = left.saturating_sub(weight);
        hit
    });
    at.map(|at| items.swap_remove(at))
}
