//! One worker's packet path: its entries, and what the control thread tells it to do with them.

use std::collections::VecDeque;
use std::sync::Arc;

use ain_crypto::Backend;

use crate::aggfrag::{EdgePool, write_verdict};
use crate::allowance::OfInitiator;
use crate::command::{Closing, Command, Event, Retired};
use crate::count::Counters;
use crate::entry::{EdgeTo, Flow, FlowEnd, Next, Tvt, Way};
use crate::flow::Flows;
use crate::icmp::Problem;
use crate::id::{FlowId, Now, Pair, PeerId, WorkerId};
use crate::key::Keys;
use crate::limits::{BURST, EDGES, FOR_OWN_PER_SECOND, KEY_SLOTS, WAITING};
use crate::nat::{self, Nat};
use crate::outside::Outside;
use crate::packet::PacketBuf;
use crate::peers::Peers;
use crate::per_second::PerSecond;
use crate::refused::Refused;
use crate::slab::Slab;
use crate::stage::Lane;
use crate::stage::exception::Given;
use crate::stage::internet::OpenExit;
use crate::stage::pack::{FreshCell, next_cell};
use crate::stage::shape::Shapers;
use crate::table::Reader;
use crate::tunnel::{Association, Tunnel};
use crate::verdict::DropReason;
use crate::waiting::{Waiting, WaitsFor};
use crate::wire::cell::CellProfile;

/// Datagrams for host tunnels.
pub(crate) type Outbox<B> = VecDeque<(PeerId, B)>;
/// Datagrams of this node's making for flows.
pub(crate) type IntoFlow<B> = VecDeque<(PeerId, Pair, B)>;

/// How many entries a worker has room for; everything is allocated at the start.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Inbound TVTs.
    pub tvts: u32,
    /// Tunnels.
    pub tunnels: u32,
    /// Flows of hosts.
    pub flows: u32,
}

/// One worker's packet path. [`crate::pipeline`] tells what it does with packets.
pub struct Engine<C: Backend, B> {
    pub(crate) id: WorkerId,
    pub(crate) crypto: C,
    pub(crate) table: Reader,
    pub(crate) keys: Keys<C>,
    pub(crate) tvts: Slab<Tvt<C>>,
    pub(crate) tunnels: Slab<Tunnel<C>>,
    pub(crate) flows: Flows<C>,
    pub(crate) waiting: Waiting<B>,
    pub(crate) refused: Refused,
    /// What initiators have used of their allowances, by their tunnels' slots.
    pub(crate) initiators: Box<[OfInitiator]>,
    pub(crate) pool: EdgePool,
    pub(crate) counters: Arc<Counters>,
    pub(crate) ready: Lane<(u32, B)>,
    pub(crate) fresh: VecDeque<FreshCell<B>>,
    pub(crate) outbox: Outbox<B>,
    pub(crate) into_flow: IntoFlow<B>,
    pub(crate) shapers: Shapers<B>,
    pub(crate) open_exit: Option<Box<OpenExit<B>>>,
    pub(crate) for_own: PerSecond,
    /// By port: what the kernel was given, of ports that it does not share.
    pub(crate) given: Vec<Option<Given>>,
}

impl<C: Backend, B: PacketBuf> Engine<C, B> {
    /// An empty packet path of worker `id`, reading owners from `table`.
    pub fn new(id: WorkerId, crypto: C, table: Reader, capacity: Capacity, profile: CellProfile) -> Self {
        let datagrams_a_burst = BURST * profile.data_len() / crate::wire::ipv4::HEADER_LEN;
        Self {
            id,
            crypto,
            table,
            keys: Keys::new(KEY_SLOTS),
            tvts: Slab::new(capacity.tvts as usize),
            tunnels: Slab::new(capacity.tunnels as usize),
            flows: Flows::new(id, capacity.flows),
            waiting: Waiting::new(WAITING),
            refused: Refused::default(),
            initiators: vec![OfInitiator::default(); capacity.tunnels as usize].into(),
            pool: EdgePool::new(EDGES, profile.data_len()),
            counters: Arc::default(),
            ready: Lane::new(),
            fresh: VecDeque::with_capacity(BURST * (1 + crate::aggfrag::MAX_DATAGRAM / profile.data_len())),
            outbox: VecDeque::with_capacity(datagrams_a_burst),
            into_flow: VecDeque::with_capacity(datagrams_a_burst),
            shapers: Shapers::default(),
            open_exit: None,
            for_own: PerSecond::new(FOR_OWN_PER_SECOND),
            given: Vec::new(),
        }
    }

