//! What a worker's engine asks of its surroundings. The poll loop is one; the in-memory network of tests is another.

use ain_crypto::Backend;

use crate::command::{Event, Handoff};
use crate::id::{PortId, WorkerId};
use crate::packet::{BufPool, PacketBuf};
use crate::stage::exception::Exception;
use crate::verdict::DropReason;

/// Ports, rings and buffers. Nothing here may block.
pub trait Outside<C: Backend, B: PacketBuf>: BufPool<Buf = B> {
    /// Queues a whole Ethernet frame for a port.
    fn transmit(&mut self, port: PortId, frame: B);
    /// Gives a whole Ethernet frame of a port that the kernel does not share to the kernel.
    ///
    /// # Errors
    /// Why it does not get there; without such ports, that it has been there.
    fn give_to_kernel(&mut self, _port: PortId, _kind: Exception, _frame: &[u8]) -> Result<(), DropReason> {
        Err(DropReason::ForTheKernel)
    }
    /// Gives an item to another worker, or back if its ring is full.
    fn hand_over(&mut self, to: WorkerId, item: Handoff<B>) -> Result<(), Handoff<B>>;
    /// Gives an event to the control thread, or back if the ring is full.
    fn report(&mut self, event: Event<C, B>) -> Result<(), Event<C, B>>;
    /// Gives a datagram to the local device (`ain endpoint`).
    fn deliver(&mut self, datagram: B);
}
