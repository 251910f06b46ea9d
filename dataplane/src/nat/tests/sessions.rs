//! What is left of an AIVT when it has ended: its mappings for the next AIVT of the flow, its ports for nobody.

use super::*;

/// One address with so many ports.
fn with_ports(count: u16) -> Nat {
    let mut few = settings(1);
    few.pool = Pool::new(["203.0.113.64".parse().unwrap()], &(2000..=2000 + count - 1), 1);
    (few.limits.mappings_per_aivt, few.limits.new_mappings_per_s) = (10_000, 10_000);
    nat_of(0, few)
}

/// External ports of as many new UDP mappings as the session gets, `most` at most.
fn taken(nat: &mut Nat, now: Now, session: u32, most: u16) -> BTreeSet<u16> {
    let ports = (5000..5000 + most).map_while(|port| {
        let mut bytes = udp(INNER, SERVER, (port, 53));
        let sent = nat.outbound(now, session, &mut bytes);
        sent.is_ok().then(|| ends(&bytes).2)
    });
    ports.collect()
}

fn is_heard(nat: &mut Nat, now: Now, port: u16) -> Result<u32, DropReason> {
    let address = Ipv4Addr::new(203, 0, 113, 64);
    nat.inbound(now, &mut udp(SERVER, address, (53, port)))
}

/// How many of 40 ports another AIVT that wants so many gets so long after five mappings ended, and whether those five are among them.
fn left_after((wait, wanted): (u64, u16)) -> (usize, bool) {
    let mut nat = with_ports(40);
    let first = begin(&mut nat, 1, pair(INNER)).unwrap();
    let before = taken(&mut nat, Now(1), first, 5);
    nat.end(Now(1), 1);
    let over = Now(1).plus(NAT_KEPT_NS);
    nat.tick(over);
    for port in &before {
        assert_eq!(is_heard(&mut nat, over, *port), Err(DropReason::OpenExitUnsolicited));
    }
    let later = over.plus(wait);
    nat.tick(later);
    let other = begin(&mut nat, 2, pair(INNER)).unwrap();
    let after = taken(&mut nat, later, other, wanted);
    (after.len(), !after.is_disjoint(&before))
}

/// RFC 6888 REQ-8.
#[test]
fn line_9_a_port_is_nobodys_for_two_minutes_after_its_mapping() {
    let hold = Timeouts::default().port_held;
    assert_eq!(hold, 120 * Now::SECOND);
    assert_eq!(
        [(0, 35), (hold - 1, 35), (hold, 64)].map(left_after),
        [(35, false), (35, false), (40, true)]
    );
}

#[test]
fn line_9_a_port_that_is_nobodys_is_used_before_a_kept_session_ends() {
    let mut nat = with_ports(40);
    let session = begin(&mut nat, 1, pair(INNER)).unwrap();
    let held = taken(&mut nat, Now(1), session, 5);
    nat.end(Now(1), 1);
    nat.release_oldest(Now(1));
    let session = begin(&mut nat, 2, pair(INNER)).unwrap();
    let kept = taken(&mut nat, Now(1), session, 5);
    nat.end(Now(1), 2);
    let other = begin(&mut nat, 3, pair(INNER)).unwrap();
    let most = taken(&mut nat, Now(1), other, 35);
    assert_eq!((most.len(), nat.made().ended), (35, 5));
    assert!(most.is_superset(&held) && most.is_disjoint(&kept));
    // What is held no more, for a mapping has it, does not come free when its time is over.
    nat.tick(Now(1).plus(Timeouts::default().port_held - 1));
    nat.mappings.free_held(
        Now(1).plus(Timeouts::default().port_held),
        Timeouts::default().port_held,
    );
    let another = begin(&mut nat, 4, pair(INNER)).unwrap();
    assert!(taken(&mut nat, Now(1), another, 5).is_disjoint(&most));
}

