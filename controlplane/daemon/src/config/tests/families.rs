//! IPv4 and IPv6 outside, alone and side by side.

use super::*;

/// A node of the samples' network, all of whose outer addresses are IPv6.
fn over_ipv6() -> Samples {
    let samples = Samples::with_directory(|text| text.replace("203.0.113.", "2001:db8:a1::"));
    samples
        .edit(
            "ain.toml",
            "address = \"203.0.113.1/24\"",
            "address = \"2001:db8:a1::1/64\"",
        )
        .edit("ain.toml", "remote = \"192.0.2.10\"", "remote = \"2001:db8:2::10\"")
        .edit("ain.toml", "remote = \"192.0.2.20\"", "remote = \"2001:db8:2::20\"");
    samples
}

/// A node whose port has an address of each family.
fn over_both() -> Samples {
    let samples = Samples::new();
    samples.edit(
        "ain.toml",
        "\"203.0.113.1/24\"",
        "[\"203.0.113.1/24\", \"2001:db8:a1::1/64\"]",
    );
    samples
}

fn node(samples: &Samples) -> Box<NodeConfig> {
    match samples.check("ain.toml") {
        Ok(AnyConfig::Node(node)) => node,
        other => panic!("{other:?}"),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_network_over_ipv6_passes() {
    let node = node(&over_ipv6());
    let tunnel = &node.neighbours[0].tunnel;
    assert_eq!(
        (tunnel.local, tunnel.remote),
        (ip("2001:db8:a1::1"), ip("2001:db8:a1::2"))
    );
    assert_eq!(node.hosts[0].tunnel.local, ip("2001:db8:a1::1"));
}

#[test]
fn a_port_of_both_families_takes_the_address_beside_the_peers() {
    let samples = over_both();
    samples.edit("ain.toml", "remote = \"192.0.2.10\"", "remote = \"2001:db8:2::10\"");
    let node = node(&samples);
    assert_eq!(node.neighbours[0].tunnel.local, ip("203.0.113.1"));
    assert_eq!(node.hosts[0].tunnel.local, ip("2001:db8:a1::1"));
    assert_eq!(node.hosts[1].tunnel.local, ip("203.0.113.1"));
}

#[test]
fn a_pvt_may_run_over_the_other_family_than_its_signals() {
    let samples = over_both();
    samples.edit("ain.toml", "# remote = \"203.0.113.2\"", "remote = \"2001:db8:a1::2\"");
    let tunnel = &node(&samples).neighbours[0].tunnel;
    assert_eq!(
        (tunnel.local, tunnel.remote),
        (ip("2001:db8:a1::1"), ip("2001:db8:a1::2"))
    );
}

#[test]
fn families_that_do_not_meet_are_told() {
    let file = "ain.toml";
    one_problem(
        file,
        "remote = \"192.0.2.20\"",
        "local = \"203.0.113.1\"\nremote = \"2001:db8::1\"",
        "@: hosts[1].local: not of the family of 2001:db8::1, the other end",
    );
    one_problem(
        file,
        "address = \"203.0.113.1/24\"",
        "address = [\"203.0.113.1/24\", \"203.0.113.9/24\"]",
        "@: ports[0].address: one IPv4 address, one IPv6 address, or one of each",
    );
    one_problem(
        file,
        "address = \"203.0.113.1/24\"",
        "address = 7",
        "@: ports[0].address: expected \"ADDRESS/LENGTH\" or a list of such",
    );
    for special in ["::ffff:192.0.2.10", "fe80::1"] {
        let samples = Samples::new();
        samples.edit(file, "remote = \"192.0.2.10\"", &format!("remote = \"{special}\""));
        let said = format!("hosts[0].remote: {special} means nothing to other hosts");
        assert!(samples.problems(file)[0].ends_with(&said));
    }
    let samples = Samples::new();
    samples.edit("ain.toml", "remote = \"192.0.2.10\"", "remote = \"2001:db8:2::10\"");
    let problems = samples.problems("ain.toml");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("hosts[0].local: no port has an address of the family of 2001:db8:2::10"));
    let samples = Samples::with_directory(|text| text.replace("203.0.113.2", "2001:db8:a1::2"));
    samples.edit("ain.toml", "# remote = \"203.0.113.2\"", "remote = \"203.0.113.2\"");
    let problems = samples.problems("ain.toml");
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].ends_with("signals run between two of one family"),
        "{problems:?}"
    );
}

#[test]
fn an_endpoint_over_ipv6_passes() {
    let file = "endpoint-initiator.toml";
    let samples = Samples::new();
    samples
        .edit(file, "local = \"192.0.2.10\"", "local = \"2001:db8:2::10\"")
        .edit(file, "remote = \"203.0.113.1\"", "remote = \"2001:db8:a1::1\"");
    assert!(
        matches!(samples.check(file), Ok(AnyConfig::Endpoint(_))),
        "{:?}",
        samples.check(file)
    );
    one_problem(
        file,
        "remote = \"203.0.113.1\"",
        "remote = \"2001:db8:a1::1\"",
        "@: endpoint.remote: not of the family of endpoint.local",
    );
}
