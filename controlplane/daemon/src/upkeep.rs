//! What changes while a node runs, kept up by a thread of its own: the network's directory, the node's onion keys, its own entry.
//!
//! ```text
//!   directory.toml ──each second──► read, verify, check ──┬─► Node::handle_directory, a copy in state_dir for the next start
//!                                                         │
//!   wall clock ──────each second──► a new period? ────────┼─► Node::handle_onion_keys, keys made and erased
//!                                                         ▼
//!                                   own entry, signed ──► state_dir/entry.toml ──operators──► directory.toml of all nodes
//! ```
//!
//! Keys are erased by a wall clock that has gone steadily for a while ([`SteadyWall`]).
//!
//! Disk and signatures are not for the control thread: a directory of ten thousand nodes takes most of a second to verify.

mod steady;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use ain_controlplane::directory::{Directory, Entry, EntryError, NodeId, SignedEntry};
use ain_controlplane::limits::ENTRY_TICKET_KEYS;
use ain_controlplane::signal::suite::OnionKeys;
use ain_controlplane::ticket::TicketSeed;
use anyhow::Context;
use ed25519_dalek::SigningKey;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use crate::config::report::Problems;
use crate::config::secret::KeyMaterial;
use crate::config::{Network, entry, open_exit, parse_directory, read, unix_seconds};
use crate::files;
use crate::onion_store::{OnionStore, StoreError};
use crate::tickets;

pub use steady::SteadyWall;

/// File of the node's own entry, in the state directory.
pub const ENTRY_FILE: &str = "entry.toml";
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the control node is to hear of.
pub enum Update {
    /// The network has changed.
    Directory(Directory),
    /// Something that is no directory for this node; the one before stays.
    Refused,
    /// A new period has begun.
    OnionKeys(OnionKeys),
}

/// A directory whose every entry is signed.
pub struct Found {
    /// What it says.
    pub directory: Directory,
    /// The same as it was written, signatures included.
    pub text: Zeroizing<String>,
}

/// Where the directory comes from.
pub trait DirectorySource: Send {
    /// The directory, if there is another one than at the last call, or what is wrong with it.
    fn poll(&mut self) -> Option<Result<Found, Problems>>;
}

/// A file that is replaced, or written to, when the network changes.
pub struct FileSource {
    path: PathBuf,
    stamp: Option<(SystemTime, u64)>,
    hash: [u8; 32],
}

impl FileSource {
    /// The file at `path`.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            stamp: None,
            hash: [0; 32],
        }
    }
}

impl DirectorySource for FileSource {
    fn poll(&mut self) -> Option<Result<Found, Problems>> {
        let stamp = std::fs::metadata(&self.path)
            .and_then(|metadata| Ok((metadata.modified()?, metadata.len())))
            .ok();
        if stamp.is_some() && stamp == self.stamp {
            return None;
        }
        // Two writes within a tick of the file system's clock have one stamp: what is too fresh is looked at again.
        let is_settled = |(modified, _): &(SystemTime, u64)| modified.elapsed().is_ok_and(|age| age > 2 * LOOK_EVERY);
        self.stamp = stamp.filter(is_settled);
        let text = match read(&self.path) {
            Ok(text) => text,
            Err(problems) => {
                let hash = Sha256::digest(problems.to_string()).into();
                return (std::mem::replace(&mut self.hash, hash) != hash).then_some(Err(problems));
            }
        };
        let hash = Sha256::digest(text.as_bytes()).into();
        if std::mem::replace(&mut self.hash, hash) == hash {
            return None;
        }
        let directory = parse_directory(&self.path, &text);
        Some(directory.map(|directory| Found { directory, text }))
    }
}

/// Why what the node keeps of itself and of its network is not there.
#[derive(Debug, Error)]
pub enum UpkeepError {
    /// The onion keys.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signature.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
}

