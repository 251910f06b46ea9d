//! The fastest cryptography of this machine, chosen at run time as the node chooses it.

use ain_crypto::{Backend, Portable};

/// A backend of which any thread can have one more.
pub trait Fresh: Backend + Sized {
    /// Its name in tables.
    const NAME: &'static str;
    /// One more.
    fn fresh() -> Self;
}

impl Fresh for Portable {
    const NAME: &'static str = "portable";

    fn fresh() -> Self {
        Self::default()
    }
}

#[cfg(feature = "ipsec-mb")]
impl Fresh for ipsec_mb_sys::IpsecMb {
    const NAME: &'static str = "ipsec-mb";

    fn fresh() -> Self {
        Self::new().expect("tried before it was chosen")
    }
}

/// Which backend to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Choice {
    /// The fastest of this machine.
    #[default]
    Auto,
    /// The one of every machine.
    Portable,
}

/// Something to be done with whichever backend is chosen.
pub trait WithBackend {
    /// What comes of it.
    type Output;
    /// Does it.
    fn run<C: Fresh>(self) -> Self::Output;
}

/// Runs `what` with the chosen backend.
pub fn with<W: WithBackend>(choice: Choice, what: W) -> W::Output {
    match choice {
        #[cfg(feature = "ipsec-mb")]
        Choice::Auto if ipsec_mb_sys::IpsecMb::new().is_ok() => what.run::<ipsec_mb_sys::IpsecMb>(),
        Choice::Auto | Choice::Portable => what.run::<Portable>(),
    }
}
