//! UDP header and the transport checksum.
#![no_main]

use ain_dataplane::wire::checksum::checksum;
use ain_dataplane::wire::udp::UdpHeader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|segment: &[u8]| {
    let _ = checksum(segment);
    if let Ok((header, payload)) = UdpHeader::parse(segment) {
        assert_eq!(usize::from(header.len.get()), 8 + payload.len());
        assert!(segment.len() >= 8 + payload.len());
    }
});
