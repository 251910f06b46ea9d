//! The directory: which nodes there are, who neighbours whom, and which node serves which responders.
//!
//! A [`Directory`] is only ever valid: [`Directory::new`] refuses what contradicts itself and says which entry is to blame.
//! [`Entry::canonical_bytes`] is the one encoding of an entry that a signature of its identity key covers.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ed25519_dalek::VerifyingKey;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use thiserror::Error;

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

/// A node's public onion key of one suite.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OnionKey {
    /// Suite of protocol section 5.
    pub suite: u8,
    /// Public key, as long as the suite says: 32 bytes for suite 3.
    pub key: Vec<u8>,
}

/// What the directory says of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Name for operators; carries no meaning in the protocol.
    pub name: String,
    /// Ed25519 identity key, public half.
    pub identity: [u8; 32],
    /// Signalling address: end of the inner datagrams of its PVTs.
    pub address: IpAddr,
    /// Onion keys, at most one a suite.
    pub onion_keys: Vec<OnionKey>,
    /// Nodes it has a PVT with.
    pub neighbours: Vec<NodeId>,
    /// Prefixes of the responders it serves as exit.
    pub exit_prefixes: Vec<IpNet>,
}

impl Entry {
    /// The node's id.
    pub fn id(&self) -> NodeId {
        NodeId::of(&self.identity)
    }

    /// The public key of `suite`, if the node has one.
    pub fn onion_key(&self, suite: u8) -> Option<&[u8]> {
        self.onion_keys
            .iter()
            .find(|key| key.suite == suite)
            .map(|key| key.key.as_slice())
    }

    /// The encoding a signature covers. Two entries that mean the same encode alike: lists are sorted, prefixes cut to their
    /// length, every variable part preceded by its length as u32, addresses by their family (4 or 6).
    ///
    /// ```text
    /// "ain directory entry 1" | identity[32] | name | address
    ///   | count u32, (suite u8 | key)*  | count u32, neighbour id[32]*  | count u32, (prefix length u8 | address)*
    /// ```
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut out = b"ain directory entry 1".to_vec();
        out.extend_from_slice(&self.identity);
        put_bytes(&mut out, self.name.as_bytes());
        put_address(&mut out, self.address);
        let mut keys: Vec<_> = self.onion_keys.iter().collect();
        keys.sort_by_key(|key| key.suite);
        put_list(&mut out, &keys, |out, key| {
            out.push(key.suite);
            put_bytes(out, &key.key);
        });
        let mut neighbours = self.neighbours.clone();
        neighbours.sort();
        put_list(&mut out, &neighbours, |out, id| out.extend_from_slice(&id.0));
        let mut prefixes: Vec<IpNet> = self.exit_prefixes.iter().map(IpNet::trunc).collect();
        prefixes.sort();
        put_list(&mut out, &prefixes, |out, prefix| {
            out.push(prefix.prefix_len());
            put_address(out, prefix.addr());
        });
        out
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_list<T>(out: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    put_length(out, items.len());
    items.iter().for_each(|item| put(out, item));
}

fn put_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            out.push(4);
            out.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out.push(6);
            out.extend_from_slice(&v6.octets());
        }
    }
}

