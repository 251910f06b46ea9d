//! What a tunnel with hand-made keys needs from disk: numbers granted to workers ahead of use, the highest numbers
//! accepted, and the place of each key.
//!
//! ```text
//!   granted:   reserved in blocks in the state file, synced, then shown to the worker      never used twice
//!   accepted:  written to `accepted` before the control thread acts on what came, synced   never accepted twice
//!              each second
//! ```
//! What the packet path has let go of is not followed any more; its numbers stay on disk for a key that comes back.
//!
//! What a worker accepts and keeps to itself (datagrams of hosts) is written within one round of the control thread: a process that
//! is killed forgets some milliseconds of it at most, a machine that loses power a second.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ain_controlplane::sa::{Generation, SaDirection, SaProtocol};
use ain_dataplane::id::PeerId;
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
/// Two places, sequence numbers, IVs, and two SPI counters.
const NUMBERS_OF_A_PAIR: usize = 6;

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
    /// Associations or TVTs of this process have the key.
    #[error("the key is in use, or was until lately; take a new one")]
    KeyInUse,
    /// The key was another kind of association's, or of AH another partner's.
    #[error(
        "the key has been used elsewhere: in the other direction, by the other protocol, or of AH beside another key; make a new one"
    )]
    Elsewhere,
}

/// Where a key is used, one place for ever. ESP and AH count IVs by themselves, the other end numbers its packets by itself, and
/// the SPIs of TVTs come from both AH keys of a pair: a key in another place would repeat IVs, sequence numbers or SPIs.
pub struct KeyPlace {
    tag: Tag,
    /// A hash of the place, never 0.
    name: u64,
}

impl KeyPlace {
    /// Those of an inbound and an outbound association, by their keys.
    pub fn of_pair(protocol: SaProtocol, keys: [&KeyMaterial; 2]) -> [Self; 2] {
        let place = |direction: SaDirection| {
            let mut hash = Sha256::new();
            hash.update(b"ain place of a key\0");
            hash.update([direction as u8]);
            match protocol {
                SaProtocol::Esp => hash.update(b"esp"),
                SaProtocol::Ah => {
                    hash.update(b"ah");
                    hash.update(keys[1 - direction as usize].expose());
                }
            }
            let name = hash.finalize()[..8]
                .iter()
                .fold(0, |name, byte| name << 8 | u64::from(*byte));
            Self {
                tag: Tag::of_key(Quantity::Place, keys[direction as usize]),
                name: name.max(1),
            }
        };
        [place(SaDirection::In), place(SaDirection::Out)]
    }
}

/// One reserved number and the workers' grants of it.
struct Granted {
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

    fn is_used(&self) -> bool {
        self.shares.iter().any(|(_, grant)| Arc::strong_count(grant) > 1)
    }
}

