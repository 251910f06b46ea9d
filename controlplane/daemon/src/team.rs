//! The threads of a process that move packets: started one by one, ended together, whatever happens to the one who started them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use ain_crypto::Backend;
use ain_dataplane::packet::BufPool;
use ain_worker::kernel::{self, KernelEnd};
use ain_worker::pin::set_up_thread;
use ain_worker::run::{Clock, Worker};
use ain_worker::tun::TunPort;
use tracing::error;

use crate::hardware::OnThread;
use crate::shutdown::Shutdown;

/// The threads. Dropped, it ends them and waits for them, so that nothing they use goes away below them.
#[derive(Default)]
pub struct Team {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Team {
    /// Starts a worker, on `core` if one is named. Should it ever end unasked, the process fails: a supervisor starts it anew.
    ///
    /// # Errors
    /// The kernel starts no thread.
    pub fn add<C: Backend, A: BufPool + Send + 'static>(
        &mut self,
        core: Option<usize>,
        worker: Worker<C, A>,
        on_thread: &OnThread,
        shutdown: &Shutdown,
    ) -> std::io::Result<()> {
        let on_thread = Arc::clone(on_thread);
        let name = format!("ain-worker-{}", self.threads.len());
        self.start(name, core, shutdown, move |stop| {
            let _guard = on_thread()?;
            worker.run(stop);
            Ok(())
        })
    }

    /// Starts the thread of the taps, if there are any. It fails the process as a worker does.
    ///
    /// # Errors
    /// The kernel starts no thread.
    pub fn add_taps(
        &mut self,
        taps: Vec<KernelEnd<TunPort>>,
        clock: Clock,
        shutdown: &Shutdown,
    ) -> std::io::Result<()> {
        if taps.is_empty() {
            return Ok(());
        }
        let run = move |stop: &AtomicBool| Ok(kernel::run(taps, clock, stop)?);
        self.start("ain-taps".into(), None, shutdown, run)
    }

    fn start(
        &mut self,
        name: String,
        core: Option<usize>,
        shutdown: &Shutdown,
        work: impl FnOnce(&AtomicBool) -> anyhow::Result<()> + Send + 'static,
    ) -> std::io::Result<()> {
        let (stop, shutdown) = (Arc::clone(&self.stop), shutdown.clone());
        let thread_name = name.clone();
        let run = move || {
            let watch = Watch {
                stop: &stop,
                shutdown: &shutdown,
            };
            let set_up = set_up_thread(&name, core).map_err(anyhow::Error::from);
            if let Err(error) = set_up.and_then(|()| work(watch.stop)) {
                error!("{name}: {error:#}");
            }
        };
        self.threads.push(thread::Builder::new().name(thread_name).spawn(run)?);
        Ok(())
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("a worker panicked");
            }
        }
    }
}

/// Fails the process when the thread ends, by a panic too, without having been told to.
struct Watch<'a> {
    stop: &'a AtomicBool,
    shutdown: &'a Shutdown,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if !self.stop.load(Ordering::Relaxed) {
            self.shutdown.fail();
        }
    }
}
