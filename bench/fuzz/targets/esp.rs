//! ESP as it comes on the wire.
#![no_main]

use ain_dataplane::wire::esp::Esp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    if let Ok(esp) = Esp::parse(payload) {
        assert_eq!(16 + esp.text().len() + 16, payload.len());
        assert!(payload.ends_with(esp.icv()));
    }
});
