//! A worker on its own core, polling as on a node, and this thread as the wire on both of its sides and as its control thread.
//!
//! ```text
//!   this core                     the worker's core
//!     chunk made beforehand
//!     wire ── ring ──►  Worker::run: rx ► engine ► tx ──► ring ── wire
//!     control ── commands, events ──┘
//! ```
//! Packets of a chunk leave at their times, not when the last one is back: what finds the ring full is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ain_controlplane::table_writer::Workers;
use ain_crypto::Backend;
use ain_dataplane::command::Command;
use ain_dataplane::handoff::Mesh;
use ain_dataplane::id::WorkerId;
use ain_dataplane::peers::Peers;
use ain_dataplane::publish::{Publisher, published};
use ain_worker::idle::IdlePolicy;
use ain_worker::mem::{MemPort, pair};
use ain_worker::port::{Burst, Port};
use ain_worker::run::{Clock as WorkerClock, Reins, Worker, reins};
use anyhow::Context;

use crate::backend::Fresh;
use crate::clock::Clock;
use crate::memory::{Memory, Seat};
use crate::role::{Half, Scene};

/// Packets that wait between wire and worker: a port's receive queue.
pub const RING: usize = 1024;
/// How long the last packets of a chunk may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// A round of this thread that takes longer was interrupted: the wire, not the node, held packets up.
const HELD_UP: Duration = Duration::from_micros(5);
/// Packets that the wire moves at once.
const WIRE_BURST: usize = 32;

/// A running node.
pub struct Live<C: Fresh, M: Memory> {
    /// The node without its engine, which the worker has.
    pub scene: Scene<C, M>,
    wire: MemPort<M::Buf>,
    reins: Reins<C, M::Buf>,
    /// Commands carried out before the worker began.
    done_before: u64,
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<anyhow::Result<()>>>,
    _peers: Publisher<Peers>,
}

/// What became of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Passed {
    /// Packets offered.
    pub offered: u64,
    /// Packets that came back.
    pub received: u64,
    /// Ticks from first to last.
    pub ticks: u64,
}

impl Passed {
    /// Share of the offered packets that did not come back.
    pub fn loss(&self) -> f64 {
        1.0 - self.received as f64 / self.offered as f64
    }
}

