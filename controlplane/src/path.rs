//! Path choice: a random simple path along neighbour links, away from what failed lately.
//!
//! The number of nodes is drawn first, then the nodes, by a random depth-first search that never enters a node from which the
//! exit is out of reach. What failed is avoided while another way exists; when none does, the least tainted of several random
//! paths is taken, for a penalty is a suspicion and no verdict.

use std::collections::{HashMap, VecDeque};

use ain_dataplane::id::Now;
use rand::{CryptoRng, RngExt};

use crate::directory::{Directory, NodeId};
use crate::limits::{PATH_SAMPLES, PATH_SEARCH_STEPS, PENALTIES, PENALTY};

/// Nodes and links that failed lately.
#[derive(Default)]
pub struct Penalties {
    until: HashMap<Suspect, Now>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Suspect {
    Node(NodeId),
    Link(NodeId, NodeId),
}

impl Suspect {
    fn link(one: NodeId, other: NodeId) -> Self {
        Self::Link(one.min(other), one.max(other))
    }
}

impl Penalties {
    /// An AIVT over `path`, both ends included, failed for reasons unknown: suspects every node between the ends, or the one link.
    pub fn suspect_path(&mut self, now: Now, path: &[NodeId]) {
        match path {
            [one, other] => self.suspect(now, Suspect::link(*one, *other)),
            [_, between @ .., _] => between.iter().for_each(|node| self.suspect(now, Suspect::Node(*node))),
            _ => {}
        }
    }

    fn suspect(&mut self, now: Now, suspect: Suspect) {
        self.until.retain(|_, until| *until > now);
        if self.until.len() < PENALTIES || self.until.contains_key(&suspect) {
            self.until.insert(suspect, now.plus(PENALTY));
        }
    }

    fn holds(&self, now: Now, suspect: Suspect) -> bool {
        self.until.get(&suspect).is_some_and(|until| *until > now)
    }

    /// Suspects on the step from `one` to `other`: the link, and the node unless it is the exit, which nothing can replace.
    fn on_step(&self, now: Now, one: NodeId, other: NodeId, exit: NodeId) -> usize {
        let node = other != exit && self.holds(now, Suspect::Node(other));
        usize::from(node) + usize::from(self.holds(now, Suspect::link(one, other)))
    }
}

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
}

/// A path from the entrance to the exit, both included, whose first step leads to a neighbour that `is_up`. `None` if there is none
/// within the wish, or none was found within [`PATH_SEARCH_STEPS`].
pub fn choose(
    directory: &Directory,
    wish: &Wish,
    is_up: impl Fn(&NodeId) -> bool,
    penalties: &Penalties,
    now: Now,
    rng: &mut dyn CryptoRng,
) -> Option<Vec<NodeId>> {
    let tainted = |one, other| penalties.on_step(now, one, other, wish.exit);
    let open = |one: NodeId, other: NodeId| one != wish.entrance || is_up(&other);
    let clean = |one, other| open(one, other) && tainted(one, other) == 0;
    if let Some(path) = Search::new(directory, wish, &clean).run(rng) {
        return Some(path);
    }
    let search = Search::new(directory, wish, &open);
    let samples = (0..PATH_SAMPLES).map_while(|_| search.run(rng));
    samples.min_by_key(|path| path.windows(2).map(|step| tainted(step[0], step[1])).sum::<usize>())
}

struct Search<'a> {
    directory: &'a Directory,
    wish: &'a Wish,
    step_allowed: &'a dyn Fn(NodeId, NodeId) -> bool,
    /// Steps from each node to the exit, at least.
    distance: HashMap<NodeId, usize>,
}

impl<'a> Search<'a> {
    fn new(directory: &'a Directory, wish: &'a Wish, step_allowed: &'a dyn Fn(NodeId, NodeId) -> bool) -> Self {
        let mut search = Self {
            directory,
            wish,
            step_allowed,
            distance: HashMap::from([(wish.exit, 0)]),
        };
        let mut queue = VecDeque::from([wish.exit]);
        while let Some(node) = queue.pop_front() {
            let steps = search.distance[&node] + 1;
            for neighbour in search.neighbours(node) {
                if step_allowed(neighbour, node) && !search.distance.contains_key(&neighbour) {
                    search.distance.insert(neighbour, steps);
                    if neighbour != wish.entrance {
                        queue.push_back(neighbour);
                    }
                }
            }
        }
        search
    }

    fn neighbours(&self, node: NodeId) -> Vec<NodeId> {
        self.directory
            .entry(&node)
            .map(|entry| entry.neighbours.clone())
            .unwrap_or_default()
    }

    /// One random path, of a random length that has any.
    fn run(&self, rng: &mut dyn CryptoRng) -> Option<Vec<NodeId>> {
        let nearest = self.distance.get(&self.wish.entrance)? + 1;
        let mut lengths: Vec<usize> = (self.wish.min_nodes.max(nearest)..=self.wish.max_nodes).collect();
        shuffle(&mut lengths, rng);
        let mut budget = PATH_SEARCH_STEPS;
        lengths.into_iter().find_map(|nodes| {
            let mut path = vec![self.wish.entrance];
            self.extend(&mut path, nodes, &mut budget, rng).then_some(path)
        })
    }

