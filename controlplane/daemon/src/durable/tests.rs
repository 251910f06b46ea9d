//! Numbers across starts, crashes and keys that come back.

use super::*;

fn key(byte: u8) -> KeyMaterial {
    KeyMaterial::new(vec![byte; 20])
}

#[test]
fn grants_never_overlap_across_starts() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Durable::open(dir.path()).unwrap();
    let sequence = first.sequence(&key(1)).unwrap();
    let ivs = first.ivs(&key(1), 2).unwrap();
    assert_eq!((sequence.next(), sequence.limit()), (1, 1), "none that is not on disk");
    first.top_up().unwrap();
    assert_eq!((sequence.next(), sequence.limit()), (1, 1 + BLOCK));
    assert_eq!((ivs[1].next(), ivs[1].limit()), (1 << 56, (1 << 56) + BLOCK));
    let limit = sequence.limit();
    drop(first);
    let mut second = Durable::open(dir.path()).unwrap();
    assert_eq!(second.sequence(&key(1)).unwrap().next(), limit);
    assert_eq!(second.ivs(&key(1), 1).unwrap()[0].next(), ivs[0].limit());
    assert_eq!(second.sequence(&key(2)).unwrap().next(), 1, "another key begins anew");
}

#[test]
fn a_half_used_grant_is_extended_on_disk_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut durable = Durable::open(dir.path()).unwrap();
    let grant = durable.sequence(&key(1)).unwrap();
    durable.top_up().unwrap();
    let mut reserved = ain_dataplane::reserve::Reserved::new(Arc::clone(&grant));
    let before = grant.limit();
    durable.top_up().unwrap();
    assert_eq!(grant.limit(), before, "not needed yet");
    (0..BLOCK / 2).for_each(|_| assert!(reserved.take().is_some()));
    durable.top_up().unwrap();
    assert!(grant.limit() >= before + BLOCK);
    assert_eq!(
        durable.state.value(Tag::of_key(Quantity::OutboundSequence, &key(1))),
        grant.limit()
    );
}

#[test]
fn accepted_numbers_survive_a_killed_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut durable = Durable::open(dir.path()).unwrap();
    durable.highest(&key(2)).unwrap();
    let one = durable.highest(&key(1)).unwrap();
    one.store(7, Ordering::Relaxed);
    durable.write_accepted().unwrap();
    one.store(9, Ordering::Relaxed);
    durable.write_accepted().unwrap();
    drop(durable);
    let mut durable = Durable::open(dir.path()).unwrap();
    let highest = [1, 2, 3].map(|byte| durable.highest(&key(byte)).unwrap().load(Ordering::Relaxed));
    assert_eq!(highest, [9, 0, 0]);
}

#[test]
fn line_1_a_key_that_comes_back_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut durable = Durable::open(dir.path()).unwrap();
    let (grant, highest) = (durable.sequence(&key(1)).unwrap(), durable.highest(&key(2)).unwrap());
    let ivs = durable.ivs(&key(1), 2).unwrap();
    durable.top_up().unwrap();
    durable.write_accepted().unwrap();
    let is_used = |durable: &mut Durable| {
        let outcomes = [
            durable.sequence(&key(1)).err(),
            durable.ivs(&key(1), 2).err(),
            durable.highest(&key(2)).err(),
        ];
        outcomes.map(|error| matches!(error, Some(DurableError::KeyInUse)))
    };
    assert_eq!(is_used(&mut durable), [true; 3]);
    // Accepted last, and let go of before anybody looks.
    highest.store(77, Ordering::Relaxed);
    let limit = grant.limit();
    drop((grant, highest));
    assert!(is_used(&mut durable)[1], "TVTs keep an AH key for longer");
    let iv_limit = ivs[1].limit();
    drop(ivs);
    durable.top_up().unwrap();
    durable.write_accepted().unwrap();
    assert_eq!(durable.granted.len(), 0);
    assert!(
        durable
            .accepted
            .records
            .iter()
            .all(|record| record.name != name_of(&key(2)) || record.highest.is_none())
    );
    assert_eq!(durable.sequence(&key(1)).unwrap().next(), limit);
    assert_eq!(durable.ivs(&key(1), 2).unwrap()[1].next(), iv_limit);
    assert_eq!(durable.highest(&key(2)).unwrap().load(Ordering::Relaxed), 77);
}

