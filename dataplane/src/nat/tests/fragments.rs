//! Fragments (RFC 4787 REQ-14): in order, out of order, over several workers, of both families.

use super::*;
use crate::fragment::{Fragment, fragments};
use crate::limits::{BURST, NAT_EARLY_NS, NAT_FRAGMENTED, NAT_FRAGMENTED_NS};
use crate::nat::fragments::{Early, Piece, Towards};
use crate::wire::extension::FRAGMENT;
use crate::wire::ipv6;

/// A UDP datagram of 3000 bytes of data in fragments of 576 bytes.
fn in_pieces(source: Ipv4Addr, destination: Ipv4Addr, ports: (u16, u16)) -> Vec<Vec<u8>> {
    let mut segment = [ports.0, ports.1, 3008, 0].map(u16::to_be_bytes).concat();
    segment.extend((0..3000u16).map(|at| at as u8));
    let mut whole = datagram(source, destination, 17, segment);
    whole[4..8].copy_from_slice(&[0xca, 0xfe, 0, 0]); // DF off
    ipv4::refresh_checksum(&mut whole).unwrap();
    let written = |piece: Fragment<'_>| {
        let mut bytes = vec![0; piece.total_len()];
        piece.write(&mut bytes);
        bytes
    };
    let whole = Ipv4::parse(&whole).unwrap();
    fragments(&whole, 576).unwrap().map(written).collect()
}

/// What a host makes of fragments that come in order: the ends of a datagram whose checksum is right.
fn put_together(pieces: &[Vec<u8>]) -> (Ipv4Addr, Ipv4Addr, u16, u16) {
    let parsed: Vec<_> = pieces.iter().map(|piece| Ipv4::parse(piece).unwrap()).collect();
    let first = parsed[0];
    let mut segment = Vec::new();
    for ip in &parsed {
        assert_eq!((ip.id(), ip.fragment_offset()), (first.id(), segment.len()));
        segment.extend(ip.payload());
    }
    assert_eq!(
        transport_ipv4(first.source(), first.destination(), 17, &segment),
        0,
        "checksum"
    );
    let port = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
    (first.source(), first.destination(), port(0), port(2))
}

fn outbound(nat: &mut Nat, now: Now, bytes: &mut [u8]) -> Result<(), DropReason> {
    let piece = Piece::of(bytes).expect("a fragment");
    nat.outbound_piece(now, FIRST, piece, bytes)
}

fn inbound(nat: &mut Nat, now: Now, bytes: &mut [u8]) -> Result<Towards, DropReason> {
    let piece = Piece::of(bytes).expect("a fragment");
    nat.inbound_piece(now, piece, bytes)
}

#[test]
fn line_9_fragments_follow_the_first_there_and_back() {
    let mut nat = nat();
    begin(&mut nat, 1, pair(INNER));
    let mut sent = in_pieces(INNER, SERVER, (5000, 53));
    assert!(sent.len() > 5);
    let (first, later) = sent.split_first_mut().unwrap();
    let before = later[0].clone();
    assert_eq!(
        outbound(&mut nat, Now(1), &mut later[0]),
        Err(DropReason::OpenExitFragment)
    );
    assert_eq!(later[0], before, "unchanged, to wait");
    outbound(&mut nat, Now(1), first).unwrap();
    for piece in later.iter_mut().rev() {
        outbound(&mut nat, Now(1), piece).unwrap();
    }
    let (address, to, port, service) = put_together(&sent);
    assert_eq!((to, service), (SERVER, 53));
    assert_ne!(
        Ipv4::parse(&sent[0]).unwrap().id(),
        0xcafe,
        "the identification is the exit's"
    );

    let mut back = in_pieces(SERVER, address, (53, port));
    for piece in &mut back {
        assert_eq!(inbound(&mut nat, Now(2), piece), Ok(Towards::Flow(1)));
    }
    assert_eq!(put_together(&back), (SERVER, INNER, 53, 5000));
    let late = Now(2).plus(NAT_FRAGMENTED_NS);
    let mut again = in_pieces(SERVER, address, (53, port)).pop().unwrap();
    assert_eq!(inbound(&mut nat, late, &mut again), Err(DropReason::OpenExitFragment));
}

#[test]
fn line_9_fragments_of_strangers_lead_nobody() {
    let mut nat = nat();
    begin(&mut nat, 1, pair(INNER));
    let (address, port) = out(&mut nat, Now(1), udp(INNER, SERVER, (5000, 53))).unwrap();
    let mut stranger = in_pieces(ROUTER, address, (53, port));
    assert_eq!(
        inbound(&mut nat, Now(2), &mut stranger[0]),
        Err(DropReason::OpenExitUnsolicited)
    );
    assert_eq!(
        inbound(&mut nat, Now(2), &mut stranger[1]),
        Err(DropReason::OpenExitFragment)
    );
    // The policy is the first fragment's business, and the others share its fate.
    let mut mail = in_pieces(INNER, SERVER, (5000, 25));
    assert_eq!(
        outbound(&mut nat, Now(2), &mut mail[0]),
        Err(DropReason::OpenExitPolicy)
    );
    assert_eq!(
        outbound(&mut nat, Now(2), &mut mail[1]),
        Err(DropReason::OpenExitFragment)
    );
}

