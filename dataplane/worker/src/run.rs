//! A worker's poll loop: rx → packet path → tx, commands and hand-overs in between.
//!
//! ```text
//!              commands ──►┐                       ┌──► events (and the control thread is woken)
//!   other workers' ring ──►├─ worker: one burst ───┼──► other workers' rings
//!         port, device rx ─►┘     after another     ├──► port, device tx
//!  kernel, where a port is ──►─── straight to the port └──► kernel (`crate::kernel`)
//!  not shared with it
//! ```
//! Nothing here waits or locks while packets flow, and nothing allocates but the first datagram of a flow; only an idle worker sleeps,
//! and it is offline to publication then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Instant;

use ain_crypto::Backend;
use ain_dataplane::command::{Command, Event, Handoff};
use ain_dataplane::count::Counters;
use ain_dataplane::engine::Engine;
use ain_dataplane::handoff::{self, Consumer, Producer};
use ain_dataplane::id::{Now, PeerId, PortId, WorkerId};
use ain_dataplane::limits::BURST;
use ain_dataplane::outside::Outside;
use ain_dataplane::packet::{BufPool, PacketBuf, filled};
use ain_dataplane::peers::Peers;
use ain_dataplane::publish;
use ain_dataplane::stage::exception::Exception;
use ain_dataplane::verdict::DropReason;
use crossbeam_utils::CachePadded;

use crate::idle::{Idle, IdlePolicy, Step};
use crate::kernel::WorkerEnd;
use crate::limits::{COMMAND_RING, EVENT_RING, SLOTS_AT_A_TIME_NS, TICK_NS};
use crate::port::{Burst, Port};
use crate::vec_buf::VecBuf;

/// One clock for all threads, so that their times compare.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start; never 0.
    pub fn now(self) -> Now {
        Now(u64::try_from(self.0.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .saturating_add(1))
    }
}

/// The control thread's end of the rings of one worker.
pub struct Reins<C: Backend, B> {
    /// Commands to it.
    pub commands: Producer<Command<C, B>>,
    /// Events from it.
    pub events: Consumer<Event<C, B>>,
    /// Commands that it has carried out.
    pub done: Arc<CachePadded<AtomicU64>>,
}

/// The worker's end.
pub struct Bit<C: Backend, B> {
    commands: Consumer<Command<C, B>>,
    events: Producer<Event<C, B>>,
    done: Arc<CachePadded<AtomicU64>>,
}

/// The rings between the control thread and one worker.
pub fn reins<C: Backend, B>() -> (Reins<C, B>, Bit<C, B>) {
    let (command_in, command_out) = handoff::ring(COMMAND_RING);
    let (event_in, event_out) = handoff::ring(EVENT_RING);
    let done = Arc::new(CachePadded::new(AtomicU64::new(0)));
    let reins = Reins {
        commands: command_in,
        events: event_out,
        done: Arc::clone(&done),
    };
    (
        reins,
        Bit {
            commands: command_out,
            events: event_in,
            done,
        },
    )
}

/// A boxed port.
pub type AnyPort<B> = Box<dyn Port<Buf = B>>;

/// The local device of `ain endpoint`, and the peer whose tunnel it feeds.
pub struct Device<B> {
    /// Datagrams.
    pub port: AnyPort<B>,
    /// The AIN.
    pub gateway: PeerId,
}

/// Everything a worker owns.
pub struct Worker<C: Backend, A: BufPool> {
    /// The packet path.
    pub engine: Engine<C, A::Buf>,
    /// This worker's queues, by [`PortId`].
    pub ports: Vec<AnyPort<A::Buf>>,
    /// The local device.
    pub device: Option<Device<A::Buf>>,
    /// Ways to the kernel, of ports that it does not share.
    pub kernel: Vec<(PortId, WorkerEnd)>,
    /// Empty buffers.
    pub pool: A,
    /// Published peers.
    pub peers: publish::Reader<Peers>,
    /// Rings to the control thread.
    pub bit: Bit<C, A::Buf>,
    /// Rings to other workers.
    pub mesh: handoff::Handoff<Handoff<A::Buf>>,
    /// To wake when there are events.
    pub control: Thread,
    /// What to do without work.
    pub idle: IdlePolicy,
    /// The common clock.
    pub clock: Clock,
}

