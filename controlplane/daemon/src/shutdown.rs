//! SIGTERM and SIGINT ask for an orderly end; a second one ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// Exit code of a process that did not end in order.
const IMPATIENT: i32 = 130;

/// Whether the process is to end.
#[derive(Clone, Debug)]
pub struct Shutdown {
    requested: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
    wake: Thread,
}

impl Shutdown {
    /// From now on the signals count. `wake` is unparked when one comes.
    ///
    /// # Errors
    /// The kernel takes no handler.
    pub fn on_signals(wake: Thread) -> io::Result<Self> {
        let shutdown = Self {
            requested: Arc::default(),
            failed: Arc::default(),
            wake: wake.clone(),
        };
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        for signal in [SIGTERM, SIGINT] {
            // Order matters: the second signal finds the flag that the first one set.
            flag::register_conditional_shutdown(signal, IMPATIENT, shutdown.requested.clone())?;
            flag::register(signal, shutdown.requested.clone())?;
        }
        thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in signals.forever() {
                wake.unpark();
            }
        })?;
        Ok(shutdown)
    }

    /// Whether the process is to end.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// Asks for the end because something has failed.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
        self.requested.store(true, Ordering::Relaxed);
        self.wake.unpark();
    }

    /// Whether the end was asked for by [`Self::fail`].
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_sets_the_flag_and_wakes() {
        let shutdown = Shutdown::on_signals(thread::current()).unwrap();
        assert!(!shutdown.requested());
        signal_hook::low_level::raise(SIGTERM).unwrap();
        while !shutdown.requested() {
            thread::park();
        }
    }
}
