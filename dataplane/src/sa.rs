//! The mutable half of a security association: what has been sent, what has been seen. Keys live elsewhere, shared and read-only;
//! this half belongs to exactly one worker, so nothing here locks.
//!
//! ```text
//!                  |<------------- window, W packets ------------->|
//!  ... old ........ x x . x x x x x x . x x x x x x x x . x x x x x x ........ new, any distance
//!  refused          x seen: refused            . missing: welcome   ^ highest   moves the window when marked
//! ```
//!
//! A receiver checks before it spends anything on the ICV and marks after it ([`Window`]). A sender takes its numbers from
//! [`crate::reserve`].

use thiserror::Error;

/// A full 64-bit sequence number; without ESN its high half is zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SeqNo(pub u64);

impl SeqNo {
    /// The half that AH and ESP carry.
    pub const fn low(self) -> u32 {
        self.0 as u32
    }

    /// The half that only the ICV covers (RFC 4302 section 2.5.1).
    pub const fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// How the packets of an SA are numbered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Numbering {
    /// Extended sequence numbers: 64 bits, the low 32 on the wire (RFC 4304).
    Extended,
    /// 32 bits.
    Short,
}

/// Why a sequence number is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ReplayError {
    /// Left of the window: too old to tell.
    #[error("sequence number before the anti-replay window")]
    Old,
    /// In the window and seen before. Zero counts as seen: no sender uses it.
    #[error("sequence number seen before")]
    Repeated,
}

/// Anti-replay window over `WORDS` x 64 packets (RFC 4302 section 3.4.3), a ring of bits as in RFC 6479: nothing is ever shifted,
/// and moving ahead by one clears one bit. `WORDS` is a power of two.
///
/// The bit of number `s` is bit `s` modulo the window. Bits of the last `W` numbers up to `highest` tell which were seen; moving
/// `highest` first clears the bits of all numbers it passes.
#[derive(Clone, Debug)]
pub struct Window<const WORDS: usize> {
    highest: u64,
    seen: [u64; WORDS],
}

/// Window of a TVT: 1024 packets in 136 bytes.
pub type TvtWindow = Window<16>;
/// Window of a PVT or host tunnel SA: 8192 packets in about a kilobyte.
pub type TunnelWindow = Window<128>;

impl<const WORDS: usize> Default for Window<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const WORDS: usize> Window<WORDS> {
    /// Packets the window spans.
    pub const PACKETS: u64 = {
        assert!(WORDS.is_power_of_two() && WORDS <= 1 << 20);
        WORDS as u64 * 64
    };

    /// A window before the first packet: 1 and all above are welcome.
    pub const fn new() -> Self {
        Self::resume_after(SeqNo(0))
    }

    /// A window that welcomes what lies above `highest` and nothing else: after a restart, what was seen below is not known.
    pub const fn resume_after(highest: SeqNo) -> Self {
        Self {
            highest: highest.0,
            seen: [u64::MAX; WORDS],
        }
    }

    /// A window that welcomes every number every time, for traffic that is replayed on purpose: benchmarks. It never moves, so the
    /// high half that it infers is 0, and numbers of the last window before 2^32 are old to it. It differs from a fresh window in its bits alone, and costs others one comparison.
    pub const fn off() -> Self {
        Self {
            highest: 0,
            seen: [0; WORDS],
        }
    }

    /// Whether this is [`Self::off`]. A window that has marked nothing counts 0 as seen.
    const fn is_off(&self) -> bool {
        self.highest == 0 && self.seen[0] & 1 == 0
    }

    /// The highest number marked so far.
    pub const fn highest(&self) -> SeqNo {
        SeqNo(self.highest)
    }

    /// Whether a packet that shows `low` is welcome, and its full number, under `numbering`.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn check_numbered(&self, numbering: Numbering, low: u32) -> Result<SeqNo, ReplayError> {
        match numbering {
            Numbering::Extended => self.check(low),
            Numbering::Short => self.check_full(u64::from(low)),
        }
    }

    /// Whether a packet with ESN that shows `low` is welcome, and its full number with the high half inferred (RFC 4303 appendix
    /// A2.2). A packet older than the window looks like one 2^32 ahead: only its ICV, computed with the wrong high half, tells.
    ///
    /// # Errors
    /// See [`ReplayError`]. [`ReplayError::Old`] also where the high half would be negative or past 32 bits.
    pub fn check(&self, low: u32) -> Result<SeqNo, ReplayError> {
        let high = self.infer_high(low).ok_or(ReplayError::Old)?;
        self.check_full(u64::from(high) << 32 | u64::from(low))
    }

    /// Whether the packet with this full number is welcome: cells, and SAs without ESN.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn check_full(&self, sequence: u64) -> Result<SeqNo, ReplayError> {
        let (word, bit) = Self::place(sequence);
        if sequence <= self.highest {
            if self.highest - sequence >= Self::PACKETS {
                return Err(ReplayError::Old);
            }
            if self.seen[word] & bit != 0 {
                return Err(ReplayError::Repeated);
            }
        }
        Ok(SeqNo(sequence))
    }

    /// Notes an authentic packet. `false` if it is not welcome any more: a second copy in the same burst, or so old by now that the
    /// burst has moved the window past it. Such a packet is dropped.
    #[must_use]
    pub fn mark(&mut self, sequence: SeqNo) -> bool {
        if self.highest.checked_add(1) == Some(sequence.0) && self.highest != 0 {
            // In order: the only bit to clear on the way is the one that is set.
            let (word, bit) = Self::place(sequence.0);
            self.seen[word] |= bit;
            self.highest = sequence.0;
            return true;
        }
        if self.check_full(sequence.0).is_err() {
            return false;
        }
        if self.is_off() {
            return true;
        }
        if sequence.0 > self.highest {
            self.advance(sequence.0);
        }
        let (word, bit) = Self::place(sequence.0);
        self.seen[word] |= bit;
        true
    }

    /// The case split of RFC 4303 appendix A2.2: does the window lie within one 2^32 block, or across two?
    fn infer_high(&self, low: u32) -> Option<u32> {
        let top = self.highest as u32;
        let high = (self.highest >> 32) as u32;
        let reach = (Self::PACKETS - 1) as u32;
        let in_window_or_ahead = low >= top.wrapping_sub(reach);
        match (top >= reach, in_window_or_ahead) {
            (true, true) | (false, false) => Some(high),
            (true, false) => high.checked_add(1),
            (false, true) => high.checked_sub(1),
        }
    }

    /// Clears the bits of every number passed on the way from `highest` to `to`.
    fn advance(&mut self, to: u64) {
        let mut left = to - self.highest;
        let mut at = self.highest + 1;
        if left >= Self::PACKETS {
            self.seen.fill(0);
            left = 0;
        }
        while left > 0 {
            let offset = at % 64;
            let span = left.min(64 - offset);
            self.seen[Self::place(at).0] &= !(u64::MAX >> (64 - span) << offset);
            at = at.wrapping_add(span);
            left -= span;
        }
        self.highest = to;
    }

    /// Word and bit of a number.
    fn place(sequence: u64) -> (usize, u64) {
        ((sequence / 64 % WORDS as u64) as usize, 1 << (sequence % 64))
    }
}

#[cfg(test)]
mod tests;
