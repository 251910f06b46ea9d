//! Line 2: messages come out as they went in, and nothing else passes.

use std::net::{Ipv4Addr, Ipv6Addr};

use hex_literal::hex;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into()),
    ]
}

fn selector() -> impl Strategy<Value = Selector> {
    let ends = prop_oneof![
        any::<[u32; 2]>().prop_map(|bits| bits.map(|bits| IpAddr::from(Ipv4Addr::from(bits)))),
        any::<[u128; 2]>().prop_map(|bits| bits.map(|bits| IpAddr::from(Ipv6Addr::from(bits)))),
    ];
    (any::<u8>(), any::<(u16, u16)>(), ends).prop_map(|(protocol, ports, [one, other])| Selector {
        protocol,
        ports,
        first: one.min(other),
        last: one.max(other),
    })
}

fn flags() -> impl Strategy<Value = Flags> {
    any::<[bool; 3]>().prop_map(|[esn, udp, initiator]| Flags { esn, udp, initiator })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Esp), Just(Protocol::Ah)]
}

fn name() -> impl Strategy<Value = Name> {
    let direction = prop_oneof![Just(Direction::In), Just(Direction::Out)];
    (direction, protocol(), any::<u32>(), address(), address()).prop_map(
        |(direction, protocol, spi, source, destination)| Name {
            direction,
            protocol,
            spi,
            source,
            destination,
        },
    )
}

fn keyed() -> impl Strategy<Value = Keyed> {
    (any::<u16>(), vec(any::<u8>(), 0..=KEY_BYTES_MAX)).prop_map(|(id, key)| Keyed {
        id,
        key: KeyMaterial::new(key),
    })
}

fn limit() -> impl Strategy<Value = Limit> {
    any::<(u64, u64)>().prop_map(|(soft, hard)| Limit { soft, hard })
}

fn add() -> impl Strategy<Value = Add> {
    let mode = prop_oneof![
        Just(Mode::Transport),
        Just(Mode::Tunnel),
        (3..=255u8).prop_map(Mode::Other)
    ];
    let parts = (name(), keyed(), keyed(), flags(), mode);
    let limits = (any::<(u16, u32, u32)>(), limit(), limit(), limit());
    (parts, limits, vec(selector(), 0..10), vec(selector(), 0..10)).prop_map(
        |((name, encryption, integrity, flags, mode), (sizes, seconds, packets, bytes), source, destination)| Add {
            name,
            encryption,
            integrity,
            flags,
            mode,
            tfc: sizes.0,
            window: sizes.1,
            reqid: sizes.2,
            seconds,
            packets,
            bytes,
            source,
            destination,
        },
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    let direction = prop_oneof![
        Just(PolicyDirection::In),
        Just(PolicyDirection::Out),
        Just(PolicyDirection::Forward)
    ];
    (direction, any::<bool>(), selector(), selector(), any::<u32>()).prop_map(
        |(direction, is_added, source, destination, reqid)| Policy {
            direction,
            is_added,
            source,
            destination,
            reqid,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (any::<u64>(), vec(any::<char>(), 0..40)).prop_map(|(session, version)| Request::Hello {
            session,
            version: version.into_iter().collect()
        }),
        (protocol(), address(), address()).prop_map(|(protocol, source, destination)| Request::Spi {
            protocol,
            source,
            destination
        }),
        add().prop_map(|add| Request::Add(Box::new(add))),
        (name(), address(), address(), flags()).prop_map(|(name, source, destination, flags)| Request::Update {
            name,
            source,
            destination,
            flags
        }),
        name().prop_map(Request::Query),
        name().prop_map(Request::Delete),
        any::<()>().prop_map(|()| Request::Flush),
        policy().prop_map(Request::Policy),
    ]
}

proptest! {
    #[test]
    fn line_2_requests_come_out_as_they_went_in(request in request(), id in 1..=u32::MAX) {
        let bytes = request.encode(id);
        let (decoded_id, decoded) = decode(&bytes).unwrap();
        prop_assert_eq!(decoded_id, id);
        prop_assert_eq!(&decoded.encode(id)[..], &bytes[..]);
        prop_assert_eq!(format!("{decoded:?}"), format!("{request:?}"));
    }

    #[test]
    fn line_2_what_is_cut_short_or_goes_on_is_refused(request in request(), cut: prop::sample::Index, more: u8) {
        let mut bytes = request.encode(1).to_vec();
        let has_text = matches!(request, Request::Hello { .. });
        prop_assume!(!has_text);
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
        bytes.push(more);
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn line_2_no_packet_upsets_the_reader(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok((id, request)) = decode(&bytes) {
            prop_assert_eq!(&request.encode(id)[..], &bytes[..]);
        }
    }
}

const SPI_REQUEST: [u8; 43] = hex!(
    "01 02 0000 00000007" "33"
    "04 c0000201 000000000000000000000000"
    "06 20010db8 000000000000000000000002"
);

#[test]
fn line_2_bytes_are_as_the_page_has_them() {
    let (id, request) = decode(&SPI_REQUEST).unwrap();
    assert_eq!(id, 7);
    assert_eq!(&request.encode(7)[..], &SPI_REQUEST);
    assert_eq!(Reply::Spi(0x1234).encode(7)[..], hex!("01 80 0000 00000007 00001234"));
    assert_eq!(
        Reply::Refused("no".into()).encode(7)[..],
        hex!("01 81 0000 00000007 6e6f")
    );
    let expire = Reply::Expire {
        protocol: Protocol::Esp,
        spi: 0x1234,
        destination: "192.0.2.1".parse().unwrap(),
        hard: true,
    };
    assert_eq!(
        expire.encode(0)[..],
        hex!("01 82 0000 00000000 32 00001234 04 c0000201 000000000000000000000000 01")
    );
}

#[test]
fn line_2_errors_name_field_and_request() {
    let refused = |at: usize, byte: u8| {
        let mut bytes = SPI_REQUEST;
        bytes[at] = byte;
        let malformed = decode(&bytes).unwrap_err();
        (malformed.id, malformed.to_string())
    };
    assert_eq!(refused(0, 2), (7, "`version` is 2".into()));
    assert_eq!(refused(1, 9), (7, "`type` is 9".into()));
    assert_eq!(refused(3, 1), (7, "`zero` is 1".into()));
    assert_eq!(refused(7, 0), (0, "`id` is 0".into()));
    assert_eq!(refused(8, 49), (7, "`protocol` is 49".into()));
    assert_eq!(refused(9, 5), (7, "`source` is 5".into()));
    assert_eq!(
        refused(25, 1),
        (7, "`source` is 4".into()),
        "bytes behind an IPv4 address"
    );
    let short = decode(&SPI_REQUEST[..42]).unwrap_err();
    assert_eq!(short.to_string(), "the message ends before `destination` does");
    assert_eq!(decode(&[]).unwrap_err().id, 0);
}

#[test]
fn line_2_long_reasons_are_cut_at_a_character() {
    let reply = Reply::Refused("ä".repeat(4000)).encode(1);
    assert!(reply.len() <= MESSAGE_BYTES_MAX);
    assert!(std::str::from_utf8(&reply[HEADER_BYTES..]).is_ok());
}

#[test]
fn line_2_debug_shows_no_key() {
    let keyed = Keyed {
        id: 20,
        key: KeyMaterial::new(vec![0xab; 20]),
    };
    assert_eq!(format!("{keyed:?}"), "Keyed { id: 20, key: KeyMaterial(20 bytes) }");
}
