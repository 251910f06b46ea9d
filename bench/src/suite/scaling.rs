//! One worker against two on disjoint AIVTs, beside what the bare primitives gain from the second core.
//!
//! ```text
//!   a turn:   path alone, path on both cores, primitives alone, primitives on both cores
//! ```
//! Each worker has an engine, packets and keys of its own; packets are made before both start at one moment.

use std::cell::Cell;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::ensure;

use super::Run;
use crate::backend::Fresh;
use crate::clock::Clock;
use crate::memory::{Memories, Memory, Seat};
use crate::role::{Case, Measured};
use crate::stats::Spread;
use crate::turns::Contest;

/// What both workers do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    PathAlone,
    PathBoth,
    FloorAlone,
    FloorBoth,
    End,
}

impl Step {
    const TURN: [Self; 4] = [Self::PathAlone, Self::PathBoth, Self::FloorAlone, Self::FloorBoth];
    const ALL: [Self; 5] = [
        Self::PathAlone,
        Self::PathBoth,
        Self::FloorAlone,
        Self::FloorBoth,
        Self::End,
    ];

    fn both(self) -> bool {
        matches!(self, Self::PathBoth | Self::FloorBoth)
    }
}

/// What the two threads share.
struct Stage {
    step: AtomicUsize,
    barrier: Barrier,
    /// Threads that have their packets ready, counted over all turns.
    ready: AtomicUsize,
    /// Cycles of the second worker's last step, `u64::MAX` if it failed.
    second: AtomicU64,
}

/// Measures and adds `scaling.*`.
///
/// # Errors
/// When packets get lost, or a core is not to be had.
pub fn run<C: Fresh, P: Memories>(run: &mut Run<'_, P>, turns: usize) -> anyhow::Result<()> {
    let Some(other) = run.other_core else {
        println!("\nscaling: skipped, there is one core");
        return Ok(());
    };
    let case = Case {
        aivts: run.scale.pick(10, 1000, 1000),
        chunk: run.scale.pick(64, 4096, 4096),
        ..Case::HEADLINE
    };
    let buffers = (4 * case.chunk + 1024).next_power_of_two() - 1;
    let contest = |run: &mut Run<'_, P>| -> anyhow::Result<_> {
        let pool = run.memories.pool(buffers, case.longest_frame())?;
        Measured::<C, P::Pool>::new(case, pool)
    };
    let (mut first, second) = (contest(run)?, contest(run)?);
    let stage = Stage {
        step: AtomicUsize::new(0),
        barrier: Barrier::new(2),
        ready: AtomicUsize::new(0),
        second: AtomicU64::new(0),
    };
    let (seat, clock) = (run.memories.seat(), &run.clock);
    let rates = std::thread::scope(|scope| {
        let helper = scope.spawn(|| assist(second, &stage, clock, &seat, other));
        let rates = direct(&mut first, &stage, clock, turns);
        stage.announce(Step::End);
        helper
            .join()
            .map_err(|_| anyhow::anyhow!("the second worker panicked"))??;
        rates
    })?;
    report(run, &rates);
    Ok(())
}

impl Stage {
    fn announce(&self, step: Step) {
        self.step.store(step as usize, Ordering::Release);
        self.barrier.wait();
    }

    /// Waits until both workers stand here.
    fn start_together(&self) {
        let mine = self.ready.fetch_add(1, Ordering::AcqRel);
        let wanted = (mine / 2 + 1) * 2;
        while self.ready.load(Ordering::Acquire) < wanted {
            std::hint::spin_loop();
        }
    }

    fn go<T: Contest>(&self, contest: &mut T, clock: &Clock, step: Step) -> anyhow::Result<u64> {
        let stood = Cell::new(!step.both());
        let go = || {
            if !stood.replace(true) {
                self.start_together();
            }
        };
        let cycles = match step {
            Step::PathAlone | Step::PathBoth => contest.path(clock, go),
            Step::FloorAlone | Step::FloorBoth => contest.floor(clock, false, go),
            Step::End => Ok(0),
        };
        if !stood.get() {
            // It failed before its start: the other one must not wait.
            self.ready.fetch_add(1, Ordering::AcqRel);
        }
        cycles
    }
}

/// The second worker.
fn assist<C: Fresh, M: Memory>(
    mut contest: Measured<C, M>,
    stage: &Stage,
    clock: &Clock,
    seat: &Seat,
    core: usize,
) -> anyhow::Result<()> {
    let seated = seat.take("ain-bench-2", core);
    loop {
        stage.barrier.wait();
        let step = Step::ALL[stage.step.load(Ordering::Acquire)];
        if step == Step::End {
            break;
        }
        if step.both() {
            let cycles = stage.go(&mut contest, clock, step).unwrap_or(u64::MAX);
            stage.second.store(cycles, Ordering::Release);
        }
        stage.barrier.wait();
    }
    drop(contest);
    seated.map(|_| ())
}

/// The first worker, which says what comes next. Packets a cycle of both together, by step.
fn direct<T: Contest>(contest: &mut T, stage: &Stage, clock: &Clock, turns: usize) -> anyhow::Result<[Spread; 4]> {
    let packets = contest.packets() as f64;
    let mut rates: [Vec<f64>; 4] = Default::default();
    for turn in 0..=turns {
        for (step, rates) in Step::TURN.into_iter().zip(&mut rates) {
            stage.announce(step);
            let cycles = stage.go(contest, clock, step);
            stage.barrier.wait();
            let mut rate = packets / cycles? as f64;
            if step.both() {
                let second = stage.second.load(Ordering::Acquire);
                ensure!(second != u64::MAX, "the second worker lost packets");
                rate += packets / second as f64;
            }
            if turn > 0 {
                rates.push(rate);
            }
        }
    }
    Ok(rates.map(Spread::of))
}

fn report<P: Memories>(run: &mut Run<'_, P>, rates: &[Spread; 4]) {
    let [path_1, path_2, floor_1, floor_2] = rates.map(|rate| rate.median * run.clock.hz() / 1e6);
    let (path, floor) = (path_2 / path_1, floor_2 / floor_1);
    println!("\n{:<24} {:>10} {:>10} {:>8}", "Mpps by workers", "1", "2", "gain");
    println!("{:<24} {path_1:>10.3} {path_2:>10.3} {path:>8.3}", "packet path");
    println!("{:<24} {floor_1:>10.3} {floor_2:>10.3} {floor:>8.3}", "bare primitives");
    let summary = &mut run.summary;
    summary.put("scaling.workers1.mpps", path_1);
    summary.put("scaling.workers2.mpps", path_2);
    summary.put("scaling.workers2.ratio", path);
    summary.put("scaling.primitives2.ratio", floor);
    summary.put("scaling.workers2.ratio_to_primitives", path / floor);
}
