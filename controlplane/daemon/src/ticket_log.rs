//! What this node did about tickets, on disk, so that no restart gives an entrance its share, or its spent tickets, again.
//!
//! ```text
//!   state_dir/spent-LENGTH-SLICE       16 bytes a spent ticket
//!   state_dir/issued-LENGTH-SLICE      entrance[32] | request[16] | tickets u8: 49 bytes a batch, within the quotas of all entrances
//! ```
//! LENGTH is that of the network's slices in seconds, and SLICE counts such slices: when the network changes the length, the numbers
//! are of other times. Files of another length are not read, but are there if it comes back, until their time is over too.
//!
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
    spent: Files<SPENT_BYTES>,
    issued: Files<ISSUED_BYTES>,
}

impl TicketLog {
    /// Opens the files in `state_dir`, and removes those of slices that are over at the Unix time `wall`. What is in the others, if
    /// their slices are `slice_s` long, is returned.
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
            spent: Files::open(state_dir, "spent-", slice_s)?,
            issued: Files::open(state_dir, "issued-", slice_s)?,
        };
        log.forget(wall, durable)?;
        let spent = log.spent.read()?.into_iter();
        let issued = log.issued.read()?.into_iter();
        let past = Past {
            earliest: Slice::at(durable.tickets_since(), slice_s),
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
        let over = self.spent.end_of_over(wall).max(self.issued.end_of_over(wall));
        let Some(end) = over else { return Ok(()) };
        durable.forget_tickets_before(end)?;
        self.spent.remove_over(wall)?;
        self.issued.remove_over(wall)
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

/// What a file is of: a slice, and how long it is in seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    slice_s: u32,
    slice: Slice,
}

impl Span {
    /// Whether no ticket of it is good at `wall`.
    fn is_over(self, wall: u64) -> bool {
        self.slice < Slice::at(wall, self.slice_s).previous()
    }

    /// Unix seconds.
    fn end(self) -> u64 {
        u64::from(self.slice.next().0) * u64::from(self.slice_s)
    }
}

/// A file a slice, of records of `N` bytes.
struct Files<const N: usize> {
    directory: PathBuf,
    prefix: &'static str,
    /// Length of the slices of all that is read and written.
    slice_s: u32,
    files: BTreeMap<Span, File>,
    unsynced: bool,
    /// What the kernel did not take yet.
    unwritten: VecDeque<(Slice, [u8; N])>,
}

impl<const N: usize> Files<N> {
    fn open(directory: &Path, prefix: &'static str, slice_s: u32) -> Result<Self, TicketLogError> {
        let mut files = Self {
            directory: directory.to_owned(),
            prefix,
            slice_s,
            files: BTreeMap::new(),
            unsynced: false,
            unwritten: VecDeque::new(),
        };
        for entry in fs::read_dir(directory).map_err(failed(directory))? {
            let path = entry.map_err(failed(directory))?.path();
            if let Some(span) = path.file_name().and_then(|name| files.span(name.to_str()?)) {
                cut_to_whole::<N>(files.file(span).map_err(failed(&path))?).map_err(failed(&path))?;
            }
        }
        Ok(files)
    }

    fn path(&self, Span { slice_s, slice }: Span) -> PathBuf {
        self.directory.join(format!("{}{slice_s}-{}", self.prefix, slice.0))
    }

    /// What the file `name` is of, if it is one of these.
    fn span(&self, name: &str) -> Option<Span> {
        let (slice_s, slice) = name.strip_prefix(self.prefix)?.split_once('-')?;
        Some(Span {
            slice_s: slice_s.parse().ok()?,
            slice: Slice(slice.parse().ok()?),
        })
    }

