//! Path choice: a random simple path along neighbour links, away from what failed lately.
//!
//! ```text
//!   entrance -- door -- node drawn by weight -- ... -- exit          no two of one family
//!                |
//!                one of a few neighbours, most wanted first ([`crate::guard`])
//! ```
//!
//! The number of nodes is drawn first, then the nodes, each by its weight among those that fit, by a depth-first search that never
//! enters a node from which the exit is out of reach. What failed ([`crate::penalty`]) is avoided while another way exists; when none
//! does, the least tainted of several random paths is taken.

use std::collections::{HashMap, VecDeque};

use ain_dataplane::id::Now;
use rand::{CryptoRng, RngExt};

use crate::directory::{Directory, Entry, NodeId, draw_by_weight};
use crate::limits::{PATH_SAMPLES, PATH_SEARCH_STEPS};
use crate::penalty::Penalties;

/// What a path must be.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// First node.
    pub entrance: NodeId,
    /// Last node.
    pub exit: NodeId,
    /// Nodes at least, both ends counted.
    pub min_nodes: usize,
    /// Nodes at most.
    pub max_nodes: usize,
    /// Suite of the creating signal: every node after the entrance has a key of it.
    pub suite: u8,
    /// Unix time, seconds, at which entries and keys have to be valid.
    pub wall: u64,
}

/// A path from the entrance to the exit, both included, that begins with one of `doors`, neighbours of the entrance, most wanted
/// first. The exit is a door for a path of two nodes only. `None` if there is none within the wish, or none was found within
/// [`PATH_SEARCH_STEPS`].
pub fn choose(
    directory: &Directory,
    wish: &Wish,
    doors: &[NodeId],
    penalties: &Penalties,
    now: Now,
    rng: &mut dyn CryptoRng,
) -> Option<Vec<NodeId>> {
    let tainted = |one, other| penalties.on_step(now, [one, other], [wish.entrance, wish.exit]);
    let clean = |one, other| tainted(one, other) == 0;
    let search = Search::new(directory, wish, &clean)?;
    if let Some(path) = doors.iter().find_map(|door| search.run(doors, *door, rng)) {
        return Some(path);
    }
    let search = Search::new(directory, wish, &|_, _| true)?;
    let mut samples = Vec::with_capacity(PATH_SAMPLES);
    for door in doors {
        let sample = || search.run(doors, *door, rng);
        samples.extend(
            std::iter::repeat_with(sample)
                .map_while(|path| path)
                .take(PATH_SAMPLES.div_ceil(doors.len())),
        );
    }
    samples
        .into_iter()
        .min_by_key(|path| path.windows(2).map(|step| tainted(step[0], step[1])).sum::<usize>())
}

/// Whether paths may lead over `entry` between their ends, as far as it alone says.
pub(crate) fn is_usable(entry: &Entry, suite: u8, wall: u64) -> bool {
    entry.weight > 0 && is_reachable(entry, suite, wall)
}

fn is_reachable(entry: &Entry, suite: u8, wall: u64) -> bool {
    entry.check_valid(wall).is_ok() && entry.onion_key(suite, wall).is_some()
}

struct Search<'a> {
    directory: &'a Directory,
    wish: &'a Wish,
    entrance: &'a Entry,
    exit: &'a Entry,
    step_allowed: &'a dyn Fn(NodeId, NodeId) -> bool,
    /// Steps to the exit, at least, from each node that may stand on a path behind the entrance.
    distance: HashMap<NodeId, usize>,
}

