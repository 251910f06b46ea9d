//! Keys made by IKE: charon, beside this process, hands associations over a unix socket.

pub mod message;
pub mod server;
