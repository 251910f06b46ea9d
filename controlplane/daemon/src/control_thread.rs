//! The control thread: everything that is not a packet. It drives the control node, carries its actions to the workers, keeps
//! durable numbers, follows the kernel's neighbour table and answers the admin socket and the metrics endpoint.
//!
//! ```text
//!   events of workers, opened creating signals ─► Node ─► actions ─► TableWriter ─► commands to workers
//!   netlink ─► Peers, published      requests ─► reports      numbers used, accepted ─► disk
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime};

use ain_controlplane::action::Action;
use ain_controlplane::associations::{Associations, Keying};
use ain_controlplane::benchmark::Benchmark;
use ain_controlplane::node::Node;
use ain_controlplane::sa::Generation;
use ain_controlplane::table_writer::{TableWriter, Workers};
use ain_crypto::Backend;
use ain_dataplane::command::{Command, Event};
use ain_dataplane::count::Counters;
use ain_dataplane::id::{Now, PeerId, WorkerId};
use ain_dataplane::packet::{BufPool, PacketBuf, filled};
use ain_dataplane::peers::{Link, Peers};
use ain_dataplane::publish::Publisher;
use ain_dataplane::wire::ethernet::MacAddr;
use ain_worker::run::{Clock, Reins};
use tracing::{debug, info, warn};

use crate::benchmark;
use crate::config::unix_seconds;
use crate::durable::Durable;
use crate::guards;
use crate::hand_made::{self, NewKeys, Obstacle, Place};
use crate::hardware::PortView;
use crate::ike::Sources;
use crate::neighbours::Neighbours;
use crate::openers::Openers;
use crate::rates::RateWatch;
use crate::reload::ReloadCounts;
use crate::report::{CryptoReport, Report, Source, Stalled};
use crate::shutdown::Shutdown;
use crate::ticket_log::TicketLog;
use crate::upkeep::Update;

/// Longest sleep: commands, numbers and requests are looked at this often at least.
const NAP: Duration = Duration::from_millis(5);
/// The same while workers are taking entries in: CREATED waits for them at every hop, charon's ADD too, and they do not wake this thread.
const INSTALLING_NAP: Duration = Duration::from_micros(100);
/// How long a report may take.
const REPORT_WAIT: Duration = Duration::from_secs(2);
/// Time to say good-bye to neighbours at the end: in all, and after the last one was told.
const DRAIN: Duration = Duration::from_secs(5);
/// See [`DRAIN`].
const LAST_ACKS: Duration = Duration::from_secs(1);
/// Events of one worker handled before others get their turn.
const EVENTS_A_ROUND: usize = 256;
/// Requests of charon handled before others get their turn.
const IKE_A_ROUND: usize = 64;
/// Reports asked for and not made yet.
const REQUESTS: usize = 16;

/// The next hops of peers, and what is published of them.
pub struct Directions {
    /// The kernel's view.
    pub neighbours: Neighbours,
    /// To the workers.
    pub publisher: Publisher<Peers>,
    next_refresh: Now,
}

impl Directions {
    /// Nothing is looked up before the first [`Self::refresh`].
    pub fn new(neighbours: Neighbours, publisher: Publisher<Peers>) -> Self {
        Self {
            neighbours,
            publisher,
            next_refresh: Now(0),
        }
    }

    /// Looks at the kernel's table when it is time to, and publishes what has changed.
    pub fn refresh(&mut self, now: Now) {
        if now < self.next_refresh {
            return;
        }
        match self.neighbours.refresh() {
            Ok(true) => {
                let found = self.neighbours.found();
                let link = |id: PeerId| {
                    found.get(&id).map(|a| Link {
                        source: MacAddr(a.source),
                        destination: MacAddr(a.destination),
                    })
                };
                let peers = self.publisher.current();
                let uplinks = peers
                    .uplinks()
                    .with_links(link(PeerId::INTERNET), link(PeerId::INTERNET_V6));
                let changed = peers
                    .with_links(peers.iter().map(|(id, _)| link(id)).collect::<Vec<_>>())
                    .with_uplinks(uplinks);
                self.publisher.publish(changed);
            }
            Ok(false) => {
                self.publisher.reclaim();
            }
            Err(error) => warn!(%error, "next hops"),
        }
        self.next_refresh = now.plus(self.neighbours.refresh_after().as_nanos() as u64);
    }
}

