//! A cell whose onion layers are off.
#![no_main]

use ain_dataplane::aggfrag::{Content, open};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = open(bytes);
    // Few random cells have their redundancy at zero: give it to them.
    let mut cell = bytes.to_vec();
    if let Some(redundancy) = cell.get_mut(8..20) {
        redundancy.fill(0);
    }
    if let Ok(opened) = open(&cell)
        && let Content::Data(blocks) = opened.content
    {
        assert_eq!(blocks.bytes.len() + 24, cell.len());
    }
});
