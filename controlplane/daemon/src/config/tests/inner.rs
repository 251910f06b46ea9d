//! Inner addresses of both families (issue 4, line 1) and the MTU of what carries them (line 5).

use super::*;

const SERVED: &str = "exit_prefixes = [\"198.51.100.0/26\"]";
const BOTH: &str = "exit_prefixes = [\"198.51.100.0/26\", \"2001:db8:33::/64\"]";

#[test]
fn line_1_both_families_inside() {
    let samples = Samples::with_directory(|text| text.replacen(SERVED, BOTH, 1));
    samples.edit(
        "ain.toml",
        "[\"10.0.0.1/32\"]",
        "[\"10.0.0.1/32\", \"fd00::1/128\", \"2001:db8:7::/64\"]",
    );
    samples.edit(
        "ain.toml",
        "[\"198.51.100.0/28\"]",
        "[\"198.51.100.0/28\", \"2001:db8:33::80/124\"]",
    );
    let file = "endpoint-initiator.toml";
    samples.edit(file, "[\"10.0.0.1/32\"]", "[\"10.0.0.1/32\", \"fd00::1/128\"]");
    samples.edit(
        file,
        "[\"198.51.100.0/24\"]",
        "[\"198.51.100.0/24\", \"2001:db8:33::/64\"]",
    );
    for file in ["directory.toml", "ain.toml", file] {
        assert!(samples.check(file).is_ok(), "{:?}", samples.problems(file));
    }
}

#[test]
fn line_1_inner_addresses_that_are_none() {
    for (address, why) in [
        ("fe80::1/128", "fe80::1 is no host's address"),
        ("ff02::1/128", "ff02::1 is no host's address"),
        ("::/128", ":: is no host's address"),
        ("169.254.1.1/32", "169.254.1.1 is no host's address"),
        (
            "::ffff:10.0.0.1/128",
            "::ffff:10.0.0.1/128 is IPv4 written as IPv6; 10.0.0.1 is meant?",
        ),
        (
            "fd00::1/64",
            "fd00::1/64 has bits set behind its prefix; fd00::/64 is meant?",
        ),
    ] {
        one_problem(
            "ain.toml",
            "10.0.0.1/32",
            address,
            &format!("@: hosts[0].addresses[0]: {why}"),
        );
    }
    let file = "endpoint-initiator.toml";
    let wanted = "@: endpoint.addresses[0]: fe80::1 is no host's address";
    let samples = Samples::new();
    samples.edit(file, "10.0.0.1/32", "fe80::1/64");
    assert_eq!(samples.problems(file)[0], wanted.replace('@', &format!("{file}:11")));
    one_problem(
        file,
        "198.51.100.0/24",
        "2001:db8::/32",
        "@: endpoint.routes[0]: 2001:db8::/32: endpoint.addresses has no address of its family",
    );
}

#[test]
fn line_5_no_narrow_tunnel_for_ipv6() {
    for (file, field) in [("ain.toml", "hosts[0]"), ("endpoint-responder.toml", "endpoint")] {
        let samples = Samples::new();
        let old = if file == "ain.toml" {
            "[\"10.0.0.1/32\"]"
        } else {
            "addresses = [\"198.51.100.1/32\"]"
        };
        let new = old.replace(']', ", \"fd00::1/128\"]");
        samples.edit(file, "inner_mtu = 1386", "inner_mtu = 1279");
        assert!(samples.check(file).is_ok(), "{:?}", samples.problems(file));
        samples.edit(file, old, &new);
        let problem = samples.problems(file).pop().unwrap();
        let why = "inner_mtu: 1279 is not 1280 to 1386 (the port's MTU less the tunnel's headers; no link of IPv6 carries less than 1280)";
        assert!(problem.ends_with(&format!("{field}.{why}")), "{problem}");
    }
}

#[test]
fn line_1_initiators_may_share_private_addresses_of_either_family() {
    for (address, shared) in [("fd00:7::1/128", true), ("2001:db8::77/128", false)] {
        let samples = Samples::new();
        samples.edit("ain.toml", "10.0.0.1/32", address);
        samples.edit("ain.toml", "role = \"responder\"", "role = \"initiator\"");
        samples.edit("ain.toml", "198.51.100.0/28", address);
        assert_eq!(samples.check("ain.toml").is_ok(), shared, "{address}");
    }
}
