//! `[capacity]`: how much a node has room for, and where that memory lies.

use ain_controlplane::limits::{AIVTS, AIVTS_MAX, FLOWS};
use serde::Deserialize;
use toml::Spanned;

use super::report::Checker;

/// Flows that one worker can number.
const FLOWS_MAX: u32 = 1 << 24;

/// `[capacity]` as the file has it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawCapacity {
    /// AIVTs in any role.
    aivts: Option<Spanned<u32>>,
    /// Flows of this node's initiators and responders.
    flows: Option<Spanned<u32>>,
    /// In which pages tables and keys lie.
    hugepages: Hugepages,
}

/// In which pages tables and keys lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hugepages {
    /// In those of the machine's pool, all of them from the start, or there is no start.
    Require,
    /// In transparent ones, where the kernel has them.
    #[default]
    Prefer,
    /// In ordinary ones.
    Never,
}

/// How much a node has room for, all workers together. A neighbour may have half of the AIVTs unless configured, an initiator half of
/// the flows open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// AIVTs in any role.
    pub aivts: u32,
    /// Flows of this node's initiators and responders.
    pub flows: u32,
    /// In which pages tables and keys lie.
    pub hugepages: Hugepages,
}

pub(super) fn check_capacity(checker: &mut Checker, raw: RawCapacity) -> Capacity {
    let mut within = |field: &str, value: Option<Spanned<u32>>, default: usize, most: u32| {
        let Some(value) = value else { return default as u32 };
        if !(1..=most).contains(value.get_ref()) {
            checker.at(
                value.span(),
                format!("capacity.{field}"),
                format_args!("{} is not 1 to {most}", value.get_ref()),
            );
        }
        value.into_inner()
    };
    Capacity {
        aivts: within("aivts", raw.aivts, AIVTS, AIVTS_MAX as u32),
        flows: within("flows", raw.flows, FLOWS, FLOWS_MAX),
        hugepages: raw.hugepages,
    }
}
