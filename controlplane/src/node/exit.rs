//! The exit: which AIVT speaks to a responder from which source (the paper's Table 3).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

use ain_dataplane::id::{AivtId, FlowTag, Now, Pair, PeerId};
use ain_dataplane::wire::ip::is_single_host;
use ipnet::IpNet;

use super::{Node, Teller};
use crate::action::{Action, Verdict};
use crate::aivt::{Admission, Role};
use crate::config::Host;
use crate::limits::{PAIR_MEMORY, PAIRS_REMEMBERED};
use crate::signal::create::FlowToken;
use crate::signal::destroy::Reason;

/// (responder, source) to the AIVT that owns it. As many at most as there are AIVTs.
///
/// The pair of a flow is known by its token for a while after its AIVT ended, so that the rebuilt AIVT is bound as soon as it
/// stands: a responder that sends a long answer must reach an initiator that has nothing to say.
#[derive(Default)]
pub(super) struct Bindings {
    by_pair: HashMap<(IpAddr, IpAddr), Binding>,
    by_token: HashMap<FlowTag, LastPair>,
    /// How many each responder's tunnel has.
    per_tunnel: HashMap<PeerId, usize>,
    /// Tokens in the order in which their bindings ended: what is forgotten is found without a search.
    ended: VecDeque<(Now, FlowTag)>,
}

/// The tunnels of responders by address. Every new flow asks, so that hosts are not searched one by one.
#[derive(Default)]
pub(super) struct Responders(BTreeMap<IpAddr, (IpNet, PeerId)>);

impl Responders {
    /// Of hosts whose tunnels do not overlap.
    pub(super) fn of(hosts: &BTreeMap<PeerId, Host>) -> Self {
        let answering = hosts.iter().filter(|(_, host)| host.role.responds());
        let prefixes = answering.flat_map(|(peer, host)| {
            // Prefixes of one host may lie in each other: as few as there can be do not.
            let apart = IpNet::aggregate(&host.prefixes);
            apart.into_iter().map(|prefix| (prefix.network(), (prefix, *peer)))
        });
        Self(prefixes.collect())
    }

    fn tunnel_of(&self, responder: IpAddr) -> Option<PeerId> {
        let (_, (prefix, peer)) = self.0.range(..=responder).next_back()?;
        prefix.contains(&responder).then_some(*peer)
    }
}

/// One binding.
#[derive(Clone, Copy)]
struct Binding {
    owner: AivtId,
    token: FlowToken,
    tunnel: PeerId,
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

    /// `binding` shall have `pair`, which no other has.
    fn hold(&mut self, binding: Binding, pair: Pair) {
        self.by_pair.insert((pair.destination, pair.source), binding);
        *self.per_tunnel.entry(binding.tunnel).or_default() += 1;
        let last = LastPair { pair, ended: None };
        self.by_token.insert(binding.token.tag(), last);
    }

    /// AIVTs bound to the responders behind `tunnels`, each with its tunnel, in order.
    pub(super) fn of_hosts(&self, tunnels: &BTreeSet<PeerId>) -> Vec<(PeerId, AivtId)> {
        let bound = self
            .by_pair
            .values()
            .filter(|binding| tunnels.contains(&binding.tunnel));
        let mut ids: Vec<_> = bound.map(|binding| (binding.tunnel, binding.owner)).collect();
        ids.sort();
        ids
    }

    /// How many the responder behind `tunnel` has.
    fn of_tunnel(&self, tunnel: PeerId) -> usize {
        self.per_tunnel.get(&tunnel).copied().unwrap_or(0)
    }

