//! Captures: files of frames that tcpdump, tshark, scapy and packet generators read.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A capture of Ethernet frames in the format of libpcap 2.4, little-endian, a microsecond apart.
pub struct CaptureFile {
    out: BufWriter<File>,
    frames: u32,
}

impl CaptureFile {
    /// Makes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        const LONGEST: u32 = 65_535;
        const ETHERNET: u32 = 1;
        let mut out = BufWriter::new(File::create(path)?);
        for word in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, LONGEST, ETHERNET] {
            out.write_all(&word.to_le_bytes())?;
        }
        Ok(Self { out, frames: 0 })
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, frame: &[u8]) -> io::Result<()> {
        let (seconds, microseconds) = (self.frames / 1_000_000, self.frames % 1_000_000);
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        for word in [seconds, microseconds, length, length] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.frames += 1;
        self.out.write_all(frame)
    }

    /// Writes what is not written yet.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}
