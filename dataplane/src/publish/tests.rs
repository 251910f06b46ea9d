use super::*;

#[cfg(not(loom))]
mod on_real_atomics {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn readers_see_what_was_published_last() {
        let (mut publisher, mut readers) = published(10, 2);
        assert_eq!(**readers[0].current(), 10);
        assert_eq!(publisher.publish(11), 2);
        assert_eq!(publisher.publish(12), 3);
        assert_eq!((**readers[0].current(), readers[0].version()), (12, 3));
        assert_eq!((**readers[1].current(), *publisher.current()), (12, 12));
    }

    #[test]
    fn grace_period_waits_for_those_awake_only() {
        let (mut publisher, mut readers) = published(0, 2);
        assert!(publisher.all_passed(1), "nobody has begun");
        let [a, b] = &mut readers[..] else { unreachable!() };
        a.current();
        b.current();
        let version = publisher.publish(1);
        assert!(!publisher.all_passed(version));
        a.quiescent();
        assert!(!publisher.all_passed(version), "that burst began with the old table");
        a.current();
        assert!(!publisher.all_passed(version), "that burst has not ended");
        a.quiescent();
        assert!(!publisher.all_passed(version), "b has not passed");
        b.offline();
        assert!(publisher.all_passed(version));
        assert_eq!(**b.current(), 1, "who wakes sees what was published meanwhile");
        b.quiescent();
        assert!(publisher.all_passed(version));
    }

    #[test]
    fn a_new_version_of_the_same_table_is_a_grace_period_too() {
        let (mut publisher, mut readers) = published(5, 1);
        readers[0].current();
        let version = publisher.advance();
        assert!(!publisher.all_passed(version));
        assert_eq!(**readers[0].current(), 5);
        readers[0].quiescent();
        assert!(publisher.all_passed(version));
        assert_eq!(publisher.reclaim(), 0, "no table was replaced");
    }

    #[test]
    fn a_reader_does_not_wait_for_the_lock() {
        let (mut publisher, mut readers) = published(1, 1);
        readers[0].current();
        let version = publisher.publish(2);
        let shared = Arc::clone(&publisher.shared);
        let held = shared.current.lock().unwrap();
        assert_eq!(**readers[0].current(), 1);
        readers[0].quiescent();
        assert!(!publisher.all_passed(version));
        drop(held);
        assert_eq!(**readers[0].current(), 2);
    }

