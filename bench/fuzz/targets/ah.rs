//! AH: header, ICV field, and the mutable fields of the IPv4 header before it.
#![no_main]

use ain_crypto::MacAlgorithm;

use ain_dataplane::wire::ah::{Ah, Family, mask_mutable_ipv4, put_icv, take_icv};
use ain_dataplane::wire::ipv4::Ipv4;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| {
    let _ = Ah::parse(packet);
    if packet.is_empty() {
        return;
    }
    let (header, payload) = packet.split_at(packet.len().min(usize::from(packet[0] & 15) * 4));
    let mut masked = header.to_vec();
    if mask_mutable_ipv4(&mut masked).is_ok() {
        let once = masked.clone();
        // Masking does not change a header that is masked already, unless a source route has moved its last hop.
        if header.len() == 20 {
            mask_mutable_ipv4(&mut masked).expect("it was masked once");
            assert_eq!(masked, once);
        }
    }
    let _ = Ipv4::parse(packet);

    let Ok(ah) = Ah::parse(payload) else { return };
    assert_eq!(ah.len() + ah.payload().len(), payload.len());
    for algorithm in [
        MacAlgorithm::HmacSha256_128,
        MacAlgorithm::Aes128Gmac,
        MacAlgorithm::AesCmac96,
    ] {
        for family in [Family::V4, Family::V6] {
            let Ok(layout) = ah.layout(algorithm, family) else {
                continue;
            };
            let mut copy = payload.to_vec();
            let icv = take_icv(&mut copy, layout).expect("the layout fits");
            put_icv(&mut copy, layout, &icv).expect("the layout fits");
            assert_eq!(copy, payload);
        }
    }
});
