//! HCTR2 with AES-NI and PCLMULQDQ, one block a register, and the expansion of keys for every level above the portable one.
//!
//! The passes are those of `avx512`: the first pass of the next packet stands where the chain of this one is. AES runs over
//! [`GROUP`] blocks at a time, POLYVAL has one reduction to [`AGGREGATE`] blocks. AVX2 is asked for because its encoding of these
//! instructions spares the copies of registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::key::{Block, Hctr2Key};
use crate::{LayerJob, LayerOp, prefetch};

/// Packets between asking for a key and using it.
const PREFETCH: usize = 4;
/// Blocks in flight through AES.
const GROUP: usize = 8;
/// Blocks to a reduction of the hash.
const AGGREGATE: usize = 4;
/// The field's polynomial, x^63 + x^62 + x^57: what is left of it when its ends are folded by shuffling.
pub(super) const FIELD: i64 = 0xc2 << 56;

/// Proof that the processor has what this file is written for.
#[derive(Clone, Copy, Debug)]
pub(super) struct AesNi(());

impl AesNi {
    /// Asks the processor (the answer is cached).
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq"))
            .then_some(Self(()))
    }

    /// Runs every job.
    pub(super) fn apply<const R: usize>(self, jobs: &mut [LayerJob<'_, Hctr2Key<R>>]) {
        // SAFETY: `self` exists only where `detect` has found every feature that `burst` enables.
        unsafe { burst(jobs) }
    }

    /// Fills in a key whose first round keys are the AES key.
    pub(super) fn expand<const R: usize>(self, key: &mut Hctr2Key<R>) {
        // SAFETY: `self` exists only where `detect` has found every feature that `expand` enables.
        unsafe { expand(key) }
    }
}

#[target_feature(enable = "avx2,aes,pclmulqdq")]
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

/// A packet after its first pass.
#[derive(Clone, Copy)]
pub(super) struct Opened {
    /// What the hashes start from: M, the tweak, and the block of lengths times H.
    pub(super) start: __m128i,
    /// M and the hash of the rest: input of AES.
    pub(super) input: __m128i,
}

/// A packet after AES over its first block.
#[derive(Clone, Copy)]
pub(super) struct Turned {
    pub(super) output: __m128i,
    pub(super) seed: __m128i,
}

/// First pass: the hash of the input.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq")]
fn open<const R: usize>(job: &LayerJob<'_, Hctr2Key<R>>) -> Opened {
    let text = &*job.cell;
    let m = load(text.first_chunk().expect("HCTR2 needs at least one block"));
    let start = xor(xor(m, load(&job.tweak)), lengths(job.key, text.len()));
    let (blocks, tail) = text.as_chunks();
    let (fours, ones) = blocks.as_chunks::<AGGREGATE>();
    let mut hash = Polyval::new(job.key, start);
    for four in fours {
        hash.absorb(load_each(four));
    }
    for one in ones {
        hash.absorb([load(one)]);
    }
    if !tail.is_empty() {
        hash.absorb([load(&padded(tail))]);
    }
    let input = xor(m, hash.state);
    Opened { start, input }
}

/// AES over the first block.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq")]
pub(super) fn turn<const R: usize>(job: &LayerJob<'_, Hctr2Key<R>>, input: __m128i) -> Turned {
    let rounds = &job.key.rounds;
    let output = match job.op {
        LayerOp::Encrypt => encrypt(rounds, [input])[0],
        LayerOp::Decrypt => {
            let mut block = xor(input, load(&rounds[R - 1]));
            for round in rounds[1..R - 1].iter().rev() {
                block = _mm_aesdec_si128(block, _mm_aesimc_si128(load(round)));
            }
            _mm_aesdeclast_si128(block, load(&rounds[0]))
        }
    };
    let seed = xor(xor(input, output), load(&job.key.l));
    Turned { output, seed }
}

/// Second pass: the key stream, and the hash of what it leaves.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq")]
fn close<const R: usize>(job: &mut LayerJob<'_, Hctr2Key<R>>, start: __m128i, turned: Turned) {
    let mut hash = Polyval::new(job.key, start);
    let mut stream = Xctr::new(&job.key.rounds, turned.seed);
    let (groups, rest) = job.cell.as_chunks_mut::<{ 16 * GROUP }>();
    for group in groups {
        let (blocks, _) = group.as_chunks_mut();
        let (fours, _) = blocks.as_chunks_mut::<AGGREGATE>();
        let stream: [__m128i; GROUP] = stream.next();
        for (four, stream) in fours.iter_mut().zip(stream.chunks_exact(AGGREGATE)) {
            let mut text = load_each(four);
            for ((text, place), stream) in text.iter_mut().zip(four).zip(stream) {
                *text = xor(*text, *stream);
                store(place, *text);
            }
            hash.absorb(text);
        }
    }
    for piece in rest.chunks_mut(16) {
        let [stream] = stream.next();
        let mut bytes = [0; 16];
        store(&mut bytes, stream);
        for (byte, stream) in piece.iter_mut().zip(bytes) {
            *byte ^= stream;
        }
        hash.absorb([load(&padded(piece))]);
    }
    if let Some(first) = job.cell.first_chunk_mut() {
        store(first, xor(turned.output, hash.state));
    }
}

