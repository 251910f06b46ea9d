//! What this node did about tickets, on disk, so that no restart gives an entrance its share, or its spent tickets, again.
//!
//! ```text
//!   state_dir/spent-SLICE       16 bytes a spent ticket
//!   state_dir/issued-SLICE      entrance[32] | request[16] | tickets u8: 49 bytes a batch, within the quotas of all entrances
//! ```
//! Records are appended before the control thread acts on what they tell of and synced each second; the files of a slice go when its
//! tickets are good no more, after [`Durable`] has that on disk. A process that is killed forgets none; a machine that loses power
//! forgets those of a second.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ain_controlplane::directory::NodeId;
use ain_controlplane::ticket::issuer::{Issued, RequestTag};
use ain_controlplane::ticket::{Mark, Past, Slice, TicketTag};
use thiserror::Error;

use crate::durable::{Durable, DurableError};

const SPENT_BYTES: usize = size_of::<TicketTag>();
const ENTRANCE_BYTES: usize = size_of::<NodeId>();
const ISSUED_BYTES: usize = ENTRANCE_BYTES + size_of::<RequestTag>() + 1;

/// Why records cannot be read or kept.
#[derive(Debug, Error)]
pub enum TicketLogError {
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// What is forgotten.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> TicketLogError + use<> {
    let path = path.to_owned();
    move |source| TicketLogError::Io { path, source }
}

/// The records of one node.
pub struct TicketLog {
    slice_s: u32,
    spent: Files<SPENT_BYTES>,
    issued: Files<ISSUED_BYTES>,
}

impl TicketLog {
    /// Opens the files in `state_dir`, and removes those of slices, `slice_s` long, that are over at the Unix time `wall`. What is in
    /// the others is returned.
    ///
    /// # Errors
    /// See [`TicketLogError`].
    pub fn open(
        state_dir: &Path,
        slice_s: u32,
        wall: u64,
        durable: &mut Durable,
    ) -> Result<(Self, Past), TicketLogError> {
        let mut log = Self {
            slice_s,
            spent: Files::open(state_dir, "spent-")?,
            issued: Files::open(state_dir, "issued-")?,
        };
        log.forget(wall, durable)?;
        let spent = log.spent.read()?.into_iter();
        let issued = log.issued.read()?.into_iter();
        let past = Past {
            earliest: Slice(u32::try_from(durable.earliest_slice()).unwrap_or(u32::MAX)),
            spent: spent.map(|(slice, tag)| Mark { slice, tag }).collect(),
            issued: issued.map(|(slice, bytes)| issued_from(slice, &bytes)).collect(),
        };
        Ok((log, past))
    }

    /// Hands `spent` and `issued` to the kernel, after what it did not take before.
    ///
    /// # Errors
    /// See [`TicketLogError`]; what was not taken is kept for the next call.
    pub fn write(&mut self, spent: &[Mark], issued: &[Issued]) -> Result<(), TicketLogError> {
        let spent = self.spent.write(spent.iter().map(|mark| (mark.slice, mark.tag)));
        let issued = self
            .issued
            .write(issued.iter().map(|one| (one.slice, issued_bytes(one))));
        spent.and(issued)
    }

    /// Brings to disk what was written, and forgets the slices that are over at `wall`.
    ///
    /// # Errors
    /// See [`TicketLogError`].
    pub fn sync(&mut self, wall: u64, durable: &mut Durable) -> Result<(), TicketLogError> {
        self.forget(wall, durable)?;
        self.spent.sync()?;
        self.issued.sync()
    }

    fn forget(&mut self, wall: u64, durable: &mut Durable) -> Result<(), TicketLogError> {
        let earliest = Slice::at(wall, self.slice_s).previous();
        let over = self.spent.last_before(earliest).max(self.issued.last_before(earliest));
        let Some(over) = over else { return Ok(()) };
        durable.forget_slices(over.next().0.into())?;
        self.spent.remove_before(earliest)?;
        self.issued.remove_before(earliest)
    }
}

fn issued_bytes(issued: &Issued) -> [u8; ISSUED_BYTES] {
    let mut bytes = [issued.tickets; ISSUED_BYTES];
    bytes[..ENTRANCE_BYTES].copy_from_slice(&issued.entrance.0);
    bytes[ENTRANCE_BYTES..ISSUED_BYTES - 1].copy_from_slice(&issued.request);
    bytes
}

fn issued_from(slice: Slice, bytes: &[u8; ISSUED_BYTES]) -> Issued {
    Issued {
        slice,
        entrance: NodeId(*bytes.first_chunk().expect("it is longer")),
        request: *bytes[ENTRANCE_BYTES..].first_chunk().expect("it is longer"),
        tickets: bytes[ISSUED_BYTES - 1],
    }
}

/// A file a slice, of records of `N` bytes.
struct Files<const N: usize> {
    directory: PathBuf,
    prefix: &'static str,
    files: BTreeMap<Slice, File>,
    unsynced: bool,
    /// What the kernel did not take yet.
    unwritten: VecDeque<(Slice, [u8; N])>,
}

