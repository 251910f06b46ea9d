//! What tunnels show of their traffic by the size and time of their packets (protocol section 8).

use std::num::NonZeroU32;

use ain_controlplane::signal::frame::SHORTER_THAN_VEILED_CELL;
use ain_controlplane::table_writer::{Rate, TunnelShape};
use toml::Spanned;

use super::peers::Neighbour;
use super::raw::CellProfile;
use super::report::Checker;
use crate::translate::profile;

/// Fewest packets a second: signals have a quarter of the slots, and an AIVT through five such PVTs must stand within ten seconds.
const RATE_MIN: u32 = 50;
/// Most: one packet a microsecond.
const RATE_MAX: u32 = 1_000_000;

/// A host tunnel's: every datagram looks as long as the longest, and leaves in its time.
pub(super) fn host_shape(
    checker: &mut Checker,
    path: &str,
    (padding, inner_mtu): (bool, u16),
    rate: Option<&Spanned<u32>>,
) -> TunnelShape {
    let pps = check_rate(checker, path, rate);
    if let Some(rate) = rate.filter(|_| !padding) {
        checker.at(
            rate.span(),
            format!("{path}rate"),
            "a rate without padding hides nothing: lengths would tell datagrams from dummies",
        );
    }
    TunnelShape {
        padded_len: if padding { inner_mtu } else { 0 },
        rate: pps.map_or(Rate::None, Rate::Host),
    }
}

/// A PVT's; [`fill_own_slots`] adds what depends on the network's cells.
pub(super) fn pvt_shape(checker: &mut Checker, path: &str, rate: Option<&Spanned<u32>>) -> TunnelShape {
    TunnelShape {
        padded_len: 0,
        rate: check_rate(checker, path, rate).map_or(Rate::None, Rate::Pvt),
    }
}

/// On PVTs with a rate a dummy in place of a signal is as long as one.
pub(super) fn fill_own_slots(neighbours: &mut [Neighbour], cells: CellProfile) {
    let signal_len = profile(cells).cell_len() - SHORTER_THAN_VEILED_CELL;
    for shape in neighbours.iter_mut().map(|one| &mut one.tunnel.shape) {
        if shape.rate != Rate::None {
            shape.padded_len = signal_len as u16;
        }
    }
}

fn check_rate(checker: &mut Checker, path: &str, rate: Option<&Spanned<u32>>) -> Option<NonZeroU32> {
    let rate = rate?;
    let given = *rate.get_ref();
    if !(RATE_MIN..=RATE_MAX).contains(&given) {
        checker.at(
            rate.span(),
            format!("{path}rate"),
            format_args!("{given} is not {RATE_MIN} to {RATE_MAX} packets a second"),
        );
    }
    NonZeroU32::new(given)
}
