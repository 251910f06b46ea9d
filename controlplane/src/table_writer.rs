//! From the words of the protocol to entries of the packet path: expands keys, chooses owners and slots, fills the flow table, and
//! tells when every worker concerned has an entry.
//!
//! ```text
//!   Node ──Action──► TableWriter ──Command──► worker 0, 1, ...      (bounded rings; what does not fit waits here, in order)
//!                        └── (peer, SPI) → owner, slot ──► flow table, read by all workers
//! ```
//! Owners: the inbound half of a TVT belongs to one worker, which also numbers the packets of the TVT it leads to. At the entrance
//! that is the owner of the initiator's tunnel, so that the entrance never crosses threads; elsewhere workers take turns. The way
//! back from an exit belongs to the owner of the responder's tunnel.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ain_crypto::{AeadAlgorithm, Backend, Direction, KeyLengthError, LayerOp, MacAlgorithm};
use ain_dataplane::aggfrag::Unpacker;
use ain_dataplane::command::{Closing, Command, IvSource};
use ain_dataplane::engine::Capacity;
use ain_dataplane::entry::{
    Activity, AhIn, AhKey, AhOut, Edge, EdgeTo, EspIn, EspOut, Flow, FlowEnd, Next, Tunnel, Tvt, TvtOut, Way,
};
use ain_dataplane::id::{AivtId, FlowId, KeySlot, Now, Pair, PeerId, Spi, WorkerId};
use ain_dataplane::reserve::{Grant, Reserved};
use ain_dataplane::sa::{SeqNo, TunnelWindow, TvtWindow};
use ain_dataplane::table::{Target, TargetKind, Writer};
use hkdf::Hkdf;
use rustc_hash::FxHashMap;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::action::{HopKeys, Link, Route, Verdict};

/// Rings to the workers.
pub trait Workers<C: Backend, B> {
    /// Puts a command into a worker's ring, or gives it back if the ring is full.
    fn send(&mut self, to: WorkerId, command: Command<C, B>) -> Result<(), Command<C, B>>;
    /// Commands that the worker has carried out since the start.
    fn done(&self, worker: WorkerId) -> u64;
}

/// One inbound association of a tunnel.
pub struct InboundSa {
    /// SPI chosen here.
    pub spi: Spi,
    /// Key material.
    pub key: Zeroizing<Vec<u8>>,
    /// Highest number accepted before a restart; it and those below are refused.
    pub resume_after: u64,
}

/// One outbound association of a tunnel.
pub struct OutboundSa {
    /// SPI chosen by the peer.
    pub spi: Spi,
    /// Key material.
    pub key: Zeroizing<Vec<u8>>,
    /// Sequence numbers that may be used.
    pub grant: Arc<Grant>,
}

/// An ESP+AH tunnel with its key material.
pub struct TunnelSpec {
    /// The other end.
    pub peer: PeerId,
    /// The worker that shall own it.
    pub owner: WorkerId,
    /// AH algorithm, both directions.
    pub ah: MacAlgorithm,
    /// ESP algorithm, both directions.
    pub esp: AeadAlgorithm,
    /// Extended sequence numbers on AH and ESP.
    pub esn: bool,
    /// AH from the peer.
    pub ah_in: InboundSa,
    /// AH to the peer.
    pub ah_out: OutboundSa,
    /// Explicit IVs under the outbound AH key, one grant a worker, the worker's number in the top byte; empty unless GMAC.
    pub ah_ivs: Vec<Arc<Grant>>,
    /// ESP from the peer.
    pub esp_in: InboundSa,
    /// ESP to the peer.
    pub esp_out: OutboundSa,
}

/// Where the control thread reads the highest accepted numbers of a tunnel, to save them.
#[derive(Clone, Debug)]
pub struct TunnelProgress {
    /// The other end.
    pub peer: PeerId,
    /// Highest AH number accepted.
    pub ah: Arc<AtomicU64>,
    /// Highest ESP number accepted.
    pub esp: Arc<AtomicU64>,
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
}

#[derive(Clone, Copy)]
struct PeerKeys {
    owner: WorkerId,
    key_in: KeySlot,
    key_out: KeySlot,
}

/// One inbound half in a worker.
#[derive(Clone, Copy)]
struct Half {
    link: Link,
    worker: WorkerId,
    slot: u32,
}

enum Part {
    Intermediate,
    Entrance(FlowId),
    Exit {
        keys: HopKeys,
        upstream: Link,
        bound: Option<(PeerId, Pair)>,
    },
}