impl<const N: usize> Files<N> {
    fn open(directory: &Path, prefix: &'static str) -> Result<Self, TicketLogError> {
        let mut files = Self {
            directory: directory.to_owned(),
            prefix,
            files: BTreeMap::new(),
            unsynced: false,
            unwritten: VecDeque::new(),
        };
        for entry in fs::read_dir(directory).map_err(failed(directory))? {
            let path = entry.map_err(failed(directory))?.path();
            let number = |name: &std::ffi::OsStr| name.to_str()?.strip_prefix(prefix)?.parse().ok();
            if let Some(slice) = path.file_name().and_then(number).map(Slice) {
                cut_to_whole::<N>(files.file(slice).map_err(failed(&path))?).map_err(failed(&path))?;
            }
        }
        Ok(files)
    }

    fn path(&self, slice: Slice) -> PathBuf {
        self.directory.join(format!("{}{}", self.prefix, slice.0))
    }

    fn file(&mut self, slice: Slice) -> io::Result<&mut File> {
        let path = self.path(slice);
        Ok(match self.files.entry(slice) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(none) => none.insert(OpenOptions::new().append(true).create(true).mode(0o600).open(path)?),
        })
    }

    fn read(&self) -> Result<Vec<(Slice, [u8; N])>, TicketLogError> {
        let mut records = Vec::new();
        for slice in self.files.keys() {
            let path = self.path(*slice);
            let bytes = fs::read(&path).map_err(failed(&path))?;
            records.extend(bytes.as_chunks().0.iter().map(|record| (*slice, *record)));
        }
        Ok(records)
    }

    fn write(&mut self, records: impl Iterator<Item = (Slice, [u8; N])>) -> Result<(), TicketLogError> {
        self.unwritten.extend(records);
        while let Some((slice, record)) = self.unwritten.front().copied() {
            let path = self.path(slice);
            let file = self.file(slice).map_err(failed(&path))?;
            if let Err(error) = file.write_all(&record) {
                cut_to_whole::<N>(file).map_err(failed(&path))?;
                return Err(failed(&path)(error));
            }
            self.unwritten.pop_front();
            self.unsynced = true;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), TicketLogError> {
        if std::mem::take(&mut self.unsynced) {
            for (slice, file) in &self.files {
                file.sync_data().map_err(failed(&self.path(*slice)))?;
            }
        }
        Ok(())
    }

    fn last_before(&self, slice: Slice) -> Option<Slice> {
        self.files.range(..slice).next_back().map(|(last, _)| *last)
    }

    fn remove_before(&mut self, slice: Slice) -> Result<(), TicketLogError> {
        let kept = self.files.split_off(&slice);
        for slice in std::mem::replace(&mut self.files, kept).into_keys() {
            let path = self.path(slice);
            fs::remove_file(&path).map_err(failed(&path))?;
        }
        Ok(())
    }
}

/// A record that the machine did not finish is no record.
fn cut_to_whole<const N: usize>(file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    file.set_len(length - length % N as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Process {
        log: TicketLog,
        durable: Durable,
        past: Past,
    }

    /// Slices are 100 s long.
    fn start(dir: &Path, wall: u64) -> Process {
        let mut durable = Durable::open(dir).unwrap();
        let (log, past) = TicketLog::open(dir, 100, wall, &mut durable).unwrap();
        Process { log, durable, past }
    }

    fn mark(slice: u32, tag: u8) -> Mark {
        let slice = Slice(slice);
        Mark { slice, tag: [tag; 16] }
    }

    fn issued(slice: u32, entrance: u8) -> Issued {
        Issued {
            slice: Slice(slice),
            entrance: NodeId([entrance; 32]),
            request: [entrance + 1; 16],
            tickets: 32,
        }
    }

    #[test]
    fn line_7_records_outlive_the_process_but_not_their_slice() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = start(dir.path(), 500);
        let (spent, given) = (
            vec![mark(4, 1), mark(5, 2), mark(5, 3)],
            vec![issued(5, 7), issued(6, 8)],
        );
        first.log.write(&spent, &given).unwrap();
        drop(first);
        // The machine stopped within a record.
        for (name, length) in [("spent-5", 20), ("issued-6", 30)] {
            let file = OpenOptions::new().write(true).open(dir.path().join(name)).unwrap();
            file.set_len(length).unwrap();
        }
        let mut second = start(dir.path(), 500);
        assert_eq!(second.past.earliest, Slice(0), "nothing is forgotten");
        assert_eq!(second.past.spent, [mark(4, 1), mark(5, 2)]);
        assert_eq!(second.past.issued, [issued(5, 7)]);
        second.log.write(&[mark(5, 4)], &[issued(6, 9)]).unwrap();
        second.log.sync(600, &mut second.durable).unwrap();
        assert!(!dir.path().join("spent-4").exists());
        drop(second);
        let third = start(dir.path(), 600);
        assert_eq!(third.past.spent, [mark(5, 2), mark(5, 4)]);
        assert_eq!(third.past.issued, [issued(5, 7), issued(6, 9)]);
        drop(third);
        let last = start(dir.path(), 800);
        assert!(last.past.spent.is_empty() && last.past.issued.is_empty());
    }

    #[test]
    fn line_7_what_is_forgotten_stays_so_if_the_clock_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = start(dir.path(), 500);
        first.log.write(&[mark(5, 1)], &[issued(4, 7)]).unwrap();
        first.log.sync(601, &mut first.durable).unwrap();
        drop(first);
        let second = start(dir.path(), 500);
        assert_eq!((second.past.earliest, second.past.spent.len()), (Slice(5), 1));
        drop(second);
        drop(start(dir.path(), 100_000));
        assert_eq!(
            start(dir.path(), 500).past.earliest,
            Slice(6),
            "no further than there was something"
        );
    }
}
