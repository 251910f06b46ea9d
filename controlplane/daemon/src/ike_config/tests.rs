//! Line 2: what charon is told, here and at the other end.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::config::tests::ike::{by_ike, node};

/// Text with all white space made one blank.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn line_2_files_for_charon_say_what_the_configuration_says() {
    let samples = by_ike();
    let dir = samples.path("charon");
    let said = write(&node(&samples), &dir).unwrap();
    assert!(said.starts_with("2 tunnels."), "{said}");
    let text = flat(&std::fs::read_to_string(dir.join("swanctl/swanctl.conf")).unwrap());
    for wanted in [
        "neighbour-ain2 { version = 2 local_addrs = 203.0.113.1 remote_addrs = 203.0.113.2",
        "local { auth = psk id = \"ain1.example.org\" } remote { auth = psk id = \"ain2\" }",
        "neighbour-ain2-esp { esp_proposals = aes128gcm16-x25519-esn mode = tunnel reqid = 1 local_ts = 203.0.113.1/32 remote_ts = 203.0.113.2/32",
        "neighbour-ain2-ah { ah_proposals = aescmac-x25519-esn mode = transport_proxy reqid = 2 local_ts = 0.0.0.0/0[esp] remote_ts = 0.0.0.0/0[esp]",
        "rekey_time = 5s life_time = 38s rand_time = 0s rekey_packets = 2147483648 life_packets = 3355443200 start_action = trap }",
        "local { auth = pubkey id = \"ain1.example.org\" certs = ain-own.pem } remote { auth = pubkey id = \"alice@example.org\" cacerts = ain-ca-0.pem }",
        "host-alice-esp { esp_proposals = aes128gcm16-x25519-esn mode = tunnel reqid = 3 local_ts = 0.0.0.0/0 remote_ts = 10.0.0.1/32 rekey_time = 8s",
        "host-alice-ah { ah_proposals = sha256-x25519-esn",
        &format!(
            "ike-neighbour-ain2 {{ id-1 = \"ain1.example.org\" id-2 = \"ain2\" secret = 0x{} }}",
            "a1".repeat(32)
        ),
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    assert!(!text.contains("web"), "made by hand");
    let settings = std::fs::read_to_string(dir.join("strongswan.conf")).unwrap();
    assert!(settings.contains("socket = /run/ain/ike.sock"), "{settings}");
    assert!(
        settings.contains(&format!("SWANCTL_DIR={}/swanctl", dir.display())),
        "{settings}"
    );
    for (file, text) in [
        ("x509/ain-own.pem", "own.crt"),
        ("private/ain-own.pem", "own.key"),
        ("x509ca/ain-ca-0.pem", "ca.crt"),
    ] {
        let copy = dir.join("swanctl").join(file);
        assert_eq!(std::fs::read_to_string(&copy).unwrap(), format!("text of {text}"));
        assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn line_2_the_folder_keeps_no_credential_that_is_given_up_and_nothing_open() {
    let samples = by_ike();
    let mut config = node(&samples);
    let dir = samples.path("charon");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let set_mode = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    write(&config, &dir).unwrap();
    assert_eq!(mode(&dir), 0o700);
    let private = dir.join("swanctl/private");
    let operators = private.join("own.pem");
    std::fs::write(&operators, "of the operator").unwrap();
    std::fs::write(private.join("ain-own.pem.new"), "of a write that was cut off").unwrap();

    set_mode(&dir, 0o755);
    set_mode(&private, 0o755);
    config.ike.credentials = None;
    write(&config, &dir).unwrap();
    assert_eq!([mode(&dir), mode(&private)], [0o755, 0o700]);
    let left = |folder: &str| -> Vec<_> {
        let entries = std::fs::read_dir(dir.join("swanctl").join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    assert_eq!(left("private"), [operators]);
    assert!(left("x509").is_empty() && left("x509ca").is_empty());

    for open in [&dir, &private] {
        set_mode(open, 0o720);
        assert!(matches!(write(&config, &dir), Err(IkeConfigError::Writable(named)) if named == *open));
        set_mode(open, 0o700);
    }
    let link = samples.path("link");
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    assert!(matches!(write(&config, &link), Err(IkeConfigError::Writable(named)) if named == link));
}

#[test]
fn line_2_what_is_copied_from_stays() {
    let samples = by_ike();
    let mut config = node(&samples);
    let dir = samples.path("charon");
    write(&config, &dir).unwrap();
    let key = dir.join("swanctl/private/ain-mine.pem");
    let credentials = config.ike.credentials.as_mut().unwrap();
    std::fs::rename(&credentials.key_file, &key).unwrap();
    credentials.key_file = key.clone();
    for _ in 0..2 {
        write(&config, &dir).unwrap();
        assert_eq!(std::fs::read_to_string(&key).unwrap(), "text of own.key");
    }
}

#[test]
fn line_2_the_other_end_is_told_the_mirror_image() {
    let config = node(&by_ike());
    let text = flat(&of_host(&config, "alice").unwrap());
    for wanted in [
        "local_addrs = 192.0.2.10 remote_addrs = 203.0.113.1",
        "local { auth = pubkey id = \"alice@example.org\" certs = ain-own.pem } remote { auth = pubkey id = \"ain1.example.org\"",
        "local_ts = 10.0.0.1/32 remote_ts = 0.0.0.0/0",
        "mode = transport_proxy reqid = 2 local_ts = 0.0.0.0/0[esp] remote_ts = 0.0.0.0/0[esp]",
        "rekey_time = 5s",
        "policies = no replay_window = 1024 }",
        "`ain host-config --host alice`",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    assert!(
        flat(&of_neighbour(&config, "ain2").unwrap())
            .contains("id-1 = \"ain2\" id-2 = \"ain1.example.org\" secret = 0xa1a1")
    );
    assert!(matches!(of_host(&config, "web"), Err(IkeConfigError::ByHand(name)) if name == "web"));
    assert!(matches!(
        of_host(&config, "ain2"),
        Err(IkeConfigError::Unknown("hosts", _))
    ));
}

#[test]
fn line_2_linux_is_not_told_what_it_would_carry_a_part_of() {
    for inside in ["\"10.0.0.1/32\", \"fd00::1/128\"", "\"fd00::1/128\"", ""] {
        let samples = by_ike();
        samples.edit("ain.toml", "\"10.0.0.1/32\"", inside);
        let config = node(&samples);
        assert!(matches!(of_host(&config, "alice"), Err(IkeConfigError::Families(name)) if name == "alice"));
        write(&config, &samples.path("charon")).unwrap();
    }
}

#[test]
fn line_2_kernel_policies_ask_for_both_kinds_of_states() {
    let config = node(&by_ike());
    let commands = crate::host_config::of_host(&config, "alice", "eth0").unwrap();
    assert!(
        !commands.contains("ip xfrm state") && commands.contains("keys by IKE"),
        "{}",
        *commands
    );
    let wanted = "ip xfrm policy add src 10.0.0.1/32 dst 0.0.0.0/0 dir out \
        tmpl src 192.0.2.10 dst 203.0.113.1 proto esp reqid 1 mode tunnel tmpl src 192.0.2.10 dst 203.0.113.1 proto ah reqid 2 mode transport";
    assert!(commands.contains(wanted), "{}", *commands);
}
