//! Guards: the few neighbours that stand second on every path of this node as entrance, for weeks and across restarts.
//!
//! ```text
//!   entrance ──► guard 1 ──► ...      as long as it is up
//!            └─► guard 2, guard 3     while those before it are not
//! ```
//!
//! Who stands second sees the entrance. Were it drawn anew for every AIVT, every neighbour would before long, a bad one included;
//! a guard is drawn once. So nothing that others can bring about draws another one: a guard that does not answer, or whose entry is
//! not valid or wants no paths now, gives way to the next of a short list, and gets its place back; so does one that AIVTs failed
//! over, whoever else was on them ([`crate::penalty`]). It is replaced only when its time is over, when it has left the directory or
//! this node's neighbours, or when it has been of no use for a day. Another one is added, within a bound, for an exit that no path
//! over the guards leads to even if all of them were up.
//!
//! By a clock that is weeks ahead for a moment the time of every guard is over, but so are the entries of all nodes: a guard whose
//! entry is of no use keeps its place for that day whatever its time.

use std::collections::HashMap;

use ain_dataplane::id::Now;
use rand::{CryptoRng, RngExt};

use crate::directory::{Directory, NodeId, draw_by_weight};
use crate::limits::{GUARD_PATIENCE, GUARDS, GUARDS_MAX};
use crate::path::{self, Wish, is_usable};
use crate::penalty::Penalties;

/// One guard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guard {
    /// The node.
    pub node: NodeId,
    /// Until when it is one, Unix seconds.
    pub until: u64,
}

/// A neighbour of the entrance, as its PVT shows it.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// The node.
    pub node: NodeId,
    /// Whether it answers.
    pub is_up: bool,
    /// Whether it has not answered for [`crate::limits::GUARD_PATIENCE`].
    pub is_lost: bool,
}

/// What a path is chosen in.
pub struct Scene<'a> {
    /// The network.
    pub directory: &'a Directory,
    /// What the path must be.
    pub wish: &'a Wish,
    /// Every neighbour that there is a PVT to, in an order that does not change.
    pub doors: &'a [Door],
    /// What failed lately.
    pub penalties: &'a Penalties,
    /// The time.
    pub now: Now,
}

/// The guards of this node, most wanted first.
pub struct Guards {
    list: Vec<Guard>,
    /// For how long one stays, on average.
    time_s: u64,
    /// Those whose entries let no path lead over them, since when.
    unusable: HashMap<NodeId, Now>,
}

impl Guards {
    /// Those of an earlier process. `time_s`: for how long a guard stays one, give or take a quarter; 0: none does, and every path
    /// may begin with any neighbour.
    pub fn new(list: Vec<Guard>, time_s: u64) -> Self {
        let unusable = HashMap::new();
        Self { list, time_s, unusable }
    }

    /// The list, to be kept across restarts.
    pub fn list(&self) -> &[Guard] {
        &self.list
    }

    /// A path, and whether the list has changed.
    pub fn choose(&mut self, scene: &Scene<'_>, rng: &mut dyn CryptoRng) -> (Option<Vec<NodeId>>, bool) {
        if self.time_s == 0 {
            return (any_door(scene, rng), false);
        }
        let before = self.list.clone();
        self.note_unusable(scene);
        self.list = before
            .iter()
            .copied()
            .filter(|guard| self.stays(guard, scene))
            .collect();
        self.fill(scene, rng);
        let path = over(scene, &self.doors(scene), scene.penalties, rng).or_else(|| self.over_another(scene, rng));
        (path, self.list != before)
    }

    fn note_unusable(&mut self, scene: &Scene<'_>) {
        let nodes = self.list.iter().map(|guard| guard.node);
        let unusable = nodes.filter(|node| weight_of(*node, scene).is_none());
        let since = |node| *self.unusable.get(&node).unwrap_or(&scene.now);
        self.unusable = unusable.map(|node| (node, since(node))).collect();
    }

