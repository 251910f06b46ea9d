//! Tickets at this node: fetched and spent as entrance, issued and demanded as issuer (protocol section 8). The state machines are in
//! [`crate::ticket`]; here they meet the AIVTs.
//!
//! ```text
//!   handle_timeout ─► Wallet ──request──► Action::Enter ─► a flow of the node's own ─► AIVT ─► issuer: handle_for_node ─► Issuer
//!   CREATE opened  ─► Spent: good once, or none at an exit that then serves nobody but itself
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use ain_dataplane::id::{Now, PeerId};
use ain_dataplane::per_second::PerSecond;

use super::Node;
use crate::action::Action;
use crate::aivt::Admission;
use crate::config::Tickets;
use crate::directory::NodeId;
use crate::limits::{SPENT_TICKETS, TICKETLESS_PER_SECOND};
use crate::request::{open, wrap};
use crate::signal::destroy::Reason;
use crate::signal::ends::Ends;
use crate::ticket::issuer::{Issued, Issuer};
use crate::ticket::spent::{NotSpent, Spent};
use crate::ticket::wallet::{IssuerKeys, Wallet};
use crate::ticket::{Mark, Presented, Slice, Ticket, TicketSeed, Verifier, message};

/// What the node has of tickets.
pub(super) struct Ticketing {
    seed: TicketSeed,
    slice_s: u32,
    demand: bool,
    issuer: Issuer,
    wallet: Wallet,
    spent: Spent,
    /// The slice whose keys look at tickets.
    current: Option<Slice>,
    ticketless: BTreeMap<PeerId, PerSecond>,
    /// Spent since the shell last asked.
    to_write: Vec<Mark>,
    /// Issued since then.
    issued: Vec<Issued>,
}

impl Ticketing {
    pub(super) fn new(me: NodeId, tickets: Tickets) -> Self {
        Self {
            issuer: Issuer::new(me, tickets.slice_s, tickets.quota).after(&tickets.past),
            wallet: Wallet::new(me, tickets.identity, tickets.slice_s, tickets.wallet),
            spent: Spent::new(tickets.slice_s, SPENT_TICKETS, &tickets.past),
            seed: tickets.seed,
            slice_s: tickets.slice_s,
            demand: tickets.demand,
            current: None,
            ticketless: BTreeMap::new(),
            to_write: Vec::new(),
            issued: Vec::new(),
        }
    }

    /// The keys that the tickets of CREATEs are checked with from `wall` on, if they are not those of before.
    fn turned(&mut self, wall: u64) -> Option<Arc<Verifier>> {
        let current = Slice::at(wall, self.slice_s);
        if !self.demand || self.current == Some(current) {
            return None;
        }
        self.current = Some(current);
        Some(Arc::new(Verifier::new(&self.seed, current)))
    }

    /// Tickets that the wallet holds.
    pub(super) fn held(&self) -> usize {
        self.wallet.len()
    }

    /// Spent tickets that are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.spent.len()
    }
}

impl Node {
    /// Tickets spent since the last call. The shell writes them down before it carries out the actions that follow, and gives those of
    /// the slices that are still good back in [`Tickets::past`] after a restart.
    pub fn take_spent_tickets(&mut self) -> Vec<Mark> {
        let tickets = self.tickets.as_mut();
        tickets.map(|t| std::mem::take(&mut t.to_write)).unwrap_or_default()
    }

    /// Batches issued since the last call, for the shell to do the same with.
    pub fn take_issued_tickets(&mut self) -> Vec<Issued> {
        let tickets = self.tickets.as_mut();
        tickets.map(|t| std::mem::take(&mut t.issued)).unwrap_or_default()
    }

    /// When the wallet wants to be looked at.
    pub(super) fn tickets_due(&self) -> Option<Now> {
        let wallet = self.tickets.as_ref().map(|tickets| &tickets.wallet);
        wallet.filter(|wallet| wallet.is_open()).map(Wallet::due)
    }