/// The durable numbers of one process.
pub struct Durable {
    state: State,
    granted: BTreeMap<Tag, Granted>,
    /// Names of both AH keys of generations under which SPIs are reserved.
    spis: BTreeMap<(PeerId, Generation), [Tag; 2]>,
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
        let latest_create = accepted.go_on(LATEST_CREATE)?;
        let tickets_since = accepted.go_on(TICKETS_SINCE)?;
        Ok(Self {
            state,
            granted: BTreeMap::new(),
            spis: BTreeMap::new(),
            accepted,
            create_written: latest_create.load(Ordering::Relaxed),
            latest_create,
            tickets_since,
        })
    }

    /// There is room for the numbers of `more` pairs of keys. To be asked before [`Self::keep_place`]: what does not fit would keep
    /// everything else from the disk.
    ///
    /// # Errors
    /// [`StateError::Full`].
    pub fn check_room(&self, more: usize) -> Result<(), DurableError> {
        Ok(self.state.check_room(more * NUMBERS_OF_A_PAIR)?)
    }

    /// Nothing is in the way of a key's use at `place`.
    ///
    /// # Errors
    /// [`DurableError::Elsewhere`].
    pub fn check_place(&self, place: &KeyPlace) -> Result<(), DurableError> {
        match self.state.value(place.tag) {
            0 => Ok(()),
            name if name == place.name => Ok(()),
            _ => Err(DurableError::Elsewhere),
        }
    }

    /// From the next [`Self::top_up`] that reserves anything the key is of this place alone, which has been checked.
    pub fn keep_place(&mut self, place: &KeyPlace) {
        self.state.raise(place.tag, place.name);
    }

    /// Sequence numbers of the outbound SA with this key; there are none before the next [`Self::top_up`].
    ///
    /// # Errors
    /// [`DurableError::KeyInUse`].
    pub fn sequence(&mut self, key: &KeyMaterial) -> Result<Arc<Grant>, DurableError> {
        let grants = self.grant(Tag::of_key(Quantity::OutboundSequence, key), 1, &[0])?;
        Ok(Arc::clone(&grants[0]))
    }

    /// Explicit IVs under this key, one grant a worker; there are none before the next [`Self::top_up`].
    ///
    /// # Errors
    /// [`DurableError::KeyInUse`].
    pub fn ivs(&mut self, key: &KeyMaterial, workers: u8) -> Result<Vec<Arc<Grant>>, DurableError> {
        let bases: Vec<u64> = (0..u64::from(workers)).map(|worker| worker << WORKER_SHIFT).collect();
        self.grant(Tag::of_key(Quantity::Iv, key), 0, &bases)
    }

    fn grant(&mut self, tag: Tag, least: u64, bases: &[u64]) -> Result<Vec<Arc<Grant>>, DurableError> {
        if self.granted.get(&tag).is_some_and(Granted::is_used) {
            return Err(DurableError::KeyInUse);
        }
        let next = self.state.value(tag).max(least);
        let shares: Vec<_> = bases
            .iter()
            .map(|base| (*base, Grant::new(base + next, base + next)))
            .collect();
        let grants = shares.iter().map(|(_, grant)| Arc::clone(grant)).collect();
        self.granted.insert(tag, Granted { shares, seen: next });
        Ok(grants)
    }

    /// Extends every grant that is half used up, by as much as its pace asks for.
    ///
    /// # Errors
    /// See [`DurableError`]; then nothing is extended.
    pub fn top_up(&mut self) -> Result<(), DurableError> {
        self.granted.retain(|_, granted| granted.is_used());
        let mut extended = Vec::new();
        for (tag, granted) in &mut self.granted {
            let (next, limit) = (granted.next(), granted.limit());
            if limit.saturating_sub(next) <= BLOCK / 2 {
                let pace = next.saturating_sub(granted.seen).saturating_mul(4).max(BLOCK);
                let limit = next.max(limit).saturating_add(pace.next_multiple_of(BLOCK));
                self.state.raise(*tag, limit);
                extended.push((*tag, limit));
            }
            granted.seen = next;
        }
        if !extended.is_empty() {
            self.state.save()?;
        }
        for (tag, limit) in extended {
            for (base, grant) in &self.granted[&tag].shares {
                grant.extend(base + limit);
            }
        }
        Ok(())
    }

    /// The first SPI counter value of a PVT never reserved, under either of its AH keys: a TVT copies both.
    ///
    /// # Errors
    /// [`DurableError::KeyInUse`].
    pub fn spi_counter(&self, ah_keys: [&KeyMaterial; 2]) -> Result<u32, DurableError> {
        let tags = spi_tags(ah_keys);
        if self.spis.values().flatten().any(|tag| tags.contains(tag)) {
            return Err(DurableError::KeyInUse);
        }
        let reserved = tags.map(|tag| self.state.value(tag));
        Ok(u32::try_from(reserved[0].max(reserved[1])).unwrap_or(u32::MAX))
    }

    /// From now on SPIs may be reserved for this generation, which has these AH keys.
    pub fn begin_generation(&mut self, of: (PeerId, Generation), ah_keys: [&KeyMaterial; 2]) {
        self.spis.insert(of, spi_tags(ah_keys));
    }

    /// None will be any more.
    pub fn end_generation(&mut self, of: (PeerId, Generation)) {
        self.spis.remove(&of);
    }

    /// Reserves SPI counter values up to `up_to`.
    ///
    /// # Errors
    /// See [`DurableError`]; then they may not be used.
    pub fn reserve_spis(&mut self, of: (PeerId, Generation), up_to: u32) -> Result<(), DurableError> {
        for tag in self.spis.get(&of).into_iter().flatten() {
            self.state.raise(*tag, u64::from(up_to));
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

    /// The highest number accepted so far on the inbound SA with this key, to be raised by who accepts more; it is kept from now on.
    ///
    /// # Errors
    /// [`DurableError::KeyInUse`].
    pub fn highest(&mut self, key: &KeyMaterial) -> Result<Arc<AtomicU64>, DurableError> {
        self.accepted.go_on(name_of(key))
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

    /// The number of this name, which nobody else raises.
    fn go_on(&mut self, name: [u8; 16]) -> Result<Arc<AtomicU64>, DurableError> {
        let at = self.records.iter().position(|record| record.name == name);
        let at = at.unwrap_or_else(|| {
            self.records.push(Record {
                name,
                written: 0,
                highest: None,
            });
            self.records.len() - 1
        });
        let record = &mut self.records[at];
        let written = record.written;
        let highest = record.highest.get_or_insert_with(|| Arc::new(AtomicU64::new(written)));
        if Arc::get_mut(highest).is_none() {
            return Err(DurableError::KeyInUse);
        }
        Ok(Arc::clone(highest))
    }

    fn write(&mut self) -> Result<(), DurableError> {
        for (at, record) in self.records.iter_mut().enumerate() {
            let Some(shared) = &mut record.highest else { continue };
            // The cheap look first: most are in use.
            let is_last = Arc::strong_count(shared) == 1 && Arc::get_mut(shared).is_some();
            let highest = shared.load(Ordering::Relaxed);
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
            if is_last {
                record.highest = None;
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
mod tests;
