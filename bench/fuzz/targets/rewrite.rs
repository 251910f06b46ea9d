//! Another address in a datagram, in what it carries and in what it quotes.
#![no_main]

use ain_dataplane::rewrite;
use ain_dataplane::wire::ipv4::{Ipv4, refresh_checksum};
use libfuzzer_sys::fuzz_target;
use std::net::Ipv4Addr;

const NEW: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);

fuzz_target!(|bytes: &[u8]| {
    let mut datagram = bytes.to_vec();
    let _ = refresh_checksum(&mut datagram);
    let before = datagram.clone();
    let right = Ipv4::parse(&before).is_ok();
    match rewrite::source(&mut datagram, NEW) {
        Err(_) => assert_eq!(datagram, before),
        Ok(()) if right => {
            let parsed = Ipv4::parse(&datagram).expect("its checksum moved along");
            assert_eq!(parsed.source(), NEW);
            assert_eq!(
                parsed.destination(),
                Ipv4::parse(&before).expect("parsed above").destination()
            );
        }
        Ok(()) => {}
    }
    let _ = rewrite::destination(&mut datagram, NEW);
});
