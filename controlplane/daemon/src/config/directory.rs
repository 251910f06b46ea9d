//! The network's directory: every AIN, its keys, its neighbours and the prefixes it serves as exit (protocol section 7).

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use ed25519_dalek::VerifyingKey;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use toml::Spanned;

use super::raw::{RawDirectoryFile, RawDirectoryNode};
use super::report::{Checker, Problems};
use super::{check_address, check_name, check_prefix, overlap, parse};

/// The directory, checked.
#[derive(Debug)]
pub struct Directory {
    /// One entry an AIN.
    pub nodes: Vec<Entry>,
}

/// One AIN.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Ed25519 public key.
    pub identity: [u8; 32],
    /// Its id: SHA-256 of the identity key (protocol section 1).
    pub id: [u8; 32],
    /// Outer address.
    pub address: IpAddr,
    /// X25519 public key of suite 3.
    pub onion_suite3: [u8; 32],
    /// Places in [`Directory::nodes`] of the AINs it has a PVT with.
    pub neighbours: Vec<usize>,
    /// Prefixes it serves as exit.
    pub exit_prefixes: Vec<IpNet>,
}

impl Directory {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let (mut checker, raw) = parse::<RawDirectoryFile>(path)?;
        let directory = check(&mut checker, &raw.nodes);
        checker.finish(directory)
    }

    /// The entry named `name`.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.nodes.iter().find(|entry| entry.name == name)
    }
}

fn check(checker: &mut Checker, raw: &[Spanned<RawDirectoryNode>]) -> Option<Directory> {
    let names: HashMap<&str, usize> = raw
        .iter()
        .enumerate()
        .map(|(at, node)| (node.get_ref().name.get_ref().as_str(), at))
        .collect();
    check_unique(checker, raw);
    check_neighbours(checker, raw, &names);
    check_overlaps(checker, raw);
    let entries: Vec<Option<Entry>> = raw
        .iter()
        .enumerate()
        .map(|(at, node)| check_entry(checker, at, node.get_ref(), &names))
        .collect();
    Some(Directory {
        nodes: entries.into_iter().collect::<Option<_>>()?,
    })
}

fn check_entry(
    checker: &mut Checker,
    at: usize,
    raw: &RawDirectoryNode,
    names: &HashMap<&str, usize>,
) -> Option<Entry> {
    let path = format!("nodes[{at}]");
    check_name(checker, &raw.name, &format!("{path}.name"));
    check_address(checker, &raw.address, &format!("{path}.address"));
    let identity = public_key(checker, &raw.identity, &format!("{path}.identity"), |key| {
        VerifyingKey::from_bytes(key).is_ok_and(|key| !key.is_weak())
    });
    let onion_suite3 = public_key(
        checker,
        &raw.onion_keys.get_ref().suite3,
        &format!("{path}.onion_keys.suite3"),
        |key| *key != [0; 32],
    );
    for (place, prefix) in raw.exit_prefixes.iter().enumerate() {
        check_prefix(checker, prefix, &format!("{path}.exit_prefixes[{place}]"));
    }
    let identity = identity?;
    Some(Entry {
        name: raw.name.get_ref().clone(),
        identity,
        id: Sha256::digest(identity).into(),
        address: *raw.address.get_ref(),
        onion_suite3: onion_suite3?,
        neighbours: raw
            .neighbours
            .iter()
            .filter_map(|name| names.get(name.get_ref().as_str()).copied())
            .collect(),
        exit_prefixes: raw.exit_prefixes.iter().map(|prefix| *prefix.get_ref()).collect(),
    })
}

fn public_key(
    checker: &mut Checker,
    raw: &Spanned<String>,
    field: &str,
    valid: impl Fn(&[u8; 32]) -> bool,
) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if hex::decode_to_slice(raw.get_ref(), &mut key).is_err() {
        checker.at(raw.span(), field, "not 64 hex digits");
        return None;
    }
    if !valid(&key) {
        checker.at(raw.span(), field, "not a valid public key");
        return None;
    }
    Some(key)
}

/// Names, keys and addresses belong to one AIN each.
fn check_unique(checker: &mut Checker, raw: &[Spanned<RawDirectoryNode>]) {
    let mut seen: HashMap<(&str, String), usize> = HashMap::new();
    for (at, node) in raw.iter().enumerate() {
        let node = node.get_ref();
        let onion = &node.onion_keys.get_ref().suite3;
        let fields = [
            ("name", node.name.span(), node.name.get_ref().clone()),
            ("identity", node.identity.span(), node.identity.get_ref().to_lowercase()),
            ("address", node.address.span(), node.address.get_ref().to_string()),
            ("onion_keys.suite3", onion.span(), onion.get_ref().to_lowercase()),
        ];
        for (field, span, value) in fields {
            if let Some(other) = seen.insert((field, value), at) {
                checker.at(
                    span,
                    format!("nodes[{at}].{field}"),
                    format_args!("the same as nodes[{other}].{field}"),
                );
            }
        }
    }
}

/// Neighbours exist, are others, are named once, and name each other.
fn check_neighbours(checker: &mut Checker, raw: &[Spanned<RawDirectoryNode>], names: &HashMap<&str, usize>) {
    for (at, node) in raw.iter().enumerate() {
        let own = node.get_ref().name.get_ref();
        for (place, neighbour) in node.get_ref().neighbours.iter().enumerate() {
            let name = neighbour.get_ref();
            let names_back = |other: &usize| {
                raw[*other]
                    .get_ref()
                    .neighbours
                    .iter()
                    .any(|back| back.get_ref() == own)
            };
            let repeated = node.get_ref().neighbours[..place]
                .iter()
                .any(|earlier| earlier.get_ref() == name);
            let message = match names.get(name.as_str()) {
                None => format!("no AIN named `{name}` in the directory"),
                Some(_) if name == own => "an AIN is not its own neighbour".into(),
                Some(_) if repeated => format!("`{name}` is named twice"),
                Some(other) if !names_back(other) => format!("`{name}` does not name `{own}` as its neighbour"),
                Some(_) => continue,
            };
            checker.at(neighbour.span(), format!("nodes[{at}].neighbours[{place}]"), message);
        }
    }
}

/// An address has one exit.
fn check_overlaps(checker: &mut Checker, raw: &[Spanned<RawDirectoryNode>]) {
    let mut seen: Vec<(String, IpNet)> = Vec::new();
    for (at, node) in raw.iter().enumerate() {
        for (place, prefix) in node.get_ref().exit_prefixes.iter().enumerate() {
            let field = format!("nodes[{at}].exit_prefixes[{place}]");
            if let Some((other, net)) = seen.iter().find(|(_, net)| overlap(net, prefix.get_ref())) {
                checker.at(
                    prefix.span(),
                    field.as_str(),
                    format_args!("{} overlaps {net} of {other}", prefix.get_ref()),
                );
            }
            seen.push((field, *prefix.get_ref()));
        }
    }
}
