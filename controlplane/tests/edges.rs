//! What the edges refuse, answer and keep waiting: misbehaving hops, foreign pairs, datagrams that are too old, too big or too many.
//! After every case a good datagram still crosses.

mod crypto;
mod sim;

use std::net::Ipv4Addr;

use ain_controlplane::action::{Link, Route, Verdict};
use ain_controlplane::sa::Generation;
use ain_controlplane::table_writer::TableError;
use ain_crypto::Direction;
use ain_dataplane::entry::Activity;
use ain_dataplane::id::{AivtId, FlowId, FlowTag, Pair, Spi};
use ain_dataplane::limits::{WAITING, WAITING_PER_FLOW};
use ain_dataplane::verdict::DropReason;
use ain_dataplane::wire::checksum::checksum;
use ain_dataplane::wire::ipv4::{Ipv4, refresh_checksum};
use sim::chain::{Chain, Heard, Plan, TO_HOST, TO_NEIGHBOUR, aivt, hop_keys, initiator, responder, shown};
use sim::forge::{Forged, cell, cell_of};
use sim::{Buf, FLOWS, GMAC, GMAC_SHORT, HMAC, Machine, datagram};

fn forward(fill: u8) -> Vec<u8> {
    datagram(initiator(0), responder(0), 64, 60, fill)
}

/// A chain that has carried a first datagram.
fn chain(ains: u8) -> Chain {
    let mut chain = Chain::new(Plan::new(ains, GMAC));
    assert_crosses(&mut chain);
    chain
}

/// A datagram and its answer cross.
fn assert_crosses(chain: &mut Chain) {
    let last = chain.responder();
    chain.send(1, &[forward(0x33)]);
    assert_eq!(
        chain.delivered(last),
        [datagram(initiator(0), responder(0), 63, 60, 0x33)]
    );
    chain.send(last, &[datagram(responder(0), initiator(0), 64, 60, 0x44)]);
    assert_eq!(chain.delivered(1), [datagram(responder(0), initiator(0), 63, 60, 0x44)]);
}

/// Puts a packet before a machine and lets everything that follows happen.
fn inject(chain: &mut Chain, to: u8, frame: Buf) {
    let now = chain.now;
    chain.machine(to).receive(now, 0, [frame]);
    chain.run();
}

/// The only losses in the chain.
fn assert_drops(chain: &Chain, number: u8, expected: &[(DropReason, u64)]) {
    for (at, machine) in &chain.machines {
        let expected = if *at == number { expected } else { &[] };
        assert_eq!(machine.all_drops(), expected, "machine {at}");
    }
}

/// A TVT packet from AIN 2 to AIN 3.
fn from_entrance(seq: u64, payload: &[u8]) -> Forged<'_> {
    Forged::tvt(GMAC, seq, payload)
}

/// One from AIN 3 back to AIN 2.
fn from_exit(seq: u64, payload: &[u8]) -> Forged<'_> {
    Forged {
        from: 3,
        to: 2,
        seed: 6,
        ..from_entrance(seq, payload)
    }
}

#[test]
fn a_hop_that_changes_cells_is_found_out() {
    let mut chain = chain(3);
    for (n, bit) in (1..).zip([0, 77, 20 * 8, 1407 * 8 + 7]) {
        let now = chain.now;
        chain.machine(1).send(now, [Buf::of(&forward(1))]);
        let frame = chain.machine(1).io.frames.pop().unwrap();
        chain.machine(2).receive(now, 0, [frame]);
        let mut changed = cell_of(&chain.machine(2).io.frames.pop().unwrap());
        changed[bit / 8] ^= 0x80 >> (bit % 8);
        inject(&mut chain, 3, from_entrance(100 + n, &changed).buf());
        assert_drops(&chain, 4, &[(DropReason::CellBroken, n)]);
        assert_crosses(&mut chain);
    }
    // Found out four times, reported once: a flood of such cells does not become one of events.
    assert_eq!(chain.heard, [(4, Heard::Misbehaviour(aivt(0)))]);
}

