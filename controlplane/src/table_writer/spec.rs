//! A tunnel with its key material, as the table writer is told of it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use ain_dataplane::id::{PeerId, Spi, WorkerId};
use ain_dataplane::reserve::Grant;
use zeroize::Zeroizing;

use super::TunnelShape;

/// One inbound association of a tunnel.
pub struct InboundSa {
    /// SPI chosen here.
    pub spi: Spi,
    /// Key material.
    pub key: Zeroizing<Vec<u8>>,
    /// Highest number accepted before a restart; it and those below are refused.
    pub resume_after: u64,
}

/// One outbound association of a tunnel.
pub struct OutboundSa {
    /// SPI chosen by the peer.
    pub spi: Spi,
    /// Key material.
    pub key: Zeroizing<Vec<u8>>,
    /// Sequence numbers that may be used.
    pub grant: Arc<Grant>,
}

/// An ESP+AH tunnel with its key material.
pub struct TunnelSpec {
    /// The other end.
    pub peer: PeerId,
    /// The worker that shall own it.
    pub owner: WorkerId,
    /// AH algorithm, both directions.
    pub ah: MacAlgorithm,
    /// ESP algorithm, both directions.
    pub esp: AeadAlgorithm,
    /// Extended sequence numbers on AH and ESP.
    pub esn: bool,
    /// AH from the peer.
    pub ah_in: InboundSa,
    /// AH to the peer.
    pub ah_out: OutboundSa,
    /// Explicit IVs under the outbound AH key, one grant a worker, the worker's number in the top byte; empty unless GMAC.
    pub ah_ivs: Vec<Arc<Grant>>,
    /// ESP from the peer.
    pub esp_in: InboundSa,
    /// ESP to the peer.
    pub esp_out: OutboundSa,
    /// What its packets show.
    pub shape: TunnelShape,
}

/// Where the control thread reads the highest accepted numbers of a tunnel, to save them.
#[derive(Clone, Debug)]
pub struct TunnelProgress {
    /// The other end.
    pub peer: PeerId,
    /// Highest AH number accepted.
    pub ah: Arc<AtomicU64>,
    /// Highest ESP number accepted.
    pub esp: Arc<AtomicU64>,
}