impl<'a> Search<'a> {
    /// `None` if the ends cannot stand on one path.
    fn new(directory: &'a Directory, wish: &'a Wish, step_allowed: &'a dyn Fn(NodeId, NodeId) -> bool) -> Option<Self> {
        let (entrance, exit) = (directory.entry(&wish.entrance)?, directory.entry(&wish.exit)?);
        if !exit.is_apart_from(entrance) || !is_reachable(exit, wish.suite, wish.wall) {
            return None;
        }
        let mut search = Self {
            directory,
            wish,
            entrance,
            exit,
            step_allowed,
            distance: HashMap::from([(wish.exit, 0)]),
        };
        let mut queue = VecDeque::from([(wish.exit, exit)]);
        while let Some((node, entry)) = queue.pop_front() {
            let steps = search.distance[&node] + 1;
            for neighbour in &entry.neighbours {
                if search.distance.contains_key(neighbour) || !step_allowed(*neighbour, node) {
                    continue;
                }
                if let Some(entry) = directory.entry(neighbour).filter(|entry| search.fits(entry)) {
                    search.distance.insert(*neighbour, steps);
                    queue.push_back((*neighbour, entry));
                }
            }
        }
        Some(search)
    }

    /// Whether a node may stand between the ends.
    fn fits(&self, entry: &Entry) -> bool {
        is_usable(entry, self.wish.suite, self.wish.wall)
            && entry.is_apart_from(self.entrance)
            && entry.is_apart_from(self.exit)
    }

    /// One random path that begins with `door`, or that leads straight to the exit if that is one of `doors`, of a random length
    /// that has any.
    fn run(&self, doors: &[NodeId], door: NodeId, rng: &mut dyn CryptoRng) -> Option<Vec<NodeId>> {
        let exit = self.wish.exit;
        let may_begin = |node: NodeId| node == door || (node == exit && doors.contains(&exit));
        let mut lengths: Vec<usize> = (self.wish.min_nodes..=self.wish.max_nodes).collect();
        shuffle(&mut lengths, rng);
        let mut budget = PATH_SEARCH_STEPS;
        lengths.into_iter().find_map(|nodes| {
            let mut path = vec![(self.wish.entrance, self.entrance)];
            self.extend(&mut path, nodes, &may_begin, &mut budget, rng)
                .then(|| path.into_iter().map(|(id, _)| id).collect())
        })
    }

    /// Completes `path` to `nodes` nodes that end at the exit. Leaves it as it was if that cannot be done.
    fn extend(
        &self,
        path: &mut Vec<(NodeId, &'a Entry)>,
        nodes: usize,
        may_begin: &dyn Fn(NodeId) -> bool,
        budget: &mut usize,
        rng: &mut dyn CryptoRng,
    ) -> bool {
        let (last, entry) = path[path.len() - 1];
        if path.len() == nodes {
            return last == self.wish.exit;
        }
        let left = nodes - path.len() - 1;
        let admissible = |node: &NodeId| {
            let near = self.distance.get(node).is_some_and(|steps| *steps <= left);
            let allowed = near
                && (*node == self.wish.exit) == (left == 0)
                && (path.len() > 1 || may_begin(*node))
                && (self.step_allowed)(last, *node);
            let entry = self.directory.entry(node).filter(|_| allowed)?;
            let apart = path.iter().all(|(_, earlier)| earlier.is_apart_from(entry));
            apart.then_some((*node, entry))
        };
        let mut candidates: Vec<_> = entry.neighbours.iter().filter_map(admissible).collect();
        // Where the exit is due, there is one candidate, whatever its weight.
        let weight = |(_, entry): &(NodeId, &Entry)| if left == 0 { 1 } else { entry.weight };
        while let Some(next) = draw_by_weight(&mut candidates, weight, rng) {
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            path.push(next);
            if self.extend(path, nodes, may_begin, budget, rng) {
                return true;
            }
            path.pop();
        }
        false
    }
}

/// Fisher-Yates.
fn shuffle<T>(items: &mut [T], rng: &mut dyn CryptoRng) {
    for end in (1..items.len()).rev() {
        items.swap(end, rng.random_range(0..=end));
    }
}

/// Networks for tests of whoever chooses paths.
#[cfg(test)]
pub(crate) mod testing {
    use std::net::{IpAddr, Ipv4Addr};

    use ed25519_dalek::SigningKey;

    use crate::directory::{Directory, Entry, NodeId, OnionKey};