    /// Reaches hosts of the Internet from now on; `seed` is secret and another for each worker.
    pub fn open_exit(&mut self, settings: Arc<nat::Settings>, seed: [u8; 32]) {
        let flows = u32::try_from(self.flows.slab().capacity()).unwrap_or(u32::MAX);
        let nat = Nat::new(self.id, settings, flows, seed);
        self.open_exit = Some(Box::new(OpenExit::new(nat)));
    }

    /// This worker's counters.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Carries out a command of the control thread.
    pub fn command(&mut self, now: Now, peers: &Peers, command: Command<C, B>, io: &mut impl Outside<C, B>) {
        match command {
            Command::Key { slot, key, iv } => {
                let old = self.keys.put(slot, key, iv);
                retire(old.map(Retired::Key), io);
            }
            Command::RemoveKey(slot) => retire(self.keys.take(slot).map(Retired::Key), io),
            Command::Tunnel(slot, tunnel) => {
                self.shapers.remove(slot);
                if let Some(pace) = &tunnel.pace {
                    self.shapers.add(now, (tunnel.peer, slot), *pace);
                }
                retire(self.tunnels.put(slot, tunnel).map(Retired::Tunnel), io);
            }
            Command::RemoveTunnel(slot) => {
                self.shapers.remove(slot);
                retire(self.tunnels.take(slot).map(Retired::Tunnel), io);
            }
            Command::AddSa(slot, sa) => self.add_sa(slot, sa, io),
            Command::RemoveSa(slot, direction, protocol, spi) => {
                let tunnel = self.tunnels.entry_mut(slot);
                let gone = tunnel.and_then(|tunnel| tunnel.take(direction, protocol, spi));
                retire(gone.map(Retired::Sa), io);
            }
            Command::Tvt(slot, tvt) => retire(self.tvts.put(slot, tvt).map(Retired::Tvt), io),
            Command::RemoveTvt(slot) => self.remove_tvt(slot, io),
            Command::OpenFlow(flow, way) => self.open_flow(now, peers, flow, way, io),
            Command::SuspendFlow(flow) => self.suspend_flow(flow, io),
            Command::Rewrite(flow, source) => self.with_flow(flow, |flow| {
                if let FlowEnd::Entrance { shown, .. } = &mut flow.end {
                    *shown = Some(source);
                }
            }),
            Command::CloseFlow(flow, closing) => self.close_flow(now, peers, flow, closing, io),
            Command::AnswerFlow(flow) => retire(self.flows.add_answers(flow).map(Retired::Flow), io),
            Command::RemoveAnswerFlow(tunnel, pair) => {
                self.leave_internet(now, tunnel, pair);
                retire(self.flows.remove_answers(tunnel, pair).map(Retired::Flow), io);
            }
            Command::Bind {
                slot,
                tunnel,
                pair,
                flow,
            } => {
                let bound = self.bound(now, tunnel, pair, flow);
                self.bind(now, peers, slot, bound, io);
            }
            Command::Refuse { slot, way, verdict } => self.refuse(peers, slot, way, verdict, io),
            Command::Verdict { tunnel, pair, verdict } => self.last_word(peers, tunnel, pair, verdict, io),
            Command::Signal(peer, datagram) => self.outbox.push_back((peer, datagram)),
            Command::Enter(id, datagram) => match peers.peer(id).and_then(|peer| peer.kind.policy()) {
                Some(policy) => self.enter(now, peers, (id, policy), datagram, io),
                None => self.counters.dropped(DropReason::Gone),
            },
        }
        self.flush(now, peers, io);
    }

    fn add_sa(&mut self, slot: u32, sa: Association<C>, io: &mut impl Outside<C, B>) {
        let old = match self.tunnels.entry_mut(slot) {
            Some(tunnel) => {
                sa.used().put_in_place();
                tunnel.put(sa)
            }
            None => Some(sa),
        };
        retire(old.map(Retired::Sa), io);
    }

    fn remove_tvt(&mut self, slot: u32, io: &mut impl Outside<C, B>) {
        while self.waiting.take_first(WaitsFor::Binding(slot)).is_some() {
            self.counters.dropped(DropReason::Gone);
        }
        let mut gone = self.tvts.take(slot);
        if let Some(Next::Edge(edge)) = gone.as_mut().map(|tvt| &mut tvt.next) {
            edge.unpacker.clear(&mut self.pool);
        }
        retire(gone.map(Retired::Tvt), io);
    }

    fn with_flow(&mut self, id: FlowId, change: impl FnOnce(&mut Flow<C>)) {
        if let Some(flow) = self.flows.by_id(id).and_then(|slot| self.flows.entry_mut(slot)) {
            change(flow);
        }
    }

