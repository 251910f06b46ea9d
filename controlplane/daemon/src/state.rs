//! Numbers that must survive a restart of SAs with hand-made keys (protocol section 2).
//!
//! A key that never changes must never see a sequence number or an IV twice, whatever happens to the process. So the control
//! thread writes how far numbers may be used, waits until that is on disk, and only then hands them to workers:
//!
//! ```text
//!   on disk      ............................|reserved
//!   used         ...............|next .......|           a crash loses at most what lies between: it is never used
//! ```
//!
//! Everything is one small file, replaced as a whole: written beside, synced, renamed, directory synced. Its SHA-256 stands at
//! its end; a file that does not match is refused, never guessed at. A number is found by a hash of its key, so that a new key
//! starts at zero and an old one resumes, should it come back to its place ([`crate::durable::KeyPlace`]).

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::config::secret::KeyMaterial;
use crate::files;

/// Numbers are reserved in multiples of this many.
pub const BLOCK: u64 = 1 << 16;
/// Numbers in a file at most: ten for every set of keys that a tunnel has had.
const ENTRIES_MAX: usize = 1 << 20;
/// First bytes of the file, its version last.
const MAGIC: &[u8; 12] = b"ain state 1\n";
const TAG_BYTES: usize = 16;
const ENTRY_BYTES: usize = TAG_BYTES + 8;
const HASH_BYTES: usize = 32;
const FILE: &str = "numbers";
const LOCK_FILE: &str = "lock";

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Sequence numbers of an outbound SA: the first one that is not reserved.
    OutboundSequence,
    /// IV counters of an outbound key, one figure for all workers: the first one that is not reserved.
    Iv,
    /// SPI counter of a PVT: the first one that is not reserved.
    SpiCounter,
    /// Counts nothing: where the key is used, as [`crate::durable::KeyPlace`] tells it.
    Place,
}

/// Name of one number: a hash of what it counts and under which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag([u8; TAG_BYTES]);

impl Tag {
    /// The number `quantity` of the SA with this key.
    pub fn of_key(quantity: Quantity, key: &KeyMaterial) -> Self {
        let label = match quantity {
            Quantity::OutboundSequence => "outbound sequence",
            Quantity::Iv => "iv",
            Quantity::SpiCounter => "spi counter",
            Quantity::Place => "place",
        };
        Self::hash(label, key.expose())
    }

    /// How many records the file of accepted numbers has at least. Belongs to no key.
    pub fn accepted_records() -> Self {
        Self::hash("accepted records", &[])
    }

    fn hash(label: &str, key: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"ain durable state\0");
        hash.update(label.as_bytes());
        hash.update([0]);
        hash.update(key);
        let digest: [u8; 32] = hash.finalize().into();
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&digest[..TAG_BYTES]);
        Self(tag)
    }
}

/// Why there is no durable state.
#[derive(Debug, Error)]
pub enum StateError {
    /// Another process has it.
    #[error("{0}: in use by another `ain`; every node needs a state directory of its own")]
    InUse(PathBuf),
    /// Not written by this release, or damaged.
    #[error(
        "{path}: {what}. Numbers that were used cannot be told any more: make new keys for every tunnel, then remove {directory}"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
        /// The state directory.
        directory: PathBuf,
    },
    /// More numbers than the file may have.
    #[error("{0}: too many numbers; remove the directory after making new keys for every tunnel")]
    Full(PathBuf),
    /// The kernel refuses.
    #[error("{path}: {source}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// The durable numbers of one node. Locks its directory while it lives.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    /// Held, not read; the kernel lets go of it when the process ends, however it ends.
    _lock: File,
    values: BTreeMap<Tag, u64>,
    dirty: bool,
}

