//! What a directory refuses, and that the refusal names the culprit.

use std::net::IpAddr;

use ain_controlplane::directory::{Directory, DirectoryError, Entry, NodeId, OnionKey};
use ed25519_dalek::SigningKey;
use ipnet::IpNet;

fn identity(number: u8) -> [u8; 32] {
    SigningKey::from_bytes(&[number; 32]).verifying_key().to_bytes()
}

fn id(number: u8) -> NodeId {
    NodeId::of(&identity(number))
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Nodes a - b - c.
fn entries() -> Vec<Entry> {
    let entry = |number: u8, name: &str, neighbours: &[u8]| Entry {
        name: name.to_owned(),
        identity: identity(number),
        address: IpAddr::from([192, 0, 2, number]),
        onion_keys: vec![OnionKey {
            suite: 3,
            key: vec![number; 32],
        }],
        neighbours: neighbours.iter().map(|number| id(*number)).collect(),
        exit_prefixes: vec![net(&format!("198.51.{number}.0/24"))],
    };
    vec![entry(1, "a", &[2]), entry(2, "b", &[1, 3]), entry(3, "c", &[2])]
}

fn error(change: impl FnOnce(&mut Vec<Entry>)) -> DirectoryError {
    let mut entries = entries();
    change(&mut entries);
    Directory::new(entries).expect_err("it contradicts itself")
}

fn name(name: &str) -> String {
    name.to_owned()
}

#[test]
fn a_good_one_answers() {
    let directory = Directory::new(entries()).unwrap();
    assert_eq!(directory.exit_for("198.51.3.77".parse().unwrap()), Some(id(3)));
    assert_eq!(directory.exit_for("198.51.4.77".parse().unwrap()), None);
    assert_eq!(directory.named("b").map(Entry::id), Some(id(2)));
    assert_eq!(directory.entry(&id(9)), None);
    assert_eq!(id(1).to_string().parse(), Ok(id(1)));
    assert!("xyz".parse::<NodeId>().is_err() && "g".repeat(64).parse::<NodeId>().is_err());
}

#[test]
fn contradictions_name_their_nodes() {
    assert_eq!(Directory::new(Vec::new()).err(), Some(DirectoryError::Empty));
    assert_eq!(
        error(|entries| entries[1].name = name("a")),
        DirectoryError::Name(name("a"))
    );
    assert_eq!(error(|entries| entries[1].name.clear()), DirectoryError::Name(name("")));
    assert_eq!(
        error(|entries| entries[2].identity = identity(1)),
        DirectoryError::DuplicateId(name("a"), name("c"))
    );
    let address = entries()[0].address;
    assert_eq!(
        error(|entries| entries[2].address = address),
        DirectoryError::DuplicateAddress(name("a"), name("c"), address)
    );
    let everyone = IpAddr::from([224, 0, 0, 1]);
    assert_eq!(
        error(|entries| entries[0].address = everyone),
        DirectoryError::Address(name("a"), everyone)
    );
}

#[test]
fn keys_are_checked() {
    // The identity point and another of small order, and a y with no x.
    for bad in [[1, 0], [0, 0], [2, 0]] {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&bad);
        assert_eq!(
            error(|entries| entries[2].identity = key),
            DirectoryError::Identity(name("c"))
        );
    }
    let onion_keys = |keys: &[(u8, usize)]| -> Vec<OnionKey> {
        keys.iter()
            .map(|&(suite, bytes)| OnionKey {
                suite,
                key: vec![1; bytes],
            })
            .collect()
    };
    let with = |keys: &[(u8, usize)]| error(|entries| entries[0].onion_keys = onion_keys(keys));
    let node = name("a");
    assert_eq!(with(&[]), DirectoryError::NoOnionKey(node.clone()));
    assert_eq!(
        with(&[(3, 32), (3, 32)]),
        DirectoryError::DuplicateSuite {
            node: node.clone(),
            suite: 3
        }
    );
    assert_eq!(
        with(&[(9, 32)]),
        DirectoryError::UnknownSuite {
            node: node.clone(),
            suite: 9
        }
    );
    assert_eq!(
        with(&[(3, 31)]),
        DirectoryError::KeyLength {
            node,
            suite: 3,
            given: 31,
            wanted: 32
        }
    );
}

#[test]
fn neighbours_must_know_each_other() {
    let (a, b, c) = (name("a"), name("b"), name("c"));
    assert_eq!(
        error(|entries| entries[0].neighbours = vec![id(9)]),
        DirectoryError::UnknownNeighbour {
            node: a.clone(),
            neighbour: id(9)
        }
    );
    assert_eq!(
        error(|entries| entries[0].neighbours.push(id(3))),
        DirectoryError::AsymmetricNeighbour {
            node: a.clone(),
            neighbour: c
        }
    );
    assert_eq!(
        error(|entries| entries[0].neighbours.push(id(2))),
        DirectoryError::RepeatedNeighbour {
            node: a.clone(),
            neighbour: b
        }
    );
    assert_eq!(
        error(|entries| entries[0].neighbours = vec![id(1)]),
        DirectoryError::RepeatedNeighbour {
            node: a.clone(),
            neighbour: a
        }
    );
}

#[test]
fn exit_prefixes_must_not_overlap() {
    for (prefix, good) in [
        ("198.51.1.128/25", false),
        ("198.51.1.0/24", false),
        ("198.51.0.0/16", false),
        ("0.0.0.0/0", false),
        ("198.51.4.0/24", true),
        ("::/0", true),
    ] {
        let mut entries = entries();
        entries[2].exit_prefixes.push(net(prefix));
        let overlap = matches!(Directory::new(entries), Err(DirectoryError::OverlappingPrefix { .. }));
        assert_eq!(overlap, !good, "{prefix}");
    }
    // One that contains many, not all of which stand next to it in order.
    let mut entries = entries();
    entries[0].exit_prefixes = ["10.0.0.0/8", "9.0.0.0/8"].map(net).to_vec();
    entries[2].exit_prefixes = ["11.0.0.0/8", "10.9.0.0/16"].map(net).to_vec();
    assert_eq!(
        Directory::new(entries).err(),
        Some(DirectoryError::OverlappingPrefix {
            node: name("c"),
            prefix: net("10.9.0.0/16"),
            other: name("a"),
            other_prefix: net("10.0.0.0/8"),
        })
    );
}

#[test]
fn canonical_bytes_forget_order_and_nothing_else() {
    let base = entries().remove(1);
    let bytes = |change: &dyn Fn(&mut Entry)| {
        let mut entry = base.clone();
        change(&mut entry);
        entry.canonical_bytes()
    };
    let same = base.canonical_bytes();
    assert_eq!(bytes(&|entry| entry.neighbours.reverse()), same);
    assert_eq!(bytes(&|entry| entry.exit_prefixes = vec![net("198.51.2.9/24")]), same);
    let changes: [&dyn Fn(&mut Entry); 7] = [
        &|entry| entry.name.push('x'),
        &|entry| entry.identity = identity(9),
        &|entry| entry.address = IpAddr::from([192, 0, 2, 99]),
        &|entry| entry.onion_keys[0].key[0] ^= 1,
        &|entry| entry.onion_keys[0].suite = 4,
        &|entry| entry.neighbours.truncate(1),
        &|entry| entry.exit_prefixes = vec![net("198.51.2.0/25")],
    ];
    for (index, change) in changes.iter().enumerate() {
        assert_ne!(bytes(change), same, "change {index}");
    }
    assert_eq!(same.len(), 21 + 32 + 5 + 5 + (4 + 1 + 4 + 32) + (4 + 64) + (4 + 1 + 5));
}