impl<C: Backend, A: BufPool> Worker<C, A> {
    /// Polls until `stop` is set. The calling thread is this worker's.
    pub fn run(self, stop: &AtomicBool) {
        let Self {
            mut engine,
            ports,
            device,
            kernel,
            pool,
            mut peers,
            bit,
            mesh,
            control,
            idle,
            clock,
        } = self;
        let (gateway, device) = device.map(|device| (device.gateway, device.port)).unzip();
        let mut io = Io::<C, A> {
            bursts: ports.iter().map(|_| Burst::new()).collect(),
            ports,
            device,
            to_device: Burst::new(),
            kernel,
            counters: engine.counters(),
            pool,
            events: bit.events,
            mesh,
            control,
            woken: false,
        };
        let mut commands = bit.commands;
        let (mut idle, mut next_tick) = (Idle::new(idle), clock.now());
        let mut burst: Burst<A::Buf> = Burst::new();
        let mut handed: Burst<Handoff<A::Buf>> = Burst::new();
        engine.give_to_kernel(io.kernel.iter().map(|(port, _)| *port));
        while !stop.load(Ordering::Relaxed) {
            let table = peers.current();
            io.keep_slots(&mut engine, clock, table);
            let now = clock.now();
            let mut work = 0;
            while work < BURST
                && let Some(command) = commands.pop()
            {
                engine.command(now, table, command, &mut io);
                bit.done.fetch_add(1, Ordering::Release);
                work += 1;
            }
            while !handed.is_full()
                && let Some(item) = io.mesh.receive()
            {
                handed.push(item);
            }
            if !handed.is_empty() {
                work += handed.len();
                engine.from_workers(now, table, &mut handed, &mut io);
            }
            for (at, port) in (0..io.ports.len()).zip((0..).map(PortId)) {
                io.keep_slots(&mut engine, clock, table);
                work += io.ports[at].rx(&mut burst);
                if !burst.is_empty() {
                    engine.from_wire(now, table, port, &mut burst, &mut io);
                }
            }
            if let (Some(device), Some(gateway)) = (&mut io.device, gateway) {
                work += device.rx(&mut burst);
                if !burst.is_empty() {
                    engine.from_device(now, table, gateway, &mut burst, &mut io);
                }
            }
            work += io.serve_kernel();
            if now >= next_tick {
                engine.tick(now);
                next_tick = now.plus(TICK_NS);
            }
            io.flush();
            peers.quiescent();
            match idle
                .after(work)
                .until(engine.next_slot().map(|slot| slot.since(clock.now())))
            {
                step @ Step::Sleep(_) => {
                    peers.offline();
                    step.take();
                }
                step @ (Step::Poll | Step::Pause) => step.take(),
            }
        }
        peers.offline();
    }
}

/// The packet path's surroundings on a worker.
struct Io<C: Backend, A: BufPool> {
    ports: Vec<AnyPort<A::Buf>>,
    bursts: Vec<Burst<A::Buf>>,
    device: Option<AnyPort<A::Buf>>,
    to_device: Burst<A::Buf>,
    kernel: Vec<(PortId, WorkerEnd)>,
    counters: Arc<Counters>,
    pool: A,
    events: Producer<Event<C, A::Buf>>,
    mesh: handoff::Handoff<Handoff<A::Buf>>,
    control: Thread,
    woken: bool,
}

impl<C: Backend, A: BufPool> Io<C, A> {
    /// Where a tunnel with a rate has a slot soon, nothing else is begun until its packet has left: load must not move it.
    fn keep_slots(&mut self, engine: &mut Engine<C, A::Buf>, clock: Clock, peers: &Peers) {
        if engine.next_slot().is_none() {
            return;
        }
        let begun = clock.now();
        while engine.slot_near(clock.now()) {
            engine.slots(clock.now(), peers, self);
            self.flush();
            if clock.now().since(begun) >= SLOTS_AT_A_TIME_NS {
                break; // more slots than time: some will be missed, but commands, packets and the end are not
            }
        }
    }

    /// Sends what the kernel has for its ports; how many frames.
    fn serve_kernel(&mut self) -> usize {
        let mut frames = 0;
        for at in 0..self.kernel.len() {
            let (port, end) = &mut self.kernel[at];
            let port = *port;
            let burst: Burst<VecBuf> = end.frames().collect();
            frames += burst.len();
            for frame in &burst {
                match filled(&mut self.pool, frame.data()) {
                    Some(own) => self.transmit(port, own),
                    None => self.counters.dropped(DropReason::NoBuffer),
                }
            }
        }
        frames
    }

    /// Sends everything queued, and wakes the control thread once if it has something to read.
    fn flush(&mut self) {
        for (port, burst) in self.ports.iter_mut().zip(&mut self.bursts) {
            if !burst.is_empty() {
                port.tx(burst);
            }
        }
        if let Some(device) = &mut self.device
            && !self.to_device.is_empty()
        {
            device.tx(&mut self.to_device);
        }
        if std::mem::take(&mut self.woken) {
            self.control.unpark();
        }
    }
}

impl<C: Backend, A: BufPool> BufPool for Io<C, A> {
    type Buf = A::Buf;
    fn alloc(&mut self) -> Option<A::Buf> {
        self.pool.alloc()
    }
}

impl<C: Backend, A: BufPool> Outside<C, A::Buf> for Io<C, A> {
    fn transmit(&mut self, port: PortId, frame: A::Buf) {
        let at = usize::from(port.0);
        if let (Some(port), Some(burst)) = (self.ports.get_mut(at), self.bursts.get_mut(at)) {
            if burst.is_full() {
                port.tx(burst);
            }
            burst.push(frame);
        }
    }

    fn give_to_kernel(&mut self, port: PortId, kind: Exception, frame: &[u8]) -> Result<(), DropReason> {
        let mut ends = self.kernel.iter_mut();
        let end = ends.find(|(own, _)| *own == port);
        end.map_or(Err(DropReason::ForTheKernel), |(_, end)| end.give(kind, frame))
    }

    fn hand_over(&mut self, to: WorkerId, item: Handoff<A::Buf>) -> Result<(), Handoff<A::Buf>> {
        self.mesh.send(to, item)
    }

    fn report(&mut self, event: Event<C, A::Buf>) -> Result<(), Event<C, A::Buf>> {
        // Hosts make flows as fast as they like, and hops cells that mean no good: half of the ring is for signals, so that nobody
        // can silence a PVT.
        let is_signal = matches!(event, Event::Signal(..) | Event::Retired(_));
        if !is_signal && self.events.room() <= EVENT_RING / 2 {
            return Err(event);
        }
        self.woken = true;
        self.events.push(event)
    }

    fn deliver(&mut self, datagram: A::Buf) {
        if let Some(device) = &mut self.device {
            if self.to_device.is_full() {
                device.tx(&mut self.to_device);
            }
            self.to_device.push(datagram);
        }
    }
}
