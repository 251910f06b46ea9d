//! Line 9: the open exit. A chain of AINs whose exit speaks to a host of the Internet that knows no IPsec: what that host sees, what
//! comes back, what is refused, and that nothing is left when the AIVT is gone.

mod crypto;
mod sim;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ain_controlplane::action::{self, Route};
use ain_controlplane::sa::Generation;
use ain_dataplane::count::Traffic;
use ain_dataplane::entry::Activity;
use ain_dataplane::fragment::fragments;
use ain_dataplane::icmp::{self, Problem};
use ain_dataplane::id::{FlowTag, Pair, PeerId, PortId};
use ain_dataplane::limits::{BURST, NAT_KEPT_NS};
use ain_dataplane::nat::mappings::Timeouts;
use ain_dataplane::nat::policy::{Policy, Rule};
use ain_dataplane::nat::pool::Pool;
use ain_dataplane::nat::{Limits, Made, Settings};
use ain_dataplane::packet::PacketBuf;
use ain_dataplane::peers::{Link, Uplink, Uplinks};
use ain_dataplane::verdict::DropReason;
use ain_dataplane::wire::checksum::{checksum, transport_ipv4};
use ain_dataplane::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader};
use ain_dataplane::wire::icmpv6;
use ain_dataplane::wire::ip::Ip;
use ain_dataplane::wire::ipv4::{Ipv4, Ipv4Fields, refresh_checksum, write_header};
use ain_dataplane::wire::ipv6::{Ipv6, Ipv6Header};
use sim::chain::{Chain, Plan, TO_NEIGHBOUR, aivt, hop_keys, initiator, responder, shown, tvt_spi};
use sim::{Buf, GMAC, mac_of};
use zerocopy::IntoBytes;

const MTU: u16 = 1500;
const POOL: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 64), Ipv4Addr::new(203, 0, 113, 65)];
const POOL_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x64);
const ROUTER: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// The server stands where the responder of other chains is, and is all that is behind the next router.
fn server() -> Ipv4Addr {
    responder(0)
}

fn settings(workers: u8) -> Settings {
    let lab: ipnet::IpNet = "10.2.0.0/16".parse().unwrap();
    let rule = |ports| Rule {
        prefix: lab,
        protocol: None,
        ports,
    };
    Settings {
        pool: Pool::new(
            POOL.map(IpAddr::V4).into_iter().chain([POOL_V6.into()]),
            &(1024..=65535),
            workers,
        ),
        policy: Policy {
            allow: vec![rule(None)],
            refuse: vec![rule(Some(25..=25))],
            own: Vec::new(),
            closed_lab: vec![lab],
        },
        limits: Limits {
            mappings_per_aivt: 8,
            new_mappings_per_s: 8,
            packets_per_s: 100,
            mappings_per_worker: 100,
            held_ports_per_worker: 100,
        },
        timeouts: Timeouts::default(),
    }
}

/// Three AINs of two workers each, the last an open exit.
fn chain() -> Chain {
    let workers = 2;
    let mut chain = Chain::new(Plan {
        workers,
        shown: true,
        ..Plan::new(3, GMAC)
    });
    let (exit, router) = (chain.exit(), chain.responder());
    let settings = Arc::new(settings(workers));
    chain.leaves_to = PeerId::INTERNET;
    let machine = chain.machine(exit);
    for (engine, seed) in machine.engines.iter_mut().zip(1..) {
        engine.open_exit(Arc::clone(&settings), [seed; 32]);
    }
    let uplink = Uplink {
        port: PortId(0),
        mtu: MTU,
        link: Some(Link {
            source: mac_of(exit),
            destination: mac_of(router),
        }),
    };
    machine.peers = machine.peers.clone().with_uplinks(Uplinks {
        v4: Some(uplink),
        v6: Some(uplink),
    });
    chain
}

fn ip(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, segment: &[u8], dont_fragment: bool) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    let fields = Ipv4Fields {
        dont_fragment,
        ..Ipv4Fields::outer(source, destination, protocol, 20 + segment.len() as u16)
    };
    write_header(bytes.first_chunk_mut().unwrap(), &fields);
    bytes.extend(segment);
    bytes
}

