//! Errors about datagrams of all kinds and both families.
#![no_main]

use ain_dataplane::icmp::{MAX_ERROR, Problem, error, may_report, opening, prohibited};
use ain_dataplane::wire::ip::Ip;
use ain_dataplane::wire::ipv4::refresh_checksum;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut datagram = bytes.to_vec();
    if datagram.first().is_some_and(|first| first >> 4 == 4) {
        let _ = refresh_checksum(&mut datagram);
    }
    let Ok(parsed) = Ip::parse(&datagram) else { return };
    let from = parsed.destination();
    let mut out = [0; MAX_ERROR];
    let written = error(Problem::TtlExceeded, &parsed, from, &mut out);
    assert_eq!(written.is_some(), may_report(&parsed));
    if let Some(len) = written {
        let answer = Ip::parse(&out[..len]).expect("an error is a datagram");
        assert_eq!((answer.source(), answer.destination()), (from, parsed.source()));
        assert!(!may_report(&answer), "no error about an error");
    }
    let quoted = opening(&datagram);
    assert_eq!(quoted.is_empty(), written.is_none());
    assert_eq!(
        prohibited(&quoted, (from, parsed.source()), &mut out).is_none(),
        quoted.is_empty()
    );
});
