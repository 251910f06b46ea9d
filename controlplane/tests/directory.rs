//! Line 8: what a directory refuses, that the refusal names the culprit, and what signatures cover.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ain_controlplane::directory::{
    Directory, DirectoryError, Entry, EntryError, NodeId, OnionKey, SignedEntry, TicketKey,
};
use ed25519_dalek::SigningKey;
use hex_literal::hex;
use ipnet::IpNet;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

const WALL: u64 = 1_700_000_000;

fn identity_key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn identity(number: u8) -> [u8; 32] {
    identity_key(number).verifying_key().to_bytes()
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
        onion_keys: vec![OnionKey::always(3, vec![number; 32])],
        neighbours: neighbours.iter().map(|number| id(*number)).collect(),
        exit_prefixes: vec![net(&format!("198.51.{number}.0/24"))],
        ..Entry::new(name, identity(number), IpAddr::from([192, 0, 2, number]))
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
            .map(|&(suite, bytes)| OnionKey::always(suite, vec![1; bytes]))
            .collect()
    };
    let with = |keys: &[(u8, usize)]| error(|entries| entries[0].onion_keys = onion_keys(keys));
    let node = name("a");
    assert_eq!(with(&[]), DirectoryError::NoOnionKey(node.clone()));
    assert_eq!(
        with(&[(3, 32), (3, 32)]),
        DirectoryError::DuplicateOnionKey {
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
        error(|entries| entries[0].address = "2001:db8::1".parse().unwrap()),
        DirectoryError::NeighbourFamily {
            node: a.clone(),
            neighbour: b.clone()
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
fn times_and_lists_make_sense() {
    let a = || name("a");
    let no_time: [&dyn Fn(&mut Entry); 2] = [&|entry| entry.valid_until = entry.valid_from, &|entry| {
        entry.onion_keys[0].not_after = 0
    }];
    for change in no_time {
        assert_eq!(error(|entries| change(&mut entries[0])), DirectoryError::NoTime(a()));
    }
    for families in [&["x", "x"][..], &[""]] {
        let families = || families.iter().map(|family| name(family)).collect();
        let refused = error(|entries| entries[0].families = families());
        assert!(matches!(refused, DirectoryError::Family { node, .. } if node == a()));
    }
    let (node, slice, key) = (a(), 7, [1; 32]);
    assert_eq!(
        error(|entries| entries[0].ticket_keys = vec![TicketKey { slice, key }; 2]),
        DirectoryError::DuplicateTicketKey { node, slice }
    );
    let (node, what, most) = (a(), "families", 16);
    assert_eq!(
        error(|entries| entries[0].families = (0..17).map(|family: i32| family.to_string()).collect()),
        DirectoryError::TooMany { node, what, most }
    );
}

#[test]
fn the_newest_key_is_used_that_clocks_agree_on() {
    let key = |day: u64| OnionKey {
        suite: 3,
        key: vec![day as u8; 32],
        not_before: day * 86_400,
        not_after: (day + 2) * 86_400,
    };
    let entry = Entry {
        onion_keys: [3, 1, 2].map(key).to_vec(),
        ..entries().remove(0)
    };
    let used = |wall| entry.onion_key(3, wall).map(|key| key[0]);
    for (wall, day) in [
        (86_399, None),
        (86_400, Some(1)),
        (2 * 86_400 + 29, Some(1)),
        (2 * 86_400 + 30, Some(2)),
        (4 * 86_400 - 31, Some(3)),
        (5 * 86_400 - 31, Some(3)),
        (5 * 86_400 - 1, Some(3)),
        (5 * 86_400, None),
    ] {
        assert_eq!(used(wall), day, "at {wall}");
    }
    assert_eq!(entry.onion_key(1, 2 * 86_400), None);
}

#[test]
fn the_exit_is_the_owner_of_the_address_or_an_open_exit_by_weight() {
    let mut entries = entries();
    let open = |entry: &mut Entry, weight, prefix| {
        entry.weight = weight;
        entry.open_exit = vec![net(prefix)];
    };
    open(&mut entries[0], 1, "0.0.0.0/0");
    open(&mut entries[1], 3, "0.0.0.0/1");
    open(&mut entries[2], 1, "203.0.113.0/24");
    let rng = &mut ChaCha12Rng::seed_from_u64(1);
    let directory = Directory::new(entries.clone()).unwrap();
    for (address, entrance, but, other) in [
        ("8.8.8.8", 3, 2, 1),
        ("8.8.8.8", 3, 1, 2),
        // Where there is no other, and of an owner.
        ("8.8.8.8", 1, 2, 2),
        ("198.51.3.77", 1, 3, 3),
    ] {
        let address = address.parse().unwrap();
        let exit = directory.exit_for(address, &id(entrance), Some(id(but)), WALL, rng);
        assert_eq!(exit, Some(id(other)), "{address} but {but}");
    }
    let mut exits = |entries: &[Entry], entrance: u8, address: &str| {
        let directory = Directory::new(entries.to_vec()).unwrap();
        let mut exits = BTreeMap::new();
        for _ in 0..1000 {
            let exit = directory.exit_for(address.parse().unwrap(), &id(entrance), None, WALL, rng);
            *exits.entry(exit).or_insert(0) += 1;
        }
        exits
    };
    // Owners, whatever else there is: of a prefix, and of its own signalling address.
    assert_eq!(exits(&entries, 1, "198.51.3.77"), BTreeMap::from([(Some(id(3)), 1000)]));
    assert_eq!(exits(&entries, 1, "192.0.2.2"), BTreeMap::from([(Some(id(2)), 1000)]));
    // By weight among those whose summary has the address, the entrance never.
    let drawn = exits(&entries, 3, "8.8.8.8");
    assert!(
        drawn.len() == 2 && (690..810).contains(&drawn[&Some(id(2))]),
        "{drawn:?}"
    );
    assert_eq!(exits(&entries, 1, "8.8.8.8"), BTreeMap::from([(Some(id(2)), 1000)]));
    assert_eq!(exits(&entries, 2, "129.0.0.1"), BTreeMap::from([(Some(id(1)), 1000)]));
    assert_eq!(exits(&entries, 1, "2001:db8::1"), BTreeMap::from([(None, 1000)]));
    // Nor one of its family, nor one whose entry is over.
    entries[1].families = vec![name("x")];
    entries[2].families = vec![name("x")];
    assert_eq!(exits(&entries, 3, "8.8.8.8"), BTreeMap::from([(Some(id(1)), 1000)]));
    entries[0].valid_until = WALL;
    assert_eq!(exits(&entries, 3, "8.8.8.8"), BTreeMap::from([(None, 1000)]));
}

/// What a search of all prefixes finds is found.
#[test]
fn exits_are_those_of_a_search() {
    let mut entries = entries();
    entries[0].exit_prefixes = ["10.0.0.0/8", "12.0.0.0/30", "fd00::/64"].map(net).to_vec();
    entries[2].exit_prefixes = ["11.0.0.0/9", "9.255.255.255/32", "::/96"].map(net).to_vec();
    let directory = Directory::new(entries.clone()).unwrap();
    let rng = &mut ChaCha12Rng::seed_from_u64(1);
    for asked in [
        "9.255.255.254",
        "9.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "11.0.0.0",
        "11.128.0.0",
        "12.0.0.3",
        "12.0.0.4",
        "198.51.2.1",
        "::1",
        "::1:0:0:0",
        "fd00::9",
        "fd01::",
    ] {
        let asked: IpAddr = asked.parse().unwrap();
        let serves = |entry: &&Entry| entry.exit_prefixes.iter().any(|prefix| prefix.contains(&asked));
        let searched = entries.iter().find(serves).map(Entry::id);
        assert_eq!(directory.exit_for(asked, &id(2), None, WALL, rng), searched, "{asked}");
    }
}

/// An entry with something in every field.
fn full_entry() -> Entry {
    let mut entry = entries().remove(1);
    (entry.valid_from, entry.valid_until) = (WALL, WALL + 86_400);
    entry.families = vec![name("y"), name("x")];
    entry.weight = 5;
    entry.open_exit = vec![net("0.0.0.0/0"), net("::/0")];
    entry.ticket_keys = [8, 7].map(|slice| TicketKey { slice, key: [9; 32] }).to_vec();
    entry
}

#[test]
fn canonical_bytes_forget_order_and_nothing_else() {
    let base = full_entry();
    let bytes = |change: &dyn Fn(&mut Entry)| {
        let mut entry = base.clone();
        change(&mut entry);
        entry.canonical_bytes()
    };
    let same = base.canonical_bytes();
    assert_eq!(bytes(&|entry| entry.neighbours.reverse()), same);
    assert_eq!(bytes(&|entry| entry.families.reverse()), same);
    assert_eq!(bytes(&|entry| entry.open_exit.reverse()), same);
    assert_eq!(bytes(&|entry| entry.ticket_keys.reverse()), same);
    assert_eq!(bytes(&|entry| entry.exit_prefixes = vec![net("198.51.2.9/24")]), same);
    for (index, change) in CHANGES.iter().enumerate() {
        assert_ne!(bytes(change), same, "change {index}");
    }
    let keys = 4 + 1 + 16 + 4 + 32;
    let lists = (4 + 64) + (4 + 2 * 5) + (4 + 1 + 5) + (4 + 6 + 18) + (4 + 2 * 36);
    assert_eq!(same.len(), 21 + 32 + 5 + 5 + 20 + keys + lists);
}

/// One for each thing that an entry says.
const CHANGES: [fn(&mut Entry); 16] = [
    |entry| entry.name.push('x'),
    |entry| entry.address = IpAddr::from([192, 0, 2, 99]),
    |entry| entry.valid_from += 1,
    |entry| entry.valid_until += 1,
    |entry| entry.onion_keys[0].key[0] ^= 1,
    |entry| entry.onion_keys[0].suite = 4,
    |entry| entry.onion_keys[0].not_before += 1,
    |entry| entry.onion_keys[0].not_after -= 1,
    |entry| entry.neighbours.truncate(1),
    |entry| entry.families.truncate(1),
    |entry| entry.weight += 1,
    |entry| entry.exit_prefixes = vec![net("198.51.2.0/25")],
    |entry| entry.open_exit.truncate(1),
    |entry| entry.ticket_keys[0].slice += 1,
    |entry| entry.ticket_keys[0].key[0] ^= 1,
    |entry| entry.identity = identity(9),
];

#[test]
fn a_signature_covers_everything() {
    let signed = SignedEntry::sign(full_entry(), &identity_key(2)).unwrap();
    assert_eq!(signed.clone().verify(), Ok(full_entry()));
    let signature = *signed.signature();
    for (index, change) in CHANGES.iter().enumerate() {
        let mut entry = full_entry();
        change(&mut entry);
        let refused = EntryError::Signature(entry.name.clone());
        let changed = SignedEntry::unverified(entry, signature);
        assert_eq!(changed.verify(), Err(refused), "change {index}");
    }
    for bit in 0..512 {
        let mut signature = signature;
        signature[bit / 8] ^= 1 << (bit % 8);
        let changed = SignedEntry::unverified(full_entry(), signature);
        assert_eq!(changed.verify(), Err(EntryError::Signature(name("b"))), "bit {bit}");
    }
}

#[test]
fn only_the_identity_key_signs() {
    let other = SignedEntry::sign(full_entry(), &identity_key(3));
    assert_eq!(other, Err(EntryError::OtherIdentity(name("b"))));
    let mut entry = full_entry();
    entry.identity = [0; 32];
    let weak = SignedEntry::unverified(entry, [0; 64]);
    assert_eq!(weak.verify(), Err(EntryError::Identity(name("b"))));
}

#[test]
fn an_entry_holds_from_its_first_second_to_its_last() {
    let entry = full_entry();
    let until = entry.valid_until;
    assert_eq!(
        entry.check_valid(WALL - 1),
        Err(EntryError::NotYetValid(name("b"), WALL))
    );
    assert_eq!(entry.check_valid(WALL), Ok(()));
    assert_eq!(entry.check_valid(until - 1), Ok(()));
    assert_eq!(entry.check_valid(until), Err(EntryError::Expired(name("b"), until)));
}

/// Another implementation of the encoding and of Ed25519 signed the same entry alike.
#[test]
fn the_signature_of_a_known_entry() {
    let entry = Entry {
        valid_from: 1,
        valid_until: 2,
        ..Entry::new("a", identity(1), "192.0.2.1".parse().unwrap())
    };
    let signed = SignedEntry::sign(entry, &identity_key(1)).unwrap();
    assert_eq!(
        signed.signature(),
        &hex!(
            "82831db6d474e4cc721379f2e5a08b1f5a6a6ee0b885906bb86ab0f0118bd6cb9a198d27bd7aa766f2981e7a201ea620cf176b36d82670f55dd7672863e58104"
        )
    );
}
