//! Another address in a datagram of either family, in what it carries and in what it quotes.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ain_dataplane::rewrite;
use ain_dataplane::wire::ip::Ip;
use ain_dataplane::wire::ipv4::refresh_checksum;
use libfuzzer_sys::fuzz_target;

const NEW: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
    IpAddr::V6(Ipv6Addr::new(0xfd01, 0x203, 0x405, 6, 7, 8, 9, 10)),
];

fuzz_target!(|bytes: &[u8]| {
    let mut datagram = bytes.to_vec();
    if datagram.first().is_some_and(|first| first >> 4 == 4) {
        let _ = refresh_checksum(&mut datagram);
    }
    for new in NEW {
        let before = datagram.clone();
        match rewrite::source(&mut datagram, new) {
            Err(_) => assert_eq!(datagram, before),
            Ok(()) => {
                let old = Ip::parse(&before).expect("no other is rewritten");
                let parsed = Ip::parse(&datagram).expect("its checksum moved along");
                assert_eq!((parsed.source(), parsed.destination()), (new, old.destination()));
            }
        }
        let _ = rewrite::destination(&mut datagram, new);
    }
});