/// The rings to all workers.
pub struct AllReins<C: Backend, B>(pub Vec<Reins<C, B>>);

impl<C: Backend, B> Workers<C, B> for AllReins<C, B> {
    fn send(&mut self, to: WorkerId, command: Command<C, B>) -> Result<(), Command<C, B>> {
        match self.0.get_mut(usize::from(to.0)) {
            Some(reins) => reins.commands.push(command),
            None => Err(command),
        }
    }

    fn done(&self, worker: WorkerId) -> u64 {
        self.0
            .get(usize::from(worker.0))
            .map_or(0, |reins| reins.done.load(Ordering::Acquire))
    }
}

/// Everything the control thread owns.
pub struct ControlThread<C: Backend, A: BufPool> {
    /// The node's name.
    pub name: String,
    /// What the workers run, for reports.
    pub crypto: CryptoReport,
    /// The control node.
    pub node: Node,
    /// Who does the node's private-key operations.
    pub openers: Openers,
    /// The packet path's tables.
    pub writer: TableWriter<C, A::Buf>,
    /// Static AIVTs, whose events the control node does not hear of.
    pub benchmark: Option<Benchmark>,
    /// Rings to the workers.
    pub reins: AllReins<C, A::Buf>,
    /// Next hops.
    pub directions: Directions,
    /// Durable numbers.
    pub durable: Durable,
    /// Where guards are kept.
    pub state_dir: PathBuf,
    /// What has changed of the network and of this node's keys.
    pub updates: Receiver<Update>,
    /// Directories taken and refused since the start.
    pub directories: [u64; 2],
    /// Security associations.
    pub associations: Associations,
    /// Where they come from.
    pub sources: Sources,
    /// What came of reloads.
    pub reloads: Arc<ReloadCounts>,
    /// Empty buffers, for signals.
    pub pool: A,
    /// Counters of the workers.
    pub counters: Vec<Arc<Counters>>,
    /// What PVTs with a rate are held to.
    pub rates: RateWatch,
    /// Ports, for reports.
    pub views: Vec<PortView>,
    /// The common clock.
    pub clock: Clock,
    /// Requests of the admin socket and the metrics endpoint.
    pub requests: Receiver<Request>,
    /// Tickets of this node that are spent, and to whom it issued some.
    pub ticket_log: TicketLog,
    /// SPI reservations that did not reach the disk, to be tried again.
    pub unreserved: BTreeMap<(PeerId, Generation), u32>,
    /// When to say next that numbers are not kept.
    pub next_complaint: Now,
}

/// What the outside asks of the control thread.
pub enum Request {
    /// A report.
    Report(Sender<Report>),
    /// Other hand-made keys.
    ReplaceKeys(Vec<NewKeys>, Sender<Result<(), Obstacle>>),
    /// All tables.
    #[cfg(feature = "test-dump")]
    Dump(Sender<String>),
}

/// The way to ask.
pub struct Asker {
    requests: SyncSender<Request>,
    control: Thread,
}

impl Asker {
    /// The two ends; `control` is woken for each request.
    pub fn new(control: Thread) -> (Self, Receiver<Request>) {
        let (requests, receiver) = sync_channel(REQUESTS);
        (Self { requests, control }, receiver)
    }

    fn ask<T>(&self, request: impl FnOnce(Sender<T>) -> Request) -> Result<T, Stalled> {
        let answered = self.send(request)?;
        answered.recv_timeout(REPORT_WAIT).map_err(|_| Stalled)
    }

    fn send<T>(&self, request: impl FnOnce(Sender<T>) -> Request) -> Result<Receiver<T>, Stalled> {
        let (answer, answered) = channel();
        self.requests.try_send(request(answer)).map_err(|_| Stalled)?;
        self.control.unpark();
        Ok(answered)
    }

