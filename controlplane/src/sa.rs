//! Security associations as their sources give them: hand-made configuration, IKE.
//!
//! ```text
//!   SaSource ──SaEvent: add, remove──► Associations ──► TableWriter, Node
//!            ◄── added, expired ──────
//! ```

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use ain_dataplane::id::{PeerId, Spi};
use ain_dataplane::reserve::Grant;
pub use ain_dataplane::tunnel::{SaDirection, SaProtocol};
use ain_dataplane::usage::SaUse;
use zeroize::Zeroizing;

use crate::lifetime::{Expiry, Lifetime};
use crate::table_writer::TableError;

/// One association of this node. Its SPI is chosen by the receiver, as ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SaName {
    /// The other end.
    pub peer: PeerId,
    /// Which way.
    pub direction: SaDirection,
    /// AH or ESP.
    pub protocol: SaProtocol,
    /// SPI.
    pub spi: Spi,
}

/// An inbound and an outbound AH association of a peer that were made together, and whose keys the TVTs that are born under them keep:
/// a key generation. Named by their source; not used again for another pair while one of the two is there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Generation(pub u32);

impl Generation {
    /// That of hand-made keys until they are replaced.
    pub const HAND_MADE: Self = Self(0);
}

/// Protocol and algorithm of an association, with what only that protocol has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SaKind {
    /// AH.
    Ah {
        /// Algorithm.
        algorithm: MacAlgorithm,
        /// The pair that it is one half of.
        generation: Generation,
        /// First value of the SPI counter of TVTs that no earlier process has reserved under this key; none: the key is as young as this
        /// process, and nothing needs to be on disk.
        spi_counter: Option<u32>,
    },
    /// ESP.
    Esp(AeadAlgorithm),
}

impl SaKind {
    /// AH or ESP.
    pub const fn protocol(self) -> SaProtocol {
        match self {
            Self::Ah { .. } => SaProtocol::Ah,
            Self::Esp(_) => SaProtocol::Esp,
        }
    }
}

/// Direction of an association, and its sequence numbers.
#[derive(Debug)]
pub enum Numbers {
    /// To this node.
    In {
        /// Highest number accepted so far, by an earlier process to begin with: it and those below are refused. 0: none was.
        highest: Arc<AtomicU64>,
    },
    /// To the peer.
    Out {
        /// Sequence numbers that may be used.
        grant: Arc<Grant>,
        /// Explicit IVs under an AH key, one grant a worker, the worker's number in the top byte; looked at for GMAC alone.
        ah_ivs: Vec<Arc<Grant>>,
    },
}

/// Bits of an IV counter below the worker's number (protocol section 2).
const WORKER_SHIFT: u32 = 56;

impl Numbers {
    /// Inbound, under a key that was made for this process.
    pub fn fresh_in() -> Self {
        Self::In {
            highest: Arc::default(),
        }
    }

    /// Outbound from `workers` workers, under a key that was made for this process: all numbers, without a file.
    pub fn fresh_out(workers: u8) -> Self {
        let ivs = |worker: u64| Grant::new(worker << WORKER_SHIFT, (worker + 1) << WORKER_SHIFT);
        Self::Out {
            grant: Grant::new(1, u64::MAX),
            ah_ivs: (0..u64::from(workers)).map(ivs).collect(),
        }
    }

    /// Which way.
    pub const fn direction(&self) -> SaDirection {
        match self {
            Self::In { .. } => SaDirection::In,
            Self::Out { .. } => SaDirection::Out,
        }
    }
}

/// One association with its key material.
pub struct SaSpec {
    /// The other end.
    pub peer: PeerId,
    /// SPI, chosen by the receiver.
    pub spi: Spi,
    /// Protocol and algorithm.
    pub kind: SaKind,
    /// Key material; for GCM and GMAC with the salt behind the key.
    pub key: Zeroizing<Vec<u8>>,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// Direction and sequence numbers.
    pub numbers: Numbers,
    /// Its limits. That numbers do not wrap needs none.
    pub lifetime: Lifetime,
}

impl SaSpec {
    /// Its name.
    pub const fn name(&self) -> SaName {
        SaName {
            peer: self.peer,
            direction: self.numbers.direction(),
            protocol: self.kind.protocol(),
            spi: self.spi,
        }
    }
}

/// What a source wants done.
pub enum SaEvent {
    /// A new association. It takes the place of the one of that peer, protocol and direction: at once outbound; inbound the older ones
    /// are kept for a while.
    Add(SaSpec),
    /// An association is over. One that is not there is no error.
    Remove(SaName),
}

/// Where associations come from.
pub trait SaSource {
    /// The next thing to do, in order.
    fn poll_event(&mut self) -> Option<SaEvent>;

    /// What came of [`SaEvent::Add`]: what tells its use from now on, or why it could not be made.
    fn handle_added(&mut self, sa: SaName, outcome: Result<Arc<SaUse>, TableError>);

    /// `sa`, which may be another source's, has reached a limit. [`Expiry::Soft`]: a successor is wanted; told once. [`Expiry::Hard`]: it has ended, by its lifetime or
    /// because its successors have taken its place for long enough.
    fn handle_expired(&mut self, sa: SaName, expiry: Expiry);
}
