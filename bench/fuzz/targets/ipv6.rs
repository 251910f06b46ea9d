//! IPv6 header, and the length that either family states.
#![no_main]

use ain_dataplane::wire::datagram_len;
use ain_dataplane::wire::ipv6::Ipv6;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let stated = datagram_len(bytes);
    if let Ok(parsed) = Ipv6::parse(bytes) {
        assert_eq!(stated, Ok(parsed.total_len()));
        assert!(parsed.total_len() <= bytes.len());
    }
});
