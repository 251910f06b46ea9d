//! Cells after their layer: on through the next TVT, or out at an edge.

use ain_crypto::{Backend, Direction};

use super::{Lane, Outgoing, Received};
use crate::count::{Counters, Tally, Traffic};
use crate::entry::{Next, Tvt, TvtOut};
use crate::id::Now;
use crate::packet::PacketBuf;
use crate::slab::Slab;
use crate::verdict::DropReason;
use crate::wire::protocol;

/// A cell's next association; takes its next sequence number.
pub(crate) fn outgoing<B>(out: &mut TvtOut, buf: B) -> Outgoing<B> {
    let seq = out.next_seq;
    out.next_seq += 1;
    Outgoing {
        buf,
        peer: out.peer,
        spi: out.spi,
        key: out.key,
        seq,
        esn: true,
        next_header: protocol::CELL,
    }
}

/// Moves relayed cells to `onward` and leaves those of edges in `lane`.
pub fn forward<C: Backend, B: PacketBuf>(
    now: Now,
    tvts: &mut Slab<Tvt<C>>,
    counters: &Counters,
    lane: &mut Lane<Received<B>>,
    onward: &mut Lane<Outgoing<B>>,
) {
    let mut edges = Lane::new();
    let (mut forward, mut backward) = (Tally::default(), Tally::default());
    for packet in lane.drain(..) {
        let Some(tvt) = tvts.entry_mut(packet.slot) else {
            counters.dropped(DropReason::Gone);
            continue;
        };
        tvt.activity.touch(now);
        match &mut tvt.next {
            Next::Relay { out, direction } => {
                match direction {
                    Direction::Forward => &mut forward,
                    Direction::Backward => &mut backward,
                }
                .add(packet.buf.data().len());
                onward.push(outgoing(out, packet.buf));
            }
            Next::Edge(_) => edges.push(packet),
        }
    }
    counters.moved_many(Traffic::IntermediateForward, forward);
    counters.moved_many(Traffic::IntermediateBackward, backward);
    lane.extend(edges);
}
