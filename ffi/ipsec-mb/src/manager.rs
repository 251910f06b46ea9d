//! The library on this machine: whether it may be used, its functions, and managers of queues for those that work in bursts.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::OnceLock;

use ain_crypto::TAG_BYTES;
use thiserror::Error;

use crate::sys;

/// Why a machine has to do without the library.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Unavailable {
    /// The library's code for such CPUs is no faster than any other.
    #[error("ipsec-mb: the CPU lacks AES-NI, PCLMULQDQ or AVX2")]
    Cpu,
    /// A known answer was not met, or the library was built without its self-test.
    #[error("ipsec-mb: the library's self-test did not pass")]
    SelfTest,
    /// A manager could not be allocated.
    #[error("ipsec-mb: no memory for a manager")]
    Memory,
    /// The library was built without the checks of its arguments, or without clearing keys off its stack and registers.
    #[error("ipsec-mb: the library was built without SAFE_PARAM or SAFE_DATA")]
    Unsafe,
    /// The library of the machine is not the one of the headers.
    #[error("ipsec-mb: the library is not of the release that this build was made for, or lacks functions of it")]
    Incomplete,
}

/// The library's code for a class of CPUs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// AES-NI and AVX2.
    Avx2,
    /// The same, AES and GHASH two blocks at a time (VAES, VPCLMULQDQ).
    Avx2Vaes,
    /// AVX-512; AES and GHASH a block at a time.
    Avx512,
    /// AVX-512; AES and GHASH four blocks at a time (VAES, VPCLMULQDQ).
    Avx512Vaes,
}

impl Level {
    /// Its name in reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx2 => "avx2",
            Self::Avx2Vaes => "avx2-vaes",
            Self::Avx512 => "avx512",
            Self::Avx512Vaes => "avx512-vaes",
        }
    }

    /// As the library itself decides.
    fn of(features: u64) -> Option<Self> {
        let levels = [
            (sys::IMB_CPUFLAGS_AVX512_T2, Self::Avx512Vaes),
            (sys::IMB_CPUFLAGS_AVX512, Self::Avx512),
            (sys::IMB_CPUFLAGS_AVX2_T2, Self::Avx2Vaes),
            (sys::IMB_CPUFLAGS_AVX2, Self::Avx2),
        ];
        let has = |flags: u32| features & u64::from(flags) == u64::from(flags);
        levels
            .into_iter()
            .find_map(|(flags, level)| has(flags).then_some(level))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

type Pre = unsafe extern "C" fn(*const core::ffi::c_void, *mut sys::gcm_key_data);
type Gcm = unsafe extern "C" fn(
    *const sys::gcm_key_data,
    *mut sys::gcm_context_data,
    *mut u8,
    *const u8,
    u64,
    *const u8,
    *const u8,
    u64,
    *mut u8,
    u64,
);
type Expand = unsafe extern "C" fn(*const core::ffi::c_void, *mut core::ffi::c_void, *mut core::ffi::c_void);
type OneBlock = unsafe extern "C" fn(*const core::ffi::c_void, *mut core::ffi::c_void);

/// The functions for this CPU that work on what they are given and on nothing else: no manager, no lock, any thread. A manager is
/// where the library hands them out, so one is made for that and dropped. Key expansion on the control thread needs no more.
pub struct Library {
    pub level: Level,
    pub sha_ni: bool,
    pub gcm128_pre: Pre,
    pub gcm256_pre: Pre,
    pub gcm128_enc: Gcm,
    pub gcm128_dec: Gcm,
    pub gcm256_enc: Gcm,
    pub gcm256_dec: Gcm,
    pub sha256_one_block: OneBlock,
    pub keyexp_128: Expand,
    pub cmac_subkey_gen_128: Expand,
    /// What a tag is before the library writes it: random, so that a call which it refused, were there one, authenticates nothing.
    pub unwritten: [u8; TAG_BYTES],
}

static LIBRARY: OnceLock<Result<Library, Unavailable>> = OnceLock::new();

impl Library {
    /// The library, looked for once a process.
    pub fn get() -> Result<&'static Self, Unavailable> {
        LIBRARY.get_or_init(Self::find).as_ref().map_err(|why| *why)
    }

    /// The library, for those that make keys.
    ///
    /// # Panics
    /// Where it is [`Unavailable`]: a key belongs to a backend, and there is none.
    pub fn of_a_backend() -> &'static Self {
        Self::get().unwrap_or_else(|why| panic!("a key without a backend: {why}"))
    }

    fn find() -> Result<Self, Unavailable> {
        // SAFETY: reads CPUID.
        let features = unsafe { sys::imb_get_feature_flags() };
        let level = Level::of(features).ok_or(Unavailable::Cpu)?;
        // SAFETY: no preconditions. Functions are reached through a structure whose layout is the release's.
        if unsafe { sys::imb_get_version() } != sys::IMB_VERSION_NUM {
            return Err(Unavailable::Incomplete);
        }
        let manager = Manager::new(Code::Best)?;
        let functions = manager.functions();
        let library = || {
            Some(Self {
                level,
                sha_ni: features & u64::from(sys::IMB_FEATURE_SHANI) != 0,
                gcm128_pre: functions.gcm128_pre?,
                gcm256_pre: functions.gcm256_pre?,
                gcm128_enc: functions.gcm128_enc?,
                gcm128_dec: functions.gcm128_dec?,
                gcm256_enc: functions.gcm256_enc?,
                gcm256_dec: functions.gcm256_dec?,
                sha256_one_block: functions.sha256_one_block?,
                keyexp_128: functions.keyexp_128?,
                cmac_subkey_gen_128: functions.cmac_subkey_gen_128?,
                unwritten: unguessable(),
            })
        };
        library().ok_or(Unavailable::Incomplete)
    }
}

