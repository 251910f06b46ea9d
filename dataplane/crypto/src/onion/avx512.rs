//! HCTR2 on the registers of AVX-512: four blocks each, with VAES and VPCLMULQDQ.
//!
//! ```text
//! packet i    ..hash the input | first block -> seed |                      | key stream, hash the output | ..
//! packet i+1                                         | hash the input       |                             | first block -> ..
//! ```
//!
//! A packet is two passes with a chain of dependent instructions between them: the end of one hash, one AES, the seed of the key
//! stream. The first pass of the next packet stands in that gap. The second pass hashes its output while it is in registers, each
//! group behind the key stream of the next one.
//!
//! POLYVAL runs as four sums side by side, each over every fourth block, [`GROUP`] registers to a reduction; the end of the text is
//! multiplied by H^4, H^3, H^2, H, which makes one sum of the four. The block M, which the hash has nothing of, is in the place of
//! the tweak: what the sums start from turns the one into the other. Single blocks are `aesni`'s.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::aesni::{FIELD, Opened, Turned, lengths, load, store, turn, xor as xor_block};
use super::key::{Block, Hctr2Key, POWERS};
use crate::{LayerJob, prefetch};

/// Registers of text to a reduction of the hash, and in flight through AES: as many as there are strides among the powers.
const GROUP: usize = POWERS - 3;
/// Packets between asking for a key and using it.
const PREFETCH: usize = 8;
/// Bytes of a register.
const WIDE: usize = 64;
/// Where the power H^(4 n), n >= 1, stands in a key.
const fn stride(n: usize) -> usize {
    if n == 1 { 0 } else { n + 2 }
}

/// Proof that the processor has what this file is written for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    /// Asks the processor (the answer is cached).
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq"))
        .then_some(Self(()))
    }

    /// Runs every job.
    pub(super) fn apply<const R: usize>(self, jobs: &mut [LayerJob<'_, Hctr2Key<R>>]) {
        // SAFETY: `self` exists only where `detect` has found every feature that `burst` enables.
        unsafe { burst(jobs) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
fn burst<const R: usize>(jobs: &mut [LayerJob<'_, Hctr2Key<R>>]) {
    let Some(first) = jobs.first() else { return };
    for job in jobs.iter().take(PREFETCH) {
        prefetch(job.key);
    }
    let mut ahead = open(first);
    for at in 0..jobs.len() {
        let opened = ahead;
        let turned = turn(&jobs[at], opened.input);
        if let Some(later) = jobs.get(at + PREFETCH) {
            prefetch(later.key);
        }
        if let Some(next) = jobs.get(at + 1) {
            ahead = open(next);
        }
        close(&mut jobs[at], opened.start, turned);
    }
}

/// First pass: the hash of the input.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
fn open<const R: usize>(job: &LayerJob<'_, Hctr2Key<R>>) -> Opened {
    let text = &*job.cell;
    let m = load(text.first_chunk().expect("HCTR2 needs at least one block"));
    let start = xor_block(xor_block(m, load(&job.tweak)), lengths(job.key, text.len()));
    let mut hash = Polyval::new(&job.key.powers, start);
    let ahead = text.len().saturating_sub(WIDE);
    let (body, end) = text.split_at(ahead - ahead % (GROUP * WIDE));
    for group in body.as_chunks().0 {
        hash.middle(load_group(group));
    }
    hash.rest(end);
    let input = _mm_xor_si128(m, hash.sum());
    Opened { start, input }
}

/// Second pass: the key stream, and the hash of what it leaves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
fn close<const R: usize>(job: &mut LayerJob<'_, Hctr2Key<R>>, start: __m128i, turned: Turned) {
    let mut hash = Polyval::new(&job.key.powers, start);
    let mut stream = Xctr::new(&job.key.rounds, turned.seed);
    let ahead = job.cell.len().saturating_sub(WIDE);
    let (body, end) = job.cell.split_at_mut(ahead - ahead % (GROUP * WIDE));
    // A group is hashed behind the key stream of the next one: products and AES rounds that do not wait for each other.
    let mut before = None;
    for group in body.as_chunks_mut().0 {
        let text = stream.over(load_group(group));
        store_group(group, text);
        if let Some(before) = before.replace(text) {
            hash.middle(before);
        }
    }
    stream.end(end);
    if let Some(before) = before {
        hash.middle(before);
    }
    hash.rest(end);
    if let Some(first) = job.cell.first_chunk_mut() {
        store(first, _mm_xor_si128(turned.output, hash.sum()));
    }
}

/// XCTR over a cell: the key stream block of index i is AES(seed ^ i), and the block of index 0 has none.
struct Xctr<const R: usize> {
    rounds: [__m512i; R],
    /// seed ^ first round key, and the block's index within a register.
    seed: __m512i,
    /// Index of the next register's first block.
    counter: __m512i,
    /// The halves of blocks that take key stream: all but the first block.
    mask: __mmask8,
}

impl<const R: usize> Xctr<R> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn new(keys: &[Block; R], seed: __m128i) -> Self {
        let mut rounds = [_mm512_setzero_si512(); R];
        for (round, key) in rounds.iter_mut().zip(keys) {
            *round = _mm512_broadcast_i32x4(load(key));
        }
        let indices = _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0);
        Self {
            seed: xor(xor(_mm512_broadcast_i32x4(seed), rounds[0]), indices),
            rounds,
            counter: _mm512_setzero_si512(),
            mask: 0xfc,
        }
    }

    /// XORs the next N registers of the stream onto the text.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn over<const N: usize>(&mut self, mut text: [__m512i; N]) -> [__m512i; N] {
        let four = _mm512_set_epi64(0, 4, 0, 4, 0, 4, 0, 4);
        let mut blocks = [_mm512_setzero_si512(); N];
        for block in &mut blocks {
            *block = xor(self.seed, self.counter);
            self.counter = _mm512_add_epi64(self.counter, four);
        }
        for round in &self.rounds[1..R - 1] {
            for block in &mut blocks {
                *block = _mm512_aesenc_epi128(*block, *round);
            }
        }
        for (text, block) in text.iter_mut().zip(blocks) {
            let block = _mm512_aesenclast_epi128(block, self.rounds[R - 1]);
            *text = _mm512_mask_xor_epi64(*text, self.mask, *text, block);
            self.mask = 0xff;
        }
        text
    }

    /// XORs the stream onto all that is left.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn end(&mut self, text: &mut [u8]) {
        let (wide, tail) = text.as_chunks_mut();
        for single in wide {
            let [text] = self.over([load_wide(single)]);
            store_wide(single, text);
        }
        if !tail.is_empty() {
            let [text] = self.over([load_tail(tail)]);
            store_tail(tail, text);
        }
    }
}

