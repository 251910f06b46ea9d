//! What a worker does when a poll brought nothing.
//!
//! ```text
//!            packets                     packets: back to polling
//!   poll ◄───────────┐
//!    │ nothing, `spin_polls` times
//!    ▼
//!   pause ── nothing, `pause_polls` times ──► sleep; twice as long after a sleep that brought nothing, up to `max_sleep_us`;
//!                                             half as long after one that brought a burst or more
//! ```
//!
//! A sleep costs some ten microseconds of the core by itself, and packets that have gathered meanwhile are cheaper to move
//! together. So its length outlives the packets: steady traffic of less than a burst a sleep keeps it as it is.
//!
//! The policy is a pure state machine; [`Step::take`] is all that touches the clock. A sleeping worker holds nothing that it
//! read: its caller goes offline to reclamation before [`Step::Sleep`].

use std::hint::spin_loop;
use std::thread;
use std::time::Duration;

use ain_dataplane::limits::BURST;

use crate::limits::{MAX_SLEEP_US, WAKE_UP_NS};

/// Pauses of the processor in one [`Step::Pause`], each some tens of cycles.
const PAUSES: u32 = 32;
/// First sleep, microseconds.
const FIRST_SLEEP_US: u32 = 1;

/// How idle workers behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdlePolicy {
    /// Never sleep: lowest latency, one whole core. For appliances.
    Spin,
    /// Sleep when nothing comes: for machines where workers share cores.
    Adaptive(Adaptive),
}

/// Figures of [`IdlePolicy::Adaptive`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Adaptive {
    /// Empty polls before the first pause.
    pub spin_polls: u32,
    /// Empty polls with a pause after each, before the first sleep.
    pub pause_polls: u32,
    /// Longest sleep, microseconds; the first is 1. At most [`MAX_SLEEP_US`] has effect.
    pub max_sleep_us: u32,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            spin_polls: 8,
            pause_polls: 2,
            max_sleep_us: 50,
        }
    }
}

/// What to do before the next poll.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing.
    Poll,
    /// Let the core's other thread run.
    Pause,
    /// Sleep so long, in microseconds.
    Sleep(u32),
}

/// The idle state of one worker.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    policy: IdlePolicy,
    empty_polls: u32,
    /// Length of the next sleep.
    sleep_us: u32,
    /// The poll before this one was followed by a sleep.
    slept: bool,
}

impl Idle {
    /// Awake.
    pub fn new(policy: IdlePolicy) -> Self {
        Self {
            policy,
            empty_polls: 0,
            sleep_us: FIRST_SLEEP_US,
            slept: false,
        }
    }

    /// What to do after a poll that found `work` packets, timers and messages in all.
    #[inline]
    pub fn after(&mut self, work: usize) -> Step {
        let IdlePolicy::Adaptive(figures) = self.policy else {
            return Step::Poll;
        };
        let slept = std::mem::take(&mut self.slept);
        if work > 0 {
            self.empty_polls = 0;
            if slept && work >= BURST {
                self.sleep_us = (self.sleep_us / 2).max(FIRST_SLEEP_US);
            }
            return Step::Poll;
        }
        if slept {
            self.sleep_us = self.sleep_us.saturating_mul(2);
        }
        self.empty_polls = self.empty_polls.saturating_add(1);
        if self.empty_polls <= figures.spin_polls {
            Step::Poll
        } else if self.empty_polls <= figures.spin_polls.saturating_add(figures.pause_polls) {
            Step::Pause
        } else {
            self.sleep(figures.max_sleep_us.min(MAX_SLEEP_US))
        }
    }

    fn sleep(&mut self, max_us: u32) -> Step {
        if max_us == 0 {
            return Step::Pause;
        }
        self.sleep_us = self.sleep_us.min(max_us);
        self.slept = true;
        Step::Sleep(self.sleep_us)
    }
}

impl Step {
    /// The same, but awake before a time that is `left_ns` away.
    #[inline]
    pub fn until(self, left_ns: Option<u64>) -> Self {
        match (self, left_ns) {
            (Self::Sleep(us), Some(left_ns)) => {
                let left_us = u32::try_from(left_ns.saturating_sub(WAKE_UP_NS) / 1000).unwrap_or(u32::MAX);
                if left_us == 0 {
                    Self::Poll
                } else {
                    Self::Sleep(us.min(left_us))
                }
            }
            _ => self,
        }
    }