impl<C: Fresh, M: Memory> Live<C, M> {
    /// Gives the scene's engine to a worker on `core`, which takes empty buffers from `pool`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(mut scene: Scene<C, M>, pool: M, seat: Seat, core: usize) -> anyhow::Result<Self> {
        let (wire, port) = pair(RING);
        let (reins, bit) = reins();
        let (publisher, mut readers) = published(scene.site.peers.clone(), 1);
        let done_before = scene.site.done();
        let worker = Worker {
            engine: scene.site.take_engine(),
            ports: vec![Box::new(port)],
            device: None,
            kernel: Vec::new(),
            pool,
            peers: readers.pop().context("a reader for one worker")?,
            bit,
            mesh: Mesh::new(1, 1).into_ends().pop().context("an end for one worker")?,
            control: thread::current(),
            idle: IdlePolicy::Spin,
            clock: WorkerClock::start(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (seated, in_place) = channel();
        let run = move || -> anyhow::Result<()> {
            let _seated = seat.take("ain-bench-node", core)?;
            // Until here it shares the core of whoever started it, who must not poll yet.
            let _ = seated.send(());
            worker.run(&stopped);
            Ok(())
        };
        let worker = thread::Builder::new().spawn(run)?;
        // An error of the worker's is what `end` returns.
        let _ = in_place.recv();
        Ok(Self {
            scene,
            wire,
            reins,
            done_before,
            stop,
            worker: Some(worker),
            _peers: publisher,
        })
    }

    /// Makes a chunk of packets of AIVTs drawn at random.
    ///
    /// # Errors
    /// When buffers run out.
    pub fn make(&mut self) -> anyhow::Result<Vec<M::Buf>> {
        let halves: Vec<Half> = (0..self.scene.case.chunk).map(|_| self.scene.draw()).collect();
        let mut chunk = Vec::with_capacity(halves.len());
        self.scene.make(&halves, &mut chunk)?;
        Ok(chunk)
    }

    /// Sends a chunk, one packet each `interval` ticks, or as fast as the node goes at 0. `aside` is called in every round with this
    /// node's control side; `arrived` gets the ticks that a packet was on its way, unless one was lost before it, or this thread was
    /// held up while it was on its way or due: then they say nothing of the node.
    pub fn pass(
        &mut self,
        chunk: Vec<M::Buf>,
        interval: u64,
        clock: &Clock,
        mut aside: impl FnMut(&mut Control<'_, C, M>, u64),
        mut arrived: impl FnMut(u64),
    ) -> Passed {
        let held_up = (HELD_UP.as_secs_f64() * clock.hz()) as u64;
        let mut passed = Passed::default();
        let total = chunk.len() as u64;
        let mut chunk = chunk.into_iter();
        // Touched beforehand: a page fault while packets are due would count as the node's.
        let mut departures = vec![1; chunk.len()];
        let (mut leaving, mut back) = (Burst::new(), Burst::new());
        let refused_before = self.wire.counters().read().tx_dropped;
        let (start, mut last_news) = (clock.ticks(), Instant::now());
        let (mut lost, mut round, mut trusted) = (0, start, 0);
        while passed.received + lost < total && last_news.elapsed() < PATIENCE {
            let now = clock.ticks();
            if now - std::mem::replace(&mut round, now) > held_up {
                let due = (now - start).checked_div(interval).unwrap_or(0) + 1;
                trusted = passed.offered.max(due.min(total));
            }
            while leaving.len() < WIRE_BURST && passed.offered < total {
                let in_flight = passed.offered - passed.received;
                let due = if interval == 0 {
                    in_flight < RING as u64 / 4
                } else {
                    now >= start + passed.offered * interval
                };
                if !due {
                    break;
                }
                leaving.extend(chunk.next());
                departures[passed.offered as usize] = now;
                passed.offered += 1;
            }
            if !leaving.is_empty() {
                self.wire.tx(&mut leaving);
                lost = self.wire.counters().read().tx_dropped - refused_before;
            }
            if self.wire.rx(&mut back) > 0 {
                let now = clock.ticks();
                for at in passed.received..passed.received + back.len() as u64 {
                    if lost == 0 && at >= trusted {
                        arrived(now - departures[at as usize]);
                    }
                }
                passed.received += back.len() as u64;
                M::free(&mut back);
                last_news = Instant::now();
            }
            let mut control = Control {
                scene: &mut self.scene,
                rings: Rings {
                    reins: &mut self.reins,
                    done_before: self.done_before,
                },
            };
            aside(&mut control, now);
        }
        passed.ticks = clock.ticks() - start;
        passed
    }

    /// Ends the worker.
    ///
    /// # Errors
    /// When it could not start, or panicked.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.worker.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => anyhow::bail!("the worker panicked"),
            None => Ok(()),
        }
    }
}

impl<C: Fresh, M: Memory> Drop for Live<C, M> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            // Whoever did not call `end` has an error of its own to tell.
            let _ = worker.join();
        }
    }
}

/// The control thread's side while packets flow.
pub struct Control<'a, C: Fresh, M: Memory> {
    /// Its table writer.
    pub scene: &'a mut Scene<C, M>,
    rings: Rings<'a, C, M>,
}

impl<C: Fresh, M: Memory> Control<'_, C, M> {
    /// Moves commands to the worker, and frees what came home.
    pub fn pump(&mut self) {
        self.scene.site.writer.pump(&mut self.rings);
        while self.scene.site.writer.poll_installed(&self.rings).is_some() {}
        while self.rings.reins.events.pop().is_some() {}
    }
}

/// The rings to the one worker.
struct Rings<'a, C: Backend, M: Memory> {
    reins: &'a mut Reins<C, M::Buf>,
    done_before: u64,
}

impl<C: Backend, M: Memory> Workers<C, M::Buf> for Rings<'_, C, M> {
    fn send(&mut self, _to: WorkerId, command: Command<C, M::Buf>) -> Result<(), Command<C, M::Buf>> {
        self.reins.commands.push(command)
    }

    fn done(&self, _worker: WorkerId) -> u64 {
        self.done_before + self.reins.done.load(Ordering::Acquire)
    }
}
