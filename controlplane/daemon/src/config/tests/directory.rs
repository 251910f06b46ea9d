//! Line 8: the file of the directory.

use super::*;
use crate::upkeep::OwnKeys;

#[test]
fn the_directory_is_consistent() {
    let file = "directory.toml";
    one_problem(
        file,
        "neighbours = [\"ain1\", \"ain3\"]",
        "neighbours = [\"ain3\"]",
        "directory.toml:5: nodes[0].neighbours[0]: `ain2` does not name `ain1` as its neighbour",
    );
    one_problem(
        file,
        "[\"ain1\", \"ain3\"]",
        "[\"ain1\", \"ain3\", \"ain9\"]",
        "@: nodes[1].neighbours[2]: no AIN named `ain9` in the directory",
    );
    one_problem(
        file,
        "[\"ain1\", \"ain3\"]",
        "[\"ain1\", \"ain3\", \"ain2\"]",
        "@: nodes[1].neighbours[2]: an AIN is not its own neighbour",
    );
    one_problem(
        file,
        "open_exit = []",
        "open_exit = [\"0.0.0.1/0\"]",
        "@: nodes[0].open_exit[0]: 0.0.0.1/0 has bits set behind its prefix; 0.0.0.0/0 is meant?",
    );
    one_problem(
        file,
        "198.51.100.64/26",
        "198.51.100.0/24",
        "@: nodes[2].exit_prefixes[0]: 198.51.100.0/24 overlaps 198.51.100.0/26 of nodes[0].exit_prefixes[0]",
    );
    one_problem(
        file,
        "203.0.113.3",
        "203.0.113.2",
        "@: nodes[2].address: the same as nodes[1].address",
    );
    let samples = Samples::new();
    let text = fs::read_to_string(samples.path(file)).unwrap();
    let key = text.split("identity = \"").nth(1).unwrap()[..64].to_owned();
    samples.edit(file, &key, &format!("{}zz", &key[..62]));
    assert_eq!(
        samples.problems(file),
        ["directory.toml:3: nodes[0].identity: not 64 hex digits"]
    );
    let zero = "0".repeat(64);
    samples.edit(file, &format!("{}zz", &key[..62]), &zero);
    assert_eq!(
        samples.problems(file),
        ["directory.toml:3: nodes[0].identity: not a valid public key"]
    );
}

#[test]
fn line_8_an_entry_that_was_changed_or_is_a_draft_is_refused_with_its_name() {
    let file = "directory.toml";
    let changes = [("weight = 10", "weight = 11"), ("203.0.113.2", "203.0.113.9")];
    for (from, to) in changes {
        let samples = Samples::new();
        samples.edit(file, from, to);
        let problems = samples.problems(file);
        let [problem] = &problems[..] else {
            panic!("{problems:?} after {from} -> {to}")
        };
        assert!(
            problem.contains("node \"ain2\": the signature is not that of"),
            "{problem}"
        );
    }
    let samples = Samples::new();
    let text = fs::read_to_string(samples.path(file)).unwrap();
    let unsigned: Vec<&str> = text.lines().filter(|line| !line.starts_with("signature")).collect();
    fs::write(samples.path(file), unsigned.join("\n")).unwrap();
    let problems = samples.problems(file);
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_eq!(
        problems[0],
        "directory.toml:1: nodes[0]: node \"ain1\" is a draft, not signed yet: `ain entry` at the node signs it"
    );
}

#[test]
fn line_8_a_check_of_the_directory_says_what_is_over_and_a_node_does_without_it() {
    let samples = Samples::new();
    let late = now() + std::time::Duration::from_secs(86_400);
    let problems = check_any(&samples.path("directory.toml"), late).unwrap_err();
    assert_eq!(problems.0.len(), 3);
    assert!(
        problems.0[0]
            .message
            .starts_with("the entry of node \"ain1\" has expired at")
    );
    assert!(NodeConfig::load(&samples.path("ain.toml"), late).is_ok());
}

