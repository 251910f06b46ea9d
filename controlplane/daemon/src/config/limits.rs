//! `limits` of `[[neighbours]]` and `[[hosts]]`: what one of them may have of this node, so that it leaves the others theirs.

use std::num::NonZeroU64;
use std::ops::RangeInclusive;

use ain_controlplane::limits::{AIVTS_PERCENT_OF_A_NEIGHBOUR, CREATES_PER_SECOND_PER_NEIGHBOUR};
use ain_dataplane::allowance::Allowance;
use ain_dataplane::limits::FLOWS_PER_SECOND_OF_AN_INITIATOR;
use serde::Deserialize;
use toml::Spanned;

use super::raw::{Role, unplaced};
use super::report::Checker;

/// Megabits a second that can be configured at most: more than any port has.
const MBPS_MAX: u32 = 1_000_000;
/// KiB at once that can be configured: at least a datagram of any size.
const BURST_KIB: RangeInclusive<u32> = 64..=65_536;
/// KiB at once unless configured.
const BURST_KIB_UNLESS_CONFIGURED: u32 = 256;

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
    /// Megabits of inner datagrams that it may send in a second.
    mbps: Option<Spanned<u32>>,
    /// KiB that it may send at once.
    burst_kib: Option<Spanned<u32>>,
    /// Flows that it may begin in a second.
    flows_per_second: Option<Spanned<u32>>,
}

/// What a host may have of this node as an initiator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostLimits {
    /// AIVTs made for it in a slice of time; none: as many as its flows want.
    pub aivts_per_slice: Option<u32>,
    /// What it may send; none: all it can.
    pub allowance: Option<Allowance>,
    /// Flows that it may begin.
    pub flows: Option<Allowance>,
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
    let aivts_per_slice = of_initiator("aivts_per_slice", &raw.aivts_per_slice, 1..=u32::MAX);
    let mbps = of_initiator("mbps", &raw.mbps, 1..=MBPS_MAX);
    let burst_kib = of_initiator("burst_kib", &raw.burst_kib, BURST_KIB).unwrap_or(BURST_KIB_UNLESS_CONFIGURED);
    let flows_per_second = of_initiator("flows_per_second", &raw.flows_per_second, 1..=u32::MAX);
    let flows_per_second = flows_per_second.unwrap_or(FLOWS_PER_SECOND_OF_AN_INITIATOR);
    if let (Some(burst), None) = (&raw.burst_kib, mbps) {
        checker.at(burst.span(), format!("{path}.limits.burst_kib"), "needs mbps");
    }
    let allowance = |per_s, burst| {
        Some(Allowance {
            per_s: NonZeroU64::new(per_s)?,
            burst,
        })
    };
    HostLimits {
        aivts_per_slice,
        allowance: mbps.and_then(|mbps| allowance(u64::from(mbps) * 125_000, u64::from(burst_kib) << 10)),
        flows: allowance(flows_per_second.into(), flows_per_second.into()),
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
