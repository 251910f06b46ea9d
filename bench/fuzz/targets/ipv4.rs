//! IPv4 header, and the edits of it in place.
#![no_main]

use ain_dataplane::wire::ipv4::{Ipv4, decrement_ttl, refresh_checksum};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Ipv4::parse(bytes);
    // Few random headers have a right checksum: give it to them.
    let mut datagram = bytes.to_vec();
    if refresh_checksum(&mut datagram).is_err() {
        return;
    }
    let Ok(parsed) = Ipv4::parse(&datagram) else { return };
    assert_eq!(parsed.header_len() + parsed.payload().len(), parsed.total_len());
    assert!(parsed.total_len() <= datagram.len());
    let ttl = parsed.ttl();
    if decrement_ttl(&mut datagram).is_ok() {
        assert_eq!(Ipv4::parse(&datagram).expect("the checksum moved along").ttl(), ttl - 1);
    }
});
