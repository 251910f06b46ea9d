//! Line 2: what charon is told, here and at the other end.

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
        "local { auth = pubkey id = \"ain1.example.org\" certs = own.pem } remote { auth = pubkey id = \"alice@example.org\" cacerts = ca-0.pem }",
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
        ("x509/own.pem", "own.crt"),
        ("private/own.pem", "own.key"),
        ("x509ca/ca-0.pem", "ca.crt"),
    ] {
        let copy = dir.join("swanctl").join(file);
        assert_eq!(std::fs::read_to_string(&copy).unwrap(), format!("text of {text}"));
        assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    }
    write(&node(&samples), &dir).unwrap();
}

#[test]
fn line_2_the_other_end_is_told_the_mirror_image() {
    let config = node(&by_ike());
    let text = flat(&of_host(&config, "alice").unwrap());
    for wanted in [
        "local_addrs = 192.0.2.10 remote_addrs = 203.0.113.1",
        "local { auth = pubkey id = \"alice@example.org\" certs = own.pem } remote { auth = pubkey id = \"ain1.example.org\"",
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
