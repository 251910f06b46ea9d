//! An ESP+AH tunnel as its owner keeps it. Its associations come and go while it stands: AH and ESP are rekeyed apart, so that a new
//! one of either works beside an old one of the other.
//!
//! ```text
//!   in    AH  [newest, older, ...]  found by SPI         out   AH   [newest, older, ...]  the newest is used; an older one again,
//!         ESP [newest, older, ...]  found by SPI               ESP  [newest, older, ...]  with the numbers it had, if that goes
//! ```

use std::num::NonZeroU64;
use std::sync::Arc;

use ain_crypto::{Aead, Backend, Veil};
use arrayvec::ArrayVec;

use crate::id::{KeySlot, PeerId, Spi};
use crate::limits::{FOR_NODE_PER_SECOND, SAS_OF_A_KIND};
use crate::per_second::PerSecond;
use crate::reserve::Reserved;
use crate::sa::{Numbering, ReplayError, SeqNo, TunnelWindow};
use crate::usage::SaUse;
use crate::verdict::DropReason;

/// Which way the packets of an association go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SaDirection {
    /// To this node.
    In,
    /// To the peer.
    Out,
}

/// What protects them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SaProtocol {
    /// The Authentication Header, outside.
    Ah,
    /// The Encapsulating Security Payload, inside.
    Esp,
}

/// An inbound association.
pub struct SaIn<K> {
    /// SPI chosen here.
    pub spi: Spi,
    /// Key.
    pub key: K,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// Anti-replay window.
    pub window: TunnelWindow,
    /// What it has carried.
    pub used: Arc<SaUse>,
}

impl<K> SaIn<K> {
    /// Infers the whole number and looks at the window.
    pub(crate) fn look(&self, seq_low: u32) -> Result<SeqNo, ReplayError> {
        let numbering = if self.esn {
            Numbering::Extended
        } else {
            Numbering::Short
        };
        self.window.check_numbered(numbering, seq_low)
    }

    /// Marks the number of an authentic packet that carries so many octets; false if it has been marked since the look.
    #[must_use]
    pub(crate) fn accept(&mut self, seq: SeqNo, octets: usize) -> bool {
        let fresh = self.window.mark(seq);
        if fresh {
            self.used.count(octets, self.window.highest().0);
        }
        fresh
    }
}

/// An outbound association.
pub struct SaOut<K> {
    /// SPI chosen by the peer.
    pub spi: Spi,
    /// Key.
    pub key: K,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// Sequence numbers.
    pub seq: Reserved,
    /// What it has carried.
    pub used: Arc<SaUse>,
}

impl<K> SaOut<K> {
    /// The sequence number of a packet that carries so many octets; it never wraps.
    pub(crate) fn take(&mut self, octets: usize) -> Result<u64, DropReason> {
        let seq = self.seq.take().ok_or(DropReason::SequenceExhausted)?;
        if !self.esn && u32::try_from(seq).is_err() {
            return Err(DropReason::SequenceExhausted);
        }
        self.used.count(octets, seq);
        Ok(seq)
    }
}

/// Key of an inbound AH association.
pub struct AhInKey {
    /// Where the schedule is.
    pub slot: KeySlot,
    /// Of a PVT with a rate: what hides whose cells its packets carry.
    pub veil: Option<Veil>,
}

/// Key of an outbound AH association.
pub struct AhOutKey<C: Backend> {
    /// Where the schedule is.
    pub slot: KeySlot,
    /// Of a tunnel with a rate.
    pub disguise: Option<Disguise<C>>,
}

/// What a tunnel with a rate needs to show nothing; all of it derived from the key of its AH association.
pub struct Disguise<C: Backend> {
    /// Says how far into its slot each packet leaves.
    pub dither: Veil,
    /// Of a PVT: hides whose cells its packets carry.
    pub veil: Veil,
    /// Of a PVT: makes dummies, and undoes them for nothing.
    pub noise: C::LayerKey,
}

/// Key of an outbound ESP association.
pub struct EspOutKey<C: Backend> {
    /// Expanded key.
    pub key: C::AeadKey,
    /// Hides the count in the IV: the explicit IV is the sequence number XOR this, so it repeats no sooner.
    pub iv_mask: u64,
}

/// AH from the peer.
pub type AhIn = SaIn<AhInKey>;
/// AH to the peer.
pub type AhOut<C> = SaOut<AhOutKey<C>>;
/// ESP from the peer.
pub type EspIn<C> = SaIn<<C as Aead>::AeadKey>;
/// ESP to the peer.
pub type EspOut<C> = SaOut<EspOutKey<C>>;

/// Any association of a tunnel.
pub enum Association<C: Backend> {
    /// See [`AhIn`].
    AhIn(Box<AhIn>),
    /// See [`AhOut`].
    AhOut(Box<AhOut<C>>),
    /// See [`EspIn`].
    EspIn(Box<EspIn<C>>),
    /// See [`EspOut`].
    EspOut(Box<EspOut<C>>),
}

impl<C: Backend> Association<C> {
    /// What tells its use.
    pub(crate) fn used(&self) -> &SaUse {
        match self {
            Self::AhIn(sa) => &sa.used,
            Self::AhOut(sa) => &sa.used,
            Self::EspIn(sa) => &sa.used,
            Self::EspOut(sa) => &sa.used,
        }
    }
}

