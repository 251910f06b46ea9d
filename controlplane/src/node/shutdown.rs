//! The end of a node that goes down: nothing new is taken, and every AIVT ends so that what is under way on it still arrives.
//!
//! ```text
//!   standing ──DESTROY towards the entrance──► told ──a moment later──► gone, DESTROY towards the exit
//!                                               cells that were on their way pass
//! ```
//!
//! Some at a time, and only those whose neighbour has room for another request: or DESTROYs would never be sent, and the other side
//! would learn by its timers what it could have been told.

use std::collections::VecDeque;

use ain_dataplane::id::{AivtId, Now};

use super::{Node, Teller};
use crate::action::Link;
use crate::aivt::{Aivt, Stage};
use crate::flow::Carrier;
use crate::limits::{ENDS_AT_A_TIME, LOST_EVERY, SHUTDOWN_GRACE};
use crate::signal::destroy::Reason;

/// AIVTs of a node that goes down.
#[derive(Default)]
pub(super) struct Leaving {
    /// Those of which nobody has been told.
    standing: VecDeque<AivtId>,
    /// Those of which the side towards the entrance has been told (at an entrance, the other), and when to take them away.
    told: VecDeque<(Now, AivtId)>,
    due: Now,
}

impl Leaving {
    /// When [`Node::leave`] goes on.
    pub(super) fn next_due(&self) -> Option<Now> {
        let told = self.told.front().map(|(due, _)| (*due).max(self.due));
        let standing = (!self.standing.is_empty()).then_some(self.due);
        standing.into_iter().chain(told).min()
    }
}

impl Node {
    /// The node goes down: takes nothing new, and ends everything. The caller keeps driving it until [`Node::is_quiet`], or for as
    /// long as it wants to wait.
    pub fn handle_shutdown(&mut self, now: Now) {
        self.shutting_down = true;
        self.refuse_openings(now);
        self.leaving.standing = self.aivts.ids().into();
        for number in self.flows.open_numbers() {
            if self
                .flows
                .by_number(number)
                .is_some_and(|flow| flow.carrier == Carrier::Waiting)
            {
                self.close_flow(number, false);
            }
        }
        self.leave(now);
    }

    /// Whether, after [`Node::handle_shutdown`], every neighbour concerned was told of every end, and maybe has not ACKed it yet.
    pub fn has_told_all(&self) -> bool {
        self.shutting_down && self.aivts.is_empty()
    }

    /// Whether nothing is left to end, and every request was ACKed or given up.
    pub fn is_quiet(&self) -> bool {
        self.has_told_all() && self.pvts.values().all(|pvt| pvt.pending() == 0)
    }

    /// Tells of some ends and carries out some, if it is time to.
    pub(super) fn leave(&mut self, now: Now) {
        if self.leaving.next_due().is_none_or(|due| due > now) {
            return;
        }
        for _ in 0..self.leaving.standing.len().min(ENDS_AT_A_TIME) {
            let Some(id) = self.leaving.standing.pop_front() else {
                break;
            };
            self.announce(now, id);
        }
        for _ in 0..self.leaving.told.len().min(ENDS_AT_A_TIME) {
            match self.leaving.told.pop_front() {
                Some((due, id)) if due <= now => self.take_leave(now, id),
                Some(early) => {
                    self.leaving.told.push_front(early);
                    break;
                }
                None => break,
            }
        }
        self.leaving.due = now.plus(LOST_EVERY);
    }

    /// Tells the side towards the entrance, or at an entrance the next node, that `id` ends.
    fn announce(&mut self, now: Now, id: AivtId) {
        let Some(aivt) = self.aivts.by_id(id) else { return };
        let Some(first) = aivt.links().next().filter(|_| aivt.stage == Stage::Standing) else {
            return self.end(now, id, Reason::Shutdown, Teller::Here);
        };
        if !self.has_room_for(first.peer) {
            return self.leaving.standing.push_back(id);
        }
        self.send_destroy(now, first, 0, Reason::Shutdown);
        self.leaving.told.push_back((now.plus(SHUTDOWN_GRACE), id));
    }

    /// Takes `id` away and tells the other side.
    fn take_leave(&mut self, now: Now, id: AivtId) {
        let Some(aivt) = self.aivts.by_id(id) else { return };
        let knows = match aivt.upstream {
            Some(_) => Teller::Upstream,
            None => Teller::Downstream,
        };
        if other_side(aivt).is_none_or(|link| self.has_room_for(link.peer)) {
            self.end(now, id, Reason::Shutdown, knows);
        } else {
            self.leaving.told.push_back((now, id));
        }
    }
}

/// The TVT towards the exit of an AIVT that this node joined.
fn other_side(aivt: &Aivt) -> Option<Link> {
    aivt.links().nth(1)
}
