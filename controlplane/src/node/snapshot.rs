//! The node's state in numbers, for operators and tests. No user, address, SPI or AIVT shows.

use ain_dataplane::id::PeerId;

use super::Node;
use super::tickets::Ticketing;
use crate::aivt::{RoleName, Stage};
use crate::directory::NodeId;

/// One PVT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PvtStatus {
    /// The peer.
    pub peer: PeerId,
    /// The neighbour.
    pub node: NodeId,
    /// Its operators' name.
    pub name: String,
    /// Whether it answers.
    pub up: bool,
    /// Requests that wait for its ACK.
    pub pending: usize,
    /// Its creating signals that were handed out to be opened, since the start.
    pub opened: u64,
}

/// What there is at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// PVTs, in the order of the configuration.
    pub pvts: Vec<PvtStatus>,
    /// Signals of which only some parts are there.
    pub half_received: usize,
    /// Signals of which only some parts ever came, since the start.
    pub never_whole: u64,
    /// Creating signals that wait to be opened.
    pub waiting: usize,
    /// Creating signals that are being opened.
    pub opening: usize,
    /// AIVTs that do not stand yet, in the order of [`RoleName::ALL`].
    pub creating: [usize; 3],
    /// AIVTs that stand, in the order of [`RoleName::ALL`].
    pub standing: [usize; 3],
    /// TVTs in use.
    pub tvts: usize,
    /// Flows that have, or wait for, an AIVT.
    pub flows: usize,
    /// Flows of which only address and token are kept.
    pub remembered_flows: usize,
    /// (responder, source) pairs bound at this exit.
    pub bindings: usize,
    /// Creating signals in the replay cache.
    pub replay_tags: usize,
    /// Tickets of other nodes in the wallet.
    pub wallet: usize,
    /// Tickets of this node that are spent and remembered.
    pub spent_tickets: usize,
}

impl Snapshot {
    /// Whether no AIVT, TVT, flow or binding is there and no request or creating signal waits.
    pub fn is_empty(&self) -> bool {
        let waiting: usize = self.pvts.iter().map(|pvt| pvt.pending).sum();
        let aivts: usize = self.creating.iter().chain(&self.standing).sum();
        let opening = self.half_received + self.waiting + self.opening;
        (waiting, opening, aivts, self.tvts, self.flows, self.bindings) == (0, 0, 0, 0, 0, 0)
    }
}

impl Node {
    /// The state at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let creating = |role| self.aivts.tally(role, Stage::Asked) + self.aivts.tally(role, Stage::Installing);
        Snapshot {
            pvts: self.pvt_status(),
            half_received: self.pvts.values().map(|pvt| pvt.halves.len()).sum(),
            never_whole: self.pvts.values().map(|pvt| pvt.halves.never_whole()).sum(),
            waiting: self.openings.waiting(),
            opening: self.openings.under_way(),
            creating: RoleName::ALL.map(creating),
            standing: RoleName::ALL.map(|role| self.aivts.tally(role, Stage::Standing)),
            tvts: self.aivts.links(),
            flows: self.flows.open(),
            remembered_flows: self.flows.len() - self.flows.open(),
            bindings: self.bindings.len(),
            replay_tags: self.replay.len(),
            wallet: self.tickets.as_ref().map_or(0, Ticketing::held),
            spent_tickets: self.tickets.as_ref().map_or(0, Ticketing::remembered),
        }
    }

    fn pvt_status(&self) -> Vec<PvtStatus> {
        let mut neighbours: Vec<_> = self.neighbours.iter().collect();
        neighbours.sort_by_key(|(_, peer)| **peer);
        let status = |(node, peer): (&NodeId, &PeerId)| PvtStatus {
            peer: *peer,
            node: *node,
            name: self
                .directory
                .entry(node)
                .map_or_else(|| node.to_string(), |entry| entry.name.clone()),
            up: self.is_up(*peer),
            pending: self.pvts[peer].pending(),
            opened: self.openings.opened_for(*peer),
        };
        neighbours.into_iter().map(status).collect()
    }
}