impl State {
    /// Opens, or begins, the state in `directory`.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(directory: &Path) -> Result<Self, StateError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Io { path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io(directory))?;
        let lock_path = directory.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(&lock_path).map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::InUse(directory.to_owned())),
            Err(TryLockError::Error(source)) => {
                return Err(StateError::Io {
                    path: lock_path,
                    source,
                });
            }
        }
        let values = read(directory)?;
        let begun = lock.metadata().map_err(io(&lock_path))?.len() > 0;
        if begun && values.is_none() {
            return Err(damaged(directory, "missing, though this directory has been in use"));
        }
        let mut state = Self {
            directory: directory.to_owned(),
            _lock: lock.try_clone().map_err(io(&lock_path))?,
            dirty: values.is_none(),
            values: values.unwrap_or_default(),
        };
        state.save()?;
        if !begun {
            lock.write_all(b"in use\n")
                .and_then(|()| lock.sync_all())
                .map_err(io(&lock_path))?;
        }
        Ok(state)
    }

    /// A number, 0 if it has never been raised.
    pub fn value(&self, tag: Tag) -> u64 {
        self.values.get(&tag).copied().unwrap_or(0)
    }

    /// Raises a number, never lowers it. Counts only after [`Self::save`].
    pub fn raise(&mut self, tag: Tag, value: u64) {
        let old = self.values.entry(tag).or_insert(0);
        if value > *old {
            *old = value;
            self.dirty = true;
        }
    }

    /// Whether there is room for `more` numbers.
    ///
    /// # Errors
    /// [`StateError::Full`].
    pub fn check_room(&self, more: usize) -> Result<(), StateError> {
        if self.values.len() + more > ENTRIES_MAX {
            return Err(StateError::Full(self.directory.clone()));
        }
        Ok(())
    }

    /// Puts what was raised on disk. Only after `Ok` may raised numbers be used.
    ///
    /// # Errors
    /// See [`StateError`]. What was raised stays to be saved.
    pub fn save(&mut self) -> Result<(), StateError> {
        if !self.dirty {
            return Ok(());
        }
        self.check_room(0)?;
        files::replace(&self.directory.join(FILE), &encode(&self.values)).map_err(|source| StateError::Io {
            path: self.directory.join(FILE),
            source,
        })?;
        self.dirty = false;
        Ok(())
    }
}

fn damaged(directory: &Path, what: &'static str) -> StateError {
    StateError::Damaged {
        path: directory.join(FILE),
        what,
        directory: directory.to_owned(),
    }
}

/// The numbers on disk, `None` if there is no file.
fn read(directory: &Path) -> Result<Option<BTreeMap<Tag, u64>>, StateError> {
    let path = directory.join(FILE);
    let mut bytes = Vec::new();
    let most = (MAGIC.len() + ENTRIES_MAX * ENTRY_BYTES + HASH_BYTES) as u64;
    let outcome = File::open(&path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Io { path, source }),
        Ok(_) => decode(&bytes).map(Some).map_err(|what| damaged(directory, what)),
    }
}

/// `magic | (tag | value u64)... | SHA-256 of all before`.
fn encode(values: &BTreeMap<Tag, u64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAGIC.len() + values.len() * ENTRY_BYTES + HASH_BYTES);
    bytes.extend_from_slice(MAGIC);
    for (tag, value) in values {
        bytes.extend_from_slice(&tag.0);
        bytes.extend_from_slice(&value.to_be_bytes());
    }
    let hash = Sha256::digest(&bytes);
    bytes.extend_from_slice(&hash);
    bytes
}

fn decode(bytes: &[u8]) -> Result<BTreeMap<Tag, u64>, &'static str> {
    let Some(body_bytes) = bytes.len().checked_sub(HASH_BYTES) else {
        return Err("cut short");
    };
    let (body, hash) = bytes.split_at(body_bytes);
    if Sha256::digest(body).as_slice() != hash {
        return Err("its checksum does not match");
    }
    let entries = body.strip_prefix(MAGIC).ok_or("written by another release")?;
    let (entries, []) = entries.as_chunks::<ENTRY_BYTES>() else {
        return Err("of no whole number of entries");
    };
    Ok(entries.iter().map(entry).collect())
}

