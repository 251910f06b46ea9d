//! Whether the wall clock can be erased by: a key that is gone because a clock was wrong for a moment does not come back.
//!
//! ```text
//!   wall   ────────────┐jump┌──────────────────────
//!   steady ────────────┴────┴──────────────────────
//!          └─ hold ─┘ erase └────── hold ──────┘ erase
//! ```

use std::time::Duration;

use ain_controlplane::limits::KEY_SLACK_S;
use tracing::warn;

/// How long the wall clock has to go steadily before keys are erased by it; an eighth of a period if that is shorter.
const HOLD: Duration = Duration::from_secs(3600);

/// The wall clock beside one that never jumps.
pub struct SteadyWall {
    hold: Duration,
    slack_s: u64,
    /// Since when the two go together: Unix seconds and the steady clock's time.
    since: Option<(u64, Duration)>,
}

impl SteadyWall {
    /// For keys of periods of `period_s` seconds; not steady yet.
    pub fn new(period_s: u64) -> Self {
        Self {
            hold: HOLD.min(Duration::from_secs(period_s) / 8),
            // Two whole seconds may differ by rounding.
            slack_s: KEY_SLACK_S.min(period_s / 8).max(2),
            since: None,
        }
    }

    /// Looks at both clocks, `wall` in Unix seconds and `steady` since any start. Whether they have gone together for long enough.
    pub fn is_steady(&mut self, wall: u64, steady: Duration) -> bool {
        let (wall_then, then) = *self.since.get_or_insert((wall, steady));
        let due = wall_then + steady.saturating_sub(then).as_secs();
        if wall.abs_diff(due) > self.slack_s {
            let (seconds, hold_s) = (wall.abs_diff(due), self.hold.as_secs());
            let way = if wall > due { "ahead" } else { "back" };
            warn!("the clock went {way} by {seconds} s: no onion key is erased for {hold_s} s");
            self.since = Some((wall, steady));
            return self.hold.is_zero();
        }
        steady.saturating_sub(then) >= self.hold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: u64 = 86_400;
    const WALL: u64 = 1_700_000_000;

    #[test]
    fn line_2_rotation_a_clock_is_steady_after_an_hour_without_a_jump() {
        let mut clock = SteadyWall::new(DAY_S);
        let mut look = |wall: i64, steady_s: u64| {
            let wall = WALL.saturating_add_signed(wall);
            clock.is_steady(wall, Duration::from_secs(steady_s))
        };
        assert!(!look(0, 7) && !look(3599, 7 + 3599));
        assert!(
            look(3600, 7 + 3600) && look(3640, 7 + 3610),
            "the kernel turns it a little"
        );
        // Ahead by two days, corrected after ten minutes.
        assert!(!look(2 * DAY_S as i64, 4000) && !look(2 * DAY_S as i64 + 600, 4600));
        assert!(!look(4601, 4601) && !look(4601 + 3599, 4601 + 3599));
        assert!(look(4601 + 3600, 4601 + 3600));
        // Back by a day.
        assert!(!look(-(DAY_S as i64), 9000));
        assert!(look(3600 - DAY_S as i64, 12_600));
    }
}
