//! The onion: peel takes a TVT packet's layer off (or adds the backward one), wrap adds the layers of an edge. A burst goes through
//! pass by pass, the k-th layer of every cell in one batch.

use ain_crypto::{Backend, LayerJob, LayerOp};

use super::pack::FreshCell;
use super::{Lane, Received};
use crate::count::Counters;
use crate::entry::{Flow, Tvt};
use crate::packet::PacketBuf;
use crate::slab::Slab;
use crate::verdict::DropReason;

/// Whether this build leaves the onion off: a control for the demo's search, never a product.
const NO_ONION: bool = cfg!(feature = "test-no-onion");

/// This node's layers on inbound cells. Packets whose payload is not one cell are dropped.
pub fn peel<C: Backend, B: PacketBuf>(
    crypto: &mut C,
    tvts: &Slab<Tvt<C>>,
    counters: &Counters,
    cell_len: usize,
    lane: &mut Lane<Received<B>>,
) {
    lane.retain(|packet| {
        let fits = packet.buf.data().len() == cell_len;
        if !fits {
            counters.dropped(DropReason::CellLength);
        }
        fits
    });
    let (mut pass, mut passes) = (0, 1);
    while pass < passes && !NO_ONION {
        let mut jobs: Lane<LayerJob<'_, C::LayerKey>> = Lane::new();
        for packet in lane.iter_mut() {
            if let Some(tvt) = tvts.entry(packet.slot)
                && let Some(key) = tvt.layers.layer(pass)
            {
                passes = passes.max(tvt.layers.count());
                tvt.layers.prefetch(pass + 1);
                jobs.push(LayerJob {
                    key,
                    tweak: tvt.tweak,
                    op: tvt.op,
                    cell: packet.buf.data_mut(),
                });
            }
        }
        crypto.apply(&mut jobs);
        pass += 1;
    }
    #[cfg(feature = "test-tag")]
    tag(tvts, lane);
}

/// What an AIN does that marks the cells it passes on, to see them again at another: flips one bit, in each cell another one.
#[cfg(feature = "test-tag")]
fn tag<C: Backend, B: PacketBuf>(tvts: &Slab<Tvt<C>>, lane: &mut Lane<Received<B>>) {
    for packet in lane.iter_mut() {
        let relays = tvts
            .entry(packet.slot)
            .is_some_and(|tvt| matches!(tvt.next, crate::entry::Next::Relay { .. }));
        let cell = packet.buf.data_mut();
        let bit = (packet.seq.0 as usize).wrapping_mul(2_654_435_761) % (8 * cell.len());
        cell[bit / 8] ^= u8::from(relays) << (bit % 8);
    }
}

/// An edge's layers on its own cells.
pub fn wrap<C: Backend, B: PacketBuf>(crypto: &mut C, flows: &Slab<Flow<C>>, lane: &mut Lane<FreshCell<B>>) {
    let (mut pass, mut passes) = (0, 1);
    while pass < passes && !NO_ONION {
        let mut jobs: Lane<LayerJob<'_, C::LayerKey>> = Lane::new();
        for cell in lane.iter_mut() {
            if let Some(way) = flows.entry(cell.flow).and_then(|flow| flow.way.as_deref())
                && let Some(key) = way.layers.layer(pass)
            {
                passes = passes.max(way.layers.count());
                way.layers.prefetch(pass + 1);
                jobs.push(LayerJob {
                    key,
                    tweak: way.tweak,
                    op: LayerOp::Encrypt,
                    cell: cell.buf.data_mut(),
                });
            }
        }
        crypto.apply(&mut jobs);
        pass += 1;
    }
}
