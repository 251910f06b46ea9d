use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const BLOCK: u64 = 1 << 32;

/// Check and mark in one, as for a packet alone in its burst.
fn receive<const WORDS: usize>(window: &mut Window<WORDS>, sequence: u64) -> Result<(), ReplayError> {
    window
        .check_full(sequence)
        .map(|sequence| assert!(window.mark(sequence), "checked, so welcome"))
}

/// What the window must do, said with a set of all numbers ever seen.
struct Model {
    highest: u64,
    seen: BTreeSet<u64>,
    packets: u64,
}

impl Model {
    fn starting_after(highest: u64, packets: u64) -> Self {
        let seen = (highest.saturating_sub(packets)..=highest).collect();
        Self { highest, seen, packets }
    }

    fn receive(&mut self, sequence: u64) -> Result<(), ReplayError> {
        if sequence + self.packets <= self.highest {
            return Err(ReplayError::Old);
        }
        if !self.seen.insert(sequence) {
            return Err(ReplayError::Repeated);
        }
        self.highest = self.highest.max(sequence);
        Ok(())
    }
}

#[test]
fn state_is_small() {
    assert!(size_of::<TvtWindow>() <= 136);
    assert_eq!((TvtWindow::PACKETS, TunnelWindow::PACKETS), (1024, 8192));
}

#[test]
fn a_window_that_is_off_welcomes_every_number_again_and_again() {
    let mut window = TvtWindow::off();
    for sequence in [5, 1, 5, 5, 70_000, 1, 0, 70_000] {
        let full = window.check(sequence).expect("welcome");
        assert_eq!(full, SeqNo(sequence.into()), "high half 0");
        assert!(window.mark(full));
    }
    assert_eq!(window.highest(), SeqNo(0));
}

/// A script of numbered steps: (sequence number, expected). The window has 8192 packets.
#[test]
fn numbered_replay_script() {
    use ReplayError::{Old, Repeated};
    const W: u64 = TunnelWindow::PACKETS;
    let script = [
        (0, Err(Repeated)), // 1: nobody sends zero
        (1, Ok(())),
        (1, Err(Repeated)), // 3
        (9, Ok(())),
        (8, Ok(())), // 5
        (7, Ok(())),
        (7, Err(Repeated)), // 7
        (W, Ok(())),
        (W - 1, Ok(())), // 9
        (W - 1, Err(Repeated)),
        (2, Ok(())), // 11: still in the window
        (2, Err(Repeated)),
        (W + 16, Ok(())), // 13: 16 and below fall out
        (3, Err(Old)),
        (16, Err(Old)), // 15
        (17, Ok(())),
        (W + 16, Err(Repeated)), // 17
        (W * 4, Ok(())),
        (W * 4 - (W - 1), Ok(())), // 19: the oldest place
        (10, Err(Old)),
        (W * 4 - W, Err(Old)), // 21: one before it
        (W * 4 - (W - 1), Err(Repeated)),
        (W * 4 - (W - 2), Ok(())), // 23
        (W * 4 + 1 - W, Err(Repeated)),
        (0, Err(Old)), // 25: out of the window by now
        (W * 6, Ok(())),
        (u64::MAX, Ok(())), // 27: the end of all numbers
        (u64::MAX, Err(Repeated)),
        (u64::MAX - (W - 1), Ok(())), // 29
        (u64::MAX - W, Err(Old)),
    ];
    let mut window = TunnelWindow::new();
    for (step, (sequence, expected)) in (1..).zip(script) {
        assert_eq!(
            receive(&mut window, sequence),
            expected,
            "step {step}, number {sequence}"
        );
    }
}

#[test]
fn every_number_once_ascending_then_descending() {
    const W: u64 = TvtWindow::PACKETS;
    let mut window = TvtWindow::new();
    for sequence in 1..=W {
        assert_eq!(receive(&mut window, sequence), Ok(()));
    }
    for sequence in 1..=W {
        assert_eq!(receive(&mut window, sequence), Err(ReplayError::Repeated));
    }
    let mut window = TvtWindow::new();
    for sequence in (1..=W).rev() {
        assert_eq!(receive(&mut window, sequence), Ok(()));
    }
    assert_eq!(window.highest(), SeqNo(W));
}

#[test]
fn two_copies_in_one_burst_one_wins() {
    let mut window = TvtWindow::new();
    let first = window.check(5).unwrap();
    let second = window.check(5).unwrap();
    assert!(window.mark(first));
    assert!(!window.mark(second));
}

#[test]
fn a_burst_may_move_the_window_past_its_own_packets() {
    let mut window = TvtWindow::new();
    let old = window.check(5).unwrap();
    let new = window.check(5 + 1024).unwrap();
    assert!(window.mark(new));
    assert!(!window.mark(old));
    assert_eq!(window.check_full(5), Err(ReplayError::Old));
}

