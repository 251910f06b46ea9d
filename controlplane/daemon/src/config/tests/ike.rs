//! Line 2: keys by IKE.

use ain_crypto::MacAlgorithm;

use super::*;

const PVT: &str =
    "ah = \"aes-128-gmac\"                          # or \"hmac-sha2-256-128\", \"aes-cmac-96\", which Linux has too
esp = \"aes-128-gcm-16\"                       # or \"aes-256-gcm-16\"
ah_in   = { spi = 0x1001, key_file = \"keys/ain2.ah_in\" }     # SPIs: 256 and above
ah_out  = { spi = 0x1002, key_file = \"keys/ain2.ah_out\" }
esp_in  = { spi = 0x1003, key_file = \"keys/ain2.esp_in\" }
esp_out = { spi = 0x1004, key_file = \"keys/ain2.esp_out\" }";
const ALICE: &str = "ah_in   = { spi = 0x2001, key_file = \"keys/alice.ah_in\" }
ah_out  = { spi = 0x2002, key_file = \"keys/alice.ah_out\" }
esp_in  = { spi = 0x2003, key_file = \"keys/alice.esp_in\" }
esp_out = { spi = 0x2004, key_file = \"keys/alice.esp_out\" }";
const BY_PSK: &str = "ah = \"aes-cmac-96\"\nike = { auth = \"psk\", psk_file = \"ike/ain2.psk\" }";
const BY_CERT: &str = "ike = { auth = \"cert\", id = \"alice@example.org\" }";
const SECTION: &str = "[ike]\nid = \"ain1.example.org\"\ncert_file = \"ike/own.crt\"\nkey_file = \"ike/own.key\"\nca_files = [\"ike/ca.crt\"]\n";

/// The samples with a PVT by a pre-shared key and the tunnel of `alice` by certificates.
pub(crate) fn by_ike() -> Samples {
    let samples = Samples::new();
    fs::create_dir(samples.path("ike")).unwrap();
    samples.write_private("ike/ain2.psk", &"a1".repeat(32));
    for file in ["own.crt", "own.key", "ca.crt"] {
        samples.write_private(&format!("ike/{file}"), &format!("text of {file}"));
    }
    samples.edit("ain.toml", PVT, BY_PSK);
    samples.edit("ain.toml", ALICE, BY_CERT);
    samples.edit("ain.toml", "[ike]\n", SECTION);
    samples.edit("ain.toml", "rekey_s = 3600", "rekey_s = 5");
    samples
}

/// The node of these samples.
pub(crate) fn node(samples: &Samples) -> Box<NodeConfig> {
    match samples.check("ain.toml") {
        Ok(AnyConfig::Node(node)) => node,
        other => panic!("{other:?}"),
    }
}

/// What is said of the samples by IKE after one change.
fn problem(from: &str, to: &str) -> String {
    let samples = by_ike();
    samples.edit("ain.toml", from, to);
    let problems = samples.problems("ain.toml");
    assert_eq!(problems.len(), 1, "{problems:?}");
    let (_, said) = problems[0].split_once(": ").unwrap();
    said.to_owned()
}

#[test]
fn line_2_keys_by_ike_are_taken() {
    let samples = by_ike();
    let config = node(&samples);
    let pvt = config.neighbours[0].tunnel.ike().unwrap();
    assert_eq!(config.neighbours[0].tunnel.ah, MacAlgorithm::AesCmac96);
    assert!(matches!(&pvt.auth, Auth::Psk(key) if key.expose() == [0xa1; 32]));
    let alice = config.hosts[0].tunnel.ike().unwrap();
    assert!(matches!(alice.auth, Auth::Cert));
    assert_eq!((pvt.id.as_str(), alice.id.as_str()), ("ain2", "alice@example.org"));
    assert!(config.hosts[1].tunnel.hand_made().is_some(), "both kinds in one file");
    let expected = Rekey {
        seconds: 5,
        packets: 1 << 31,
        octets: 0,
    };
    assert_eq!(
        (config.ike.id.as_str(), config.ike.rekey),
        ("ain1.example.org", expected)
    );
    assert_eq!(
        config.ike.credentials.as_ref().unwrap().key_file,
        samples.path("ike/own.key")
    );
    let plain = node(&Samples::new());
    assert_eq!((plain.ike.id.as_str(), &plain.ike.credentials), ("ain1", &None));
    assert_eq!(plain.ike.socket, Path::new("/run/ain/ike.sock"));
}

#[test]
fn line_2_a_tunnel_has_one_source_of_keys() {
    let mixed = format!("{BY_CERT}\n{ALICE}");
    assert_eq!(
        problem(BY_CERT, &mixed),
        "hosts[0].ike: the keys of a tunnel are made by IKE or by hand, not both"
    );
    assert_eq!(
        problem(BY_CERT, ""),
        "hosts[0]: needs the four SAs `ah_in`, `ah_out`, `esp_in` and `esp_out`, or `ike`"
    );
    let benchmark = "[benchmark]\nrole = \"entrance\"\naivts = 7\nhops = 3\n\n[workers]";
    assert_eq!(
        problem("[workers]", benchmark),
        "benchmark: static AIVTs need tunnels with hand-made keys, not `ike`"
    );
    assert!(
        problem(BY_PSK, &BY_PSK.replace("ah = \"aes-cmac-96\"\n", ""))
            .contains("charon negotiates no AH with aes-128-gmac")
    );
}

#[test]
fn line_2_who_proves_what_how_is_checked() {
    let psk = "{ auth = \"psk\", psk_file = \"ike/ain2.psk\" }";
    assert_eq!(
        problem(psk, "{ auth = \"psk\" }"),
        "neighbours[0].ike: `auth = \"psk\"` needs `psk_file`"
    );
    assert_eq!(
        problem(psk, "{ auth = \"cert\", psk_file = \"ike/ain2.psk\" }"),
        "neighbours[0].ike.psk_file: no part of `auth = \"cert\"`"
    );
    assert_eq!(
        problem(
            "\"cert\", id = \"alice@example.org\"",
            "\"psk\", psk_file = \"ike/ain2.psk\""
        ),
        "hosts[0].ike.psk_file: the same key as neighbours[0].ike.psk_file: each peer could pass for the other"
    );
    assert_eq!(
        problem("alice@example.org", "ain2"),
        "hosts[0].ike.id: `ain2` is the identity of neighbours[0].ike too: each peer could pass for the other"
    );
    assert!(problem("alice@example.org", "*@example.org").starts_with("hosts[0].ike.id: charon would take"));
    assert!(problem("alice@example.org", "a\\\"b").starts_with("hosts[0].ike.id: an identity is 1 to 128 printable"));
    let without_key = by_ike();
    without_key.edit("ain.toml", "key_file = \"ike/own.key\"\n", "");
    assert!(without_key.problems("ain.toml")[0].ends_with("ike: `cert_file`, `key_file` and `ca_files` go together"));
    let files = "cert_file = \"ike/own.crt\"\nkey_file = \"ike/own.key\"\nca_files = [\"ike/ca.crt\"]\n";
    assert_eq!(
        problem(files, ""),
        "hosts[0].ike: `auth = \"cert\"` needs `cert_file`, `key_file` and `ca_files` of [ike]"
    );
    assert!(problem("ike/ca.crt", "ike/other.crt").starts_with("ike.ca_files: "));
    assert_eq!(
        problem("rekey_s = 5", "rekey_s = 1"),
        "ike.rekey_s: 1 is not 2 to 86400"
    );
    assert_eq!(
        problem("rekey_packets = 2147483648", "rekey_packets = 5"),
        "ike.rekey_packets: 5 is neither 0 nor 65536 and more"
    );
}

#[test]
fn line_2_secrets_of_ike_are_private_and_long_and_not_shown() {
    let samples = by_ike();
    samples.write_private("ike/ain2.psk", "0011223344");
    fs::set_permissions(samples.path("ike/own.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let problems = samples.problems("ain.toml");
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].contains("neighbours[0].ike.psk_file: 5 bytes; 16 at least"),
        "{problems:?}"
    );
    assert!(
        problems[1].contains("ike.key_file: ") && problems[1].contains("mode 644"),
        "{problems:?}"
    );
    let shown = format!("{:?}", node(&by_ike()).neighbours[0].tunnel);
    assert!(!shown.contains("a1a1") && !shown.contains("161, 161"), "{shown}");
}
