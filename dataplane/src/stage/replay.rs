//! Whose anti-replay window a packet meets. [`verify`](super::verify) looks at it before the ICV (cheap, and spares the ICV) and
//! marks it after (RFC 4302 section 3.4.3). Of two copies in one burst the mark lets one through.

use ain_crypto::Backend;

use crate::entry::Tvt;
use crate::id::{KeySlot, PeerId, Spi};
use crate::sa::{ReplayError, SeqNo};
use crate::tunnel::Tunnel;
use crate::verdict::DropReason;

/// What is known of a packet before its ICV is looked at.
pub struct Look {
    /// Key of its association.
    pub key: KeySlot,
    /// Its whole sequence number.
    pub seq: SeqNo,
    /// 64-bit sequence numbers.
    pub esn: bool,
}

/// What holds inbound AH associations.
pub trait AhInbound {
    /// Infers the whole number of a packet from (peer, SPI) and looks at the window. Peer and SPI are compared again because a slot may
    /// have been used anew since the table was read.
    ///
    /// # Errors
    /// [`DropReason::Gone`], or that of a [`ReplayError`].
    fn look(&self, of: (PeerId, Spi), seq_low: u32) -> Result<Look, DropReason>;
    /// Marks the number of an authentic packet that carries so many octets; false if it has been marked since the look.
    fn mark(&mut self, spi: Spi, seq: SeqNo, octets: usize) -> bool;
}

impl<C: Backend> AhInbound for Tvt<C> {
    fn look(&self, of: (PeerId, Spi), seq_low: u32) -> Result<Look, DropReason> {
        if of != (self.peer, self.spi) {
            return Err(DropReason::Gone);
        }
        Ok(Look {
            key: self.key,
            seq: self.window.check(seq_low)?,
            esn: true,
        })
    }

    fn mark(&mut self, _spi: Spi, seq: SeqNo, _octets: usize) -> bool {
        self.window.mark(seq)
    }
}

impl<C: Backend> AhInbound for Tunnel<C> {
    fn look(&self, (peer, spi): (PeerId, Spi), seq_low: u32) -> Result<Look, DropReason> {
        let sa = self.ah_in(spi).filter(|_| peer == self.peer).ok_or(DropReason::Gone)?;
        Ok(Look {
            key: sa.key.slot,
            seq: sa.look(seq_low)?,
            esn: sa.esn,
        })
    }

    fn mark(&mut self, spi: Spi, seq: SeqNo, octets: usize) -> bool {
        self.ah_in_mut(spi).is_some_and(|sa| sa.accept(seq, octets))
    }
}

impl From<ReplayError> for DropReason {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Old => Self::AhReplayOld,
            ReplayError::Repeated => Self::AhReplay,
        }
    }
}
