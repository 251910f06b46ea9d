//! The same of IPv6.

use super::*;

/// An IPv6 datagram with `segment`, whose checksum lies at `sum_at`.
fn datagram_v6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, mut segment: Vec<u8>, sum_at: usize) -> Vec<u8> {
    segment[sum_at..sum_at + 2].fill(0);
    let sum = transport_ipv6(source, destination, next, &segment);
    segment[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = vec![0x60, 0, 0, 0, 0, segment.len() as u8, next, 64];
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(segment);
    bytes
}

fn ends_v6(bytes: &[u8]) -> (Ipv6Addr, Ipv6Addr, u16, u16) {
    let ip = Ipv6::parse(bytes).unwrap();
    assert_eq!(
        transport_ipv6(ip.source(), ip.destination(), ip.next_header(), ip.payload()),
        0
    );
    let found = locate(bytes).unwrap();
    (ip.source(), ip.destination(), found.source, found.destination)
}

#[test]
fn line_9_ipv6_there_and_back_and_errors() {
    let address = |text: &str| -> Ipv6Addr { text.parse().unwrap() };
    let [inner, server, router] = ["fd00::7", "2620:fe::fe", "2a00::1"].map(address);
    let udp = |from, to, ports: [u16; 2]| {
        let segment = [ports[0], ports[1], 11, 0].map(u16::to_be_bytes).concat();
        datagram_v6(from, to, 17, [&segment[..], b"abc"].concat(), 6)
    };
    let echo = |from, to, kind: u8, identifier: u16| {
        let identifier = identifier.to_be_bytes();
        datagram_v6(
            from,
            to,
            58,
            [&[kind, 0, 0, 0][..], &identifier, &[0, 1, 9]].concat(),
            2,
        )
    };
    let mut nat = nat();
    let pair = Pair {
        source: inner.into(),
        destination: server.into(),
    };
    assert_eq!(begin(&mut nat, 1, pair), Some(FIRST));
    for (question, back) in [
        (udp(inner, server, [5000, 53]), (53, 5000)),
        (echo(inner, server, 128, 77), (77, 77)),
    ] {
        let mut sent = question.clone();
        nat.outbound(Now(1), FIRST, &mut sent).unwrap();
        let (shown, to, port, _) = ends_v6(&sent);
        assert_eq!((shown, to), (address("2001:db8::64"), server));
        let mut answer = match back.0 {
            53 => udp(server, shown, [53, port]),
            _ => echo(server, shown, 129, port),
        };
        assert_eq!(nat.inbound(Now(2), &mut answer), Ok(1));
        assert_eq!(ends_v6(&answer), (server, inner, back.0, back.1));

        let about = |datagram: &[u8], from: Ipv6Addr| {
            let mut bytes = [0; icmp::MAX_ERROR];
            let datagram = Ip::parse(datagram).unwrap();
            let len = icmp::error(Problem::TooBig(1280), &datagram, from.into(), &mut bytes).unwrap();
            bytes[..len].to_vec()
        };
        let mut error = about(&sent, router);
        assert_eq!(nat.owner(&error), Some(WorkerId(0)));
        assert_eq!(nat.inbound(Now(3), &mut error), Ok(1));
        assert_eq!(error, about(&question, server), "as if about the original");
    }
    let mut fragment = udp(inner, server, [5000, 53]);
    fragment[6] = 43;
    assert_eq!(
        nat.outbound(Now(1), FIRST, &mut fragment),
        Err(DropReason::OpenExitPolicy),
        "a routing header"
    );
    let mut redirect = echo(server, address("2001:db8::64"), 137, 1);
    assert!(nat.inbound(Now(1), &mut redirect).is_err());
}
