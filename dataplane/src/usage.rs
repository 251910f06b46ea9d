//! What a security association has carried, and whether it can, told without a lock: its owner writes, the control thread reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Use of one association since it was made in this process. Its owner alone writes; everybody may read, and may see one figure a
/// packet older than another.
///
/// Octets are those that the association protects: of AH what stands behind it (an ESP packet, or a cell and its veil), of ESP what is
/// enciphered (datagram, padding and trailer). Both ends count the same. Packets of TVTs, which have an AH key from the PVT but numbers
/// of their own, are not among them.
#[derive(Debug, Default)]
pub struct SaUse {
    in_place: AtomicBool,
    packets: AtomicU64,
    octets: AtomicU64,
    highest: Arc<AtomicU64>,
}

impl SaUse {
    /// Nothing carried, numbers up to `highest` used by an earlier process.
    pub fn new(highest: u64) -> Arc<Self> {
        Self::sharing(Arc::new(AtomicU64::new(highest)))
    }

    /// The same; `highest` follows, for who keeps it on disk.
    pub fn sharing(highest: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self {
            highest,
            ..Self::default()
        })
    }

    /// Whether its owner has it, and takes and makes packets with it.
    pub fn is_in_place(&self) -> bool {
        self.in_place.load(Ordering::Relaxed)
    }

    /// Its owner has it: for the owner alone.
    pub fn put_in_place(&self) {
        self.in_place.store(true, Ordering::Relaxed);
    }

    /// Authentic packets.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// What they carried, octets.
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }

    /// The highest sequence number accepted, or used.
    pub fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    /// One more packet; for the owner alone, which needs no locked instruction.
    pub fn count(&self, octets: usize, highest: u64) {
        self.packets.store(self.packets() + 1, Ordering::Relaxed);
        self.octets.store(self.octets() + octets as u64, Ordering::Relaxed);
        self.highest.store(highest, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_goes_on_from_an_earlier_process() {
        let saved = Arc::new(AtomicU64::new(7));
        let used = SaUse::sharing(Arc::clone(&saved));
        assert_eq!(used.highest(), 7);
        used.count(100, 8);
        used.count(50, 9);
        assert_eq!((used.packets(), used.octets(), used.highest()), (2, 150, 9));
        assert_eq!(saved.load(Ordering::Relaxed), 9);
    }
}