struct Installed {
    halves: Vec<Half>,
    part: Part,
    activity: Arc<Activity>,
}

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

/// The control thread's side of the packet path.
pub struct TableWriter<C: Backend, B> {
    table: Writer,
    backlog: Vec<VecDeque<Command<C, B>>>,
    sent: Vec<u64>,
    tvt_slots: Vec<Slots>,
    tunnel_slots: Vec<Slots>,
    peers: FxHashMap<PeerId, PeerKeys>,
    next_key: u16,
    next_worker: u8,
    aivts: FxHashMap<AivtId, Installed>,
    flows: FxHashMap<FlowId, FlowFacts>,
    installing: Vec<(AivtId, Vec<(WorkerId, u64)>)>,
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
            next_key: 0,
            next_worker: 0,
            aivts: FxHashMap::default(),
            flows: FxHashMap::default(),
            installing: Vec::new(),
        }
    }

    /// Installs a tunnel; returns its slot at the owner and where its progress can be read.
    ///
    /// # Errors
    /// [`TableError`]; nothing is installed then.
    pub fn add_tunnel(&mut self, spec: &TunnelSpec) -> Result<(u32, TunnelProgress), TableError> {
        let key_in = AhKey::<C> {
            algorithm: spec.ah,
            key: C::mac_key(spec.ah, &spec.ah_in.key)?,
        };
        let key_out = AhKey::<C> {
            algorithm: spec.ah,
            key: C::mac_key(spec.ah, &spec.ah_out.key)?,
        };
        let (slot_in, slot_out) = (KeySlot(self.next_key), KeySlot(self.next_key + 1));
        let progress = TunnelProgress {
            peer: spec.peer,
            ah: Arc::new(AtomicU64::new(spec.ah_in.resume_after)),
            esp: Arc::new(AtomicU64::new(spec.esp_in.resume_after)),
        };
        let tunnel = Box::new(Tunnel {
            peer: spec.peer,
            ah_in: AhIn {
                spi: spec.ah_in.spi,
                key: slot_in,
                esn: spec.esn,
                window: TunnelWindow::resume_after(SeqNo(spec.ah_in.resume_after)),
                highest: Arc::clone(&progress.ah),
            },
            ah_out: AhOut {
                spi: spec.ah_out.spi,
                key: slot_out,
                esn: spec.esn,
                seq: Reserved::new(Arc::clone(&spec.ah_out.grant)),
            },
            esp_in: EspIn {
                spi: spec.esp_in.spi,
                key: C::aead_key(spec.esp, &spec.esp_in.key)?,
                esn: spec.esn,
                window: TunnelWindow::resume_after(SeqNo(spec.esp_in.resume_after)),
                highest: Arc::clone(&progress.esp),
            },
            esp_out: EspOut {
                spi: spec.esp_out.spi,
                key: C::aead_key(spec.esp, &spec.esp_out.key)?,
                esn: spec.esn,
                seq: Reserved::new(Arc::clone(&spec.esp_out.grant)),
                iv_mask: iv_mask(&spec.esp_out.key),
            },
        });
        let slots = self
            .tunnel_slots
            .get_mut(usize::from(spec.owner.0))
            .ok_or(TableError::Unknown("worker"))?;
        let slot = slots.free.pop().ok_or(TableError::Full("tunnel"))?;
        self.next_key += 2;
        self.publish_key(slot_in, key_in, &[], 0);
        self.publish_key(slot_out, key_out, &spec.ah_ivs, iv_mask(&spec.ah_out.key));
        self.command(spec.owner, Command::Tunnel(slot, tunnel));
        let target = Target {
            worker: spec.owner,
            slot,
            generation: 0,
            kind: TargetKind::Tunnel,
        };
        self.table
            .insert(spec.peer, spec.ah_in.spi, target)
            .map_err(|_| TableError::Full("association"))?;
        let keys = PeerKeys {
            owner: spec.owner,
            key_in: slot_in,
            key_out: slot_out,
        };
        self.peers.insert(spec.peer, keys);
        Ok((slot, progress))
    }

    /// Every worker gets the schedule, and its own IVs under it.
    fn publish_key(&mut self, slot: KeySlot, key: AhKey<C>, ivs: &[Arc<Grant>], mask: u64) {
        let key = Arc::new(key);
        for worker in 0..self.backlog.len() {
            let iv = ivs.get(worker).map(|grant| IvSource {
                counter: Reserved::new(Arc::clone(grant)),
                mask,
            });
            self.command(
                WorkerId(worker as u8),
                Command::Key {
                    slot,
                    key: Arc::clone(&key),
                    iv,
                },
            );
        }
    }

    /// A flow that a worker has begun. Call before the node hears of it.
    pub fn note_flow(&mut self, flow: FlowId, tunnel: PeerId, pair: Pair) {
        self.flows.insert(
            flow,
            FlowFacts {
                tunnel,
                pair,
                shown: None,
            },
        );
    }

    /// Installs a node's part in an AIVT. [`Self::poll_installed`] tells when workers have it.
    ///
    /// # Errors
    /// [`TableError`]; nothing is installed then.
    pub fn install(&mut self, now: Now, aivt: AivtId, route: Route) -> Result<(), TableError> {
        let activity = Arc::new(Activity::default());
        activity.touch(now);
        let installed = match route {
            Route::Intermediate {
                upstream,
                downstream,
                keys,
            } => self.install_intermediate(aivt, upstream, downstream, &keys, &activity)?,
            Route::Entrance { flow, downstream, keys } => {
                self.install_entrance(aivt, flow, downstream, &keys, &activity)?
            }
            Route::Exit { upstream, keys } => self.install_exit(aivt, upstream, keys, &activity)?,
        };
        let waits = installed
            .halves
            .iter()
            .map(|half| (half.worker, self.sent[usize::from(half.worker.0)]))
            .collect();
        self.installing.push((aivt, waits));
        self.aivts.insert(aivt, installed);
        Ok(())
    }

    fn install_intermediate(
        &mut self,
        aivt: AivtId,
        upstream: Link,
        downstream: Link,
        keys: &HopKeys,
        activity: &Arc<Activity>,
    ) -> Result<Installed, TableError> {
        let (to_exit, to_entrance) = (self.tvt_out(downstream)?, self.tvt_out(upstream)?);
        let forward = Next::Relay {
            out: to_exit,
            direction: Direction::Forward,
        };
        let backward = Next::Relay {
            out: to_entrance,
            direction: Direction::Backward,
        };
        let owner = self.turn();
        let first = self.add_half(owner, upstream, |spi_key| {
            half(
                aivt,
                upstream,
                spi_key,
                Direction::Forward,
                LayerOp::Decrypt,
                &[keys],
                forward,
                activity,
            )
        })?;
        let owner = self.turn();
        let second = self.add_half(owner, downstream, |spi_key| {
            half(
                aivt,
                downstream,
                spi_key,
                Direction::Backward,
                LayerOp::Encrypt,
                &[keys],
                backward,
                activity,
            )
        });
        let second = second.inspect_err(|_| self.remove_half(first))?;
        Ok(Installed {
            halves: vec![first, second],
            part: Part::Intermediate,
            activity: Arc::clone(activity),
        })
    }

    fn install_entrance(
        &mut self,
        aivt: AivtId,
        flow: FlowId,
        downstream: Link,
        keys: &[HopKeys],
        activity: &Arc<Activity>,
    ) -> Result<Installed, TableError> {
        let FlowFacts { tunnel, pair, shown } = *self.flows.get(&flow).ok_or(TableError::Unknown("flow"))?;
        let owner = self.peers.get(&tunnel).ok_or(TableError::Unknown("tunnel"))?.owner;
        let edge = edge(aivt, EdgeTo::Initiator { tunnel, pair, shown });
        let nearest_first: Vec<&HopKeys> = keys.iter().collect();
        let back = self.add_half(owner, downstream, |spi_key| {
            half(
                aivt,
                downstream,
                spi_key,
                Direction::Backward,
                LayerOp::Decrypt,
                &nearest_first,
                edge,
                activity,
            )
        })?;
        let farthest_first: Vec<&HopKeys> = keys.iter().rev().collect();
        let out = self.tvt_out(downstream)?;
        let way = Box::new(way(aivt, Direction::Forward, &farthest_first, out, activity));
        self.command(owner, Command::OpenFlow(flow, way));
        Ok(Installed {
            halves: vec![back],
            part: Part::Entrance(flow),
            activity: Arc::clone(activity),
        })
    }

    fn install_exit(
        &mut self,
        aivt: AivtId,
        upstream: Link,
        keys: HopKeys,
        activity: &Arc<Activity>,
    ) -> Result<Installed, TableError> {
        let owner = self.turn();
        let edge = edge(aivt, EdgeTo::Unbound { asked: None });
        let forward = self.add_half(owner, upstream, |spi_key| {
            half(
                aivt,
                upstream,
                spi_key,
                Direction::Forward,
                LayerOp::Decrypt,
                &[&keys],
                edge,
                activity,
            )
        })?;
        let part = Part::Exit {
            keys,
            upstream,
            bound: None,
        };
        Ok(Installed {
            halves: vec![forward],
            part,
            activity: Arc::clone(activity),
        })
    }

    /// Binds an exit's AIVT: first the way back, at the tunnel's owner, then the way out.
    ///
    /// # Errors
    /// [`TableError::Unknown`].
    pub fn bind(&mut self, aivt: AivtId, pair: Pair, tunnel: PeerId) -> Result<(), TableError> {
        let owner = self.peers.get(&tunnel).ok_or(TableError::Unknown("tunnel"))?.owner;
        let way = Box::new(self.way_back(aivt)?);
        let installed = self.aivts.get_mut(&aivt).ok_or(TableError::Unknown("AIVT"))?;
        let forward = *installed.halves.first().ok_or(TableError::Unknown("AIVT"))?;
        if let Part::Exit { bound, .. } = &mut installed.part {
            *bound = Some((tunnel, pair));
        }
        let answers = Flow {
            tunnel,
            pair: pair.reversed(),
            end: FlowEnd::Exit,
            way: Some(way),
        };
        self.command(owner, Command::AnswerFlow(Box::new(answers)));
        self.command(
            forward.worker,
            Command::Bind {
                slot: forward.slot,
                tunnel,
                pair,
            },
        );
        Ok(())
    }

    /// The exit sends a verdict.
    ///
    /// # Errors
    /// [`TableError::Unknown`].
    pub fn refuse(&mut self, aivt: AivtId, verdict: Verdict) -> Result<(), TableError> {
        let way = Box::new(self.way_back(aivt)?);
        let half = self.aivts.get(&aivt).and_then(|installed| installed.halves.first());
        let Half { worker, slot, .. } = *half.ok_or(TableError::Unknown("AIVT"))?;
        self.command(
            worker,
            Command::Refuse {
                slot,
                way,
                verdict: verdict as u8,
            },
        );
        Ok(())
    }

    fn way_back(&self, aivt: AivtId) -> Result<Way<C>, TableError> {
        let installed = self.aivts.get(&aivt).ok_or(TableError::Unknown("AIVT"))?;
        match &installed.part {
            Part::Exit {
                keys,
                upstream,
                bound: None,
            } => Ok(way(
                aivt,
                Direction::Backward,
                &[keys],
                self.tvt_out(*upstream)?,
                &installed.activity,
            )),
            Part::Exit { .. } | Part::Entrance(_) | Part::Intermediate => Err(TableError::Unknown("unbound exit")),
        }
    }

    /// Takes an AIVT out of the packet path. The entrance's flow stays and waits.
    pub fn remove(&mut self, aivt: AivtId) {
        let Some(installed) = self.aivts.remove(&aivt) else {
            return;
        };
        self.installing.retain(|(id, _)| *id != aivt);
        for half in installed.halves {
            self.remove_half(half);
        }
        match installed.part {
            Part::Entrance(flow) => {
                if let Some(owner) = self.flow_owner(flow) {
                    self.command(owner, Command::SuspendFlow(flow));
                }
            }
            Part::Exit {
                bound: Some((tunnel, pair)),
                ..
            } => {
                if let Some(owner) = self.peers.get(&tunnel).map(|peer| peer.owner) {
                    self.command(owner, Command::RemoveAnswerFlow(tunnel, pair.reversed()));
                }
            }
            Part::Exit { bound: None, .. } | Part::Intermediate => {}
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
            self.command(owner, Command::CloseFlow(flow, closing));
        }
        self.flows.remove(&flow);
    }

    /// Seals a signal into the PVT of `peer`.
    pub fn signal(&mut self, peer: PeerId, datagram: B) {
        if let Some(owner) = self.peers.get(&peer).map(|keys| keys.owner) {
            self.command(owner, Command::Signal(peer, datagram));
        }
    }

    /// When each AIVT last carried a cell.
    pub fn activity(&self) -> impl Iterator<Item = (AivtId, Now)> {
        self.aivts
            .iter()
            .map(|(aivt, installed)| (*aivt, installed.activity.last()))
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

    /// An AIVT whose workers have all its entries now.
    pub fn poll_installed(&mut self, workers: &impl Workers<C, B>) -> Option<AivtId> {
        let ready =
            |(_, waits): &(AivtId, Vec<(WorkerId, u64)>)| waits.iter().all(|(w, count)| workers.done(*w) >= *count);
        let at = self.installing.iter().position(ready)?;
        Some(self.installing.remove(at).0)
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

    fn turn(&mut self) -> WorkerId {
        let worker = WorkerId(self.next_worker);
        self.next_worker = (self.next_worker + 1) % self.backlog.len() as u8;
        worker
    }

    fn flow_owner(&self, flow: FlowId) -> Option<WorkerId> {
        let facts = self.flows.get(&flow)?;
        self.peers.get(&facts.tunnel).map(|peer| peer.owner)
    }

    fn tvt_out(&self, link: Link) -> Result<TvtOut, TableError> {
        let keys = self.peers.get(&link.peer).ok_or(TableError::Unknown("neighbour"))?;
        Ok(TvtOut {
            peer: link.peer,
            spi: link.spi,
            key: keys.key_out,
            next_seq: 1,
        })
    }

    fn add_half(
        &mut self,
        worker: WorkerId,
        link: Link,
        make: impl FnOnce(KeySlot) -> Tvt<C>,
    ) -> Result<Half, TableError> {
        let key = self
            .peers
            .get(&link.peer)
            .ok_or(TableError::Unknown("neighbour"))?
            .key_in;
        let slots = &mut self.tvt_slots[usize::from(worker.0)];
        let slot = slots.free.pop().ok_or(TableError::Full("TVT"))?;
        let target = Target {
            worker,
            slot,
            generation: 0,
            kind: TargetKind::Tvt,
        };
        if self.table.insert(link.peer, link.spi, target).is_err() {
            slots.free.push(slot);
            return Err(TableError::Full("association"));
        }
        self.command(worker, Command::Tvt(slot, Box::new(make(key))));
        Ok(Half { link, worker, slot })
    }

    fn remove_half(&mut self, half: Half) {
        self.table.remove(half.link.peer, half.link.spi);
        self.command(half.worker, Command::RemoveTvt(half.slot));
        self.tvt_slots[usize::from(half.worker.0)].free.push(half.slot);
    }
}

/// The tweak of an AIVT's layers: direction, suite, 14 zero bytes (protocol section 4).
fn tweak(direction: Direction, keys: &[&HopKeys]) -> [u8; 16] {
    let mut tweak = [0; 16];
    tweak[0] = direction as u8;
    tweak[1] = keys.first().map_or(0, |keys| keys.suite);
    tweak
}

fn layers<C: Backend, const N: usize>(direction: Direction, keys: &[&HopKeys]) -> arrayvec::ArrayVec<C::LayerKey, N> {
    let of = |keys: &&HopKeys| match direction {
        Direction::Forward => C::layer_key(&keys.forward),
        Direction::Backward => C::layer_key(&keys.backward),
    };
    keys.iter().take(N).map(of).collect()
}

#[allow(clippy::too_many_arguments)] // one constructor for the three parts of an AIVT
fn half<C: Backend>(
    aivt: AivtId,
    link: Link,
    key: KeySlot,
    direction: Direction,
    op: LayerOp,
    keys: &[&HopKeys],
    next: Next,
    activity: &Arc<Activity>,
) -> Tvt<C> {
    Tvt {
        aivt,
        peer: link.peer,
        spi: link.spi,
        key,
        window: TvtWindow::new(),
        layers: layers::<C, { ain_dataplane::limits::MAX_HOPS }>(direction, keys),
        op,
        tweak: tweak(direction, keys),
        next,
        activity: Arc::clone(activity),
    }
}

fn way<C: Backend>(
    aivt: AivtId,
    direction: Direction,
    keys: &[&HopKeys],
    out: TvtOut,
    activity: &Arc<Activity>,
) -> Way<C> {
    Way {
        aivt,
        layers: layers::<C, { ain_dataplane::limits::MAX_HOPS }>(direction, keys),
        tweak: tweak(direction, keys),
        next_cell: 1,
        out,
        activity: Arc::clone(activity),
    }
}

fn edge(aivt: AivtId, to: EdgeTo) -> Next {
    Next::Edge(Box::new(Edge {
        window: TvtWindow::new(),
        unpacker: Unpacker::new(aivt),
        to,
    }))
}

/// What hides the count in explicit IVs: a secret of the key, the same after every restart, so that no IV repeats under it.
fn iv_mask(key: &[u8]) -> u64 {
    let mut mask = [0; 8];
    // 8 bytes are far below HKDF's limit of 255 blocks.
    let expanded = Hkdf::<Sha256>::new(None, key).expand(b"ain iv mask", &mut mask);
    debug_assert!(expanded.is_ok());
    u64::from_be_bytes(mask)
}
