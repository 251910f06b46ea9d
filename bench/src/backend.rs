//! The fastest cryptography of this machine, chosen at run time as the node chooses it.

use ain_crypto::{Backend, Portable};

/// How to make one more instance of a backend.
pub trait Fresh: Backend + Sized {
    /// Its name in tables.
    const NAME: &'static str;
    /// One more, for one more thread.
    fn fresh() -> Self;
}

impl Fresh for Portable {
    const NAME: &'static str = "portable";

    fn fresh() -> Self {
        Self::default()
    }
}

/// Something to be done with whichever backend is chosen.
pub trait WithBackend {
    /// What comes of it.
    type Output;
    /// Does it.
    fn run<C: Fresh>(self) -> Self::Output;
}

/// Runs `what` with the fastest backend of this machine.
pub fn with_fastest<W: WithBackend>(what: W) -> W::Output {
    what.run::<Portable>()
}