    fn open_flow(&mut self, now: Now, peers: &Peers, id: FlowId, way: Box<Way<C>>, io: &mut impl Outside<C, B>) {
        let Some(slot) = self.flows.by_id(id) else {
            return retire(Some(Retired::Way(way)), io);
        };
        let old = self.flows.entry_mut(slot).and_then(|flow| flow.way.replace(way));
        retire(old.map(Retired::Way), io);
        while let Some(datagram) = self.waiting.take_first(WaitsFor::Flow(slot)) {
            self.enter_flow(now, peers, slot, datagram, io);
        }
    }

    fn suspend_flow(&mut self, id: FlowId, io: &mut impl Outside<C, B>) {
        let mut old = None;
        self.with_flow(id, |flow| old = flow.way.take());
        retire(old.map(Retired::Way), io);
    }

    fn close_flow(&mut self, now: Now, peers: &Peers, id: FlowId, closing: Closing, io: &mut impl Outside<C, B>) {
        let Some(slot) = self.flows.by_id(id) else { return };
        let tunnel = self.flows.slab().entry(slot).map(|flow| flow.tunnel);
        let mut nothing_waited = true;
        while let Some(datagram) = self.waiting.take_first(WaitsFor::Flow(slot)) {
            nothing_waited = false;
            self.counters.dropped(DropReason::Refused);
            if let (Closing::Prohibited, Some(tunnel)) = (closing, tunnel) {
                self.complain(peers, tunnel, Problem::AdministrativelyProhibited, datagram.data(), io);
            }
        }
        let flow = self.flows.end(slot);
        if let (Closing::Prohibited, true, Some(flow)) = (closing, nothing_waited, &flow) {
            self.complain_of_opening(peers, flow, io);
        }
        if let (Closing::Prohibited, Some(flow)) = (closing, &flow) {
            self.refused.note(now, flow.tunnel, flow.pair);
        }
        retire(flow.map(Retired::Flow), io);
    }

    fn bind(&mut self, now: Now, peers: &Peers, slot: u32, bound: EdgeTo, io: &mut impl Outside<C, B>) {
        if let Some(Next::Edge(edge)) = self.tvts.entry_mut(slot).map(|tvt| &mut tvt.next) {
            edge.to = bound;
            self.deliver_waiting(now, peers, slot, io);
        }
    }

    /// One verdict cell, on the way back that is made for it.
    fn refuse(&mut self, peers: &Peers, slot: u32, mut way: Box<Way<C>>, verdict: u8, io: &mut impl Outside<C, B>) {
        while self.waiting.take_first(WaitsFor::Binding(slot)).is_some() {
            self.counters.dropped(DropReason::Refused);
        }
        // The verdict may get lost: the next datagram asks again.
        if let Some(Next::Edge(edge)) = self.tvts.entry_mut(slot).map(|tvt| &mut tvt.next) {
            edge.to = EdgeTo::Unbound { asked: None };
        }
        self.send_verdict(peers, &mut way, verdict, io);
        retire(Some(Retired::Way(way)), io);
    }

    /// One verdict cell, after all that the responder has sent.
    fn last_word(&mut self, peers: &Peers, tunnel: PeerId, pair: Pair, verdict: u8, io: &mut impl Outside<C, B>) {
        let Some(slot) = self.flows.answers(tunnel, pair) else {
            return;
        };
        let Some(mut way) = self.flows.entry_mut(slot).and_then(|flow| flow.way.take()) else {
            return;
        };
        self.send_verdict(peers, &mut way, verdict, io);
        if let Some(flow) = self.flows.entry_mut(slot) {
            flow.way = Some(way);
        }
    }

    fn send_verdict(&mut self, peers: &Peers, way: &mut Way<C>, verdict: u8, io: &mut impl Outside<C, B>) {
        match next_cell(way, peers.profile().cell_len(), io) {
            Some((sequence, mut cell)) => {
                write_verdict(cell.data_mut(), sequence, verdict);
                self.send_alone(peers, way, cell, io);
            }
            None => self.counters.dropped(DropReason::NoBuffer),
        }
    }

    /// Entries in use, for tests and `ain status`: TVTs, flows, waiting datagrams, pieces of datagrams.
    pub fn in_use(&mut self) -> [usize; 4] {
        [
            self.tvts.iter_mut().count(),
            self.flows.len(),
            self.waiting.len(),
            self.pool.waiting(),
        ]
    }
}

/// Sends an entry home. If the ring is full it is freed here: late, but never lost.
pub(crate) fn retire<C: Backend, B: PacketBuf>(entry: Option<Retired<C>>, io: &mut impl Outside<C, B>) {
    if let Some(entry) = entry {
        let _freed_here = io.report(Event::Retired(entry));
    }
}
