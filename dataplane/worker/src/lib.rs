//! The shell round the packet path: pinned poll-mode workers on real ports.
//!
//! ```text
//!            ┌──────────────── worker, pinned ────────────────┐
//!   Port::rx │ burst ─► packet path (ain-dataplane) ─► bursts  │ Port::tx
//!            └── nothing to do: Idle says poll, pause or sleep ┘
//!
//!   Port:  dpdk (NICs, virtual devices)   af_packet, tun (no DPDK)   mem (tests)
//! ```
//!
//! A port has one worker, or the worker one queue pair of it: nothing here locks.

pub mod af_packet;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod fd_port;
pub mod idle;
pub mod kernel;
pub mod limits;
pub mod mem;
pub mod pin;
pub mod port;
pub mod run;
pub mod share;
pub mod tun;
pub mod vec_buf;
