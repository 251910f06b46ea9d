//! What the `ain` binary is made of: configuration, secrets, durable state, the control thread and its windows to the outside.

#![forbid(unsafe_code)]

pub mod admin;
pub mod benchmark;
pub mod cli;
pub mod config;
pub mod control_thread;
pub mod crypto;
#[cfg(feature = "test-dump")]
mod dump;
pub mod durable;
pub mod endpoint;
pub mod files;
pub mod guards;
pub mod hand_made;
pub mod hardware;
pub mod host_config;
pub mod ike;
pub mod ike_config;
pub mod interface;
pub mod keygen;
pub mod listen;
pub mod metrics;
pub mod neighbours;
pub mod node_report;
pub mod onion_key;
pub mod onion_store;
pub mod openers;
pub mod rates;
pub mod reload;
pub mod report;
pub mod room;
pub mod run;
pub mod secrets;
pub mod shared_interface;
pub mod shutdown;
pub mod state;
pub mod team;
#[cfg(test)]
mod testnet;
pub mod ticket_log;
pub mod tickets;
pub mod translate;
pub mod upkeep;
