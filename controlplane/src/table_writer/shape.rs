//! What an observer may learn of a tunnel from the size and time of its packets (protocol section 8).

use std::num::{NonZeroU32, NonZeroU64};

use ain_crypto::{Backend, VEIL_KEY_BYTES, Veil};
use ain_dataplane::id::Now;
use ain_dataplane::tunnel::{Disguise, Pace};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::limits::{OWN_SLOT_EVERY_MAX, OWN_SLOT_EVERY_MIN, OWN_SLOTS_PER_SECOND};

/// The shape of a tunnel's packets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TunnelShape {
    /// Shorter inner datagrams are padded to so many bytes (RFC 4303 section 2.7); 0: none is.
    pub padded_len: u16,
    /// When its packets leave.
    pub rate: Rate,
}

/// When a tunnel's packets leave.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Rate {
    /// As they come.
    #[default]
    None,
    /// In slots, so many a second, on a host tunnel: ESP alone.
    Host(NonZeroU32),
    /// In slots, so many a second, on a PVT: its AH association carries its TVTs' cells.
    Pvt(NonZeroU32),
}

impl Rate {
    /// Packets a second.
    pub const fn pps(self) -> Option<NonZeroU32> {
        match self {
            Self::None => None,
            Self::Host(pps) | Self::Pvt(pps) => Some(pps),
        }
    }
}

impl TunnelShape {
    pub(super) const fn is_carrier(self) -> bool {
        matches!(self.rate, Rate::Pvt(_))
    }
}

/// One slot in so many is the PVT's own, at a rate of `pps`: a power of two that gives signals [`OWN_SLOTS_PER_SECOND`] at least where
/// that is possible.
const fn own_every(pps: u32) -> u32 {
    let wanted = pps / OWN_SLOTS_PER_SECOND;
    let mut every = OWN_SLOT_EVERY_MIN;
    while every < OWN_SLOT_EVERY_MAX && every * 2 <= wanted {
        every *= 2;
    }
    every
}

/// Between two slots that are a PVT's own, nanoseconds.
pub(crate) fn own_slot_ns(pps: NonZeroU32) -> u64 {
    u64::from(own_every(pps.get())) * Now::SECOND / u64::from(pps.get())
}

/// The slots of a tunnel with a rate.
pub(super) fn pace(rate: Rate) -> Option<Pace> {
    let pps = rate.pps()?.get();
    Some(Pace {
        period_ns: NonZeroU64::new(Now::SECOND / u64::from(pps))?,
        own_every: matches!(rate, Rate::Pvt(_)).then(|| own_every(pps)),
    })
}

/// What the packets of a tunnel with a rate show nothing by, from the key material of the AH association that they leave on.
pub(super) fn disguise<C: Backend>(ah: &[u8]) -> Disguise<C> {
    Disguise {
        dither: Veil::new(&derived(ah, b"ain dither")),
        veil: veil(ah),
        noise: C::layer_key(&derived(ah, b"ain dummy")),
    }
}

/// The veil of the packets of an AH association of a PVT, from its key material, salt included.
pub fn veil(ah: &[u8]) -> Veil {
    Veil::new(&derived(ah, b"ain veil"))
}

/// 16 secret bytes from the key material of an association, for one use.
pub(super) fn derived(material: &[u8], label: &[u8]) -> Zeroizing<[u8; VEIL_KEY_BYTES]> {
    let mut key = Zeroizing::new([0; VEIL_KEY_BYTES]);
    // 16 bytes are far below HKDF's limit of 255 blocks.
    let expanded = Hkdf::<Sha256>::new(None, material).expand(label, &mut *key);
    debug_assert!(expanded.is_ok());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_6_own_slots_are_at_most_one_in_64_and_25_a_second_where_possible() {
        let rates = [1, 100, 199, 200, 399, 400, 800, 1600, 100_000];
        assert_eq!(rates.map(own_every), [4, 4, 4, 8, 8, 16, 32, 64, 64]);
    }
}
