//! A node at work: what it adds to a packet's way at half load, and what it loses while AIVTs come and go.

use ain_controlplane::action::{Link, Route};
use ain_controlplane::sa::Generation;
use ain_dataplane::entry::Activity;
use ain_dataplane::id::{AivtId, PeerId, Spi};
use anyhow::{Context, ensure};

use super::Run;
use crate::backend::Fresh;
use crate::live::{Control, Live, Passed};
use crate::machine::Steal;
use crate::memory::{Memories, Memory};
use crate::role::{Case, Half, Scene, hop_keys};
use crate::site::FIRST_TVT_SPI;

/// AIVTs that come, and as many that go, in a second of churn.
const CHURN: u64 = 10_000;
/// Load under churn, of what the node carries at most.
const CHURN_LOAD: f64 = 0.7;
/// Chunks left out as disturbed from outside: the worst tenth, with churn and without alike.
const DISTURBED: usize = 10;

/// Measures and adds `latency.*` and `churn.*`.
///
/// # Errors
/// When the node cannot be started, or loses all.
pub fn run<C: Fresh, P: Memories>(run: &mut Run<'_, P>, latency: bool, churn: bool) -> anyhow::Result<()> {
    let Some(core) = run.other_core else {
        println!("\nlatency and churn: skipped, there is one core");
        return Ok(());
    };
    let case = Case {
        aivts: run.scale.pick(10, 1000, 1000),
        chunk: run.scale.pick(256, 8192, 8192),
        ..Case::HEADLINE
    };
    let room = Case {
        // Entries of AIVTs that come; slots of those that go are free again.
        aivts: case.aivts + run.scale.pick(64, 4000, 4000),
        ..case
    };
    let buffers = (2 * case.chunk + 4096).next_power_of_two() - 1;
    let pools = [(); 2].map(|()| run.memories.pool(buffers, case.longest_frame()));
    let [scene_pool, worker_pool] = pools;
    let scene = Scene::<C, P::Pool>::with_room(case, room.aivts, scene_pool?)?;
    let mut live = Live::start(scene, worker_pool?, run.memories.seat(), core)?;
    let ceiling = ceiling(&mut live, run)?;
    println!(
        "\na node beside its wire: {:.3} Mpps at most",
        run.clock.hz() / ceiling / 1e6
    );
    run.summary.put("latency.ceiling.mpps", run.clock.hz() / ceiling / 1e6);
    if latency {
        half_load(&mut live, run, 2.0 * ceiling)?;
    }
    if churn {
        come_and_go(&mut live, run, ceiling / CHURN_LOAD)?;
    }
    live.end()
}

/// Ticks a packet at full speed: the best of a few chunks.
fn ceiling<C: Fresh, P: Memories>(live: &mut Live<C, P::Pool>, run: &Run<'_, P>) -> anyhow::Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..run.scale.pick(1, 30, 60) {
        let chunk = live.make()?;
        let passed = live.pass(chunk, 0, &run.clock, |_, _| (), |_| ());
        best = best.min(passed.ticks as f64 / passed.received as f64);
    }
    ensure!(best.is_finite(), "the node sent nothing back");
    Ok(best)
}

fn half_load<C: Fresh, P: Memories>(
    live: &mut Live<C, P::Pool>,
    run: &mut Run<'_, P>,
    interval: f64,
) -> anyhow::Result<()> {
    let steal = Steal::begin();
    let chunks = run.scale.pick(1, 60, 300);
    let mut ticks = vec![1; chunks * live.scene.case.chunk];
    ticks.clear();
    for _ in 0..chunks {
        let chunk = live.make()?;
        live.pass(chunk, interval as u64, &run.clock, |_, _| (), |t| ticks.push(t));
    }
    let left_out = 100.0 * (1.0 - ticks.len() as f64 / (chunks * live.scene.case.chunk) as f64);
    let stolen = steal.percent();
    ticks.sort_unstable();
    let us = 1e6 / run.clock.hz();
    print!("latency at half load, us:");
    // No figure where every packet is left out.
    if let Some(last) = ticks.len().checked_sub(1) {
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)] {
            let value = ticks[(quantile * last as f64) as usize] as f64 * us;
            print!("  {name} {value:.2}");
            run.summary.put(&format!("latency.half_load.{name}_us"), value);
        }
    }
    println!("  (steal {stolen:.2} %; {left_out:.1} % of packets left out: lost, or the wire itself was held up)");
    run.summary.put("latency.half_load.left_out_percent", left_out);
    run.summary.put("latency.half_load.steal_percent", stolen);
    Ok(())
}

