//! `limits` of `[[neighbours]]` and `[[hosts]]`: what one of them may have of this node, so that it leaves the others theirs.

use std::ops::RangeInclusive;

use ain_controlplane::limits::{AIVTS_PERCENT_OF_A_NEIGHBOUR, CREATES_PER_SECOND_PER_NEIGHBOUR};
use serde::Deserialize;
use toml::Spanned;

use super::raw::{Role, unplaced};
use super::report::Checker;

/// A neighbour's, as the file has them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawNeighbourLimits {
    /// Creating signals that it gets opened in a second.
    creates_per_second: Spanned<u32>,
    /// Percent of the AIVTs of `[capacity]` that it may have asked for.
    aivts_percent: Spanned<u32>,
}

impl Default for RawNeighbourLimits {
    fn default() -> Self {
        Self {
            creates_per_second: unplaced(CREATES_PER_SECOND_PER_NEIGHBOUR),
            aivts_percent: unplaced(AIVTS_PERCENT_OF_A_NEIGHBOUR),
        }
    }
}

/// What a neighbour may have of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourLimits {
    /// Creating signals that it gets opened in a second.
    pub creates_per_second: u32,
    /// Percent of the AIVTs of `[capacity]` that it may have asked for.
    pub aivts_percent: u32,
}

/// A host's, as the file has them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawHostLimits {
    /// AIVTs made for it in a slice of time.
    aivts_per_slice: Option<Spanned<u32>>,
}

/// What a host may have of this node as an initiator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostLimits {
    /// AIVTs made for it in a slice of time; none: as many as its flows want.
    pub aivts_per_slice: Option<u32>,
}

pub(super) fn check_neighbour_limits(checker: &mut Checker, path: &str, raw: &RawNeighbourLimits) -> NeighbourLimits {
    let mut within = |field: &str, value: &Spanned<u32>, range: RangeInclusive<u32>| {
        check_range(checker, format!("{path}.limits.{field}"), value, range)
    };
    NeighbourLimits {
        creates_per_second: within("creates_per_second", &raw.creates_per_second, 1..=u32::MAX),
        aivts_percent: within("aivts_percent", &raw.aivts_percent, 1..=100),
    }
}

pub(super) fn check_host_limits(checker: &mut Checker, path: &str, role: Role, raw: &RawHostLimits) -> HostLimits {
    let mut of_initiator = |field: &str, value: &Option<Spanned<u32>>, range: RangeInclusive<u32>| {
        let value = value.as_ref()?;
        let field = format!("{path}.limits.{field}");
        if !role.initiates() {
            checker.at(value.span(), field.as_str(), "only an initiator is limited");
        }
        Some(check_range(checker, field, value, range))
    };
    HostLimits {
        aivts_per_slice: of_initiator("aivts_per_slice", &raw.aivts_per_slice, 1..=u32::MAX),
    }
}

fn check_range(checker: &mut Checker, field: String, value: &Spanned<u32>, range: RangeInclusive<u32>) -> u32 {
    let given = *value.get_ref();
    if !range.contains(&given) {
        let problem = format_args!("{given} is not {} to {}", range.start(), range.end());
        checker.at(value.span(), field, problem);
    }
    given
}