#[test]
fn a_hop_that_repeats_cells_is_found_out() {
    let mut chain = chain(3);
    let seen = chain.send(1, &[forward(2)]);
    chain.delivered(5);
    let (_, _, frame) = seen.iter().find(|(from, to, _)| (*from, *to) == (2, 3)).unwrap();
    inject(&mut chain, 3, from_entrance(100, &cell_of(frame)).buf());
    assert_drops(&chain, 4, &[(DropReason::CellReplay, 1)]);
    assert_eq!(chain.heard, [(4, Heard::Misbehaviour(aivt(0)))]);
    assert_eq!(chain.delivered(5), Vec::<Vec<u8>>::new());
    assert_crosses(&mut chain);
}

/// Whole cells with a right layer and a wrong header or wrong content, at the exit of two AINs.
#[test]
fn a_neighbour_that_makes_cells_up() {
    let mut chain = chain(2);
    let keys = hop_keys(0, 3);
    let data = datagram(initiator(0), responder(0), 64, 60, 3);
    let forge = |chain: &mut Chain, n: u64, change: &dyn Fn(&mut Vec<u8>)| {
        let mut data = data.clone();
        change(&mut data);
        let cell = cell(Direction::Forward, &keys, 100 + n, &data);
        inject(chain, 3, from_entrance(100 + n, &cell).buf());
    };
    forge(&mut chain, 0, &|_| {});
    assert_eq!(
        chain.delivered(4),
        std::slice::from_ref(&data),
        "the forger's own proof"
    );
    forge(&mut chain, 1, &|data| data[0] = 0x75);
    assert_drops(&chain, 3, &[(DropReason::InnerMalformed, 1)]);
    forge(&mut chain, 2, &|data| data[10] ^= 1);
    assert_drops(&chain, 3, &[(DropReason::InnerMalformed, 2)]);
    forge(&mut chain, 3, &|data| {
        data[15] += 1;
        refresh_checksum(data).unwrap();
    });
    forge(&mut chain, 4, &|data| {
        data[19] += 1;
        refresh_checksum(data).unwrap();
    });
    assert_drops(
        &chain,
        3,
        &[(DropReason::InnerMalformed, 2), (DropReason::WrongPair, 2)],
    );
    assert_eq!((chain.delivered(4), chain.heard.len()), (vec![], 0));
    assert_crosses(&mut chain);
}

/// An exit that sends the initiator what the responder did not.
#[test]
fn what_is_no_answer_does_not_reach_the_initiator() {
    let mut chain = chain(2);
    let keys = hop_keys(0, 3);
    let forge = |chain: &mut Chain, n: u64, datagram: &[u8]| {
        let cell = cell(Direction::Backward, &keys, 100 + n, datagram);
        inject(chain, 2, from_exit(100 + n, &cell).buf());
    };
    forge(&mut chain, 0, &datagram(responder(0), initiator(0), 64, 60, 4));
    assert_eq!(
        chain.delivered(1),
        [datagram(responder(0), initiator(0), 63, 60, 4)],
        "the forger's own proof"
    );
    let foreign = Ipv4Addr::new(10, 7, 7, 7);
    let wrong = [
        (foreign, initiator(0)),
        (responder(0), foreign),
        (initiator(0), responder(0)),
        (responder(0), initiator(1)),
    ];
    for (n, (source, destination)) in (1..).zip(wrong) {
        forge(&mut chain, n, &datagram(source, destination, 64, 60, 4));
        assert_drops(&chain, 2, &[(DropReason::WrongPair, n)]);
    }
    assert_eq!(chain.delivered(1), Vec::<Vec<u8>>::new());
    assert_crosses(&mut chain);
}

#[test]
fn a_responder_speaks_only_when_spoken_to() {
    let mut chain = chain(3);
    let last = chain.responder();
    let alone = [
        datagram(responder(1), initiator(0), 64, 60, 5),
        datagram(responder(0), initiator(1), 64, 60, 5),
    ];
    let seen = chain.send(last, &alone);
    assert_eq!(seen.len(), 2, "no further than the exit");
    assert_drops(&chain, 4, &[(DropReason::NoBinding, 2)]);
    assert_crosses(&mut chain);
}

