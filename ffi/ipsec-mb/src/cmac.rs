//! AES-CMAC-96 by the library's job queue: messages side by side, drained before the call returns.
//!
//! CMAC is a chain: a block waits for the one before it, so that one message alone costs ten times what each of sixteen costs. The
//! library's hash burst does not know CMAC; its queue does. The queue keeps pointers until a job is done, so [`run`] empties it.

use ain_crypto::{Mac, MacAlgorithm, MacJob, Portable, TAG_BYTES};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::manager::{BURST, Library, Manager, takes};
use crate::sys;

const KEY_BYTES: usize = MacAlgorithm::AesCmac96.key_bytes();
const CUT_BYTES: usize = MacAlgorithm::AesCmac96.tag_bytes();

/// AES-128 schedule and the two subkeys (RFC 4493 section 2.3), aligned as the library wants.
#[derive(Zeroize, ZeroizeOnDrop)]
#[repr(C, align(16))]
pub struct CmacKey {
    schedule: [u8; 11 * KEY_BYTES],
    subkeys: [[u8; 16]; 2],
}

impl CmacKey {
    /// Expands a key.
    pub fn expand(library: &Library, key: &[u8; KEY_BYTES]) -> Self {
        /// The decryption schedule, which comes with the other and is not used.
        #[derive(Zeroize, ZeroizeOnDrop)]
        #[repr(C, align(16))]
        struct Unused([u8; 11 * KEY_BYTES]);

        let mut unused = Unused([0; 11 * KEY_BYTES]);
        let mut expanded = Self {
            schedule: [0; 11 * KEY_BYTES],
            subkeys: [[0; 16]; 2],
        };
        let [first, second] = &mut expanded.subkeys;
        let schedule = expanded.schedule.as_mut_ptr();
        // SAFETY: the first reads 16 bytes of key and writes two schedules of 11 round keys; the second reads the encrypting one and
        // writes two blocks. All are that long and aligned to 16: each field begins at a multiple of it.
        unsafe {
            (library.keyexp_128)(key.as_ptr().cast(), schedule.cast(), unused.0.as_mut_ptr().cast());
            (library.cmac_subkey_gen_128)(schedule.cast(), first.as_mut_ptr().cast(), second.as_mut_ptr().cast());
        }
        expanded
    }

    /// One message, for those that the queue does not take. The first round key is the key.
    fn alone(&self, message: &[u8]) -> [u8; TAG_BYTES] {
        let key = Portable::mac_key(MacAlgorithm::AesCmac96, &self.schedule[..KEY_BYTES]).expect("its length is right");
        let mut jobs = [MacJob {
            key: &key,
            iv: [0; 8],
            message,
            tag: [0; TAG_BYTES],
        }];
        Portable::default().compute(&mut jobs);
        jobs[0].tag
    }
}

/// One message of a burst.
pub struct CmacLane<'a> {
    /// Its key.
    pub key: &'a CmacKey,
    /// The message.
    pub message: &'a [u8],
    /// Where its tag goes.
    pub tag: &'a mut [u8; TAG_BYTES],
}

impl CmacLane<'_> {
    fn fill(&mut self, job: &mut sys::IMB_JOB) {
        // The library writes the tag, and no byte behind it.
        self.tag.fill(0);
        job.cipher_mode = sys::IMB_CIPHER_MODE::IMB_CIPHER_NULL;
        job.cipher_direction = sys::IMB_CIPHER_DIRECTION::IMB_DIR_ENCRYPT;
        job.chain_order = sys::IMB_CHAIN_ORDER::IMB_ORDER_HASH_CIPHER;
        job.hash_alg = sys::IMB_HASH_ALG::IMB_AUTH_AES_CMAC;
        job.__bindgen_anon_1.src = self.message.as_ptr();
        job.hash_start_src_offset_in_bytes = 0;
        job.__bindgen_anon_5.msg_len_to_hash_in_bytes = self.message.len() as u64;
        job.auth_tag_output = self.tag.as_mut_ptr();
        job.auth_tag_output_len_in_bytes = CUT_BYTES as u64;
        job.u.CMAC._key_expanded = self.key.schedule.as_ptr().cast();
        job.u.CMAC._skey1 = self.key.subkeys[0].as_ptr().cast();
        job.u.CMAC._skey2 = self.key.subkeys[1].as_ptr().cast();
    }
}

/// Computes the tag of every lane.
///
/// # Panics
/// If the library breaks its word and keeps a job: its pointers must not outlive this call.
pub fn run(manager: &mut Manager, lanes: &mut [CmacLane<'_>]) {
    for lanes in lanes.chunks_mut(BURST) {
        let done = lanes.iter().all(|lane| takes(lane.message)) && burst(manager, lanes) == Some(lanes.len());
        if !done {
            lanes
                .iter_mut()
                .for_each(|lane| *lane.tag = lane.key.alone(lane.message));
        }
    }
}

/// Hands at most [`BURST`] lanes over and drains the queue. How many were done.
fn burst(manager: &mut Manager, lanes: &mut [CmacLane<'_>]) -> Option<usize> {
    let functions = manager.functions();
    let (get, submit) = (functions.get_next_burst?, functions.submit_burst?);
    let (flush, left) = (functions.flush_burst?, functions.queue_size?);
    let mut jobs = [std::ptr::null_mut(); BURST];
    let (count, raw) = (lanes.len() as u32, manager.raw());
    // SAFETY: the manager is initialised, borrowed alone and, each call draining it, empty: it has room for `count` jobs, which is no
    // more than `jobs` holds pointers for. It returns pointers to as many jobs of its own; they are valid until the next call asks for
    // some. Each job gets a key, a message and a tag that `lanes` borrows for longer than this call. Then the queue is empty again.
    unsafe {
        if get(raw, count, jobs.as_mut_ptr()) < count {
            return None;
        }
        for (lane, job) in lanes.iter_mut().zip(jobs) {
            lane.fill(&mut *job);
        }
        let completed = |jobs: &[*mut sys::IMB_JOB]| {
            let good = |job: &&*mut sys::IMB_JOB| (***job).status == sys::IMB_STATUS::IMB_STATUS_COMPLETED;
            jobs.iter().filter(good).count()
        };
        let returned = submit(raw, count, jobs.as_mut_ptr());
        let mut done = completed(&jobs[..returned as usize]);
        while left(raw) > 0 {
            let returned = flush(raw, count, jobs.as_mut_ptr());
            if returned == 0 {
                break;
            }
            done += completed(&jobs[..returned as usize]);
        }
        assert_eq!(left(raw), 0, "ipsec-mb keeps a job");
        Some(done)
    }
}
