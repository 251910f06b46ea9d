//! A host asks for the end of what carries its datagrams (protocol section 7): as initiator that of its flow, as responder that of the
//! AIVT its answers go into.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use ain_dataplane::id::{AivtId, Now, Pair, PeerId};

use super::{Node, Teller};
use crate::action::{Action, Verdict};
use crate::aivt::Role;
use crate::flow::FlowNumber;
use crate::limits::{CLOSING_EVERY, CLOSING_WORDS};
use crate::request::{Answer, Close, Outcome, RequestError, open, wrap};
use crate::signal::destroy::Reason;

/// AIVTs whose responder asked for their end. The entrance must hear it from the exit itself, authentic by K_n, or it would take
/// the end for a failure and build another; so the verdict goes first, a few times, and then the end.
#[derive(Default)]
pub(super) struct Closing {
    /// How often the verdict may still be sent.
    left: HashMap<AivtId, u8>,
    /// When to look again. All wait equally long, so this is in order.
    due: VecDeque<(Now, AivtId)>,
}

impl Closing {
    /// When [`Node::say_last_words`] goes on.
    pub(super) fn next_due(&self) -> Option<Now> {
        self.due.front().map(|(due, _)| *due)
    }

    fn take_due(&mut self, now: Now) -> Option<AivtId> {
        self.due.front().filter(|(due, _)| *due <= now)?;
        self.due.pop_front().map(|(_, aivt)| aivt)
    }
}

impl Node {
    /// `datagram` came out of the tunnel of the host `tunnel`, or out of an AIVT if that is the node itself, for this node.
    pub fn handle_for_node(&mut self, now: Now, wall: u64, tunnel: PeerId, datagram: &[u8]) {
        if self.is_own(tunnel) {
            return self.own_datagram(now, wall, datagram);
        }
        let Ok((ends, payload)) = open(datagram) else {
            self.counts.requests_malformed += 1;
            return;
        };
        let answer = match Close::parse(payload) {
            Ok(Close { id, pair }) => Answer {
                id,
                outcome: self.close(now, tunnel, pair),
            },
            Err(RequestError::NotUnderstood(id)) => Answer {
                id,
                outcome: Outcome::NotUnderstood,
            },
            Err(_) => {
                self.counts.requests_malformed += 1;
                return;
            }
        };
        self.counts.requests.add(answer.outcome);
        let datagram = wrap(&ends, &answer.to_bytes());
        self.actions.push_back(Action::Send { peer: tunnel, datagram });
    }

    /// Ends what carries datagrams of `pair` that come from the host `tunnel`, in whatever role.
    fn close(&mut self, now: Now, tunnel: PeerId, pair: Pair) -> Outcome {
        let as_initiator = self.close_own_flow(now, tunnel, pair);
        let as_responder = self.close_answers(now, tunnel, pair);
        if as_initiator || as_responder {
            Outcome::Closed
        } else {
            Outcome::Unknown
        }
    }

    /// As initiator: the flow is forgotten by the packet path, so that new traffic begins it anew.
    fn close_own_flow(&mut self, now: Now, tunnel: PeerId, pair: Pair) -> bool {
        let known = self.flows.with_pair(tunnel, pair);
        known.is_some_and(|number| self.close_open_flow(now, number))
    }

    /// The same; whether it was open.
    pub(super) fn close_open_flow(&mut self, now: Now, number: FlowNumber) -> bool {
        let Some(flow) = self.flows.by_number(number).and_then(|flow| flow.id) else {
            return false;
        };
        self.drop_flow(now, number, Reason::None);
        if let Some(flow) = self.flows.by_number_mut(number) {
            flow.forgive();
        }
        self.actions.push_back(Action::CloseFlow { flow, refused: false });
        true
    }

    /// As responder: the AIVT that `answers` go into.
    fn close_answers(&mut self, now: Now, tunnel: PeerId, answers: Pair) -> bool {
        let bound = self.bindings.owner(answers.reversed());
        let Some(id) = bound.filter(|_| self.responder_tunnel(answers.source) == Some(tunnel)) else {
            return false;
        };
        self.close_bound(now, id);
        true
    }

    /// The responder that `id` is bound to wishes its end.
    pub(super) fn close_bound(&mut self, now: Now, id: AivtId) {
        if let Entry::Vacant(left) = self.closing.left.entry(id) {
            left.insert(CLOSING_WORDS);
            self.say_last_word(now, id);
        }
    }

    /// Says again what was not answered, or ends it.
    pub(super) fn say_last_words(&mut self, now: Now) {
        while let Some(id) = self.closing.take_due(now) {
            self.say_last_word(now, id);
        }
    }

    /// Tells the entrance of `id` that the responder wishes its end, and waits for the DESTROY that answers.
    fn say_last_word(&mut self, now: Now, id: AivtId) {
        let token = match self.aivts.by_id(id).map(|aivt| &aivt.role) {
            Some(Role::Exit { flow_token, .. }) => *flow_token,
            _ => {
                self.closing.left.remove(&id);
                return;
            }
        };
        match self.closing.left.get_mut(&id) {
            Some(left) if *left > 0 => {
                *left -= 1;
                self.closing.due.push_back((now.plus(CLOSING_EVERY), id));
                self.actions.push_back(Action::Refuse {
                    aivt: id,
                    verdict: Verdict::ClosedByResponder,
                });
            }
            _ => {
                self.closing.left.remove(&id);
                self.end(now, id, Reason::None, Teller::Here);
                // An entrance that takes this for a failure shall not find the binding again before it sends something.
                self.bindings.forget_token(&token);
            }
        }
    }
}
