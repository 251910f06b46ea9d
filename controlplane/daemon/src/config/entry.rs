//! An entry of the directory as text: what a file may say, and how an entry is written.

use std::fmt::Write as _;
use std::net::IpAddr;

use ain_controlplane::directory::{Entry, NodeId, SignedEntry};
use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

/// The network's directory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDirectory {
    /// One entry an AIN.
    pub(super) nodes: Vec<Spanned<RawEntry>>,
}

/// `[[nodes]]`. A draft has no times, no signature, and no keys but its identity.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEntry {
    /// Its name.
    pub(super) name: Spanned<String>,
    /// Ed25519 public key in hex.
    pub(super) identity: Spanned<String>,
    /// Outer address.
    pub(super) address: Spanned<IpAddr>,
    /// Names of the AINs it has a PVT with.
    #[serde(default)]
    pub(super) neighbours: Vec<Spanned<String>>,
    /// Names of groups under one hand.
    #[serde(default)]
    pub(super) families: Vec<Spanned<String>>,
    /// Its share of paths.
    #[serde(default = "one")]
    pub(super) weight: u32,
    /// Prefixes it serves as exit.
    #[serde(default)]
    pub(super) exit_prefixes: Vec<Spanned<IpNet>>,
    /// Prefixes it is an open exit for.
    #[serde(default)]
    pub(super) open_exit: Vec<Spanned<IpNet>>,
    /// Onion keys of all suites.
    #[serde(default)]
    pub(super) onion_keys: Vec<RawOnionKey>,
    /// Ticket keys of all slices.
    #[serde(default)]
    pub(super) ticket_keys: Vec<RawTicketKey>,
    /// Unix seconds.
    pub(super) valid_from: Option<u64>,
    /// Unix seconds.
    pub(super) valid_until: Option<u64>,
    /// Ed25519 signature in hex.
    pub(super) signature: Option<Spanned<String>>,
}

fn one() -> u32 {
    1
}

/// One of `onion_keys`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOnionKey {
    /// Number of the suite.
    pub(super) suite: u8,
    /// Public key in hex.
    pub(super) key: Spanned<String>,
    /// Unix seconds.
    pub(super) not_before: u64,
    /// Unix seconds.
    pub(super) not_after: u64,
}

/// One of `ticket_keys`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTicketKey {
    /// Number of the slice.
    pub(super) slice: u32,
    /// Public key in hex.
    pub(super) key: Spanned<String>,
}

/// The draft of an entry, for its operator to fill in.
pub fn draft(entry: &Entry) -> String {
    written(entry, &[])
}

/// A signed entry, as the directory has it. `names` are those of its neighbours.
pub fn signed(signed: &SignedEntry, names: &[String]) -> String {
    let entry = signed.entry();
    let mut text = written(entry, names);
    text += "onion_keys = [\n";
    for key in &entry.onion_keys {
        let (suite, public) = (key.suite, hex::encode(&key.key));
        let (from, until) = (key.not_before, key.not_after);
        put(
            &mut text,
            format_args!("  {{ suite = {suite}, key = \"{public}\", not_before = {from}, not_after = {until} }},"),
        );
    }
    text += "]\nticket_keys = [\n";
    for ticket in &entry.ticket_keys {
        let (slice, key) = (ticket.slice, hex::encode(ticket.key));
        put(&mut text, format_args!("  {{ slice = {slice}, key = \"{key}\" }},"));
    }
    text += "]\n";
    put(&mut text, format_args!("valid_from = {}", entry.valid_from));
    put(&mut text, format_args!("valid_until = {}", entry.valid_until));
    put(
        &mut text,
        format_args!("signature = \"{}\"", hex::encode(signed.signature())),
    );
    text
}

/// What an operator decides.
fn written(entry: &Entry, neighbours: &[String]) -> String {
    let prefixes = |prefixes: &[IpNet]| prefixes.iter().map(IpNet::to_string).collect::<Vec<_>>();
    let mut text = "[[nodes]]\n".to_owned();
    put(&mut text, format_args!("name = {:?}", entry.name));
    put(
        &mut text,
        format_args!("identity = \"{}\"", hex::encode(entry.identity)),
    );
    put(&mut text, format_args!("address = \"{}\"", entry.address));
    put(&mut text, format_args!("neighbours = {neighbours:?}"));
    put(&mut text, format_args!("families = {:?}", entry.families));
    put(&mut text, format_args!("weight = {}", entry.weight));
    put(
        &mut text,
        format_args!("exit_prefixes = {:?}", prefixes(&entry.exit_prefixes)),
    );
    put(&mut text, format_args!("open_exit = {:?}", prefixes(&entry.open_exit)));
    text
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes all");
}

/// The names of the neighbours of `entry` among `entries`.
pub fn neighbour_names<'a>(entry: &Entry, entries: impl IntoIterator<Item = &'a Entry>) -> Vec<String> {
    let is_neighbour = |other: &&Entry| entry.neighbours.contains(&NodeId::of(&other.identity));
    entries
        .into_iter()
        .filter(is_neighbour)
        .map(|other| other.name.clone())
        .collect()
}