    /// A time for them, Unix seconds.
    pub(crate) const WALL: u64 = 1_700_000_000;

    /// A directory of `count` nodes with the given links and changes, and the nodes' ids by number.
    pub(crate) fn changed_network(
        count: u8,
        links: &[(u8, u8)],
        change: impl FnOnce(&mut [Entry]),
    ) -> (Directory, Vec<NodeId>) {
        let identity = |node: u8| SigningKey::from_bytes(&[node + 1; 32]).verifying_key().to_bytes();
        let ids: Vec<NodeId> = (0..count).map(|node| NodeId::of(&identity(node))).collect();
        let neighbours = |node: u8| {
            let ends = links.iter().flat_map(|&(a, b)| [(a, b), (b, a)]);
            ends.filter(|(a, _)| *a == node)
                .map(|(_, b)| ids[usize::from(b)])
                .collect()
        };
        let entry = |node: u8| Entry {
            onion_keys: vec![OnionKey::always(3, vec![9; 32])],
            neighbours: neighbours(node),
            ..Entry::new(
                format!("node {node}"),
                identity(node),
                IpAddr::V4(Ipv4Addr::new(192, 0, 2, node + 1)),
            )
        };
        let mut entries: Vec<Entry> = (0..count).map(entry).collect();
        change(&mut entries);
        (Directory::new(entries).expect("a good directory"), ids)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::testing::{WALL, changed_network};
    use super::*;
    use crate::limits::PENALTY;

    fn network(count: u8, links: &[(u8, u8)]) -> (Directory, Vec<NodeId>) {
        changed_network(count, links, |_| ())
    }

    fn full(count: u8) -> Vec<(u8, u8)> {
        (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))).collect()
    }

    fn wish(ids: &[NodeId], min_nodes: usize, max_nodes: usize) -> Wish {
        Wish {
            entrance: ids[0],
            exit: ids[ids.len() - 1],
            min_nodes,
            max_nodes,
            suite: 3,
            wall: WALL,
        }
    }

    /// Of any door, each as likely as the other.
    fn choose_any(
        (directory, ids): &(Directory, Vec<NodeId>),
        nodes: (usize, usize),
        penalties: &Penalties,
        now: Now,
        rng: &mut ChaCha12Rng,
    ) -> Option<Vec<NodeId>> {
        let mut doors = directory.entry(&ids[0]).unwrap().neighbours.clone();
        shuffle(&mut doors, rng);
        choose(directory, &wish(ids, nodes.0, nodes.1), &doors, penalties, now, rng)
    }

    proptest! {
        #[test]
        fn line_8_paths_are_simple_linked_of_different_families_and_as_long_as_wished(
            seed: u64,
            links in prop::collection::btree_set((0..9u8, 0..9u8), 0..30),
            families in prop::collection::vec(prop::option::weighted(0.3, 0..4u8), 9),
            (min, max) in (2..=6usize).prop_flat_map(|min| (Just(min), min..=6)),
        ) {
            let links: Vec<_> = links.iter().filter(|(a, b)| a < b).copied().collect();
            let families: Vec<_> = families.iter().map(|family| family.map(|family| family.to_string())).collect();
            let network = changed_network(9, &links, |entries| {
                let of_family = entries.iter_mut().zip(&families);
                of_family.for_each(|(entry, family)| entry.families.extend(family.clone()));
            });
            let rng = &mut ChaCha12Rng::seed_from_u64(seed);
            let path = choose_any(&network, (min, max), &Penalties::default(), Now(0), rng);
            let (directory, ids) = &network;
            prop_assert_eq!(path.is_some(), exists(directory, ids, min, max));
            if let Some(path) = path {
                prop_assert!((min..=max).contains(&path.len()));
                prop_assert_eq!((path[0], path[path.len() - 1]), (ids[0], ids[8]));
                for (index, node) in path.iter().enumerate() {
                    let entry = directory.entry(node).unwrap();
                    for earlier in &path[..index] {
                        prop_assert!(entry.is_apart_from(directory.entry(earlier).unwrap()));
                    }
                }
                for step in path.windows(2) {
                    prop_assert!(directory.entry(&step[0]).unwrap().neighbours.contains(&step[1]));
                }
            }
        }
    }

