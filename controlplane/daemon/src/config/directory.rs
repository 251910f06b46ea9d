//! The network's directory as a file: an entry an AIN, signed by its identity key (protocol section 10).
//!
//! ```text
//! draft, as `ain keygen` prints it ──`ain entry`──► signed entry ──┐
//! entry of a running node, `entry.toml` in its state_dir ──────────┴─► directory.toml, the same at every node
//! ```
//!
//! In the file neighbours go by their names; a signature covers their ids.

use std::collections::HashMap;
use std::path::Path;

use ain_controlplane::directory::{Directory, Entry, NodeId, OnionKey, SignedEntry, TicketKey, valid_identity};
use ipnet::IpNet;
use toml::Spanned;

use super::entry::{RawDirectory, RawEntry};
use super::report::{Checker, Problems};
use super::{check_address, check_name, check_prefix, overlap, parse_text, read};

/// File of the directory that a node took last, in its state directory: what it starts with if the one that is configured cannot be used.
pub const KEPT_DIRECTORY: &str = "directory-taken.toml";

/// Reads the directory at `path`: every entry signed, none in contradiction to another. Whether they hold now is not asked.
pub fn load_directory(path: &Path) -> Result<Directory, Problems> {
    parse_directory(path, &read(path)?)
}

/// The same from the text of the file.
pub fn parse_directory(path: &Path, text: &str) -> Result<Directory, Problems> {
    let (mut checker, raw) = parse_text::<RawDirectory>(path, text)?;
    let entries = check_entries(&mut checker, &raw.nodes);
    // Of what is wrong anyway, no signature holds.
    let entries = checker.finish(entries)?;
    let mut checker = Checker::new(path, text);
    let verified = verify(&mut checker, &raw.nodes, entries);
    let directory = Directory::new(checker.finish(verified)?);
    directory.map_err(|error| Problems::of_file(path, error))
}

/// Reads the directory at `path` as it is before its entries are signed, or signed anew.
pub fn load_drafts(path: &Path) -> Result<Vec<Entry>, Problems> {
    parse_drafts(path, &read(path)?)
}

/// The same from the text of the file.
pub fn parse_drafts(path: &Path, text: &str) -> Result<Vec<Entry>, Problems> {
    let (mut checker, raw) = parse_text::<RawDirectory>(path, text)?;
    let entries = check_entries(&mut checker, &raw.nodes);
    checker.finish(entries)
}

/// What stands in the file is well formed and does not contradict itself. Fields that a draft lacks are empty.
fn check_entries(checker: &mut Checker, raw: &[Spanned<RawEntry>]) -> Option<Vec<Entry>> {
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
        .map(|(at, node)| check_entry(checker, at, node.get_ref()))
        .collect();
    let mut entries = entries.into_iter().collect::<Option<Vec<Entry>>>()?;
    let ids: Vec<NodeId> = entries.iter().map(Entry::id).collect();
    for (entry, raw) in entries.iter_mut().zip(raw) {
        let neighbours = raw.get_ref().neighbours.iter();
        let known = neighbours.filter_map(|name| names.get(name.get_ref().as_str()));
        entry.neighbours = known.map(|at| ids[*at]).collect();
    }
    Some(entries)
}

fn check_entry(checker: &mut Checker, at: usize, raw: &RawEntry) -> Option<Entry> {
    let path = format!("nodes[{at}]");
    check_name(checker, &raw.name, &format!("{path}.name"));
    check_address(checker, &raw.address, &format!("{path}.address"));
    for (place, family) in raw.families.iter().enumerate() {
        check_name(checker, family, &format!("{path}.families[{place}]"));
    }
    for (list, prefixes) in [("exit_prefixes", &raw.exit_prefixes), ("open_exit", &raw.open_exit)] {
        for (place, prefix) in prefixes.iter().enumerate() {
            check_prefix(checker, prefix, &format!("{path}.{list}[{place}]"));
        }
    }
    let identity = key(checker, &raw.identity, format!("{path}.identity"), |key: &[u8; 32]| {
        valid_identity(key).is_some()
    });
    let (onion_keys, ticket_keys) = (onion_keys(checker, &path, raw), ticket_keys(checker, &path, raw));
    let prefixes = |prefixes: &[Spanned<IpNet>]| prefixes.iter().map(|prefix| *prefix.get_ref()).collect();
    Some(Entry {
        onion_keys: onion_keys?,
        ticket_keys: ticket_keys?,
        valid_from: raw.valid_from.unwrap_or(0),
        valid_until: raw.valid_until.unwrap_or(u64::MAX),
        families: raw.families.iter().map(|family| family.get_ref().clone()).collect(),
        weight: raw.weight,
        exit_prefixes: prefixes(&raw.exit_prefixes),
        open_exit: prefixes(&raw.open_exit),
        ..Entry::new(raw.name.get_ref().as_str(), identity?, *raw.address.get_ref())
    })
}

