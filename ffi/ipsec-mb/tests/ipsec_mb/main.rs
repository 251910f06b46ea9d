//! The backend in the suite that every backend runs, and against the portable one on random bursts.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use ipsec_mb_sys::IpsecMb as Subject;

mod equal;
#[path = "../../../../dataplane/crypto/tests/suite/mod.rs"]
mod suite;

thread_local! {
    static KEPT: RefCell<Option<Subject>> = const { RefCell::new(None) };
}

/// The thread's backend, made once: what a call left behind in it would meet the next one.
struct Lent(Option<Subject>);

fn subject() -> Lent {
    let kept = KEPT.with_borrow_mut(Option::take);
    Lent(Some(kept.unwrap_or_else(|| {
        Subject::new().expect("these tests need a CPU that ipsec-mb has code for")
    })))
}

impl Deref for Lent {
    type Target = Subject;

    fn deref(&self) -> &Subject {
        self.0.as_ref().expect("there until drop")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Subject {
        self.0.as_mut().expect("there until drop")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        KEPT.set(self.0.take());
    }
}
