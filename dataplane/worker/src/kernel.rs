//! Between a port that the kernel does not share and the tap that the kernel has in its place.
//!
//! ```text
//!   worker 0  ──ring──┐
//!   worker 1  ──ring──┴─► thread of the taps ──► tap      ARP, neighbour discovery, ICMP, IKE, SSH
//!   worker 0  ◄──ring──── thread of the taps ◄── tap      straight on to the port
//! ```
//! Frames are copied: buffers of the ports are the workers' own. A worker makes no system call for them and waits for nothing; the thread
//! sleeps in `poll`, and looks into the rings when it wakes.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ain_dataplane::allowance::Used;
use ain_dataplane::count::Counters;
use ain_dataplane::handoff::{Consumer, Producer, ring};
use ain_dataplane::id::Now;
use ain_dataplane::limits::{BURST, EXCEPTIONS_OUT};
use ain_dataplane::packet::filled;
use ain_dataplane::stage::exception::Exception;
use ain_dataplane::verdict::DropReason;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use crate::limits::{KERNEL_RING, KERNEL_RING_KEPT, TAP_NAP_MS};
use crate::port::{Burst, Port};
use crate::run::Clock;
use crate::vec_buf::{VecBuf, VecPool};

/// A worker's end.
#[derive(Debug)]
pub struct WorkerEnd {
    to_kernel: Producer<VecBuf>,
    /// What the kernel sends leaves by one worker.
    from_kernel: Option<Consumer<VecBuf>>,
    pool: VecPool,
}

/// The other end, of the thread that has the tap.
pub struct KernelEnd<T> {
    tap: T,
    from_workers: Vec<Consumer<VecBuf>>,
    to_worker: Producer<VecBuf>,
    sent: Used,
    counters: Arc<Counters>,
}

/// Buffers that frames of one port can take up on both ways, for `workers` workers.
pub const fn buffers(workers: usize) -> usize {
    (workers + 1) * KERNEL_RING + 2 * BURST
}

/// The ways between `workers` workers and `tap`, whose buffers `pool` has.
pub fn ways<T>(tap: T, workers: usize, pool: &VecPool) -> (Vec<WorkerEnd>, KernelEnd<T>) {
    let (to_worker, out) = ring(KERNEL_RING);
    let mut out = Some(out);
    let (ends, from_workers) = (0..workers)
        .map(|_| {
            let (to_kernel, from_worker) = ring(KERNEL_RING);
            let end = WorkerEnd {
                to_kernel,
                from_kernel: out.take(),
                pool: pool.clone(),
            };
            (end, from_worker)
        })
        .unzip();
    let kernel = KernelEnd {
        tap,
        from_workers,
        to_worker,
        sent: Used::default(),
        counters: Arc::default(),
    };
    (ends, kernel)
}

impl WorkerEnd {
    /// Leaves a frame for the kernel. The last places are for what tunnels cannot do without.
    pub(crate) fn give(&mut self, kind: Exception, frame: &[u8]) -> Result<(), DropReason> {
        let full = DropReason::ExceptionFull;
        if kind == Exception::Other && self.to_kernel.room() <= KERNEL_RING_KEPT {
            return Err(full);
        }
        let copy = filled(&mut self.pool, frame).ok_or(full)?;
        self.to_kernel.push(copy).map_err(|_| full)
    }

    /// What the kernel has sent, a burst at most.
    pub(crate) fn frames(&mut self) -> impl Iterator<Item = VecBuf> + '_ {
        let some = self.from_kernel.as_mut().filter(|ring| !ring.is_empty());
        some.into_iter()
            .flat_map(|ring| std::iter::from_fn(|| ring.pop()).take(BURST))
    }
}

impl<T: Port<Buf = VecBuf>> KernelEnd<T> {
    /// The tap.
    pub fn tap(&self) -> &T {
        &self.tap
    }

    /// What was lost on this side.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Moves a burst each way; whether there was anything to move.
    fn step(&mut self, now: Now) -> bool {
        let mut burst = Burst::new();
        for ring in &mut self.from_workers {
            let room = burst.remaining_capacity();
            burst.extend(std::iter::from_fn(|| ring.pop()).take(room));
        }
        let mut moved = burst.len();
        self.tap.tx(&mut burst);
        moved += self.tap.rx(&mut burst);
        for frame in burst {
            if !self.sent.admit(now, EXCEPTIONS_OUT, 1) {
                self.counters.dropped(DropReason::ExceptionRate);
            } else if self.to_worker.push(frame).is_err() {
                self.counters.dropped(DropReason::ExceptionFull);
            }
        }
        moved > 0
    }
}

/// Moves frames of all taps until `stop` is set.
///
/// # Errors
/// A tap is gone: somebody has deleted it.
pub fn run<T: Port<Buf = VecBuf> + AsFd>(
    mut ends: Vec<KernelEnd<T>>,
    clock: Clock,
    stop: &AtomicBool,
) -> io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let now = clock.now();
        let moved = ends.iter_mut().filter_map(|end| end.step(now).then_some(())).count();
        if moved == 0 {
            wait(&ends)?;
        }
    }
    Ok(())
}

/// Until the kernel sends something, or for a nap.
fn wait<T: AsFd>(ends: &[KernelEnd<T>]) -> io::Result<()> {
    let mut polled: Vec<_> = ends
        .iter()
        .map(|end| PollFd::new(end.tap.as_fd(), PollFlags::POLLIN))
        .collect();
    match poll(&mut polled, TAP_NAP_MS) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    let lost = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| events.intersects(gone));
    if polled.iter().any(lost) {
        return Err(io::Error::other("a tap is gone"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
