//! The control node: signals and time in, actions out. Pure: no clock, no socket, no thread.
#![forbid(unsafe_code)]

pub mod action;
pub mod config;
pub mod directory;
pub mod key_schedule;
pub mod limits;
pub mod path;
pub mod pvt;
pub mod replay;
pub mod signal;
pub mod spi;
pub mod table_writer;
