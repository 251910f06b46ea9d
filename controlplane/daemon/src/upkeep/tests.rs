//! Line 8 and line 2 rotation: a directory that changes, and keys that do.

use std::fs;
use std::net::IpAddr;

use ain_controlplane::directory::OnionKey;

use super::*;

const PERIOD_S: u64 = 10;
/// Within a period that began 3 s before.
const WALL: u64 = 1_700_000_003;

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

/// The signed entries of nodes 1 to `count`, each a neighbour of the next.
fn entries(count: u8) -> Vec<SignedEntry> {
    let id = |number: u8| NodeId::of(&key(number).verifying_key().to_bytes());
    let entry = |number: u8| Entry {
        valid_from: WALL - 100,
        valid_until: WALL + 100,
        onion_keys: vec![OnionKey {
            suite: 3,
            key: vec![number; 32],
            not_before: WALL - 100,
            not_after: WALL + 100,
        }],
        neighbours: [number.wrapping_sub(1), number + 1]
            .into_iter()
            .filter(|other| (1..=count).contains(other))
            .map(id)
            .collect(),
        ..Entry::new(
            format!("ain{number}"),
            key(number).verifying_key().to_bytes(),
            IpAddr::from([192, 0, 2, number]),
        )
    };
    let sign = |number| SignedEntry::sign(entry(number), &key(number)).unwrap();
    (1..=count).map(sign).collect()
}

fn text(signed: &[SignedEntry]) -> String {
    let all: Vec<Entry> = signed.iter().map(|one| one.entry().clone()).collect();
    let written = signed.iter().map(|one| {
        let names = entry::neighbour_names(one.entry(), &all);
        entry::signed(one, &names)
    });
    written.collect()
}

/// Node 1 in a network whose file has `signed`.
struct Node {
    dir: tempfile::TempDir,
    upkeep: Upkeep,
}

impl Node {
    fn new(signed: &[SignedEntry]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("directory.toml");
        fs::write(&file, text(signed)).unwrap();
        let onion = OnionStore::open(dir.path(), 3, PERIOD_S).unwrap();
        onion.make(WALL).unwrap();
        let mut source = FileSource::new(&file);
        let directory = source.poll().unwrap().unwrap().directory;
        let upkeep = Upkeep {
            source: Box::new(source),
            period: onion.period_of(WALL),
            keys: OwnKeys {
                identity: key(1),
                onion,
                tickets: tickets::seed(dir.path()).unwrap(),
                slice_s: 3600,
            },
            entry_file: dir.path().join(ENTRY_FILE),
            kept_file: dir.path().join("kept"),
            directory,
            open_exit: Vec::new(),
            clock: SteadyWall::new(PERIOD_S),
            erased_in: None,
        };
        upkeep.write_entry(WALL);
        Self { dir, upkeep }
    }

    fn publish(&self, text: &str) {
        fs::write(self.dir.path().join("directory.toml"), text).unwrap();
    }

    /// What the node is told at `wall`, by clocks that go together.
    fn look(&mut self, wall: u64) -> Vec<Update> {
        self.upkeep.look(wall, Duration::from_secs(wall - WALL))
    }

    /// The onion keys on disk.
    fn keys(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.dir.path().join("onion")).unwrap();
        let mut keys: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        keys.sort();
        keys
    }

    fn own_entry(&self) -> String {
        fs::read_to_string(self.dir.path().join(ENTRY_FILE)).unwrap()
    }
}

#[test]
fn line_8_a_directory_that_changes_is_taken_and_a_bad_one_is_not() {
    let mut node = Node::new(&entries(2));
    assert!(node.look(WALL).is_empty());
    node.publish(&text(&entries(3)));
    let updates = node.look(WALL);
    assert!(matches!(&updates[..], [Update::Directory(directory)] if directory.entries().len() == 3));
    assert!(node.look(WALL).is_empty());

    let good = text(&entries(4));
    let mut own_gone = entries(4);
    own_gone.remove(0);
    let bad = [
        good.replacen("weight = 1", "weight = 2", 1),
        good[..good.len() / 2].to_owned(),
        String::new(),
        text(&own_gone),
    ];
    for (index, bad) in bad.iter().enumerate() {
        node.publish(bad);
        assert!(matches!(node.look(WALL)[..], [Update::Refused]), "{index}");
        assert!(node.look(WALL).is_empty(), "{index}: told once");
        assert_eq!(node.upkeep.directory.entries().len(), 3);
    }
    fs::remove_file(node.dir.path().join("directory.toml")).unwrap();
    assert!(matches!(node.look(WALL)[..], [Update::Refused]));
    assert_eq!(
        fs::read_to_string(&node.upkeep.kept_file).unwrap(),
        text(&entries(3)),
        "for the next start"
    );
    node.publish(&good);
    assert!(matches!(node.look(WALL)[..], [Update::Directory(_)]));
    assert_eq!(fs::read_to_string(&node.upkeep.kept_file).unwrap(), good);
}