/// However large the pool, so that chance does not find the one port that came free.
#[test]
fn line_9_an_exhausted_pool_ends_no_session_for_nothing() {
    for count in [40, 4000] {
        let mut nat = with_ports(count);
        for flow in 10..15 {
            let session = begin(&mut nat, flow, pair(INNER)).unwrap();
            assert_eq!(taken(&mut nat, Now(1), session, 1).len(), 1);
            nat.end(Now(1), flow);
        }
        let session = begin(&mut nat, 1, pair(INNER)).unwrap();
        let ports = taken(&mut nat, Now(1), session, count).len();
        assert!(ports > usize::from(count) / 10 * 9);
        assert_eq!(nat.made().ended, 5, "nobody is refused while there is one to give way");
        assert_eq!(nat.in_use(), [ports, 1], "each gave its port");
    }
}

/// A quarter of the ports at most, the oldest come free: however fast mappings come and go, who needs a port gets one.
#[test]
fn line_9_ports_that_are_nobodys_exhaust_no_pool() {
    let mut nat = with_ports(40);
    for round in 0..20 {
        let session = begin(&mut nat, round, pair(INNER)).unwrap();
        assert_eq!(taken(&mut nat, Now(1), session, 30).len(), 30, "round {round}");
        nat.end(Now(1), round);
        nat.release_oldest(Now(1));
    }
}

#[test]
fn line_9_a_flow_finds_its_mappings_again_in_its_next_aivt() {
    let mut nat = with_ports(40);
    begin(&mut nat, 1, pair(INNER)).unwrap();
    let shown = out(&mut nat, Now(1), udp(INNER, SERVER, (5000, 53))).unwrap();
    nat.end(Now(1), 1);
    assert_eq!(is_heard(&mut nat, Now(1), shown.1), Err(DropReason::Gone));

    // Another flow from the same source to the same destination shares nothing with it.
    let other = begin(&mut nat, 2, pair(INNER)).unwrap();
    assert!(!taken(&mut nat, Now(1), other, 10).contains(&shown.1));
    nat.end(Now(1), 2);

    let soon = Now(1).plus(NAT_KEPT_NS - 1);
    nat.tick(soon);
    let tag = FlowTag([1; 16]);
    assert_eq!(nat.begin(soon, 3, pair(INNER), tag), Some(FIRST));
    assert_eq!(
        is_heard(&mut nat, soon, shown.1),
        Ok(3),
        "before the initiator says anything"
    );
    assert_eq!(out(&mut nat, soon, udp(INNER, SERVER, (5000, 53))), Ok(shown));

    // Not for another pair, and not when the time is over.
    nat.end(soon, 3);
    let elsewhere = Pair {
        destination: ROUTER.into(),
        ..pair(INNER)
    };
    assert_ne!(nat.begin(soon, 4, elsewhere, tag), Some(FIRST));
    let late = soon.plus(NAT_KEPT_NS);
    nat.tick(late);
    assert_eq!(is_heard(&mut nat, late, shown.1), Err(DropReason::OpenExitUnsolicited));
    assert_eq!(nat.in_use(), [0, 1]);
}

#[test]
fn line_9_ended_sessions_are_bounded() {
    let mut nat = nat();
    for n in 0u32..1000 {
        let mut tag = [0; 16];
        tag[..4].copy_from_slice(&n.to_be_bytes());
        let session = nat.begin(Now(1), n % 100, pair(INNER), FlowTag(tag));
        let mut bytes = udp(INNER, SERVER, (5000, 53));
        assert_eq!(nat.outbound(Now(1), session.unwrap(), &mut bytes), Ok(()));
    }
    assert_eq!(nat.in_use(), [200, 100]);
    (0..100).for_each(|flow| nat.end(Now(1), flow));
    nat.tick(Now(1).plus(NAT_KEPT_NS));
    assert_eq!(nat.in_use(), [0, 0]);
}
