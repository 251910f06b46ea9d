//! What tickets need from disk: the secret that their keys come from, and which of this node's tickets are spent.
//!
//! ```text
//!   state_dir/tickets.seed           32 random bytes, made once, readable by the node alone
//!   state_dir/spent-SLICE            16 bytes a spent ticket: appended before the control thread acts on it, synced each second,
//!                                    removed when the slice is good no more
//! ```
//! A process that is killed forgets no spent ticket; a machine that loses power forgets those of a second.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ain_controlplane::config::Tickets;
use ain_controlplane::directory::TicketKey;
use ain_controlplane::ticket::{Mark, Slice, TicketSeed, TicketTag};
use anyhow::Context;
use ed25519_dalek::SigningKey;
use rand::TryRng;
use rand::rngs::SysRng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::NodeConfig;

const SEED_FILE: &str = "tickets.seed";
const SPENT_PREFIX: &str = "spent-";
const TAG_BYTES: usize = size_of::<TicketTag>();

/// Why tickets cannot be had from disk, or kept there.
#[derive(Debug, Error)]
pub enum TicketStoreError {
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Not 32 bytes.
    #[error("{0}: not the 32 bytes that the node wrote; remove it, and sign a new directory entry")]
    Seed(PathBuf),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> TicketStoreError + use<> {
    let path = path.to_owned();
    move |source| TicketStoreError::Io { path, source }
}

/// The node's seed in `state_dir`, made at the first call.
///
/// # Errors
/// See [`TicketStoreError`].
pub fn seed(state_dir: &Path) -> Result<TicketSeed, TicketStoreError> {
    let path = state_dir.join(SEED_FILE);
    let mut bytes = Zeroizing::new([0; 32]);
    let opened = File::open(&path);
    if opened
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    {
        SysRng
            .try_fill_bytes(&mut *bytes)
            .map_err(|_| TicketStoreError::Random)?;
        make_seed(&path, &bytes).map_err(failed(&path))?;
        return Ok(TicketSeed::from_bytes(*bytes));
    }
    let mut file = opened.map_err(failed(&path))?;
    if file.metadata().map_err(failed(&path))?.len() != bytes.len() as u64 {
        return Err(TicketStoreError::Seed(path));
    }
    file.read_exact(&mut *bytes).map_err(failed(&path))?;
    Ok(TicketSeed::from_bytes(*bytes))
}

/// A whole file or none, whenever the machine stops.
fn make_seed(path: &Path, bytes: &[u8; 32]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// What the control node of `config` needs for tickets, of which `spent` are spent already.
///
/// # Errors
/// The identity key is not 32 bytes long; [`TicketStoreError`].
pub fn of(config: &NodeConfig, spent: Vec<Mark>) -> anyhow::Result<Tickets> {
    let identity = config.identity_key.expose_array();
    Ok(Tickets {
        identity: SigningKey::from_bytes(identity.context("the identity key is not 32 bytes long")?),
        seed: seed(&config.state_dir)?,
        slice_s: config.network.ticket_slice_s,
        demand: config.tickets.demand,
        quota: config.tickets.quota,
        wallet: config.tickets.wallet,
        spent,
    })
}

/// The public halves of `count` slices from the one that is before `wall`, for the node's directory entry.
pub fn public_keys(seed: &TicketSeed, wall: u64, slice_s: u32, count: u32) -> Vec<TicketKey> {
    let first = Slice::at(wall, slice_s).previous().0;
    (first..first.saturating_add(count))
        .map(|slice| seed.key(Slice(slice)).entry())
        .collect()
}

/// The files of spent tickets.
pub struct SpentLog {
    directory: PathBuf,
    slice_s: u32,
    files: BTreeMap<Slice, File>,
    unsynced: bool,
    /// What the kernel did not take yet.
    unwritten: VecDeque<Mark>,
}

impl SpentLog {
    /// Opens the files in `state_dir`, and removes those of slices, `slice_s` long, whose tickets are good no more at the Unix time
    /// `wall`. What is in the others is returned.
    ///
    /// # Errors
    /// See [`TicketStoreError`].
    pub fn open(state_dir: &Path, slice_s: u32, wall: u64) -> Result<(Self, Vec<Mark>), TicketStoreError> {
        let earliest = Slice::at(wall, slice_s).previous();
        let mut log = Self {
            directory: state_dir.to_owned(),
            slice_s,
            files: BTreeMap::new(),
            unsynced: false,
            unwritten: VecDeque::new(),
        };
        let mut spent = Vec::new();
        for entry in fs::read_dir(state_dir).map_err(failed(state_dir))? {
            let path = entry.map_err(failed(state_dir))?.path();
            let number = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_prefix(SPENT_PREFIX)?.parse().ok());
            match number.map(Slice) {
                Some(slice) if slice < earliest => fs::remove_file(&path).map_err(failed(&path))?,
                Some(slice) => {
                    let bytes = fs::read(&path).map_err(failed(&path))?;
                    cut_to_whole(log.file(slice).map_err(failed(&path))?).map_err(failed(&path))?;
                    let tags = bytes.as_chunks().0.iter();
                    spent.extend(tags.map(|tag| Mark { slice, tag: *tag }));
                }
                None => {}
            }
        }
        Ok((log, spent))
    }

    fn path(&self, slice: Slice) -> PathBuf {
        self.directory.join(format!("{SPENT_PREFIX}{}", slice.0))
    }

    fn file(&mut self, slice: Slice) -> io::Result<&mut File> {
        let path = self.path(slice);
        Ok(match self.files.entry(slice) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => {
                none.insert(OpenOptions::new().append(true).create(true).mode(0o600).open(path)?)
            }
        })
    }

