//! GCM by the library's direct calls: one call a message, key schedule and hash key powers in the key, no manager.

use ain_crypto::TAG_BYTES;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::manager::Library;
use crate::sys;

/// Bytes of the library's expanded key: round keys and powers of the hash key.
const SCHEDULE_BYTES: usize = size_of::<sys::gcm_key_data>();
/// Bytes of the salt that opens every nonce (RFC 4106 section 4, RFC 4543 section 3.2).
pub const SALT_BYTES: usize = 4;

/// Expanded AES key, hash key powers and salt in 1024 bytes, salt and size where the library's own type has padding. Aligned as the
/// library declares its type, so that no load of a hash key power crosses a cache line.
#[derive(Zeroize, ZeroizeOnDrop)]
#[repr(C, align(64))]
pub struct GcmKey {
    schedule: [u8; SCHEDULE_BYTES],
    salt: [u8; SALT_BYTES],
    #[zeroize(skip)]
    size: KeySize,
}

const _: () = assert!(size_of::<GcmKey>() == 1024);

/// AES key length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum KeySize {
    /// 16 bytes.
    Aes128,
    /// 32 bytes.
    Aes256,
}

/// What is done to the text.
#[derive(Clone, Copy)]
pub enum Op {
    /// Encrypt, then hash.
    Seal,
    /// Hash, then decrypt.
    Open,
}

impl GcmKey {
    /// Expands a key whose length the caller has checked: 16 or 32 bytes, then the salt.
    ///
    /// # Panics
    /// See [`Library::of_a_backend`].
    pub fn expand(size: KeySize, material: &[u8]) -> Self {
        let library = Library::of_a_backend();
        let (key, salt) = material.split_last_chunk().expect("key material ends with the salt");
        let (pre, wanted) = match size {
            KeySize::Aes128 => (library.gcm128_pre, 16),
            KeySize::Aes256 => (library.gcm256_pre, 32),
        };
        assert_eq!(key.len(), wanted, "the caller has checked the length");
        let mut expanded = Self {
            schedule: [0; SCHEDULE_BYTES],
            salt: *salt,
            size,
        };
        // SAFETY: reads `wanted` bytes of key and writes one `gcm_key_data`, which `schedule` has the size of and, being first in a
        // struct aligned to 64, the alignment.
        unsafe { pre(key.as_ptr().cast(), expanded.schedule.as_mut_ptr().cast()) }
        expanded
    }

    /// Which key length it was expanded for.
    pub fn size(&self) -> KeySize {
        self.size
    }

    /// One message in place; returns its tag. For [`Op::Open`] the caller compares it.
    #[inline]
    pub fn run(&self, library: &Library, op: Op, iv: &[u8; 8], aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        let function = match (self.size, op) {
            (KeySize::Aes128, Op::Seal) => library.gcm128_enc,
            (KeySize::Aes128, Op::Open) => library.gcm128_dec,
            (KeySize::Aes256, Op::Seal) => library.gcm256_enc,
            (KeySize::Aes256, Op::Open) => library.gcm256_dec,
        };
        let mut nonce = [0; 12];
        nonce[..SALT_BYTES].copy_from_slice(&self.salt);
        nonce[SALT_BYTES..].copy_from_slice(iv);
        let mut context = sys::gcm_context_data::default();
        let mut tag = library.unwritten;
        let (source, target) = (text.as_ptr(), text.as_mut_ptr());
        // SAFETY: the function is the library's for this key length and this CPU, and the schedule was expanded for the same.
        // Every pointer is to live memory of the length given beside it, not null even if empty, and none is kept. Source and
        // target are the same bytes, which the library allows. It checks pointers and lengths and refuses what is out of range;
        // a text of 64 GiB, its only limit, does not exist.
        unsafe {
            function(
                self.schedule.as_ptr().cast(),
                &raw mut context,
                target,
                source,
                text.len() as u64,
                nonce.as_ptr(),
                aad.as_ptr(),
                aad.len() as u64,
                tag.as_mut_ptr(),
                TAG_BYTES as u64,
            );
        }
        tag
    }
}
