//! The exit: which AIVT speaks to a responder from which source (the paper's Table 3).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use ain_dataplane::id::{AivtId, Now, Pair, PeerId};

use super::{Node, Teller};
use crate::action::{Action, Verdict};
use crate::aivt::Role;
use crate::limits::{PAIR_MEMORY, PAIRS_REMEMBERED};
use crate::signal::create::{FlowToken, TokenTag};
use crate::signal::destroy::Reason;

/// (responder, source) to the AIVT that owns it. As many at most as there are AIVTs.
///
/// The pair of a flow is known by its token for a while after its AIVT ended, so that the rebuilt AIVT is bound as soon as it
/// stands: a responder that sends a long answer must reach an initiator that has nothing to say.
#[derive(Default)]
pub(super) struct Bindings {
    by_pair: HashMap<(IpAddr, IpAddr), (AivtId, FlowToken)>,
    by_token: HashMap<TokenTag, LastPair>,
    /// Tokens in the order in which their bindings ended: what is forgotten is found without a search.
    ended: VecDeque<(Now, TokenTag)>,
}

/// What a flow was bound to last, and when that binding ended, if it has.
struct LastPair {
    pair: Pair,
    ended: Option<Now>,
}

impl Bindings {
    pub(super) fn len(&self) -> usize {
        self.by_pair.len()
    }

    fn hold(&mut self, aivt: AivtId, token: FlowToken, pair: Pair) {
        self.by_pair.insert((pair.destination, pair.source), (aivt, token));
        self.by_token.insert(token.tag(), LastPair { pair, ended: None });
    }

    /// Frees what `aivt` holds of `pair`.
    pub(super) fn release(&mut self, now: Now, aivt: AivtId, pair: Pair) {
        let key = (pair.destination, pair.source);
        let Some((_, token)) = self.by_pair.get(&key).copied().filter(|(owner, _)| *owner == aivt) else {
            return;
        };
        self.by_pair.remove(&key);
        self.forget(now);
        let tag = token.tag();
        if self.ended.len() >= self.by_pair.len() + PAIRS_REMEMBERED {
            // Too many: the newest is not worth more than the others.
            self.by_token.remove(&tag);
        } else if let Some(last) = self.by_token.get_mut(&tag) {
            last.ended = Some(now);
            self.ended.push_back((now, tag));
        }
    }

    /// Forgets pairs whose time is over.
    fn forget(&mut self, now: Now) {
        while let Some(&(ended, tag)) = self.ended.front().filter(|(at, _)| now.since(*at) >= PAIR_MEMORY) {
            self.ended.pop_front();
            // Bound anew, or ended once more since: then this is not the end that counts.
            if self.by_token.get(&tag).is_some_and(|last| last.ended == Some(ended)) {
                self.by_token.remove(&tag);
            }
        }
    }

    /// The pair of the flow `token`, if it is bound or was a moment ago.
    fn pair_of(&self, now: Now, token: &FlowToken) -> Option<Pair> {
        let last = self.by_token.get(&token.tag())?;
        let fresh = last.ended.is_none_or(|ended| now.since(ended) < PAIR_MEMORY);
        fresh.then_some(last.pair)
    }
}

impl Node {
    /// An AIVT stands: if it carries on a flow known here, it is bound at once.
    pub(super) fn bind_again(&mut self, now: Now, id: AivtId) {
        if let Some(Role::Exit { flow_token, .. }) = self.aivts.by_id(id).map(|aivt| &aivt.role)
            && let Some(pair) = self.bindings.pair_of(now, flow_token)
        {
            self.bind(now, id, pair);
        }
    }

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
        self.bindings.hold(id, flow_token, pair);
        if let Some(Role::Exit { bound, .. }) = self.aivts.by_id_mut(id).map(|aivt| &mut aivt.role) {
            *bound = Some(Box::new(pair));
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
