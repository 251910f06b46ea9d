//! Cutting a datagram, whatever its header and options.
#![no_main]

use ain_dataplane::fragment::fragments;
use ain_dataplane::wire::ipv4::{Ipv4, refresh_checksum};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, Vec<u8>)| {
    let (mtu, mut bytes) = input;
    let mtu = usize::from(mtu % 600);
    let _ = refresh_checksum(&mut bytes);
    let Ok(datagram) = Ipv4::parse(&bytes) else { return };
    let Ok(pieces) = fragments(&datagram, mtu) else { return };
    let mut payload = Vec::new();
    let mut at = datagram.fragment_offset();
    for piece in pieces {
        let mut out = vec![0; piece.total_len()];
        piece.write(&mut out);
        assert!(out.len() <= mtu);
        let parsed = Ipv4::parse(&out).expect("a fragment is a datagram");
        assert_eq!(parsed.fragment_offset(), at);
        at += parsed.payload().len();
        payload.extend_from_slice(parsed.payload());
    }
    assert_eq!(payload, datagram.payload());
});
