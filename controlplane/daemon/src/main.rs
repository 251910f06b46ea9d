//! The `ain` binary.
fn main() {}
