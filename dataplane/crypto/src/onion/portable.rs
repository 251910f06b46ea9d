//! HCTR2 over the RustCrypto crates: Crowley, Huckleberry, Biggers, "Length-preserving encryption with HCTR2" (2021).
//!
//! ```text
//!           M (16)                      N (the rest)
//!             |                             |
//!   hash(T,N) + <----------------------------
//!             |                             |
//!            AES --- S = in ^ out ^ L ---> XCTR
//!             |                             |
//!   hash(T,V) + <----------------------------
//!             |                             |
//!           U (16)                      V (the rest)
//! ```
//!
//! Decryption is the same picture with AES turned round. Speed comes from two things. XCTR makes [`BATCH_BLOCKS`] blocks of
//! key stream a call, so that the CPU's AES units run full. The hash runs over the text where it lies, as one slice: the
//! last block of the tweak is laid over M (which is in a register by then), and a cell's hash input is contiguous.
//!
//! A key is expanded anew for each cell, so that the keys of all levels are the same plain data.

use super::key::Hctr2Key;
use crate::{LayerJob, LayerOp};
use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use aes::{Aes128, Aes256, Block};
use polyval::Polyval;
use polyval::universal_hash::UniversalHash;
use zeroize::Zeroizing;

const BLOCK_BYTES: usize = 16;
/// Blocks of key stream made in one call: enough to hide AES latency, few enough to stay in the nearest cache.
const BATCH_BLOCKS: usize = 32;

/// Runs every job.
pub(super) fn apply<const R: usize>(jobs: &mut [LayerJob<'_, Hctr2Key<R>>]) {
    for job in jobs {
        let raw = job.key.raw();
        match raw.len() {
            16 => Hctr2::<Aes128>::new(raw).apply(job.op, &job.tweak, job.cell),
            _ => Hctr2::<Aes256>::new(raw).apply(job.op, &job.tweak, job.cell),
        }
    }
}

/// AES with a key of some size.
trait Aes: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16> {}

impl Aes for Aes128 {}
impl Aes for Aes256 {}

/// An expanded key. All of it zeroizes on drop.
struct Hctr2<C> {
    aes: C,
    /// POLYVAL under h = AES(0).
    polyval: Polyval,
    /// L = AES(1).
    l: Zeroizing<u128>,
}

impl<C: Aes> Hctr2<C> {
    /// # Panics
    /// On a key of another length than the cipher's.
    fn new(key: &[u8]) -> Self {
        let aes = C::new_from_slice(key).expect("a key of the cipher's length");
        let mut h = Block::default();
        aes.encrypt_block(&mut h);
        let polyval = Polyval::new(&h);
        zeroize::Zeroize::zeroize(h.as_mut_slice());
        let l = Zeroizing::new(encrypt(&aes, 1));
        Self { aes, polyval, l }
    }

    /// Encrypts or decrypts in place, under a tweak of any length.
    ///
    /// # Panics
    /// On a text under 16 bytes: no cell is that short.
    fn apply(&self, op: LayerOp, tweak: &[u8], text: &mut [u8]) {
        let m = first_block(text);
        let input = m ^ self.hash(tweak, text);
        let output = match op {
            LayerOp::Encrypt => encrypt(&self.aes, input),
            LayerOp::Decrypt => decrypt(&self.aes, input),
        };
        self.xctr(input ^ output ^ *self.l, &mut text[BLOCK_BYTES..]);
        let u = output ^ self.hash(tweak, text);
        text[..BLOCK_BYTES].copy_from_slice(&u.to_le_bytes());
    }

    /// H of the paper over the tweak and the text behind its first block, which is overwritten.
    fn hash(&self, tweak: &[u8], text: &mut [u8]) -> u128 {
        let ragged = !text.len().is_multiple_of(BLOCK_BYTES);
        let mut state = self.polyval.clone();
        let tweak_bits = 8 * tweak.len() as u128;
        let length = 2 * tweak_bits + if ragged { 3 } else { 2 };
        state.update(&[Block::from(length.to_le_bytes())]);

        let last_block = tweak.len().saturating_sub(1) / BLOCK_BYTES * BLOCK_BYTES;
        let (lead, last) = tweak.split_at(last_block);
        state.update_padded(lead);
        let hashed = if last.is_empty() {
            &text[BLOCK_BYTES..]
        } else {
            let (place, beyond) = text[..BLOCK_BYTES].split_at_mut(last.len());
            place.copy_from_slice(last);
            beyond.fill(0);
            &text[..]
        };
        let (blocks, tail) = Block::slice_as_chunks(hashed);
        state.update(blocks);
        if ragged {
            let mut padded = Block::default();
            padded[..tail.len()].copy_from_slice(tail);
            padded[tail.len()] = 1;
            state.update(&[padded]);
        }
        u128::from_le_bytes(state.finalize().into())
    }

    /// XORs the key stream AES(seed ^ 1), AES(seed ^ 2), ... onto `text` (XCTR of the paper).
    fn xctr(&self, seed: u128, text: &mut [u8]) {
        let mut counter = 0;
        for chunk in text.chunks_mut(BATCH_BLOCKS * BLOCK_BYTES) {
            let mut stream = [Block::default(); BATCH_BLOCKS];
            let stream = &mut stream[..chunk.len().div_ceil(BLOCK_BYTES)];
            for block in &mut *stream {
                counter += 1;
                *block = (seed ^ counter).to_le_bytes().into();
            }
            self.aes.encrypt_blocks(stream);
            for (byte, key) in chunk.iter_mut().zip(Block::slice_as_flattened(stream)) {
                *byte ^= key;
            }
        }
    }
}

/// The first block as a little-endian number, so that XOR is one operation.
fn first_block(text: &[u8]) -> u128 {
    u128::from_le_bytes(*text.first_chunk().expect("HCTR2 needs at least one block"))
}

fn encrypt(aes: &impl Aes, block: u128) -> u128 {
    let mut block = Block::from(block.to_le_bytes());
    aes.encrypt_block(&mut block);
    u128::from_le_bytes(block.into())
}

fn decrypt(aes: &impl Aes, block: u128) -> u128 {
    let mut block = Block::from(block.to_le_bytes());
    aes.decrypt_block(&mut block);
    u128::from_le_bytes(block.into())
}

#[cfg(test)]
pub(super) mod tests;
