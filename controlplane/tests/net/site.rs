//! A node and what stands for its packet path.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ain_controlplane::action::{Action, Link, Route, Verdict};
use ain_controlplane::node::Node;
use ain_dataplane::entry::{Activity, Touch};
use ain_dataplane::id::{AivtId, FlowId, Now, Pair, PeerId};

use super::Sender;

/// A node and what its packet path would know.
pub struct Site {
    pub node: Option<Node>,
    pub life: u32,
    pub routes: HashMap<AivtId, Route>,
    pub bound: HashMap<AivtId, Pair>,
    pub flows: HashMap<FlowId, Sender>,
    pub shown: HashMap<FlowId, IpAddr>,
    pub closed: Vec<(Sender, bool)>,
    pub refused: Vec<Verdict>,
    pub active: HashMap<AivtId, Arc<Activity>>,
    pub saved_spis: HashMap<PeerId, u32>,
    pub next_flow: u64,
    /// When the node has opened all creating signals that it was given.
    pub opener_free: Now,
}

impl Site {
    pub fn new() -> Self {
        Self {
            node: None,
            life: 0,
            routes: HashMap::new(),
            bound: HashMap::new(),
            flows: HashMap::new(),
            shown: HashMap::new(),
            closed: Vec::new(),
            refused: Vec::new(),
            active: HashMap::new(),
            saved_spis: HashMap::new(),
            next_flow: 0,
            opener_free: Now(0),
        }
    }

    pub fn install(&mut self, aivt: AivtId, route: Route, activity: Arc<Activity>) {
        self.active.insert(aivt, activity);
        assert!(self.routes.insert(aivt, route).is_none(), "installed twice");
    }

    pub fn touch(&mut self, aivt: AivtId, now: Now) {
        Touch::new(&self.active[&aivt]).touch(now);
    }

    pub fn with_upstream(&self, link: Link) -> Option<(AivtId, &Route)> {
        let has = |route: &Route| match route {
            Route::Intermediate { upstream, .. } | Route::Exit { upstream, .. } => upstream.link == link,
            Route::Entrance { .. } => false,
        };
        self.routes
            .iter()
            .find(|(_, route)| has(route))
            .map(|(aivt, route)| (*aivt, route))
    }

    pub fn note(&mut self, action: &Action) {
        match *action {
            Action::Remove { aivt } => {
                assert!(self.routes.remove(&aivt).is_some(), "removed what was not installed");
                self.bound.remove(&aivt);
                self.active.remove(&aivt);
            }
            Action::Bind { aivt, pair, .. } => {
                assert!(self.routes.contains_key(&aivt) && self.bound.insert(aivt, pair).is_none());
                let owners = self.bound.values().filter(|bound| **bound == pair).count();
                assert_eq!(owners, 1, "two AIVTs are bound to one pair");
            }
            Action::Refuse { aivt, verdict } => {
                assert!(self.routes.contains_key(&aivt));
                self.refused.push(verdict);
            }
            Action::Rewrite { flow, source } => {
                self.shown.insert(flow, source);
            }
            Action::CloseFlow { flow, refused } => {
                let sender = self.flows.remove(&flow).expect("closed twice");
                self.shown.remove(&flow);
                self.closed.push((sender, refused));
            }
            // There is no packet path that it could enter.
            Action::Enter { .. } => {}
            Action::KeepGuards(_) => unreachable!("no guards here"),
            Action::Send { .. } | Action::Install { .. } | Action::Open(_) | Action::ReserveSpis { .. } => {
                unreachable!("handled before")
            }
        }
    }
}
