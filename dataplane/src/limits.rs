//! Every limit of the packet path in one place.

use std::num::NonZeroU64;

use crate::allowance::Allowance;

const fn allowance(per_s: u64, burst: u64) -> Allowance {
    Allowance {
        per_s: NonZeroU64::new(per_s).expect("not zero"),
        burst,
    }
}

/// Packets a burst holds at most.
pub const BURST: usize = 64;
/// Hops after the entrance, at most (protocol section 5).
pub const MAX_HOPS: usize = 5;
/// Datagrams that wait for one flow's AIVT (protocol section 7).
pub const WAITING_PER_FLOW: usize = 64;
/// Extension headers between an outer IPv6 header and its AH.
pub const OUTER_EXTENSIONS: usize = 4;
/// Cells that a piece of a datagram waits for its rest (protocol section 4). The unpacker's maps have a bit for each.
pub const EDGE_CELLS: u32 = 64;
/// Nanoseconds that a piece of a datagram waits for its rest (protocol section 4).
pub const EDGE_WAIT_NS: u64 = 100_000_000;
/// Pieces of datagrams that wait in one worker. With standard cells 5.4 MiB.
pub const EDGES: usize = 4096;
/// Extension headers of one IPv6 datagram that are looked through (RFC 8200 section 4.1 knows seven).
pub const EXTENSION_HEADERS: usize = 8;
/// Buckets of the flow table that one key may lead through, its home included.
pub const TABLE_PROBES: usize = 32;
/// Datagrams that wait in one worker, for AIVTs and bindings together.
pub const WAITING: usize = 1024;
/// Datagrams a second that may come through AIVTs to this node itself, for the control thread, a worker.
pub const FOR_OWN_PER_SECOND: u32 = 256;
/// Datagrams a second that the other end of a host tunnel may send to this end itself, for the control thread.
pub const FOR_NODE_PER_SECOND: u32 = 64;
/// Flows that an initiator may begin in a second, and at once, unless configured: far more than users do, far less than keeps the
/// control thread from others.
pub const FLOWS_PER_SECOND_OF_AN_INITIATOR: u32 = 1000;
/// Flows that one worker remembers as refused.
pub const REFUSED_PLACES: usize = 1024;
/// Nanoseconds for which a refused flow stays refused without another question.
pub const REFUSED_NS: u64 = 1_000_000_000;
/// Datagrams that wait for slots of one host tunnel with a rate: of all its flows together.
pub const RATE_DATAGRAMS: usize = 512;
/// Cells that wait for slots of one PVT with a rate.
pub const RATE_CELLS: u32 = 512;
/// Cells of one TVT that wait for slots.
pub const RATE_CELLS_OF_A_TVT: usize = 64;
/// Signals that wait for slots of one PVT.
pub const RATE_SIGNALS: usize = 256;
/// Nanoseconds before a slot in which its worker begins nothing else, at most: what a burst may take.
pub const SLOT_GUARD_NS: u64 = 100_000;
/// The same as a share of the time: one part in so many, all tunnels of a worker together.
pub const SLOT_GUARD_SHARE: u64 = 4;
/// A packet leaves within the first of so many parts of its slot.
pub const DITHER_SHARE: u64 = 16;
/// ARP and neighbour discovery that a worker gives to the kernel from one port: far more than a link has, a thousandth of a core.
pub const EXCEPTIONS_NEIGHBOUR: Allowance = allowance(1000, 128);
/// IKE that a worker gives to the kernel from one port.
pub const EXCEPTIONS_IKE: Allowance = allowance(2000, 128);
/// Everything else that a worker gives to the kernel from one port: 120 Mbit/s of a copy over SSH, a hundredth of a core.
pub const EXCEPTIONS_OTHER: Allowance = allowance(10_000, 256);
/// What the kernel may send from one port.
pub const EXCEPTIONS_OUT: Allowance = allowance(20_000, 256);
/// AH key schedules: two for each key generation of a peer that an association or a TVT still uses.
pub const KEY_SLOTS: usize = 16_384;
/// Associations of one tunnel, direction and protocol: the newest, and older ones, which packets under way were made for, and which are
/// there when the newest goes.
pub const SAS_OF_A_KIND: usize = 4;
/// Packets and datagrams that wait between two workers.
pub const HANDOFF_RING: usize = 4096;
/// External ports that an open exit draws for a mapping, and as many more that it tries in order.
pub const NAT_DRAWS: u32 = 64;
/// Kept sessions that are looked at for one whose ports a new mapping could have.
pub const NAT_KEPT_LOOKED_AT: usize = 64;
/// Mappings that are looked at in a tick for having timed out: with a hundred ticks a second, a million in 80 s.
pub const NAT_PLACES_A_TICK: usize = 128;
/// Nanoseconds for which an open exit keeps the mappings of an AIVT that ended for the one that is built in its place: as long as an
/// entrance tries.
pub const NAT_KEPT_NS: u64 = 60_000_000_000;
/// Datagrams of each direction of an open exit's worker whose later fragments follow the first.
pub const NAT_FRAGMENTED: usize = 1024;
/// Nanoseconds for which they do (RFC 791 section 3.2: as long as hosts wait for them).
pub const NAT_FRAGMENTED_NS: u64 = 15_000_000_000;
/// Nanoseconds that a fragment waits for the first of its datagram, [`BURST`] of them of each direction in a worker.
pub const NAT_EARLY_NS: u64 = 1_000_000_000;
/// Questions for the link-layer address of an open exit's addresses that a worker answers a second.
pub const NEIGHBOUR_ANSWERS_PER_S: u32 = 100;