    /// Completes `path` to `nodes` nodes that end at the exit. Leaves it as it was if that cannot be done.
    fn extend(&self, path: &mut Vec<NodeId>, nodes: usize, budget: &mut usize, rng: &mut dyn CryptoRng) -> bool {
        let last = path[path.len() - 1];
        if path.len() == nodes {
            return last == self.wish.exit;
        }
        let left = nodes - path.len() - 1;
        let mut candidates = self.neighbours(last);
        candidates.retain(|node| {
            let near = self.distance.get(node).is_some_and(|steps| *steps <= left);
            near && (*node == self.wish.exit) == (left == 0) && !path.contains(node) && (self.step_allowed)(last, *node)
        });
        shuffle(&mut candidates, rng);
        for node in candidates {
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            path.push(node);
            if self.extend(path, nodes, budget, rng) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr};

    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;
    use crate::directory::{Entry, OnionKey};

    /// A directory of `count` nodes with the given links, and the nodes' ids by number.
    fn network(count: u8, links: &[(u8, u8)]) -> (Directory, Vec<NodeId>) {
        let identity = |node: u8| SigningKey::from_bytes(&[node + 1; 32]).verifying_key().to_bytes();
        let ids: Vec<NodeId> = (0..count).map(|node| NodeId::of(&identity(node))).collect();
        let neighbours = |node: u8| {
            let ends = links.iter().flat_map(|&(a, b)| [(a, b), (b, a)]);
            ends.filter(|(a, _)| *a == node)
                .map(|(_, b)| ids[usize::from(b)])
                .collect()
        };
        let entry = |node: u8| Entry {
            name: format!("node {node}"),
            identity: identity(node),
            address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, node + 1)),
            onion_keys: vec![OnionKey {
                suite: 3,
                key: vec![9; 32],
            }],
            neighbours: neighbours(node),
            exit_prefixes: Vec::new(),
        };
        (
            Directory::new((0..count).map(entry).collect()).expect("a good directory"),
            ids,
        )
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
        }
    }

    fn up(_: &NodeId) -> bool {
        true
    }

    proptest! {
        #[test]
        fn paths_are_simple_linked_and_as_long_as_wished(
            seed: u64,
            links in prop::collection::btree_set((0..9u8, 0..9u8), 0..30),
            (min, max) in (2..=6usize).prop_flat_map(|min| (Just(min), min..=6)),
        ) {
            let links: Vec<_> = links.iter().filter(|(a, b)| a < b).copied().collect();
            let (directory, ids) = network(9, &links);
            let rng = &mut ChaCha12Rng::seed_from_u64(seed);
            let path = choose(&directory, &wish(&ids, min, max), up, &Penalties::default(), Now(0), rng);
            prop_assert_eq!(path.is_some(), exists(&directory, &ids, min, max));
            if let Some(path) = path {
                prop_assert!((min..=max).contains(&path.len()));
                prop_assert_eq!((path[0], path[path.len() - 1]), (ids[0], ids[8]));
                for (index, node) in path.iter().enumerate() {
                    prop_assert!(!path[..index].contains(node));
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
                neighbours
                    .iter()
                    .filter(|node| !path.contains(node))
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
        let (directory, ids) = network(8, &full(8));
        let path = |seed| {
            let rng = &mut ChaCha12Rng::seed_from_u64(seed);
            choose(&directory, &wish(&ids, 2, 6), up, &Penalties::default(), Now(0), rng).unwrap()
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
        let (directory, ids) = network(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]);
        let rng = &mut ChaCha12Rng::seed_from_u64(1);
        let mut penalties = Penalties::default();
        penalties.suspect_path(Now(0), &[ids[0], ids[1], ids[3]]);
        let mut over_1 = |now| {
            let path = |_| choose(&directory, &wish(&ids, 3, 3), up, &penalties, now, rng).unwrap();
            (0..100).map(path).filter(|path| path[1] == ids[1]).count()
        };
        assert_eq!(over_1(Now(PENALTY - 1)), 0);
        assert!((20..80).contains(&over_1(Now(PENALTY))));
    }

    #[test]
    fn a_suspect_link_gives_way_to_a_detour() {
        let (directory, ids) = network(3, &full(3));
        let rng = &mut ChaCha12Rng::seed_from_u64(2);
        let mut penalties = Penalties::default();
        penalties.suspect_path(Now(0), &[ids[0], ids[2]]);
        for _ in 0..100 {
            let path = choose(&directory, &wish(&ids, 2, 6), up, &penalties, Now(0), rng).unwrap();
            assert_eq!(path, ids);
        }
    }

    #[test]
    fn when_all_ways_are_tainted_the_least_tainted_is_taken() {
        // 0-1-5 has one suspect, 0-2-3-5 has two.
        let (directory, ids) = network(6, &[(0, 1), (1, 5), (0, 2), (2, 3), (3, 5), (0, 4)]);
        let rng = &mut ChaCha12Rng::seed_from_u64(3);
        let mut penalties = Penalties::default();
        penalties.suspect_path(Now(0), &[ids[0], ids[1], ids[5]]);
        penalties.suspect_path(Now(0), &[ids[0], ids[2], ids[3], ids[5]]);
        let path = choose(&directory, &wish(&ids, 2, 6), up, &penalties, Now(0), rng);
        assert_eq!(path, Some(vec![ids[0], ids[1], ids[5]]));
    }

    #[test]
    fn the_first_step_needs_a_pvt_that_is_up() {
        let (directory, ids) = network(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]);
        let rng = &mut ChaCha12Rng::seed_from_u64(4);
        let mut path = |is_up: &dyn Fn(&NodeId) -> bool| {
            choose(&directory, &wish(&ids, 2, 6), is_up, &Penalties::default(), Now(0), rng)
        };
        assert!((0..50).all(|_| path(&|node| *node == ids[2]) == Some(vec![ids[0], ids[2], ids[3]])));
        assert_eq!(path(&|_| false), None);
    }
}
