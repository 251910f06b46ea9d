//! Errors about datagrams of all kinds.
#![no_main]

use ain_dataplane::icmp::{MAX_ERROR, Problem, error, may_report};
use ain_dataplane::wire::ipv4::{Ipv4, refresh_checksum};
use libfuzzer_sys::fuzz_target;
use std::net::Ipv4Addr;

fuzz_target!(|bytes: &[u8]| {
    let mut datagram = bytes.to_vec();
    let _ = refresh_checksum(&mut datagram);
    let Ok(parsed) = Ipv4::parse(&datagram) else { return };
    let mut out = [0; MAX_ERROR];
    let written = error(Problem::TtlExceeded, &parsed, Ipv4Addr::new(192, 0, 2, 1), &mut out);
    assert_eq!(written.is_some(), may_report(&parsed));
    if let Some(len) = written {
        let answer = Ipv4::parse(&out[..len]).expect("an error is a datagram");
        assert_eq!(answer.destination(), parsed.source());
        assert!(!may_report(&answer), "no error about an error");
    }
});
