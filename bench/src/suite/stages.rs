//! Where an intermediate AIN's cycles go, stage by stage, on the stages' own public functions.

use std::sync::Arc;

use ain_controlplane::action::{Link, Route};
use ain_controlplane::sa::Generation;
use ain_controlplane::table_writer::{TableWriter, Workers};
use ain_crypto::Backend;
use ain_dataplane::command::Command;
use ain_dataplane::count::Counters;
use ain_dataplane::engine::Capacity;
use ain_dataplane::entry::{Activity, Tvt};
use ain_dataplane::id::{AivtId, Now, PeerId, PortId, WorkerId};
use ain_dataplane::key::Keys;
use ain_dataplane::limits::KEY_SLOTS;
use ain_dataplane::packet::BufPool;
use ain_dataplane::slab::Slab;
use ain_dataplane::stage::classify::{Sorter, Source};
use ain_dataplane::stage::forward::forward;
use ain_dataplane::stage::layer::peel;
use ain_dataplane::stage::sign::sign;
use ain_dataplane::stage::verify::verify;
use ain_dataplane::stage::{Lane, Outgoing, Received};
use ain_dataplane::table::{Reader, flow_table};
use anyhow::ensure;

use super::Run;
use crate::backend::Fresh;
use crate::memory::{Memories, Memory};
use crate::role::{Case, Half, SIDE, Scene, hop_keys, shape};
use crate::site::{Shape, add_tunnel, tunnel};
use crate::stats::Spread;

const STAGES: [&str; 5] = ["classify", "verify", "peel", "forward", "sign"];

/// What the stages work on: the entries that the table writer sends to a worker.
struct Held<C: Backend> {
    keys: Keys<C>,
    tvts: Slab<Tvt<C>>,
    table: Reader,
    done: u64,
}

impl<C: Fresh> Held<C> {
    /// All AIVTs of a case.
    fn new<B>(case: &Case, shape: &Shape) -> anyhow::Result<Self> {
        let capacity = Capacity {
            tvts: 2 * case.aivts,
            tunnels: u32::from(2 * SIDE),
            flows: 0,
        };
        let (writer, table) = flow_table((capacity.tvts + capacity.tunnels) as usize, [5, 7]);
        let mut writer = TableWriter::<C, B>::new(writer, 1, capacity);
        let mut held = Self {
            keys: Keys::new(KEY_SLOTS),
            tvts: Slab::new(capacity.tvts as usize),
            table,
            done: 0,
        };
        for peer in 0..2 * SIDE {
            add_tunnel(&mut writer, &tunnel(shape, PeerId(peer)))?;
        }
        for aivt in 0..case.aivts {
            let half = Half::of(aivt, true);
            let link = |peer| Link { peer, spi: half.spi() }.under(Generation::HAND_MADE);
            let route = Route::Intermediate {
                upstream: link(half.sides().0),
                downstream: link(half.sides().1),
                keys: hop_keys(aivt, 0),
            };
            writer.install(AivtId(u64::from(aivt)), route, &Arc::new(Activity::default()))?;
        }
        writer.pump(&mut held);
        Ok(held)
    }
}

impl<C: Backend, B> Workers<C, B> for Held<C> {
    fn send(&mut self, _to: WorkerId, command: Command<C, B>) -> Result<(), Command<C, B>> {
        match command {
            Command::Key { slot, key, iv } => drop(self.keys.put(slot, key, iv)),
            Command::Tvt(slot, tvt) => drop(self.tvts.put(slot, tvt)),
            // Tunnels carry no cells.
            _ => {}
        }
        self.done += 1;
        Ok(())
    }

    fn done(&self, _worker: WorkerId) -> u64 {
        self.done
    }
}

