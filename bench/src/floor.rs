//! The bare primitives: what a role would cost if it were nothing but cryptography.
//!
//! ```text
//!   intermediate   MAC of the packet ─► a layer ─► MAC of the packet                 in place
//!   host to AIVT   MAC of the packet ─► open the text ─► k layers of a cell ─► MAC of its packet
//!   AIVT to host   MAC of the packet ─► k layers ─► seal a text ─► MAC of its packet
//! ```
//! Jobs run over the received bytes, and over a few cells of scratch memory where the path writes into a fresh buffer; with as many
//! keys as the path has, in the same order of visits, in bursts of the same size. Slices are collected beforehand, so that the
//! measured part is arrays of jobs and the backend's calls alone.

use std::hint::black_box;

use ain_crypto::{AeadJob, Backend, LayerJob, LayerOp, MacJob, prefetch};
use ain_dataplane::stage::Lane;

use crate::backend::Fresh;

/// Buffers of scratch memory: as many packets as a port holds back before it frees them.
const SCRATCH: usize = 64;
/// Additional data of ESP with extended sequence numbers, bytes.
pub const AAD: usize = 12;

/// What a role asks of the primitives.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Layers of a cell.
    pub layers: usize,
    /// Bytes before the cell in a TVT packet.
    pub cell_at: usize,
    /// Bytes of a cell.
    pub cell_len: usize,
    /// Bytes before the text in a host's packet.
    pub text_at: usize,
    /// Bytes of the text.
    pub text_len: usize,
    /// Packets come from hosts.
    pub from_host: bool,
    /// Packets go to hosts.
    pub to_host: bool,
    /// Bytes that the ICV of a packet sent covers.
    pub out_len: usize,
}

/// Which keys a packet needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Work {
    /// Peer that sent it.
    pub from: usize,
    /// Peer that gets it.
    pub to: usize,
    /// First of its layer keys.
    pub layer: usize,
    /// Layers come off.
    pub decrypt: bool,
}

/// A received packet.
#[derive(Debug)]
pub struct Bare<'a> {
    /// What the inbound ICV covers.
    pub bytes: &'a mut [u8],
    /// Its keys.
    pub work: Work,
    /// Additional data of its ESP, if it comes from a host.
    pub aad: [u8; AAD],
}

/// The floor's own expanded keys.
pub struct Keys<C: Backend> {
    /// Inbound AH, by peer.
    pub macs_in: Vec<C::MacKey>,
    /// Outbound AH, by peer.
    pub macs_out: Vec<C::MacKey>,
    /// Inbound ESP, by peer.
    pub opens: Vec<C::AeadKey>,
    /// Outbound ESP, by peer.
    pub seals: Vec<C::AeadKey>,
    /// Layers, those of one half beside each other.
    pub layers: Vec<C::LayerKey>,
}

/// The primitives of a role.
pub struct Floor<C: Backend> {
    crypto: C,
    recipe: Recipe,
    keys: Keys<C>,
    scratch: Vec<Box<[u8]>>,
}

impl<C: Fresh> Floor<C> {
    /// With keys of its own.
    pub fn new(recipe: Recipe, keys: Keys<C>) -> Self {
        let bytes = recipe.out_len.max(recipe.cell_at + recipe.cell_len);
        Self {
            crypto: C::fresh(),
            recipe,
            keys,
            scratch: vec![vec![0x5a; bytes].into_boxed_slice(); SCRATCH],
        }
    }

