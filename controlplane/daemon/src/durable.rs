//! What a tunnel with hand-made keys needs from disk: numbers granted to workers ahead of use, and the highest numbers accepted.
//!
//! ```text
//!   granted:   reserved in blocks in the state file, synced, then shown to the worker      never used twice
//!   accepted:  written to `accepted` before the control thread acts on what came, synced   never accepted twice
//!              each second
//! ```
//! What a worker accepts and keeps to itself (datagrams of hosts) is written within one round of the control thread: a process that
//! is killed forgets some milliseconds of it at most, a machine that loses power a second.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ain_dataplane::reserve::Grant;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::config::secret::KeyMaterial;
use crate::state::{BLOCK, Quantity, State, StateError, Tag};

/// Bits of an IV counter below the worker's number (protocol section 2).
const WORKER_SHIFT: u32 = 56;
/// Name of the latest date of a creating signal accepted, among the names of keys.
const LATEST_CREATE: [u8; 16] = *b"latest create \0\0";
/// Name of the end of the last slice of tickets that is forgotten.
const TICKETS_SINCE: [u8; 16] = *b"tickets since  \0";
const FILE: &str = "accepted";
const RECORD: usize = 32;

/// Why numbers could not be kept.
#[derive(Debug, Error)]
pub enum DurableError {
    /// The state file.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file of accepted numbers.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Damaged.
    #[error("{0}: damaged; make new keys for every tunnel, then remove the state directory")]
    Damaged(PathBuf),
}

/// One reserved number and the workers' grants of it.
struct Granted {
    tag: Tag,
    /// Grants with what lies above the counter in each.
    shares: Vec<(u64, Arc<Grant>)>,
    /// Where the furthest share stood at the last look.
    seen: u64,
}

impl Granted {
    fn next(&self) -> u64 {
        self.shares
            .iter()
            .map(|(base, grant)| grant.next() - base)
            .max()
            .unwrap_or(0)
    }

    fn limit(&self) -> u64 {
        self.shares.first().map_or(0, |(base, grant)| grant.limit() - base)
    }
}

/// The durable numbers of one process.
pub struct Durable {
    state: State,
    granted: Vec<Granted>,
    accepted: Accepted,
    latest_create: Arc<AtomicU64>,
    /// What of it is written for certain.
    create_written: u64,
    tickets_since: Arc<AtomicU64>,
}

impl Durable {
    /// Opens, or begins, the numbers in `directory`.
    ///
    /// # Errors
    /// See [`DurableError`].
    pub fn open(directory: &Path) -> Result<Self, DurableError> {
        let state = State::open(directory)?;
        let mut accepted = Accepted::open(&directory.join(FILE))?;
        if (accepted.records.len() as u64) < state.value(Tag::accepted_records()) {
            return Err(DurableError::Damaged(accepted.path));
        }
        let latest_create = Arc::new(AtomicU64::new(accepted.value(&LATEST_CREATE)));
        accepted.follow(LATEST_CREATE, Arc::clone(&latest_create));
        let tickets_since = Arc::new(AtomicU64::new(accepted.value(&TICKETS_SINCE)));
        accepted.follow(TICKETS_SINCE, Arc::clone(&tickets_since));
        Ok(Self {
            state,
            granted: Vec::new(),
            accepted,
            create_written: latest_create.load(Ordering::Relaxed),
            latest_create,
            tickets_since,
        })
    }

    /// Sequence numbers of the outbound SA with this key.
    ///
    /// # Errors
    /// See [`DurableError`].
    pub fn sequence(&mut self, key: &KeyMaterial) -> Result<Arc<Grant>, DurableError> {
        let grants = self.grant(Tag::of_key(Quantity::OutboundSequence, key), 1, &[0])?;
        Ok(Arc::clone(&grants[0]))
    }

    /// Explicit IVs under this key, one grant a worker.
    ///
    /// # Errors
    /// See [`DurableError`].
    pub fn ivs(&mut self, key: &KeyMaterial, workers: u8) -> Result<Vec<Arc<Grant>>, DurableError> {
        let bases: Vec<u64> = (0..u64::from(workers)).map(|worker| worker << WORKER_SHIFT).collect();
        self.grant(Tag::of_key(Quantity::Iv, key), 0, &bases)
    }

    fn grant(&mut self, tag: Tag, least: u64, bases: &[u64]) -> Result<Vec<Arc<Grant>>, DurableError> {
        let next = self.state.value(tag).max(least);
        let limit = self.state.reserve(tag, BLOCK)?;
        let shares: Vec<_> = bases
            .iter()
            .map(|base| (*base, Grant::new(base + next, base + limit)))
            .collect();
        let grants = shares.iter().map(|(_, grant)| Arc::clone(grant)).collect();
        self.granted.push(Granted {
            tag,
            shares,
            seen: next,
        });
        Ok(grants)
    }

