//! The control node: entrance, intermediate and exit at once.
//!
//! It owns the PVTs' signalling, the AIVTs, the entrance's flows and the exit's bindings, and it is driven, never driving:
//!
//! ```text
//!   handle_signal, handle_opened, handle_new_flow, handle_bind, handle_installed, handle_timeout ...      (what happened, and when)
//!        |
//!      Node
//!        |
//!   poll_action until None, then poll_timeout                                              (what to do, and when to come back)
//! ```
//!
//! `now` is monotonic, `wall` the Unix time in seconds. After every call of a `handle_*` method the caller empties
//! [`Node::poll_action`] and asks [`Node::poll_timeout`] anew.

mod away;
mod checks;
#[cfg(feature = "test-dump")]
mod dump;
mod entrance;
mod exit;
mod keying;
mod life;
mod lost;
mod opening;
mod quota;
mod relay;
mod requests;
mod shutdown;
mod signals;
mod snapshot;
mod tickets;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use ain_dataplane::id::{AivtId, FlowId, Now, Pair, PeerId};
use ain_dataplane::nat;
use rand::CryptoRng;

use crate::action::Action;
use crate::aivt::Aivts;
use crate::associations::Keying;
pub use crate::config::{CellProfile, Config, Host, HostRole, Neighbour, Peer, Quotas, SourceOption, SpiSecret};
use crate::count::Counts;
use crate::directory::{Directory, NodeId};
use crate::flow::{Carrier, FlowNumber, Flows};
use crate::guard::Guards;
use crate::limits::{ENDS_AT_A_TIME, REPLAY_TAGS};
use crate::opening::{Opened, Openings};
use crate::penalty::Penalties;
use crate::pvt::Pvt;
use crate::replay::ReplayCache;
use crate::sa::Generation;
use crate::share::MadeFor;
use crate::signal::destroy::Reason;
use crate::signal::suite::{Kem, OnionKeys};
use crate::timers::Timers;

use away::Away;
pub use checks::ConfigError;
use exit::{Bindings, Responders};
use life::Teller;
use lost::Lost;
use requests::Closing;
use shutdown::Leaving;
pub use snapshot::{PvtStatus, Snapshot};
use tickets::Ticketing;

/// What never changes.
struct Settings {
    id: NodeId,
    kem: Kem,
    responders: Responders,
    hosts: BTreeMap<PeerId, Host>,
    min_nodes: usize,
    max_nodes: usize,
    profile: CellProfile,
    inactivity: u64,
    lifetime_s: u32,
    quotas: Quotas,
    open_exit: Option<Arc<nat::Settings>>,
}

/// The control node.
pub struct Node {
    settings: Settings,
    directory: Directory,
    guards: Guards,
    pvts: BTreeMap<PeerId, Pvt>,
    neighbours: HashMap<NodeId, PeerId>,
    aivts: Aivts,
    flows: Flows,
    bindings: Bindings,
    openings: Openings,
    lost: Lost,
    away: Away,
    closing: Closing,
    leaving: Leaving,
    tickets: Option<Ticketing>,
    /// This node as its own host, if it has to do with tickets.
    own: Option<PeerId>,
    replay: ReplayCache,
    penalties: Penalties,
    made: MadeFor,
    /// Each flow's next attempt, or its oblivion. AIVTs have deadlines of their own.
    timers: Timers<FlowNumber>,
    actions: VecDeque<Action>,
    counts: Counts,
    rng: Box<dyn CryptoRng + Send>,
    shutting_down: bool,
}

impl Node {
    /// A node with all PVTs down. Errors: parts of `config` that do not fit each other.
    pub fn new(config: Config, now: Now, mut rng: Box<dyn CryptoRng + Send>) -> Result<Self, ConfigError> {
        checks::check(&config)?;
        let (pvts, neighbours, hosts) = checks::split_peers(&config, now, &mut *rng)?;
        let own = config.own_peer();
        Ok(Self {
            replay: ReplayCache::new(REPLAY_TAGS, config.replay_floor_s),
            settings: Settings {
                id: config.id,
                kem: config.kem,
                responders: Responders::of(&hosts),
                hosts,
                min_nodes: config.min_nodes,
                max_nodes: config.max_nodes,
                profile: config.profile,
                inactivity: u64::from(config.inactivity_s) * Now::SECOND,
                lifetime_s: config.lifetime_s,
                quotas: config.quotas,
                open_exit: config.open_exit,
            },
            directory: config.directory,
            guards: Guards::new(config.guards, config.guard_time_s),
            pvts,
            neighbours,
            aivts: Aivts::default(),
            flows: Flows::default(),
            bindings: Bindings::default(),
            openings: Openings::new(config.onion_keys),
            lost: Lost::default(),
            away: Away::default(),
            closing: Closing::default(),
            leaving: Leaving::default(),
            own,
            tickets: config.tickets.map(|tickets| Ticketing::new(config.id, tickets)),
            penalties: Penalties::default(),
            made: MadeFor::default(),
            timers: Timers::new(),
            actions: VecDeque::new(),
            counts: Counts::default(),
            rng,
            shutting_down: false,
        })
    }

    /// `datagram`, an inner IP datagram, came out of the PVT of `peer` authentic.
    pub fn handle_signal(&mut self, now: Now, peer: PeerId, datagram: &[u8]) {
        self.receive(now, peer, datagram);
    }