    /// The same question answered by trying everything.
    fn exists(directory: &Directory, ids: &[NodeId], min: usize, max: usize) -> bool {
        let mut paths = vec![vec![ids[0]]];
        for length in 2..=max {
            let steps = paths.iter().flat_map(|path| {
                let neighbours = &directory.entry(path.last().unwrap()).unwrap().neighbours;
                let apart = |node: &&NodeId| {
                    let entry = directory.entry(node).unwrap();
                    path.iter()
                        .all(|earlier| entry.is_apart_from(directory.entry(earlier).unwrap()))
                };
                neighbours
                    .iter()
                    .filter(apart)
                    .map(|node| [path.as_slice(), &[*node]].concat())
            });
            paths = steps.collect();
            if length >= min && paths.iter().any(|path| path.last() == ids.last()) {
                return true;
            }
            paths.retain(|path| path.last() != ids.last());
        }
        false
    }

    #[test]
    fn a_seed_decides_and_seeds_differ() {
        let network = network(8, &full(8));
        let path = |seed| {
            let rng = &mut ChaCha12Rng::seed_from_u64(seed);
            choose_any(&network, (2, 6), &Penalties::default(), Now(0), rng).unwrap()
        };
        let mut lengths = BTreeMap::new();
        for seed in 0..500 {
            assert_eq!(path(seed), path(seed));
            *lengths.entry(path(seed).len()).or_insert(0) += 1;
        }
        assert!((2..=6).all(|nodes| lengths[&nodes] > 60), "{lengths:?}");
    }

