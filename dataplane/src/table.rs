//! The flow table: which worker owns the inbound SA of (peer, SPI), and where in that worker's slab it lies.
//!
//! One table for all workers, its capacity fixed at start. The control thread alone writes ([`Writer`]); workers read without locks
//! ([`Reader`]).
//!
//! ```text
//!           bucket: one cache line                     passed: keys whose way led past this bucket
//!  hash --> [ key value | key value | key value | key value ]      0     most lookups end here
//!           [ key value | key value | key value | key value ]      1     full once: look into the next one too
//!           [ key value |           |           |           ]      0
//!
//!  key   = peer u16 | SPI u32             0: free (no SPI below 256 exists)
//!  value = slot u32 | worker u8 | kind u8
//! ```
//!
//! A key goes into the first bucket with room from its home on, and stays there until removed. Each bucket it passed counts it, so
//! a lookup goes on past a bucket only while some key really lies behind. Removal takes the counts back: there are no
//! tombstones, nothing accumulates, nothing ever moves under a reader. At half load about one key in 25 lies outside its home.
//!
//! **Why the orderings are enough.** The writer stores the value, then the key with Release; a reader loads the key with
//! Acquire, then the value: it sees the value stored with that key or a later one. A later one belongs to another key that took
//! the place meanwhile. Then the target is a slot that holds another SA, perhaps at another worker; but the owner's slab entry
//! carries its own peer and SPI, and the owner compares both before it trusts the slot, which it must anyway because the entry may
//! have been removed after the lookup. So the worst that a torn read does is to lose one packet of an SA that is going away. Counters
//! of passed keys are read relaxed: they are above zero, in every order, as long as the key that a reader has a right to find is there.

use std::fmt;

use ain_crypto::prefetch;
use arrayvec::ArrayVec;
use thiserror::Error;

use crate::id::{PeerId, Spi, WorkerId};
use crate::limits::{BURST, TABLE_PROBES};
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering};

/// Entries in a bucket: 64 bytes.
const BUCKET: usize = 4;

/// What an inbound SA is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum TargetKind {
    /// An ESP+AH tunnel: a PVT or a host tunnel.
    Tunnel = 0,
    /// A TVT.
    Tvt = 1,
    /// A PVT with a rate, which carries cells too.
    Carrier = 2,
    /// A TVT of a PVT with a rate: its SPI is under the veil of the PVT's packets.
    Carried = 3,
}

/// Where an inbound SA lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// Its owner.
    pub worker: WorkerId,
    /// Index into the owner's slab; the owner compares peer and SPI of what lies there before it trusts it.
    pub slot: u32,
    /// What lies there.
    pub kind: TargetKind,
}

impl Target {
    fn pack(self) -> u64 {
        u64::from(self.slot) << 32 | u64::from(self.worker.0) << 8 | u64::from(self.kind as u8)
    }

    fn unpack(value: u64) -> Self {
        Self {
            slot: (value >> 32) as u32,
            worker: WorkerId((value >> 8) as u8),
            kind: match value as u8 {
                1 => TargetKind::Tvt,
                2 => TargetKind::Carrier,
                3 => TargetKind::Carried,
                _ => TargetKind::Tunnel,
            },
        }
    }
}

/// Why an entry was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum InsertError {
    /// The table holds as many entries as it was made for, or (never seen with a secret seed) too many keys share a home.
    #[error("flow table full")]
    Full,
    /// (peer, SPI) is in use.
    #[error("SPI in use with this peer")]
    InUse,
}

#[derive(Default)]
struct Entry {
    key: AtomicU64,
    value: AtomicU64,
}

#[derive(Default)]
#[repr(align(64))]
struct Bucket([Entry; BUCKET]);

struct Table {
    buckets: Box<[Bucket]>,
    passed: Box<[AtomicU32]>,
    seed: [u64; 2],
}

/// Peer and SPI in the place they have in a key word.
const fn key_of(peer: PeerId, spi: Spi) -> u64 {
    (peer.0 as u64) << 32 | spi.value() as u64
}