/// XCTR over a cell: the key stream block of index i is AES(seed ^ i), and the block of index 0 has none.
struct Xctr<'a, const R: usize> {
    rounds: &'a [Block; R],
    seed: __m128i,
    /// Index of the next block.
    counter: __m128i,
    /// Nothing for the first block, all ones after it.
    mask: __m128i,
}

impl<'a, const R: usize> Xctr<'a, R> {
    #[inline]
    #[target_feature(enable = "avx2,aes,pclmulqdq")]
    fn new(rounds: &'a [Block; R], seed: __m128i) -> Self {
        Self {
            rounds,
            seed,
            counter: _mm_setzero_si128(),
            mask: _mm_setzero_si128(),
        }
    }

    /// The next N blocks of the stream.
    #[inline]
    #[target_feature(enable = "avx2,aes,pclmulqdq")]
    fn next<const N: usize>(&mut self) -> [__m128i; N] {
        let one = _mm_set_epi64x(0, 1);
        let mut blocks = [self.seed; N];
        for block in &mut blocks {
            *block = xor(*block, self.counter);
            self.counter = _mm_add_epi64(self.counter, one);
        }
        let mut blocks = encrypt(self.rounds, blocks);
        blocks[0] = _mm_and_si128(blocks[0], self.mask);
        self.mask = _mm_set1_epi64x(-1);
        blocks
    }
}

#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq")]
fn encrypt<const R: usize, const N: usize>(rounds: &[Block; R], mut blocks: [__m128i; N]) -> [__m128i; N] {
    let round = load(&rounds[0]);
    for block in &mut blocks {
        *block = xor(*block, round);
    }
    for round in &rounds[1..R - 1] {
        let round = load(round);
        for block in &mut blocks {
            *block = _mm_aesenc_si128(*block, round);
        }
    }
    let round = load(&rounds[R - 1]);
    for block in &mut blocks {
        *block = _mm_aesenclast_si128(*block, round);
    }
    blocks
}

/// POLYVAL (RFC 8452 section 3).
struct Polyval<'a> {
    /// H^4, H^3, H^2, H.
    powers: &'a [Block],
    /// The same, folded.
    folded: [__m128i; AGGREGATE],
    /// The hash so far.
    state: __m128i,
}

impl<'a> Polyval<'a> {
    #[inline]
    #[target_feature(enable = "avx2,aes,pclmulqdq")]
    fn new<const R: usize>(key: &'a Hctr2Key<R>, start: __m128i) -> Self {
        let powers = &key.powers[..AGGREGATE];
        let mut folded_powers = [start; AGGREGATE];
        for (place, power) in folded_powers.iter_mut().zip(powers) {
            *place = folded(load(power));
        }
        Self {
            powers,
            folded: folded_powers,
            state: start,
        }
    }

    /// Takes one to four blocks.
    #[inline]
    #[target_feature(enable = "avx2,aes,pclmulqdq")]
    fn absorb<const N: usize>(&mut self, mut text: [__m128i; N]) {
        text[0] = xor(text[0], self.state);
        let mut sum = Product::zero();
        for (index, text) in text.into_iter().enumerate() {
            let power = AGGREGATE - N + index;
            sum.add(text, load(&self.powers[power]), self.folded[power]);
        }
        self.state = sum.reduce();
    }
}

/// Sums of carry-less products of 128 by 128 bits after Karatsuba: of the low halves, of the folded blocks, of the high halves.
struct Product {
    low: __m128i,
    middle: __m128i,
    high: __m128i,
}