    fn file(&mut self, span: Span) -> io::Result<&mut File> {
        let path = self.path(span);
        Ok(match self.files.entry(span) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(none) => none.insert(OpenOptions::new().append(true).create(true).mode(0o600).open(path)?),
        })
    }

    fn read(&self) -> Result<Vec<(Slice, [u8; N])>, TicketLogError> {
        let mut records = Vec::new();
        for span in self.files.keys().filter(|span| span.slice_s == self.slice_s) {
            let path = self.path(*span);
            let bytes = fs::read(&path).map_err(failed(&path))?;
            records.extend(bytes.as_chunks().0.iter().map(|record| (span.slice, *record)));
        }
        Ok(records)
    }

    fn write(&mut self, records: impl Iterator<Item = (Slice, [u8; N])>) -> Result<(), TicketLogError> {
        self.unwritten.extend(records);
        while let Some((slice, record)) = self.unwritten.front().copied() {
            let slice_s = self.slice_s;
            let path = self.path(Span { slice_s, slice });
            let file = self.file(Span { slice_s, slice }).map_err(failed(&path))?;
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
            for (span, file) in &self.files {
                file.sync_data().map_err(failed(&self.path(*span)))?;
            }
        }
        Ok(())
    }

    fn over(&self, wall: u64) -> impl Iterator<Item = Span> {
        self.files.keys().copied().filter(move |span| span.is_over(wall))
    }

    /// When the last of those that are over at `wall` was.
    fn end_of_over(&self, wall: u64) -> Option<u64> {
        self.over(wall).map(Span::end).max()
    }

    fn remove_over(&mut self, wall: u64) -> Result<(), TicketLogError> {
        let over: Vec<Span> = self.over(wall).collect();
        for span in over {
            self.files.remove(&span);
            let path = self.path(span);
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
        start_with(100, dir, wall)
    }

    fn start_with(slice_s: u32, dir: &Path, wall: u64) -> Process {
        let mut durable = Durable::open(dir).unwrap();
        let (log, past) = TicketLog::open(dir, slice_s, wall, &mut durable).unwrap();
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
        for (name, length) in [("spent-100-5", 20), ("issued-100-6", 30)] {
            let file = OpenOptions::new().write(true).open(dir.path().join(name)).unwrap();
            file.set_len(length).unwrap();
        }
        let mut second = start(dir.path(), 500);
        assert_eq!(second.past.earliest, Slice(0), "nothing is forgotten");
        assert_eq!(second.past.spent, [mark(4, 1), mark(5, 2)]);
        assert_eq!(second.past.issued, [issued(5, 7)]);
        second.log.write(&[mark(5, 4)], &[issued(6, 9)]).unwrap();
        second.log.sync(600, &mut second.durable).unwrap();
        assert!(!dir.path().join("spent-100-4").exists());
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

    #[test]
    fn line_7_another_length_of_slices_makes_no_ticket_stale_and_none_good_twice() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = start(dir.path(), 1000);
        first.log.write(&[mark(9, 1), mark(10, 2)], &[issued(10, 7)]).unwrap();
        first.log.sync(1150, &mut first.durable).unwrap();
        assert_eq!(first.durable.tickets_since(), 1000);
        drop(first);
        let mut longer = start_with(400, dir.path(), 1150);
        assert_eq!(longer.past.earliest, Slice::at(1150, 400), "that of the time");
        assert!(longer.past.spent.is_empty() && longer.past.issued.is_empty());
        longer.log.write(&[mark(2, 3)], &[]).unwrap();
        drop(longer);
        let back = start(dir.path(), 1150);
        assert_eq!(back.past.earliest, Slice(10));
        assert_eq!((&back.past.spent[..], back.past.issued.len()), (&[mark(10, 2)][..], 1));
        drop(back);
        // What is over goes, whatever its length.
        let longer = start_with(400, dir.path(), 1250);
        assert_eq!(
            (longer.past.earliest, &longer.past.spent[..]),
            (Slice(2), &[mark(2, 3)][..])
        );
        assert!(!dir.path().join("spent-100-10").exists() && !dir.path().join("issued-100-10").exists());
        drop(longer);
        assert_eq!(
            start(dir.path(), 1150).past.earliest,
            Slice(11),
            "though the clock goes back"
        );
    }
}