    #[test]
    fn what_failed_is_avoided_until_the_penalty_ends() {
        // Two ways from 0 to 3: over 1 or over 2.
        let network = network(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]);
        let ids = &network.1;
        let rng = &mut ChaCha12Rng::seed_from_u64(1);
        let mut penalties = Penalties::default();
        penalties.suspect_path(Now(0), &[ids[0], ids[1], ids[3]]);
        let mut over_1 = |now| {
            let path = |_| choose_any(&network, (3, 3), &penalties, now, rng).unwrap();
            (0..100).map(path).filter(|path| path[1] == ids[1]).count()
        };
        assert_eq!(over_1(Now(PENALTY - 1)), 0);
        assert!((20..80).contains(&over_1(Now(PENALTY))));
    }

    #[test]
    fn a_suspect_link_gives_way_to_a_detour() {
        let network = network(3, &full(3));
        let ids = &network.1;
        let rng = &mut ChaCha12Rng::seed_from_u64(2);
        let mut penalties = Penalties::default();
        penalties.suspect_path(Now(0), &[ids[0], ids[2]]);
        for _ in 0..100 {
            let path = choose_any(&network, (2, 6), &penalties, Now(0), rng).unwrap();
            assert_eq!(path, *ids);
        }
    }

    #[test]
    fn when_all_ways_are_tainted_the_least_tainted_is_taken() {
        // 0-1-6 is suspect as a way, 0-2-3-4-6 has two nodes that are.
        let network = network(7, &[(0, 1), (1, 6), (0, 2), (2, 3), (3, 4), (4, 6), (0, 5)]);
        let ids = &network.1;
        let rng = &mut ChaCha12Rng::seed_from_u64(3);
        let mut penalties = Penalties::default();
        penalties.suspect_path(Now(0), &[ids[0], ids[1], ids[6]]);
        penalties.suspect_path(Now(0), &[ids[0], ids[2], ids[3], ids[4], ids[6]]);
        let path = choose_any(&network, (2, 6), &penalties, Now(0), rng);
        assert_eq!(path, Some(vec![ids[0], ids[1], ids[6]]));
    }

    #[test]
    fn the_first_door_with_a_way_is_taken_and_no_other() {
        let (directory, ids) = network(6, &[(0, 1), (0, 2), (0, 3), (0, 5), (2, 5), (3, 5), (1, 4)]);
        let rng = &mut ChaCha12Rng::seed_from_u64(4);
        let mut path = |doors: &[usize], (min, max)| {
            let doors: Vec<NodeId> = doors.iter().map(|door| ids[*door]).collect();
            let path = choose(
                &directory,
                &wish(&ids, min, max),
                &doors,
                &Penalties::default(),
                Now(0),
                rng,
            )?;
            path.iter()
                .map(|node| ids.iter().position(|id| id == node))
                .collect::<Option<Vec<_>>>()
        };
        for _ in 0..50 {
            assert_eq!(path(&[1, 3, 2], (3, 6)), Some(vec![0, 3, 5]));
        }
        assert_eq!(path(&[1, 5], (2, 6)), Some(vec![0, 5]));
        assert_eq!(path(&[1, 5], (3, 6)), None);
        assert_eq!(path(&[], (2, 6)), None);
    }

    /// Three middle nodes of weights 1, 2 and 5, and one of weight 0. The bound of chi-square is that of 2 degrees of freedom at one
    /// in a thousand.
    #[test]
    fn line_8_nodes_are_drawn_by_weight() {
        let weights = [1.0, 2.0, 5.0];
        let links: Vec<_> = (2..=5).flat_map(|middle| [(1, middle), (middle, 6)]).collect();
        let network = changed_network(7, &[&[(0, 1)], &links[..]].concat(), |entries| {
            (2..=5)
                .zip([1, 2, 5, 0])
                .for_each(|(middle, weight): (usize, u32)| entries[middle].weight = weight);
        });
        let rng = &mut ChaCha12Rng::seed_from_u64(5);
        let mut drawn = BTreeMap::new();
        const DRAWS: u32 = 8000;
        for _ in 0..DRAWS {
            let path = choose_any(&network, (4, 4), &Penalties::default(), Now(0), rng).unwrap();
            *drawn.entry(path[2]).or_insert(0.0) += 1.0;
        }
        assert_eq!(drawn.len(), 3);
        let expected = weights.map(|weight| weight / 8.0 * f64::from(DRAWS));
        let drawn = [2, 3, 4].map(|middle| drawn[&network.1[middle]]);
        let chi_square: f64 = drawn
            .iter()
            .zip(expected)
            .map(|(got, due)| (got - due) * (got - due) / due)
            .sum();
        assert!(chi_square < 13.8, "{drawn:?} where {expected:?} were due");
    }

    #[test]
    fn line_8_nodes_whose_entry_or_key_is_over_are_passed_by() {
        let links = [(0, 1), (0, 2), (1, 3), (2, 3)];
        let over_1 = |change: &dyn Fn(&mut Entry), node: usize| {
            let network = changed_network(4, &links, |entries| change(&mut entries[node]));
            let rng = &mut ChaCha12Rng::seed_from_u64(6);
            let path = |_| choose_any(&network, (3, 3), &Penalties::default(), Now(0), rng);
            let paths: Option<Vec<_>> = (0..60).map(path).collect();
            paths.map(|paths| paths.iter().filter(|path| path[1] == network.1[1]).count())
        };
        let over: [&dyn Fn(&mut Entry); 3] = [
            &|entry| entry.valid_until = WALL,
            &|entry| entry.valid_from = WALL + 1,
            &|entry| entry.onion_keys[0].not_after = WALL,
        ];
        for (index, change) in over.iter().enumerate() {
            assert_eq!(over_1(change, 1), Some(0), "change {index}");
            assert_eq!(over_1(change, 2), Some(60), "change {index}");
            assert_eq!(over_1(change, 3), None, "change {index} of the exit");
            assert!(
                over_1(change, 0).is_some_and(|over_1| over_1 < 60),
                "change {index} of the entrance"
            );
        }
    }
}