fn onion_keys(checker: &mut Checker, path: &str, raw: &RawEntry) -> Option<Vec<OnionKey>> {
    let keys = raw.onion_keys.iter().enumerate().map(|(place, onion)| {
        let Ok(key) = hex::decode(onion.key.get_ref()) else {
            let field = format!("{path}.onion_keys[{place}].key");
            checker.at(onion.key.span(), field, "not hex digits");
            return None;
        };
        Some(OnionKey {
            suite: onion.suite,
            key,
            not_before: onion.not_before,
            not_after: onion.not_after,
        })
    });
    keys.collect::<Vec<_>>().into_iter().collect()
}

fn ticket_keys(checker: &mut Checker, path: &str, raw: &RawEntry) -> Option<Vec<TicketKey>> {
    let keys = raw.ticket_keys.iter().enumerate().map(|(place, ticket)| {
        let field = format!("{path}.ticket_keys[{place}].key");
        let (slice, key) = (ticket.slice, key(checker, &ticket.key, field, |_| true)?);
        Some(TicketKey { slice, key })
    });
    keys.collect::<Vec<_>>().into_iter().collect()
}

fn key<const N: usize>(
    checker: &mut Checker,
    raw: &Spanned<String>,
    field: String,
    valid: impl Fn(&[u8; N]) -> bool,
) -> Option<[u8; N]> {
    let mut key = [0; N];
    if hex::decode_to_slice(raw.get_ref(), &mut key).is_err() {
        checker.at(raw.span(), field, format_args!("not {} hex digits", 2 * N));
        return None;
    }
    if !valid(&key) {
        checker.at(raw.span(), field, "not a valid public key");
        return None;
    }
    Some(key)
}

/// Every entry is signed, by its own identity key, as it is.
fn verify(checker: &mut Checker, raw: &[Spanned<RawEntry>], entries: Vec<Entry>) -> Option<Vec<Entry>> {
    let numbered = entries.into_iter().zip(raw).enumerate();
    let verified = numbered.map(|(at, (entry, raw))| {
        let (path, whole, raw) = (format!("nodes[{at}]"), raw.span(), raw.get_ref());
        let Some(signature) = raw
            .signature
            .as_ref()
            .filter(|_| raw.valid_from.is_some() && raw.valid_until.is_some())
        else {
            let message = format_args!(
                "node {:?} is a draft, not signed yet: `ain entry` at the node signs it",
                entry.name
            );
            checker.at(whole, path, message);
            return None;
        };
        let field = format!("{path}.signature");
        let bytes = key(checker, signature, field.clone(), |_| true)?;
        match SignedEntry::unverified(entry, bytes).verify() {
            Ok(entry) => Some(entry),
            Err(error) => {
                checker.at(signature.span(), field, error);
                None
            }
        }
    });
    verified.collect::<Vec<_>>().into_iter().collect()
}

/// Names, keys and addresses belong to one AIN each.
fn check_unique(checker: &mut Checker, raw: &[Spanned<RawEntry>]) {
    let mut seen = HashMap::new();
    for (at, node) in raw.iter().enumerate() {
        let node = node.get_ref();
        let onion = node.onion_keys.iter().map(|onion| ("onion_keys", &onion.key));
        let keys = onion.chain([("identity", &node.identity)]);
        let mut fields: Vec<_> = keys
            .map(|(field, key)| (field, key.span(), key.get_ref().to_lowercase()))
            .collect();
        fields.push(("name", node.name.span(), node.name.get_ref().clone()));
        fields.push(("address", node.address.span(), node.address.get_ref().to_string()));
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
fn check_neighbours(checker: &mut Checker, raw: &[Spanned<RawEntry>], names: &HashMap<&str, usize>) {
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
fn check_overlaps(checker: &mut Checker, raw: &[Spanned<RawEntry>]) {
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
