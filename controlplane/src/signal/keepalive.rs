//! KEEPALIVE: whether the neighbour is there (protocol section 6).
//!
//! ```text
//!  heard --1 s of silence--> asked (1) --1 s--> asked (2) --1 s--> asked (3) --1 s--> down, and still asking each second
//!    ^                                                                                  |
//!    +------------------------------ KEEPALIVE or its ACK ----------------------------+
//! ```

use ain_dataplane::id::Now;

use crate::limits::{KEEPALIVE_EVERY, KEEPALIVES_UNANSWERED};

/// What a moment's look at a neighbour calls for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// Nothing.
    Quiet,
    /// A KEEPALIVE.
    Ask,
    /// A KEEPALIVE; and the PVT, up so far, is down now.
    AskAndDown,
}

/// One PVT's liveness. Starts down, and asks at once.
#[derive(Debug)]
pub struct Liveness {
    up: bool,
    unanswered: u8,
    next: Now,
    /// When it was up last, or began.
    up_until: Now,
    /// There is no way to the neighbour, whatever comes from it.
    is_cut: bool,
}

impl Liveness {
    /// Down, with the first KEEPALIVE due `now`.
    pub fn new(now: Now) -> Self {
        Self {
            up: false,
            unanswered: 0,
            next: now,
            up_until: now,
            is_cut: false,
        }
    }

    /// Whether the neighbour has answered lately.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// For how long the neighbour has been down at `now`.
    pub fn down_for(&self, now: Now) -> u64 {
        if self.up { 0 } else { now.since(self.up_until) }
    }

    /// There is no way to the neighbour any more. Whether it was up.
    pub fn cut(&mut self, now: Now) -> bool {
        self.up_until = if self.up { now } else { self.up_until };
        self.is_cut = true;
        std::mem::take(&mut self.up)
    }

    /// There is a way to the neighbour, maybe again: looks at once.
    pub fn ask_at(&mut self, now: Now) {
        self.next = self.next.min(now);
        self.is_cut = false;
    }

    /// An authentic signal arrived. Returns whether the PVT came up by it: not while there is no way back.
    pub fn heard(&mut self, now: Now) -> bool {
        if self.is_cut {
            return false;
        }
        self.unanswered = 0;
        self.next = now.plus(KEEPALIVE_EVERY);
        !std::mem::replace(&mut self.up, true)
    }

    /// When to look again.
    pub fn due(&self) -> Now {
        self.next
    }

    /// Looks, at `now`.
    pub fn check(&mut self, now: Now) -> Check {
        if now < self.next {
            return Check::Quiet;
        }
        self.next = now.plus(KEEPALIVE_EVERY);
        if self.up && self.unanswered >= KEEPALIVES_UNANSWERED {
            self.up = false;
            self.up_until = now;
            return Check::AskAndDown;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        Check::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = Now::SECOND;

    #[test]
    fn three_unanswered_take_it_down_and_any_signal_brings_it_up() {
        let mut liveness = Liveness::new(Now(0));
        assert!(!liveness.is_up());
        assert_eq!(liveness.check(Now(0)), Check::Ask);
        assert!(liveness.heard(Now(5)));
        assert!(!liveness.heard(Now(5)));
        for asked in 1..=3 {
            assert_eq!(liveness.check(Now(4 + asked * SECOND)), Check::Quiet);
            assert_eq!(liveness.check(Now(5 + asked * SECOND)), Check::Ask);
        }
        assert!(liveness.is_up());
        assert_eq!(liveness.check(Now(5 + 4 * SECOND)), Check::AskAndDown);
        assert!(!liveness.is_up());
        assert_eq!(liveness.check(Now(5 + 5 * SECOND)), Check::Ask);
        assert!(liveness.heard(Now(6 * SECOND)));
        assert_eq!(liveness.due(), Now(7 * SECOND));
    }

    #[test]
    fn an_answer_in_time_starts_the_count_again() {
        let mut liveness = Liveness::new(Now(0));
        liveness.heard(Now(0));
        for second in 1..20 {
            assert_eq!(liveness.check(Now(2 * second * SECOND)), Check::Ask);
            liveness.heard(Now(2 * second * SECOND + SECOND));
        }
        assert!(liveness.is_up());
    }
}
