//! HMAC-SHA2-256-128 by the library's hash burst: messages side by side, drained before the call returns.
//!
//! With AVX-512 sixteen messages run side by side, and a burst of fewer costs the same as sixteen. SHA-NI, which the library's code
//! for SSE uses two messages at a time, is faster for what is left over if that is fewer than nine; so a worker has a manager of
//! each kind. Where there is no AVX-512 the library's choice already is SHA-NI, if the CPU has it.

use ain_crypto::TAG_BYTES;
use sha2::block_api::compress256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::manager::{BURST, Code, Level, Library, Manager, Unavailable, takes};
use crate::sys;

/// Messages that AVX-512 hashes side by side.
const SIDE_BY_SIDE: usize = 16;
/// Fewest messages for which AVX-512 beats SHA-NI.
const WORTH_AVX512: usize = 9;
/// SHA-256's state after the inner and after the outer key block (RFC 2104 section 2).
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct HmacKey {
    inner: [u32; 8],
    outer: [u32; 8],
}

impl HmacKey {
    /// Expands a key of up to 64 bytes.
    pub fn expand(library: &Library, key: &[u8]) -> Self {
        let state = |pad: u8| {
            let mut block = [pad; 64];
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            let mut state = [0_u32; 8];
            // SAFETY: reads one SHA-256 block of 64 bytes and writes a state of 32, in words of the machine.
            unsafe { (library.sha256_one_block)(block.as_ptr().cast(), state.as_mut_ptr().cast()) };
            block.zeroize();
            state
        };
        Self {
            inner: state(0x36),
            outer: state(0x5c),
        }
    }

    /// One message, for those that the burst does not take.
    pub fn alone(&self, message: &[u8]) -> [u8; TAG_BYTES] {
        let inner = finish(self.inner, message);
        let full = finish(self.outer, &inner);
        full[..TAG_BYTES].try_into().expect("SHA-256 yields 32 bytes")
    }
}

/// SHA-256 over what follows the key block (FIPS 180-4 sections 5.1.1 and 6.2.2).
fn finish(mut state: [u32; 8], message: &[u8]) -> [u8; 32] {
    let (blocks, tail) = message.as_chunks::<64>();
    compress256(&mut state, blocks);
    let mut last = [0; 128];
    last[..tail.len()].copy_from_slice(tail);
    last[tail.len()] = 0x80;
    let end = if tail.len() < 56 { 64 } else { 128 };
    let bits = (64 + message.len() as u64) * 8;
    last[end - 8..end].copy_from_slice(&bits.to_be_bytes());
    compress256(&mut state, last[..end].as_chunks::<64>().0);
    let mut digest = [0; 32];
    for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

/// One message of a burst.
pub struct HmacLane<'a> {
    /// Its key.
    pub key: &'a HmacKey,
    /// The message.
    pub message: &'a [u8],
    /// Where its tag goes.
    pub tag: &'a mut [u8; TAG_BYTES],
}

impl HmacLane<'_> {
    fn fill(&mut self, job: &mut sys::IMB_JOB) {
        job.auth_tag_output = self.tag.as_mut_ptr();
        job.__bindgen_anon_1.src = self.message.as_ptr();
        job.__bindgen_anon_5.msg_len_to_hash_in_bytes = self.message.len() as u64;
        job.u.HMAC._hashed_auth_key_xor_ipad = self.key.inner.as_ptr().cast();
        job.u.HMAC._hashed_auth_key_xor_opad = self.key.outer.as_ptr().cast();
    }
}

/// A worker's second manager, and the jobs of a burst. The room is kept, the jobs are not: what points at a caller's memory is written
/// before each burst, and nothing reads it after.
pub struct HmacLanes {
    /// SHA-NI two messages at a time, where the library's choice has AVX-512 instead.
    pair: Option<Manager>,
    jobs: Box<[sys::IMB_JOB; BURST]>,
}

// SAFETY: a manager may move between threads, and the pointers in `jobs` are dead: `burst` writes every one that it lets the library
// read. No reference to `jobs` is ever given out.
unsafe impl Send for HmacLanes {}

impl HmacLanes {
    /// For one worker.
    pub fn new(library: &Library) -> Result<Self, Unavailable> {
        let wide = library.level >= Level::Avx512;
        let job = sys::IMB_JOB {
            hash_alg: sys::IMB_HASH_ALG::IMB_AUTH_HMAC_SHA_256,
            auth_tag_output_len_in_bytes: TAG_BYTES as u64,
            ..Default::default()
        };
        Ok(Self {
            pair: (wide && library.sha_ni).then(|| Manager::new(Code::Sse)).transpose()?,
            jobs: Box::new([job; BURST]),
        })
    }

    /// Computes the tag of every lane. `best` is the worker's manager of the library's choice.
    pub fn run(&mut self, best: &mut Manager, lanes: &mut [HmacLane<'_>]) {
        let over = match lanes.len() % SIDE_BY_SIDE {
            over if over < WORTH_AVX512 => over,
            _ => 0,
        };
        match &mut self.pair {
            Some(pair) => {
                let (many, few) = lanes.split_at_mut(lanes.len() - over);
                burst(best, &mut self.jobs, many);
                burst(pair, &mut self.jobs, few);
            }
            None => burst(best, &mut self.jobs, lanes),
        }
    }
}

fn burst(manager: &mut Manager, jobs: &mut [sys::IMB_JOB; BURST], lanes: &mut [HmacLane<'_>]) {
    let Some(submit) = manager.functions().submit_hash_burst else {
        return alone(lanes);
    };
    for lanes in lanes.chunks_mut(BURST) {
        if !lanes.iter().all(|lane| takes(lane.message)) {
            alone(lanes);
            continue;
        }
        lanes
            .iter_mut()
            .zip(jobs.iter_mut())
            .for_each(|(lane, job)| lane.fill(job));
        let count = lanes.len() as u32;
        // SAFETY: the manager is initialised and borrowed alone; each of the first `count` jobs points at a key, a message and a tag
        // that `lanes` borrows for longer than this call. The library checks every job before it begins the first, begins none if
        // one is refused, and returns when all are done: it keeps no pointer.
        let done = unsafe {
            submit(
                manager.raw(),
                jobs.as_mut_ptr(),
                count,
                sys::IMB_HASH_ALG::IMB_AUTH_HMAC_SHA_256,
            )
        };
        if done != count {
            alone(lanes);
        }
    }
}

fn alone(lanes: &mut [HmacLane<'_>]) {
    for lane in lanes {
        *lane.tag = lane.key.alone(lane.message);
    }
}
