//! The threads that open creating signals: the node's private-key operations, away from workers and from the control thread.
//!
//! ```text
//!  control thread ─► jobs ─► opener, opener ... ─► opened ─► control thread, woken
//! ```
//! The control node hands out [`OPENINGS_AT_A_TIME`] at most, so neither channel is ever full.

use std::thread::{self, JoinHandle, Thread};

use ain_controlplane::action::{Opened, Opening};
use ain_controlplane::limits::OPENINGS_AT_A_TIME;
use ain_worker::pin::set_up_thread;
use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::error;

use crate::shutdown::Shutdown;

/// The threads and the way to them. Dropped, it ends them and waits for them.
pub struct Openers {
    /// `None` only while it is dropped.
    jobs: Option<Sender<Opening>>,
    opened: Receiver<Opened>,
    threads: Vec<JoinHandle<()>>,
}

impl Openers {
    /// Starts one thread on each of `cores`; `None` lets the kernel choose. `control` is woken by every result. A thread that ends
    /// on its own fails the process.
    ///
    /// # Errors
    /// The kernel starts no thread.
    pub fn start(cores: &[Option<u16>], control: &Thread, shutdown: &Shutdown) -> std::io::Result<Self> {
        let (jobs, to_do) = bounded(OPENINGS_AT_A_TIME);
        let (done, opened) = bounded(OPENINGS_AT_A_TIME);
        let start = |(number, core): (usize, &Option<u16>)| {
            let opener = Opener {
                name: format!("ain-opener-{number}"),
                core: core.map(usize::from),
                to_do: to_do.clone(),
                done: done.clone(),
                control: control.clone(),
                failing: Failing(Some(shutdown.clone())),
            };
            thread::Builder::new()
                .name(opener.name.clone())
                .spawn(move || opener.run())
        };
        let threads = cores.iter().enumerate().map(start).collect::<Result<_, _>>()?;
        Ok(Self {
            jobs: Some(jobs),
            opened,
            threads,
        })
    }

    /// Hands out `opening`. Nothing can be done if the threads are gone: the process is about to end.
    pub fn open(&self, opening: Opening) {
        if let Some(jobs) = &self.jobs {
            let _gone = jobs.try_send(opening).is_err();
        }
    }

    /// What came of some opening.
    pub fn poll(&self) -> Option<Opened> {
        self.opened.try_recv().ok()
    }
}

impl Drop for Openers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("an opener panicked");
            }
        }
    }
}

struct Opener {
    name: String,
    core: Option<usize>,
    to_do: Receiver<Opening>,
    done: Sender<Opened>,
    control: Thread,
    failing: Failing,
}

impl Opener {
    fn run(mut self) {
        if let Err(error) = set_up_thread(&self.name, self.core) {
            return error!(%error, "opener not started");
        }
        while let Ok(opening) = self.to_do.recv() {
            if self.done.send(opening.open()).is_err() {
                break;
            }
            self.control.unpark();
        }
        self.failing.0 = None;
    }
}

/// Fails the process when dropped, unless it was disarmed.
struct Failing(Option<Shutdown>);

impl Drop for Failing {
    fn drop(&mut self) {
        if let Some(shutdown) = &self.0 {
            shutdown.fail();
        }
    }
}
