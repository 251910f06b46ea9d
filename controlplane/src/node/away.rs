//! Hosts whose tunnels are gone: by IKE DELETE a host asks for the end of all that it has (protocol section 7).
//!
//! ```text
//!   keys gone ──► missed ──HOST_AWAY──► away: what it has ends one by one; nothing is bound to it or begun for it
//!                    │                   │
//!                    └──── keys again ───┴──► there as ever, with what has not ended yet
//! ```

use std::collections::{BTreeMap, BTreeSet};

use ain_dataplane::id::{AivtId, Now, PeerId};
use rand::RngExt;

use super::Node;
use crate::flow::FlowNumber;
use crate::limits::{ENDS_AT_A_TIME, HOST_AWAY, HOST_ENDS_WITHIN};

/// Hosts without keys, and what of theirs is still to be ended.
#[derive(Default)]
pub(super) struct Away {
    /// Until when they are waited for.
    missed: BTreeMap<PeerId, Now>,
    gone: BTreeSet<PeerId>,
    ending: BTreeSet<(Now, PeerId, Ending)>,
}

/// What a host had when it was given up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
        let ending = self.ending.first().map(|(at, ..)| *at);
        self.missed.values().copied().chain(ending).min()
    }
}

impl Node {
    /// Gives up hosts that have been missed for long enough, and ends what of theirs is due, or some of it.
    pub(super) fn end_away(&mut self, now: Now) {
        let missed = self.away.missed.iter();
        let due: BTreeSet<PeerId> = missed
            .filter(|(_, until)| **until <= now)
            .map(|(host, _)| *host)
            .collect();
        if !due.is_empty() {
            self.give_up(now, due);
        }
        for _ in 0..ENDS_AT_A_TIME {
            let Some((_, host, one)) = self.away.ending.first().copied().filter(|(at, ..)| *at <= now) else {
                break;
            };
            self.away.ending.pop_first();
            match one {
                // It is back.
                _ if !self.away.has(host) => {}
                Ending::Flow(number) => _ = self.close_open_flow(now, number),
                Ending::Answers(id) => self.close_bound(now, id),
            }
        }
    }

    /// What `hosts` have ends at random times, so that those who see it end cannot tell by the time alone whose it was.
    fn give_up(&mut self, now: Now, mut hosts: BTreeSet<PeerId>) {
        self.away.missed.retain(|host, _| !hosts.contains(host));
        let flows = self.flows.open_numbers().into_iter().filter_map(|number| {
            let host = self.flows.by_number(number)?.tunnel;
            hosts.contains(&host).then_some((host, Ending::Flow(number)))
        });
        let answers = self.bindings.of_hosts(&hosts).into_iter();
        let answers = answers.map(|(host, id)| (host, Ending::Answers(id)));
        for (host, one) in flows.chain(answers) {
            let at = now.plus(self.rng.random_range(0..HOST_ENDS_WITHIN));
            self.away.ending.insert((at, host, one));
        }
        self.away.gone.append(&mut hosts);
    }
}

#[cfg(test)]
mod tests;
