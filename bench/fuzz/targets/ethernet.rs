//! Ethernet header.
#![no_main]

use ain_dataplane::wire::ethernet::EthernetHeader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    if let Ok((header, payload)) = EthernetHeader::parse(frame) {
        let mut again = frame.to_vec();
        header.write(&mut again).expect("the header was there");
        assert_eq!(again, frame);
        assert!(frame.ends_with(payload));
    }
});