    /// Does it.
    #[inline]
    pub fn take(self) {
        match self {
            Self::Poll => {}
            Self::Pause => (0..PAUSES).for_each(|_| spin_loop()),
            Self::Sleep(us) => thread::sleep(Duration::from_micros(us.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIGURES: Adaptive = Adaptive {
        spin_polls: 3,
        pause_polls: 2,
        max_sleep_us: 20,
    };

    fn steps(idle: &mut Idle, polls: usize) -> Vec<Step> {
        (0..polls).map(|_| idle.after(0)).collect()
    }

    #[test]
    fn spin_never_sleeps() {
        let mut idle = Idle::new(IdlePolicy::Spin);
        assert!(steps(&mut idle, 100_000).iter().all(|&s| s == Step::Poll));
    }

    #[test]
    fn adaptive_spins_pauses_and_sleeps_longer_up_to_the_ceiling() {
        use Step::{Pause, Poll, Sleep};
        let mut idle = Idle::new(IdlePolicy::Adaptive(FIGURES));
        let expected = [
            Poll,
            Poll,
            Poll,
            Pause,
            Pause,
            Sleep(1),
            Sleep(2),
            Sleep(4),
            Sleep(8),
            Sleep(16),
            Sleep(20),
            Sleep(20),
        ];
        assert_eq!(steps(&mut idle, expected.len()), expected);
    }

    #[test]
    fn line_6_no_sleep_lasts_into_a_slot() {
        use Step::{Pause, Poll, Sleep};
        let left = |us: u64| Some(WAKE_UP_NS + us * 1000);
        assert_eq!(
            [None, left(9), left(5), left(0), Some(1)].map(|left| Sleep(7).until(left)),
            [Sleep(7), Sleep(7), Sleep(5), Poll, Poll]
        );
        assert_eq!([Poll.until(left(0)), Pause.until(left(9))], [Poll, Pause]);
    }

    #[test]
    fn work_starts_polling_over_and_a_full_burst_shortens_the_sleep() {
        use Step::{Pause, Poll, Sleep};
        let mut idle = Idle::new(IdlePolicy::Adaptive(FIGURES));
        assert_eq!(steps(&mut idle, 9).last(), Some(&Sleep(8)));
        for (work, next) in [(1, 8), (BURST - 1, 8), (BURST, 4), (BURST, 2), (BURST, 1), (BURST, 1)] {
            assert_eq!(idle.after(work), Poll);
            assert_eq!(steps(&mut idle, 6), [Poll, Poll, Poll, Pause, Pause, Sleep(next)]);
        }
        assert_eq!(steps(&mut idle, 2), [Sleep(2), Sleep(4)]);
    }

    #[test]
    fn bursts_that_no_sleep_gathered_leave_its_length() {
        let mut idle = Idle::new(IdlePolicy::Adaptive(FIGURES));
        assert_eq!(steps(&mut idle, 9).last(), Some(&Step::Sleep(8)));
        assert_eq!(idle.after(1), Step::Poll);
        assert!((0..10).all(|_| idle.after(BURST) == Step::Poll));
        assert_eq!(steps(&mut idle, 6).last(), Some(&Step::Sleep(8)));
    }

    #[test]
    fn no_sleep_at_a_ceiling_of_nothing_and_none_past_the_limit() {
        let mut idle = Idle::new(IdlePolicy::Adaptive(Adaptive {
            max_sleep_us: 0,
            ..FIGURES
        }));
        assert!(steps(&mut idle, 100).iter().skip(3).all(|&s| s == Step::Pause));
        let mut idle = Idle::new(IdlePolicy::Adaptive(Adaptive {
            max_sleep_us: u32::MAX,
            ..FIGURES
        }));
        let longest = steps(&mut idle, 100).into_iter().next_back();
        assert_eq!(longest, Some(Step::Sleep(MAX_SLEEP_US)));
    }

    #[test]
    fn counts_do_not_wrap() {
        let mut idle = Idle::new(IdlePolicy::Adaptive(FIGURES));
        idle.empty_polls = u32::MAX - 1;
        assert!(steps(&mut idle, 4).iter().all(|s| matches!(s, Step::Sleep(_))));
    }
}
