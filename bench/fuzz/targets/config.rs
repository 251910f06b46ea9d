//! Configuration files: a node's, a host's, the directory.
#![no_main]

use ain_daemon::config::check_any;
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

fuzz_target!(|text: &[u8]| {
    // A run has a folder of its own; keys that the file names are looked for there, in vain.
    let path = Path::new("fuzzed.toml");
    fs::write(path, text).expect("the folder of this run can be written");
    if let Err(problems) = check_any(path, UNIX_EPOCH + Duration::from_secs(1_800_000_000)) {
        assert!(problems.to_string().contains("fuzzed.toml"));
    }
});
