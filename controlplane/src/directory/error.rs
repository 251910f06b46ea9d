//! What may be wrong with a directory.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use super::NodeId;

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
    /// Times that begin after they end.
    #[error("node {0:?}: the entry or one of its keys is valid at no time at all")]
    NoTime(String),
    /// A list longer than any node needs.
    #[error("node {node:?} has more than {most} {what}")]
    TooMany {
        /// The node.
        node: String,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// A family without a name, or named twice.
    #[error("node {node:?}: family {family:?} is empty or named twice")]
    Family {
        /// The node.
        node: String,
        /// The family.
        family: String,
    },
    /// No onion key.
    #[error("node {0:?} has no onion key")]
    NoOnionKey(String),
    /// Several onion keys of one suite that begin at one time, so that none is the newest.
    #[error("node {node:?} has two onion keys of suite {suite} that begin at one time")]
    DuplicateOnionKey {
        /// The node.
        node: String,
        /// The suite.
        suite: u8,
    },
    /// Two ticket keys for one slice.
    #[error("node {node:?} has two ticket keys for slice {slice}")]
    DuplicateTicketKey {
        /// The node.
        node: String,
        /// The slice.
        slice: u32,
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
    /// Neighbours whose signals, which run between their addresses, would have no common family.
    #[error(
        "node {node:?} and neighbour {neighbour:?} have addresses of different families: signals run between two of one family"
    )]
    NeighbourFamily {
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