    /// Whether `guard` keeps its place.
    fn stays(&self, guard: &Guard, scene: &Scene<'_>) -> bool {
        let door = scene.doors.iter().find(|door| door.node == guard.node);
        let unusable_for = self
            .unusable
            .get(&guard.node)
            .map_or(0, |since| scene.now.since(*since));
        (guard.until > scene.wish.wall || self.unusable.contains_key(&guard.node))
            && is_listed(guard.node, scene)
            && door.is_some_and(|door| !door.is_lost)
            && unusable_for < GUARD_PATIENCE
    }

    /// Draws guards, while there are too few of them, among the neighbours that are up.
    fn fill(&mut self, scene: &Scene<'_>, rng: &mut dyn CryptoRng) {
        let mut candidates = self.candidates(scene);
        while self.list.len() < GUARDS
            && let Some((node, _)) = draw_by_weight(&mut candidates, |(_, weight)| *weight, rng)
        {
            self.add(node, scene.wish.wall, rng);
        }
    }

    fn add(&mut self, node: NodeId, wall: u64, rng: &mut dyn CryptoRng) {
        let time_s = rng.random_range(self.time_s - self.time_s / 4..=self.time_s + self.time_s / 4);
        let until = wall + time_s;
        self.list.push(Guard { node, until });
    }

    /// Neighbours that are up and could be guards, with their weights.
    fn candidates(&self, scene: &Scene<'_>) -> Vec<(NodeId, u32)> {
        let up = scene.doors.iter().filter(|door| door.is_up);
        let new = up.filter(|door| self.list.iter().all(|guard| guard.node != door.node));
        new.filter_map(|door| weight_of(door.node, scene).map(|weight| (door.node, weight)))
            .collect()
    }

    /// The guards that are up, in their order, and the exit if it is: two nodes need no third between them.
    fn doors(&self, scene: &Scene<'_>) -> Vec<NodeId> {
        let guards = self.list.iter().map(|guard| guard.node);
        with_exit(guards.filter(|node| is_up(*node, scene)).collect(), scene)
    }

    /// For an exit that no guard leads to, not even one that is of no use now: a path over a new guard, if there may be one more.
    fn over_another(&mut self, scene: &Scene<'_>, rng: &mut dyn CryptoRng) -> Option<Vec<NodeId>> {
        let all: Vec<NodeId> = self.list.iter().map(|guard| guard.node).collect();
        if !self.unusable.is_empty()
            || all.len() >= GUARDS_MAX
            || over(scene, &all, &Penalties::default(), rng).is_some()
        {
            return None;
        }
        let mut candidates = self.candidates(scene);
        while let Some((node, _)) = draw_by_weight(&mut candidates, |(_, weight)| *weight, rng) {
            if let Some(path) = over(scene, &[node], scene.penalties, rng) {
                self.add(node, scene.wish.wall, rng);
                return Some(path);
            }
        }
        None
    }
}

/// Whether the directory has `node`, as a neighbour of the entrance.
fn is_listed(node: NodeId, scene: &Scene<'_>) -> bool {
    let entrance = scene.directory.entry(&scene.wish.entrance);
    entrance.is_some_and(|entrance| entrance.neighbours.contains(&node))
}

/// The weight of `node` as a guard of the entrance, if it can be one.
fn weight_of(node: NodeId, scene: &Scene<'_>) -> Option<u32> {
    let Scene { directory, wish, .. } = scene;
    let entrance = directory.entry(&wish.entrance)?;
    let entry = directory.entry(&node)?;
    let fits = is_usable(entry, wish.suite, wish.wall) && entry.is_apart_from(entrance) && is_listed(node, scene);
    fits.then_some(entry.weight)
}

fn is_up(node: NodeId, scene: &Scene<'_>) -> bool {
    scene.doors.iter().any(|door| door.node == node && door.is_up)
}

fn with_exit(mut doors: Vec<NodeId>, scene: &Scene<'_>) -> Vec<NodeId> {
    let exit = scene.wish.exit;
    if is_up(exit, scene) && !doors.contains(&exit) {
        doors.push(exit);
    }
    doors
}

