//! AIVTs created a second at one intermediate AIN, on one core, by suite.

use ain_controlplane::signal::suite::{RSA_2048, RSA_3072, Suite, X_WING, X25519};

use super::Run;
use crate::backend::Fresh;
use crate::control::Control;
use crate::memory::Memories;
use crate::stats::Spread;

/// Creations of a turn.
const ROUND: u32 = 512;
/// The same in suites that take long.
const SLOW_ROUND: u32 = 64;

/// Measures and adds `create.*`.
///
/// # Errors
/// When a creation fails.
pub fn run<C: Fresh, P: Memories>(run: &mut Run<'_, P>) -> anyhow::Result<()> {
    println!(
        "\n{:<24} {:>12} {:>14}",
        "creations, one core", "a second", "cycles each"
    );
    for suite in [&X25519, &RSA_2048, &RSA_3072, &X_WING] {
        of_suite::<C, P>(run, suite)?;
    }
    Ok(())
}

fn of_suite<C: Fresh, P: Memories>(run: &mut Run<'_, P>, suite: &Suite) -> anyhow::Result<()> {
    let (rounds, round) = if suite == &X25519 {
        (run.scale.pick(1, 16, 64), run.scale.pick(16, ROUND, ROUND))
    } else {
        (run.scale.pick(1, 4, 16), run.scale.pick(16, SLOW_ROUND, SLOW_ROUND))
    };
    let pool = run.memories.pool(4095, Control::<C, P::Pool>::longest_frame())?;
    let mut control = Control::<C, P::Pool>::new(suite.id, rounds * round, pool)?;
    let cycles = (0..rounds).map(|_| control.create(round, &run.clock));
    let cycles: Vec<u64> = cycles.collect::<Result<_, _>>()?;
    let each = Spread::of(cycles.into_iter().map(|c| c as f64 / f64::from(round)).collect());
    let per_second = run.clock.hz() / each.median;
    println!("{:<24} {per_second:>12.0} {:>14.0}", suite.name, each.median);
    let name = suite.name.replace('-', "_");
    run.summary.put(&format!("create.{name}.per_second"), per_second);
    run.summary.put(&format!("create.{name}.cycles"), each.median);
    Ok(())
}