/// The first datagram binds the AIVT; another pair is dropped before the control thread has answered and after.
#[test]
fn the_first_datagram_binds() {
    let mut chain = Chain::new(Plan::new(2, GMAC));
    let keys = hop_keys(0, 3);
    let now = chain.now;
    let forge = |n: u64, from: Ipv4Addr| {
        let data = datagram(from, responder(0), 63, 60, n as u8);
        from_entrance(n, &cell(Direction::Forward, &keys, n, &data)).buf()
    };
    let frames = [forge(1, initiator(0)), forge(2, initiator(1)), forge(3, initiator(0))];
    chain.machine(3).receive(now, 0, frames);
    assert_drops(&chain, 3, &[(DropReason::WrongPair, 1)]);
    chain.run();
    inject(&mut chain, 3, forge(4, initiator(1)));
    assert_drops(&chain, 3, &[(DropReason::WrongPair, 2)]);
    let fills: Vec<u8> = chain.delivered(4).iter().map(|datagram| datagram[30]).collect();
    assert_eq!(fills, [1, 3], "in order");
}

/// Outbound numbers, AH's and ESP's, end where the control thread's reservation ends, and go on when it is extended.
#[test]
fn numbers_stop_at_their_reservation() {
    for limits in [[3, u64::MAX], [u64::MAX, 3]] {
        let mut chain = Chain::new(Plan {
            limits,
            ..Plan::new(2, GMAC)
        });
        let sent = |chain: &mut Chain, fills: &[u8]| {
            chain.send(1, &fills.iter().map(|fill| forward(*fill)).collect::<Vec<_>>());
            chain.delivered(4).len()
        };
        assert_eq!(sent(&mut chain, &[1, 2, 3]), 2);
        assert_eq!(sent(&mut chain, &[4]), 0);
        assert_drops(&chain, 1, &[(DropReason::SequenceExhausted, 2)]);
        for machine in chain.machines.values() {
            machine.grants[0].iter().for_each(|grant| grant.extend(10));
        }
        assert_eq!(sent(&mut chain, &[5, 6]), 2);
        assert_drops(&chain, 1, &[(DropReason::SequenceExhausted, 2)]);
    }
}

/// Without ESN the last number is 2^32 - 1; with it the numbers go on and the receiver follows.
#[test]
fn thirty_two_bits_end_and_sixty_four_do_not() {
    let first_number = (1 << 32) - 2;
    for (suite, arrive) in [(GMAC_SHORT, 2), (HMAC, 2), (GMAC, 4)] {
        let mut chain = Chain::new(Plan {
            first_number,
            ..Plan::new(2, suite)
        });
        for fill in 0..4 {
            chain.send(1, &[forward(fill)]);
        }
        assert_eq!(chain.delivered(4).len(), arrive);
        assert_drops_exhausted(&chain, 4 - arrive as u64);
    }
}

fn assert_drops_exhausted(chain: &Chain, lost: u64) {
    let all: u64 = chain
        .machines
        .values()
        .map(|m| m.drops(DropReason::SequenceExhausted))
        .sum();
    assert_eq!(all, lost);
    let others = chain.machines.values().flat_map(Machine::all_drops);
    assert!(others.into_iter().all(|(why, _)| why == DropReason::SequenceExhausted));
}

/// An ICMP error: (source, destination, type, code, rest of header, quoted bytes); checksums are right.
fn icmp(bytes: &[u8]) -> (Ipv4Addr, Ipv4Addr, [u8; 2], u32, Vec<u8>) {
    let ip = Ipv4::parse(bytes).unwrap();
    let message = ip.payload();
    assert_eq!((ip.protocol(), checksum(message)), (1, 0));
    let rest = u32::from_be_bytes(message[4..8].try_into().unwrap());
    (
        ip.source(),
        ip.destination(),
        [message[0], message[1]],
        rest,
        message[8..].to_vec(),
    )
}