    /// [`Action::Open`] is done.
    pub fn handle_opened(&mut self, now: Now, wall: u64, opened: Opened) {
        self.opened(now, wall, opened);
    }

    /// The network has changed. New paths lead over `directory`, to exits that are in it; AIVTs that stand stay, and the PVTs are those
    /// of the configuration.
    pub fn handle_directory(&mut self, directory: Directory) {
        self.directory = directory;
    }

    /// From now on `keys` open creating signals; one made for any other key is refused.
    pub fn handle_onion_keys(&mut self, keys: OnionKeys) {
        self.openings.set_keys(keys);
    }

    /// [`Action::ReserveSpis`] is on disk.
    pub fn handle_spis_reserved(&mut self, peer: PeerId, generation: Generation, up_to: u32) {
        if let Some(pvt) = self.pvts.get_mut(&peer) {
            pvt.generations.reserved(generation, up_to);
        }
    }

    /// The associations of a tunnel have changed.
    pub fn handle_keying(&mut self, now: Now, keying: Keying) {
        self.keyed(now, keying);
    }

    /// Every worker has the route of `aivt`.
    pub fn handle_installed(&mut self, now: Now, aivt: AivtId) {
        self.installed(now, aivt);
    }

    /// The route of `aivt` cannot be installed.
    pub fn handle_install_failed(&mut self, now: Now, aivt: AivtId) {
        self.end(now, aivt, Reason::ResourceLimit, Teller::Here);
    }

    /// The packet path keeps the first datagrams of a flow it does not know, or whose AIVT it lost, under the name `flow`.
    pub fn handle_new_flow(&mut self, now: Now, wall: u64, flow: FlowId, tunnel: PeerId, pair: Pair) {
        self.new_flow(now, wall, flow, tunnel, pair);
    }

    /// The packet path dropped `flow` on its own, or its host asked for that.
    pub fn handle_flow_gone(&mut self, now: Now, flow: FlowId) {
        if let Some(number) = self.flows.with_id(flow) {
            self.drop_flow(now, number, Reason::None);
        }
    }

    /// The exit's packet path keeps the first datagram of `aivt`. Answered by [`Action::Bind`] or [`Action::Refuse`].
    pub fn handle_bind(&mut self, now: Now, aivt: AivtId, pair: Pair) {
        self.bind(now, aivt, pair);
    }

    /// [`Action::Bind`] cannot be carried out: there is no room for the way back. Answered by [`Action::Refuse`].
    pub fn handle_bind_failed(&mut self, now: Now, aivt: AivtId) {
        self.bind_failed(now, aivt);
    }

    /// A cell of `aivt` failed the zero check or repeated an inner sequence at this end: a hop must have done it (protocol section 4).
    pub fn handle_misbehaviour(&mut self, now: Now, aivt: AivtId) {
        if self.aivts.by_id(aivt).is_some() {
            self.counts.misbehaviours += 1;
            self.end(now, aivt, Reason::ProtocolError, Teller::Here);
        }
    }

    /// The exit of `aivt` sent the verdict `code` in a cell.
    pub fn handle_verdict(&mut self, now: Now, aivt: AivtId, code: u8) {
        self.verdict(now, aivt, code);
    }

    /// Does what is due at `now`, or much of it: what is left makes [`Node::poll_timeout`] tell a time that is over.
    pub fn handle_timeout(&mut self, now: Now, wall: u64) {
        let due: Vec<PeerId> = self
            .pvts
            .iter()
            .filter(|(_, pvt)| pvt.poll_timeout() <= now)
            .map(|(peer, _)| *peer)
            .collect();
        self.end_lost(now);
        self.end_away(now);
        self.say_last_words(now);
        self.leave(now);
        self.turn_slice(wall);
        self.fetch_tickets(now, wall);
        due.into_iter().for_each(|peer| self.drive_pvt(now, peer));
        for _ in 0..ENDS_AT_A_TIME {
            let Some(id) = self.aivts.due(now) else { break };
            self.aivt_due(now, id);
        }
        while let Some(number) = self.timers.pop(now) {
            self.flow_due(now, wall, number);
        }
        self.replay.forget(wall);
    }

    /// When to call [`Node::handle_timeout`]; `None`: nothing is due ever.
    pub fn poll_timeout(&self) -> Option<Now> {
        self.pvts
            .values()
            .map(Pvt::poll_timeout)
            .chain(self.lost.next_due())
            .chain(self.away.next_due())
            .chain(self.closing.next_due())
            .chain(self.leaving.next_due())
            .chain(self.tickets_due())
            .chain(self.aivts.next_due())
            .chain(self.timers.next())
            .min()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The latest date of a creating signal accepted, Unix seconds. The shell writes it down before it carries out the actions that
    /// follow, and gives it back as [`Config::replay_floor_s`] after a restart.
    pub fn latest_create(&self) -> u64 {
        self.replay.latest()
    }

    /// Totals since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn flow_due(&mut self, now: Now, wall: u64, number: FlowNumber) {
        match self.flows.by_number(number).map(|flow| flow.carrier) {
            Some(Carrier::Waiting) => self.build(now, wall, number),
            Some(Carrier::Idle) => self.flows.remove(number),
            Some(Carrier::Building(_) | Carrier::Standing(_)) | None => {}
        }
    }
}
