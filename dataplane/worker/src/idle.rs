//! What a worker does when a poll brought nothing.
//!
//! ```text
//!            packets                     packets: back to the start
//!   poll ◄───────────┐
//!    │ nothing, `spin_polls` times
//!    ▼
//!   pause ── nothing, `pause_polls` times ──► sleep 1 us, 2, 4 ... `max_sleep_us`
//! ```
//!
//! The policy is a pure state machine; [`Step::take`] is all that touches the clock. A sleeping worker holds nothing that it
//! read: its caller goes offline to reclamation before [`Step::Sleep`].

use std::hint::spin_loop;
use std::thread;
use std::time::Duration;

use crate::limits::MAX_SLEEP_US;

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
    /// Longest sleep, microseconds; sleeps start at 1 and double. At most [`MAX_SLEEP_US`] has effect.
    pub max_sleep_us: u32,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            spin_polls: 64,
            pause_polls: 64,
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
    sleep_us: u32,
}

impl Idle {
    /// Awake.
    pub fn new(policy: IdlePolicy) -> Self {
        Self {
            policy,
            empty_polls: 0,
            sleep_us: FIRST_SLEEP_US,
        }
    }

    /// What to do after a poll that found `work` packets, timers and messages in all.
    #[inline]
    pub fn after(&mut self, work: usize) -> Step {
        let IdlePolicy::Adaptive(figures) = self.policy else {
            return Step::Poll;
        };
        if work > 0 {
            *self = Self::new(self.policy);
            return Step::Poll;
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
        let now_us = self.sleep_us.min(max_us);
        self.sleep_us = now_us.saturating_mul(2).max(FIRST_SLEEP_US);
        if now_us == 0 { Step::Pause } else { Step::Sleep(now_us) }
    }
}

impl Step {
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
    fn work_starts_it_over() {
        let mut idle = Idle::new(IdlePolicy::Adaptive(FIGURES));
        let first = steps(&mut idle, 9);
        assert_eq!(first.last(), Some(&Step::Sleep(8)));
        assert_eq!(idle.after(1), Step::Poll);
        assert_eq!(steps(&mut idle, 9), first);
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
