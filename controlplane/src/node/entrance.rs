//! The entrance: flows of this node's initiators and the AIVTs made for them (the paper's sections 4.3 and 4.4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ain_dataplane::id::{AivtId, FlowId, Now, Pair, PeerId};
use ain_dataplane::wire::ip::is_single_host;
use rand::{CryptoRng, RngExt};

use super::relay::until;
use super::{Node, Teller};
use crate::action::{Action, HopKeys, Verdict};
use crate::aivt::{Aivt, Role, Stage};
use crate::config::{Host, SourceOption};
use crate::directory::NodeId;
use crate::flow::{Carrier, Flow, FlowNumber};
use crate::guard::{Door, Scene};
use crate::key_schedule::HopSecrets;
use crate::limits::{
    CREATED_STEP_S, EXPIRES_STEP_S, FLOW_MEMORY, FLOW_PATIENCE, GUARD_PATIENCE, MIN_PATH_NODES, PATH_RETRY,
    PATH_SAMPLES,
};
use crate::path::Wish;
use crate::signal::create::{FlowToken, HopSpec, Terms, build};
use crate::signal::created::{Confirmation, is_confirmed};
use crate::signal::destroy::Reason;

impl Node {
    pub(super) fn new_flow(&mut self, now: Now, wall: u64, id: FlowId, tunnel: PeerId, pair: Pair) {
        if self.flows.with_id(id).is_some() {
            return;
        }
        let number = if self.shutting_down || self.away.has(tunnel) {
            None
        } else {
            self.admit_flow(now, wall, tunnel, pair)
        };
        let Some(number) = number else {
            self.counts.flows_refused += 1;
            return self.actions.push_back(Action::CloseFlow {
                flow: id,
                refused: true,
            });
        };
        self.flows.open_as(now, number, id);
        self.show_source(number);
        self.schedule(now, number);
        if self
            .flows
            .by_number_mut(number)
            .is_some_and(|flow| flow.next_attempt(now) <= now)
        {
            self.build(now, wall, number);
        }
    }

    /// The idle flow of `pair` from `tunnel`, remembered or new. `None` if the initiator may not open it.
    fn admit_flow(&mut self, now: Now, wall: u64, tunnel: PeerId, pair: Pair) -> Option<FlowNumber> {
        let known = self.flows.with_pair(tunnel, pair);
        if let Some(number) = known {
            // The packet path has forgotten the flow and met it again: what carried it carries it no more.
            self.drop_flow(now, number, Reason::None);
        }
        if self.flows.of_host(tunnel).open >= self.settings.quotas.open_flows_per_host {
            return None;
        }
        if known.is_some() {
            return known;
        }
        let host = self.settings.hosts.get(&tunnel).filter(|host| host.role.initiates())?;
        if !source_allowed(host, pair) || self.responder_tunnel(pair.destination).is_some() {
            return None;
        }
        let option = host.option;
        let exit = self.draw_exit(wall, pair.destination, None)?;
        let shown = match option {
            SourceOption::AsSent => None,
            SourceOption::RandomPrivate => Some(random_private(pair.source, &mut *self.rng)),
        };
        if self.flows.of_host(tunnel).all >= self.settings.quotas.flows_per_host
            || self.flows.len() >= self.settings.quotas.flows
        {
            let oldest = self.flows.oldest_idle(tunnel)?;
            self.timers.clear(oldest);
            self.flows.remove(oldest);
        }
        let token = FlowToken::random(&mut *self.rng);
        Some(self.flows.insert(Flow::new(now, tunnel, pair, exit, token, shown)))
    }

    /// An exit for `destination`; not `but` if there is another.
    fn draw_exit(&mut self, wall: u64, destination: IpAddr, but: Option<NodeId>) -> Option<NodeId> {
        let own = &self.settings.id;
        let exit = self.directory.exit_for(destination, own, but, wall, &mut *self.rng);
        exit.filter(|exit| exit != own)
    }

    /// The exit of the flow `number`; another one if that is none for its destination any more, or if there is one and it refused.
    fn exit_now(&mut self, wall: u64, number: FlowNumber) -> Option<NodeId> {
        let flow = self.flows.by_number_mut(number)?;
        let (before, destination, tunnel) = (flow.exit, flow.pair.destination, flow.tunnel);
        let refused = std::mem::take(&mut flow.is_refused);
        let serves = self
            .directory
            .is_exit_for(&before, destination, &self.settings.id, wall);
        // What this node asks of another one is for nobody else.
        if (serves && !refused) || self.is_own(tunnel) {
            return serves.then_some(before);
        }
        let exit = self.draw_exit(wall, destination, refused.then_some(before))?;
        if exit != before {
            self.flows.by_number_mut(number)?.exit = exit;
            self.disguise(number);
        }
        Some(exit)
    }

