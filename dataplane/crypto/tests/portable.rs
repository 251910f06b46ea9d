//! The portable backend in the suite that every backend runs.

use ain_crypto::Portable as Subject;

mod suite;

fn subject() -> Subject {
    Subject::default()
}
