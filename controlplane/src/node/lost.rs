//! The end of AIVTs whose neighbour is gone, or whose key generation has been over for too long: some at a time, and only those whose
//! neighbours can be told.
//!
//! ```text
//!   neighbour lost      ──► Loss { peer, newest, from }      TVTs to the peer, by SPI:   ended │ from ──► looked at next
//!   generation outlived ──┘
//! ```
//!
//! A neighbour that holds back its ACKs leaves no room for more DESTROYs. AIVTs to it are passed over and looked at again, so that
//! it delays nobody else's, for as long as [`TOLD_WITHIN`]; then they end untold. For the loss's own neighbour nobody waits. Or
//! either could keep outlived keys for good.

use std::collections::VecDeque;

use ain_dataplane::id::{AivtId, Now, PeerId};

use super::{Node, Teller};
use crate::aivt::Aivt;
use crate::limits::{ENDS_AT_A_TIME, FRESH, LOST_EVERY, PENDING_REQUESTS, TOLD_WITHIN};
use crate::sa::Generation;
use crate::signal::destroy::Reason;

/// Neighbours whose AIVTs, all or some, are still to be ended.
#[derive(Default)]
pub(super) struct Lost {
    losses: VecDeque<Loss>,
    due: Now,
}

/// A neighbour that went away, or whose TVTs of one generation shall end.
struct Loss {
    peer: PeerId,
    /// This generation; none: it went away.
    generation: Option<Generation>,
    /// It has forgotten AIVTs up to this, and knows those made since.
    newest: AivtId,
    /// First SPI that was not looked at; `None` after the last.
    from: Option<u32>,
    /// Whether some were passed over.
    passed_over: bool,
    /// When nobody is waited for any more.
    until: Now,
}

impl Lost {
    /// `peer` has forgotten all AIVTs up to `newest`; or those of one generation shall end. However often it is told, it is in the
    /// queue once.
    fn note(&mut self, now: Now, peer: PeerId, generation: Option<Generation>, newest: AivtId) {
        let is_it = |loss: &Loss| (loss.peer, loss.generation) == (peer, generation);
        let noted = self.losses.iter().position(is_it).and_then(|at| self.losses.remove(at));
        self.losses.push_back(Loss {
            peer,
            generation,
            newest,
            from: Some(0),
            passed_over: false,
            until: noted.map_or(now.plus(TOLD_WITHIN), |loss| loss.until),
        });
    }

    /// When [`Node::end_lost`] goes on.
    pub(super) fn next_due(&self) -> Option<Now> {
        (!self.losses.is_empty()).then_some(self.due)
    }
}

impl Node {
    /// The neighbour is gone, or has forgotten all: so have its AIVTs.
    pub(super) fn pvt_lost(&mut self, now: Now, peer: PeerId) {
        self.counts.pvt_downs += 1;
        if let Some(pvt) = self.pvts.get_mut(&peer) {
            pvt.drop_requests();
        }
        self.forget_openings(peer);
        self.lost.note(now, peer, None, self.aivts.newest());
        self.end_lost(now);
    }

    /// TVTs to `peer` that were born under `generation` end, and entrances make others.
    pub(super) fn generation_outlived(&mut self, now: Now, peer: PeerId, generation: Generation) {
        self.lost.note(now, peer, Some(generation), self.aivts.newest());
        self.end_lost(now);
    }

    /// Ends some of the AIVTs that lost a neighbour, if it is time to.
    pub(super) fn end_lost(&mut self, now: Now) {
        if self.lost.next_due().is_none_or(|due| due > now) {
            return;
        }
        let mut looks = ENDS_AT_A_TIME;
        for _ in 0..self.lost.losses.len() {
            let Some(mut loss) = self.lost.losses.pop_front() else {
                break;
            };
            looks -= self.end_some(now, &mut loss, looks);
            if loss.from.is_none() && loss.passed_over {
                (loss.from, loss.passed_over) = (Some(0), false);
            }
            if loss.from.is_some() {
                self.lost.losses.push_back(loss);
            }
            if looks == 0 {
                break;
            }
        }
        self.lost.due = now.plus(LOST_EVERY);
    }