/// What is wrong with a directory. Nodes are named by their operators' names.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DirectoryError {
    /// No node at all.
    #[error("the directory is empty")]
    Empty,
    /// A name is empty or used twice.
    #[error("node name {0:?} is empty or used twice")]
    Name(String),
    /// The identity key is not a point of Ed25519, or a weak one.
    #[error("node {0:?}: the identity key is not a valid Ed25519 public key")]
    Identity(String),
    /// Two entries with one identity key.
    #[error("nodes {0:?} and {1:?} have the same identity key")]
    DuplicateId(String, String),
    /// Two entries with one signalling address.
    #[error("nodes {0:?} and {1:?} have the same address {2}")]
    DuplicateAddress(String, String, IpAddr),
    /// The signalling address cannot be one.
    #[error("node {0:?}: {1} cannot be a signalling address")]
    Address(String, IpAddr),
    /// No onion key.
    #[error("node {0:?} has no onion key of suite 3")]
    NoOnionKey(String),
    /// Several onion keys of one suite.
    #[error("node {node:?} has two onion keys of suite {suite}")]
    DuplicateSuite {
        /// The node.
        node: String,
        /// The suite.
        suite: u8,
    },
    /// A suite this version does not know.
    #[error("node {node:?}: suite {suite} of an onion key is unknown")]
    UnknownSuite {
        /// The node.
        node: String,
        /// The suite.
        suite: u8,
    },
    /// A key whose length does not fit its suite.
    #[error("node {node:?}: an onion key of suite {suite} has {wanted} bytes, not {given}")]
    KeyLength {
        /// The node.
        node: String,
        /// The suite.
        suite: u8,
        /// Bytes given.
        given: usize,
        /// Bytes the suite takes.
        wanted: usize,
    },
    /// A neighbour without an entry.
    #[error("node {node:?}: neighbour {neighbour} is not in the directory")]
    UnknownNeighbour {
        /// The node.
        node: String,
        /// The neighbour named.
        neighbour: NodeId,
    },
    /// A node that names itself or one neighbour twice.
    #[error("node {node:?} names neighbour {neighbour:?} twice or is it itself")]
    RepeatedNeighbour {
        /// The node.
        node: String,
        /// The neighbour named.
        neighbour: String,
    },
    /// A neighbour that does not name the node in turn.
    #[error("node {node:?} names neighbour {neighbour:?}, which does not name it in turn")]
    AsymmetricNeighbour {
        /// The node.
        node: String,
        /// The neighbour named.
        neighbour: String,
    },
    /// Two exit prefixes that share addresses.
    #[error("exit prefix {prefix} of node {node:?} overlaps {other_prefix} of node {other:?}")]
    OverlappingPrefix {
        /// The node.
        node: String,
        /// Its prefix.
        prefix: IpNet,
        /// The other node, or the same.
        other: String,
        /// The other prefix.
        other_prefix: IpNet,
    },
}

/// A directory that has been found free of contradictions.
#[derive(Clone, Debug)]
pub struct Directory {
    entries: Vec<Entry>,
    by_id: HashMap<NodeId, usize>,
}

impl Directory {
    /// Checks `entries` against each other. Errors: the first contradiction, in the order of the entries.
    pub fn new(entries: Vec<Entry>) -> Result<Self, DirectoryError> {
        if entries.is_empty() {
            return Err(DirectoryError::Empty);
        }
        check_unique(&entries)?;
        entries.iter().try_for_each(check_keys)?;
        let by_id = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (entry.id(), index))
            .collect();
        let directory = Self { entries, by_id };
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

    /// The node that serves `responder` as exit. At most one does, for prefixes do not overlap.
    pub fn exit_for(&self, responder: IpAddr) -> Option<NodeId> {
        self.entries
            .iter()
            .find(|entry| entry.exit_prefixes.iter().any(|prefix| prefix.contains(&responder)))
            .map(Entry::id)
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

fn check_keys(entry: &Entry) -> Result<(), DirectoryError> {
    let node = || entry.name.clone();
    if VerifyingKey::from_bytes(&entry.identity).map_or(true, |key| key.is_weak()) {
        return Err(DirectoryError::Identity(node()));
    }
    for (index, key) in entry.onion_keys.iter().enumerate() {
        let suite = key.suite;
        if entry.onion_keys[..index].iter().any(|earlier| earlier.suite == suite) {
            return Err(DirectoryError::DuplicateSuite { node: node(), suite });
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
    entry
        .onion_key(suite::X25519.id)
        .map(|_| ())
        .ok_or_else(|| DirectoryError::NoOnionKey(node()))
}
