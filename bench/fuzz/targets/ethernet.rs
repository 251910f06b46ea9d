//! Ethernet header, and whether a frame is the kernel's.
#![no_main]

use ain_dataplane::stage::exception::Exception;
use ain_dataplane::wire::ethernet::EthernetHeader;
use ain_dataplane::wire::protocol::{AH, ESP};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    if let Ok((header, payload)) = EthernetHeader::parse(frame) {
        let mut again = frame.to_vec();
        header.write(&mut again).expect("the header was there");
        assert_eq!(again, frame);
        assert!(frame.ends_with(payload));
    }
    let is_ipsec = |ethertype: [u8; 2], at: usize| {
        frame.get(12..14) == Some(&ethertype[..]) && matches!(frame.get(at), Some(&(AH | ESP)))
    };
    assert!(Exception::of(frame).is_none() || !(is_ipsec([8, 0], 23) || is_ipsec([0x86, 0xdd], 20)));
});
