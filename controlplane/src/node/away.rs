//! Hosts whose tunnels are gone: by IKE DELETE a host asks for the end of all that it has (protocol section 7).
//!
//! ```text
//!   keys gone ──► missed ──HOST_AWAY──► away: what it has ends, some at a time; an exit binds nothing to it
//!                    │                   │
//!                    └──── keys again ───┴──► there as ever
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ain_dataplane::id::{AivtId, Now, PeerId};

use super::{Node, Teller};
use crate::flow::{Carrier, FlowNumber};
use crate::limits::{ENDS_AT_A_TIME, HOST_AWAY, LOST_EVERY, PENDING_REQUESTS};

/// Hosts without keys, and what of theirs is still to be ended.
#[derive(Default)]
pub(super) struct Away {
    /// Until when they are waited for.
    missed: BTreeMap<PeerId, Now>,
    gone: BTreeSet<PeerId>,
    ending: VecDeque<Ending>,
    due: Now,
}

/// What a host had when it was given up.
enum Ending {
    /// As initiator.
    Flow(FlowNumber),
    /// As responder.
    Answers(AivtId),
}

impl Away {
    /// The tunnel of `host` has lost its keys.
    pub(super) fn miss(&mut self, now: Now, host: PeerId) {
        self.missed.insert(host, now.plus(HOST_AWAY));
    }

    /// It has keys again.
    pub(super) fn welcome(&mut self, host: PeerId) {
        self.missed.remove(&host);
        self.gone.remove(&host);
    }

    /// Whether `host` has been given up.
    pub(super) fn has(&self, host: PeerId) -> bool {
        self.gone.contains(&host)
    }

    /// When [`Node::end_away`] goes on.
    pub(super) fn next_due(&self) -> Option<Now> {
        let ending = (!self.ending.is_empty()).then_some(self.due);
        self.missed.values().copied().chain(ending).min()
    }
}

impl Node {
    /// Gives up hosts that have been missed for long enough, and ends some of what they had, if it is time to.
    pub(super) fn end_away(&mut self, now: Now) {
        let due = self.away.missed.iter().filter(|(_, until)| **until <= now);
        let due: Vec<PeerId> = due.map(|(host, _)| *host).collect();
        due.into_iter().for_each(|host| self.give_up(host));
        if self.away.ending.is_empty() || self.away.due > now {
            return;
        }
        for _ in 0..self.away.ending.len().min(ENDS_AT_A_TIME) {
            match self.away.ending.pop_front() {
                Some(one) if self.can_end(&one) => self.end_of_host(now, &one),
                Some(one) => self.away.ending.push_back(one),
                None => break,
            }
        }
        self.away.due = now.plus(LOST_EVERY);
    }

    fn give_up(&mut self, host: PeerId) {
        self.away.missed.remove(&host);
        self.away.gone.insert(host);
        let flows = self.flows.open_numbers();
        let of_host = |number: &FlowNumber| self.flows.by_number(*number).is_some_and(|flow| flow.tunnel == host);
        self.away
            .ending
            .extend(flows.into_iter().filter(of_host).map(Ending::Flow));
        self.away
            .ending
            .extend(self.bindings.of_host(host).map(Ending::Answers));
    }

    /// Whether all who have to be told of the end can be: neighbours by a DESTROY; before that, for answers, the entrance by a verdict,
    /// which has to tell its own neighbour.
    fn can_end(&self, one: &Ending) -> bool {
        let aivt = match one {
            Ending::Answers(_) if self.closing.len() >= PENDING_REQUESTS / 2 => return false,
            Ending::Flow(number) => match self.flows.by_number(*number).map(|flow| flow.carrier) {
                Some(Carrier::Building(id) | Carrier::Standing(id)) => self.aivts.by_id(id),
                Some(Carrier::Idle | Carrier::Waiting) | None => None,
            },
            Ending::Answers(id) => self.aivts.by_id(*id),
        };
        aivt.is_none_or(|aivt| self.can_be_told(aivt, Teller::Here))
    }

    fn end_of_host(&mut self, now: Now, one: &Ending) {
        match one {
            Ending::Flow(number) => _ = self.close_open_flow(now, *number),
            Ending::Answers(id) => self.close_bound(now, *id),
        }
    }
}

#[cfg(test)]
mod tests;
