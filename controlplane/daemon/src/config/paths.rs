//! `[paths]`: how this node, as entrance, chooses.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::report::Checker;

/// Longest time of a guard, days.
const GUARD_DAYS_MAX: u16 = 365;

/// `[paths]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPaths {
    /// Days for which the second AIN of paths stays the same.
    guard_days: Spanned<u16>,
}

impl Default for RawPaths {
    fn default() -> Self {
        Self {
            guard_days: Spanned::new(0..0, 30),
        }
    }
}

/// For how long a guard stays one; zero: no guards.
pub(super) fn check_paths(checker: &mut Checker, raw: &RawPaths) -> Duration {
    let days = *raw.guard_days.get_ref();
    if days > GUARD_DAYS_MAX {
        let message = format_args!("{days} is not 0 to {GUARD_DAYS_MAX}");
        checker.at(raw.guard_days.span(), "paths.guard_days", message);
    }
    Duration::from_secs(u64::from(days) * 86_400)
}
