//! The samples pass, and one change at a time makes each check speak.

mod open_exit;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use ain_controlplane::directory::{OnionKey, SignedEntry};
use ain_dataplane::id::PeerId;
use ed25519_dalek::SigningKey;

use super::*;
use crate::keygen;

mod directory;
mod families;
pub(crate) mod ike;
mod inner;
mod limits;
mod ports;

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/samples");

fn now() -> SystemTime {
    UNIX_EPOCH + std::time::Duration::from_secs(RELEASED_UNIX_S + 86_400)
}

/// The samples in a directory of their own, with keys made for them.
pub(crate) struct Samples {
    dir: tempfile::TempDir,
}

impl Samples {
    pub(crate) fn new() -> Self {
        Self::with_directory(|text| text)
    }

    /// With a change to the text of the directory.
    fn with_directory(change: impl FnOnce(String) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = change(fs::read_to_string(format!("{SAMPLES}/directory.toml")).unwrap());
        let key = |node: u8| SigningKey::from_bytes(&[node; 32]);
        let drafted = (1..=3).fold(text, |text, node| {
            let identity = hex::encode(key(node).verifying_key().to_bytes());
            text.replace(&format!("IDENTITY-OF-AIN{node}"), &identity)
        });
        secret::write_identity(&dir.path().join("identity.key"), &[1; 32]).unwrap();
        secret::write_identity(&dir.path().join("other.key"), &[2; 32]).unwrap();
        let entries = parse_drafts(Path::new("drafts"), &drafted).unwrap();
        let signed = entries.iter().zip(1..).map(|(draft, node)| {
            let names = entry::neighbour_names(draft, &entries);
            let mut entry = draft.clone();
            (entry.valid_from, entry.valid_until) = (unix_seconds(now()), unix_seconds(now()) + 86_400);
            entry.onion_keys = vec![OnionKey {
                suite: 3,
                key: vec![node; 32],
                not_before: entry.valid_from,
                not_after: entry.valid_until,
            }];
            entry::signed(&SignedEntry::sign(entry, &key(node)).unwrap(), &names)
        });
        let signed: Vec<String> = signed.collect();
        fs::write(dir.path().join("directory.toml"), signed.join("\n")).unwrap();
        for file in ["ain.toml", "endpoint-initiator.toml", "endpoint-responder.toml"] {
            fs::copy(format!("{SAMPLES}/{file}"), dir.path().join(file)).unwrap();
        }
        let samples = Self { dir };
        samples.make_key_files();
        samples
    }