    /// One burst: what came in, and the keys of what goes out. If `asked`, all that the burst will read is asked for first, so that
    /// memory and computation overlap as in a packet path that does the same.
    #[inline]
    pub fn burst(&mut self, packets: &mut [Bare<'_>], outs: &[Work], asked: bool) {
        let (crypto, keys, recipe) = (&mut self.crypto, &self.keys, &self.recipe);
        if asked {
            for bare in &*packets {
                prefetch(&*bare.bytes);
                prefetch(&keys.layers[bare.work.layer..bare.work.layer + recipe.layers]);
            }
        }
        macs(
            crypto,
            &keys.macs_in,
            packets.iter().map(|bare| (bare.work.from, &*bare.bytes)),
        );
        if recipe.from_host {
            open(crypto, &keys.opens, recipe, packets);
        } else {
            for layer in 0..recipe.layers {
                let cells = packets.iter_mut().map(|bare| (bare.work, cell_of(recipe, bare.bytes)));
                layers(crypto, &keys.layers, layer, cells);
            }
        }
        if !recipe.from_host && !recipe.to_host {
            let sent = packets.iter().map(|bare| (bare.work.to, &bare.bytes[..recipe.out_len]));
            return macs(crypto, &keys.macs_out, sent);
        }
        for outs in outs.chunks(SCRATCH) {
            if recipe.from_host {
                for layer in 0..recipe.layers {
                    let cells = self
                        .scratch
                        .iter_mut()
                        .zip(outs)
                        .map(|(bytes, work)| (*work, cell_of(recipe, bytes)));
                    layers(crypto, &keys.layers, layer, cells);
                }
            } else {
                seal(crypto, &keys.seals, recipe, self.scratch.iter_mut().zip(outs));
            }
            let sent = self
                .scratch
                .iter()
                .zip(outs)
                .map(|(bytes, work)| (work.to, &bytes[..recipe.out_len]));
            macs(crypto, &keys.macs_out, sent);
        }
    }
}

fn cell_of<'b>(recipe: &Recipe, packet: &'b mut [u8]) -> &'b mut [u8] {
    &mut packet[recipe.cell_at..recipe.cell_at + recipe.cell_len]
}

#[inline]
fn macs<'b, C: Backend>(crypto: &mut C, keys: &[C::MacKey], messages: impl Iterator<Item = (usize, &'b [u8])>) {
    let mut jobs: Lane<MacJob<'_, C::MacKey>> = messages
        .map(|(key, message)| MacJob {
            key: &keys[key],
            iv: [7; 8],
            message,
            tag: [0; 16],
        })
        .collect();
    crypto.compute(&mut jobs);
    black_box(&jobs);
}

#[inline]
fn layers<'b, C: Backend>(
    crypto: &mut C,
    keys: &[C::LayerKey],
    layer: usize,
    cells: impl Iterator<Item = (Work, &'b mut [u8])>,
) {
    let mut jobs: Lane<LayerJob<'_, C::LayerKey>> = cells
        .map(|(work, cell)| LayerJob {
            key: &keys[work.layer + layer],
            tweak: [1; 16],
            op: if work.decrypt {
                LayerOp::Decrypt
            } else {
                LayerOp::Encrypt
            },
            cell,
        })
        .collect();
    crypto.apply(&mut jobs);
    black_box(&jobs);
}

#[inline]
fn open<C: Backend>(crypto: &mut C, keys: &[C::AeadKey], recipe: &Recipe, packets: &mut [Bare<'_>]) {
    let mut jobs: Lane<AeadJob<'_, C::AeadKey>> = packets
        .iter_mut()
        .map(|bare| {
            // As RFC 4303 lays them out: header, IV, text, tag.
            let (front, rest) = bare.bytes.split_at_mut(recipe.text_at);
            let (text, behind) = rest.split_at_mut(recipe.text_len);
            AeadJob {
                key: &keys[bare.work.from],
                iv: front.last_chunk().copied().unwrap_or_default(),
                aad: &bare.aad,
                text,
                tag: behind.first_chunk().copied().unwrap_or_default(),
                authentic: false,
            }
        })
        .collect();
    crypto.open(&mut jobs);
    black_box(&jobs);
}

#[inline]
fn seal<'b, C: Backend>(
    crypto: &mut C,
    keys: &[C::AeadKey],
    recipe: &Recipe,
    texts: impl Iterator<Item = (&'b mut Box<[u8]>, &'b Work)>,
) {
    let mut jobs: Lane<AeadJob<'_, C::AeadKey>> = texts
        .map(|(bytes, work)| AeadJob {
            key: &keys[work.to],
            iv: [7; 8],
            aad: &[9; AAD],
            text: &mut bytes[recipe.text_at..recipe.text_at + recipe.text_len],
            tag: [0; 16],
            authentic: false,
        })
        .collect();
    crypto.seal(&mut jobs);
    black_box(&jobs);
}
