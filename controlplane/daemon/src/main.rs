//! The `ain` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    ain_daemon::cli::main()
}
