//! What the `ain` binary is made of: configuration, secrets, durable state, the control thread and its windows to the outside.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod keygen;
pub mod neighbours;
pub mod secrets;
pub mod shared_interface;
pub mod shutdown;
pub mod state;
#[cfg(test)]
mod testnet;
