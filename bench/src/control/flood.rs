//! A neighbour that floods CREATEs, beside neighbours that set up AIVTs and cells that pass through those that stand.
//!
//! ```text
//!   wire ─► receive queue ─► worker ─► event ring ─► control thread ─► openings ─► opener
//!           1024 packets     its core  4096 events   its core          64          its core
//! ```
//! The three threads of a node take turns here, on one core, and each gets in a millisecond of the run what its own core would give it:
//! a millisecond of processor time. What does not fit waits in the queue before it, and is lost where that is full, as in the node.

use std::collections::{HashMap, VecDeque};

use ain_controlplane::action::Opening;
use ain_controlplane::signal::frame::{Kind, Message, Signal};
use ain_dataplane::command::Event;
use ain_dataplane::id::{Now, PeerId, Spi};
use ain_dataplane::packet::{BufPool, PacketBuf};
use ain_dataplane::stage::Lane;
use ain_dataplane::wire::protocol;
use ain_worker::limits::EVENT_RING;
use anyhow::Context;
use rand::Rng;
use rustix::time::{ClockId, clock_gettime};

use super::{BURST, Control, frame, say};
use crate::backend::Fresh;
use crate::clock::Clock;
use crate::forge::Origin;
use crate::live::RING;
use crate::memory::Memory;
use crate::role::SIDE;
use crate::site::{Sa, tunnel_spi};

/// Who floods.
const FLOODER: PeerId = PeerId(0);
/// AIVTs that cells pass through.
const STANDING: u32 = 512;
const MS_NS: u64 = Now::SECOND / 1000;

/// What comes in each millisecond.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// CREATEs of the neighbour that floods, none of them any good.
    pub flood: u32,
    /// Good CREATEs of all others.
    pub others: u32,
    /// Cells.
    pub cells: u32,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Good CREATEs.
    pub asked: u64,
    /// Milliseconds until each was answered by CREATED, those that were.
    pub answered_ms: Vec<u64>,
    /// Cells that came.
    pub cells: u64,
    /// Cells that found the receive queue full.
    pub cells_lost: u64,
    /// Signals that found the receive queue or the event ring full.
    pub signals_lost: u64,
    /// Share of their cores that worker, control thread and opener used.
    pub busy: [f64; 3],
    /// Creating signals that waited to be opened, at most.
    pub waiting: usize,
}

/// Processor time of this thread: what others on the machine take does not count.
fn processor_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * Now::SECOND + time.tv_nsec as u64
}

/// A thread on a core of its own, a millisecond at a time.
#[derive(Default)]
struct Core {
    used_ns: u64,
    /// What it may have used by now.
    allowed_ns: u64,
    total_ns: u64,
}

impl Core {
    /// A millisecond passes. What an idle core did not use is gone.
    fn tick(&mut self) {
        self.used_ns = self.used_ns.max(self.allowed_ns);
        self.allowed_ns += MS_NS;
    }

    fn has_time(&self) -> bool {
        self.used_ns < self.allowed_ns
    }

    fn work<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start_ns = processor_ns();
        let done = work();
        let ns = processor_ns() - start_ns;
        self.used_ns += ns;
        self.total_ns += ns;
        done
    }
}

/// One run.
pub struct Flood<'a, C: Fresh, M: Memory> {
    control: &'a mut Control<C, M>,
    queue: VecDeque<M::Buf>,
    cores: [Core; 3],
    /// First SPI of AIVTs that stand, and cells sent through each.
    first_spi: u32,
    cells_sent: Vec<u64>,
    /// When each good CREATE was sent, by SPI.
    asked_at: HashMap<u32, u64>,
    outcome: Outcome,
    ms: u64,
}

impl<'a, C: Fresh, M: Memory> Flood<'a, C, M> {
    /// Sets up the AIVTs that cells pass through.
    ///
    /// # Errors
    /// When they cannot be.
    pub fn new(control: &'a mut Control<C, M>, clock: &'a Clock) -> anyhow::Result<Self> {
        let first_spi = control.next_spi + 1;
        control.create(STANDING, clock)?;
        control.to_open = Some(VecDeque::new());
        Ok(Self {
            control,
            queue: VecDeque::new(),
            cores: Default::default(),
            first_spi,
            cells_sent: vec![0; STANDING as usize],
            asked_at: HashMap::new(),
            outcome: Outcome::default(),
            ms: 0,
        })
    }

    /// Lets `ms` milliseconds of `load` pass.
    ///
    /// # Errors
    /// When packets cannot be made, or the node acts wrongly.
    pub fn run(mut self, load: Load, ms: u64) -> anyhow::Result<Outcome> {
        for _ in 0..ms {
            self.ms += 1;
            self.control.now = self.control.now.plus(MS_NS);
            self.cores.iter_mut().for_each(|core| core.tick());
            self.arrive(load)?;
            self.worker();
            self.control_thread()?;
            self.opener();
            let waiting = self.control.node.snapshot().waiting;
            self.outcome.waiting = self.outcome.waiting.max(waiting);
        }
        self.control.to_open = None;
        self.outcome.busy = self.cores.map(|core| core.total_ns as f64 / (MS_NS * ms) as f64);
        Ok(self.outcome)
    }