/// A stranger's first fragments, which may be another worker's, are noted unseen.
#[test]
fn line_9_fragments_of_strangers_push_out_none_of_an_aivts() {
    let mut nat = nat_of(0, settings(2));
    begin(&mut nat, 1, pair(INNER));
    let mut sent = in_pieces(INNER, SERVER, (5000, 53));
    outbound(&mut nat, Now(1), &mut sent[0]).unwrap();
    let theirs = |port: &u16| nat.settings().pool.owner(*port) == Some(WorkerId(1));
    let port = (2000..).find(theirs).unwrap();
    let mut stranger = in_pieces(ROUTER, Ipv4Addr::new(203, 0, 113, 64), (53, port)).remove(0);
    for identification in 0..=NAT_FRAGMENTED as u16 {
        stranger[4..6].copy_from_slice(&identification.to_be_bytes());
        ipv4::refresh_checksum(&mut stranger).unwrap();
        let towards = inbound(&mut nat, Now(1), &mut stranger);
        assert_eq!(towards, Ok(Towards::Worker(WorkerId(1))));
    }
    assert_eq!(outbound(&mut nat, Now(2), &mut sent[1]), Ok(()));
}

#[test]
fn line_9_later_fragments_do_not_reach_who_has_the_sessions_number_next() {
    let mut nat = nat();
    begin(&mut nat, 1, pair(INNER));
    let (address, port) = out(&mut nat, Now(1), udp(INNER, SERVER, (5000, 53))).unwrap();
    let mut back = in_pieces(SERVER, address, (53, port));
    assert_eq!(inbound(&mut nat, Now(2), &mut back[0]), Ok(Towards::Flow(1)));
    nat.end(Now(2), 1);
    nat.release_oldest(Now(2));
    let other = pair(Ipv4Addr::new(10, 9, 9, 9));
    assert_eq!(begin(&mut nat, 2, other), Some(FIRST), "the same number");
    assert_eq!(inbound(&mut nat, Now(3), &mut back[1]), Err(DropReason::Gone));
}

/// Whichever worker hears a fragment, all of a datagram meet at one, which knows after the first whose they are.
#[test]
fn line_9_fragments_meet_at_one_worker_and_go_to_their_owner() {
    let mut nats = [0, 1, 2].map(|me| nat_of(me, settings(3)));
    let mut gatherers = BTreeSet::new();
    for port in 5000..5020 {
        begin(&mut nats[1], 1, pair(INNER));
        let (address, shown) = out(&mut nats[1], Now(1), udp(INNER, SERVER, (port, 53))).unwrap();
        let mut pieces = in_pieces(SERVER, address, (53, shown));
        for piece in &mut pieces {
            piece[4..6].copy_from_slice(&port.to_be_bytes());
            ipv4::refresh_checksum(piece).unwrap();
        }
        let owners: BTreeSet<_> = pieces
            .iter()
            .flat_map(|piece| nats.iter().map(|nat| nat.owner(piece)))
            .collect();
        let [Some(gatherer)] = owners.into_iter().collect::<Vec<_>>()[..] else {
            panic!("one for all")
        };
        gatherers.insert(gatherer);
        for piece in &mut pieces {
            let towards = inbound(&mut nats[usize::from(gatherer.0)], Now(2), piece).unwrap();
            if gatherer != WorkerId(1) {
                assert_eq!(towards, Towards::Worker(WorkerId(1)));
                assert_eq!(inbound(&mut nats[1], Now(2), piece), Ok(Towards::Flow(1)));
            }
        }
        assert_eq!(put_together(&pieces), (SERVER, INNER, 53, port));
    }
    assert_eq!(gatherers.len(), 3, "they share the work");
}

#[test]
fn line_9_fragments_of_ipv6_follow_the_first() {
    let [inner, server]: [Ipv6Addr; 2] = ["fd00::3", "2620:fe::fe"].map(|one| one.parse().unwrap());
    let mut nat = nat();
    let pair = Pair {
        source: inner.into(),
        destination: server.into(),
    };
    begin(&mut nat, 1, pair);
    let mut segment = [5000u16, 53, 24, 0].map(u16::to_be_bytes).concat();
    segment.extend([7; 16]);
    let sum = transport_ipv6(inner, server, 17, &segment);
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    let piece = |offset_more: u16, part: &[u8]| {
        let fragment = [&[17, 0][..], &offset_more.to_be_bytes(), &[1, 2, 3, 4], part].concat();
        let header = ipv6::Ipv6Header::plain(inner, server, FRAGMENT, fragment.len() as u16);
        [zerocopy::IntoBytes::as_bytes(&header), &fragment].concat()
    };
    let (mut first, mut last) = (piece(1, &segment[..16]), piece(16, &segment[16..]));
    outbound(&mut nat, Now(1), &mut first).unwrap();
    outbound(&mut nat, Now(1), &mut last).unwrap();
    assert_eq!(first[44..48], last[44..48]);
    assert_ne!(first[44..48], [1, 2, 3, 4]);
    let shown = Ipv6::parse(&last).unwrap().source();
    assert_eq!(shown.to_string(), "2001:db8::64");
    let whole = [&first[48..], &last[48..]].concat();
    assert_eq!(transport_ipv6(shown, server, 17, &whole), 0);
}

#[test]
fn line_9_early_fragments_wait_for_their_first_and_not_for_ever() {
    let pieces = in_pieces(SERVER, ROUTER, (53, 2000));
    let key = Piece::of(&pieces[1]).unwrap().key;
    let other = Piece::of(&in_pieces(SERVER, INNER, (53, 2000))[1]).unwrap().key;
    assert_ne!(key, other);
    let mut early = Early::default();
    early.keep(Now(1), key, 'a').unwrap();
    early.keep(Now(1), other, 'b').unwrap();
    early.keep(Now(2), key, 'c').unwrap();
    assert_eq!(early.of(key).as_slice(), ['a', 'c']);
    assert!(early.of(key).is_empty());
    assert_eq!(early.expire(Now(NAT_EARLY_NS)), 0);
    assert_eq!(early.expire(Now(1 + NAT_EARLY_NS)), 1);
    let full = (0..BURST + 3).filter(|_| early.keep(Now(1), key, 'd').is_err());
    assert_eq!(full.count(), 3);
}
