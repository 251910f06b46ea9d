//! The `[benchmark]` section of a node's file.

use ain_controlplane::benchmark::{AIVTS_MAX, Part};
use serde::Deserialize;
use toml::Spanned;

use super::capacity::Capacity;
use super::raw::{unplaced, yes};
use super::report::Checker;

/// AINs behind an entrance (protocol section 5).
const HOPS: std::ops::RangeInclusive<u8> = 1..=5;

/// `[benchmark]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawBenchmark {
    /// This node's part in all of them.
    pub role: RawPart,
    /// How many.
    pub aivts: Spanned<u32>,
    /// AINs behind an entrance.
    #[serde(default = "default_hops")]
    pub hops: Spanned<u8>,
    /// Whether replayed packets are refused.
    #[serde(default = "yes")]
    pub anti_replay: bool,
}

fn default_hops() -> Spanned<u8> {
    unplaced(2)
}

/// A node's part in AIVTs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawPart {
    /// First AIN.
    Entrance,
    /// Between.
    Intermediate,
    /// Last AIN.
    Exit,
}

/// Static AIVTs, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BenchmarkConfig {
    /// This node's part in all of them.
    pub part: Part,
    /// How many; at least one.
    pub aivts: u32,
    /// Whether replayed packets are refused.
    pub anti_replay: bool,
}

/// The section, given how many neighbours and hosts the file has, and its room.
pub(super) fn check_benchmark(
    checker: &mut Checker,
    raw: &Spanned<RawBenchmark>,
    (neighbours, hosts): (usize, usize),
    room: Capacity,
) -> BenchmarkConfig {
    let asked = raw.get_ref();
    let (aivts, hops) = (*asked.aivts.get_ref(), *asked.hops.get_ref());
    if !(1..=AIVTS_MAX).contains(&aivts) {
        checker.at(
            asked.aivts.span(),
            "benchmark.aivts",
            format_args!("{aivts} is not 1 to {AIVTS_MAX}"),
        );
    }
    let (most, field) = most(asked.role, room);
    if (most + 1..=AIVTS_MAX).contains(&aivts) {
        checker.at(
            asked.aivts.span(),
            "benchmark.aivts",
            format_args!("{aivts} are more than the {most} for which {field} has room"),
        );
    }
    if !HOPS.contains(&hops) {
        checker.at(
            asked.hops.span(),
            "benchmark.hops",
            format_args!("{hops} is not 1 to 5 AINs behind the entrance"),
        );
    }
    let (part, enough) = match asked.role {
        RawPart::Entrance => (
            Part::Entrance {
                hops: usize::from(hops),
            },
            neighbours > 0 && hosts > 0,
        ),
        RawPart::Intermediate => (Part::Intermediate, neighbours > 1),
        RawPart::Exit => (Part::Exit, neighbours > 0 && hosts > 0),
    };
    if !enough {
        checker.at(
            raw.span(),
            "benchmark.role",
            "an intermediate node needs two [[neighbours]], others a neighbour and one of [[hosts]]",
        );
    }
    BenchmarkConfig {
        part,
        aivts,
        anti_replay: asked.anti_replay,
    }
}

/// Static AIVTs that the tables have room for, and the setting that says so. One worker may own all flows: an entrance may use seven
/// eighths of its slots for those that begin (`ain_dataplane::flow`), an exit all of them.
fn most(role: RawPart, room: Capacity) -> (u32, &'static str) {
    let flows = match role {
        RawPart::Entrance => room.flows - room.flows / 8,
        RawPart::Intermediate => u32::MAX,
        RawPart::Exit => room.flows,
    };
    if flows < room.aivts {
        (flows, "capacity.flows")
    } else {
        (room.aivts, "capacity.aivts")
    }
}
