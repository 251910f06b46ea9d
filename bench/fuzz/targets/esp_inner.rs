//! What an authentic ESP text holds: datagram, padding, trailer.
#![no_main]

use ain_dataplane::wire::datagram_len;
use ain_dataplane::wire::esp::Inner;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Ok(Inner::Ipv4(datagram) | Inner::Ipv6(datagram)) = Inner::parse(text) {
        assert_eq!(datagram_len(datagram), Ok(datagram.len()));
        assert!(text.starts_with(datagram));
        assert!(datagram.len() + 2 <= text.len());
    }
});