    /// Looks at `most` AIVTs of `loss` at most; returns at how many.
    fn end_some(&mut self, now: Now, loss: &mut Loss, most: usize) -> usize {
        let Some(from) = loss.from else { return 0 };
        let links: Vec<_> = self.aivts.over(loss.peer, from).take(most).collect();
        let more = links.len() == most;
        loss.from = links.last().filter(|_| more).and_then(|(spi, _)| spi.checked_add(1));
        for (_, id) in links.iter().filter(|(_, id)| *id <= loss.newest) {
            let Some(aivt) = self.aivts.by_id(*id) else { continue };
            let Some((reason, silent)) = self.end_by(now, loss, aivt) else {
                continue;
            };
            if now >= loss.until || self.can_be_told(aivt, side_of(aivt, loss.peer)) {
                self.end(now, *id, reason, silent);
            } else {
                loss.passed_over = true;
            }
        }
        links.len()
    }

    /// Why `aivt` ends by `loss`, and who is not told; none: it does not.
    fn end_by(&self, now: Now, loss: &Loss, aivt: &Aivt) -> Option<(Reason, Teller)> {
        if let Some(generation) = loss.generation {
            let is_of_it = aivt.generation_with(loss.peer) == Some(generation);
            return is_of_it.then_some((Reason::ResourceLimit, Teller::Here));
        }
        // The neighbour may be back, and have made this one since, before its new process number came here.
        let fresh = now.since(aivt.since) < FRESH && self.is_up(loss.peer);
        let silent = if fresh { Teller::Here } else { side_of(aivt, loss.peer) };
        Some((Reason::NextHopUnreachable, silent))
    }

    /// Whether all neighbours on `aivt` but the `silent` one would take another DESTROY.
    fn can_be_told(&self, aivt: &Aivt, silent: Teller) -> bool {
        let upstream = aivt.upstream.as_ref().map(|upstream| upstream.link.peer);
        let downstream = aivt.downstream.as_ref().map(|downstream| downstream.link.peer);
        let told = [
            upstream.filter(|_| silent != Teller::Upstream),
            downstream.filter(|_| silent != Teller::Downstream),
        ];
        told.into_iter().flatten().all(|peer| self.has_room_for(peer))
    }

    /// Whether `peer` would take another DESTROY; half of the room is for other requests.
    pub(super) fn has_room_for(&self, peer: PeerId) -> bool {
        let pvt = self.pvts.get(&peer);
        pvt.is_none_or(|pvt| pvt.pending() <= PENDING_REQUESTS / 2)
    }
}