    /// Nothing by which an exit knows the flow `number` stays: neither its token nor, unless it is the initiator's own, its source.
    fn disguise(&mut self, number: FlowNumber) {
        if let Some(flow) = self.flows.by_number_mut(number) {
            flow.shown = flow.shown.map(|_| random_private(flow.pair.source, &mut *self.rng));
            flow.token = FlowToken::random(&mut *self.rng);
        }
        self.show_source(number);
    }

    /// Tells the packet path the source that `number` shows, unless it is the initiator's own.
    fn show_source(&mut self, number: FlowNumber) {
        let flow = self.flows.by_number(number);
        if let Some((flow, source)) = flow.and_then(|flow| Some((flow.id?, flow.shown?))) {
            self.actions.push_back(Action::Rewrite { flow, source });
        }
    }

    /// Sets the time of the waiting flow's next attempt; refuses it if that lies beyond patience.
    fn schedule(&mut self, now: Now, number: FlowNumber) {
        let Some(flow) = self.flows.by_number_mut(number) else {
            return;
        };
        let at = flow.next_attempt(now);
        if at.since(flow.wanted) >= FLOW_PATIENCE {
            return self.close_flow(number, true);
        }
        self.timers.set(number, at);
    }

    /// Asks for an AIVT for the waiting flow `number`, or tries again soon.
    pub(super) fn build(&mut self, now: Now, wall: u64, number: FlowNumber) {
        let Some(flow) = self
            .flows
            .by_number(number)
            .filter(|flow| flow.carrier == Carrier::Waiting)
        else {
            return;
        };
        let (wanted, tunnel) = (flow.wanted, flow.tunnel);
        let Some(exit) = self.exit_now(wall, number) else {
            return self.close_flow(number, true);
        };
        if !self.is_within_quota(wall, tunnel) {
            self.counts.flows_over_quota += 1;
            return self.close_flow(number, true);
        }
        let for_issuance = self.is_own(tunnel);
        let begun = self
            .choose_path_with_tickets(now, wall, exit, for_issuance)
            .and_then(|path| self.begin(now, wall, number, path));
        if let Some(id) = begun {
            self.timers.clear(number);
            self.count_in_quota(wall, tunnel);
            if let Some(flow) = self.flows.by_number_mut(number) {
                flow.carrier = Carrier::Building(id);
                self.counts.rebuilds += u64::from(flow.attempt(now));
            }
        } else if now.since(wanted) >= FLOW_PATIENCE {
            self.close_flow(number, true);
        } else {
            self.timers.set(number, now.plus(PATH_RETRY));
        }
    }

    /// A path whose every node that wants a ticket can get one. `for_issuance`: to the exit itself, which makes no secret of the length.
    fn choose_path_with_tickets(
        &mut self,
        now: Now,
        wall: u64,
        exit: NodeId,
        for_issuance: bool,
    ) -> Option<Vec<NodeId>> {
        let least = if for_issuance {
            MIN_PATH_NODES
        } else {
            self.settings.min_nodes
        };
        for _ in 0..PATH_SAMPLES {
            let path = self.choose_path(now, wall, exit, least)?;
            if self.has_tickets(wall, &path, for_issuance) {
                return Some(path);
            }
        }
        None
    }

    fn choose_path(&mut self, now: Now, wall: u64, exit: NodeId, min_nodes: usize) -> Option<Vec<NodeId>> {
        if !self.pvts.values().any(|pvt| pvt.liveness.is_up()) {
            return None;
        }
        let wish = Wish {
            entrance: self.settings.id,
            exit,
            min_nodes,
            max_nodes: self.settings.max_nodes,
            suite: self.settings.kem.suite.id,
            wall,
        };
        let door = |(node, peer): (&NodeId, &PeerId)| {
            let liveness = &self.pvts[peer].liveness;
            Door {
                node: *node,
                is_up: liveness.is_up(),
                is_lost: liveness.down_for(now) >= GUARD_PATIENCE,
            }
        };
        let mut doors: Vec<Door> = self.neighbours.iter().map(door).collect();
        doors.sort_by_key(|door| door.node);
        let scene = Scene {
            directory: &self.directory,
            wish: &wish,
            doors: &doors,
            penalties: &self.penalties,
            now,
        };
        let (path, changed) = self.guards.choose(&scene, &mut *self.rng);
        if changed {
            self.actions.push_back(Action::KeepGuards(self.guards.list().to_vec()));
        }
        path
    }

