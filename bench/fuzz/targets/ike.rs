//! What charon's plugin says to the node.
#![no_main]

use ain_daemon::ike::message::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match decode(bytes) {
        Ok((id, request)) => assert_eq!(&request.encode(id)[..], bytes),
        Err(malformed) => assert!(!malformed.to_string().is_empty()),
    }
});