    /// Has `keys` take the place of those before. Waits for as long as it takes: the outcome must be known.
    ///
    /// # Errors
    /// The control thread takes no requests.
    pub fn replace_keys(&self, keys: Vec<NewKeys>) -> Result<Result<(), Obstacle>, Stalled> {
        let answered = self.send(|answer| Request::ReplaceKeys(keys, answer))?;
        answered.recv().map_err(|_| Stalled)
    }
}

impl Source for Asker {
    fn report(&self) -> Result<Report, Stalled> {
        self.ask(Request::Report)
    }

    #[cfg(feature = "test-dump")]
    fn dump(&self) -> Result<String, Stalled> {
        self.ask(Request::Dump)
    }
}

/// How the leave-taking of a node that goes down is getting on.
struct Farewell {
    begun: Instant,
    told_all: Option<Instant>,
}

impl Default for Farewell {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            told_all: None,
        }
    }
}

impl Farewell {
    fn is_over(&mut self, node: &Node) -> bool {
        if node.has_told_all() && self.told_all.is_none() {
            self.told_all = Some(Instant::now());
        }
        let waited = self.told_all.is_some_and(|since| since.elapsed() > LAST_ACKS);
        waited || node.is_quiet() || self.begun.elapsed() > DRAIN
    }
}

/// Unix time, seconds.
pub fn wall() -> u64 {
    unix_seconds(SystemTime::now())
}

impl<C: Backend, A: BufPool> ControlThread<C, A> {
    /// Runs until `shutdown` asks for the end, then takes leave of the neighbours. The workers still run: end them, then close the
    /// durable numbers.
    pub fn run(mut self, shutdown: &Shutdown) -> Durable {
        let started = Instant::now();
        let mut next_second = self.clock.now();
        let mut leaving: Option<Farewell> = None;
        loop {
            let now = self.clock.now();
            let busy = self.round(now, started);
            if now >= next_second {
                self.every_second(now);
                next_second = now.plus(Now::SECOND);
            }
            if let Some(farewell) = &mut leaving {
                if farewell.is_over(&self.node) {
                    break;
                }
            } else if shutdown.requested() {
                info!("shutting down");
                self.node.handle_shutdown(now);
                leaving = Some(Farewell::default());
                continue;
            }
            if !busy {
                let due = self
                    .node
                    .poll_timeout()
                    .map_or(u64::MAX, |at| at.since(self.clock.now()));
                let asked = self
                    .sources
                    .ike
                    .as_ref()
                    .is_some_and(|ike| ike.source().is_installing());
                let nap = if asked || self.writer.is_installing() {
                    INSTALLING_NAP
                } else {
                    NAP
                };
                std::thread::park_timeout(nap.min(Duration::from_nanos(due)));
            }
        }
        self.durable
    }

    /// One look at everything; whether there was something to do.
    fn round(&mut self, now: Now, started: Instant) -> bool {
        let mut events = self.take_events();
        // What has been accepted is written before anything is done about it: after a crash it is refused (protocol section 2).
        // What cannot be written is not acted on; signals that matter come again.
        let written = self.durable.write_accepted();
        if written.is_err() {
            events.retain(|event| !matches!(event, Event::Signal(..) | Event::ForNode(..)));
        }
        let topped = self.durable.top_up();
        let busy = !events.is_empty();
        for event in events {
            self.event(now, event);
        }
        let busy = self.take_opened(now) || busy;
        let outcome = self.durable.note_create(self.node.latest_create());
        let noted = outcome.is_ok();
        for error in [written, topped, outcome].into_iter().filter_map(Result::err) {
            self.complain(now, &error);
        }
        self.directions.refresh(now);
        self.rekey(now);
        while let Ok(update) = self.updates.try_recv() {
            self.update(update);
        }
        while let Some(aivt) = self.writer.poll_installed(&self.reins) {
            self.node.handle_installed(now, aivt);
        }
        if self.node.poll_timeout().is_some_and(|due| due <= now) {
            self.node.handle_timeout(now, wall());
        }
        // Creating signals and tickets are on record before anything is done for them: after a crash they are known.
        let (spent, issued) = (self.node.take_spent_tickets(), self.node.take_issued_tickets());
        let tickets = self.ticket_log.write(&spent, &issued);
        let on_record = noted && tickets.is_ok();
        if let Err(error) = tickets {
            self.complain(now, &error);
        }
        while let Some(action) = self.node.poll_action() {
            if on_record {
                self.act(now, action);
            } else {
                self.act_without_record(now, action);
            }
        }
        self.writer.pump(&mut self.reins);
        while let Ok(request) = self.requests.try_recv() {
            self.answer(now, request, started);
        }
        busy
    }

