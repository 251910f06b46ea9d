//! The exit: which AIVT speaks to a responder from which source (the paper's Table 3).

use std::collections::HashMap;
use std::net::IpAddr;

use ain_dataplane::id::{AivtId, Now, Pair, PeerId};

use super::{Node, Teller};
use crate::action::{Action, Verdict};
use crate::aivt::Role;
use crate::signal::create::FlowToken;
use crate::signal::destroy::Reason;

/// (responder, source) to the AIVT that owns it. As many at most as there are AIVTs.
#[derive(Default)]
pub(super) struct Bindings {
    by_pair: HashMap<(IpAddr, IpAddr), (AivtId, FlowToken)>,
}

impl Bindings {
    pub(super) fn len(&self) -> usize {
        self.by_pair.len()
    }

    /// Frees what `aivt` holds of `pair`.
    pub(super) fn release(&mut self, aivt: AivtId, pair: Pair) {
        let key = (pair.destination, pair.source);
        if self.by_pair.get(&key).is_some_and(|(owner, _)| *owner == aivt) {
            self.by_pair.remove(&key);
        }
    }
}

impl Node {
    /// The first datagram of an AIVT names its pair for good.
    pub(super) fn bind(&mut self, now: Now, id: AivtId, pair: Pair) {
        let Some(Role::Exit {
            flow_token,
            bound: None,
        }) = self.aivts.by_id(id).map(|aivt| &aivt.role)
        else {
            return;
        };
        let flow_token = *flow_token;
        let Some(tunnel) = self.responder_tunnel(pair.destination) else {
            return self.actions.push_back(Action::Refuse {
                aivt: id,
                verdict: Verdict::ExitRefused,
            });
        };
        let key = (pair.destination, pair.source);
        if let Some(&(owner, token)) = self.bindings.by_pair.get(&key) {
            if token != flow_token {
                return self.actions.push_back(Action::Refuse {
                    aivt: id,
                    verdict: Verdict::AddressCollision,
                });
            }
            // The entrance built this AIVT because the other one failed.
            self.end(now, owner, Reason::None, Teller::Here);
        }
        self.bindings.by_pair.insert(key, (id, flow_token));
        if let Some(Role::Exit { bound, .. }) = self.aivts.by_id_mut(id).map(|aivt| &mut aivt.role) {
            *bound = Some(pair);
        }
        self.actions.push_back(Action::Bind { aivt: id, pair, tunnel });
    }

    /// The tunnel of the host that answers to `responder`. Tunnels do not overlap, so there is at most one.
    pub(super) fn responder_tunnel(&self, responder: IpAddr) -> Option<PeerId> {
        let serves = |host: &crate::config::Host| host.prefixes.iter().any(|prefix| prefix.contains(&responder));
        let mut hosts = self.settings.hosts.iter().filter(|(_, host)| host.role.responds());
        hosts.find(|(_, host)| serves(host)).map(|(peer, _)| *peer)
    }
}