/// A UDP datagram of `len` bytes of data.
fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), len: u16, dont_fragment: bool) -> Vec<u8> {
    let mut segment = [from.1, to.1, 8 + len, 0].map(u16::to_be_bytes).concat();
    segment.extend((0..len).map(|at| at as u8));
    let sum = transport_ipv4(from.0, to.0, UDP, &segment);
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    ip(from.0, to.0, UDP, &segment, dont_fragment)
}

fn echo(from: Ipv4Addr, to: Ipv4Addr, kind: u8, identifier: u16) -> Vec<u8> {
    let mut segment = vec![kind, 0, 0, 0];
    segment.extend([identifier, 1].map(u16::to_be_bytes).concat());
    let sum = checksum(&segment);
    segment[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(from, to, ICMP, &segment, true)
}

/// What a UDP datagram with right checksums says of itself: (address, port) of both ends.
fn udp_ends(bytes: &[u8]) -> [(Ipv4Addr, u16); 2] {
    let ip = Ipv4::parse(bytes).unwrap();
    let segment = ip.payload();
    assert_eq!(transport_ipv4(ip.source(), ip.destination(), UDP, segment), 0);
    let port = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
    [(ip.source(), port(0)), (ip.destination(), port(2))]
}

/// The initiator sends; returns the IP packets that came out at the next router.
fn send(chain: &mut Chain, datagram: &[u8]) -> Vec<Vec<u8>> {
    let (exit, router) = (chain.exit(), chain.responder());
    let seen = chain.send(1, &[datagram.to_vec()]);
    let out = seen.iter().filter(|(from, to, _)| (*from, *to) == (exit, router));
    out.map(|(_, _, frame)| frame.data()[14..].to_vec()).collect()
}

/// The next router sends an IP packet to the exit, which comes to one of its workers' queues.
fn from_router(chain: &mut Chain, rx: usize, ethertype: u16, packet: &[u8]) {
    let (exit, router, now) = (chain.exit(), chain.responder(), chain.now);
    let mut frame = vec![0; 14];
    let header = EthernetHeader::new(mac_of(exit), mac_of(router), ethertype);
    header.write(&mut frame).unwrap();
    frame.extend(packet);
    frame.resize(frame.len().max(60), 0);
    chain.machine(exit).receive(now, rx, [Buf::of(&frame)]);
}

/// The next router sends an IP packet to the exit, at each of its workers' queues in turn; what the initiator gets.
fn answer(chain: &mut Chain, packet: &[u8]) -> Vec<Vec<u8>> {
    for rx in 0..2 {
        from_router(chain, rx, ETHERTYPE_IPV4, packet);
        chain.run();
    }
    chain.delivered(1)
}

/// A datagram in fragments, in order.
fn cut(whole: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let pieces = fragments(&Ipv4::parse(whole).unwrap(), mtu).unwrap();
    let written = pieces.map(|piece| {
        let mut bytes = vec![0; piece.total_len()];
        piece.write(&mut bytes);
        bytes
    });
    written.collect()
}

/// The payload of a datagram that came in fragments, in any order.
fn payload(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut parsed: Vec<_> = pieces.iter().map(|piece| Ipv4::parse(piece).unwrap()).collect();
    parsed.sort_by_key(Ipv4::fragment_offset);
    let mut whole = Vec::new();
    for piece in &parsed {
        assert_eq!((piece.id(), piece.fragment_offset()), (parsed[0].id(), whole.len()));
        whole.extend(piece.payload());
    }
    whole
}

fn assert_exit_drops(chain: &mut Chain, expected: &[(DropReason, u64)]) {
    let exit = chain.exit();
    assert_eq!(chain.machine(exit).all_drops(), expected);
}

#[test]
fn line_9_an_ordinary_host_is_reached_and_answers() {
    let mut chain = chain();
    let question = udp((initiator(0), 5000), (server(), 53), 100, true);
    let out = send(&mut chain, &question);
    assert_eq!(out.len(), 1);
    let [shown, to] = udp_ends(&out[0]);
    assert_eq!(to, (server(), 53));
    assert!(POOL.contains(&shown.0), "the server sees an address of the pool");
    assert_eq!(out[0][28..], question[28..]);
    let again = send(&mut chain, &udp((initiator(0), 5000), (server(), 99), 10, true));
    assert_eq!(udp_ends(&again[0])[0], shown, "the same for another port of the server");

    let back = answer(&mut chain, &udp((server(), 53), shown, 200, true));
    assert_eq!(back.len(), 2, "whichever worker hears it");
    assert_eq!(udp_ends(&back[0]), [(server(), 53), (initiator(0), 5000)]);

    let ping = send(&mut chain, &echo(initiator(0), server(), 8, 77));
    let identifier = u16::from_be_bytes([ping[0][24], ping[0][25]]);
    let pong = answer(&mut chain, &echo(server(), shown.0, 0, identifier));
    let mut expected = echo(server(), initiator(0), 0, 77);
    expected[8] -= 1;
    refresh_checksum(&mut expected).unwrap();
    assert_eq!(pong, [expected.clone(), expected]);
    chain.assert_no_drops_but(chain.responder());
    let exit = chain.exit();
    let counters = chain.machine(exit).counters();
    let moved = |what| counters.iter().map(|one| one.traffic(what).0).sum::<u64>();
    assert_eq!([moved(Traffic::InternetOut), moved(Traffic::InternetIn)], [3, 4]);
}

#[test]
fn line_9_what_the_policy_refuses_is_answered_with_icmp() {
    let mut chain = chain();
    let mail = udp((initiator(0), 5000), (server(), 25), 10, true);
    assert_eq!(send(&mut chain, &mail), Vec::<Vec<u8>>::new());
    let told = chain.delivered(1);
    assert_eq!(told.len(), 1);
    let error = Ipv4::parse(&told[0]).unwrap();
    assert_eq!(
        (error.source(), error.protocol(), &error.payload()[..2]),
        (server(), ICMP, &[3, 13][..])
    );
    let quoted = &error.payload()[8..];
    assert_eq!(
        (&quoted[12..16], &quoted[20..]),
        (&initiator(0).octets()[..], &mail[20..])
    );
    assert_exit_drops(&mut chain, &[(DropReason::OpenExitPolicy, 1)]);
    assert_eq!(
        send(&mut chain, &udp((initiator(0), 5000), (server(), 26), 10, true)).len(),
        1
    );
}

#[test]
fn line_9_what_is_too_big_is_cut_or_told() {
    let mut chain = chain();
    let long = |dont_fragment| udp((initiator(0), 5000), (server(), 53), 8000, dont_fragment);
    assert_eq!(send(&mut chain, &long(true)), Vec::<Vec<u8>>::new());
    let told = chain.delivered(1);
    let error = Ipv4::parse(&told[0]).unwrap();
    assert_eq!(error.source(), server());
    assert_eq!(
        (&error.payload()[..2], &error.payload()[6..8]),
        (&[3, 4][..], &MTU.to_be_bytes()[..])
    );
    assert_exit_drops(&mut chain, &[(DropReason::TooBig, 1)]);

    let pieces = send(&mut chain, &long(false));
    assert!(pieces.len() > 5 && pieces.iter().all(|piece| piece.len() <= usize::from(MTU)));
    let (from, whole) = (Ipv4::parse(&pieces[0]).unwrap().source(), payload(&pieces));
    assert_eq!(transport_ipv4(from, server(), UDP, &whole), 0);
    assert_eq!(whole[8..], long(false)[28..]);
}

/// A long answer that the server's host has cut, and a long question that the initiator's has.
#[test]
fn line_9_fragments_cross_in_any_order() {
    let mut chain = chain();
    let question = udp((initiator(0), 5000), (server(), 53), 3000, false);
    let mut out = Vec::new();
    for piece in cut(&question, 1280).iter().rev() {
        out.extend(send(&mut chain, piece));
    }
    assert_eq!(out.len(), 3);
    let (from, whole) = (Ipv4::parse(&out[0]).unwrap().source(), payload(&out));
    assert_eq!(transport_ipv4(from, server(), UDP, &whole), 0);
    assert_eq!(whole[8..], question[28..]);

    let port = u16::from_be_bytes([whole[0], whole[1]]);
    let reply = udp((server(), 53), (from, port), 3000, false);
    for (rx, piece) in [0, 1, 0].into_iter().zip(cut(&reply, 1280).iter().rev()) {
        from_router(&mut chain, rx, ETHERTYPE_IPV4, piece);
        chain.run();
    }
    let back = chain.delivered(1);
    assert_eq!(back.len(), 3);
    let whole = payload(&back);
    assert_eq!(transport_ipv4(server(), initiator(0), UDP, &whole), 0);
    assert_eq!(whole[8..], reply[28..]);
    chain.assert_no_drops_but(chain.responder());
}

/// Fragments too long for the uplink, the first last, while strangers send the exit more than it keeps.
#[test]
fn line_9_long_fragments_wait_for_their_first_whatever_strangers_send() {
    let mut chain = chain();
    let question = udp((initiator(0), 5000), (server(), 53), 8000, false);
    let pieces = cut(&question, 3000);
    let (first, later) = pieces.split_first().unwrap();
    for piece in later.iter().rev() {
        assert_eq!(send(&mut chain, piece), Vec::<Vec<u8>>::new());
    }
    let mut stranger = cut(&udp((ROUTER, 53), (POOL[0], 2000), 2000, false), 1280).remove(1);
    for identification in 0..4 * BURST as u16 {
        stranger[4..6].copy_from_slice(&identification.to_be_bytes());
        refresh_checksum(&mut stranger).unwrap();
        from_router(&mut chain, 0, ETHERTYPE_IPV4, &stranger);
    }
    let out = send(&mut chain, first);
    assert!(out.iter().all(|piece| piece.len() <= usize::from(MTU)));
    let (from, whole) = (Ipv4::parse(&out[0]).unwrap().source(), payload(&out));
    assert_eq!(transport_ipv4(from, server(), UDP, &whole), 0);
    assert_eq!(whole[8..], question[28..]);
    let exit = chain.exit();
    let drops = chain.machine(exit).all_drops();
    assert!(
        matches!(drops[..], [(DropReason::OpenExitFragment, pushed)] if pushed >= 2 * BURST as u64),
        "{drops:?}"
    );
}

#[test]
fn line_9_errors_of_routers_reach_the_initiator() {
    let mut chain = chain();
    let question = udp((initiator(0), 5000), (server(), 53), 10, true);
    let out = send(&mut chain, &question);
    let mut error = [0; icmp::MAX_ERROR];
    let len = icmp::error(
        Problem::TtlExceeded,
        &Ip::parse(&out[0]).unwrap(),
        ROUTER.into(),
        &mut error,
    )
    .unwrap();
    let told = answer(&mut chain, &error[..len]);
    assert_eq!(told.len(), 2);
    let told = Ipv4::parse(&told[0]).unwrap();
    assert_eq!((told.source(), told.destination()), (server(), initiator(0)));
    assert_eq!(&told.payload()[..2], &[11, 0]);
    assert_eq!(checksum(told.payload()), 0);
    let quoted = &told.payload()[8..];
    assert_eq!(
        (&quoted[12..20], &quoted[20..24]),
        (&question[12..20], &question[20..24])
    );
}

#[test]
fn line_9_nobody_else_gets_in_and_nothing_is_left() {
    let mut chain = chain();
    let out = send(&mut chain, &udp((initiator(0), 5000), (server(), 53), 10, true));
    let [shown, _] = udp_ends(&out[0]);
    let stranger = udp((Ipv4Addr::new(10, 2, 9, 9), 53), shown, 10, true);
    assert_eq!(answer(&mut chain, &stranger), Vec::<Vec<u8>>::new());
    let for_the_kernel = udp((server(), 53), (Ipv4Addr::new(192, 0, 2, 4), 22), 10, true);
    assert_eq!(answer(&mut chain, &for_the_kernel), Vec::<Vec<u8>>::new());
    let drops = [(DropReason::ForTheKernel, 2), (DropReason::OpenExitUnsolicited, 2)];
    assert_exit_drops(&mut chain, &drops);

    let (exit, now) = (chain.exit(), chain.now);
    let machine = chain.machine(exit);
    machine.writer.remove(now, aivt(0));
    machine.settle(now);
    let late = udp((server(), 53), shown, 10, true);
    assert_eq!(answer(&mut chain, &late), Vec::<Vec<u8>>::new());
    let drops = [
        (DropReason::ForTheKernel, 2),
        (DropReason::Gone, 2),
        (DropReason::OpenExitUnsolicited, 2),
    ];
    assert_exit_drops(&mut chain, &drops);
    let machine = chain.machine(exit);
    let over = now.plus(NAT_KEPT_NS);
    machine.engines.iter_mut().for_each(|engine| engine.tick(over));
    let made: Vec<Made> = machine.counters().iter().map(|one| one.mappings_made()).collect();
    assert_eq!(
        made.iter()
            .map(|one| [one.made, one.ended])
            .fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]]),
        [1, 1]
    );
    let in_use = machine
        .engines
        .iter_mut()
        .map(|engine| engine.in_use().iter().sum::<usize>());
    assert_eq!(
        (in_use.sum::<usize>(), machine.writer.in_use()[..2].to_vec()),
        (0, vec![0, 0])
    );
}

