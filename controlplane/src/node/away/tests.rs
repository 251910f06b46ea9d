//! Line 3: hosts that are gone, and what they leave behind.

use ain_dataplane::id::{FlowId, Pair, Spi};

use super::super::lost::tests::{hear, node_with};
use super::*;
use crate::action::{Action, Link, Verdict};
use crate::aivt::{Admission, Aivt, NEVER, Role, Stage, Upstream};
use crate::associations::Keying;
use crate::limits::{CLOSING_EVERY, CLOSING_WORDS, PENDING_REQUESTS};
use crate::sa::Generation;
use crate::signal::create::FlowToken;
use crate::signal::destroy::Reason;
use crate::signal::frame::Message;

const NEIGHBOUR: PeerId = PeerId(0);
/// The host of the node under test, and another one.
const HOST: PeerId = PeerId(3);
const OTHER: PeerId = PeerId(4);

fn node() -> Node {
    node_with(&["203.0.113.0/25", "203.0.113.128/25"])
}

fn there(number: usize) -> [u8; 4] {
    [198, 51, (number >> 8) as u8, number as u8]
}

/// The `number`-th flow of `host` waits for an AIVT: no PVT is up.
fn flow(node: &mut Node, host: PeerId, number: usize) {
    let pair = Pair {
        source: [203, 0, 113, if host == HOST { 1 } else { 129 }].into(),
        destination: there(number).into(),
    };
    let id = FlowId(u64::from(host.0) << 32 | number as u64);
    node.handle_new_flow(Now(0), 0, id, host, pair);
}

/// The `number`-th AIVT whose exit the node is, bound to the host.
fn answers(node: &mut Node, number: usize) -> AivtId {
    let link = Link {
        peer: NEIGHBOUR,
        spi: Spi::new(Spi::MIN + number as u32).unwrap(),
    };
    let mut token = [0; 16];
    token[..8].copy_from_slice(&number.to_be_bytes());
    let id = node.insert(Aivt {
        upstream: Some(Upstream {
            link,
            generation: Generation::HAND_MADE,
            create_id: 1,
            confirm: None,
        }),
        downstream: None,
        role: Role::Exit {
            flow_token: FlowToken(token),
            bound: None,
            admission: Admission::Full,
        },
        stage: Stage::Standing,
        since: Now(0),
        expires: NEVER,
        activity: None,
        due: NEVER,
    });
    let pair = Pair {
        source: there(number).into(),
        destination: [203, 0, 113, 1].into(),
    };
    node.handle_bind(Now(0), id, pair);
    id
}

/// Flows closed, and verdicts sent, since the last call.
fn done(node: &mut Node) -> (usize, Vec<Verdict>) {
    let (mut closed, mut verdicts) = (0, Vec::new());
    while let Some(action) = node.poll_action() {
        match action {
            Action::CloseFlow { refused: false, .. } => closed += 1,
            Action::Refuse { verdict, .. } => verdicts.push(verdict),
            _ => {}
        }
    }
    (closed, verdicts)
}

#[test]
fn line_3_all_that_a_host_has_ends_bit_by_bit_and_nothing_of_others() {
    let mut node = node();
    let total = ENDS_AT_A_TIME + 10;
    for number in 0..total {
        flow(&mut node, HOST, number);
    }
    flow(&mut node, OTHER, 0);
    (0..20).for_each(|number| _ = answers(&mut node, number));
    done(&mut node);
    assert_eq!((node.flows.open(), node.bindings.len()), (total + 1, 20));
    node.handle_keying(Now(0), Keying::Down(HOST));
    node.end_away(Now(HOST_AWAY - 1));
    assert_eq!(done(&mut node), (0, Vec::new()));
    assert_eq!(node.away.next_due(), Some(Now(HOST_AWAY)));
    node.end_away(Now(HOST_AWAY));
    node.end_away(Now(HOST_AWAY + HOST_ENDS_WITHIN / 2));
    let half = node.flows.open() - 1;
    assert!(
        (total / 4..total * 3 / 4).contains(&half),
        "{half} of {total} at random times"
    );
    let mut now = Now(HOST_AWAY + HOST_ENDS_WITHIN);
    node.end_away(now);
    assert_eq!(node.away.next_due(), None);
    assert_eq!(done(&mut node), (total, vec![Verdict::ClosedByResponder; 20]));
    assert_eq!(node.flows.open(), 1);
    // The entrance says nothing.
    for _ in 0..CLOSING_WORDS {
        now = now.plus(CLOSING_EVERY);
        node.say_last_words(now);
    }
    assert_eq!((node.bindings.len(), node.aivts.len()), (0, 0));
}

#[test]
fn line_3_nothing_is_bound_to_a_host_that_is_gone_nor_begun_for_it() {
    let mut node = node();
    node.handle_keying(Now(0), Keying::Down(HOST));
    answers(&mut node, 1);
    flow(&mut node, HOST, 1);
    assert_eq!(done(&mut node).1, [], "it may be back in a moment");
    node.end_away(Now(HOST_AWAY));
    answers(&mut node, 2);
    flow(&mut node, HOST, 2);
    assert_eq!((done(&mut node).1, node.flows.open()), (vec![Verdict::ExitRefused], 1));
    node.handle_keying(Now(HOST_AWAY), Keying::Up(HOST));
    answers(&mut node, 3);
    flow(&mut node, HOST, 3);
    node.end_away(Now(HOST_AWAY + HOST_ENDS_WITHIN));
    assert_eq!(done(&mut node), (0, Vec::new()), "what has not ended stays");
    assert_eq!((node.bindings.len(), node.flows.open()), (2, 2));
    assert_eq!(node.away.next_due(), None);
}

#[test]
fn line_3_a_host_that_is_back_in_time_keeps_what_it_has() {
    let mut node = node();
    flow(&mut node, HOST, 1);
    answers(&mut node, 1);
    done(&mut node);
    node.handle_keying(Now(0), Keying::Down(HOST));
    node.handle_keying(Now(HOST_AWAY - 1), Keying::Up(HOST));
    assert_eq!(node.away.next_due(), None);
    node.handle_keying(Now(HOST_AWAY), Keying::Down(HOST));
    node.end_away(Now(2 * HOST_AWAY - 1));
    assert_eq!(done(&mut node), (0, Vec::new()));
}

#[test]
fn line_3_ends_wait_for_no_neighbour_that_has_no_room_for_them() {
    let mut node = node();
    hear(&mut node, Now(0));
    answers(&mut node, 1);
    for spi in 0..PENDING_REQUESTS as u32 {
        let destroy = Message::Destroy {
            create: 0,
            reason: Reason::None,
        };
        node.request(Now(0), NEIGHBOUR, spi + Spi::MIN, destroy);
    }
    node.handle_keying(Now(0), Keying::Down(HOST));
    let mut now = Now(HOST_AWAY);
    node.end_away(now);
    now = now.plus(HOST_ENDS_WITHIN);
    node.end_away(now);
    for _ in 0..CLOSING_WORDS {
        now = now.plus(CLOSING_EVERY);
        node.say_last_words(now);
    }
    let words = vec![Verdict::ClosedByResponder; CLOSING_WORDS.into()];
    assert_eq!((done(&mut node).1, node.aivts.len()), (words, 0));
}