#[test]
fn time_to_live_ends_at_the_entrance() {
    let mut chain = chain(3);
    for ttl in [1, 0] {
        let dying = datagram(initiator(0), responder(0), ttl, 60, 6);
        chain.send(1, std::slice::from_ref(&dying));
        let answer = chain.delivered(1).pop().unwrap();
        assert_eq!(icmp(&answer), (sim::address_of(2), initiator(0), [11, 0], 0, dying));
    }
    assert_drops(&chain, 2, &[(DropReason::TtlExceeded, 2)]);
    chain.send(1, &[datagram(initiator(0), responder(0), 2, 60, 6)]);
    assert_eq!(chain.delivered(5).pop().unwrap()[8], 1);
    assert_crosses(&mut chain);
}

fn with_df(mut datagram: Vec<u8>) -> Vec<u8> {
    datagram[6] |= 0x40;
    refresh_checksum(&mut datagram).unwrap();
    datagram
}

/// The exit answers in the responder's name, inside the AIVT; what is quoted is what the initiator sent, whatever source was shown.
#[test]
fn too_big_for_the_responders_tunnel() {
    for private in [false, true] {
        let mut chain = Chain::new(Plan {
            inner_mtu: 1300,
            shown: private,
            ..Plan::new(3, HMAC)
        });
        let big = with_df(datagram(initiator(0), responder(0), 64, 1301, 7));
        chain.send(1, std::slice::from_ref(&big));
        let (source, destination, kind, mtu, quoted) = icmp(&chain.delivered(1).pop().unwrap());
        assert_eq!(
            (source, destination, kind, mtu),
            (responder(0), initiator(0), [3, 4], 1300)
        );
        let asked = Ipv4Addr::from_octets(quoted[12..16].try_into().unwrap());
        assert_eq!(asked, initiator(0), "the quoted source");
        assert_eq!(checksum(&quoted[..20]), 0);
        assert_eq!(quoted[20..], big[20..quoted.len()]);
        assert_drops(&chain, 4, &[(DropReason::TooBig, 1)]);
        chain.send(1, &[with_df(datagram(initiator(0), responder(0), 64, 1300, 7))]);
        let arrived = chain.delivered(5).pop().unwrap();
        let from = Ipv4::parse(&arrived).unwrap().source();
        assert_eq!(from, if private { shown(0) } else { initiator(0) });
        assert_eq!(arrived.len(), 1300);
    }
}

#[test]
fn cut_where_it_may_be() {
    let mut chain = Chain::new(Plan {
        inner_mtu: 1300,
        ..Plan::new(2, GMAC)
    });
    let mut big = datagram(initiator(0), responder(0), 64, 4000, 0);
    big.iter_mut()
        .enumerate()
        .skip(20)
        .for_each(|(at, byte)| *byte = (at % 251) as u8);
    chain.send(1, std::slice::from_ref(&big));
    let mut payload = vec![0; 3980];
    let pieces = chain.delivered(4);
    for piece in &pieces {
        let ip = Ipv4::parse(piece).unwrap();
        assert!(ip.total_len() <= 1300);
        payload[ip.fragment_offset()..][..ip.payload().len()].copy_from_slice(ip.payload());
    }
    assert_eq!((pieces.len(), &payload[..]), (4, &big[20..]));
    chain.assert_no_drops();
}

/// The exit refuses: the verdict comes back, and the initiator hears of it although its datagram has left long ago.
#[test]
fn a_refused_flow_is_told_so() {
    let mut chain = Chain::new(Plan::new(3, GMAC));
    chain.refuses = true;
    chain.send(1, &[forward(8)]);
    let verdict = Heard::Verdict(aivt(0), Verdict::ExitRefused as u8);
    assert_eq!(chain.heard, [(2, verdict)]);
    let (source, destination, kind, _, quoted) = icmp(&chain.delivered(1).pop().unwrap());
    assert_eq!((source, destination, kind), (sim::address_of(2), initiator(0), [3, 13]));
    let sent = datagram(initiator(0), responder(0), 63, 60, 8);
    assert_eq!(quoted, sent[..28], "header and eight bytes");
    assert_drops(&chain, 4, &[(DropReason::Refused, 1)]);
    assert_eq!(chain.delivered(5), Vec::<Vec<u8>>::new());
}