    /// Sends the creating signal for `number` over `path`. `None` if that cannot be done now.
    fn begin(&mut self, now: Now, wall: u64, number: FlowNumber, path: Vec<NodeId>) -> Option<AivtId> {
        if self.aivts.len() + self.openings.len() >= self.settings.quotas.aivts {
            return None;
        }
        let flow = self.flows.by_number(number)?;
        let (flow_token, for_issuance) = (flow.token, self.is_own(flow.tunnel));
        let tickets = self.take_tickets(wall, &path, for_issuance);
        let terms = Terms {
            profile: self.settings.profile as u8,
            expires: self.expiry(wall),
            flow_token,
        };
        let Self {
            settings,
            directory,
            rng,
            ..
        } = &mut *self;
        let hops = path[1..].iter().zip(&tickets).map(|(id, ticket)| {
            let onion_key = directory.entry(id)?.onion_key(settings.kem.suite.id, wall)?;
            Some(HopSpec {
                id: *id,
                onion_key,
                created: creation_date(wall, &mut **rng),
                ticket: ticket.as_ref(),
            })
        });
        let hops: Option<Vec<_>> = hops.collect();
        let Ok((onion, secrets)) = build(&settings.kem, &hops?, &terms, &mut **rng) else {
            self.penalties.suspect_path(now, &path);
            return None;
        };
        let peer = *self.neighbours.get(&path[1])?;
        let downstream = Some(self.ask(now, peer, onion).ok()?);
        let expires = until(now, wall, terms.expires);
        let role = Role::Entrance {
            flow: number,
            path: path.into(),
            secrets: Some(Box::new(secrets)),
        };
        Some(self.insert(Aivt {
            upstream: None,
            downstream,
            role,
            stage: Stage::Asked,
            since: now,
            expires,
            activity: None,
            due: now,
        }))
    }

    fn expiry(&self, wall: u64) -> u32 {
        match u64::from(self.settings.lifetime_s) {
            0 => 0,
            lifetime => u32::try_from((wall + lifetime).next_multiple_of(EXPIRES_STEP_S)).unwrap_or(0),
        }
    }

    /// The AIVT `id` of the flow `number` ended: rebuild, unless the end was natural or asked for.
    pub(super) fn carrier_lost(
        &mut self,
        now: Now,
        number: FlowNumber,
        id: AivtId,
        path: &[NodeId],
        reason: Reason,
        teller: Teller,
    ) {
        let inactivity = self.settings.inactivity;
        let Some(flow) = self.flows.by_number_mut(number) else {
            return;
        };
        let stood = flow.carrier == Carrier::Standing(id);
        if !stood && flow.carrier != Carrier::Building(id) {
            return;
        }
        flow.carrier = Carrier::Waiting;
        let quiet = now.since(flow.last_active) >= inactivity / 2;
        let natural = matches!(reason, Reason::Inactive | Reason::Expired) && quiet;
        if natural || reason == Reason::Expired {
            flow.forgive();
            self.penalties.clear_path(path);
        }
        if natural || reason == Reason::None || self.shutting_down {
            return self.close_flow(number, false);
        }
        if stood {
            flow.wanted = now;
        }
        if self.path_is_suspect(path, reason, teller) {
            self.penalties.suspect_path(now, path);
        }
        self.schedule(now, number);
    }

    /// Whether the nodes of `path` may be to blame: not if this node is, or knows that only the first of them is gone.
    fn path_is_suspect(&self, path: &[NodeId], reason: Reason, teller: Teller) -> bool {
        let first_is_gone = !path
            .get(1)
            .and_then(|node| self.neighbours.get(node))
            .is_some_and(|peer| self.is_up(*peer));
        let own_doing = teller == Teller::Here && reason == Reason::ResourceLimit;
        !first_is_gone && !own_doing && reason != Reason::Expired
    }

    /// Ends what carries the flow, which becomes idle; the packet path knows.
    pub(super) fn drop_flow(&mut self, now: Now, number: FlowNumber, reason: Reason) {
        let Some(carrier) = self.flows.by_number(number).map(|flow| flow.carrier) else {
            return;
        };
        if let Carrier::Standing(id) = carrier
            && let Some(last) = self.aivts.by_id(id).map(Aivt::last_active)
        {
            self.moved_last(number, id, last);
        }
        self.make_idle(number);
        if let Carrier::Building(id) | Carrier::Standing(id) = carrier {
            self.end(now, id, reason, Teller::Here);
        }
    }