    /// Notes whether it was dropped on a worker's thread.
    struct Tattler<'a> {
        worker_drops: &'a AtomicUsize,
        control: std::thread::ThreadId,
        value: u64,
    }

    impl Drop for Tattler<'_> {
        fn drop(&mut self) {
            if std::thread::current().id() != self.control {
                self.worker_drops.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn workers_never_free_a_table_and_never_go_back() {
        const VERSIONS: u64 = 2000;
        let worker_drops = AtomicUsize::new(0);
        let control = std::thread::current().id();
        let table = |value| Tattler {
            worker_drops: &worker_drops,
            control,
            value,
        };
        let (mut publisher, readers) = published(table(0), 2);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for mut reader in readers {
                let stop = &stop;
                scope.spawn(move || {
                    let (mut last, mut bursts) = (0, 0u64);
                    while !stop.load(Ordering::Relaxed) {
                        let value = reader.current().value;
                        assert!(value >= last, "{value} after {last}");
                        last = value;
                        bursts += 1;
                        if bursts.is_multiple_of(7) {
                            reader.offline()
                        } else {
                            reader.quiescent()
                        }
                    }
                    reader.offline();
                });
            }
            for value in 1..=VERSIONS {
                let version = publisher.publish(table(value));
                if value.is_multiple_of(100) {
                    while !publisher.all_passed(version) {
                        std::thread::yield_now();
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(publisher.reclaim(), 0);
        assert_eq!(worker_drops.load(Ordering::Relaxed), 0);
    }
}

#[cfg(loom)]
mod modelled {
    use loom::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// What control did before it published is visible to a worker that has the new table; tables never go back.
    #[test]
    fn loom_publish() {
        loom::model(|| {
            let (mut publisher, mut readers) = published(1u64, 1);
            let mut reader = readers.pop().unwrap();
            let done = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&done);
            let working = loom::thread::spawn(move || {
                let mut last = 0;
                for _ in 0..2 {
                    let value = **reader.current();
                    assert!(value >= last);
                    assert!(value == 1 || seen.load(Ordering::Relaxed));
                    last = value;
                    reader.quiescent();
                }
            });
            done.store(true, Ordering::Relaxed);
            publisher.publish(2);
            working.join().unwrap();
        });
    }

    /// Once the grace period is over, no burst is under way that began before what control did: `gone` stands for memory that control
    /// takes back after it, `using` for a burst that works with it.
    #[test]
    fn loom_grace_period() {
        loom::model(|| {
            let (mut publisher, mut readers) = published((), 1);
            let mut reader = readers.pop().unwrap();
            let unpublished = Arc::new(AtomicBool::new(false));
            let gone = Arc::new(AtomicBool::new(false));
            let (unpublished_here, gone_here) = (Arc::clone(&unpublished), Arc::clone(&gone));
            let working = loom::thread::spawn(move || {
                for burst in 0..2 {
                    reader.current();
                    if !unpublished_here.load(Ordering::Relaxed) {
                        // Found it before it was unpublished: it must stay until this burst ends.
                        assert!(!gone_here.load(Ordering::Relaxed));
                    }
                    if burst == 0 {
                        reader.quiescent()
                    } else {
                        reader.offline()
                    }
                }
            });
            unpublished.store(true, Ordering::Relaxed);
            let version = publisher.advance();
            if publisher.all_passed(version) {
                gone.store(true, Ordering::Relaxed);
            }
            working.join().unwrap();
        });
    }

    /// What a worker did in bursts with the old table is visible to control once the grace period is over, whether the worker went on
    /// or to sleep.
    #[test]
    fn loom_work_of_old_bursts_is_seen() {
        for sleeps in [false, true] {
            loom::model(move || work_of_old_bursts_is_seen(sleeps));
        }
    }

    fn work_of_old_bursts_is_seen(sleeps: bool) {
        let (mut publisher, mut readers) = published(1u64, 1);
        let mut reader = readers.pop().unwrap();
        let used = Arc::new(AtomicU64::new(0));
        let used_here = Arc::clone(&used);
        let working = loom::thread::spawn(move || {
            for burst in 1..=2 {
                if **reader.current() == 1 {
                    used_here.store(burst, Ordering::Relaxed);
                }
                if sleeps { reader.offline() } else { reader.quiescent() }
            }
        });
        let version = publisher.publish(2);
        let seen = publisher.all_passed(version).then(|| used.load(Ordering::Relaxed));
        working.join().unwrap();
        assert!(seen.is_none_or(|seen| seen == used.load(Ordering::Relaxed)));
    }

    /// A worker that sleeps lets control pass; when it wakes it sees everything published meanwhile.
    #[test]
    fn loom_sleeper_wakes() {
        loom::model(|| {
            let (mut publisher, mut readers) = published(1u64, 1);
            let mut reader = readers.pop().unwrap();
            let freed = Arc::new(AtomicBool::new(false));
            let freed_here = Arc::clone(&freed);
            let working = loom::thread::spawn(move || {
                reader.current();
                reader.offline();
                let value = **reader.current();
                assert!(
                    value == 2 || !freed_here.load(Ordering::Relaxed),
                    "works with what control has taken back"
                );
            });
            let version = publisher.publish(2);
            if publisher.all_passed(version) {
                freed.store(true, Ordering::Relaxed);
            }
            working.join().unwrap();
        });
    }
}
