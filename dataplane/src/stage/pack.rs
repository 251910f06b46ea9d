//! Datagrams of a burst into cells, flow by flow and in order; senders fill from the burst at hand and do not wait (protocol
//! section 4).

use std::collections::VecDeque;

use ain_crypto::Backend;

use super::Lane;
use crate::aggfrag::{PackError, Packer};
use crate::count::{Counters, Tally, Traffic};
use crate::entry::{Flow, FlowEnd, Way};
use crate::flow::Flows;
use crate::id::Now;
use crate::limits::BURST;
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
    flows.prefetch_ways(burst.iter().map(|(slot, _)| *slot));
    let ranks = ranks(burst);
    let mut ranked: Lane<_> = ranks.into_iter().zip(burst.drain(..)).collect();
    ranked.sort_by_key(|(rank, _)| *rank); // stable: a flow's datagrams stay in order
    let mut datagrams = ranked.into_iter().map(|(_, datagram)| datagram).peekable();
    while let Some((slot, first)) = datagrams.next() {
        let flow = flows.entry_mut(slot);
        let Some((end, way)) = flow.and_then(|Flow { end, way, .. }| Some((*end, way.as_deref_mut()?))) else {
            counters.dropped(DropReason::Gone);
            continue;
        };
        way.activity.touch(now);
        let mut cells = Tally::default();
        let mut done = |buf: B| {
            cells.add(cell_len);
            fresh.push_back(FreshCell { buf, flow: slot });
        };
        let mut packer = Packer::new();
        let mut next = Some(first);
        while let Some(datagram) = next {
            let put = packer
                .adopt(datagram, cell_len, || next_sequence(way), &mut done)
                .or_else(|datagram| packer.put(datagram.data(), || next_cell(way, cell_len, io), &mut done));
            match put {
                Ok(()) => {}
                Err(PackError::NoCell) => counters.dropped(DropReason::NoBuffer),
                Err(PackError::NotADatagram) => counters.dropped(DropReason::InnerMalformed),
            }
            next = datagrams.next_if(|(of, _)| *of == slot).map(|(_, datagram)| datagram);
        }
        packer.finish(&mut done);
        let traffic = if end == FlowEnd::Exit {
            Traffic::ExitBackward
        } else {
            Traffic::EntranceForward
        };
        counters.moved_many(traffic, cells);
    }
}

// A place in a burst fits a byte, and a stable sort of so few works within its own stack.
const _: () = assert!(BURST < u8::MAX as usize && BURST <= 64);

/// For each datagram the place of its flow's first: flows leave in the order in which they came.
fn ranks<B>(burst: &Lane<(u32, B)>) -> Lane<u8> {
    let mut firsts = [0; 2 * BURST]; // by hash of the slot: a place, plus one
    let rank = |(at, (slot, _)): (usize, &(u32, B))| {
        let mut probe = *slot as usize % firsts.len();
        loop {
            match firsts[probe] {
                0 => {
                    firsts[probe] = at as u8 + 1;
                    return at as u8;
                }
                first if burst[usize::from(first) - 1].0 == *slot => return first - 1,
                _ => probe = (probe + 1) % firsts.len(),
            }
        }
    };
    burst.iter().enumerate().map(rank).collect()
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
    Some((next_sequence(way), buf))
}

fn next_sequence<C: Backend>(way: &mut Way<C>) -> u64 {
    let sequence = way.next_cell;
    way.next_cell += 1;
    sequence
}