    /// Something moved at `last` on the AIVT `id` that carries, or carried, the flow.
    pub(super) fn moved_last(&mut self, number: FlowNumber, id: AivtId, last: Now) {
        let flow = self.flows.by_number_mut(number);
        if let Some(flow) = flow.filter(|flow| flow.carrier == Carrier::Standing(id)) {
            flow.last_active = flow.last_active.max(last);
        }
    }

    /// Makes the flow, which nothing carries any more, idle; the packet path shall forget it.
    pub(super) fn close_flow(&mut self, number: FlowNumber, refused: bool) {
        if let Some(flow) = self.make_idle(number) {
            self.counts.flows_refused += u64::from(refused);
            self.actions.push_back(Action::CloseFlow { flow, refused });
        }
    }

    fn make_idle(&mut self, number: FlowNumber) -> Option<FlowId> {
        let id = self.flows.close(number)?;
        let last_active = self.flows.by_number(number)?.last_active;
        self.timers.set(number, last_active.plus(FLOW_MEMORY));
        Some(id)
    }

    /// The exit cannot serve the flow of `id` as it is, or its responder wishes the end.
    pub(super) fn verdict(&mut self, now: Now, id: AivtId, code: u8) {
        let Some(Role::Entrance { flow: number, path, .. }) = self.aivts.by_id(id).map(|aivt| &aivt.role) else {
            return;
        };
        let number = *number;
        // Whatever it says, it came as the exit sent it.
        self.penalties.clear_path(path);
        if let Some(last) = self.aivts.by_id(id).map(Aivt::last_active) {
            self.moved_last(number, id, last);
        }
        let Some(flow) = self.flows.by_number_mut(number) else {
            return;
        };
        let redraw = code == Verdict::AddressCollision as u8 && flow.shown.is_some() && !self.shutting_down;
        let closed = code == Verdict::ClosedByResponder as u8;
        flow.carrier = Carrier::Waiting;
        flow.wanted = now;
        flow.is_refused = code == Verdict::ExitRefused as u8;
        if closed {
            flow.forgive();
        }
        self.end(now, id, Reason::None, Teller::Here);
        if redraw {
            // Another address is another binding at the exit, which the old token would lead to the old one.
            self.disguise(number);
            self.schedule(now, number);
        } else {
            self.close_flow(number, !closed);
        }
    }
}

/// The data keys of a path whose every hop confirmed its key; the confirmation keys are dropped.
#[allow(clippy::box_collection)] // as the AIVT has them
pub(super) fn confirmed_keys(secrets: Box<Vec<HopSecrets>>, confirmation: &Confirmation) -> Option<Vec<HopKeys>> {
    let confirmed = is_confirmed(&secrets, confirmation);
    confirmed.then(|| secrets.into_iter().map(|hop| hop.data).collect())
}

/// Rounded down to 10 s after up to 10 s were taken off at random, so that two hops cannot tell by it that they serve one AIVT.
fn creation_date(wall: u64, rng: &mut dyn CryptoRng) -> u32 {
    let jittered = wall.saturating_sub(rng.random_range(0..CREATED_STEP_S));
    u32::try_from(jittered - jittered % CREATED_STEP_S).unwrap_or(u32::MAX)
}

/// A private address of the family of `source`: a host's in 10/8, or one in fd00::/8 of which all else is drawn, as RFC 4193 section
/// 3.2.1 wants it of the global identifier.
fn random_private(source: IpAddr, rng: &mut dyn CryptoRng) -> IpAddr {
    match source {
        IpAddr::V4(_) => {
            let [_, b, c, _] = rng.next_u32().to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(10, b, c, rng.random_range(1..=254)))
        }
        IpAddr::V6(_) => {
            let mut octets = [0; 16];
            rng.fill_bytes(&mut octets);
            octets[0] = 0xfd;
            IpAddr::V6(Ipv6Addr::from(octets))
        }
    }
}

/// Whether `host` may send from `pair`'s source to its destination: each a single host's, and the source, if the responder will see
/// it and it is public, registered.
fn source_allowed(host: &Host, pair: Pair) -> bool {
    let private = match pair.source {
        IpAddr::V4(source) => source.is_private(),
        IpAddr::V6(source) => source.is_unique_local(),
    };
    let registered = || host.prefixes.iter().any(|prefix| prefix.contains(&pair.source));
    let shown = host.option == SourceOption::AsSent;
    is_single_host(pair.source) && is_single_host(pair.destination) && (!shown || private || registered())
}
