//! What failed lately and is avoided for a while: a suspicion, no verdict.
//!
//! ```text
//!   entrance ── guard ── a ── b ── exit   failed:   a and b are suspects, and the link of the guard to a
//!   entrance ── guard ── c ─────── exit   failed:   c is one too
//!   entrance ── guard ── d ─────── exit   failed:   nobody else was on all of them: it is the guard, and not a, b, c or d
//!   entrance ── guard ──────────── exit   failed:   it is the guard
//! ```
//!
//! The guard ([`crate::guard`]) is blamed last, and for the way to that exit alone. Were it a suspect of every failure, any node behind
//! it could end AIVTs until the entrance stands behind the guard that it likes best. Its link is one: where every way is over suspects
//! there is one suspect less on the way over the next guard.

use std::collections::HashMap;

use ain_dataplane::id::Now;

use crate::directory::NodeId;
use crate::limits::{GUARD_FAILURES, PENALTIES, PENALTY};

/// Nodes, links and ways that failed lately.
#[derive(Default)]
pub struct Penalties {
    until: HashMap<Suspect, Now>,
    rows: HashMap<Way, Row>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Suspect {
    Node(NodeId),
    Link(NodeId, NodeId),
    Way(Way),
}

impl Suspect {
    fn link(one: NodeId, other: NodeId) -> Self {
        Self::Link(one.min(other), one.max(other))
    }
}

/// All paths to `exit` that begin with `guard`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Way {
    guard: NodeId,
    exit: NodeId,
}

/// Failures of a way in a row, no node but the guard and the exit on two of them.
#[derive(Default)]
struct Row {
    failures: usize,
    over: Vec<NodeId>,
    until: Now,
}

impl Penalties {
    /// An AIVT over `path`, both ends included, failed for reasons unknown. Suspects the nodes between the ends but the first of them,
    /// and its link to the next one; itself where it is alone, or no other was on two of [`GUARD_FAILURES`] such paths in a row; and the
    /// one link of two ends.
    pub fn suspect_path(&mut self, now: Now, path: &[NodeId]) {
        self.until.retain(|_, until| *until > now);
        self.rows.retain(|_, row| row.until > now);
        match *path {
            [one, other] => self.suspect(now, Suspect::link(one, other)),
            [_, guard, ref beyond @ .., exit] => {
                beyond.iter().for_each(|node| self.suspect(now, Suspect::Node(*node)));
                if let Some(first) = beyond.first() {
                    self.suspect(now, Suspect::link(guard, *first));
                }
                self.add_failure(now, Way { guard, exit }, beyond);
            }
            _ => {}
        }
    }

    /// An AIVT over `path`, both ends included, did what it was made for: its guard has failed no AIVT in a row.
    pub fn clear_path(&mut self, path: &[NodeId]) {
        if let [_, guard, .., exit] = *path {
            self.rows.remove(&Way { guard, exit });
        }
    }

    fn add_failure(&mut self, now: Now, way: Way, beyond: &[NodeId]) {
        let mut row = self.rows.remove(&way).unwrap_or_default();
        if beyond.iter().all(|node| !row.over.contains(node)) {
            row.failures += 1;
            row.over.extend(beyond);
            row.until = now.plus(PENALTY);
        }
        if beyond.is_empty() || row.failures >= GUARD_FAILURES {
            for node in row.over {
                self.until.remove(&Suspect::Node(node));
                self.until.remove(&Suspect::link(way.guard, node));
            }
            self.suspect(now, Suspect::Way(way));
        } else if self.rows.len() < PENALTIES {
            self.rows.insert(way, row);
        }
    }

    fn suspect(&mut self, now: Now, suspect: Suspect) {
        if self.until.len() < PENALTIES || self.until.contains_key(&suspect) {
            self.until.insert(suspect, now.plus(PENALTY));
        }
    }

    fn holds(&self, now: Now, suspect: Suspect) -> bool {
        self.until.get(&suspect).is_some_and(|until| *until > now)
    }

