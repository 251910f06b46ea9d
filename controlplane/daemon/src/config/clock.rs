//! A clock far off makes a node refuse every creating signal (protocol section 5), so it is refused before the start.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

/// When this release was made, seconds since 1970: 2026-11-01. No right clock shows an earlier time.
pub const RELEASED_UNIX_S: u64 = 1_793_491_200;
/// How long a release is in use at most: 10 years. A clock beyond that is wrong, or the release is far too old.
const LIFE_S: u64 = 10 * 365 * 86_400;

/// The system clock cannot be right.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ClockError {
    /// Before the release.
    #[error("the system clock is {days} days before this release was made: set it")]
    Behind {
        /// Days between them.
        days: u64,
    },
    /// Years after it.
    #[error("the system clock is {years} years after this release was made: set it, or use a newer release")]
    Ahead {
        /// Years between them.
        years: u64,
    },
}

/// Checks the wall clock's time `now`.
pub fn check_clock(now: SystemTime) -> Result<(), ClockError> {
    let released = UNIX_EPOCH + Duration::from_secs(RELEASED_UNIX_S);
    match now.duration_since(released) {
        Err(before) => Err(ClockError::Behind {
            days: before.duration().as_secs().div_ceil(86_400),
        }),
        Ok(after) if after.as_secs() > LIFE_S => Err(ClockError::Ahead {
            years: after.as_secs() / (365 * 86_400),
        }),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_s: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(unix_s)
    }

    #[test]
    fn accepts_the_years_after_the_release_only() {
        assert_eq!(check_clock(at(0)), Err(ClockError::Behind { days: 20_758 }));
        assert_eq!(
            check_clock(at(RELEASED_UNIX_S - 1)),
            Err(ClockError::Behind { days: 1 })
        );
        assert_eq!(check_clock(at(RELEASED_UNIX_S)), Ok(()));
        assert_eq!(check_clock(at(RELEASED_UNIX_S + LIFE_S)), Ok(()));
        assert_eq!(
            check_clock(at(RELEASED_UNIX_S + LIFE_S + 1)),
            Err(ClockError::Ahead { years: 10 })
        );
    }
}
