//! What a packet costs a node, beside the bare primitives over the same bytes in the same run.
//!
//! ```text
//!   forge ──► a chunk of frames ──┬─► site: one node's packet path ──► path cycles  ──┐
//!   (not measured)                └─► floor: MACs, layers, AEADs alone ─► floor cycles ─┴─► efficiency = floor / path
//!                                       the two take turns, chunk by chunk
//! ```
//! A [`site`] is a real engine filled by the real table writer; [`forge`] makes packets that pass all of its checks; [`role`] says what
//! each role's packets look like and what its floor is; [`turns`] lets the two sides take turns; [`suite`] has the
//! tables.

pub mod adversary;
pub mod backend;
pub mod capture;
pub mod clock;
pub mod control;
pub mod differential;
pub mod floor;
pub mod forge;
pub mod goals;
pub mod live;
pub mod machine;
pub mod memory;
pub mod pcap;
pub mod plot;
pub mod role;
pub mod shape;
pub mod site;
pub mod stats;
pub mod suite;
pub mod summary;
pub mod turns;