/// The entrance builds a flow's AIVT again when it breaks: the exit's new part comes to the worker that has the flow's ports, and what
/// the server goes on sending enters it.
#[test]
fn line_9_a_rebuilt_aivt_has_the_mappings_of_its_flow() {
    let mut chain = chain();
    let out = send(&mut chain, &udp((initiator(0), 5000), (server(), 53), 10, true));
    let [seen, _] = udp_ends(&out[0]);
    let pair = Pair {
        source: shown(0).into(),
        destination: server().into(),
    };
    let (exit, now) = (chain.exit(), chain.now);
    for rebuilt in 1..=4 {
        let route = Route::Exit {
            upstream: action::Link {
                peer: TO_NEIGHBOUR,
                spi: tvt_spi(rebuilt, exit - 1),
            }
            .under(Generation::HAND_MADE),
            keys: hop_keys(rebuilt, exit),
            flow: FlowTag([0; 16]),
        };
        let machine = chain.machine(exit);
        machine.writer.remove(now, aivt(rebuilt - 1));
        let id = aivt(rebuilt);
        machine.writer.install(id, route, &Activity::at(now)).unwrap();
        machine.writer.bind(id, pair, PeerId::INTERNET).unwrap();
        machine.settle(now);
        answer(&mut chain, &udp((server(), 53), seen, 10, true));
        let counters = chain.machine(exit).counters();
        let entered = counters
            .iter()
            .map(|one| one.traffic(Traffic::InternetIn).0)
            .sum::<u64>();
        assert_eq!(entered, 2 * u64::from(rebuilt), "whichever worker hears it");
    }
    assert_exit_drops(&mut chain, &[]);
}