    /// A millisecond's packets, cells and signals mixed.
    fn arrive(&mut self, load: Load) -> anyhow::Result<()> {
        let mut signals = Vec::new();
        for (peer, signal) in self.control.answers() {
            if peer != FLOODER {
                signals.extend(self.datagrams(peer, &signal)?);
            }
        }
        for number in 0..load.others {
            // Those whose turn would be the flooder's are the next one's.
            let turn = (self.ms as u32 * load.others + number) * u32::from(SIDE);
            let (peer, signal) = self.control.creating(turn + 1 + number % (u32::from(SIDE) - 1))?;
            self.asked_at.insert(signal.spi, self.ms);
            self.outcome.asked += 1;
            signals.extend(self.datagrams(peer, &signal)?);
        }
        let bytes = self.control.kem.suite.onion();
        for _ in 0..load.flood {
            let mut onion = vec![0; bytes];
            self.control.rng.fill_bytes(&mut onion);
            onion[..4].copy_from_slice(&[1, self.control.kem.suite.id, 0, 0]);
            self.control.next_spi += 1;
            let message = self.control.next_message(FLOODER);
            let ah = tunnel_spi(Sa::AhIn, FLOODER).value();
            let signal = say(self.control.next_spi, message, Message::Create { ah, onion });
            signals.extend(self.datagrams(FLOODER, &signal)?);
        }
        let (count, total) = (signals.len(), load.cells as usize + signals.len());
        let mut signals = signals.into_iter();
        let mut burst: Lane<(Origin, M::Buf)> = Lane::new();
        for at in 0..total {
            // Evenly among the cells.
            let due = (at + 1) * count / total > count - signals.len();
            let signal = if due { signals.next() } else { None };
            burst.push(match signal {
                Some((peer, datagram)) => self.control.packet(peer, &datagram)?,
                None => self.cell()?,
            });
            if burst.len() == BURST || at + 1 == total {
                self.receive(std::mem::take(&mut burst))?;
            }
        }
        Ok(())
    }

    fn datagrams(&mut self, peer: PeerId, signal: &Signal) -> anyhow::Result<Vec<(PeerId, Vec<u8>)>> {
        let parts = frame(peer).encode_all(signal, &mut self.control.rng)?;
        Ok(parts.into_iter().map(|part| (peer, part)).collect())
    }

    /// A cell for the next AIVT in turn.
    fn cell(&mut self) -> anyhow::Result<(Origin, M::Buf)> {
        let aivt = self.outcome.cells as usize % self.cells_sent.len();
        self.outcome.cells += 1;
        self.cells_sent[aivt] += 1;
        let mut buf = self.control.site.io.alloc().context("packet buffers are used up")?;
        buf.grow_back(super::PROFILE.cell_len());
        let origin = Origin {
            peer: PeerId(aivt as u16 % SIDE),
            spi: Spi::new(self.first_spi + aivt as u32).context("an SPI")?,
            seq: self.cells_sent[aivt],
            next_header: protocol::CELL,
        };
        Ok((origin, buf))
    }

    fn receive(&mut self, mut burst: Lane<(Origin, M::Buf)>) -> anyhow::Result<()> {
        self.control.forge.sign(&mut burst)?;
        for (origin, frame) in burst {
            let is_cell = origin.next_header == protocol::CELL;
            // The worker is not asleep while packets come.
            if self.queue.len() >= RING {
                self.worker();
            }
            if self.queue.len() < RING {
                self.queue.push_back(frame);
            } else if is_cell {
                self.outcome.cells_lost += 1;
            } else {
                self.outcome.signals_lost += 1;
            }
        }
        Ok(())
    }

    fn worker(&mut self) {
        while !self.queue.is_empty() && self.cores[0].has_time() {
            let count = self.queue.len().min(BURST);
            let mut frames: Lane<M::Buf> = self.queue.drain(..count).collect();
            let site = &mut self.control.site;
            self.cores[0].work(|| site.burst(&mut frames));
            while self.control.site.io.events.len() > EVENT_RING {
                self.control.site.io.events.pop_back();
                self.outcome.signals_lost += 1;
            }
        }
    }

    fn control_thread(&mut self) -> anyhow::Result<()> {
        while self.cores[1].has_time() {
            let Some(event) = self.control.site.io.events.pop_front() else {
                break;
            };
            if let Event::Signal(peer, datagram) = event {
                let control = &mut *self.control;
                self.cores[1].work(|| {
                    control.node.handle_signal(control.now, peer, datagram.data());
                    control.act()
                })?;
            }
        }
        let control = &mut *self.control;
        let wall = control.wall();
        self.cores[1].work(|| {
            if control.node.poll_timeout().is_some_and(|due| due <= control.now) {
                control.node.handle_timeout(control.now, wall);
            }
            control.act()
        })?;
        // What the table writer has for the engine is the worker's work.
        let mut installed = Vec::new();
        self.cores[0].work(|| control.site.pump(|aivt| installed.push(aivt)));
        self.cores[1].work(|| {
            installed
                .into_iter()
                .for_each(|aivt| control.node.handle_installed(control.now, aivt));
            control.act()
        })?;
        self.cores[0].work(|| {
            control.site.pump(|_| ());
            control.site.io.flush();
        });
        self.note_answers();
        Ok(())
    }

    /// CREATEDs that left for the others.
    fn note_answers(&mut self) {
        for (peer, datagram) in &self.control.sent {
            let Ok(part) = frame(*peer).read(datagram) else {
                continue;
            };
            if part.kind == Kind::Created
                && let Some(asked) = self.asked_at.remove(&part.spi)
            {
                self.outcome.answered_ms.push(self.ms - asked);
            }
        }
    }

    fn opener(&mut self) {
        let control = &mut *self.control;
        let wall = control.wall();
        while self.cores[2].has_time() {
            let next: Option<Opening> = control.to_open.as_mut().and_then(VecDeque::pop_front);
            let Some(opening) = next else { break };
            let opened = self.cores[2].work(|| opening.open());
            self.cores[1]
                .work(|| {
                    control.node.handle_opened(control.now, wall, opened);
                    control.act()
                })
                .expect("acts as before");
        }
    }
}
