//! Where locks and atomics come from: the standard library, or loom's models of them under `--cfg loom`.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc, Mutex, PoisonError, TryLockError,
    atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, AtomicU64, Ordering, fence},
};
#[cfg(loom)]
pub(crate) use std::sync::{PoisonError, TryLockError};
