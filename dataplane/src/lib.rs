//! The packet path of an anonymous Internet node: bursts of packets in, verdicts out.
//!
//! Pure: no clock, no socket, no DPDK, no `unsafe`. Time is an argument, packets are [`packet::PacketBuf`]s, cryptography comes
//! through the batch traits of `ain-crypto`.
#![forbid(unsafe_code)]

pub mod aggfrag;
pub mod allowance;
pub mod command;
pub mod count;
pub mod engine;
pub mod entry;
pub mod fair;
pub mod flow;
pub mod fragment;
pub mod handoff;
pub mod icmp;
pub mod id;
pub mod key;
pub mod limits;
pub mod mss;
pub mod nat;
pub mod outside;
pub mod packet;
pub mod peers;
pub mod per_second;
pub mod pipeline;
pub mod publish;
pub mod refused;
pub mod reserve;
pub mod rewrite;
pub mod sa;
pub mod slab;
pub mod stage;
mod sync;
pub mod table;
pub mod tunnel;
pub mod usage;
pub mod verdict;
pub mod waiting;
pub mod wire;
