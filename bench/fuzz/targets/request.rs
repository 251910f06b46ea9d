//! Requests of hosts to their AIN, and its answers.
#![no_main]

use ain_controlplane::request::{Answer, Close, open, wrap};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((ends, payload)) = open(bytes) {
        let answer = wrap(&ends, payload);
        assert_eq!(open(&answer).map(|(_, payload)| payload), Ok(payload));
    }
    if let Ok(close) = Close::parse(bytes) {
        assert_eq!(close.to_bytes(), bytes);
    }
    if let Ok(answer) = Answer::parse(bytes) {
        assert_eq!(&answer.to_bytes()[..], bytes);
    }
});
