//! What a node's file says of the node itself, for a node that is not in the directory yet or not signed there.

use std::path::{Path, PathBuf};

use ain_controlplane::directory::Entry;

use super::directory::load_drafts;
use super::entry::neighbour_names;
use super::node::{Network, check_identity, check_network};
use super::parse;
use super::raw::RawNodeFile;
use super::report::Problems;
use super::secret::KeyMaterial;

/// Who a node is.
#[derive(Debug)]
pub struct Own {
    /// Its part of the directory, signed or not.
    pub entry: Entry,
    /// Names of its neighbours.
    pub neighbours: Vec<String>,
    /// Ed25519 secret key, 32 bytes.
    pub identity_key: KeyMaterial,
    /// Where onion keys are kept.
    pub state_dir: PathBuf,
    /// Constants of the network.
    pub network: Network,
}

impl Own {
    /// Reads and checks that much of the file at `path`, and of the directory that it names. No signature is asked for.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let (mut checker, raw) = parse::<RawNodeFile>(path)?;
        let entries = load_drafts(&checker.resolve(raw.node.directory.get_ref()))?;
        let entry = entries.iter().find(|entry| entry.name == *raw.node.name.get_ref());
        let identity_key = check_identity(&mut checker, &raw.node, Some(entry));
        let network = check_network(&mut checker, &raw.network);
        let state_dir = checker.resolve(&raw.node.state_dir);
        let own = entry.zip(identity_key).map(|(entry, identity_key)| Self {
            neighbours: neighbour_names(entry, &entries),
            entry: entry.clone(),
            identity_key,
            state_dir,
            network,
        });
        checker.finish(own)
    }
}