/// A flow that never gets an AIVT: the queue keeps the newest, and closing it answers each that waited.
#[test]
fn waiting_is_bounded_and_refusal_answers_what_waits() {
    let mut chain = Chain::new(Plan {
        flows: 0,
        ..Plan::new(2, GMAC)
    });
    let burst: Vec<_> = (0..40).map(forward).collect();
    chain.send(1, &burst);
    chain.send(1, &burst);
    let over = 80 - WAITING_PER_FLOW as u64;
    assert_drops(&chain, 2, &[(DropReason::WaitedTooLong, over)]);
    assert_eq!(chain.machine(2).engines[0].in_use()[1..3], [1, WAITING_PER_FLOW]);
    let flow = chain.unserved.pop().unwrap();
    chain.machine(2).writer.close_flow(flow, true);
    chain.run();
    let fills: Vec<u8> = chain.delivered(1).iter().map(|answer| icmp(answer).4[30]).collect();
    let kept = (0..40).chain(0..40).skip(80 - WAITING_PER_FLOW);
    assert_eq!(fills, kept.collect::<Vec<u8>>());
    assert_eq!(chain.machine(2).engines[0].in_use(), [0, 0, 0, 0]);
}

/// Between flows of a tunnel its half of the worker's queue is shared, oldest dropped first, and nothing else of the node is.
#[test]
fn many_waiting_flows_do_not_hurt_open_ones() {
    let mut chain = chain(2);
    let far = |n: u16| Ipv4Addr::from((10 << 24 | 77 << 16) + u32::from(n));
    for n in 0..1100u16 {
        chain.send(1, &[datagram(initiator(0), far(n), 64, 60, 9)]);
    }
    let lost = chain.machine(2).all_drops();
    // 1024 flows have room, an eighth of it kept for answers; one flow is open, the others wait, with datagrams in half of the queue.
    let (waiting, kept) = (895, WAITING as u64 / 2);
    let expected = [
        (DropReason::WaitedTooLong, waiting - kept),
        (DropReason::ControlFull, 1100 - waiting),
    ];
    assert_eq!(lost, expected);
    assert_eq!(chain.machine(2).engines[0].in_use()[1..3], [896, WAITING / 2]);
    assert_crosses(&mut chain);
}

/// The worker of a responder's tunnel has so many slots for flows and ways back: one more is refused, not half bound.
#[test]
fn an_exit_binds_no_more_than_its_worker_has_room_for() {
    let mut chain = chain(2);
    let (exit, now) = (chain.exit(), chain.now);
    let machine = chain.machine(exit);
    let pair = |number: u32| Pair {
        source: Ipv4Addr::from_bits(0xac10_0000 + number).into(),
        destination: responder(0).into(),
    };
    let id = |number: u32| AivtId(1000 + u64::from(number));
    let install = |machine: &mut Machine, number: u32| {
        let upstream = Link {
            peer: TO_NEIGHBOUR,
            spi: Spi::new(0x6000_0000 + number).unwrap(),
        }
        .under(Generation::HAND_MADE);
        let keys = hop_keys(0, exit);
        let route = Route::Exit {
            upstream,
            keys,
            flow: FlowTag([0; 16]),
        };
        machine.writer.install(id(number), route, &Activity::at(now)).unwrap();
    };
    let bind = |machine: &mut Machine, number: u32| machine.writer.bind(id(number), pair(number), TO_HOST);
    // The chain's own AIVT has a slot.
    let last = FLOWS;
    for number in 1..=last {
        install(machine, number);
        assert_eq!(bind(machine, number).is_ok(), number < last, "{number}");
    }
    machine.settle(now);
    assert_eq!(machine.engines[0].in_use()[1], FLOWS as usize);
    assert!(matches!(bind(machine, last), Err(TableError::Full("flow"))));
    machine
        .writer
        .refuse(id(last), Verdict::ExitRefused)
        .expect("it is not bound");
    machine.writer.remove(now, id(1));
    machine.writer.note_flow(FlowId(1), TO_HOST, pair(1));
    assert!(bind(machine, last).is_err(), "a flow has the slot");
    machine.writer.close_flow(FlowId(1), false);
    bind(machine, last).expect("the slot is free");
    machine.settle(now);
    assert_eq!(machine.engines[0].in_use()[1], FLOWS as usize);
    assert_crosses(&mut chain);
}