    /// Sends the requests of the wallet.
    pub(super) fn fetch_tickets(&mut self, now: Now, wall: u64) {
        if self.shutting_down || self.tickets_due().is_none_or(|due| now < due) {
            return;
        }
        let Some(own) = self.directory.entry(&self.settings.id).map(|entry| entry.address) else {
            return;
        };
        let Some(tickets) = &mut self.tickets else { return };
        // Neighbours are of one family, so no path leads to a node of the other one.
        let entries = self.directory.entries().iter();
        let in_reach = entries.filter(|entry| entry.address.is_ipv4() == own.is_ipv4());
        let issuers = in_reach.map(|entry| -> IssuerKeys<'_> { (entry.id(), &entry.ticket_keys) });
        let requests = tickets.wallet.handle_timeout((now, wall), issuers, &mut *self.rng);
        for (issuer, request) in requests {
            let address = self.directory.entry(&issuer).map(|entry| entry.address);
            if let Some(ends) = address.and_then(|address| Ends::between(own, address)) {
                self.enter(&ends, &request);
            }
        }
    }

    /// Sends `payload` to port 4797 of the other end as a host of this node would.
    fn enter(&mut self, ends: &Ends, payload: &[u8]) {
        if let Some(peer) = self.own {
            let datagram = wrap(ends, payload);
            self.actions.push_back(Action::Enter { peer, datagram });
        }
    }

    /// A datagram came to this node's own address through an AIVT: a request for tickets, or an answer.
    pub(super) fn own_datagram(&mut self, now: Now, wall: u64, datagram: &[u8]) {
        let Ok((ends, payload)) = open(datagram) else {
            self.counts.tickets.malformed += 1;
            return;
        };
        let Some(tickets) = &mut self.tickets else { return };
        if message::is_answer(payload) {
            match tickets.wallet.accept(payload) {
                Ok(brought) => self.counts.tickets.received += brought as u64,
                Err(_) => self.counts.tickets.malformed += 1,
            }
            return self.fetch_tickets(now, wall);
        }
        let directory = &self.directory;
        let identity = |id: &NodeId| directory.entry(id).map(|entry| entry.identity);
        let issued = tickets
            .issuer
            .answer((now, wall), payload, &tickets.seed, identity, &mut *self.rng);
        match issued {
            Ok((answer, issued)) => {
                self.counts.tickets.issued += issued.map_or(0, |issued| u64::from(issued.tickets));
                tickets.issued.extend(issued);
                self.enter(&ends, &answer);
            }
            Err(_) => self.counts.tickets.not_issued += 1,
        }
    }

    /// Has tickets looked at with the keys of the slice that `wall` is in.
    pub(super) fn turn_slice(&mut self, wall: u64) {
        if let Some(verifier) = self.tickets.as_mut().and_then(|tickets| tickets.turned(wall)) {
            self.openings.demand_tickets(verifier);
        }
    }

    /// Spends what a fresh CREATE of `peer` presented, if this node demands tickets.
    pub(super) fn spend(
        &mut self,
        (now, wall): (Now, u64),
        peer: PeerId,
        presented: Option<Presented>,
        is_exit: bool,
    ) -> Result<Admission, Reason> {
        let Some(tickets) = self.tickets.as_mut().filter(|tickets| tickets.demand) else {
            return Ok(Admission::Full);
        };
        let counts = &mut self.counts.tickets;
        let refused = match presented {
            Some(Presented::Good(mark)) => match tickets.spent.spend(wall, &mark) {
                Ok(()) => {
                    tickets.to_write.push(mark);
                    counts.spent += 1;
                    return Ok(Admission::Full);
                }
                Err(NotSpent::Twice) => &mut counts.spent_twice,
                Err(NotSpent::Stale) => &mut counts.stale,
                Err(NotSpent::Full) => &mut counts.no_room,
            },
            Some(Presented::Nothing) => {
                let limit = tickets.ticketless.entry(peer);
                let limit = limit.or_insert(PerSecond::new(TICKETLESS_PER_SECOND));
                if is_exit && limit.admit(now) {
                    return Ok(Admission::ForIssuance);
                }
                &mut counts.missing
            }
            Some(Presented::Stale) | None => &mut counts.stale,
            Some(Presented::Wrong) => &mut counts.wrong,
        };
        *refused += 1;
        Err(Reason::TicketRefused)
    }

    /// Whether the wallet has a ticket for every node of `path` that wants one. `for_issuance`: its exit shall issue some, and wants none.
    pub(super) fn has_tickets(&self, wall: u64, path: &[NodeId], for_issuance: bool) -> bool {
        let Some(tickets) = self.tickets.as_ref().filter(|tickets| tickets.wallet.is_open()) else {
            return true;
        };
        let wanting = path[1..].iter().take(path.len() - 1 - usize::from(for_issuance));
        let mut wanting = wanting.filter(|node| self.issues(wall, node));
        wanting.all(|node| tickets.wallet.holds(node, wall))
    }

    /// Whether `node` has a key in the directory that it makes tickets with now.
    fn issues(&self, wall: u64, node: &NodeId) -> bool {
        let (Some(tickets), Some(entry)) = (&self.tickets, self.directory.entry(node)) else {
            return false;
        };
        let now = Slice::at(wall, tickets.slice_s).0;
        entry.ticket_keys.iter().any(|key| key.slice == now)
    }

    /// Takes a ticket for each node of `path` after the entrance out of the wallet; none for those that want none.
    pub(super) fn take_tickets(&mut self, wall: u64, path: &[NodeId], for_issuance: bool) -> Vec<Option<Ticket>> {
        let wanting = path.len() - 1 - usize::from(for_issuance);
        let mut wallet = self.tickets.as_mut().map(|tickets| &mut tickets.wallet);
        let mut ticket = |node| wallet.as_mut()?.take(node, wall);
        let nodes = path[1..].iter().enumerate();
        nodes
            .map(|(at, node)| if at < wanting { ticket(node) } else { None })
            .collect()
    }

    /// Whether `peer` is this node itself.
    pub(super) fn is_own(&self, peer: PeerId) -> bool {
        self.own == Some(peer)
    }
}