/// Sixteen bytes out of the standard library's random hash seeds.
fn unguessable() -> [u8; TAG_BYTES] {
    let half = || RandomState::new().hash_one(0u8);
    ((u128::from(half()) << 64) | u128::from(half())).to_ne_bytes()
}

/// Messages handed to a manager at a time; it takes 128 at most.
pub const BURST: usize = 64;
const _: () = assert!(BURST <= sys::IMB_MAX_BURST_SIZE as usize);

/// Whether the library's bursts take a message of this length. Empty ones and those of nearly 64 KiB go alone.
pub fn takes(message: &[u8]) -> bool {
    const LONGEST: usize = u16::MAX as usize - 1;
    (1..=LONGEST).contains(&message.len())
}

/// Which of its code a manager runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The library's choice.
    Best,
    /// That for SSE, whose SHA-256 is SHA-NI's, two messages at a time.
    Sse,
}

/// A manager: the library's queues for functions that work on many messages side by side. 200 kB.
pub struct Manager {
    raw: NonNull<sys::IMB_MGR>,
    not_shared: PhantomData<std::cell::Cell<()>>,
}

// SAFETY: a manager is memory of its own from the C allocator, which any thread may use and free. The library keeps nothing about
// it elsewhere: no thread-local storage, and of globals only an error number, which nobody here reads. `&mut self` on all that
// changes it keeps calls from overlapping; `not_shared` keeps it from being `Sync`.
unsafe impl Send for Manager {}

impl Manager {
    /// Allocates and initialises one, which includes the library's self-test (5 ms).
    pub fn new(code: Code) -> Result<Self, Unavailable> {
        // SAFETY: no preconditions. No flags: turning SHA-NI off also turns off the fastest GCM (release 1.3).
        let raw = NonNull::new(unsafe { sys::alloc_mb_mgr(0) }).ok_or(Unavailable::Memory)?;
        let manager = Self {
            raw,
            not_shared: PhantomData,
        };
        let mut chosen = sys::IMB_ARCH::IMB_ARCH_NONE;
        // SAFETY: `raw` came from `alloc_mb_mgr` just now; `Library::find` lets only CPUs come here that have AVX2, and so SSE.
        unsafe {
            match code {
                Code::Best => sys::init_mb_mgr_auto(raw.as_ptr(), &raw mut chosen),
                Code::Sse => sys::init_mb_mgr_sse(raw.as_ptr()),
            }
        }
        let passed = u64::from(sys::IMB_FEATURE_SELF_TEST) | u64::from(sys::IMB_FEATURE_SELF_TEST_PASS);
        let safe = u64::from(sys::IMB_FEATURE_SAFE_PARAM) | u64::from(sys::IMB_FEATURE_SAFE_DATA);
        match manager.functions().features {
            features if features & passed != passed => Err(Unavailable::SelfTest),
            features if features & safe != safe => Err(Unavailable::Unsafe),
            _ => Ok(manager),
        }
    }

    /// The manager's table of functions.
    pub fn functions(&self) -> &sys::IMB_MGR {
        // SAFETY: allocated by the library, zeroed by it, alive until drop; nobody writes while `self` is borrowed.
        unsafe { self.raw.as_ref() }
    }

    /// The manager as foreign functions take it.
    pub fn raw(&mut self) -> *mut sys::IMB_MGR {
        self.raw.as_ptr()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // SAFETY: from `alloc_mb_mgr`, freed once. Its queues are empty: every burst is drained in the call that brings it.
        unsafe { sys::free_mb_mgr(self.raw.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-NI counts too: without it the library takes the lesser code of a level.
    #[test]
    fn levels_follow_the_cpu() {
        let full = u64::from(sys::IMB_CPUFLAGS_AVX512_T2);
        let without = |feature: u32| Level::of(full & !u64::from(feature));
        assert_eq!(Level::of(full), Some(Level::Avx512Vaes));
        assert_eq!(without(sys::IMB_FEATURE_VAES), Some(Level::Avx512));
        assert_eq!(without(sys::IMB_FEATURE_SHANI), Some(Level::Avx512));
        assert_eq!(without(sys::IMB_FEATURE_AVX512F), Some(Level::Avx2Vaes));
        assert_eq!(Level::of(sys::IMB_CPUFLAGS_AVX2.into()), Some(Level::Avx2));
        for needed in [
            sys::IMB_FEATURE_AVX2,
            sys::IMB_FEATURE_AESNI,
            sys::IMB_FEATURE_PCLMULQDQ,
        ] {
            assert_eq!(without(needed), None);
        }
    }
}