/// The keys of a node that its entry tells.
pub struct OwnKeys {
    /// What signs it.
    pub identity: SigningKey,
    /// The onion keys.
    pub onion: OnionStore,
    /// Where the keys of its tickets come from.
    pub tickets: TicketSeed,
    /// Length of a slice of tickets, seconds.
    pub slice_s: u32,
}

impl OwnKeys {
    /// Those of the node with this identity key and state directory, made where they are not there.
    ///
    /// # Errors
    /// The files cannot be read or made.
    pub fn open(identity: &KeyMaterial, state_dir: &Path, network: &Network) -> anyhow::Result<Self> {
        let identity = identity.expose_array();
        let onion = OnionStore::open(state_dir, network.suite, network.onion_key_period.as_secs())?;
        onion.make(unix_seconds(SystemTime::now()))?;
        Ok(Self {
            identity: SigningKey::from_bytes(identity.context("the identity key is not 32 bytes long")?),
            onion,
            tickets: tickets::seed(state_dir)?,
            slice_s: network.ticket_slice_s,
        })
    }

    /// What the node says of itself at `wall`: `own`, as its operator wrote it, with its keys, signed. It holds as long as they do.
    ///
    /// # Errors
    /// The keys cannot be read; they are not those of `own`.
    pub fn sign(&self, own: &Entry, wall: u64) -> Result<SignedEntry, UpkeepError> {
        let onion_keys = self.onion.public_keys(wall)?;
        let valid_until = onion_keys.iter().map(|key| key.not_after).max().unwrap_or(wall);
        let slices = valid_until.saturating_sub(wall) / u64::from(self.slice_s.max(1)) + 3;
        let slices = slices.min(ENTRY_TICKET_KEYS as u64) as u32;
        let entry = Entry {
            valid_from: onion_keys.iter().map(|key| key.not_before).min().unwrap_or(wall),
            valid_until,
            onion_keys,
            ticket_keys: tickets::public_keys(&self.tickets, wall, self.slice_s, slices),
            ..own.clone()
        };
        Ok(SignedEntry::sign(entry, &self.identity)?)
    }
}

/// The work of the thread, one [`Self::look`] at a time.
pub struct Upkeep {
    /// Where the directory comes from.
    pub source: Box<dyn DirectorySource>,
    /// What the node's entry tells.
    pub keys: OwnKeys,
    /// Where the node's entry is written to.
    pub entry_file: PathBuf,
    /// Where the directory is kept for the next start.
    pub kept_file: PathBuf,
    /// The directory as the control node has it.
    pub directory: Directory,
    /// What the node is an open exit for, as its configuration says.
    pub open_exit: Vec<IpNet>,
    /// Beginning of the period whose keys the control node has, Unix seconds.
    pub period: u64,
    /// What keys are erased by.
    pub clock: SteadyWall,
    /// Beginning of the period in which the last of them was.
    pub erased_in: Option<u64>,
}

impl Upkeep {
    /// Looks once, at `wall`, Unix seconds, and `steady`, the time of a clock that never jumps. Tells what the control node is to
    /// hear of.
    pub fn look(&mut self, wall: u64, steady: Duration) -> Vec<Update> {
        let mut updates = Vec::new();
        if let Some(update) = self.look_at_directory() {
            updates.push(update);
        }
        match self.look_at_keys(wall) {
            Ok(keys) => updates.extend(keys.map(Update::OnionKeys)),
            Err(error) => error!(%error, "onion keys not changed"),
        }
        if self.clock.is_steady(wall, steady) && self.erased_in != Some(self.period) {
            self.erase(wall);
        }
        if !updates.is_empty() {
            self.write_entry(wall);
        }
        updates
    }

    /// Writes the node's own entry down, for its operator to pass on, if it says anything new.
    pub fn write_entry(&self, wall: u64) {
        let written = self.own().ok_or(()).map(|own| self.write(own, wall));
        if let Ok(Err(error)) = written {
            error!(%error, "own entry not written");
        }
        self.warn_of_own(wall);
    }