#[test]
fn line_8_a_node_starts_with_the_directory_it_took_last_if_the_one_configured_cannot_be_used() {
    let samples = Samples::new();
    samples.edit("ain.toml", "/var/lib/ain", &samples.path("state").display().to_string());
    let (file, kept) = (
        samples.path("directory.toml"),
        samples.path("state").join(KEPT_DIRECTORY),
    );
    let good = fs::read_to_string(&file).unwrap();
    let load = || NodeConfig::load(&samples.path("ain.toml"), now());
    fs::create_dir(samples.path("state")).unwrap();
    let tampered = good.replacen("weight = 10", "weight = 11", 1);
    let place = format!(
        "directory.toml:{}: nodes[1].signature: node \"ain2\"",
        line_of(&tampered, "signature", 2)
    );
    let others = Samples::with_directory(|text| text.replace("\"ain1\"", "\"ain9\""));
    let renamed = fs::read_to_string(others.path("directory.toml")).unwrap();
    let bad = [
        (tampered.as_str(), place.as_str()),
        ("", "missing field `nodes`"),
        (&renamed, "no AIN named `ain1`"),
    ];
    for (text, complaint) in bad {
        fs::write(&file, text).unwrap();
        let refused_without_one = || {
            let problems = load().unwrap_err().to_string();
            assert!(problems.contains(complaint), "{problems}");
        };
        refused_without_one();
        for no_directory in ["nonsense", &tampered] {
            fs::write(&kept, no_directory).unwrap();
            refused_without_one();
        }
        fs::write(&kept, &good).unwrap();
        let config = load().unwrap();
        assert_eq!(config.directory.entries().len(), 3);
        let refused = config.directory_refused.unwrap().to_string();
        assert!(
            refused.contains(complaint) && refused.contains("directory.toml"),
            "{refused}"
        );
        // A mistake beside it does not hide it.
        let node_file = fs::read_to_string(samples.path("ain.toml")).unwrap();
        fs::write(
            samples.path("ain.toml"),
            node_file.replace("node = \"ain2\"", "node = \"ain3\""),
        )
        .unwrap();
        let problems = load().unwrap_err().to_string();
        assert!(problems.contains(complaint) && problems.contains("ain3"), "{problems}");
        fs::write(samples.path("ain.toml"), node_file).unwrap();
        // Who checks the file wants to know.
        assert!(samples.check("ain.toml").unwrap_err().to_string().contains(complaint));
        fs::remove_file(&kept).unwrap();
    }
    // The one configured wins as soon as it is good.
    fs::write(&kept, &good).unwrap();
    fs::write(&file, &good).unwrap();
    assert!(load().unwrap().directory_refused.is_none());
}

/// Line of the `nth` line that begins with `start`, from 1.
fn line_of(text: &str, start: &str, nth: usize) -> usize {
    let mut lines = text.lines().zip(1..).filter(|(line, _)| line.starts_with(start));
    lines.nth(nth - 1).unwrap().1
}

/// What `ain entry` does, from drafts to a directory.
#[test]
fn line_8_drafts_become_signed_entries() {
    let samples = Samples::new();
    let drafts = fs::read_to_string(samples.path("directory.toml")).unwrap();
    let is_draft = |line: &&str| {
        !["signature", "valid_", "onion", "ticket", "  {", "]"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    let drafts: Vec<&str> = drafts.lines().filter(is_draft).collect();
    fs::write(samples.path("directory.toml"), drafts.join("\n")).unwrap();
    samples.edit("ain.toml", "/var/lib/ain", &samples.path("state").display().to_string());
    let own = Own::load(&samples.path("ain.toml")).unwrap();
    let wall = unix_seconds(SystemTime::now());
    let keys = OwnKeys::open(&own.identity_key, &own.state_dir, &own.network).unwrap();
    let signed = keys.sign(&own.entry, wall).unwrap();
    let text = entry::signed(&signed, &own.neighbours);
    let others = drafts.join("\n");
    let others = &others[others.find("name = \"ain2\"").unwrap() - 10..];
    let whole = parse_drafts(Path::new("x"), &format!("{text}\n{others}")).unwrap();
    assert_eq!(&whole[0], signed.entry());
    assert!(signed.verify().is_ok());
    assert_eq!(whole[0].onion_keys.len(), 8);
    assert!(whole[0].ticket_keys.len() > 1);
}

/// A file that another implementation of the encoding and of Ed25519 has signed.
#[test]
fn line_8_a_foreign_signature_holds() {
    let seed = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../bench/fuzz/corpus/directory/signed.toml"
    );
    let directory = load_directory(Path::new(seed)).unwrap();
    assert_eq!(directory.entries().len(), 2);
    assert_eq!(directory.entries()[1].open_exit, ["0.0.0.0/0".parse().unwrap()]);
    assert_eq!(directory.entries()[0].ticket_keys[0].slice, 7);
}
