//! Datagrams of a burst into cells, flow by flow and in order; senders fill from the burst at hand and do not wait (protocol
//! section 4).

use std::collections::VecDeque;

use ain_crypto::Backend;

use super::Lane;
use crate::aggfrag::{PackError, Packer};
use crate::count::{Counters, Traffic};
use crate::entry::{Flow, FlowEnd, Way};
use crate::flow::Flows;
use crate::id::Now;
use crate::outside::Outside;
use crate::packet::PacketBuf;
use crate::verdict::DropReason;

/// A filled cell before its layers.
#[derive(Debug)]
pub struct FreshCell<B> {
    /// The cell.
    pub buf: B,
    /// Slot of the flow whose way it takes.
    pub flow: u32,
}

/// Datagrams of open flows, by slot of the flow. The burst is used up.
pub fn pack<C: Backend, B: PacketBuf>(
    now: Now,
    flows: &mut Flows<C>,
    counters: &Counters,
    cell_len: usize,
    burst: &mut Lane<(u32, B)>,
    fresh: &mut VecDeque<FreshCell<B>>,
    io: &mut impl Outside<C, B>,
) {
    while let Some(slot) = burst.first().map(|(slot, _)| *slot) {
        let flow = flows.entry_mut(slot);
        let Some((end, way)) = flow.and_then(|Flow { end, way, .. }| Some((*end, way.as_deref_mut()?))) else {
            let before = burst.len();
            burst.retain(|(s, _)| *s != slot);
            counters.dropped_many(DropReason::Gone, before - burst.len());
            continue;
        };
        way.activity.touch(now);
        let traffic = if end == FlowEnd::Exit {
            Traffic::ExitBackward
        } else {
            Traffic::EntranceForward
        };
        let mut done = |buf: B| {
            counters.moved(traffic, cell_len);
            fresh.push_back(FreshCell { buf, flow: slot });
        };
        let mut packer = Packer::new();
        for (_, datagram) in burst.iter().filter(|(s, _)| *s == slot) {
            match packer.put(datagram.data(), || next_cell(way, cell_len, io), &mut done) {
                Ok(()) => {}
                Err(PackError::NoCell) => counters.dropped(DropReason::NoBuffer),
                Err(PackError::NotADatagram) => counters.dropped(DropReason::InnerMalformed),
            }
        }
        packer.finish(&mut done);
        burst.retain(|(s, _)| *s != slot);
    }
}

/// An empty cell and its inner sequence number.
pub(crate) fn next_cell<C: Backend, B: PacketBuf>(
    way: &mut Way<C>,
    cell_len: usize,
    io: &mut impl Outside<C, B>,
) -> Option<(u64, B)> {
    let mut buf = io.alloc()?;
    if buf.tailroom() < cell_len {
        return None;
    }
    buf.grow_back(cell_len);
    let sequence = way.next_cell;
    way.next_cell += 1;
    Some((sequence, buf))
}