/// Without guards: over neighbours drawn by weight for this path alone.
fn any_door(scene: &Scene<'_>, rng: &mut dyn CryptoRng) -> Option<Vec<NodeId>> {
    let mut candidates = Guards::new(Vec::new(), 0).candidates(scene);
    let draw = || draw_by_weight(&mut candidates, |(_, weight)| *weight, rng);
    let doors: Vec<NodeId> = std::iter::from_fn(draw).map(|(node, _)| node).collect();
    over(scene, &with_exit(doors, scene), scene.penalties, rng)
}

fn over(scene: &Scene<'_>, doors: &[NodeId], penalties: &Penalties, rng: &mut dyn CryptoRng) -> Option<Vec<NodeId>> {
    path::choose(scene.directory, scene.wish, doors, penalties, scene.now, rng)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;
    use crate::directory::Entry;
    use crate::path::testing::{WALL, changed_network};

    const DAY_S: u64 = 86_400;
    const TIME_S: u64 = 30 * DAY_S;

    /// The entrance 0, its neighbours 1 to 6, behind them the exit 7. Neighbour 6 alone leads on to exit 8.
    struct Net {
        directory: Directory,
        ids: Vec<NodeId>,
        doors: Vec<Door>,
        rng: ChaCha12Rng,
        now: Now,
        wall: u64,
    }

    impl Net {
        fn new(seed: u64, change: impl FnOnce(&mut [Entry])) -> Self {
            let links: Vec<(u8, u8)> = (1..=6)
                .flat_map(|middle| [(0, middle), (middle, 7)])
                .chain([(6, 8)])
                .collect();
            let (directory, ids) = changed_network(9, &links, change);
            let door = |node: &NodeId| Door {
                node: *node,
                is_up: true,
                is_lost: false,
            };
            Self {
                doors: ids[1..=6].iter().map(door).collect(),
                directory,
                ids,
                rng: ChaCha12Rng::seed_from_u64(seed),
                now: Now(0),
                wall: WALL,
            }
        }

        /// The second node of a path to `exit`, and whether the guards have changed.
        fn second(&mut self, guards: &mut Guards, exit: usize) -> (Option<NodeId>, bool) {
            let wish = Wish {
                entrance: self.ids[0],
                exit: self.ids[exit],
                min_nodes: 3,
                max_nodes: 3,
                suite: 3,
                wall: self.wall,
            };
            let scene = Scene {
                directory: &self.directory,
                wish: &wish,
                doors: &self.doors,
                penalties: &Penalties::default(),
                now: self.now,
            };
            let (path, changed) = guards.choose(&scene, &mut self.rng);
            (path.map(|path| path[1]), changed)
        }

        fn change(&mut self, change: impl FnOnce(&mut Vec<Entry>)) {
            let mut entries = self.directory.entries().to_vec();
            change(&mut entries);
            self.directory = Directory::new(entries).unwrap();
        }

        fn door(&mut self, node: NodeId) -> &mut Door {
            self.doors.iter_mut().find(|door| door.node == node).unwrap()
        }
    }

    fn nodes(guards: &Guards) -> Vec<NodeId> {
        guards.list().iter().map(|guard| guard.node).collect()
    }

    #[test]
    fn line_8_the_guard_is_the_same_for_every_path_and_after_a_restart() {
        let mut net = Net::new(1, |_| ());
        let mut guards = Guards::new(Vec::new(), TIME_S);
        let (first, changed) = net.second(&mut guards, 7);
        assert!(first.is_some() && changed);
        assert_eq!((first, guards.list().len()), (Some(nodes(&guards)[0]), GUARDS));
        let mut guards = Guards::new(guards.list().to_vec(), TIME_S);
        for _ in 0..50 {
            assert_eq!(net.second(&mut guards, 7), (first, false));
        }
    }

    #[test]
    fn line_8_who_is_out_of_reach_gives_way_to_the_next_of_the_list_and_to_nobody_else() {
        let mut net = Net::new(2, |_| ());
        let mut guards = Guards::new(Vec::new(), TIME_S);
        net.second(&mut guards, 7);
        let list = nodes(&guards);
        for node in &list {
            assert_eq!(net.second(&mut guards, 7), (Some(*node), false));
            net.door(*node).is_up = false;
        }
        // Three others are up, and are not asked.
        assert_eq!(net.second(&mut guards, 7), (None, false));
        net.door(list[1]).is_up = true;
        assert_eq!(net.second(&mut guards, 7), (Some(list[1]), false));
        net.door(list[0]).is_up = true;
        assert_eq!(net.second(&mut guards, 7), (Some(list[0]), false));
    }

    #[test]
    fn line_8_a_guard_is_replaced_when_it_is_lost_gone_or_its_time_is_over() {
        let replaced = |change: &dyn Fn(&mut Net, NodeId)| {
            let mut net = Net::new(3, |_| ());
            let mut guards = Guards::new(Vec::new(), TIME_S);
            net.second(&mut guards, 7);
            let before = nodes(&guards);
            change(&mut net, before[0]);
            let (second, changed) = net.second(&mut guards, 7);
            let after = nodes(&guards);
            assert_eq!(second, Some(after[0]));
            assert_eq!((changed, after.len()), (after != before, GUARDS));
            (before, after)
        };
        let (before, after) = replaced(&|_, _| ());
        assert_eq!(after, before);
        type Change<'a> = &'a dyn Fn(&mut Net, NodeId);
        let changes: [Change<'_>; 3] = [
            &|net, node| {
                *net.door(node) = Door {
                    node,
                    is_up: false,
                    is_lost: true,
                }
            },
            &|net, node| net.doors.retain(|door| door.node != node),
            &|net, node| {
                net.change(|entries| {
                    entries.retain(|entry| entry.id() != node);
                    entries
                        .iter_mut()
                        .for_each(|entry| entry.neighbours.retain(|other| *other != node));
                });
            },
        ];
        for (index, change) in changes.iter().enumerate() {
            let (before, after) = replaced(change);
            assert_eq!(after[..2], before[1..], "change {index}");
            assert!(!before.contains(&after[2]), "change {index}");
        }
        let (_, after) = replaced(&|net, _| net.wall += 2 * TIME_S);
        assert_eq!(after.len(), GUARDS);
    }

    #[test]
    fn line_8_a_guard_whose_entry_is_of_no_use_is_passed_over_for_a_day_and_then_replaced() {
        let changes: [fn(&mut Entry); 4] = [
            |entry| entry.valid_until = WALL,
            |entry| entry.valid_from = WALL + 1,
            |entry| entry.onion_keys[0].not_after = WALL,
            |entry| entry.weight = 0,
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut net = Net::new(7, |_| ());
            let mut guards = Guards::new(Vec::new(), TIME_S);
            net.second(&mut guards, 7);
            let before = nodes(&guards);
            let good = net.directory.clone();
            for hours in [0, 23, 30, 53] {
                let guard = before[0];
                net.change(|entries| change(entries.iter_mut().find(|entry| entry.id() == guard).unwrap()));
                net.now = Now(hours * 3600 * Now::SECOND);
                assert_eq!(
                    net.second(&mut guards, 7),
                    (Some(before[1]), false),
                    "change {index}, {hours}"
                );
                // No other is drawn for an exit to which the guard might lead.
                assert!(!net.second(&mut guards, 8).1, "change {index}, {hours}");
                if hours == 23 {
                    net.directory = good.clone();
                    assert_eq!(net.second(&mut guards, 7), (Some(before[0]), false), "change {index}");
                }
            }
            net.now = Now(54 * 3600 * Now::SECOND);
            assert_eq!(net.second(&mut guards, 7), (Some(before[1]), true), "change {index}");
            assert_eq!(nodes(&guards)[..2], before[1..], "change {index}");
            assert!(!before.contains(&nodes(&guards)[2]), "change {index}");
        }
    }

    #[test]
    fn line_8_guards_outlive_a_time_in_which_no_entry_is_valid() {
        let mut net = Net::new(8, |_| ());
        let mut guards = Guards::new(Vec::new(), TIME_S);
        let (first, _) = net.second(&mut guards, 7);
        let good = net.directory.clone();
        net.change(|entries| entries.iter_mut().for_each(|entry| entry.valid_until = WALL));
        assert_eq!(net.second(&mut guards, 7), (None, false));
        net.directory = good;
        assert_eq!(net.second(&mut guards, 7), (first, false));
    }

    #[test]
    fn line_8_guards_outlive_a_clock_that_is_ahead_for_a_moment() {
        let mut net = Net::new(9, |entries| {
            entries
                .iter_mut()
                .for_each(|entry| entry.valid_until = WALL + 8 * DAY_S);
        });
        let mut guards = Guards::new(Vec::new(), TIME_S);
        let (first, _) = net.second(&mut guards, 7);
        net.wall = WALL + 2 * TIME_S;
        assert_eq!(net.second(&mut guards, 7), (None, false));
        net.wall = WALL + 1;
        assert_eq!(net.second(&mut guards, 7), (first, false));
    }

    #[test]
    fn line_8_times_of_guards_differ() {
        let mut net = Net::new(4, |_| ());
        let mut guards = Guards::new(Vec::new(), TIME_S);
        net.second(&mut guards, 7);
        let times: Vec<u64> = guards.list().iter().map(|guard| guard.until - WALL).collect();
        assert!(
            times.iter().all(|time| time.abs_diff(TIME_S) <= TIME_S / 4),
            "{times:?}"
        );
        assert!(times.windows(2).all(|pair| pair[0] != pair[1]), "{times:?}");
    }

    #[test]
    fn line_8_one_more_guard_for_an_exit_that_none_leads_to() {
        let mut net = Net::new(5, |_| ());
        let only_way = net.ids[6];
        net.door(only_way).is_up = false;
        let mut guards = Guards::new(Vec::new(), TIME_S);
        net.second(&mut guards, 7);
        let before = nodes(&guards);
        assert_eq!(net.second(&mut guards, 8), (None, false));
        net.door(only_way).is_up = true;
        assert_eq!(net.second(&mut guards, 8), (Some(only_way), true));
        assert_eq!(nodes(&guards), [&before[..], &[only_way]].concat());
        assert_eq!(net.second(&mut guards, 7), (Some(before[0]), false));
        // Now there is one that leads there: when it is down, no other is looked for.
        net.door(only_way).is_up = false;
        assert_eq!(net.second(&mut guards, 8), (None, false));
    }

    #[test]
    fn line_8_guards_are_drawn_by_weight_and_never_of_the_entrances_family() {
        let mut first = [0; 7];
        for seed in 0..600 {
            let mut net = Net::new(seed, |entries| {
                entries[1].weight = 10;
                for other in [0, 2] {
                    entries[other].families = vec!["x".to_owned()];
                }
            });
            let mut guards = Guards::new(Vec::new(), TIME_S);
            let (second, _) = net.second(&mut guards, 7);
            assert!(!nodes(&guards).contains(&net.ids[2]));
            first[net.ids.iter().position(|id| Some(*id) == second).unwrap()] += 1;
        }
        // 10 of 14 parts, give or take four standard deviations.
        assert!((384..=473).contains(&first[1]), "{first:?}");
        assert!(first[3..].iter().all(|drawn| *drawn > 0), "{first:?}");
    }

    #[test]
    fn without_guards_every_neighbour_stands_second() {
        let mut net = Net::new(6, |_| ());
        let mut guards = Guards::new(Vec::new(), 0);
        let seconds: std::collections::BTreeSet<_> = (0..200).map(|_| net.second(&mut guards, 7)).collect();
        assert_eq!(seconds.len(), 6);
        assert!(seconds.iter().all(|(second, changed)| second.is_some() && !changed));
    }
}
