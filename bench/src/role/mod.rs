//! The roles of a node: what comes in, and what the bare primitives of that are.

pub mod intermediate;
