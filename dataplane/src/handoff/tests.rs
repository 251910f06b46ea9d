use super::*;

#[cfg(not(loom))]
mod on_real_atomics {
    use super::*;

    #[test]
    fn full_ring_gives_the_item_back() {
        let (mut producer, mut consumer) = ring(2);
        assert_eq!(
            (producer.push(1), producer.push(2), producer.push(3)),
            (Ok(()), Ok(()), Err(3))
        );
        assert_eq!(consumer.pop(), Some(1));
        assert_eq!(producer.push(4), Ok(()));
        assert_eq!(
            (consumer.pop(), consumer.pop(), consumer.pop()),
            (Some(2), Some(4), None)
        );
    }

    #[test]
    fn every_pair_has_its_own_ring() {
        let mut ends = Mesh::new(3, 1).into_ends();
        for from in 0..3u8 {
            for to in 0..3u8 {
                let sent = ends[usize::from(from)].send(WorkerId(to), (from, to));
                assert_eq!(sent.is_ok(), from != to);
            }
        }
        assert_eq!(ends[0].send(WorkerId(1), (9, 9)), Err((9, 9)), "full");
        assert_eq!(ends[0].send(WorkerId(3), (9, 9)), Err((9, 9)), "nobody there");
        for (to, end) in (0u8..).zip(&mut ends) {
            let mut received: Vec<_> = std::iter::from_fn(|| end.receive()).collect();
            received.sort_unstable();
            let expected: Vec<_> = (0..3).filter(|&from| from != to).map(|from| (from, to)).collect();
            assert_eq!(received, expected);
        }
    }

    #[test]
    fn senders_take_turns() {
        let mut ends = Mesh::new(3, 8).into_ends();
        for i in 0..3 {
            ends[0].send(WorkerId(2), i).unwrap();
            ends[1].send(WorkerId(2), 10 + i).unwrap();
        }
        let received: Vec<_> = std::iter::from_fn(|| ends[2].receive()).collect();
        assert_eq!(received, [0, 10, 1, 11, 2, 12]);
    }

    #[test]
    fn a_mesh_of_one_has_nobody_to_talk_to() {
        let mut ends = Mesh::new(1, 8).into_ends();
        assert_eq!(ends[0].send(WorkerId(0), 1), Err(1));
        assert_eq!(ends[0].receive(), None);
    }
}

#[cfg(loom)]
mod modelled {
    use super::*;
    use crate::id::{PeerId, Spi};
    use crate::publish::published;
    use crate::table::{Target, TargetKind, flow_table};

    /// What was sent arrives once and in order; what was given back does not.
    #[test]
    fn loom_order_and_refusal() {
        loom::model(|| {
            let mut ends = Mesh::new(2, 1).into_ends();
            let mut receiver = ends.pop().unwrap();
            let mut sender = ends.pop().unwrap();
            let sending = loom::thread::spawn(move || {
                (1..=3)
                    .filter(|&item| sender.send(WorkerId(1), item).is_ok())
                    .collect::<Vec<_>>()
            });
            let mut received: Vec<_> = (0..2).filter_map(|_| receiver.receive()).collect();
            let sent = sending.join().unwrap();
            received.extend(std::iter::from_fn(|| receiver.receive()));
            assert_eq!(received, sent);
        });
    }

    /// Removal: control unpublishes and waits for the grace period. From then on nothing that a worker looked up before can be
    /// put on a ring, so what the owner finds there after one last look is all there will ever be.
    #[test]
    fn loom_removal_then_grace_then_nothing_new_arrives() {
        loom::model(|| {
            let (mut writer, reader) = flow_table(1, [1, 2]);
            let (peer, spi) = (PeerId(1), Spi::new(256).unwrap());
            let target = Target {
                worker: WorkerId(1),
                slot: 5,
                kind: TargetKind::Tvt,
            };
            writer.insert(peer, spi, target).unwrap();
            let (mut publisher, mut readers) = published((), 1);
            let mut epoch = readers.pop().unwrap();
            let mut ends = Mesh::new(2, 4).into_ends();
            let mut owner = ends.pop().unwrap();
            let mut other = ends.pop().unwrap();

            let working = loom::thread::spawn(move || {
                for _ in 0..2 {
                    epoch.current();
                    if let Some(found) = reader.lookup(peer, spi) {
                        other.send(found.worker, found.slot).unwrap();
                    }
                    epoch.quiescent();
                }
                epoch.offline();
            });
            writer.remove(peer, spi);
            let version = publisher.advance();
            let passed = publisher.all_passed(version);
            let before = std::iter::from_fn(|| owner.receive()).count();
            working.join().unwrap();
            let after = std::iter::from_fn(|| owner.receive()).count();
            assert!(!passed || after == 0, "{before} before, {after} after the grace period");
        });
    }
}
