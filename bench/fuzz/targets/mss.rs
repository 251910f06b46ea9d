//! The maximum segment size in whatever claims to be a SYN, of either family.
#![no_main]

use ain_dataplane::mss::clamp;
use ain_dataplane::wire::ip::Ip;
use ain_dataplane::wire::ipv4::refresh_checksum;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut datagram = bytes.to_vec();
    if datagram.first().is_some_and(|first| first >> 4 == 4) {
        let _ = refresh_checksum(&mut datagram);
    }
    let before = datagram.clone();
    if clamp(&mut datagram, 1386) {
        assert!(!clamp(&mut datagram, 1386), "once is enough");
    } else {
        assert_eq!(datagram, before);
    }
    assert_eq!(Ip::parse(&datagram).is_ok(), Ip::parse(&before).is_ok());
});
