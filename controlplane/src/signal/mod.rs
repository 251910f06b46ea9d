//! Signals between neighbours (protocol sections 5 and 6).

pub mod suite;
