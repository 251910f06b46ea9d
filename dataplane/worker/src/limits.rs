//! Every limit of the shell in one place.

/// Times that a burst which the port does not take whole is offered again before the rest is dropped.
pub const TX_TRIES: usize = 32;
/// Bytes that the kernel queues for an `AF_PACKET` port.
pub const SOCKET_RECEIVE_BYTES: usize = 4 << 20;
/// Frames of other interfaces that may have slipped into an `AF_PACKET` socket before it was bound.
pub const FRAMES_BEFORE_BIND: usize = 1 << 16;
/// Buffers that a worker takes from a DPDK pool at once.
pub const POOL_STASH: usize = 32;
/// Longest sleep of an idle worker, microseconds: the latency that a lone packet may meet.
pub const MAX_SLEEP_US: u32 = 1000;
/// Nanoseconds by which a sleep may last longer than it should: the kernel's timer slack (50 us), the switch, and the guard before a slot.
pub const WAKE_UP_NS: u64 = 200_000;
/// Cores that Linux can number in one affinity mask.
pub const CORES: usize = 1024;
/// Commands that wait for a worker.
pub const COMMAND_RING: usize = 4096;
/// Frames of a worker without queues that wait for the one which sends them.
pub const GUEST_RING: usize = 4096;
/// Events that wait for the control thread, a worker.
pub const EVENT_RING: usize = 4096;
/// Frames that wait for the kernel, or for the port, a worker and port that the kernel does not share.
pub const KERNEL_RING: usize = 512;
/// Places of it that are left for neighbour discovery and IKE.
pub const KERNEL_RING_KEPT: usize = 128;
/// Milliseconds after which the thread of the taps looks at what workers left for it, when nothing came from the kernel.
pub const TAP_NAP_MS: u8 = 1;
/// Nanoseconds between two looks at what has waited too long for reassembly.
pub const TICK_NS: u64 = 10_000_000;
/// Nanoseconds for which a worker attends to slots alone, at most.
pub const SLOTS_AT_A_TIME_NS: u64 = 1_000_000;