/// POLYVAL (RFC 8452 section 3) as four sums side by side.
struct Polyval<'a> {
    powers: &'a [Block; POWERS],
    /// The powers of the middle, folded.
    folded: [__m512i; GROUP],
    /// The sums, still to be multiplied with what comes next.
    state: __m512i,
}

impl<'a> Polyval<'a> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn new(powers: &'a [Block; POWERS], start: __m128i) -> Self {
        let mut folded_powers = [_mm512_setzero_si512(); GROUP];
        for (index, place) in folded_powers.iter_mut().enumerate() {
            *place = folded(_mm512_broadcast_i32x4(load(&powers[stride(index + 1)])));
        }
        Self {
            powers,
            folded: folded_powers,
            state: _mm512_zextsi128_si512(start),
        }
    }

    /// Takes N registers that are not the last.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn middle<const N: usize>(&mut self, mut text: [__m512i; N]) {
        text[0] = xor(text[0], self.state);
        let mut sum = Product::zero();
        for (index, text) in text.into_iter().enumerate() {
            let power = _mm512_broadcast_i32x4(load(&self.powers[stride(N - index)]));
            sum.add(text, power, self.folded[N - index - 1]);
        }
        self.state = sum.reduce();
    }

    /// Takes all that is left, the end of the text in it.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn rest(&mut self, text: &[u8]) {
        let (wide, tail) = text.as_chunks();
        if let Some((last, body)) = wide.split_last() {
            for single in body {
                self.middle([load_wide(single)]);
            }
            self.end(load_wide(last), 4);
        }
        if !tail.is_empty() {
            self.end(padded(load_tail(tail), tail.len()), tail.len().div_ceil(16));
        }
    }

    /// Takes 1 to 4 blocks and makes one sum of the four.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn end(&mut self, text: __m512i, blocks: usize) {
        let mut sum = Product::zero();
        let powers = load_powers(&self.powers[4 - blocks..4]);
        sum.add(xor(text, self.state), powers, folded(powers));
        let four = sum.reduce();
        let two = _mm256_xor_si256(_mm512_castsi512_si256(four), _mm512_extracti64x4_epi64::<1>(four));
        let one = _mm_xor_si128(_mm256_castsi256_si128(two), _mm256_extracti128_si256::<1>(two));
        self.state = _mm512_zextsi128_si512(one);
    }

    /// The hash, after an end.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn sum(&self) -> __m128i {
        _mm512_castsi512_si128(self.state)
    }
}

