//! From the words of the protocol to entries of the packet path: expands keys, chooses owners and slots, fills the flow table, and
//! tells when every worker concerned has an entry.
//!
//! ```text
//!   Node ──Action──► TableWriter ──Command──► worker 0, 1, ...      (bounded rings; what does not fit waits here, in order)
//!                        └── (peer, SPI) → owner, slot ──► flow table, read by all workers
//! ```
//! Owners: the inbound half of a TVT belongs to one worker, which also numbers the packets of the TVT it leads to. At the entrance
//! that is the owner of the initiator's tunnel, so that the entrance never crosses threads; elsewhere it is the worker that the
//! port brings the SPI's packets to, where that is known ([`TableWriter::steer_by`]), and workers take turns where it is not. The
//! way back from an exit belongs to the owner of the responder's tunnel. A flow of the open exit comes back to the worker that has its
//! mappings. Where the PVT has a rate, its TVTs belong to the owner of the PVT.

mod flow_room;
mod open_flows;
mod parts;
mod shape;
mod tunnels;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use ain_crypto::{Backend, KeyLengthError};
use ain_dataplane::command::{Closing, Command};
use ain_dataplane::engine::Capacity;
use ain_dataplane::entry::{Activity, Flow, FlowEnd};
use ain_dataplane::id::{AivtId, FlowId, FlowTag, Now, Pair, PeerId, Spi, WorkerId};
use ain_dataplane::limits::KEY_SLOTS;
use ain_dataplane::table::Writer;
use arrayvec::ArrayVec;
use rustc_hash::FxHashMap;
use thiserror::Error;

use crate::action::{HopKeys, KeyedLink, Link, Route, Verdict};
use crate::by_aivt::ByAivt;
use flow_room::FlowRoom;
use open_flows::OpenFlows;
pub(crate) use shape::own_slot_ns;
pub use shape::{Rate, TunnelShape, veil};
use tunnels::PeerKeys;
pub use tunnels::TunnelSpec;

/// Rings to the workers.
pub trait Workers<C: Backend, B> {
    /// Puts a command into a worker's ring, or gives it back if the ring is full.
    fn send(&mut self, to: WorkerId, command: Command<C, B>) -> Result<(), Command<C, B>>;
    /// Commands that the worker has carried out since the start.
    fn done(&self, worker: WorkerId) -> u64;
}

