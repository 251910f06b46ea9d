//! `ain-bench`: the measurements of `make bench`, all or one by one.

mod cli;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    cli::Cli::parse().run()
}