#[test]
fn line_9_the_pool_is_found_by_arp() {
    let mut chain = chain();
    let (exit, router, now) = (chain.exit(), chain.responder(), chain.now);
    let ask = |for_whom: Ipv4Addr| {
        let mut frame = [
            &[0xff; 6][..],
            &mac_of(router).0,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &mac_of(router).0,
        ]
        .concat();
        frame.extend([10, 2, 0, 254, 0, 0, 0, 0, 0, 0]);
        frame.extend(for_whom.octets());
        Buf::of(&frame)
    };
    let machine = chain.machine(exit);
    // The pool is no address of another port's link.
    machine.receive_on(PortId(1), now, 1, [ask(POOL[1])]);
    assert_eq!(machine.io.frames.len(), 0);
    machine.receive(now, 1, [ask(POOL[1]), ask(Ipv4Addr::new(203, 0, 113, 66))]);
    assert_eq!(machine.io.frames.len(), 1);
    let reply = machine.io.frames.pop().unwrap();
    let expected = [&mac_of(exit).0[..], &POOL[1].octets()].concat();
    assert_eq!(
        (&reply.data()[..6], &reply.data()[22..32]),
        (&mac_of(router).0[..], &expected[..])
    );
    assert_eq!(machine.all_drops(), [(DropReason::ForTheKernel, 2)]);
}

/// A router that makes sure of what it knows asks the address itself.
#[test]
fn line_9_the_pool_is_found_by_solicitations_to_its_addresses() {
    let mut chain = chain();
    let exit = chain.exit();
    let asker = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    let mut message = [0; 24];
    message[8..].copy_from_slice(&POOL_V6.octets());
    icmpv6::write(&mut message, (icmpv6::SOLICITATION, 0, 0), (asker, POOL_V6)).unwrap();
    let mut header = Ipv6Header::plain(asker, POOL_V6, 58, message.len() as u16);
    header.hop_limit = 255;
    let question = [header.as_bytes(), &message].concat();
    for rx in 0..2 {
        from_router(&mut chain, rx, ETHERTYPE_IPV6, &question);
        let frames = std::mem::take(&mut chain.machine(exit).io.frames);
        assert_eq!(frames.len(), 1);
        let reply = Ipv6::parse(&frames[0].data()[14..]).unwrap();
        assert_eq!(
            (reply.source(), reply.destination(), reply.payload()[0]),
            (POOL_V6, asker, 136)
        );
    }
    assert_exit_drops(&mut chain, &[]);
}
