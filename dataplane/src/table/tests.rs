use super::*;

fn spi(value: u32) -> Spi {
    Spi::new(value).unwrap()
}

fn target(slot: u32) -> Target {
    Target {
        worker: WorkerId(3),
        slot,
        kind: TargetKind::Tvt,
    }
}

#[cfg(not(loom))]
mod on_real_atomics {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::prelude::*;

    use super::*;

    const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

    #[test]
    fn a_bucket_is_a_cache_line_and_a_target_survives_packing() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
        for kind in [TargetKind::Tunnel, TargetKind::Tvt] {
            let target = Target {
                worker: WorkerId(0xfe),
                slot: 0xdead_beef,
                kind,
            };
            assert_eq!(Target::unpack(target.pack()), target);
        }
    }

    #[test]
    fn inserts_finds_removes() {
        let (mut writer, reader) = flow_table(2, SEED);
        assert_eq!(reader.lookup(PeerId(1), spi(256)), None);
        writer.insert(PeerId(1), spi(256), target(7)).unwrap();
        writer.insert(PeerId(2), spi(256), target(8)).unwrap();
        assert_eq!(writer.insert(PeerId(1), spi(256), target(9)), Err(InsertError::InUse));
        assert_eq!(writer.insert(PeerId(3), spi(256), target(9)), Err(InsertError::Full));
        assert_eq!(reader.lookup(PeerId(1), spi(256)), Some(target(7)));
        assert_eq!(reader.lookup(PeerId(2), spi(256)), Some(target(8)));
        assert_eq!(reader.lookup(PeerId(1), spi(257)), None);
        assert_eq!(writer.remove(PeerId(1), spi(256)), Some(target(7)));
        assert_eq!(writer.remove(PeerId(1), spi(256)), None);
        assert_eq!(reader.lookup(PeerId(1), spi(256)), None);
        assert_eq!((writer.len(), writer.capacity(), writer.is_empty()), (1, 2, false));
    }

    #[test]
    fn fills_to_capacity_and_keys_mostly_stay_at_home() {
        const N: u32 = 100_000;
        let (mut writer, reader) = flow_table(N as usize, SEED);
        for i in 0..N {
            writer.insert(PeerId((i % 7) as u16), spi(256 + i), target(i)).unwrap();
        }
        for i in 0..N {
            assert_eq!(reader.lookup(PeerId((i % 7) as u16), spi(256 + i)), Some(target(i)));
        }
        let passed: u32 = reader
            .table
            .passed
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum();
        assert!(passed < N / 15, "{passed} steps past a bucket for {N} keys");
        for i in 0..N {
            writer.remove(PeerId((i % 7) as u16), spi(256 + i)).unwrap();
        }
        assert!(writer.is_empty());
        assert!(
            reader
                .table
                .passed
                .iter()
                .all(|count| count.load(Ordering::Relaxed) == 0),
            "nothing is left behind"
        );
    }

    #[test]
    fn churn_does_not_wear_the_table_out() {
        let (mut writer, reader) = flow_table(64, SEED);
        for i in 0..50_000u32 {
            writer.insert(PeerId(0), spi(256 + i), target(i)).unwrap();
            if i >= 63 {
                writer.remove(PeerId(0), spi(256 + i - 63)).unwrap();
            }
        }
        for i in 50_000 - 63..50_000u32 {
            assert_eq!(reader.lookup(PeerId(0), spi(256 + i)), Some(target(i)));
        }
    }

    #[test]
    fn burst_finds_what_single_lookups_find() {
        let (mut writer, reader) = flow_table(100, SEED);
        for i in (0..100).step_by(2) {
            writer.insert(PeerId(i as u16), spi(1000 + i), target(i)).unwrap();
        }
        let keys: Vec<_> = (0..BURST as u32 + 9)
            .map(|i| (PeerId(i as u16), spi(1000 + i)))
            .collect();
        let mut found = ArrayVec::new();
        found.push(None);
        reader.lookup_burst(&keys, &mut found);
        let one_by_one: Vec<_> = keys
            .iter()
            .take(BURST)
            .map(|&(peer, spi)| reader.lookup(peer, spi))
            .collect();
        assert_eq!(found.as_slice(), one_by_one);
        assert!(one_by_one.iter().flatten().count() == BURST / 2);
    }

    /// Readers on other threads, while keys come and go through few buckets, always find the key that stays, and only targets that
    /// some key was given.
    #[test]
    fn concurrent_readers_find_what_stays() {
        let (mut writer, reader) = flow_table(16, SEED);
        writer.insert(PeerId(9), spi(999), target(999)).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        for i in 0..32 {
                            if let Some(found) = reader.lookup(PeerId(0), spi(256 + i)) {
                                assert!(
                                    found == target(found.slot) && (found.slot < 32 || found.slot == 999),
                                    "{found:?}"
                                );
                            }
                        }
                        assert_eq!(
                            reader.lookup(PeerId(9), spi(999)),
                            Some(target(999)),
                            "who stays is always found"
                        );
                    }
                });
            }
            for round in 0..3000u32 {
                for i in 0..15 {
                    let i = (i + round) % 32;
                    writer.insert(PeerId(0), spi(256 + i), target(i)).unwrap();
                }
                for i in 0..15 {
                    writer.remove(PeerId(0), spi(256 + (i + round) % 32)).unwrap();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    proptest! {
        #[test]
        fn follows_a_hash_map(seed: [u64; 2], steps in prop::collection::vec((any::<bool>(), 0u16..3, 256u32..290), 1..300)) {
            let (mut writer, reader) = flow_table(40, seed);
            let mut model = HashMap::new();
            for (i, (insert, peer, value)) in steps.into_iter().enumerate() {
                let (peer, spi, new) = (PeerId(peer), spi(value), target(i as u32));
                if insert {
                    let expected = if model.contains_key(&(peer, spi)) {
                        Err(InsertError::InUse)
                    } else if model.len() == 40 {
                        Err(InsertError::Full)
                    } else {
                        model.insert((peer, spi), new);
                        Ok(())
                    };
                    prop_assert_eq!(writer.insert(peer, spi, new), expected);
                } else {
                    prop_assert_eq!(writer.remove(peer, spi), model.remove(&(peer, spi)));
                }
                prop_assert_eq!(writer.len(), model.len());
            }
            for peer in (0..3).map(PeerId) {
                for spi in (256..290).map(spi) {
                    prop_assert_eq!(reader.lookup(peer, spi), model.get(&(peer, spi)).copied());
                }
            }
        }
    }
}

#[cfg(loom)]
mod modelled {
    use super::*;

    /// A key that is seen is seen with its value.
    #[test]
    fn loom_fresh_entry() {
        loom::model(|| {
            let (mut writer, reader) = flow_table(1, [1, 2]);
            let looking = loom::thread::spawn(move || reader.lookup(PeerId(1), spi(256)));
            writer.insert(PeerId(1), spi(256), target(10)).unwrap();
            let found = looking.join().unwrap();
            assert!(found.is_none_or(|found| found == target(10)), "{found:?}");
        });
    }

    /// An entry's place changes hands while a reader looks for the old key and the new: the new is found as it is or missed, the old
    /// perhaps with the value that took its place, which the owner of that slot does not take for its own.
    #[test]
    fn loom_reused_entry() {
        loom::model(|| {
            let (mut writer, reader) = flow_table(1, [1, 2]);
            writer.insert(PeerId(1), spi(256), target(10)).unwrap();
            let looking = loom::thread::spawn(move || {
                let old = reader.lookup(PeerId(1), spi(256));
                assert!(
                    old.is_none_or(|found| [target(10), target(20)].contains(&found)),
                    "{old:?}"
                );
                let new = reader.lookup(PeerId(2), spi(300));
                assert!(new.is_none_or(|found| found == target(20)), "{new:?}");
            });
            writer.remove(PeerId(1), spi(256)).unwrap();
            writer.insert(PeerId(2), spi(300), target(20)).unwrap();
            looking.join().unwrap();
        });
    }
}