    /// Frees what `aivt` holds of `pair`.
    pub(super) fn release(&mut self, now: Now, aivt: AivtId, pair: Pair) {
        let key = (pair.destination, pair.source);
        let held = self.by_pair.get(&key).copied();
        let Some(Binding { token, tunnel, .. }) = held.filter(|held| held.owner == aivt) else {
            return;
        };
        self.by_pair.remove(&key);
        if let Some(count) = self.per_tunnel.get_mut(&tunnel) {
            *count -= 1;
        }
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

    /// The AIVT that is bound to `pair`.
    pub(super) fn owner(&self, pair: Pair) -> Option<AivtId> {
        self.by_pair
            .get(&(pair.destination, pair.source))
            .map(|binding| binding.owner)
    }

    /// Forgets what the flow `token` was bound to last.
    pub(super) fn forget_token(&mut self, token: &FlowToken) {
        self.by_token.remove(&token.tag());
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
            admission,
        }) = self.aivts.by_id(id).map(|aivt| &aivt.role)
        else {
            return;
        };
        let (flow_token, any) = (*flow_token, *admission == Admission::Full);
        let tunnel = self.way_to(pair.destination);
        let Some(tunnel) = tunnel.filter(|tunnel| (any || self.is_own(*tunnel)) && is_single_host(pair.source)) else {
            return self.actions.push_back(Action::Refuse {
                aivt: id,
                verdict: Verdict::ExitRefused,
            });
        };
        let key = (pair.destination, pair.source);
        if let Some(&Binding { owner, token, .. }) = self.bindings.by_pair.get(&key) {
            if token != flow_token {
                return self.actions.push_back(Action::Refuse {
                    aivt: id,
                    verdict: Verdict::AddressCollision,
                });
            }
            // The entrance built this AIVT because the other one failed.
            self.end(now, owner, Reason::None, Teller::Here);
        }
        // Answers take slots of the one worker that owns the responder's tunnel; those of the Internet are spread and limited by AIVT.
        if tunnel != PeerId::INTERNET && self.bindings.of_tunnel(tunnel) >= self.settings.quotas.open_flows_per_host {
            return self.actions.push_back(Action::Refuse {
                aivt: id,
                verdict: Verdict::ExitRefused,
            });
        }
        let binding = Binding {
            owner: id,
            token: flow_token,
            tunnel,
        };
        self.bindings.hold(binding, pair);
        if let Some(Role::Exit { bound, .. }) = self.aivts.by_id_mut(id).map(|aivt| &mut aivt.role) {
            *bound = Some(Box::new(pair));
        }
        self.actions.push_back(Action::Bind { aivt: id, pair, tunnel });
    }

    /// The packet path has no room for what was bound.
    pub(super) fn bind_failed(&mut self, now: Now, id: AivtId) {
        if let Some(Role::Exit { bound, .. }) = self.aivts.by_id_mut(id).map(|aivt| &mut aivt.role)
            && let Some(pair) = bound.take()
        {
            self.bindings.release(now, id, *pair);
            self.actions.push_back(Action::Refuse {
                aivt: id,
                verdict: Verdict::ExitRefused,
            });
        }
    }

    /// Where datagrams to `destination` leave: through a responder's tunnel unless it is gone, else into the Internet if this node is an open exit.
    fn way_to(&self, destination: IpAddr) -> Option<PeerId> {
        match self.responder_tunnel(destination) {
            Some(tunnel) => (!self.away.has(tunnel)).then_some(tunnel),
            None => self.is_open_to(destination).then_some(PeerId::INTERNET),
        }
    }

    /// Whether the open exit reaches `destination`: never a node of the network.
    fn is_open_to(&self, destination: IpAddr) -> bool {
        self.settings.open_exit.as_ref().is_some_and(|open| {
            open.policy.reaches(destination)
                && open.pool.some_address(destination, 0).is_some()
                && !self.directory.has_address(destination)
        })
    }

    /// The tunnel of the host that answers to `responder`. Tunnels do not overlap, so there is at most one.
    pub(super) fn responder_tunnel(&self, responder: IpAddr) -> Option<PeerId> {
        self.settings.responders.tunnel_of(responder)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{HostRole, SourceOption};

    proptest! {
        /// Hosts 0 to 9 have prefixes within 10.<host>/16: what a search of all would find is found.
        #[test]
        fn the_same_tunnel_as_a_search_finds(
            prefixes in prop::collection::vec((0u8..10, any::<u16>(), 16u8..=32), 0..30),
            asked in prop::collection::vec((0u8..11, any::<u16>()), 1..50),
        ) {
            let address = |host: u8, low: u16| IpAddr::from([10, host, (low >> 8) as u8, low as u8]);
            let mut hosts: BTreeMap<PeerId, Host> = BTreeMap::new();
            for (host, low, length) in prefixes {
                let host_of = || Host { prefixes: Vec::new(), role: HostRole::Both, option: SourceOption::AsSent, quota: None };
                let net = IpNet::new(address(host, low), length).unwrap();
                hosts.entry(PeerId(host.into())).or_insert_with(host_of).prefixes.push(net);
            }
            let responders = Responders::of(&hosts);
            for (host, low) in asked {
                let wanted = address(host, low);
                let serves = |host: &Host| host.prefixes.iter().any(|prefix| prefix.contains(&wanted));
                let searched = hosts.iter().find(|(_, host)| serves(host)).map(|(peer, _)| *peer);
                prop_assert_eq!(responders.tunnel_of(wanted), searched);
            }
        }
    }
}