    /// Extends every grant that is half used up, by as much as its pace asks for.
    ///
    /// # Errors
    /// See [`DurableError`]; then nothing is extended.
    pub fn top_up(&mut self) -> Result<(), DurableError> {
        let mut extended = Vec::new();
        for (at, granted) in self.granted.iter_mut().enumerate() {
            let (next, limit) = (granted.next(), granted.limit());
            if limit.saturating_sub(next) <= BLOCK / 2 {
                let pace = next.saturating_sub(granted.seen).saturating_mul(4).max(BLOCK);
                let limit = next.max(limit).saturating_add(pace.next_multiple_of(BLOCK));
                self.state.raise(granted.tag, limit);
                extended.push((at, limit));
            }
            granted.seen = next;
        }
        if !extended.is_empty() {
            self.state.save()?;
        }
        for (at, limit) in extended {
            for (base, grant) in &self.granted[at].shares {
                grant.extend(base + limit);
            }
        }
        Ok(())
    }

    /// The first SPI counter value of a PVT never reserved, under either of its AH keys: a TVT copies both.
    pub fn spi_counter(&self, ah_keys: [&KeyMaterial; 2]) -> u32 {
        let reserved = spi_tags(ah_keys).map(|tag| self.state.value(tag));
        u32::try_from(reserved[0].max(reserved[1])).unwrap_or(u32::MAX)
    }

    /// Reserves SPI counter values of a PVT with these AH keys up to `up_to`.
    ///
    /// # Errors
    /// See [`DurableError`]; then they may not be used.
    pub fn reserve_spis(&mut self, ah_keys: [&KeyMaterial; 2], up_to: u32) -> Result<(), DurableError> {
        for tag in spi_tags(ah_keys) {
            self.state.raise(tag, u64::from(up_to));
        }
        Ok(self.state.save()?)
    }

    /// Creating signals dated before this, Unix seconds, may have been accepted by an earlier process. A node that starts for the
    /// first time, or was down for a while, serves at once.
    pub fn replay_floor(&self) -> u64 {
        match self.accepted.value(&LATEST_CREATE) {
            0 => 0,
            latest => latest + 1,
        }
    }

    /// Writes the latest date of a creating signal accepted, Unix seconds, before anything is done about the signal.
    ///
    /// # Errors
    /// See [`DurableError`]; then nothing may be done about it. The next call tries again.
    pub fn note_create(&mut self, latest: u64) -> Result<(), DurableError> {
        if latest > self.create_written {
            self.latest_create.fetch_max(latest, Ordering::Relaxed);
            self.accepted.write()?;
            self.create_written = latest;
        }
        Ok(())
    }

    /// When the last slice of tickets that is forgotten was over, Unix seconds; 0: none ever was. A time, not the slice's number:
    /// that means another time when the network changes the length of its slices.
    pub fn tickets_since(&self) -> u64 {
        self.accepted.value(&TICKETS_SINCE)
    }

    /// Puts on disk that the slices that were over at `since`, Unix seconds, are forgotten, before they are.
    ///
    /// # Errors
    /// See [`DurableError`].
    pub fn forget_tickets_before(&mut self, since: u64) -> Result<(), DurableError> {
        self.tickets_since.fetch_max(since, Ordering::Relaxed);
        self.accepted.write()?;
        self.sync_accepted()
    }

    /// The highest number accepted on the inbound SA with this key before this start.
    pub fn accepted(&self, key: &KeyMaterial) -> u64 {
        self.accepted.value(&name_of(key))
    }

    /// Follows the highest number accepted on that SA from now on.
    pub fn follow(&mut self, key: &KeyMaterial, highest: Arc<AtomicU64>) {
        self.accepted.follow(name_of(key), highest);
    }

    /// Writes what has been accepted since the last call; the kernel keeps it if the process dies.
    ///
    /// # Errors
    /// See [`DurableError`].
    pub fn write_accepted(&mut self) -> Result<(), DurableError> {
        self.accepted.write()
    }

    /// Puts accepted numbers on disk.
    ///
    /// # Errors
    /// See [`DurableError`].
    pub fn sync_accepted(&mut self) -> Result<(), DurableError> {
        self.accepted.sync()?;
        // Tells a file that was cut short from one that was never longer.
        self.state.raise(Tag::accepted_records(), self.accepted.len());
        Ok(self.state.save()?)
    }

