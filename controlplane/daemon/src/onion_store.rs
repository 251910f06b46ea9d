//! The node's onion keys on disk: one a period, made a week of days ahead, erased one period after their own (protocol section 10).
//!
//! ```text
//! period     |  p-1  |   p   |  p+1  | ... |  p+7  |
//! on disk       key     key     key     ...   key         each also in the directory, with its times
//! opens with    yes     yes     no            no
//!                               ^ at its beginning the key of p-1 is erased, that of p+8 made
//! ```
//!
//! Keys made ahead are in entries that the network has days before they are used, so that nobody waits for a new directory when
//! they change. Who takes a node over opens creating signals of the past two periods at most: older keys are nowhere. A key that is
//! erased before its time cannot be made again, so [`crate::upkeep`] erases by a clock that has gone steadily for a while.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ain_controlplane::directory::OnionKey;
use ain_controlplane::signal::suite::{OnionKeys, OnionPrivateKey};
use thiserror::Error;

use crate::config::secret::{SecretError, read_tagged, write_tagged};
use crate::files;
use crate::onion_key;

/// Periods for which keys are made ahead.
pub const PERIODS_AHEAD: u64 = 7;
/// Folder in the state directory.
const FOLDER: &str = "onion";

/// What is wrong with the keys on disk.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file cannot be read, or has something else in it.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A key cannot be made.
    #[error(transparent)]
    Random(#[from] crate::keygen::KeygenError),
    /// Not a key of the suite.
    #[error("{0}: not a key of its suite; remove the file for a new key, and pass the node's new entry on")]
    NotAKey(PathBuf),
    /// The key of this time is not on disk.
    #[error("no onion key for the time {0} (Unix time)")]
    Missing(u64),
    /// The kernel refuses.
    #[error("{path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// The keys of one node.
#[derive(Debug)]
pub struct OnionStore {
    folder: PathBuf,
    suite: u8,
    period_s: u64,
}

impl OnionStore {
    /// The keys of `suite` in the state directory `state_dir`, changed every `period_s` seconds.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(state_dir: &Path, suite: u8, period_s: u64) -> Result<Self, StoreError> {
        let folder = state_dir.join(FOLDER);
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&folder).map_err(io_error(&folder))?;
        let period_s = period_s.max(1);
        Ok(Self {
            folder,
            suite,
            period_s,
        })
    }

    /// When the period of `wall` began, Unix seconds.
    pub fn period_of(&self, wall: u64) -> u64 {
        wall - wall % self.period_s
    }

    /// Makes every key that is due by `wall`, Unix seconds, and is not there: that of this period and those ahead.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn make(&self, wall: u64) -> Result<(), StoreError> {
        for path in self.beginnings(wall).skip(1).map(|not_before| self.path(not_before)) {
            if path.exists() {
                continue;
            }
            let secret = onion_key::generate(self.suite)?;
            match write_tagged(&path, &self.tag(), &secret) {
                // `ain entry` and a running node may both be at it: the first one's key is the key.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                outcome => outcome.map_err(io_error(&path))?,
            }
        }
        Ok(())
    }

    /// Erases keys whose time is over at `wall`, Unix seconds, and whatever is no key of this suite and length of periods; tells how
    /// many files that were. Keys of times to come stay: the clock may have been ahead of them before.
    ///
    /// # Errors
    /// See [`StoreError`]: the last that was met, when everything that can be erased is.
    pub fn erase_old(&self, wall: u64) -> Result<usize, StoreError> {
        let mut erased = Ok(0);
        for found in fs::read_dir(&self.folder).map_err(io_error(&self.folder))? {
            let path = found.map_err(io_error(&self.folder))?.path();
            if self
                .not_before(&path)
                .is_none_or(|begins| self.not_after(begins) <= wall)
            {
                match files::erase(&path) {
                    Ok(()) => erased = erased.map(|erased| erased + 1),
                    Err(error) => erased = Err(io_error(&path)(error)),
                }
            }
        }
        erased
    }

    /// What creating signals are opened with at `wall`: the keys of this period and of the last one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn keys(&self, wall: u64) -> Result<OnionKeys, StoreError> {
        let current = self.period_of(wall);
        Ok(OnionKeys {
            current: self.read(current)?.ok_or(StoreError::Missing(current))?,
            previous: self.read(current.saturating_sub(self.period_s))?,
        })
    }

    /// The public halves of all keys at `wall`, with their times: for the node's entry.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn public_keys(&self, wall: u64) -> Result<Vec<OnionKey>, StoreError> {
        let mut keys = Vec::new();
        for not_before in self.beginnings(wall) {
            if let Some(key) = self.read(not_before)? {
                keys.push(OnionKey {
                    suite: self.suite,
                    key: key.public().to_vec(),
                    not_before,
                    not_after: self.not_after(not_before),
                });
            }
        }
        Ok(keys)
    }

    /// Beginnings of the last period, of this one and of those ahead.
    fn beginnings(&self, wall: u64) -> impl Iterator<Item = u64> + use<> {
        let period_s = self.period_s;
        let last = self.period_of(wall).saturating_sub(period_s);
        (0..=1 + PERIODS_AHEAD).map(move |number| last + number * period_s)
    }

    fn path(&self, not_before: u64) -> PathBuf {
        self.folder.join(format!("suite{}-{not_before}.key", self.suite))
    }

    /// The beginning of the key at `path`, if one can be there.
    fn not_before(&self, path: &Path) -> Option<u64> {
        let (_, name) = path.file_stem()?.to_str()?.split_once('-')?;
        let begins = name.parse().ok()?;
        (self.period_of(begins) == begins && self.path(begins) == path).then_some(begins)
    }

    /// The end of the key that begins at `not_before`.
    fn not_after(&self, not_before: u64) -> u64 {
        not_before.saturating_add(2 * self.period_s)
    }

    fn tag(&self) -> String {
        format!("suite{}-secret:", self.suite)
    }

    fn read(&self, not_before: u64) -> Result<Option<OnionPrivateKey>, StoreError> {
        let path = self.path(not_before);
        if !path.exists() {
            return Ok(None);
        }
        let secret = read_tagged(&path, &self.tag())?;
        let key = onion_key::load(self.suite, secret.expose());
        key.map(Some).ok_or(StoreError::NotAKey(path))
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    |source| StoreError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const SUITE: u8 = 3;
    const PERIOD_S: u64 = 10;
    /// Within a period that began 3 s before.
    const WALL: u64 = 1_700_000_003;

    fn files(state_dir: &Path) -> BTreeSet<String> {
        let names = fs::read_dir(state_dir.join(FOLDER)).unwrap();
        names
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn publics(store: &OnionStore, wall: u64) -> Vec<(u64, Vec<u8>)> {
        let keys = store.public_keys(wall).unwrap();
        assert!(keys.iter().all(|key| key.not_after == key.not_before + 2 * PERIOD_S));
        keys.into_iter().map(|key| (key.not_before, key.key)).collect()
    }

    #[test]
    fn line_2_rotation_keys_are_made_ahead_used_for_two_periods_and_erased() {
        let dir = tempfile::tempdir().unwrap();
        let store = OnionStore::open(dir.path(), SUITE, PERIOD_S).unwrap();
        assert!(matches!(store.keys(WALL), Err(StoreError::Missing(1_700_000_000))));
        store.make(WALL).unwrap();
        assert_eq!(files(dir.path()).len(), 1 + PERIODS_AHEAD as usize);
        let first = publics(&store, WALL);
        assert_eq!(first[0].0, 1_700_000_000);
        let keys = store.keys(WALL).unwrap();
        assert_eq!(keys.current.public(), first[0].1);
        assert!(keys.previous.is_none());
        for (past, wall) in (1..4).zip((WALL..).step_by(PERIOD_S as usize).skip(1)) {
            let before = files(dir.path());
            store.make(wall).unwrap();
            assert_eq!(store.erase_old(wall).unwrap(), usize::from(past > 1));
            let keys = store.keys(wall).unwrap();
            assert_eq!(keys.current.public(), first[past].1, "made ahead");
            assert_eq!(keys.previous.unwrap().public(), first[past - 1].1);
            let kept = publics(&store, wall);
            assert_eq!(kept[..3], first[past - 1..past + 2]);
            assert_eq!(kept.len(), 2 + PERIODS_AHEAD as usize);
            assert_eq!(before.difference(&files(dir.path())).count(), usize::from(past > 1));
        }
    }

    #[test]
    fn line_2_rotation_a_restart_finds_the_same_keys_whenever_it_comes() {
        let dir = tempfile::tempdir().unwrap();
        let open = || OnionStore::open(dir.path(), SUITE, PERIOD_S).unwrap();
        open().make(WALL).unwrap();
        let before = publics(&open(), WALL);
        open().make(WALL).unwrap();
        assert_eq!(publics(&open(), WALL), before);
        // Away for so long that every key is over: new ones, and no trace of the old.
        let late = WALL + 100 * PERIOD_S;
        open().make(late).unwrap();
        assert_eq!(open().erase_old(late).unwrap(), before.len());
        let after = publics(&open(), late);
        assert!(after.iter().all(|(_, key)| before.iter().all(|(_, old)| old != key)));
    }

    #[test]
    fn line_2_rotation_a_clock_that_was_behind_costs_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let store = OnionStore::open(dir.path(), SUITE, PERIOD_S).unwrap();
        store.make(WALL).unwrap();
        let before = publics(&store, WALL);
        let behind = WALL - 3 * PERIOD_S;
        store.make(behind).unwrap();
        assert_eq!(store.erase_old(behind).unwrap(), 0);
        assert_eq!(publics(&store, WALL)[1..], before[..]);
    }

    #[test]
    fn files_are_private_and_of_one_suite_and_anything_else_is_erased() {
        let dir = tempfile::tempdir().unwrap();
        let store = OnionStore::open(dir.path(), SUITE, PERIOD_S).unwrap();
        store.make(WALL).unwrap();
        let folder = dir.path().join(FOLDER);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        for file in files(dir.path()) {
            let mode = fs::metadata(folder.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let current = folder.join(format!("suite{SUITE}-1700000000.key"));
        fs::write(folder.join("suite1-1700000000.key"), "torn").unwrap();
        assert_eq!(store.erase_old(WALL).unwrap(), 1);
        // What cannot be erased is told, and keeps nothing else.
        let (stubborn, old) = (folder.join("suite1"), ["1", "2"].map(|name| folder.join(name)));
        fs::create_dir(&stubborn).unwrap();
        old.iter().for_each(|old| fs::write(old, "torn").unwrap());
        assert!(matches!(store.erase_old(WALL), Err(StoreError::Io { path, .. }) if path == stubborn));
        assert!(old.iter().all(|old| !old.exists()));
        fs::remove_dir(stubborn).unwrap();
        fs::write(&current, format!("suite{SUITE}-secret:00")).unwrap();
        assert!(matches!(store.keys(WALL), Err(StoreError::NotAKey(path)) if path == current));
        fs::write(&current, "suite1-secret:00").unwrap();
        assert!(matches!(store.keys(WALL), Err(StoreError::Secret(_))));
    }
}
