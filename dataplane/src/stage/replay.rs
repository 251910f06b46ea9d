//! Whose anti-replay window a packet meets. [`verify`](super::verify) looks at it before the ICV (cheap, and spares the ICV) and
//! marks it after (RFC 4302 section 3.4.3). Of two copies in one burst the mark lets one through.

use std::sync::atomic::Ordering;

use ain_crypto::Backend;

use crate::entry::{Tunnel, Tvt};
use crate::id::{KeySlot, PeerId, Spi};
use crate::sa::{Numbering, ReplayError, SeqNo, Window};
use crate::verdict::DropReason;

/// An inbound AH association.
pub trait AhInbound {
    /// Its peer and SPI, compared again because a slot may have been used anew since the table was read.
    fn identity(&self) -> (PeerId, Spi);
    /// Its key.
    fn key(&self) -> KeySlot;
    /// 64-bit sequence numbers.
    fn esn(&self) -> bool;
    /// Infers the whole number and looks at the window.
    fn check(&self, seq_low: u32) -> Result<SeqNo, ReplayError>;
    /// Marks an authentic number; false if it has been marked since the check.
    fn mark(&mut self, seq: SeqNo) -> bool;
}

impl<C: Backend> AhInbound for Tvt<C> {
    fn identity(&self) -> (PeerId, Spi) {
        (self.peer, self.spi)
    }
    fn key(&self) -> KeySlot {
        self.key
    }
    fn esn(&self) -> bool {
        true
    }
    fn check(&self, seq_low: u32) -> Result<SeqNo, ReplayError> {
        self.window.check(seq_low)
    }
    fn mark(&mut self, seq: SeqNo) -> bool {
        self.window.mark(seq)
    }
}

impl<C: Backend> AhInbound for Tunnel<C> {
    fn identity(&self) -> (PeerId, Spi) {
        (self.peer, self.ah_in.spi)
    }
    fn key(&self) -> KeySlot {
        self.ah_in.key
    }
    fn esn(&self) -> bool {
        self.ah_in.esn
    }
    fn check(&self, seq_low: u32) -> Result<SeqNo, ReplayError> {
        look(&self.ah_in.window, self.ah_in.esn, seq_low)
    }
    fn mark(&mut self, seq: SeqNo) -> bool {
        let fresh = self.ah_in.window.mark(seq);
        self.ah_in
            .highest
            .store(self.ah_in.window.highest().0, Ordering::Relaxed);
        fresh
    }
}

/// Looks at a window with or without extended sequence numbers.
pub(super) fn look<const WORDS: usize>(window: &Window<WORDS>, esn: bool, seq_low: u32) -> Result<SeqNo, ReplayError> {
    window.check_numbered(if esn { Numbering::Extended } else { Numbering::Short }, seq_low)
}

impl From<ReplayError> for DropReason {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Old => Self::AhReplayOld,
            ReplayError::Repeated => Self::AhReplay,
        }
    }
}