/// Sums of carry-less products of 128 by 128 bits after Karatsuba: of the low halves, of the folded blocks, of the high halves.
struct Product {
    low: __m512i,
    middle: __m512i,
    high: __m512i,
}

impl Product {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn zero() -> Self {
        let zero = _mm512_setzero_si512();
        Self {
            low: zero,
            middle: zero,
            high: zero,
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn add(&mut self, a: __m512i, b: __m512i, folded_b: __m512i) {
        self.low = xor(self.low, _mm512_clmulepi64_epi128::<0x00>(a, b));
        self.middle = xor(self.middle, _mm512_clmulepi64_epi128::<0x00>(folded(a), folded_b));
        self.high = xor(self.high, _mm512_clmulepi64_epi128::<0x11>(a, b));
    }

    /// Times x^-128, modulo the field's polynomial: folds 64 bits from below, twice.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn reduce(self) -> __m512i {
        let field = _mm512_set1_epi64(FIELD);
        let middle = xor(self.middle, xor(self.low, self.high));
        let middle = xor(middle, fold(self.low, field));
        xor(self.high, fold(middle, field))
    }
}

/// What 64 bits from below come to above: the low half times the polynomial's middle, and the halves exchanged.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
fn fold(a: __m512i, field: __m512i) -> __m512i {
    xor(
        _mm512_clmulepi64_epi128::<0x00>(a, field),
        _mm512_shuffle_epi32::<0x4e>(a),
    )
}

/// The sum of each block's halves, in both of them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
fn folded(a: __m512i) -> __m512i {
    xor(a, _mm512_shuffle_epi32::<0x4e>(a))
}

/// The end of a text as the hash takes it: a 1 behind what does not fill a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
fn padded(text: __m512i, bytes: usize) -> __m512i {
    let place = if bytes.is_multiple_of(16) { 0 } else { 1 << bytes };
    _mm512_mask_set1_epi8(text, place, 1)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
fn xor(a: __m512i, b: __m512i) -> __m512i {
    _mm512_xor_si512(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
fn load_wide(bytes: &[u8; WIDE]) -> __m512i {
    // SAFETY: the reference is good for 64 bytes, and the load wants no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
fn store_wide(place: &mut [u8; WIDE], text: __m512i) {
    // SAFETY: the reference is good for 64 bytes, and the store wants no alignment.
    unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), text) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
fn load_group(bytes: &[u8; GROUP * WIDE]) -> [__m512i; GROUP] {
    let mut text = [_mm512_setzero_si512(); GROUP];
    for (text, bytes) in text.iter_mut().zip(bytes.as_chunks().0) {
        *text = load_wide(bytes);
    }
    text
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
fn store_group(place: &mut [u8; GROUP * WIDE], text: [__m512i; GROUP]) {
    for (place, text) in place.as_chunks_mut().0.iter_mut().zip(text) {
        store_wide(place, text);
    }
}

/// Up to four powers, the rest zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
fn load_powers(powers: &[Block]) -> __m512i {
    load_tail(powers.as_flattened())
}

/// Mask of the first bytes of a register, all of them at most.
#[inline]
fn first(bytes: usize) -> __mmask64 {
    u64::MAX.checked_shr(WIDE.saturating_sub(bytes) as u32).unwrap_or(0)
}

/// Up to 64 bytes, the rest zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
fn load_tail(bytes: &[u8]) -> __m512i {
    // SAFETY: the mask has at most as many bits as the slice has bytes, and what is masked out is not touched.
    unsafe { _mm512_maskz_loadu_epi8(first(bytes.len()), bytes.as_ptr().cast()) }
}

/// The first bytes of a register, as many as there is place for, 64 at most.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq")]
fn store_tail(place: &mut [u8], text: __m512i) {
    // SAFETY: the mask has at most as many bits as the slice has bytes, and what is masked out is not touched.
    unsafe { _mm512_mask_storeu_epi8(place.as_mut_ptr().cast(), first(place.len()), text) }
}