    /// One file a `key_file` of the samples, each with a key of its own.
    fn make_key_files(&self) {
        fs::create_dir(self.dir.path().join("keys")).unwrap();
        let lengths = [
            ("ain2.ah", 20),
            ("ain2.esp", 20),
            ("alice.ah", 32),
            ("alice.esp", 20),
            ("web.ah", 32),
        ];
        let lengths = lengths.into_iter().chain([("web.esp", 20), ("ah", 32), ("esp", 20)]);
        for (seed, (name, bytes)) in lengths.enumerate() {
            for (way, suffix) in ["in", "out"].iter().enumerate() {
                let key: Vec<u8> = (0..bytes).map(|at| (at * 16 + seed * 2 + way) as u8).collect();
                self.write_private(&format!("keys/{name}_{suffix}"), &hex::encode(key));
            }
        }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub(crate) fn write_private(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
        fs::set_permissions(self.path(file), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Replaces `from`, which must be there, by `to`.
    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) -> &Self {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(self.path(file), text.replacen(from, to, 1)).unwrap();
        self
    }

    fn check(&self, file: &str) -> Result<AnyConfig, Problems> {
        check_any(&self.path(file), now())
    }

    /// The problems, each without the name of the temporary directory.
    fn problems(&self, file: &str) -> Vec<String> {
        let prefix = format!("{}/", self.dir.path().display());
        self.check(file)
            .unwrap_err()
            .0
            .iter()
            .map(|problem| problem.to_string().replace(&prefix, ""))
            .collect()
    }
}

/// A problem as it is shown, at the line of the unchanged sample that holds `marker`.
fn placed(file: &str, marker: &str, problem: &str) -> String {
    let text = fs::read_to_string(format!("{SAMPLES}/{file}")).unwrap();
    let line = text.split(marker).next().unwrap().matches('\n').count() + 1;
    format!("{file}:{line}: {problem}")
}

/// Changes one thing in one sample and expects exactly one problem; `@` stands for the file and the line of the change.
fn one_problem(file: &str, from: &str, to: &str, expected: &str) {
    let samples = Samples::new();
    let text = fs::read_to_string(samples.path(file)).unwrap();
    let line = text.split(from).next().unwrap().matches('\n').count() + 1;
    let expected = expected.replace('@', &format!("{file}:{line}"));
    samples.edit(file, from, to);
    assert_eq!(samples.problems(file), [expected], "after {from} -> {to}");
}

#[test]
fn the_samples_pass() {
    let samples = Samples::new();
    let Ok(AnyConfig::Node(node)) = samples.check("ain.toml") else {
        panic!("{:?}", samples.check("ain.toml"))
    };
    let neighbour = node.directory.named("ain2").unwrap();
    assert_eq!(node.own_entry().unwrap().neighbours, [neighbour.id()]);
    assert_eq!(node.neighbours[0].tunnel.remote, neighbour.address);
    let peers: Vec<PeerId> = node.tunnels().map(|(peer, ..)| peer).collect();
    assert_eq!(peers, [PeerId(0), PeerId(1), PeerId(2)]);
    assert!(matches!(samples.check("directory.toml"), Ok(AnyConfig::Directory(_))));
    for file in ["endpoint-initiator.toml", "endpoint-responder.toml"] {
        assert!(
            matches!(samples.check(file), Ok(AnyConfig::Endpoint(_))),
            "{:?}",
            samples.check(file)
        );
    }
}

#[test]
fn generated_tunnel_keys_pass_inline_in_a_private_file() {
    use ain_crypto::MacAlgorithm::{Aes128Gmac, AesCmac96, HmacSha256_128};
    [HmacSha256_128, Aes128Gmac, AesCmac96]
        .into_iter()
        .for_each(generated_keys_pass);
}

fn generated_keys_pass(ah: ain_crypto::MacAlgorithm) {
    let samples = Samples::new();
    let keys = keygen::tunnel_keys(ah, ain_crypto::AeadAlgorithm::Aes128Gcm16).unwrap();
    let (_, other_end) = keys.split_once("# other end").unwrap();
    let text = fs::read_to_string(samples.path("endpoint-initiator.toml")).unwrap();
    let (head, _) = text.split_once("ah = ").unwrap();
    fs::write(samples.path("endpoint-initiator.toml"), format!("{head}{other_end}")).unwrap();
    let problems = samples.problems("endpoint-initiator.toml");
    assert!(
        problems[0].contains("has keys in it") && problems[0].contains("chmod 600"),
        "{problems:?}"
    );
    fs::set_permissions(
        samples.path("endpoint-initiator.toml"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    assert!(samples.check("endpoint-initiator.toml").is_ok());
}

#[test]
fn shape_is_named_by_line_and_field() {
    one_problem(
        "ain.toml",
        "inner_mtu = 1386",
        "inner_mtuu = 1386",
        "@: hosts[0].inner_mtuu: unknown field `inner_mtuu`, expected one of `name`, `role`, `option`, `local`, `remote`, `addresses`, `inner_mtu`, `padding`, `rate`, `limits`, `esn`, `ah`, `esp`, `ah_in`, `ah_out`, `esp_in`, `esp_out`, `ike`",
    );
    one_problem(
        "ain.toml",
        "spi = 0x1003",
        "spi = \"x\"",
        "@: neighbours[0].esp_in.spi: invalid type: string \"x\", expected u32",
    );
    one_problem("ain.toml", "[node]", "[node", "@: unclosed table, expected `]`");
    one_problem(
        "ain.toml",
        "name = \"wan\"\n",
        "",
        &placed("ain.toml", "[[ports]]", "ports[0]: missing field `name`"),
    );
}

#[test]
fn a_key_of_a_wrong_type_is_not_quoted() {
    let samples = Samples::new();
    samples.edit("ain.toml", "key_file = \"keys/ain2.ah_in\"", "key = 1234567890");
    assert_eq!(
        samples.problems("ain.toml"),
        [placed(
            "ain.toml",
            "key_file = \"keys/ain2.ah_in",
            "neighbours[0].ah_in.key: expected hex digits in quotes"
        )]
    );
    let samples = Samples::new();
    let digits = "0123456789abcdef".repeat(4);
    samples.edit(
        "ain.toml",
        "{ spi = 0x1001, key_file = \"keys/ain2.ah_in\" }",
        &format!("\"{digits}\""),
    );
    let problems = samples.problems("ain.toml");
    assert!(
        problems[0].contains("ah_in: expected { spi") && !problems[0].contains(&digits),
        "{problems:?}"
    );
    let samples = Samples::new();
    samples.edit("ain.toml", "keys/ain2.ah_in", &digits);
    let problems = samples.problems("ain.toml");
    assert!(
        problems.iter().all(|problem| !problem.contains(&digits)),
        "{problems:?}"
    );
}

#[test]
fn keys_and_spis_are_checked() {
    let file = "ain.toml";
    one_problem(
        file,
        "spi = 0x1001",
        "spi = 255",
        "@: neighbours[0].ah_in.spi: 255 is reserved; the lowest SPI is 256",
    );
    one_problem(
        file,
        "spi = 0x2001",
        "spi = 0x1001",
        "@: hosts[0].ah_in.spi: neighbours[0].ah_in.spi has the same SPI, protocol and receiver",
    );
    one_problem(
        file,
        "keys/alice.esp_in",
        "keys/ain2.esp_in",
        "@: hosts[0].esp_in.key_file: the same key as neighbours[0].esp_in.key_file; every SA needs its own",
    );
    one_problem(
        file,
        "keys/alice.esp_in",
        "keys/alice.ah_in",
        "@: hosts[0].esp_in.key_file: 32 bytes where aes-128-gcm-16 takes 20 (16 of key, 4 of salt)",
    );
    one_problem(
        file,
        "keys/alice.ah_in",
        "keys/ain2.ah_in",
        "@: hosts[0].ah_in.key_file: 20 bytes where hmac-sha2-256-128 takes 32",
    );
    one_problem(
        file,
        ", key_file = \"keys/ain2.ah_in\"",
        "",
        "@: neighbours[0].ah_in: neither `key` nor `key_file`",
    );
    one_problem(
        file,
        "key_file = \"keys/ain2.ah_in\"",
        "key_file = \"a\", key = \"00\"",
        "@: neighbours[0].ah_in: both `key` and `key_file`",
    );
}

#[test]
fn a_key_that_differs_in_its_salt_only_is_the_same() {
    let samples = Samples::new();
    let key = fs::read_to_string(samples.path("keys/ain2.esp_in")).unwrap();
    samples.write_private("keys/alice.esp_out", &format!("{}00000000", &key[..32]));
    assert_eq!(
        samples.problems("ain.toml"),
        [placed(
            "ain.toml",
            "keys/alice.esp_out",
            "hosts[0].esp_out.key_file: the same key as neighbours[0].esp_in.key_file; every SA needs its own"
        )]
    );
}

#[test]
fn files_are_there_and_private() {
    let samples = Samples::new();
    fs::set_permissions(samples.path("identity.key"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::remove_file(samples.path("keys/web.ah_out")).unwrap();
    let problems = samples.problems("ain.toml");
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with(&placed(
        "ain.toml",
        "identity_key_file",
        "node.identity_key_file: identity.key: mode 640 lets others"
    )));
    assert!(problems[1].starts_with(&placed(
        "ain.toml",
        "keys/web.ah_out",
        "hosts[1].ah_out.key_file: keys/web.ah_out: No such file"
    )));
    one_problem(
        "ain.toml",
        "\"identity.key\"",
        "\"other.key\"",
        "@: node.identity_key_file: not the secret half of the key that the directory lists for this node",
    );
}

#[test]
fn network_workers_and_ports_are_checked() {
    let file = "ain.toml";
    one_problem(
        file,
        "suite = 3",
        "suite = 9",
        "@: network.suite: there is no suite 9, but 1 to 4",
    );
    one_problem(
        file,
        "inactivity_s = 300",
        "inactivity_s = 0",
        "@: network.inactivity_s: 0 is not 1 to 86400",
    );
    one_problem(
        file,
        "min_path_nodes = 3",
        "min_path_nodes = 4",
        &placed(
            file,
            "min_path_nodes",
            "network.min_path_nodes: 4 is above max_path_nodes, 3",
        ),
    );
    one_problem(
        file,
        "max_path_nodes = 3",
        "max_path_nodes = 7",
        "@: network.max_path_nodes: 7 is not 2 to 6 AINs",
    );
    one_problem(
        "ain.toml",
        "# crypto = \"auto\"",
        "crypto = \"best\"",
        "@: workers.crypto: unknown variant `best`, expected one of `auto`, `ipsec-mb`, `portable`",
    );
    one_problem(
        file,
        "cores = [1]",
        "cores = [1, 2, 1]",
        "@: workers.cores: core 1 is named twice",
    );
    one_problem(
        file,
        "control_core = 0",
        "control_core = 1",
        "@: workers.control_core: a worker that spins on that core would starve the control thread",
    );
    one_problem(
        file,
        "aivts = 65536",
        "aivts = 16777217",
        "@: capacity.aivts: 16777217 is not 1 to 16777216",
    );
    one_problem(
        file,
        "\"standard\"",
        "\"jumbo\"",
        &placed(file, "mtu = 1500", "ports[0].mtu: 1500: the network's cells need 9000"),
    );
    one_problem(
        file,
        "inner_mtu = 1386",
        "inner_mtu = 1387",
        "@: hosts[0].inner_mtu: 1387 is not 576 to 1386 (the port's MTU less the tunnel's headers)",
    );
}

#[test]
fn addresses_are_checked() {
    let file = "ain.toml";
    one_problem(
        file,
        "192.0.2.20",
        "192.0.2.10",
        "@: hosts[1].remote: 192.0.2.10 is the address of hosts[0].remote too",
    );
    one_problem(
        file,
        "192.0.2.20",
        "203.0.113.1",
        "@: hosts[1].remote: 203.0.113.1 is this node's own address, of ports[0]",
    );
    one_problem(
        file,
        "# local = \"203.0.113.1\"",
        "local = \"203.0.113.9\"",
        "@: neighbours[0].local: no port has this address",
    );
    one_problem(
        file,
        "10.0.0.1/32",
        "10.0.0.1/24",
        "@: hosts[0].addresses[0]: 10.0.0.1/24 has bits set behind its prefix; 10.0.0.0/24 is meant?",
    );
    one_problem(
        file,
        "198.51.100.0/28",
        "198.51.100.64/28",
        "@: hosts[1].addresses[0]: 198.51.100.64/28 is in none of the exit_prefixes that the directory lists for this node",
    );
    one_problem(
        file,
        "10.0.0.1/32",
        "198.51.100.8/32",
        &placed(
            file,
            "198.51.100.0/28",
            "hosts[1].addresses[0]: 198.51.100.0/28 overlaps 198.51.100.8/32 of hosts[0].addresses[0]",
        ),
    );
}

#[test]
fn initiators_may_share_private_addresses_only() {
    for (address, shared) in [("10.0.0.1/32", true), ("192.0.2.77/32", false)] {
        let samples = Samples::new();
        samples.edit("ain.toml", "10.0.0.1/32", address);
        samples.edit("ain.toml", "role = \"responder\"", "role = \"initiator\"");
        samples.edit("ain.toml", "198.51.100.0/28", address);
        assert_eq!(samples.check("ain.toml").is_ok(), shared, "{address}");
    }
}

#[test]
fn the_node_and_its_neighbours_are_in_the_directory() {
    let samples = Samples::new();
    samples.edit("ain.toml", "node = \"ain2\"", "node = \"ain3\"");
    assert_eq!(
        samples.problems("ain.toml"),
        [
            "ain.toml: the directory names `ain2` as a neighbour, but no [[neighbours]] has its tunnel".to_owned(),
            placed(
                "ain.toml",
                "node = \"ain2\"",
                "neighbours[0].node: the directory does not name `ain3` as a neighbour of this node"
            ),
        ]
    );
    one_problem(
        "ain.toml",
        "name = \"ain1\"",
        "name = \"ain9\"",
        "@: node.name: no AIN named `ain9` in the directory",
    );
}

#[test]
fn an_endpoint_is_checked() {
    let file = "endpoint-initiator.toml";
    one_problem(
        file,
        "addresses = [\"10.0.0.1/32\"]",
        "addresses = []",
        "@: endpoint.addresses: at least one inner address is needed",
    );
    one_problem(
        file,
        "\"198.51.100.0/24\"",
        "\"203.0.0.0/16\"",
        "@: endpoint.routes[0]: 203.0.0.0/16 holds 203.0.113.1, the AIN's own address: the tunnel would swallow itself",
    );
    one_problem(
        file,
        "tun = \"ain0\"",
        "tun = \"a-name-beyond-15\"",
        "@: endpoint.tun: not a name of a kernel interface (1 to 15 bytes, no slash, no space)",
    );
    one_problem(
        file,
        "idle = \"adaptive\"",
        "idle = \"spin\"",
        &placed(
            file,
            "max_sleep_us",
            "endpoint.max_sleep_us: a worker that spins never sleeps: leave it out, or `idle = \"adaptive\"`",
        ),
    );
}

#[test]
fn a_clock_far_off_is_told_with_everything_else() {
    let samples = Samples::new();
    samples.edit("ain.toml", "suite = 3", "suite = 9");
    let problems = check_any(&samples.path("ain.toml"), UNIX_EPOCH).unwrap_err().0;
    assert!(problems[0].message.contains("the system clock is"), "{problems:?}");
    assert_eq!(problems[1].field, "network.suite");
}

#[test]
fn cryptography_can_be_asked_for() {
    for (text, choice) in [
        ("auto", CryptoChoice::Auto),
        ("ipsec-mb", CryptoChoice::IpsecMb),
        ("portable", CryptoChoice::Portable),
    ] {
        let samples = Samples::new();
        samples.edit("ain.toml", "# crypto = \"auto\"", &format!("crypto = \"{text}\""));
        samples.edit(
            "endpoint-initiator.toml",
            "idle =",
            &format!("crypto = \"{text}\"\nidle ="),
        );
        assert!(matches!(samples.check("ain.toml"), Ok(AnyConfig::Node(node)) if node.workers.crypto == choice));
        let endpoint = samples.check("endpoint-initiator.toml");
        assert!(matches!(endpoint, Ok(AnyConfig::Endpoint(endpoint)) if endpoint.crypto == choice));
    }
}

#[test]
fn a_benchmark_needs_peers_on_both_sides_and_figures_in_range() {
    let section = "[[hosts]]\nname = \"alice\"";
    let with = |text: &str| {
        let samples = Samples::new();
        samples.edit("ain.toml", section, &format!("{text}\n\n{section}"));
        samples
    };
    let good = with("[benchmark]\nrole = \"entrance\"\naivts = 7\nhops = 3\nanti_replay = false");
    let Ok(AnyConfig::Node(node)) = good.check("ain.toml") else {
        panic!("{:?}", good.check("ain.toml"))
    };
    let expected = BenchmarkConfig {
        part: ain_controlplane::benchmark::Part::Entrance { hops: 3 },
        aivts: 7,
        anti_replay: false,
    };
    assert_eq!(node.benchmark, Some(expected));
    let taken_on = crate::translate::quotas(&node);
    assert_eq!((taken_on.aivts, taken_on.flows), (0, 0));
    let bad = with("[benchmark]\nrole = \"intermediate\"\naivts = 0\nhops = 6").problems("ain.toml");
    let words = ["0 is not 1 to", "6 is not 1 to 5 AINs", "needs two [[neighbours]]"];
    assert_eq!(bad.len(), words.len(), "{bad:?}");
    assert!(
        bad.iter().zip(words).all(|(problem, word)| problem.contains(word)),
        "{bad:?}"
    );
}

#[test]
fn a_benchmark_fits_into_the_nodes_tables() {
    let problems = |role: &str, aivts: u32, flows: u32| {
        let samples = Samples::new();
        let section = format!("[benchmark]\nrole = \"{role}\"\naivts = {aivts}\n\n[capacity]\n");
        samples.edit("ain.toml", "[capacity]\n", &section);
        samples.edit("ain.toml", "aivts = 65536", "aivts = 100");
        samples.edit("ain.toml", "flows = 65536", &format!("flows = {flows}"));
        samples.check("ain.toml").err().map(|problems| problems.to_string())
    };
    for (role, aivts, flows, room) in [
        ("entrance", 101, 800, "the 100 for which capacity.aivts"),
        ("entrance", 71, 80, "the 70 for which capacity.flows"),
        ("exit", 81, 80, "the 80 for which capacity.flows"),
    ] {
        assert_eq!(problems(role, aivts - 1, flows), None, "{role}");
        let why = problems(role, aivts, flows).unwrap();
        assert!(why.contains("benchmark.aivts") && why.contains(room), "{why}");
    }
}