impl Product {
    #[inline]
    #[target_feature(enable = "avx2,aes,pclmulqdq")]
    fn zero() -> Self {
        let zero = _mm_setzero_si128();
        Self {
            low: zero,
            middle: zero,
            high: zero,
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,aes,pclmulqdq")]
    fn add(&mut self, a: __m128i, b: __m128i, folded_b: __m128i) {
        self.low = xor(self.low, _mm_clmulepi64_si128::<0x00>(a, b));
        self.middle = xor(self.middle, _mm_clmulepi64_si128::<0x00>(folded(a), folded_b));
        self.high = xor(self.high, _mm_clmulepi64_si128::<0x11>(a, b));
    }

    /// Times x^-128, modulo the field's polynomial: folds 64 bits from below, twice.
    #[inline]
    #[target_feature(enable = "avx2,aes,pclmulqdq")]
    fn reduce(self) -> __m128i {
        let field = _mm_set1_epi64x(FIELD);
        let middle = xor(self.middle, xor(self.low, self.high));
        let middle = xor(middle, fold(self.low, field));
        xor(self.high, fold(middle, field))
    }
}

/// What 64 bits from below come to above: the low half times the polynomial's middle, and the halves exchanged.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq")]
fn fold(a: __m128i, field: __m128i) -> __m128i {
    xor(_mm_clmulepi64_si128::<0x00>(a, field), _mm_shuffle_epi32::<0x4e>(a))
}

/// The sum of a block's halves, in both of them.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq")]
fn folded(a: __m128i) -> __m128i {
    xor(a, _mm_shuffle_epi32::<0x4e>(a))
}

/// The product of two elements of POLYVAL's field.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq")]
fn multiply(a: __m128i, b: __m128i) -> __m128i {
    let mut product = Product::zero();
    product.add(a, b, folded(b));
    product.reduce()
}

/// The block of lengths, which comes first in the hash, times H: tweak of 128 bits, text of whole blocks or not.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq")]
pub(super) fn lengths<const R: usize>(key: &Hctr2Key<R>, text_bytes: usize) -> __m128i {
    let bits = 2 * 128 + if text_bytes.is_multiple_of(16) { 2 } else { 3 };
    let (bits, h) = (_mm_cvtsi64_si128(bits), load(&key.powers[3]));
    let field = _mm_set1_epi64x(FIELD);
    // As `Product`, of a number without a high half.
    let low = _mm_clmulepi64_si128::<0x00>(bits, h);
    let middle = xor(_mm_clmulepi64_si128::<0x10>(bits, h), fold(low, field));
    fold(middle, field)
}

/// The end of a text as the hash takes it: a 1 behind what does not fill a block, then zeros.
#[inline]
fn padded(tail: &[u8]) -> Block {
    let mut block = [0; 16];
    block[..tail.len()].copy_from_slice(tail);
    if let Some(beyond) = block.get_mut(tail.len()) {
        *beyond = 1;
    }
    block
}

/// Fills in what follows from the AES key: its other round keys, L = AES(1), and powers of H = AES(0).
#[target_feature(enable = "avx2,aes,pclmulqdq")]
fn expand<const R: usize>(key: &mut Hctr2Key<R>) {
    expand_rounds(&mut key.rounds);
    let [h, l] = encrypt(&key.rounds, [_mm_setzero_si128(), _mm_set_epi64x(0, 1)]);
    store(&mut key.l, l);
    let (low, high) = key.powers.split_at_mut(4);
    let mut power = h;
    for place in low.iter_mut().rev() {
        store(place, power);
        power = multiply(power, h);
    }
    let fourth = load(&low[0]);
    let mut power = fourth;
    for place in high {
        power = multiply(power, fourth);
        store(place, power);
    }
}

/// The key schedule of AES (FIPS 197 section 5.2), word by word; the AES key stands at the beginning.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq")]
fn expand_rounds<const R: usize>(rounds: &mut [Block; R]) {
    let key_words = R - 7;
    let (words, _) = rounds.as_flattened_mut().as_chunks_mut::<4>();
    let mut constant: u32 = 1;
    for at in key_words..words.len() {
        let mut word = u32::from_le_bytes(words[at - 1]);
        if at.is_multiple_of(key_words) {
            word = substitute(word).rotate_right(8) ^ constant;
            // Ten at most are used, the last two of them past x^8 + x^4 + x^3 + x + 1.
            constant = (constant << 1) ^ if constant & 0x80 == 0 { 0 } else { 0x11b };
        } else if key_words > 6 && at % key_words == 4 {
            word = substitute(word);
        }
        word ^= u32::from_le_bytes(words[at - key_words]);
        words[at] = word.to_le_bytes();
    }
}

/// SubWord: the S-box on each byte.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq")]
fn substitute(word: u32) -> u32 {
    let word = _mm_cvtsi32_si128(word.cast_signed());
    // The lowest word of the result is SubWord of the second word given.
    let word = _mm_slli_si128::<4>(word);
    _mm_cvtsi128_si32(_mm_aeskeygenassist_si128::<0>(word)).cast_unsigned()
}

#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq")]
pub(super) fn xor(a: __m128i, b: __m128i) -> __m128i {
    _mm_xor_si128(a, b)
}

#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq")]
pub(super) fn load(block: &Block) -> __m128i {
    // SAFETY: the reference is good for 16 bytes, and the load wants no alignment.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq")]
fn load_each<const N: usize>(blocks: &[Block; N]) -> [__m128i; N] {
    let mut text = [_mm_setzero_si128(); N];
    for (text, block) in text.iter_mut().zip(blocks) {
        *text = load(block);
    }
    text
}

#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq")]
pub(super) fn store(place: &mut Block, block: __m128i) {
    // SAFETY: the reference is good for 16 bytes, and the store wants no alignment.
    unsafe { _mm_storeu_si128(place.as_mut_ptr().cast(), block) }
}