/// Measures and adds `stages.*`.
///
/// # Errors
/// When packets get lost.
pub fn run<C: Fresh, P: Memories>(run: &mut Run<'_, P>, turns: usize) -> anyhow::Result<()> {
    let case = Case {
        aivts: run.scale.pick(10, 1000, 1000),
        chunk: run.scale.pick(64, 4096, 4096),
        ..Case::HEADLINE
    };
    let buffers = (2 * case.chunk + 1024).next_power_of_two() - 1;
    let pool = run.memories.pool(buffers, case.longest_frame())?;
    let mut scene = Scene::<C, P::Pool>::new(case, pool)?;
    let mut held = Held::<C>::new::<<P::Pool as BufPool>::Buf>(&case, &shape(&case, case.aivts))?;
    let mut cycles: [Vec<f64>; STAGES.len()] = Default::default();
    for turn in 0..=turns {
        let spent = chunk(&mut scene, &mut held, run)?;
        for (cycles, spent) in cycles.iter_mut().zip(spent).filter(|_| turn > 0) {
            cycles.push(spent as f64 / case.chunk as f64);
        }
    }
    println!(
        "\n{:<24} {:>8} {:>8} {:>6}",
        "intermediate, by stage", "cycles", "min", "iqr%"
    );
    for (name, cycles) in STAGES.iter().zip(cycles) {
        let spread = Spread::of(cycles);
        println!(
            "{name:<24} {:>8.0} {:>8.0} {:>6.1}",
            spread.median,
            spread.min,
            spread.iqr_percent()
        );
        run.summary.put(&format!("stages.{name}.cycles"), spread.median);
    }
    Ok(())
}

/// Cycles of each stage for a fresh chunk.
fn chunk<C: Fresh, M: Memory, P: Memories>(
    scene: &mut Scene<C, M>,
    held: &mut Held<C>,
    run: &Run<'_, P>,
) -> anyhow::Result<[u64; STAGES.len()]> {
    let case = scene.case;
    let halves: Vec<Half> = (0..case.chunk).map(|_| scene.draw()).collect();
    let mut frames: Vec<M::Buf> = Vec::with_capacity(case.chunk);
    scene.make(&halves, &mut frames)?;
    let before = scene.site.io.sent;
    let (site, clock) = (&mut scene.site, &run.clock);
    let (mut crypto, counters, now) = (C::fresh(), Counters::default(), Now(Now::SECOND));
    let mut spent = [0; STAGES.len()];
    let mut frames = frames.into_iter();
    loop {
        let mut burst: Lane<M::Buf> = frames.by_ref().take(case.burst).collect();
        if burst.is_empty() {
            break;
        }
        let mut tvts: Lane<Received<M::Buf>> = Lane::new();
        let mut tunnels: Lane<Received<M::Buf>> = Lane::new();
        let mut onward: Lane<Outgoing<M::Buf>> = Lane::new();
        let mut at = clock.ticks();
        let mut lap = |stage: usize| {
            let now = clock.ticks();
            spent[stage] += now - std::mem::replace(&mut at, now);
        };
        let sorter = Sorter {
            me: WorkerId(0),
            table: &held.table,
            peers: &site.peers,
            counters: &counters,
            keeps_strays: false,
        };
        let mut strays = Lane::new();
        sorter.classify::<C, _>(
            Source::Wire(PortId(0)),
            &mut burst,
            &mut tvts,
            &mut tunnels,
            &mut strays,
            &mut site.io,
        );
        lap(0);
        verify(&mut crypto, &held.keys, &mut held.tvts, &counters, &mut tvts);
        lap(1);
        peel(&mut crypto, &held.tvts, &counters, case.profile.cell_len(), &mut tvts);
        lap(2);
        forward(now, &mut held.tvts, &counters, &mut tvts, &mut onward);
        lap(3);
        sign(
            &mut crypto,
            &mut held.keys,
            &site.peers,
            &counters,
            &mut onward,
            &mut site.io,
        );
        lap(4);
    }
    site.io.flush();
    let sent = site.io.sent - before;
    ensure!(sent == case.chunk as u64, "{sent} of {} packets came out", case.chunk);
    Ok(spent)
}