    /// Suspects on the step from `one` to `other` of a path between `ends`: the link, the way if the path begins with the step, and the
    /// node unless it is the exit, which nothing can replace.
    pub(crate) fn on_step(&self, now: Now, [one, other]: [NodeId; 2], ends: [NodeId; 2]) -> usize {
        let [entrance, exit] = ends;
        let way = Way { guard: other, exit };
        let of_step = [
            other != exit && self.holds(now, Suspect::Node(other)),
            one == entrance && self.holds(now, Suspect::Way(way)),
            self.holds(now, Suspect::link(one, other)),
        ];
        of_step.into_iter().filter(|suspect| *suspect).count()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;
    use crate::directory::Directory;
    use crate::path::testing::{WALL, changed_network};
    use crate::path::{Wish, choose};

    /// Entrance 0, guards 1 and 2, in this order, behind both of them some of 3, 4 and 5, behind those the exits 6 and 7.
    struct Net {
        directory: Directory,
        ids: Vec<NodeId>,
        penalties: Penalties,
        rng: ChaCha12Rng,
    }

    impl Net {
        fn new() -> Self {
            Self::over(3..=5)
        }

        fn over(beyond: std::ops::RangeInclusive<u8>) -> Self {
            let links = beyond.flat_map(|node| [(1, node), (2, node), (node, 6), (node, 7)]);
            let links: Vec<_> = links.chain([(0, 1), (0, 2)]).collect();
            let (directory, ids) = changed_network(8, &links, |_| ());
            Self {
                directory,
                ids,
                penalties: Penalties::default(),
                rng: ChaCha12Rng::seed_from_u64(1),
            }
        }

        /// A path of four nodes to `exit`.
        fn path(&mut self, now: Now, exit: usize) -> Vec<usize> {
            let wish = Wish {
                entrance: self.ids[0],
                exit: self.ids[exit],
                min_nodes: 4,
                max_nodes: 4,
                suite: 3,
                wall: WALL,
            };
            let guards = [self.ids[1], self.ids[2]];
            let path = choose(&self.directory, &wish, &guards, &self.penalties, now, &mut self.rng).unwrap();
            path.iter()
                .map(|node| self.ids.iter().position(|id| id == node).unwrap())
                .collect()
        }

        fn ids(&self, path: &[usize]) -> Vec<NodeId> {
            path.iter().map(|node| self.ids[*node]).collect()
        }

        fn fail(&mut self, now: Now, path: &[usize]) {
            let path = self.ids(path);
            self.penalties.suspect_path(now, &path);
        }

        fn work(&mut self, path: &[usize]) {
            let path = self.ids(path);
            self.penalties.clear_path(&path);
        }
    }

    #[test]
    fn line_8_who_stands_behind_the_guard_does_not_drive_the_entrance_off_it() {
        let mut net = Net::new();
        let mut over_bad = 0;
        for round in 0..200 {
            // Every path over 3 fails; the time is that of a few penalties.
            let now = Now(round * PENALTY / 50);
            let path = net.path(now, 6);
            assert_eq!(path[1], 1, "round {round}");
            if path[2] == 3 {
                net.fail(now, &path);
                over_bad += 1;
            } else {
                net.work(&path);
            }
        }
        assert!((1..=5).contains(&over_bad), "avoided in between: {over_bad}");
    }

    #[test]
    fn line_8_a_guard_that_fails_with_everybody_is_passed_over_for_that_exit_and_others_are_cleared() {
        let mut net = Net::new();
        for failure in 0..GUARD_FAILURES {
            let path = net.path(Now(0), 6);
            assert_eq!(path[1], 1, "failure {failure}");
            net.fail(Now(0), &path);
        }
        let seconds: Vec<_> = (0..60).map(|_| net.path(Now(PENALTY - 1), 6)).collect();
        assert!(seconds.iter().all(|path| path[1] == 2));
        assert!(
            (3..=5).all(|node| seconds.iter().any(|path| path[2] == node)),
            "cleared"
        );
        assert_eq!(net.path(Now(PENALTY - 1), 7)[1], 1, "to another exit");
        assert_eq!(net.path(Now(PENALTY), 6)[1], 1, "it gets its place back");
    }

    #[test]
    fn line_8_failures_that_one_other_node_can_have_caused_or_with_a_success_between_are_no_row() {
        let mut net = Net::new();
        for _ in 0..4 * GUARD_FAILURES {
            net.fail(Now(0), &[0, 1, 3, 6]);
            net.fail(Now(0), &[0, 1, 4, 3, 6]);
        }
        assert_eq!(net.path(Now(1), 6), [0, 1, 5, 6]);
        net.work(&[0, 1, 5, 6]);
        for now in [0, PENALTY] {
            for node in [3, 4] {
                net.fail(Now(now), &[0, 1, node, 6]);
            }
        }
        assert_eq!(net.path(Now(PENALTY + 1), 6), [0, 1, 5, 6]);
    }

    #[test]
    fn line_8_where_one_node_is_on_all_ways_the_next_guard_is_tried() {
        let mut net = Net::over(3..=3);
        assert_eq!(net.path(Now(0), 6), [0, 1, 3, 6]);
        net.fail(Now(0), &[0, 1, 3, 6]);
        assert_eq!(net.path(Now(1), 6), [0, 2, 3, 6]);
        net.work(&[0, 2, 3, 6]);
        assert_eq!(net.path(Now(PENALTY - 1), 6), [0, 2, 3, 6]);
        assert_eq!(net.path(Now(PENALTY), 6), [0, 1, 3, 6]);
        // With both of them it is nobody's link, and the first guard has its place.
        net.fail(Now(PENALTY), &[0, 1, 3, 6]);
        net.fail(Now(PENALTY), &[0, 2, 3, 6]);
        assert_eq!(net.path(Now(PENALTY), 6), [0, 1, 3, 6]);
    }

    #[test]
    fn line_8_a_guard_that_is_alone_between_the_ends_is_passed_over_at_once() {
        let mut net = Net::new();
        net.fail(Now(0), &[0, 1, 6]);
        assert_eq!((net.path(Now(0), 6)[1], net.path(Now(0), 7)[1]), (2, 1));
    }
}
