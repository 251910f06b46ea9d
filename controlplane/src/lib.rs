//! The control node: signals and time in, actions out. Pure: no clock, no socket, no thread.
//!
//! [`node::Node`] is the story; [`config`] and [`directory`] are what it is told, [`action`] what it tells, [`signal`] what it says
//! to its neighbours.
#![forbid(unsafe_code)]

pub mod action;
pub mod aivt;
pub mod associations;
pub mod benchmark;
pub mod by_aivt;
pub mod config;
pub mod count;
pub mod directory;
pub mod flow;
pub mod generation;
pub mod guard;
pub mod hand_made;
pub mod key_schedule;
pub mod lifetime;
pub mod limits;
pub mod node;
mod opening;
pub mod path;
pub mod penalty;
pub mod pvt;
pub mod replay;
pub mod request;
pub mod sa;
pub mod share;
pub mod signal;
pub mod spi;
pub mod table_writer;
pub mod ticket;
pub mod timers;