    /// Associations come and go.
    fn rekey(&mut self, now: Now) {
        self.sources.hand_made.handle_timeout(now);
        for _ in 0..IKE_A_ROUND {
            self.associations.handle(now, &mut self.sources, &mut self.writer);
            let Some(ike) = &mut self.sources.ike else { break };
            self.writer.pump(&mut self.reins);
            ike.reply();
            if !ike.step(now, |peer, spi| self.writer.is_free(peer, spi)) {
                break;
            }
        }
        while let Some(keying) = self.associations.poll_keying() {
            if let Keying::Over(peer, generation) = keying {
                self.durable.end_generation((peer, generation));
            }
            self.node.handle_keying(now, keying);
        }
        hand_made::warn_of(&mut self.sources.hand_made);
    }

    fn update(&mut self, update: Update) {
        match update {
            Update::Directory(directory) => {
                self.directories[0] += 1;
                self.node.handle_directory(directory);
            }
            Update::Refused => self.directories[1] += 1,
            Update::OnionKeys(keys) => self.node.handle_onion_keys(keys),
        }
    }

    fn take_events(&mut self) -> Vec<Event<C, A::Buf>> {
        let mut events = Vec::new();
        for reins in &mut self.reins.0 {
            events.extend(std::iter::from_fn(|| reins.events.pop()).take(EVENTS_A_ROUND));
        }
        events
    }

    /// Whether any creating signal was opened.
    fn take_opened(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(opened) = self.openers.poll() {
            self.node.handle_opened(now, wall(), opened);
            any = true;
        }
        any
    }

    fn event(&mut self, now: Now, event: Event<C, A::Buf>) {
        let event = match &self.benchmark {
            Some(benchmark) => match benchmark::take(benchmark, &mut self.writer, event) {
                Some(event) => event,
                None => return,
            },
            None => event,
        };
        match event {
            Event::Signal(peer, datagram) => self.node.handle_signal(now, peer, datagram.data()),
            Event::ForNode(tunnel, datagram) => self.node.handle_for_node(now, wall(), tunnel, datagram.data()),
            Event::NewFlow { flow, tunnel, pair } => {
                self.writer.note_flow(flow, tunnel, pair);
                self.node.handle_new_flow(now, wall(), flow, tunnel, pair);
            }
            Event::FirstDatagram(aivt, pair) => self.node.handle_bind(now, aivt, pair),
            Event::Misbehaviour(aivt) => self.node.handle_misbehaviour(now, aivt),
            Event::Verdict(aivt, code) => self.node.handle_verdict(now, aivt, code),
            Event::Retired(_) => {}
        }
    }

    fn act(&mut self, now: Now, action: Action) {
        match action {
            Action::Send { peer, datagram } => self.send(peer, &datagram),
            Action::Enter { peer, datagram } => self.enter(peer, &datagram),
            Action::Install { aivt, route, activity } => {
                if let Err(error) = self.writer.install(aivt, route, &activity) {
                    debug!(%error, "AIVT not installed");
                    self.node.handle_install_failed(now, aivt);
                }
            }
            Action::Remove { aivt } => self.writer.remove(now, aivt),
            Action::Bind { aivt, pair, tunnel } => {
                if let Err(error) = self.writer.bind(aivt, pair, tunnel) {
                    debug!(%error, "AIVT not bound");
                    self.node.handle_bind_failed(now, aivt);
                }
            }
            Action::Refuse { aivt, verdict } => {
                if let Err(error) = self.writer.refuse(aivt, verdict) {
                    debug!(%error, "no verdict sent");
                }
            }
            Action::Rewrite { flow, source } => self.writer.rewrite(flow, source),
            Action::CloseFlow { flow, refused } => self.writer.close_flow(flow, refused),
            Action::KeepGuards(list) => {
                if let Err(error) = guards::keep(&self.state_dir, &list) {
                    warn!(%error, "guards not kept");
                }
            }
            Action::ReserveSpis {
                peer,
                generation,
                up_to,
            } => self.reserve_spis(peer, generation, up_to),
            Action::Open(opening) => self.openers.open(opening),
        }
    }