#[test]
fn line_1_a_key_keeps_its_place_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let mut durable = Durable::open(dir.path()).unwrap();
    let [one, two, three] = &[1, 2, 3].map(key);
    let places = |protocol, keys| KeyPlace::of_pair(protocol, keys);
    places(SaProtocol::Ah, [one, two])
        .iter()
        .for_each(|place| durable.keep_place(place));
    let _sequence = durable.sequence(two).unwrap();
    durable.top_up().unwrap();
    drop(durable);
    let durable = Durable::open(dir.path()).unwrap();
    let may = |protocol, keys| places(protocol, keys).map(|place| durable.check_place(&place).is_ok());
    assert_eq!(may(SaProtocol::Ah, [one, two]), [true, true]);
    assert_eq!(may(SaProtocol::Ah, [two, one]), [false, false], "the other direction");
    assert_eq!(may(SaProtocol::Esp, [one, two]), [false, false], "the other protocol");
    assert_eq!(may(SaProtocol::Ah, [one, three]), [false, true], "another partner");
}

#[test]
fn a_file_of_accepted_numbers_that_was_cut_short_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut durable = Durable::open(dir.path()).unwrap();
    for byte in 1..=3 {
        durable
            .highest(&key(byte))
            .unwrap()
            .store(byte.into(), Ordering::Relaxed);
    }
    durable.write_accepted().unwrap();
    durable.sync_accepted().unwrap();
    drop(durable);
    let path = dir.path().join(FILE);
    let good = std::fs::read(&path).unwrap();
    for records in 0..3 {
        std::fs::write(&path, &good[..records * RECORD]).unwrap();
        assert!(
            matches!(Durable::open(dir.path()), Err(DurableError::Damaged(_))),
            "{records} left"
        );
    }
    std::fs::write(&path, &good).unwrap();
    let highest = Durable::open(dir.path()).unwrap().highest(&key(3)).unwrap();
    assert_eq!(highest.load(Ordering::Relaxed), 3);
}

#[test]
fn spis_are_reserved_under_both_keys() {
    let dir = tempfile::tempdir().unwrap();
    let mut durable = Durable::open(dir.path()).unwrap();
    let of = (PeerId(0), Generation(5));
    durable.begin_generation(of, [&key(1), &key(2)]);
    durable.reserve_spis(of, 500).unwrap();
    let counter = |durable: &Durable, [one, two]: [u8; 2]| durable.spi_counter([&key(one), &key(two)]);
    assert!(
        matches!(counter(&durable, [3, 2]), Err(DurableError::KeyInUse)),
        "two generations never share a counter"
    );
    durable.end_generation(of);
    assert_eq!(counter(&durable, [3, 2]).unwrap(), 500);
    drop(durable);
    let durable = Durable::open(dir.path()).unwrap();
    let counters = [[1, 2], [2, 1], [3, 2], [1, 3], [3, 4]].map(|keys| counter(&durable, keys).unwrap());
    assert_eq!(counters, [500, 500, 500, 500, 0]);
}

#[test]
fn creating_signals_of_an_earlier_life_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut durable = Durable::open(dir.path()).unwrap();
    assert_eq!(durable.replay_floor(), 0, "nothing was accepted before the first start");
    durable.note_create(900).unwrap();
    durable.note_create(890).unwrap();
    drop(durable);
    assert_eq!(Durable::open(dir.path()).unwrap().replay_floor(), 901);
}

#[test]
fn line_2_a_creating_signal_is_noted_when_it_is_written_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut durable = Durable::open(dir.path()).unwrap();
    durable.note_create(900).unwrap();
    // The kernel takes no more: the file is open for reading alone.
    let reading = File::open(dir.path().join(FILE)).unwrap();
    let writing = std::mem::replace(&mut durable.accepted.file, reading);
    for _ in 0..3 {
        assert!(durable.note_create(950).is_err());
        assert!(durable.note_create(900).is_ok(), "written before");
    }
    durable.accepted.file = writing;
    durable.note_create(950).unwrap();
    drop(durable);
    assert_eq!(Durable::open(dir.path()).unwrap().replay_floor(), 951);
}

#[test]
fn damage_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut durable = Durable::open(dir.path()).unwrap();
    durable.highest(&key(1)).unwrap().store(7, Ordering::Relaxed);
    durable.write_accepted().unwrap();
    drop(durable);
    let path = dir.path().join(FILE);
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        assert!(
            matches!(Accepted::open(&path), Err(DurableError::Damaged(_))),
            "byte {at}"
        );
        std::fs::write(&path, &good[..at]).unwrap();
        assert_eq!(Accepted::open(&path).is_err(), at % RECORD != 0, "{at} bytes left");
    }
}