/// On which side of this node `peer` is.
fn side_of(aivt: &Aivt, peer: PeerId) -> Teller {
    match &aivt.upstream {
        Some(upstream) if upstream.link.peer == peer => Teller::Upstream,
        Some(_) | None => Teller::Downstream,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use ain_dataplane::id::Spi;
    use ain_dataplane::wire::cell::CellProfile;
    use ed25519_dalek::SigningKey;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;
    use crate::action::{Action, Link};
    use crate::aivt::{Downstream, NEVER, Role, Stage, Upstream};
    use crate::config::{Config, Host, HostRole, Neighbour, Peer, Quotas, SourceOption};
    use crate::directory::{Directory, Entry, NodeId, OnionKey};
    use crate::share::NeighbourShare;
    use crate::signal::frame::{Frame, Kind, Message, Signal};
    use crate::signal::suite::{OnionPrivateKey, x25519};

    /// Neighbours of the node under test, which is number 3.
    const UP: PeerId = PeerId(0);
    const DOWN: PeerId = PeerId(1);
    const SILENT: PeerId = PeerId(2);
    const THIS: u8 = 3;

    fn identity(number: u8) -> [u8; 32] {
        SigningKey::from_bytes(&[number + 1; 32]).verifying_key().to_bytes()
    }

    fn id(number: u8) -> NodeId {
        NodeId::of(&identity(number))
    }

    fn onion_key(number: u8) -> OnionPrivateKey {
        x25519::onion_key(&[number + 101; 32])
    }

    fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, number + 1)
    }

    /// As `peer` reads it.
    fn decode(peer: PeerId, datagram: &[u8]) -> Signal {
        let frame = Frame::new((address(peer.0 as u8), address(THIS)), CellProfile::Standard.cell_len());
        frame.decode(datagram).unwrap()
    }

    /// The node under test; its PVTs are up.
    fn node() -> Node {
        let mut node = node_with(&[]);
        hear(&mut node, Now(0));
        node
    }

    /// With hosts of these prefixes, peers from 3 on, and 198.51/16 behind the first neighbour.
    pub fn node_with(hosts: &[&str]) -> Node {
        let entry = |number: u8| Entry {
            onion_keys: vec![OnionKey::always(3, onion_key(number).public().to_vec())],
            neighbours: match number {
                THIS => (0..THIS).map(id).collect(),
                _ => vec![id(THIS)],
            },
            exit_prefixes: Vec::from_iter((number == 0).then(|| "198.51.0.0/16".parse().unwrap())),
            ..Entry::new(format!("ain{number}"), identity(number), IpAddr::V4(address(number)))
        };
        let neighbour = |number: u8| {
            Peer::Neighbour(Neighbour {
                id: id(number),
                rate_pps: None,
                share: NeighbourShare::default(),
            })
        };
        let host = |prefix: &str| {
            Peer::Host(Host {
                prefixes: vec![prefix.parse().unwrap()],
                role: HostRole::Both,
                option: SourceOption::AsSent,
                quota: None,
            })
        };
        let config = Config {
            id: id(THIS),
            onion_keys: onion_key(THIS).into(),
            kem: x25519::KEM,
            directory: Directory::new((0..=THIS).map(entry).collect()).unwrap(),
            guards: Vec::new(),
            guard_time_s: 0,
            peers: (0..THIS)
                .map(neighbour)
                .chain(hosts.iter().copied().map(host))
                .collect(),
            min_nodes: 2,
            max_nodes: 6,
            profile: CellProfile::Standard,
            inactivity_s: 3600,
            lifetime_s: 0,
            replay_floor_s: 0,
            quotas: Quotas::default(),
            open_exit: None,
            tickets: None,
        };
        Node::new(config, Now(0), Box::new(ChaCha12Rng::seed_from_u64(7))).unwrap()
    }

    pub fn hear(node: &mut Node, now: Now) {
        node.pvts.values_mut().for_each(|pvt| _ = pvt.liveness.heard(now));
    }

    /// An AIVT between `up` and `down` that stands until `expires`.
    fn relay(node: &mut Node, number: u32, [up, down]: [PeerId; 2], expires: Now) -> AivtId {
        let link = |peer| Link {
            peer,
            spi: Spi::new(Spi::MIN + number).unwrap(),
        };
        node.insert(Aivt {
            upstream: Some(Upstream {
                link: link(up),
                generation: Generation::HAND_MADE,
                create_id: 1,
                confirm: None,
            }),
            downstream: Some(Downstream {
                link: link(down),
                generation: Generation::HAND_MADE,
                create_id: 1,
                onion: Box::default(),
                redraws: 0,
            }),
            role: Role::Relay { waiting: None },
            stage: Stage::Standing,
            since: Now(0),
            expires,
            activity: None,
            due: NEVER,
        })
    }

    fn is_ending(node: &Node) -> bool {
        let due = node.lost.next_due().or(node.leaving.next_due());
        due.or(node.away.next_due()).is_some()
    }

    /// Time passes from `now` until nothing more ends. In each millisecond neighbours but the silent one ACK so many requests.
    fn until_over(node: &mut Node, mut now: Now, acks: usize) {
        let mut unanswered = VecDeque::new();
        while node.poll_timeout().is_some_and(|due| due <= now) || is_ending(node) {
            hear(node, now);
            node.handle_timeout(now, 0);
            while let Some(action) = node.poll_action() {
                if let Action::Send { peer, datagram } = action
                    && peer != SILENT
                    && let signal = decode(peer, &datagram)
                    && signal.message.is_request()
                {
                    unanswered.push_back((peer, signal.message_id));
                }
            }
            for (peer, message_id) in unanswered.drain(..acks.min(unanswered.len())) {
                node.pvts.get_mut(&peer).unwrap().settle(message_id);
            }
            now = now.plus(Now::SECOND / 1000);
            assert!(now < Now(60 * Now::SECOND), "it never ends");
        }
    }

    #[test]
    fn the_other_neighbour_is_told_of_every_end() {
        let mut node = node();
        let total = PENDING_REQUESTS + 3 * ENDS_AT_A_TIME;
        for number in 0..total as u32 {
            relay(&mut node, number, [UP, DOWN], NEVER);
        }
        let later = Now(2 * FRESH);
        node.pvt_lost(later, DOWN);
        assert_eq!(node.aivts.len(), total - ENDS_AT_A_TIME);
        until_over(&mut node, later, 256);
        assert!(node.aivts.is_empty());
        assert_eq!(
            (node.counts.sent.of(Kind::Destroy), node.counts.overload),
            (total as u64, 0)
        );
    }

    /// It holds back the ACKs of as many requests as there may be.
    fn fill(node: &mut Node, peer: PeerId) {
        for spi in 0..PENDING_REQUESTS as u32 {
            let destroy = Message::Destroy {
                create: 0,
                reason: Reason::None,
            };
            node.request(Now(0), peer, spi + Spi::MIN, destroy);
        }
    }

    #[test]
    fn line_1_a_neighbour_without_acks_keeps_no_outlived_generation() {
        let mut node = node();
        fill(&mut node, SILENT);
        for number in 0..20 {
            let ends = if number < 10 { [SILENT, DOWN] } else { [UP, SILENT] };
            relay(&mut node, number, ends, NEVER);
        }
        node.generation_outlived(Now(0), SILENT, Generation::HAND_MADE);
        assert!(node.aivts.is_empty() && node.lost.next_due().is_none());
        assert_eq!(
            node.pvts[&UP].pending() + node.pvts[&DOWN].pending(),
            20,
            "the others are told"
        );
    }

    #[test]
    fn line_1_nor_does_one_without_acks_keep_those_of_another() {
        let mut node = node();
        fill(&mut node, SILENT);
        relay(&mut node, 1, [SILENT, DOWN], NEVER);
        node.generation_outlived(Now(0), DOWN, Generation::HAND_MADE);
        let nearly = Now(TOLD_WITHIN - 1);
        node.generation_outlived(nearly, DOWN, Generation::HAND_MADE);
        assert_eq!(node.aivts.len(), 1);
        node.end_lost(nearly.plus(LOST_EVERY));
        assert!(node.aivts.is_empty() && node.lost.next_due().is_none());
    }

    #[test]
    fn a_neighbour_without_acks_delays_its_own_aivts_alone() {
        let mut node = node();
        fill(&mut node, SILENT);
        let total = 2 * ENDS_AT_A_TIME as u32;
        for number in 0..2 * total {
            let up = if number < total { SILENT } else { UP };
            relay(&mut node, number, [up, DOWN], NEVER);
        }
        node.pvt_lost(Now(0), DOWN);
        for ms in 0..10 {
            node.handle_timeout(Now(ms * Now::SECOND / 1000), 0);
        }
        assert_eq!(node.aivts.len(), total as usize, "those to the silent neighbour wait");
        until_over(&mut node, Now(Now::SECOND), 256);
        assert!(node.aivts.is_empty());
    }

    #[test]
    fn a_neighbour_that_comes_and_goes_is_queued_once_and_keeps_what_it_knows() {
        let mut node = node();
        let old = 2 * ENDS_AT_A_TIME as u32;
        for number in 0..old {
            relay(&mut node, number, [UP, DOWN], NEVER);
        }
        for _ in 0..100 {
            node.pvt_lost(Now(0), DOWN);
        }
        assert_eq!((node.lost.losses.len(), node.aivts.len()), (1, ENDS_AT_A_TIME));
        let new = relay(&mut node, old, [UP, DOWN], NEVER);
        until_over(&mut node, Now(0), 256);
        assert_eq!(node.aivts.ids(), [new]);
        node.pvt_lost(Now(Now::SECOND), DOWN);
        assert!(node.aivts.is_empty());
    }

    #[test]
    fn line_3_a_node_that_goes_down_tells_every_neighbour_of_every_end() {
        let mut node = node();
        let total = PENDING_REQUESTS + 3 * ENDS_AT_A_TIME;
        for number in 0..total as u32 {
            relay(&mut node, number, [UP, DOWN], NEVER);
        }
        node.handle_shutdown(Now(0));
        assert_eq!(node.aivts.len(), total, "cells under way still pass");
        until_over(&mut node, Now(0), 256);
        assert!(node.has_told_all());
        assert_eq!(
            (node.counts.sent.of(Kind::Destroy), node.counts.overload),
            (2 * total as u64, 0)
        );
    }

    #[test]
    fn aivts_whose_time_is_over_end_in_slices() {
        let mut node = node();
        let total = 2 * ENDS_AT_A_TIME + 1;
        for number in 0..total as u32 {
            relay(&mut node, number, [UP, DOWN], Now(Now::SECOND));
        }
        let now = Now(Now::SECOND);
        for left in [ENDS_AT_A_TIME + 1, 1, 0] {
            assert!(node.poll_timeout().is_some_and(|due| due <= now));
            node.handle_timeout(now, 0);
            assert_eq!(node.aivts.len(), left);
        }
    }
}
