//! Others' setups and data beside a neighbour that floods CREATEs, and the same run without it.

use ain_controlplane::signal::suite::X25519;

use super::Run;
use crate::backend::Fresh;
use crate::control::Control;
use crate::control::flood::{Flood, Load, Outcome};
use crate::memory::Memories;

/// CREATEs a millisecond of the neighbour that floods: 100 000 a second.
const FLOOD: u32 = 100;
/// Good CREATEs a millisecond of all others.
const OTHERS: u32 = 3;
/// Cells a millisecond.
const CELLS: u32 = 300;
/// AIVTs that there is room for.
const ROOM: u32 = 1 << 15;

/// Measures and adds `flood.*`.
///
/// # Errors
/// When a run fails.
pub fn run<C: Fresh, P: Memories>(run: &mut Run<'_, P>) -> anyhow::Result<()> {
    let ms = run.scale.pick(20, 500, 3000);
    println!(
        "\n{:<34} {:>9} {:>9} {:>7} {:>7} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "CREATEs a second of one neighbour",
        "others/s",
        "made/s",
        "p50 ms",
        "max ms",
        "cell loss",
        "worker",
        "control",
        "opener",
        "waiting"
    );
    let without = one::<C, P>(run, 0, ms)?;
    let with = one::<C, P>(run, FLOOD, ms)?;
    let made = |outcome: &Outcome| outcome.answered_ms.len() as f64 / outcome.asked as f64;
    let loss = |outcome: &Outcome| outcome.cells_lost as f64 / outcome.cells as f64;
    run.summary.put("flood.setups_made", made(&with) / made(&without));
    run.summary.put("flood.loss_added", loss(&with) - loss(&without));
    Ok(())
}

fn one<C: Fresh, P: Memories>(run: &mut Run<'_, P>, flood: u32, ms: u64) -> anyhow::Result<Outcome> {
    let pool = run.memories.pool(8191, Control::<C, P::Pool>::longest_frame())?;
    let mut control = Control::<C, P::Pool>::new(X25519.id, ROOM, pool)?;
    let load = Load {
        flood,
        others: OTHERS,
        cells: CELLS,
    };
    let mut outcome = Flood::new(&mut control, &run.clock)?.run(load, ms)?;
    outcome.answered_ms.sort_unstable();
    let times = &outcome.answered_ms;
    let per_second = |count: u64| count as f64 * 1000.0 / ms as f64;
    let [worker, control, opener] = outcome.busy.map(|busy| 100.0 * busy);
    println!(
        "{:<34} {:>9.0} {:>9.0} {:>7} {:>7} {:>8.3}% {worker:>7.1}% {control:>7.1}% {opener:>7.1}% {:>8}",
        flood * 1000,
        per_second(outcome.asked),
        per_second(times.len() as u64),
        times.get(times.len() / 2).copied().unwrap_or_default(),
        times.last().copied().unwrap_or_default(),
        100.0 * outcome.cells_lost as f64 / outcome.cells as f64,
        outcome.waiting,
    );
    Ok(outcome)
}
