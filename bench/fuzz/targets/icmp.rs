//! ICMP header.
#![no_main]

use ain_dataplane::wire::icmp::IcmpHeader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    if let Ok((_, body)) = IcmpHeader::parse(message) {
        assert!(message.ends_with(body));
    }
});
