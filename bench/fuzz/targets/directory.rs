//! The directory file: what is read and written again says the same.
#![no_main]

use std::path::Path;

use ain_controlplane::directory::SignedEntry;
use ain_daemon::config::entry::{neighbour_names, signed};
use ain_daemon::config::{parse_directory, parse_drafts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let path = Path::new("fuzzed.toml");
    if let Ok(directory) = parse_directory(path, text) {
        assert!(!directory.entries().is_empty());
    }
    let Ok(drafts) = parse_drafts(path, text) else { return };
    // Text has numbers up to 2^63, and a draft without times has none to write.
    if drafts.iter().any(|entry| i64::try_from(entry.valid_until).is_err()) {
        return;
    }
    let sections = drafts.iter().map(|entry| {
        let unsigned = SignedEntry::unverified(entry.clone(), [7; 64]);
        signed(&unsigned, &neighbour_names(entry, &drafts))
    });
    let again = parse_drafts(path, &sections.collect::<String>()).expect("what was written can be read");
    for (before, after) in drafts.iter().zip(&again) {
        assert_eq!(before.canonical_bytes(), after.canonical_bytes());
    }
});