    fn look_at_directory(&mut self) -> Option<Update> {
        let Found { directory, text } = match self.source.poll()? {
            Ok(found) if found.directory.entry(&self.id()).is_some() => found,
            Ok(_) => {
                warn!("the new directory has no entry for this node and is refused; the old one stays");
                return Some(Update::Refused);
            }
            Err(problems) => {
                warn!("the new directory is refused, the old one stays: {problems}");
                return Some(Update::Refused);
            }
        };
        info!(nodes = directory.entries().len(), "new directory");
        if let Err(error) = replace_if_new(&self.kept_file, &text) {
            error!(%error, "the directory is not kept for the next start");
        }
        self.directory = directory.clone();
        Some(Update::Directory(directory))
    }

    /// The keys of a period that has just begun.
    fn look_at_keys(&mut self, wall: u64) -> Result<Option<OnionKeys>, StoreError> {
        let period = self.keys.onion.period_of(wall);
        if period == self.period {
            return Ok(None);
        }
        self.keys.onion.make(wall)?;
        let keys = self.keys.onion.keys(wall)?;
        info!("the onion key has changed");
        self.period = period;
        Ok(Some(keys))
    }

    /// The control node drops old keys as it hears of the new: what is erased here has no copy but in a signal being opened.
    fn erase(&mut self, wall: u64) {
        match self.keys.onion.erase_old(wall) {
            Ok(erased) => {
                self.erased_in = Some(self.period);
                info!(erased, "old onion keys are gone");
            }
            // The next look tries again. Nor does it keep the node from its new keys.
            Err(error) => error!(%error, "old onion keys not erased"),
        }
    }

    fn write(&self, own: &Entry, wall: u64) -> Result<(), UpkeepError> {
        let signed = self.keys.sign(own, wall)?;
        let names = entry::neighbour_names(own, self.directory.entries());
        replace_if_new(&self.entry_file, &entry::signed(&signed, &names))
    }

    /// Others open no AIVT over a node whose entry is over, or has only keys that it has no more.
    fn warn_of_own(&self, wall: u64) {
        let Some(own) = self.own() else { return };
        let listed = self.keys.onion.public_keys(wall).is_ok_and(|keys| {
            let current = keys
                .iter()
                .find(|key| key.not_before == self.keys.onion.period_of(wall));
            current.is_some_and(|key| own.onion_keys.contains(key))
        });
        if own.check_valid(wall).is_err() || !listed {
            warn!(
                "no path leads over this node: its entry in the directory is not valid now, or lists other keys than it has; pass on {}",
                self.entry_file.display()
            );
        }
        for complaint in open_exit::differences(&own.open_exit, &self.open_exit) {
            warn!("{complaint}");
        }
    }

    fn own(&self) -> Option<&Entry> {
        self.directory.entry(&self.id())
    }

    fn id(&self) -> NodeId {
        NodeId::of(&self.keys.identity.verifying_key().to_bytes())
    }

    /// Starts the thread. Its updates arrive at the other end.
    ///
    /// # Errors
    /// The kernel starts no thread.
    pub fn start(mut self) -> std::io::Result<(Running, Receiver<Update>)> {
        let (updates, receiver) = channel();
        let (stop, stopped) = channel();
        let started = Instant::now();
        let work = move || {
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                for update in self.look(unix_seconds(SystemTime::now()), started.elapsed()) {
                    if updates.send(update).is_err() {
                        return;
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("ain-upkeep".into()).spawn(work)?;
        let (stop, thread) = (Some(stop), Some(thread));
        Ok((Running { stop, thread }, receiver))
    }
}

/// The file at `path` holds `text`, and is not written for nothing.
fn replace_if_new(path: &Path, text: &str) -> Result<(), UpkeepError> {
    if std::fs::read(path).is_ok_and(|written| written == text.as_bytes()) {
        return Ok(());
    }
    files::replace(path, text.as_bytes()).map_err(|source| UpkeepError::Io {
        path: path.to_owned(),
        source,
    })
}

/// The thread. Dropped, it ends.
pub struct Running {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the upkeep thread panicked");
        }
    }
}

#[cfg(test)]
mod tests;
