//! The packet path of an anonymous Internet node: bursts of packets in, verdicts out.
//!
//! Pure: no clock, no socket, no DPDK, no `unsafe`. Time is an argument, packets are [`packet::PacketBuf`]s, cryptography comes
//! through the batch traits of `ain-crypto`.
#![forbid(unsafe_code)]

pub mod aggfrag;
pub mod count;
pub mod fragment;
pub mod handoff;
pub mod icmp;
pub mod id;
pub mod limits;
pub mod mss;
pub mod packet;
pub mod publish;
pub mod rewrite;
pub mod sa;
mod sync;
pub mod table;
pub mod verdict;
pub mod wire;