/// Why an entry could not be made.
#[derive(Debug, Error)]
pub enum TableError {
    /// A key of the wrong length.
    #[error(transparent)]
    Key(#[from] KeyLengthError),
    /// Capacity is used up.
    #[error("no room for another {0}")]
    Full(&'static str),
    /// Something the entry refers to is not there.
    #[error("unknown {0}")]
    Unknown(&'static str),
    /// An association of this name, or a TVT with this SPI, is there already.
    #[error("SPI in use with this peer")]
    InUse,
}

/// One inbound half in a worker.
#[derive(Clone, Copy)]
struct Half {
    link: KeyedLink,
    worker: WorkerId,
    slot: u32,
}

enum Part {
    Intermediate,
    Entrance(FlowId),
    Exit(Box<ExitPart>),
}

struct ExitPart {
    keys: HopKeys,
    upstream: KeyedLink,
    flow: FlowTag,
    /// Where the answers come in: their tunnel, its owner, and the forward pair.
    bound: Option<(WorkerId, PeerId, Pair)>,
    /// Verdict cells sent back: what comes after them goes on numbering.
    verdicts: u64,
    activity: Arc<Activity>,
}

struct Installed {
    halves: ArrayVec<Half, 2>,
    part: Part,
}

/// An AIVT that waits for its workers, and the commands that each of them must have carried out.
type Installing = (AivtId, ArrayVec<(WorkerId, u64), 2>);

#[derive(Clone, Copy)]
struct FlowFacts {
    tunnel: PeerId,
    pair: Pair,
    shown: Option<IpAddr>,
}

struct Slots {
    free: Vec<u32>,
}

impl Slots {
    fn new(capacity: u32) -> Self {
        Self {
            free: (0..capacity).rev().collect(),
        }
    }
}

/// The worker that a port brings the packets of (peer, SPI) to, where that is known.
pub type Steering = Box<dyn Fn(PeerId, Spi) -> Option<WorkerId> + Send>;

/// The control thread's side of the packet path.
pub struct TableWriter<C: Backend, B> {
    table: Writer,
    backlog: Vec<VecDeque<Command<C, B>>>,
    sent: Vec<u64>,
    tvt_slots: Vec<Slots>,
    tunnel_slots: Vec<Slots>,
    peers: FxHashMap<PeerId, PeerKeys>,
    key_slots: Slots,
    next_worker: u8,
    steering: Option<Steering>,
    aivts: ByAivt<Installed>,
    flows: FxHashMap<FlowId, FlowFacts>,
    flow_room: FlowRoom,
    open_flows: OpenFlows,
    installing: VecDeque<Installing>,
    anti_replay: bool,
}

impl<C: Backend, B> TableWriter<C, B> {
    /// A writer for `workers` workers of equal capacity.
    pub fn new(table: Writer, workers: u8, capacity: Capacity) -> Self {
        let each = usize::from(workers);
        Self {
            table,
            backlog: std::iter::repeat_with(VecDeque::new).take(each).collect(),
            sent: vec![0; each],
            tvt_slots: std::iter::repeat_with(|| Slots::new(capacity.tvts))
                .take(each)
                .collect(),
            tunnel_slots: std::iter::repeat_with(|| Slots::new(capacity.tunnels))
                .take(each)
                .collect(),
            peers: FxHashMap::default(),
            key_slots: Slots::new(KEY_SLOTS as u32),
            next_worker: 0,
            steering: None,
            aivts: ByAivt::default(),
            flows: FxHashMap::default(),
            flow_room: FlowRoom::new(workers, capacity.flows),
            open_flows: OpenFlows::default(),
            installing: VecDeque::new(),
            anti_replay: true,
        }
    }

    /// Owners of TVTs made from now on follow what ports do by themselves.
    pub fn steer_by(&mut self, steering: Steering) {
        self.steering = Some(steering);
    }

    /// From now on associations welcome every sequence number every time: for benchmarks that replay packets, and nothing else.
    pub fn without_anti_replay(&mut self) {
        self.anti_replay = false;
    }

    /// Whether associations refuse sequence numbers that have come before.
    pub const fn refuses_replays(&self) -> bool {
        self.anti_replay
    }

    /// A flow that a worker has begun. Call before the node hears of it.
    pub fn note_flow(&mut self, flow: FlowId, tunnel: PeerId, pair: Pair) {
        let facts = FlowFacts {
            tunnel,
            pair,
            shown: None,
        };
        if self.flows.insert(flow, facts).is_none()
            && let Some(owner) = self.flow_owner(flow)
        {
            self.flow_room.take(owner);
        }
    }

    /// Installs a node's part in an AIVT. [`Self::poll_installed`] tells when workers have it.
    ///
    /// # Errors
    /// [`TableError`]; nothing is installed then.
    pub fn install(&mut self, aivt: AivtId, route: Route, activity: &Arc<Activity>) -> Result<(), TableError> {
        let installed = match route {
            Route::Intermediate {
                upstream,
                downstream,
                keys,
            } => self.install_intermediate(aivt, upstream, downstream, &keys, activity)?,
            Route::Entrance { flow, downstream, keys } => {
                self.install_entrance(aivt, flow, downstream, &keys, activity)?
            }
            Route::Exit { upstream, keys, flow } => self.install_exit(aivt, upstream, keys, flow, activity)?,
        };
        let waits = installed
            .halves
            .iter()
            .map(|half| (half.worker, self.sent[usize::from(half.worker.0)]))
            .collect();
        self.installing.push_back((aivt, waits));
        self.aivts.insert(aivt, installed);
        Ok(())
    }

    /// Binds an exit's AIVT: first the way back, at the owner of the responder's tunnel or, beyond an open exit, of the AIVT itself;
    /// then the way out.
    ///
    /// # Errors
    /// [`TableError::Unknown`]; [`TableError::Full`] when the tunnel's owner has no slot for the way back. Nothing is bound then.
    pub fn bind(&mut self, aivt: AivtId, pair: Pair, tunnel: PeerId) -> Result<(), TableError> {
        let way = Box::new(self.way_back(aivt)?);
        let half = self.aivts.of(aivt).and_then(|installed| installed.halves.first());
        let forward = *half.ok_or(TableError::Unknown("AIVT"))?;
        let owner = match tunnel {
            PeerId::INTERNET => forward.worker,
            _ => self.owner_of(tunnel)?,
        };
        if !self.flow_room.is_left(owner) {
            return Err(TableError::Full("flow"));
        }
        let installed = self.aivts.of_mut(aivt).ok_or(TableError::Unknown("AIVT"))?;
        let Part::Exit(exit) = &mut installed.part else {
            return Err(TableError::Unknown("exit"));
        };
        exit.bound = Some((owner, tunnel, pair));
        let flow = exit.flow;
        if tunnel == PeerId::INTERNET {
            self.open_flows.note(flow, aivt, owner);
        }
        let answers = Flow {
            tunnel,
            pair: pair.reversed(),
            end: FlowEnd::Exit,
            way: Some(way),
            opening: ArrayVec::new(),
        };
        self.flow_room.take(owner);
        self.command(owner, Command::AnswerFlow(Box::new(answers)));
        self.command(
            forward.worker,
            Command::Bind {
                slot: forward.slot,
                tunnel,
                pair,
                flow,
            },
        );
        Ok(())
    }

    /// The exit sends a verdict.
    ///
    /// # Errors
    /// [`TableError::Unknown`].
    pub fn refuse(&mut self, aivt: AivtId, verdict: Verdict) -> Result<(), TableError> {
        if let Some((owner, tunnel, pair)) = self.bound(aivt) {
            let (pair, verdict) = (pair.reversed(), verdict as u8);
            self.command(owner, Command::Verdict { tunnel, pair, verdict });
            return Ok(());
        }
        let way = Box::new(self.way_back(aivt)?);
        let half = self.aivts.of(aivt).and_then(|installed| installed.halves.first());
        let Half { worker, slot, .. } = *half.ok_or(TableError::Unknown("AIVT"))?;
        self.command(
            worker,
            Command::Refuse {
                slot,
                way,
                verdict: verdict as u8,
            },
        );
        if let Some(Part::Exit(exit)) = self.aivts.of_mut(aivt).map(|installed| &mut installed.part) {
            exit.verdicts += 1;
        }
        Ok(())
    }

    /// What the exit's AIVT is bound to.
    fn bound(&self, aivt: AivtId) -> Option<(WorkerId, PeerId, Pair)> {
        match &self.aivts.of(aivt)?.part {
            Part::Exit(exit) => exit.bound,
            Part::Entrance(_) | Part::Intermediate => None,
        }
    }

    /// The worker that owns the tunnel of `peer`.
    fn owner_of(&self, peer: PeerId) -> Result<WorkerId, TableError> {
        let keys = self.peers.get(&peer).ok_or(TableError::Unknown("tunnel"))?;
        Ok(keys.owner)
    }

    /// Takes an AIVT out of the packet path at `now`. The entrance's flow stays and waits.
    pub fn remove(&mut self, now: Now, aivt: AivtId) {
        let Some(installed) = self.aivts.remove(aivt) else {
            return;
        };
        match installed.part {
            Part::Entrance(flow) => {
                if let Some(owner) = self.flow_owner(flow) {
                    self.command(owner, Command::SuspendFlow(flow));
                }
            }
            Part::Exit(exit) => {
                if let Some((owner, tunnel, pair)) = exit.bound {
                    self.flow_room.leave(owner);
                    self.command(owner, Command::RemoveAnswerFlow(tunnel, pair.reversed()));
                    if tunnel == PeerId::INTERNET {
                        self.open_flows.end(now, exit.flow, aivt);
                    }
                }
            }
            Part::Intermediate => {}
        }
        // Last: with it go the keys of a generation that is over, and ways sign with them too.
        for half in installed.halves {
            self.remove_half(half);
        }
    }

    /// The source that a flow shows from its next AIVT on.
    pub fn rewrite(&mut self, flow: FlowId, source: IpAddr) {
        if let Some(facts) = self.flows.get_mut(&flow) {
            facts.shown = Some(source);
        }
        if let Some(owner) = self.flow_owner(flow) {
            self.command(owner, Command::Rewrite(flow, source));
        }
    }

    /// Ends a flow at the entrance.
    pub fn close_flow(&mut self, flow: FlowId, refused: bool) {
        if let Some(owner) = self.flow_owner(flow) {
            let closing = if refused {
                Closing::Prohibited
            } else {
                Closing::Silently
            };
            self.flow_room.leave(owner);
            self.command(owner, Command::CloseFlow(flow, closing));
        }
        self.flows.remove(&flow);
    }

    /// Seals a signal, or an answer to a host, into the tunnel of `peer`.
    pub fn signal(&mut self, peer: PeerId, datagram: B) {
        if let Some(owner) = self.peers.get(&peer).map(|keys| keys.owner) {
            self.command(owner, Command::Signal(peer, datagram));
        }
    }

    /// A datagram of the node's own enters, from `peer`, which [`Self::add_own`] made known.
    pub fn enter(&mut self, peer: PeerId, datagram: B) {
        if let Some(owner) = self.peers.get(&peer).map(|keys| keys.owner) {
            self.command(owner, Command::Enter(peer, datagram));
        }
    }

    #[cfg(feature = "test-dump")]
    pub(crate) fn known_flows(&self) -> impl Iterator<Item = (Pair, Option<IpAddr>)> {
        self.flows.values().map(|facts| (facts.pair, facts.shown))
    }

    /// Moves what waits into the workers' rings.
    pub fn pump(&mut self, workers: &mut impl Workers<C, B>) {
        for (worker, backlog) in (0..).map(WorkerId).zip(&mut self.backlog) {
            while let Some(command) = backlog.pop_front() {
                if let Err(command) = workers.send(worker, command) {
                    backlog.push_front(command);
                    break;
                }
            }
        }
    }

    /// An AIVT whose workers have all its entries now: in the order in which they were installed, so that none is searched for.
    pub fn poll_installed(&mut self, workers: &impl Workers<C, B>) -> Option<AivtId> {
        while let Some((aivt, waits)) = self.installing.front() {
            let gone = self.aivts.of(*aivt).is_none();
            if !gone && !waits.iter().all(|(worker, count)| workers.done(*worker) >= *count) {
                return None;
            }
            let aivt = *aivt;
            self.installing.pop_front();
            if !gone {
                return Some(aivt);
            }
        }
        None
    }

    /// Whether some AIVT's workers have not all its entries yet.
    pub fn is_installing(&self) -> bool {
        !self.installing.is_empty()
    }

    /// Entries made and not removed: AIVTs, flows, associations in the flow table.
    pub fn in_use(&self) -> [usize; 3] {
        [self.aivts.len(), self.flows.len(), self.table.len()]
    }

    fn command(&mut self, worker: WorkerId, command: Command<C, B>) {
        let at = usize::from(worker.0);
        self.backlog[at].push_back(command);
        self.sent[at] += 1;
    }

    /// The owner of a PVT with a rate, which owns its TVTs too.
    fn carrier_owner(&self, link: Link) -> Option<WorkerId> {
        self.peers
            .get(&link.peer)
            .filter(|peer| peer.carries())
            .map(|peer| peer.owner)
    }

    /// The worker that shall own the inbound half of `link`.
    fn owner_for(&mut self, link: Link) -> WorkerId {
        if let Some(owner) = self.carrier_owner(link) {
            return owner;
        }
        let steered = self
            .steering
            .as_ref()
            .and_then(|steering| steering(link.peer, link.spi));
        match steered {
            Some(worker) if usize::from(worker.0) < self.backlog.len() => worker,
            Some(_) | None => self.turn(),
        }
    }

    fn turn(&mut self) -> WorkerId {
        let worker = WorkerId(self.next_worker);
        self.next_worker = (self.next_worker + 1) % self.backlog.len() as u8;
        worker
    }

    fn flow_owner(&self, flow: FlowId) -> Option<WorkerId> {
        let facts = self.flows.get(&flow)?;
        self.peers.get(&facts.tunnel).map(|peer| peer.owner)
    }
}
