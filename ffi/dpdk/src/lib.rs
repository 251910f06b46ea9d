//! DPDK for the node: bindings (private) and a safe layer of a few nouns over them.
//!
//! ```text
//!   Eal ── Handle ─┬─ Lcore            a thread's place in DPDK: mempool cache
//!                  ├─ Mempool ── Mbuf  packet buffers, owned one by one, freed on drop
//!                  └─ Port ── start ─┬─ RunningPort   stop
//!                       │            ├─ RxQueue ...   one owner each, rx_burst
//!                       │            └─ TxQueue ...   one owner each, tx_burst
//!                     Device           what a port is and counts; clone it for metrics
//! ```
//!
//! Whatever holds foreign memory alive is held by what uses it: queues keep their port running, ports, lcores and pools keep the
//! EAL. A buffer carries no such count, being the one thing made per packet; therefore pools stay until the EAL goes, and the EAL
//! goes only when every buffer is back (see [`eal::Eal`]).
//!
//! All `unsafe` of DPDK is in this crate. Drivers are plugins which the EAL loads at run time from the system's directory; any
//! PCI address (`-a`) or virtual device (`--vdev`) that DPDK knows passes through [`eal::Eal::init`].

pub mod eal;
pub mod errno;
pub mod info;
pub mod lcore;
pub mod mbuf;
pub mod mempool;
pub mod port;
pub mod queue;
pub mod spread;
pub mod stats;
mod sys;
