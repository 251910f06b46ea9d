//! What stands between an IPv6 header and its AH: where the AH begins, and what of it all the ICV covers.
#![no_main]

use ain_dataplane::wire::ah::{Ah, mask_mutable_ipv6, offset_ipv6};
use ain_dataplane::wire::ipv6::{HEADER_LEN, Ipv6};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| {
    let _ = mask_mutable_ipv6(&mut packet.to_vec());
    let Ok(ip) = Ipv6::parse(packet) else { return };
    let Ok(at) = offset_ipv6(&ip) else { return };
    assert!((HEADER_LEN..=ip.total_len()).contains(&at));
    let (headers, payload) = packet.split_at(at);
    let _ = Ah::parse(payload);

    let mut masked = headers.to_vec();
    if mask_mutable_ipv6(&mut masked).is_ok() {
        // Next headers, lengths, option types and addresses stay, so that the masked packet is walked as the packet was.
        let again = [&masked, payload].concat();
        let walked = Ipv6::parse(&again).expect("its length has not changed");
        assert_eq!(offset_ipv6(&walked), Ok(at));
        let once = masked.clone();
        mask_mutable_ipv6(&mut masked).expect("it was masked once");
        assert_eq!(masked, once);
    }
});