    /// Hands `spent` to the kernel, after what it did not take before.
    ///
    /// # Errors
    /// See [`TicketStoreError`]; what was not taken is kept for the next call.
    pub fn write(&mut self, spent: Vec<Mark>) -> Result<(), TicketStoreError> {
        self.unwritten.extend(spent);
        while let Some(mark) = self.unwritten.front().copied() {
            let path = self.path(mark.slice);
            let file = self.file(mark.slice).map_err(failed(&path))?;
            if let Err(error) = file.write_all(&mark.tag) {
                cut_to_whole(file).map_err(failed(&path))?;
                return Err(failed(&path)(error));
            }
            self.unwritten.pop_front();
            self.unsynced = true;
        }
        Ok(())
    }

    /// Brings to disk what was written, and removes the files of slices whose tickets are good no more at `wall`.
    ///
    /// # Errors
    /// See [`TicketStoreError`].
    pub fn sync(&mut self, wall: u64) -> Result<(), TicketStoreError> {
        let earliest = Slice::at(wall, self.slice_s).previous();
        let kept = self.files.split_off(&earliest);
        for slice in std::mem::replace(&mut self.files, kept).into_keys() {
            let path = self.path(slice);
            fs::remove_file(&path).map_err(failed(&path))?;
        }
        if std::mem::take(&mut self.unsynced) {
            for (slice, file) in &self.files {
                file.sync_data().map_err(failed(&self.path(*slice)))?;
            }
        }
        Ok(())
    }
}

/// A record that the machine did not finish is no record.
fn cut_to_whole(file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    file.set_len(length - length % TAG_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mark(slice: u32, tag: u8) -> Mark {
        let slice = Slice(slice);
        Mark { slice, tag: [tag; 16] }
    }

    #[test]
    fn line_7_the_seed_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = seed(dir.path()).unwrap().key(Slice(7)).entry();
        assert_eq!(seed(dir.path()).unwrap().key(Slice(7)).entry(), first);
        let path = dir.path().join(SEED_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, [1; 31]).unwrap();
        assert!(matches!(seed(dir.path()), Err(TicketStoreError::Seed(_))));
    }

    #[test]
    fn line_7_spent_tickets_outlive_the_process_but_not_their_slice() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, none) = SpentLog::open(dir.path(), 100, 500).unwrap();
        assert_eq!(none, []);
        log.write(vec![mark(4, 1), mark(5, 2), mark(5, 3)]).unwrap();
        drop(log);
        // The machine stopped within a record.
        let cut = dir.path().join("spent-5");
        let mut bytes = fs::read(&cut).unwrap();
        bytes.truncate(20);
        fs::write(&cut, bytes).unwrap();
        let (mut log, spent) = SpentLog::open(dir.path(), 100, 500).unwrap();
        assert!(spent.len() == 2 && spent.contains(&mark(4, 1)) && spent.contains(&mark(5, 2)));
        log.write(vec![mark(5, 4)]).unwrap();
        log.sync(600).unwrap();
        assert!(!dir.path().join("spent-4").exists());
        let (_, spent) = SpentLog::open(dir.path(), 100, 600).unwrap();
        assert_eq!(spent, [mark(5, 2), mark(5, 4)]);
        let (_, spent) = SpentLog::open(dir.path(), 100, 700).unwrap();
        assert_eq!(spent, []);
    }
}