    /// Writes everything for the last time; no worker may run any more.
    ///
    /// # Errors
    /// See [`DurableError`].
    pub fn close(mut self) -> Result<(), DurableError> {
        self.write_accepted()?;
        self.sync_accepted()
    }
}

fn spi_tags(ah_keys: [&KeyMaterial; 2]) -> [Tag; 2] {
    ah_keys.map(|key| Tag::of_key(Quantity::SpiCounter, key))
}

/// The file of accepted numbers: records of `name[16] | number u64 | check[8]`, each written in place.
struct Accepted {
    path: PathBuf,
    file: File,
    records: Vec<Record>,
    unsynced: bool,
}

struct Record {
    name: [u8; 16],
    written: u64,
    highest: Option<Arc<AtomicU64>>,
}

impl Accepted {
    fn open(path: &Path) -> Result<Self, DurableError> {
        let io = |source| DurableError::Io {
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let (whole, rest) = bytes.as_chunks::<RECORD>();
        let records: Option<Vec<Record>> = whole.iter().map(decode).collect();
        match records {
            Some(records) if rest.is_empty() => Ok(Self {
                path: path.to_owned(),
                file,
                records,
                unsynced: false,
            }),
            _ => Err(DurableError::Damaged(path.to_owned())),
        }
    }

    /// Records in the file.
    fn len(&self) -> u64 {
        let last = self.records.iter().rposition(|record| record.written > 0);
        last.map_or(0, |at| at as u64 + 1)
    }

    fn value(&self, name: &[u8; 16]) -> u64 {
        self.records
            .iter()
            .find(|record| record.name == *name)
            .map_or(0, |record| record.written)
    }

    fn follow(&mut self, name: [u8; 16], highest: Arc<AtomicU64>) {
        match self.records.iter_mut().find(|record| record.name == name) {
            Some(record) => record.highest = Some(highest),
            None => self.records.push(Record {
                name,
                written: 0,
                highest: Some(highest),
            }),
        }
    }

    fn write(&mut self) -> Result<(), DurableError> {
        for (at, record) in self.records.iter_mut().enumerate() {
            let highest = record
                .highest
                .as_ref()
                .map_or(0, |highest| highest.load(Ordering::Relaxed));
            if highest > record.written {
                let bytes = encode(&record.name, highest);
                let written = self.file.write_all_at(&bytes, (at * RECORD) as u64);
                written.map_err(|source| DurableError::Io {
                    path: self.path.clone(),
                    source,
                })?;
                record.written = highest;
                self.unsynced = true;
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DurableError> {
        if std::mem::take(&mut self.unsynced) {
            self.file.sync_data().map_err(|source| DurableError::Io {
                path: self.path.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

fn name_of(key: &KeyMaterial) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(b"ain accepted\0");
    hash.update(key.expose());
    let mut name = [0; 16];
    name.copy_from_slice(&hash.finalize()[..16]);
    name
}

fn encode(name: &[u8; 16], number: u64) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..16].copy_from_slice(name);
    record[16..24].copy_from_slice(&number.to_be_bytes());
    let check = Sha256::digest(&record[..24]);
    record[24..].copy_from_slice(&check[..8]);
    record
}

/// A record; one that was never written, a hole before a later one, counts as empty.
fn decode(bytes: &[u8; RECORD]) -> Option<Record> {
    let mut name = [0; 16];
    name.copy_from_slice(&bytes[..16]);
    let number = bytes[16..24].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    let intact = *bytes == encode(&name, number) || *bytes == [0; RECORD];
    intact.then_some(Record {
        name,
        written: number,
        highest: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> KeyMaterial {
        KeyMaterial::new(vec![byte; 20])
    }

    #[test]
    fn grants_never_overlap_across_starts() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Durable::open(dir.path()).unwrap();
        let sequence = first.sequence(&key(1)).unwrap();
        let ivs = first.ivs(&key(1), 2).unwrap();
        assert_eq!((sequence.next(), sequence.limit()), (1, BLOCK));
        assert_eq!((ivs[1].next(), ivs[1].limit()), (1 << 56, (1 << 56) + BLOCK));
        first.top_up().unwrap();
        let limit = sequence.limit();
        drop(first);
        let mut second = Durable::open(dir.path()).unwrap();
        assert_eq!(second.sequence(&key(1)).unwrap().next(), limit);
        assert_eq!(second.ivs(&key(1), 1).unwrap()[0].next(), ivs[0].limit());
        assert_eq!(second.sequence(&key(2)).unwrap().next(), 1, "another key begins anew");
    }

    #[test]
    fn a_half_used_grant_is_extended_on_disk_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut durable = Durable::open(dir.path()).unwrap();
        let grant = durable.sequence(&key(1)).unwrap();
        let mut reserved = ain_dataplane::reserve::Reserved::new(Arc::clone(&grant));
        let before = grant.limit();
        durable.top_up().unwrap();
        assert_eq!(grant.limit(), before, "not needed yet");
        (0..BLOCK / 2).for_each(|_| assert!(reserved.take().is_some()));
        durable.top_up().unwrap();
        assert!(grant.limit() >= before + BLOCK);
        assert_eq!(
            durable.state.value(Tag::of_key(Quantity::OutboundSequence, &key(1))),
            grant.limit()
        );
    }

    #[test]
    fn accepted_numbers_survive_a_killed_process() {
        let dir = tempfile::tempdir().unwrap();
        let mut durable = Durable::open(dir.path()).unwrap();
        let (one, two) = (Arc::new(AtomicU64::new(7)), Arc::new(AtomicU64::new(0)));
        durable.follow(&key(2), two);
        durable.follow(&key(1), one.clone());
        durable.write_accepted().unwrap();
        one.store(9, Ordering::Relaxed);
        durable.write_accepted().unwrap();
        drop(durable);
        let durable = Durable::open(dir.path()).unwrap();
        assert_eq!(
            (
                durable.accepted(&key(1)),
                durable.accepted(&key(2)),
                durable.accepted(&key(3))
            ),
            (9, 0, 0)
        );
    }

    #[test]
    fn a_file_of_accepted_numbers_that_was_cut_short_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut durable = Durable::open(dir.path()).unwrap();
        for byte in 1..=3 {
            durable.follow(&key(byte), Arc::new(AtomicU64::new(u64::from(byte))));
        }
        durable.write_accepted().unwrap();
        durable.sync_accepted().unwrap();
        drop(durable);
        let path = dir.path().join(FILE);
        let good = std::fs::read(&path).unwrap();
        for records in 0..3 {
            std::fs::write(&path, &good[..records * RECORD]).unwrap();
            assert!(
                matches!(Durable::open(dir.path()), Err(DurableError::Damaged(_))),
                "{records} left"
            );
        }
        std::fs::write(&path, &good).unwrap();
        assert_eq!(Durable::open(dir.path()).unwrap().accepted(&key(3)), 3);
    }

    #[test]
    fn spis_are_reserved_under_both_keys() {
        let dir = tempfile::tempdir().unwrap();
        let mut durable = Durable::open(dir.path()).unwrap();
        durable.reserve_spis([&key(1), &key(2)], 500).unwrap();
        drop(durable);
        let durable = Durable::open(dir.path()).unwrap();
        let counters = [[1, 2], [2, 1], [3, 2], [1, 3]].map(|[one, two]| durable.spi_counter([&key(one), &key(two)]));
        assert_eq!(counters, [500; 4]);
        assert_eq!(durable.spi_counter([&key(3), &key(4)]), 0);
    }

    #[test]
    fn creating_signals_of_an_earlier_life_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut durable = Durable::open(dir.path()).unwrap();
        assert_eq!(durable.replay_floor(), 0, "nothing was accepted before the first start");
        durable.note_create(900).unwrap();
        durable.note_create(890).unwrap();
        drop(durable);
        assert_eq!(Durable::open(dir.path()).unwrap().replay_floor(), 901);
    }

    #[test]
    fn line_2_a_creating_signal_is_noted_when_it_is_written_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut durable = Durable::open(dir.path()).unwrap();
        durable.note_create(900).unwrap();
        // The kernel takes no more: the file is open for reading alone.
        let reading = File::open(dir.path().join(FILE)).unwrap();
        let writing = std::mem::replace(&mut durable.accepted.file, reading);
        for _ in 0..3 {
            assert!(durable.note_create(950).is_err());
            assert!(durable.note_create(900).is_ok(), "written before");
        }
        durable.accepted.file = writing;
        durable.note_create(950).unwrap();
        drop(durable);
        assert_eq!(Durable::open(dir.path()).unwrap().replay_floor(), 951);
    }

    #[test]
    fn damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut durable = Durable::open(dir.path()).unwrap();
        durable.follow(&key(1), Arc::new(AtomicU64::new(7)));
        durable.write_accepted().unwrap();
        drop(durable);
        let path = dir.path().join(FILE);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(
                matches!(Accepted::open(&path), Err(DurableError::Damaged(_))),
                "byte {at}"
            );
            std::fs::write(&path, &good[..at]).unwrap();
            assert_eq!(Accepted::open(&path).is_err(), at % RECORD != 0, "{at} bytes left");
        }
    }
}
