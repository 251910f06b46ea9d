//! What every AIVT goes through whatever this node's role: installed, waiting, quiet, ended.

use std::sync::Arc;

use ain_dataplane::entry::Activity;
use ain_dataplane::id::{AivtId, Now};

use super::Node;
use crate::action::{Action, Link, Route};
use crate::aivt::{Aivt, Role, Stage};
use crate::flow::Carrier;
use crate::limits::{CREATE_TIMEOUT, CREATE_TIMEOUT_RELAY, EXPIRY_SLACK};
use crate::signal::created::{BEYOND_EXIT, confirm};
use crate::signal::destroy::Reason;
use crate::signal::frame::Message;

/// Who knows already that an AIVT ends, or cannot be told: a DESTROY goes to all others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Teller {
    /// This node alone.
    Here,
    /// The neighbour towards the entrance.
    Upstream,
    /// The neighbour towards the exit.
    Downstream,
}

impl Node {
    /// Takes in a new AIVT and starts its clock.
    pub(super) fn insert(&mut self, aivt: Aivt) -> AivtId {
        let due = self.deadline(&aivt);
        self.aivts.insert(Aivt { due, ..aivt })
    }

    /// Gives the workers this node's part in the AIVT `id`.
    pub(super) fn install(&mut self, now: Now, id: AivtId, route: Route) {
        let activity = Activity::at(now);
        if let Some(aivt) = self.aivts.by_id_mut(id) {
            aivt.activity = Some(Arc::clone(&activity));
        }
        self.actions.push_back(Action::Install {
            aivt: id,
            route,
            activity,
        });
    }

    /// The workers have the route: cells may pass, and the neighbour upstream may know.
    pub(super) fn installed(&mut self, now: Now, id: AivtId) {
        let Some(aivt) = self.aivts.by_id_mut(id).filter(|aivt| aivt.stage == Stage::Installing) else {
            return;
        };
        aivt.since = now;
        let entrance_of = match aivt.role {
            Role::Entrance { flow, .. } => Some(flow),
            _ => None,
        };
        let answer = created_answer(aivt);
        forget_what_only_creation_needs(aivt);
        self.aivts.set_stage(id, Stage::Standing);
        self.aivt_due(now, id);
        if self.aivts.by_id(id).is_none() {
            return;
        }
        if let Some((link, message)) = answer
            && self.request(now, link.peer, link.spi.value(), message).is_none()
        {
            return self.end(now, id, Reason::ResourceLimit, Teller::Here);
        }
        if let Some(flow) = entrance_of.and_then(|flow| self.flows.by_number_mut(flow)) {
            flow.carrier = Carrier::Standing(id);
            flow.last_active = now;
        }
        self.bind_again(now, id);
    }

    /// The AIVT's deadline came, or it has moved since it was set.
    pub(super) fn aivt_due(&mut self, now: Now, id: AivtId) {
        let Some(aivt) = self.aivts.by_id(id) else { return };
        let deadline = self.deadline(aivt);
        if deadline > now {
            return self.aivts.set_due(id, deadline);
        }
        let reason = match aivt.stage {
            _ if aivt.expires <= now => Reason::Expired,
            Stage::Asked => Reason::NextHopUnreachable,
            Stage::Installing => Reason::ResourceLimit,
            Stage::Standing => Reason::Inactive,
        };
        self.end(now, id, reason, Teller::Here);
    }

    fn deadline(&self, aivt: &Aivt) -> Now {
        let patience = match (aivt.stage, &aivt.role) {
            (Stage::Standing, _) => self.settings.inactivity,
            (_, Role::Entrance { .. }) => CREATE_TIMEOUT,
            _ => CREATE_TIMEOUT_RELAY,
        };
        let since = match aivt.stage {
            Stage::Standing => aivt.last_active(),
            Stage::Asked | Stage::Installing => aivt.since,
        };
        aivt.expires.min(since.plus(patience))
    }

    /// Ends the AIVT `id`: takes it out of the packet path and tells all but the `teller`. At the entrance the flow is looked after.
    pub(super) fn end(&mut self, now: Now, id: AivtId, reason: Reason, teller: Teller) {
        let Some(aivt) = self.aivts.remove(id) else { return };
        match aivt.stage {
            Stage::Standing => self.counts.ended.add(reason),
            Stage::Asked | Stage::Installing => self.counts.failed.add(reason),
        }
        if aivt.stage != Stage::Asked {
            self.actions.push_back(Action::Remove { aivt: id });
        }
        self.tell(now, &aivt, reason, teller);
        let last = aivt.last_active();
        match aivt.role {
            Role::Entrance { flow, path, .. } => {
                let due = aivt.expires <= now.plus(EXPIRY_SLACK);
                self.moved_last(flow, id, last);
                self.carrier_lost(now, flow, id, &path, believed(reason, teller, due), teller);
            }
            Role::Exit { bound: Some(pair), .. } => self.bindings.release(now, id, *pair),
            Role::Exit { bound: None, .. } | Role::Relay { .. } => {}
        }
    }

    fn tell(&mut self, now: Now, aivt: &Aivt, reason: Reason, teller: Teller) {
        if let Some(upstream) = &aivt.upstream
            && teller != Teller::Upstream
        {
            let create = if aivt.stage == Stage::Standing {
                0
            } else {
                upstream.create_id
            };
            self.send_destroy(now, upstream.link, create, reason);
        }
        if let Some(downstream) = &aivt.downstream {
            if let Some(pvt) = self.pvts.get_mut(&downstream.link.peer) {
                pvt.settle(downstream.create_id);
            }
            if teller != Teller::Downstream {
                self.send_destroy(now, downstream.link, 0, reason);
            }
        }
    }

    pub(super) fn send_destroy(&mut self, now: Now, link: Link, create: u32, reason: Reason) {
        // A neighbour that cannot be told ends the AIVT by its own timers.
        let _ = self.request(now, link.peer, link.spi.value(), Message::Destroy { create, reason });
    }
}

/// A million AIVTs stand for minutes, and are in the making for milliseconds.
fn forget_what_only_creation_needs(aivt: &mut Aivt) {
    if let Some(upstream) = &mut aivt.upstream {
        upstream.confirm = None;
    }
    if let Role::Relay { waiting } = &mut aivt.role {
        *waiting = None;
    }
}

/// CREATED for the neighbour upstream, if there is one.
fn created_answer(aivt: &Aivt) -> Option<(Link, Message)> {
    let upstream = aivt.upstream.as_ref()?;
    let beyond = match &aivt.role {
        Role::Relay { waiting } => &waiting.as_ref()?.beyond,
        Role::Entrance { .. } | Role::Exit { .. } => &BEYOND_EXIT,
    };
    let confirmation = confirm(upstream.confirm.as_ref()?, beyond);
    Some((
        upstream.link,
        Message::Created {
            create: upstream.create_id,
            confirmation,
        },
    ))
}

/// What a reason is worth at the entrance. Told by another node it is a hint (protocol section 6): only this node knows when its
/// AIVT is due, and a responder's wish comes as a verdict of the exit. Anything else is a failure of the path.
fn believed(reason: Reason, teller: Teller, due: bool) -> Reason {
    match reason {
        Reason::Expired if teller != Teller::Here && !due => Reason::ProtocolError,
        Reason::None if teller != Teller::Here => Reason::ProtocolError,
        _ => reason,
    }
}
