//! The bare primitives: what the packet path would cost if it were nothing but cryptography.
//!
//! Jobs over the same bytes as the path's, with as many keys in the same order of visits, in bursts of the same size. Slices are
//! collected beforehand, so that the measured part is job arrays and the backend's calls alone.

use std::hint::black_box;

use ain_crypto::{Backend, LayerJob, LayerOp, MacJob};
use ain_dataplane::stage::Lane;

/// One packet's bytes and keys.
#[derive(Debug)]
pub struct Bare<'a> {
    /// What the inbound ICV covers.
    pub bytes: &'a mut [u8],
    /// Bytes before the cell.
    pub cell_at: usize,
    /// Bytes of the cell.
    pub cell_len: usize,
    /// Inbound AH key.
    pub mac_in: usize,
    /// Outbound AH key.
    pub mac_out: usize,
    /// Layer key.
    pub layer: usize,
    /// What the layer does.
    pub op: LayerOp,
}

/// MACs of a burst, of `bytes` under the key that `key` names.
#[inline]
pub fn macs<C: Backend>(crypto: &mut C, keys: &[C::MacKey], burst: &[Bare<'_>], key: impl Fn(&Bare<'_>) -> usize) {
    let mut jobs: Lane<MacJob<'_, C::MacKey>> = Lane::new();
    for bare in burst {
        jobs.push(MacJob {
            key: &keys[key(bare)],
            iv: [7; 8],
            message: bare.bytes,
            tag: [0; 16],
        });
    }
    crypto.compute(&mut jobs);
    black_box(&jobs);
}

/// One layer of each cell of a burst, under the key `step` behind its first.
#[inline]
pub fn layers<C: Backend>(crypto: &mut C, keys: &[C::LayerKey], burst: &mut [Bare<'_>], step: usize) {
    let mut jobs: Lane<LayerJob<'_, C::LayerKey>> = Lane::new();
    for bare in burst {
        jobs.push(LayerJob {
            key: &keys[bare.layer + step],
            tweak: [1; 16],
            op: bare.op,
            cell: &mut bare.bytes[bare.cell_at..bare.cell_at + bare.cell_len],
        });
    }
    crypto.apply(&mut jobs);
    black_box(&jobs);
}