    /// What cannot be written is not acted on: signals and own datagrams are lost, as on a network, and come again if they matter; no
    /// AIVT begins to stand.
    fn act_without_record(&mut self, now: Now, action: Action) {
        match action {
            Action::Send { .. } | Action::Enter { .. } => debug!("a signal held back"),
            Action::Install { aivt, .. } => self.node.handle_install_failed(now, aivt),
            other => self.act(now, other),
        }
    }

    fn send(&mut self, peer: PeerId, datagram: &[u8]) {
        match filled(&mut self.pool, datagram) {
            Some(buf) => self.writer.signal(peer, buf),
            // The signal is lost, as on a network; it is repeated if it matters.
            None => debug!("no buffer for a signal"),
        }
    }

    fn enter(&mut self, peer: PeerId, datagram: &[u8]) {
        match filled(&mut self.pool, datagram) {
            Some(buf) => self.writer.enter(peer, buf),
            None => debug!("no buffer for a datagram of this node"),
        }
    }

    fn reserve_spis(&mut self, peer: PeerId, generation: Generation, up_to: u32) {
        match self.durable.reserve_spis((peer, generation), up_to) {
            Ok(()) => self.node.handle_spis_reserved(peer, generation, up_to),
            Err(error) => {
                warn!(%error, "SPIs not reserved");
                self.unreserved.insert((peer, generation), up_to);
            }
        }
    }

    /// Says that numbers are not kept, once a second at most.
    fn complain(&mut self, now: Now, error: &dyn std::error::Error) {
        if now >= self.next_complaint {
            warn!(%error, "numbers not kept");
            self.next_complaint = now.plus(Now::SECOND);
        }
    }

    fn every_second(&mut self, now: Now) {
        self.rates.look(now, |peer| self.associations.heard(peer));
        if let Err(error) = self.ticket_log.sync(wall(), &mut self.durable) {
            self.complain(now, &error);
        }
        if let Err(error) = self.durable.sync_accepted() {
            self.complain(now, &error);
        }
        if let Some(ike) = &mut self.sources.ike {
            ike.every_second(now, wall());
        }
        for ((peer, generation), up_to) in std::mem::take(&mut self.unreserved) {
            self.reserve_spis(peer, generation, up_to);
        }
        debug!(now = now.0, aivts = self.writer.in_use()[0], "second");
    }

    fn replace_keys(&mut self, now: Now, keys: &[NewKeys]) -> Result<(), Obstacle> {
        let place = &mut Place {
            workers: self.reins.0.len() as u8,
            writer: &mut self.writer,
            durable: &mut self.durable,
        };
        hand_made::replace(now, keys, (&mut self.sources.hand_made, &self.associations), place)?;
        self.associations.handle(now, &mut self.sources, &mut self.writer);
        let taken = hand_made::taken(&mut self.sources.hand_made);
        self.rekey(now);
        self.writer.pump(&mut self.reins);
        taken
    }

    fn answer(&mut self, now: Now, request: Request, started: Instant) {
        // An asker that has gone away is no trouble.
        let _gone = match request {
            Request::Report(answer) => answer.send(self.report(started)).is_err(),
            Request::ReplaceKeys(keys, answer) => answer.send(self.replace_keys(now, &keys)).is_err(),
            #[cfg(feature = "test-dump")]
            Request::Dump(answer) => answer.send(self.dump()).is_err(),
        };
    }
}
