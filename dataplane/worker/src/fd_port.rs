//! What ports over a file descriptor share: one system call a packet, never waiting.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use ain_dataplane::packet::{BufPool, PacketBuf};

use crate::port::{Burst, Port, PortCounters, bytes_of, offer_bounded};
use crate::vec_buf::{VecBuf, VecPool};

/// A descriptor that carries whole packets and does not block.
pub trait PacketFd: Send {
    /// The next packet, and its length; more than `into` holds means that it was cut.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    fn receive(&self, into: &mut [u8]) -> io::Result<usize>;

    /// Sends one packet.
    ///
    /// # Errors
    /// `WouldBlock` when the kernel has no room now.
    fn send(&self, packet: &[u8]) -> io::Result<()>;
}

/// A port over a descriptor, with buffers from a pool.
pub struct FdPort<F> {
    pub(crate) fd: F,
    pool: VecPool,
    /// The buffer of the last call that found nothing, for the next.
    spare: Option<VecBuf>,
    counters: Arc<PortCounters>,
}

/// What came of one call.
enum Received {
    Packet(VecBuf),
    /// One was too long; there may be more.
    Lost,
    /// The call failed, and may do so again.
    Failed,
    Nothing,
}

impl<F: PacketFd> FdPort<F> {
    pub(crate) fn over(fd: F, pool: VecPool) -> Self {
        Self {
            fd,
            pool,
            spare: None,
            counters: Arc::default(),
        }
    }

    fn receive_one(&mut self) -> Received {
        let Some(mut buf) = self.spare.take().or_else(|| self.pool.alloc()) else {
            return Received::Nothing;
        };
        let room = buf.tailroom();
        buf.grow_back(room);
        match self.fd.receive(buf.data_mut()) {
            Ok(length) if length <= room => {
                buf.truncate(length);
                Received::Packet(buf)
            }
            Ok(_) => Received::Lost,
            Err(e) => {
                buf.truncate(0);
                self.spare = Some(buf);
                if waits(&e) { Received::Nothing } else { Received::Failed }
            }
        }
    }
}

impl<F: AsFd> AsFd for FdPort<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<F: PacketFd> Port for FdPort<F> {
    type Buf = VecBuf;

    fn rx(&mut self, into: &mut Burst<VecBuf>) -> usize {
        let start = into.len();
        let mut lost = 0;
        for _ in 0..into.remaining_capacity() {
            match self.receive_one() {
                Received::Packet(buf) => into.push(buf),
                Received::Lost => lost += 1,
                Received::Failed => {
                    lost += 1;
                    break;
                }
                Received::Nothing => break,
            }
        }
        self.counters.received(&into[start..]);
        self.counters.dropped_at_rx(lost);
        into.len() - start
    }

    fn tx(&mut self, from: &mut Burst<VecBuf>) {
        let mut refused = Burst::new();
        let (packets, bytes) = (from.len(), bytes_of(from));
        from.reverse();
        offer_bounded(from, |waiting| {
            while let Some(packet) = waiting.pop() {
                match self.fd.send(packet.data()) {
                    Ok(()) => {}
                    Err(e) if waits(&e) => {
                        waiting.push(packet);
                        return;
                    }
                    // The interface is down, or the packet too long for it: the next may still pass.
                    Err(_) => refused.push(packet),
                }
            }
        });
        refused.extend(from.drain(..));
        self.counters.sent(packets, bytes, &refused);
    }

    fn counters(&self) -> &Arc<PortCounters> {
        &self.counters
    }
}

impl<F> fmt::Debug for FdPort<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FdPort({:?})", self.pool)
    }
}

/// Nothing is wrong, only not now. `ENOBUFS`: the interface's queue is full.
fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
        || error.raw_os_error() == Some(libc::ENOBUFS)
}
