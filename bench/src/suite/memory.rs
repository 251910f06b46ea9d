//! Bytes of memory an AIVT at an intermediate AIN, itemised.
//!
//! What a process holds (resident memory and hugepages) is read before and after nodes of two sizes fill up, each in a process of
//! its own; the difference between the sizes, divided, leaves out all that is there once.
//!
//! ```text
//!   tables         slots and the flow table, made for a number of AIVTs
//!   entries        both TVTs with their key schedules, and the table writer's note
//!   control node   the AIVT's state, its signals' memory, timers, replay tags
//! ```

use std::process::Command;

use ain_controlplane::action::{Link, Route};
use ain_controlplane::sa::Generation;
use ain_controlplane::signal::suite::X25519;
use ain_dataplane::id::{AivtId, PeerId, Spi};
use anyhow::{Context, ensure};

use super::{Run, Scale};
use crate::backend::Fresh;
use crate::clock::Clock;
use crate::control::Control;
use crate::memory::{Memories, Ordinary};
use crate::role::{Half, hop_keys};
use crate::site::FIRST_TVT_SPI;

/// Bytes that this process holds: resident memory and hugepages.
///
/// # Errors
/// Where there is no `/proc`.
fn held() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let kilobytes = |field: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    Ok(1024 * (kilobytes("VmRSS:") + kilobytes("HugetlbPages:")))
}

/// The measured process: prints what a node holds empty and with `aivts` AIVTs, made with (`node`) or without its control node.
///
/// # Errors
/// When a creation fails.
pub fn fill<C: Fresh>(aivts: u32, node: bool) -> anyhow::Result<()> {
    const ROUND: u32 = 500;
    type Pool = <Ordinary as Memories>::Pool;
    let pool = Ordinary::default().pool(4096, Control::<C, Pool>::longest_frame())?;
    let before = held()?;
    let mut control = Control::<C, Pool>::new(X25519.id, aivts, pool)?;
    let empty = held()?;
    let clock = Clock::new();
    for round in 0..aivts / ROUND {
        if node {
            control.create(ROUND, &clock)?;
        } else {
            (round * ROUND..(round + 1) * ROUND).try_for_each(|aivt| install(&mut control, aivt))?;
        }
    }
    println!("{} {}", empty - before, held()? - empty);
    Ok(())
}

fn install<C: Fresh>(control: &mut Control<C, <Ordinary as Memories>::Pool>, aivt: u32) -> anyhow::Result<()> {
    let (up, down) = Half::of(aivt, true).sides();
    let spi = Spi::new(FIRST_TVT_SPI + aivt).context("a reserved SPI")?;
    let link = |peer: PeerId| Link { peer, spi }.under(Generation::HAND_MADE);
    let route = Route::Intermediate {
        upstream: link(up),
        downstream: link(down),
        keys: hop_keys(aivt, 0),
    };
    control.site.install(AivtId(u64::from(aivt)), route)?;
    Ok(())
}

/// Bytes held empty, and more when full.
fn child(aivts: u32, node: bool) -> anyhow::Result<[f64; 2]> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["fill", "--aivts", &aivts.to_string()]);
    if !node {
        command.arg("--no-node");
    }
    let output = command.output().context("starting a process to fill")?;
    ensure!(
        output.status.success(),
        "the process to fill failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().context("too few figures")?.context("no figure");
    Ok([next()?, next()?])
}

/// Measures and adds `memory.*`.
///
/// # Errors
/// When a process cannot be started, or fails.
pub fn run<C: Fresh, P: Memories>(run: &mut Run<'_, P>) -> anyhow::Result<()> {
    let (few, many) = match run.scale {
        Scale::Smoke => (500, 1000),
        Scale::Quick => (2000, 22_000),
        Scale::Full => (10_000, 110_000),
    };
    let slope = |node| -> anyhow::Result<[f64; 2]> {
        let (few_held, many_held) = (child(few, node)?, child(many, node)?);
        let each = |at: usize| (many_held[at] - few_held[at]) / f64::from(many - few);
        Ok([each(0), each(1)])
    };
    let ([tables, entries], [_, all]) = (slope(false)?, slope(true)?);
    let keys = 2 * size_of::<C::LayerKey>();
    let lines = [
        ("tables", tables),
        ("entries", entries),
        ("control_node", all - entries),
        ("aivt", tables + all),
        ("layer_keys", keys as f64),
    ];
    println!("\nbytes an AIVT at an intermediate AIN");
    for (name, bytes) in lines {
        println!(
            "  {name:<22} {bytes:>8.0}{}",
            if name == "layer_keys" {
                "  (part of entries)"
            } else {
                ""
            }
        );
        run.summary.put(&format!("memory.{name}_bytes"), bytes);
    }
    Ok(())
}
