//! Signals between neighbours (protocol sections 5 and 6): [`frame`] is the datagram they travel in, the other modules are what
//! it carries.

pub mod create;
pub mod created;
pub mod destroy;
pub mod ends;
pub mod frame;
pub mod keepalive;
pub mod onion;
pub mod part;
pub mod suite;