fn entry(bytes: &[u8; ENTRY_BYTES]) -> (Tag, u64) {
    let (mut tag, mut value) = ([0; TAG_BYTES], [0; 8]);
    tag.copy_from_slice(&bytes[..TAG_BYTES]);
    value.copy_from_slice(&bytes[TAG_BYTES..]);
    (Tag(tag), u64::from_be_bytes(value))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NEW_FILE: &str = "numbers.new";

    fn key(byte: u8) -> KeyMaterial {
        KeyMaterial::new(vec![byte; 20])
    }

    fn tag(byte: u8) -> Tag {
        Tag::of_key(Quantity::OutboundSequence, &key(byte))
    }

    #[test]
    fn numbers_survive_and_never_fall() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::open(dir.path()).unwrap();
        state.raise(tag(1), 3 * BLOCK);
        state.save().unwrap();
        state.raise(tag(1), 5);
        state.raise(tag(2), 7);
        state.save().unwrap();
        drop(state);
        let state = State::open(dir.path()).unwrap();
        assert_eq!(
            (state.value(tag(1)), state.value(tag(2)), state.value(tag(3))),
            (3 * BLOCK, 7, 0)
        );
    }

    #[test]
    fn what_was_not_saved_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::open(dir.path()).unwrap();
        state.raise(tag(1), 9);
        drop(state);
        assert_eq!(State::open(dir.path()).unwrap().value(tag(1)), 0);
    }

    #[test]
    fn quantities_and_keys_have_numbers_of_their_own() {
        let quantities = [
            Quantity::OutboundSequence,
            Quantity::Iv,
            Quantity::SpiCounter,
            Quantity::Place,
        ];
        let mut tags: Vec<Tag> = quantities
            .into_iter()
            .flat_map(|quantity| [1, 2].map(|byte| Tag::of_key(quantity, &key(byte))))
            .collect();
        tags.push(Tag::accepted_records());
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), 9);
    }

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = State::open(dir.path()).unwrap();
        assert!(matches!(State::open(dir.path()), Err(StateError::InUse(_))));
        drop(first);
        assert!(State::open(dir.path()).is_ok());
    }

    /// Every single byte changed, every truncation, a byte more: refused, and never a lower number.
    #[test]
    fn any_damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::open(dir.path()).unwrap();
        for byte in 0..4 {
            state.raise(tag(byte), u64::from(byte) + 1000);
        }
        state.save().unwrap();
        drop(state);
        let path = dir.path().join(FILE);
        let good = fs::read(&path).unwrap();
        let refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            matches!(State::open(dir.path()), Err(StateError::Damaged { .. }))
        };
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(refused(&bad), "byte {at} changed");
            assert!(refused(&good[..at]), "cut to {at} bytes");
        }
        assert!(refused(&[&good[..], &[0]].concat()), "a byte more");
        fs::write(&path, &good).unwrap();
        assert_eq!(State::open(dir.path()).unwrap().value(tag(3)), 1003);
    }

    /// A crash before the rename, at every length of the file being written, leaves the older numbers whole.
    #[test]
    fn a_torn_write_leaves_the_older_copy() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::open(dir.path()).unwrap();
        state.raise(tag(1), BLOCK);
        state.save().unwrap();
        let newer = encode(&BTreeMap::from([(tag(1), 2 * BLOCK)]));
        drop(state);
        for cut in 0..=newer.len() {
            fs::write(dir.path().join(NEW_FILE), &newer[..cut]).unwrap();
            assert_eq!(State::open(dir.path()).unwrap().value(tag(1)), BLOCK);
        }
    }

    #[test]
    fn a_lost_file_is_not_a_first_start() {
        let dir = tempfile::tempdir().unwrap();
        drop(State::open(dir.path()).unwrap());
        fs::remove_file(dir.path().join(FILE)).unwrap();
        assert!(matches!(State::open(dir.path()), Err(StateError::Damaged { .. })));
    }

    #[test]
    fn a_failed_save_is_made_good() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::open(dir.path()).unwrap();
        fs::create_dir(dir.path().join(NEW_FILE)).unwrap();
        state.raise(tag(1), BLOCK);
        assert!(state.save().is_err());
        fs::remove_dir(dir.path().join(NEW_FILE)).unwrap();
        state.save().unwrap();
        drop(state);
        assert_eq!(State::open(dir.path()).unwrap().value(tag(1)), BLOCK);
    }
}