/// AIVTs in the order they came.
struct Churn {
    next: u32,
    oldest: u32,
}

impl Churn {
    /// A new AIVT comes, and beyond `standing` the oldest goes.
    fn step<C: Fresh, M: Memory>(&mut self, control: &mut Control<'_, C, M>, standing: u32) -> anyhow::Result<()> {
        let id = |number: u32| AivtId(u64::from(number));
        let (up, down) = Half::of(self.next, true).sides();
        let spi = Spi::new(FIRST_TVT_SPI + self.next).context("a reserved SPI")?;
        let link = |peer: PeerId| Link { peer, spi }.under(Generation::HAND_MADE);
        let route = Route::Intermediate {
            upstream: link(up),
            downstream: link(down),
            keys: hop_keys(self.next, 0),
        };
        let site = &mut control.scene.site;
        site.writer.install(id(self.next), route, &Activity::at(site.now()))?;
        self.next += 1;
        if self.next - self.oldest > standing {
            let now = site.now();
            site.writer.remove(now, id(self.oldest));
            self.oldest += 1;
        }
        Ok(())
    }
}

fn come_and_go<C: Fresh, P: Memories>(
    live: &mut Live<C, P::Pool>,
    run: &mut Run<'_, P>,
    interval: f64,
) -> anyhow::Result<()> {
    let each = (run.clock.hz() / CHURN as f64) as u64;
    let standing = run.scale.pick(8, 1000, 1000);
    let first = live.scene.case.aivts;
    let mut churn = Churn {
        next: first,
        oldest: first,
    };
    let (mut quiet, mut churned): (Vec<Passed>, Vec<Passed>) = (Vec::new(), Vec::new());
    let mut failed = Ok(());
    for turn in 0..run.scale.pick(2, 120, 600) {
        let chunk = live.make()?;
        let coming = turn % 2 == 1;
        let mut next: Option<u64> = None;
        let aside = |control: &mut Control<'_, C, P::Pool>, now: u64| {
            let due = next.get_or_insert(now);
            if coming && now >= *due && failed.is_ok() {
                *due += each;
                failed = churn.step(control, standing);
            }
            control.pump();
        };
        let passed = live.pass(chunk, interval as u64, &run.clock, aside, |_| ());
        if coming {
            churned.push(passed)
        } else {
            quiet.push(passed)
        }
    }
    failed?;
    let seconds = churned.iter().map(|p| p.ticks).sum::<u64>() as f64 / run.clock.hz();
    let rate = f64::from(churn.next - first) / seconds;
    for (name, passed) in [("churn.0", &quiet), ("churn.10k", &churned)] {
        let (all, undisturbed) = (loss(passed), loss(&best(passed)));
        println!(
            "{name:<12} loss {:.4} %, {:.4} % without the worst tenth",
            100.0 * all,
            100.0 * undisturbed
        );
        run.summary.put(&format!("{name}.loss_all"), all);
        run.summary.put(&format!("{name}.loss"), undisturbed);
    }
    println!(
        "churn.10k    {rate:.0} AIVTs a second came, as many went, at {:.0} % load",
        100.0 * CHURN_LOAD
    );
    run.summary.put("churn.10k.per_second", rate);
    run.summary
        .put("churn.10k.loss_added", loss(&best(&churned)) - loss(&best(&quiet)));
    Ok(())
}

fn best(passed: &[Passed]) -> Vec<Passed> {
    let mut sorted = passed.to_vec();
    sorted.sort_by(|a, b| a.loss().total_cmp(&b.loss()));
    sorted.truncate(passed.len() - passed.len() / DISTURBED);
    sorted
}

fn loss(passed: &[Passed]) -> f64 {
    let sum = |of: fn(&Passed) -> u64| passed.iter().map(of).sum::<u64>() as f64;
    1.0 - sum(|p| p.received) / sum(|p| p.offered)
}
