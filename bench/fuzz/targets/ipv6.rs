//! IPv6 header, the extension headers behind it, and the length that either family states.
#![no_main]

use ain_dataplane::wire::datagram_len;
use ain_dataplane::wire::extension::Extensions;
use ain_dataplane::wire::ipv6::{Ipv6, decrement_hop_limit};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let quoted = Extensions::of_quoted(bytes).map(Extensions::upper);
    let Ok(parsed) = Ipv6::parse(bytes) else { return };
    assert_eq!(datagram_len(bytes), Ok(parsed.total_len()));
    assert!(parsed.total_len() <= bytes.len());
    let mut at = parsed.total_len() - parsed.payload().len();
    for extension in parsed.extensions().map_while(Result::ok) {
        assert_eq!(extension.at, at);
        assert!(parsed.bytes()[at..].starts_with(extension.bytes));
        at += extension.bytes.len();
    }
    if let Ok(upper) = parsed.extensions().upper() {
        assert_eq!(upper.at, at);
        assert_eq!(quoted, Some(Ok(upper)), "what follows changes nothing");
    }
    let mut datagram = bytes.to_vec();
    if let Ok(left) = decrement_hop_limit(&mut datagram) {
        assert_eq!(left, parsed.hop_limit() - 1);
        assert_eq!(Ipv6::parse(&datagram).expect("nothing else changed").hop_limit(), left);
    }
});