/// What is found by its SPI.
pub(crate) trait HasSpi {
    fn spi(&self) -> Spi;
}

impl<K> HasSpi for SaIn<K> {
    fn spi(&self) -> Spi {
        self.spi
    }
}

impl<K> HasSpi for SaOut<K> {
    fn spi(&self) -> Spi {
        self.spi
    }
}

/// Associations of one direction and protocol, the newest first.
pub(crate) struct Series<S>(ArrayVec<Box<S>, SAS_OF_A_KIND>);

impl<S: HasSpi> Series<S> {
    fn new() -> Self {
        Self(ArrayVec::new())
    }

    pub(crate) fn newest(&self) -> Option<&S> {
        self.0.first().map(|sa| &**sa)
    }

    pub(crate) fn newest_mut(&mut self) -> Option<&mut S> {
        self.0.first_mut().map(|sa| &mut **sa)
    }

    fn of(&self, spi: Spi) -> Option<&S> {
        self.0.iter().find(|sa| sa.spi() == spi).map(|sa| &**sa)
    }

    fn of_mut(&mut self, spi: Spi) -> Option<&mut S> {
        self.0.iter_mut().find(|sa| sa.spi() == spi).map(|sa| &mut **sa)
    }

    /// The oldest one gives way where there is no room.
    fn put(&mut self, sa: Box<S>) -> Option<Box<S>> {
        let oldest = if self.0.is_full() { self.0.pop() } else { None };
        self.0.insert(0, sa);
        oldest
    }

    fn take(&mut self, spi: Spi) -> Option<Box<S>> {
        let at = self.0.iter().position(|sa| sa.spi() == spi)?;
        Some(self.0.remove(at))
    }
}

/// The slots of a tunnel with a rate.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From one to the next, in nanoseconds.
    pub period_ns: NonZeroU64,
    /// Of a PVT, which carries cells on its own AH association: one slot in so many is its own. None: a host tunnel.
    pub own_every: Option<u32>,
}

/// An ESP+AH tunnel.
pub struct Tunnel<C: Backend> {
    /// The other end.
    pub peer: PeerId,
    /// Shorter inner datagrams are followed by padding up to so many bytes (RFC 4303 section 2.7).
    pub padded_len: u16,
    /// When packets to it leave; none: as they come.
    pub pace: Option<Pace>,
    /// What a host says to this node itself.
    pub(crate) for_node: PerSecond,
    ah_in: Series<AhIn>,
    esp_in: Series<EspIn<C>>,
    pub(crate) ah_out: Series<AhOut<C>>,
    pub(crate) esp_out: Series<EspOut<C>>,
}

impl<C: Backend> Tunnel<C> {
    /// Without associations.
    pub fn new(peer: PeerId, padded_len: u16, pace: Option<Pace>) -> Self {
        Self {
            peer,
            padded_len,
            pace,
            for_node: PerSecond::new(FOR_NODE_PER_SECOND),
            ah_in: Series::new(),
            esp_in: Series::new(),
            ah_out: Series::new(),
            esp_out: Series::new(),
        }
    }

    /// Takes in an association; the one that gives way to it, if there is one.
    pub fn put(&mut self, sa: Association<C>) -> Option<Association<C>> {
        match sa {
            Association::AhIn(sa) => self.ah_in.put(sa).map(Association::AhIn),
            Association::EspIn(sa) => self.esp_in.put(sa).map(Association::EspIn),
            Association::AhOut(sa) => self.ah_out.put(sa).map(Association::AhOut),
            Association::EspOut(sa) => self.esp_out.put(sa).map(Association::EspOut),
        }
    }

    /// Takes out an association.
    pub fn take(&mut self, direction: SaDirection, protocol: SaProtocol, spi: Spi) -> Option<Association<C>> {
        match (direction, protocol) {
            (SaDirection::In, SaProtocol::Ah) => self.ah_in.take(spi).map(Association::AhIn),
            (SaDirection::In, SaProtocol::Esp) => self.esp_in.take(spi).map(Association::EspIn),
            (SaDirection::Out, SaProtocol::Ah) => self.ah_out.take(spi).map(Association::AhOut),
            (SaDirection::Out, SaProtocol::Esp) => self.esp_out.take(spi).map(Association::EspOut),
        }
    }

    /// The inbound AH association with this SPI.
    pub fn ah_in(&self, spi: Spi) -> Option<&AhIn> {
        self.ah_in.of(spi)
    }

    pub(crate) fn ah_in_mut(&mut self, spi: Spi) -> Option<&mut AhIn> {
        self.ah_in.of_mut(spi)
    }

    /// The inbound ESP association with this SPI.
    pub fn esp_in(&self, spi: Spi) -> Option<&EspIn<C>> {
        self.esp_in.of(spi)
    }

    pub(crate) fn esp_in_mut(&mut self, spi: Spi) -> Option<&mut EspIn<C>> {
        self.esp_in.of_mut(spi)
    }

    /// Whether packets can be sealed and signed for it.
    pub fn can_send(&self) -> bool {
        self.ah_out.newest().is_some() && self.esp_out.newest().is_some()
    }

    /// What its packets show at which time, if it has a rate and an association to send with.
    pub(crate) fn disguise(&self) -> Option<&Disguise<C>> {
        self.ah_out.newest()?.key.disguise.as_ref()
    }
}
