//! One node's entry in the directory: what it says, for how long, and the signature of its identity key over all of it.
//!
//! ```text
//! Entry --sign, with the identity key--> SignedEntry --verify--> Entry
//!            \__ canonical_bytes __/         (a file)
//! ```

use std::net::IpAddr;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use ipnet::IpNet;
use thiserror::Error;

use super::NodeId;
use crate::limits::KEY_SLACK_S;

/// A node's public onion key of one suite, for a time. A node has several of a suite, whose times overlap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OnionKey {
    /// Suite of protocol section 5.
    pub suite: u8,
    /// Public key, as long as the suite says: 32 bytes for suite 3.
    pub key: Vec<u8>,
    /// The node opens creating signals with it from this time on, Unix seconds.
    pub not_before: u64,
    /// And no more from this time on, Unix seconds: the node has erased it.
    pub not_after: u64,
}

impl OnionKey {
    /// A key that never changes.
    pub fn always(suite: u8, key: Vec<u8>) -> Self {
        let (not_before, not_after) = (0, u64::MAX);
        Self {
            suite,
            key,
            not_before,
            not_after,
        }
    }

    fn is_valid(&self, wall: u64) -> bool {
        (self.not_before..self.not_after).contains(&wall)
    }

    /// Whether it is valid by every clock that is a little wrong.
    fn is_settled(&self, wall: u64) -> bool {
        let slack = KEY_SLACK_S.min(self.not_after.saturating_sub(self.not_before) / 8);
        self.is_valid(wall.saturating_sub(slack)) && self.is_valid(wall.saturating_add(slack))
    }
}

/// The public half of a node's key for tickets of one slice of time (protocol section 8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TicketKey {
    /// Number of the slice.
    pub slice: u32,
    /// A point of ristretto255.
    pub key: [u8; 32],
}

/// What the directory says of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Name for operators; carries no meaning in the protocol.
    pub name: String,
    /// Ed25519 identity key, public half.
    pub identity: [u8; 32],
    /// Signalling address: end of the inner datagrams of its PVTs. The node is the exit for it.
    pub address: IpAddr,
    /// From when on the entry holds, Unix seconds.
    pub valid_from: u64,
    /// And until when, Unix seconds: from then on no new path leads over the node.
    pub valid_until: u64,
    /// Onion keys of any suites.
    pub onion_keys: Vec<OnionKey>,
    /// Nodes it has a PVT with.
    pub neighbours: Vec<NodeId>,
    /// Groups of nodes under one hand: two of one family never stand on one path.
    pub families: Vec<String>,
    /// Its share of paths between their ends, against that of other nodes; 0 = it stands on none.
    pub weight: u32,
    /// Prefixes of the responders it serves as exit.
    pub exit_prefixes: Vec<IpNet>,
    /// Prefixes of hosts without IPsec that it is an open exit for; none unless it is one. A summary: protocols, ports and private
    /// addresses are the exit's own policy.
    pub open_exit: Vec<IpNet>,
    /// Keys of the tickets that it issues.
    pub ticket_keys: Vec<TicketKey>,
}

impl Entry {
    /// A node without keys, links and prefixes, of weight 1, whose entry holds for ever.
    pub fn new(name: impl Into<String>, identity: [u8; 32], address: IpAddr) -> Self {
        Self {
            name: name.into(),
            identity,
            address,
            valid_from: 0,
            valid_until: u64::MAX,
            onion_keys: Vec::new(),
            neighbours: Vec::new(),
            families: Vec::new(),
            weight: 1,
            exit_prefixes: Vec::new(),
            open_exit: Vec::new(),
            ticket_keys: Vec::new(),
        }
    }

    /// The node's id.
    pub fn id(&self) -> NodeId {
        NodeId::of(&self.identity)
    }

    /// The public key of `suite` to use at `wall`, Unix seconds: the newest one that is valid even if the clocks differ a little.
    pub fn onion_key(&self, suite: u8, wall: u64) -> Option<&[u8]> {
        let valid = self
            .onion_keys
            .iter()
            .filter(|key| key.suite == suite && key.is_valid(wall));
        valid
            .max_by_key(|key| (key.is_settled(wall), key.not_before))
            .map(|key| key.key.as_slice())
    }

    /// Whether the entry holds at `wall`, Unix seconds. Errors: too early or too late.
    pub fn check_valid(&self, wall: u64) -> Result<(), EntryError> {
        let node = || self.name.clone();
        if wall < self.valid_from {
            return Err(EntryError::NotYetValid(node(), self.valid_from));
        }
        if wall >= self.valid_until {
            return Err(EntryError::Expired(node(), self.valid_until));
        }
        Ok(())
    }

    /// Whether the two may stand on one path: they are two, and of no common family.
    pub fn is_apart_from(&self, other: &Self) -> bool {
        let common = |family| other.families.contains(family);
        self.identity != other.identity && !self.families.iter().any(common)
    }

