//! AIVTs created a second at one intermediate AIN, on one core, by suite.

use super::Run;
use crate::backend::Fresh;
use crate::control::Control;
use crate::memory::Memories;
use crate::stats::Spread;

/// Creations of a turn.
const ROUND: u32 = 512;

/// Measures and adds `create.*`.
///
/// # Errors
/// When a creation fails.
pub fn run<C: Fresh, P: Memories>(run: &mut Run<'_, P>) -> anyhow::Result<()> {
    let rounds = run.scale.pick(1, 16, 64);
    let round = run.scale.pick(16, ROUND, ROUND);
    let pool = run.memories.pool(4095, Control::<C, P::Pool>::longest_frame())?;
    let mut control = Control::<C, P::Pool>::new(rounds * round, pool)?;
    let cycles = (0..rounds).map(|_| control.create(round, &run.clock));
    let cycles: Vec<u64> = cycles.collect::<Result<_, _>>()?;
    let each = Spread::of(cycles.into_iter().map(|c| c as f64 / f64::from(round)).collect());
    let per_second = run.clock.hz() / each.median;
    println!(
        "\n{:<24} {:>12} {:>14}",
        "creations, one core", "a second", "cycles each"
    );
    println!("{:<24} {per_second:>12.0} {:>14.0}", "X25519", each.median);
    run.summary.put("create.x25519.per_second", per_second);
    run.summary.put("create.x25519.cycles", each.median);
    Ok(())
}
