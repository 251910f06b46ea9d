//! `ain-bench`: the measurements of `make bench`, all or one by one.

mod cli;

use clap::Parser;

/// Bytes that the tables and keys of a million AIVTs take, and some.
const TABLES: usize = 4 << 30;

fn main() -> anyhow::Result<()> {
    // As a node has them unless configured otherwise.
    if let Err(error) = hugepages::place(TABLES, hugepages::Kind::Transparent) {
        eprintln!("tables and keys are in ordinary pages: {error}");
    }
    cli::Cli::parse().run()
}