    /// The encoding a signature covers. Two entries that mean the same encode alike: lists are sorted, prefixes cut to their
    /// length, every variable part preceded by its length as u32, addresses by their family (4 or 6).
    ///
    /// ```text
    /// "ain directory entry 2" | identity[32] | name | address | valid_from u64 | valid_until u64 | weight u32
    ///   | count u32, (suite u8 | not_before u64 | not_after u64 | key)*
    ///   | count u32, neighbour id[32]*
    ///   | count u32, family*
    ///   | count u32, (prefix length u8 | address)*       exit prefixes
    ///   | count u32, (prefix length u8 | address)*       prefixes of the open exit
    ///   | count u32, (slice u32 | ticket key[32])*
    /// ```
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut out = b"ain directory entry 2".to_vec();
        out.extend_from_slice(&self.identity);
        put_bytes(&mut out, self.name.as_bytes());
        put_address(&mut out, self.address);
        put_u64(&mut out, self.valid_from);
        put_u64(&mut out, self.valid_until);
        out.extend_from_slice(&self.weight.to_be_bytes());
        let keys = self.onion_keys.iter();
        put_sorted(
            &mut out,
            keys.map(|key| (key.suite, key.not_before, key.not_after, &key.key)),
            |out, (suite, not_before, not_after, key)| {
                out.push(*suite);
                put_u64(out, *not_before);
                put_u64(out, *not_after);
                put_bytes(out, key);
            },
        );
        put_sorted(&mut out, self.neighbours.iter(), |out, id| out.extend_from_slice(&id.0));
        put_sorted(&mut out, self.families.iter(), |out, family| {
            put_bytes(out, family.as_bytes())
        });
        put_sorted(&mut out, self.exit_prefixes.iter().map(IpNet::trunc), put_prefix);
        put_sorted(&mut out, self.open_exit.iter().map(IpNet::trunc), put_prefix);
        put_sorted(&mut out, self.ticket_keys.iter(), |out, ticket| {
            out.extend_from_slice(&ticket.slice.to_be_bytes());
            out.extend_from_slice(&ticket.key);
        });
        out
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_sorted<T: Ord>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, put: impl Fn(&mut Vec<u8>, &T)) {
    let mut items: Vec<T> = items.collect();
    items.sort();
    put_length(out, items.len());
    items.iter().for_each(|item| put(out, item));
}

fn put_prefix(out: &mut Vec<u8>, prefix: &IpNet) {
    out.push(prefix.prefix_len());
    put_address(out, prefix.addr());
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

/// An entry as it is passed around: with the signature of the node's identity key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedEntry {
    entry: Entry,
    /// Ed25519, over [`Entry::canonical_bytes`].
    signature: [u8; 64],
}

/// Why an entry is not believed. Nodes are named by their operators' names.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EntryError {
    /// Its time has not come; Unix seconds.
    #[error("the entry of node {0:?} is not valid before {1} (Unix time)")]
    NotYetValid(String, u64),
    /// Its time is over; Unix seconds.
    #[error("the entry of node {0:?} has expired at {1} (Unix time)")]
    Expired(String, u64),
    /// The identity key is not a point of Ed25519, or a weak one.
    #[error("node {0:?}: the identity key is not a valid Ed25519 public key")]
    Identity(String),
    /// Signed by a key that is not the entry's identity key.
    #[error("node {0:?}: the identity key at hand is not that of the entry")]
    OtherIdentity(String),
    /// Changed since it was signed, or signed with another key.
    #[error("node {0:?}: the signature is not that of the entry's identity key over what the entry says")]
    Signature(String),
}

impl SignedEntry {
    /// Signs `entry`. Errors: `identity` is not the entry's.
    pub fn sign(entry: Entry, identity: &SigningKey) -> Result<Self, EntryError> {
        if identity.verifying_key().to_bytes() != entry.identity {
            return Err(EntryError::OtherIdentity(entry.name));
        }
        let signature = identity.sign(&entry.canonical_bytes()).to_bytes();
        Ok(Self { entry, signature })
    }

    /// What came with `signature`, not verified yet.
    pub fn unverified(entry: Entry, signature: [u8; 64]) -> Self {
        Self { entry, signature }
    }

    /// What is signed.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The signature.
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// The entry, if its identity key signed it as it is. When it holds is another question: [`Entry::check_valid`].
    pub fn verify(self) -> Result<Entry, EntryError> {
        let node = || self.entry.name.clone();
        let identity = valid_identity(&self.entry.identity).ok_or_else(|| EntryError::Identity(node()))?;
        identity
            .verify_strict(&self.entry.canonical_bytes(), &Signature::from_bytes(&self.signature))
            .map_err(|_| EntryError::Signature(node()))?;
        Ok(self.entry)
    }
}

/// The key of `identity`, unless it is none or a weak one.
pub fn valid_identity(identity: &[u8; 32]) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(identity).ok().filter(|key| !key.is_weak())
}
