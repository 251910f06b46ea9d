//! Every limit of the packet path in one place.

/// Packets a burst holds at most.
pub const BURST: usize = 64;
/// Hops after the entrance, at most (protocol section 5).
pub const MAX_HOPS: usize = 5;
/// Datagrams that wait for one flow's AIVT (protocol section 7).
pub const WAITING_PER_FLOW: usize = 64;