#[test]
fn line_8_a_directory_that_cannot_be_kept_is_used_all_the_same() {
    let mut node = Node::new(&entries(2));
    fs::create_dir(&node.upkeep.kept_file).unwrap();
    node.publish(&text(&entries(3)));
    assert!(matches!(node.look(WALL)[..], [Update::Directory(_)]));
}

/// The clock goes ahead by more than the keys' time, and is put right; then it goes ahead for good.
#[test]
fn line_2_rotation_a_clock_that_is_ahead_for_a_moment_costs_no_key() {
    let mut node = Node::new(&entries(2));
    node.look(WALL);
    node.look(WALL + 4);
    let keys = node.keys();
    let current = node.upkeep.keys.onion.keys(WALL).unwrap().current.public().to_vec();
    let ahead = WALL + 3 * PERIOD_S;
    assert!(matches!(
        node.upkeep.look(ahead, Duration::from_secs(5))[..],
        [Update::OnionKeys(_)]
    ));
    assert!(keys.iter().all(|key| key.exists()));
    let updates = node.upkeep.look(WALL + 6, Duration::from_secs(6));
    assert!(matches!(&updates[..], [Update::OnionKeys(keys)] if keys.current.public() == current));
    node.upkeep.look(ahead, Duration::from_secs(7));
    assert!(keys.iter().all(|key| key.exists()));
    node.upkeep.look(ahead + 2, Duration::from_secs(9));
    assert_eq!(keys.iter().filter(|key| !key.exists()).count(), 2);
}

#[test]
fn line_2_rotation_a_key_that_cannot_be_erased_is_tried_again() {
    let mut node = Node::new(&entries(2));
    let stubborn = node.dir.path().join("onion/stubborn");
    fs::create_dir(&stubborn).unwrap();
    (0..=PERIOD_S).for_each(|second| _ = node.look(WALL + second));
    assert_eq!(node.upkeep.erased_in, None);
    fs::remove_dir(stubborn).unwrap();
    node.look(WALL + PERIOD_S + 1);
    assert_eq!(node.upkeep.erased_in, Some(node.upkeep.period));
}

#[test]
fn line_2_rotation_the_node_has_new_keys_each_period_and_tells_them_in_a_signed_entry() {
    let signed = entries(2);
    let mut node = Node::new(&signed);
    let mut wall = WALL;
    let mut current = node.upkeep.keys.onion.keys(wall).unwrap().current.public().to_vec();
    for _ in 0..3 {
        wall += PERIOD_S;
        let before = node.own_entry();
        let mut updates = node.look(wall);
        let Some(Update::OnionKeys(keys)) = updates.pop() else {
            panic!("no new keys")
        };
        assert!(updates.is_empty() && node.look(wall).is_empty());
        assert_eq!(keys.previous.unwrap().public(), current);
        current = keys.current.public().to_vec();
        assert_ne!(node.own_entry(), before);
        // With the entry passed on, others make creating signals for the new key.
        let all = text(&signed);
        let others = &all[all.rfind("[[nodes]]").unwrap()..];
        let directory = node.own_entry() + others;
        node.publish(&directory);
        assert!(matches!(&node.look(wall)[..], [Update::Directory(directory)]
            if directory.entries()[0].onion_key(3, wall + 4) == Some(&current)));
    }
}

#[test]
fn line_8_what_the_operator_changed_is_in_the_next_own_entry_at_once() {
    let mut node = Node::new(&entries(2));
    let mut signed = entries(2);
    let changed = Entry {
        weight: 7,
        ..signed[0].entry().clone()
    };
    signed[0] = SignedEntry::sign(changed, &key(1)).unwrap();
    node.publish(&text(&signed));
    assert!(matches!(node.look(WALL)[..], [Update::Directory(_)]));
    assert!(node.own_entry().contains("weight = 7\n"));
}

#[test]
fn the_thread_tells_and_ends() {
    let mut node = Node::new(&entries(2));
    node.upkeep.period = 0;
    let (running, updates) = node.upkeep.start().unwrap();
    assert!(matches!(updates.recv().unwrap(), Update::OnionKeys(_)));
    drop(running);
    assert!(updates.recv().is_err());
}