impl Table {
    fn new(capacity: usize, seed: [u64; 2]) -> Self {
        let buckets = capacity.div_ceil(BUCKET / 2).max(1);
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            passed: (0..buckets).map(|_| AtomicU32::new(0)).collect(),
            seed,
        }
    }

    /// First bucket of a key. Peers choose SPIs, so the hash is keyed: two folded multiplications by secret odd numbers.
    fn home(&self, key: u64) -> usize {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b | 1);
            product as u64 ^ (product >> 64) as u64
        };
        let mixed = fold(key ^ self.seed[0], self.seed[1] ^ 0x9e37_79b9_7f4a_7c15);
        let hash = fold(mixed ^ self.seed[1], self.seed[0] ^ 0xd6e8_feb8_6659_fd93);
        ((u128::from(hash) * self.buckets.len() as u128) >> 64) as usize
    }

    /// The buckets a key may lie in, in order.
    fn way(&self, home: usize) -> impl Iterator<Item = usize> + use<> {
        let buckets = self.buckets.len();
        (home..home + TABLE_PROBES.min(buckets)).map(move |at| if at < buckets { at } else { at - buckets })
    }

    fn lookup(&self, key: u64, home: usize) -> Option<Target> {
        for at in self.way(home) {
            for entry in &self.buckets[at].0 {
                if entry.key.load(Ordering::Acquire) == key {
                    return Some(Target::unpack(entry.value.load(Ordering::Relaxed)));
                }
            }
            if self.passed[at].load(Ordering::Relaxed) == 0 {
                return None;
            }
        }
        None
    }
}

/// The control thread's end. There is one, and it cannot be cloned.
pub struct Writer {
    table: Arc<Table>,
    len: usize,
    capacity: usize,
}

/// A worker's end; cheap to clone.
#[derive(Clone)]
pub struct Reader {
    table: Arc<Table>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish()
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// A table for `capacity` entries, which takes about 34 bytes each. `seed` is random and secret: who knows it can choose SPIs that
/// all share a bucket.
pub fn flow_table(capacity: usize, seed: [u64; 2]) -> (Writer, Reader) {
    let table = Arc::new(Table::new(capacity, seed));
    (
        Writer {
            table: Arc::clone(&table),
            len: 0,
            capacity,
        },
        Reader { table },
    )
}

impl Writer {
    /// Adds an entry.
    ///
    /// # Errors
    /// See [`InsertError`]; nothing is changed then.
    pub fn insert(&mut self, peer: PeerId, spi: Spi, target: Target) -> Result<(), InsertError> {
        let key = key_of(peer, spi);
        let home = self.table.home(key);
        if self.find(key, home).is_some() {
            return Err(InsertError::InUse);
        }
        if self.len == self.capacity {
            return Err(InsertError::Full);
        }
        let (steps, entry) = self.find(0, home).ok_or(InsertError::Full)?;
        for at in self.table.way(home).take(steps) {
            let passed = &self.table.passed[at];
            passed.store(passed.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        entry.value.store(target.pack(), Ordering::Relaxed);
        entry.key.store(key, Ordering::Release);
        self.len += 1;
        Ok(())
    }

    /// Takes an entry out. Workers may still hold what they looked up before.
    pub fn remove(&mut self, peer: PeerId, spi: Spi) -> Option<Target> {
        let key = key_of(peer, spi);
        let home = self.table.home(key);
        let (steps, entry) = self.find(key, home)?;
        let target = Target::unpack(entry.value.load(Ordering::Relaxed));
        entry.key.store(0, Ordering::Relaxed); // orders nothing: the grace period does
        for at in self.table.way(home).take(steps) {
            let passed = &self.table.passed[at];
            passed.store(passed.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        }
        self.len -= 1;
        Some(target)
    }

    /// The entry that holds `key` (0: a free one), and how many buckets lie before it on the way from `home`.
    fn find(&self, key: u64, home: usize) -> Option<(usize, &Entry)> {
        self.table.way(home).enumerate().find_map(|(steps, at)| {
            let holds = |entry: &&Entry| entry.key.load(Ordering::Relaxed) == key;
            self.table.buckets[at].0.iter().find(holds).map(|entry| (steps, entry))
        })
    }

    /// What a worker would find.
    pub fn lookup(&self, peer: PeerId, spi: Spi) -> Option<Target> {
        self.reader().lookup(peer, spi)
    }

    /// Entries in the table.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries the table was made for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// One more reader.
    pub fn reader(&self) -> Reader {
        Reader {
            table: Arc::clone(&self.table),
        }
    }
}

impl Reader {
    /// Where the inbound SA of (peer, SPI) lives, if there is one.
    pub fn lookup(&self, peer: PeerId, spi: Spi) -> Option<Target> {
        let key = key_of(peer, spi);
        self.table.lookup(key, self.table.home(key))
    }

    /// [`Reader::lookup`] for a burst: all home buckets are asked for before the first is needed, so their cache misses overlap.
    pub fn lookup_burst(&self, keys: &[(PeerId, Spi)], out: &mut ArrayVec<Option<Target>, BURST>) {
        out.clear();
        let mut homes: ArrayVec<(u64, usize), BURST> = ArrayVec::new();
        for &(peer, spi) in keys.iter().take(BURST) {
            let key = key_of(peer, spi);
            let home = self.table.home(key);
            prefetch(&self.table.buckets[home]);
            homes.push((key, home));
        }
        out.extend(homes.iter().map(|&(key, home)| self.table.lookup(key, home)));
    }
}

#[cfg(test)]
mod tests;