#[test]
fn after_a_restart_only_what_lies_above_is_welcome() {
    let mut window = TvtWindow::resume_after(SeqNo(5000));
    assert_eq!(receive(&mut window, 5000), Err(ReplayError::Repeated));
    assert_eq!(receive(&mut window, 4500), Err(ReplayError::Repeated));
    assert_eq!(receive(&mut window, 3000), Err(ReplayError::Old));
    assert_eq!(receive(&mut window, 5003), Ok(()));
    assert_eq!(receive(&mut window, 5001), Ok(()));
    assert_eq!(receive(&mut window, 5000), Err(ReplayError::Repeated));
}

/// RFC 4303 appendix A2.2, the four combinations of its case split.
#[test]
fn high_half_is_inferred() {
    let at = |highest: u64, low: u32| TvtWindow::resume_after(SeqNo(highest)).infer_high(low);
    // Case A: the window lies in one block.
    assert_eq!(at(7 * BLOCK + 5000, 5001), Some(7));
    assert_eq!(at(7 * BLOCK + 5000, 5000 - 1023), Some(7));
    assert_eq!(at(7 * BLOCK + 5000, 5000 - 1024), Some(8));
    // Case B: the window lies across two.
    assert_eq!(at(7 * BLOCK + 5, 6), Some(7));
    assert_eq!(at(7 * BLOCK + 5, u32::MAX), Some(6));
    assert_eq!(at(7 * BLOCK + 5, 6u32.wrapping_sub(1024)), Some(6));
    assert_eq!(at(7 * BLOCK + 5, 5u32.wrapping_sub(1024)), Some(7));
    // The edge between A and B.
    assert_eq!(at(7 * BLOCK + 1023, 0), Some(7));
    assert_eq!(at(7 * BLOCK + 1023, u32::MAX), Some(7));
    // No block before the first, none behind the last.
    assert_eq!(at(5, u32::MAX), None);
    assert_eq!(at(u64::MAX - 1, 0), None);
}

#[test]
fn without_esn_the_numbers_end_at_32_bits() {
    let mut window = TunnelWindow::resume_after(SeqNo(BLOCK - 2));
    let last = window.check_numbered(Numbering::Short, u32::MAX).unwrap();
    assert_eq!(last, SeqNo(BLOCK - 1));
    assert!(window.mark(last));
    assert_eq!(window.check_numbered(Numbering::Short, 1), Err(ReplayError::Old));
    assert_eq!(window.check_numbered(Numbering::Extended, 1), Ok(SeqNo(BLOCK + 1)));
}

/// Where a walk begins: early, or round a multiple of 2^32.
fn start() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        0u64..3000,
        (1u64..5, 0u64..6000).prop_map(|(block, back)| block * BLOCK - back)
    ]
}

/// Steps relative to the highest number: mostly near, sometimes far.
fn steps() -> impl Strategy<Value = Vec<i64>> {
    let near = -80i64..80;
    let window = -1100i64..1100;
    let far = -20_000i64..200_000;
    prop::collection::vec(prop_oneof![4 => near, 3 => window, 1 => far], 1..400)
}

proptest! {
    #[test]
    fn full_numbers_follow_the_model(start in start(), steps in steps()) {
        let mut window = TvtWindow::resume_after(SeqNo(start));
        let mut model = Model::starting_after(start, TvtWindow::PACKETS);
        for step in steps {
            let sequence = model.highest.saturating_add_signed(step);
            prop_assert_eq!(receive(&mut window, sequence), model.receive(sequence), "number {}", sequence);
            prop_assert_eq!(window.highest(), SeqNo(model.highest));
        }
    }

    #[test]
    fn inferred_numbers_follow_the_model(start in start(), steps in steps()) {
        let mut window = TvtWindow::resume_after(SeqNo(start));
        let mut model = Model::starting_after(start, TvtWindow::PACKETS);
        for step in steps {
            let sequence = model.highest.saturating_add_signed(step);
            let checked = window.check(sequence as u32);
            if sequence + TvtWindow::PACKETS <= model.highest {
                // Indistinguishable from the packet 2^32 later; its ICV will fail, so it is not marked.
                prop_assert_eq!(checked, Ok(SeqNo(sequence + BLOCK)));
                continue;
            }
            match model.receive(sequence) {
                Ok(()) => {
                    prop_assert_eq!(checked, Ok(SeqNo(sequence)));
                    prop_assert!(window.mark(SeqNo(sequence)));
                }
                Err(error) => prop_assert_eq!(checked, Err(error)),
            }
        }
    }
}
