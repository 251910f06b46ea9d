//! The sample passes, off and on, and one change at a time makes each check speak.

use ain_dataplane::nat::mappings::Timeouts;
use ain_dataplane::nat::transport::Protocol;

use super::*;
use crate::config::open_exit::differences;

fn complains(from: &str, to: &str, expected: &str) {
    one_problem("ain.toml", from, to, expected);
}

/// The same where the place is the line that begins with `place`.
fn complains_at(place: &str, from: &str, to: &str, expected: &str) {
    let samples = Samples::new();
    let text = fs::read_to_string(samples.path("ain.toml")).unwrap();
    let line = text.lines().position(|line| line.starts_with(place)).unwrap() + 1;
    samples.edit("ain.toml", from, to);
    assert_eq!(samples.problems("ain.toml"), [format!("ain.toml:{line}: {expected}")]);
}

fn enabled(samples: &Samples) -> OpenExit {
    samples.edit("ain.toml", "enabled = false", "enabled = true");
    match samples.check("ain.toml") {
        Ok(AnyConfig::Node(node)) => node.open_exit.expect("enabled"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn line_9_off_unless_enabled() {
    let samples = Samples::new();
    let Ok(AnyConfig::Node(node)) = samples.check("ain.toml") else {
        panic!("{:?}", samples.check("ain.toml"))
    };
    assert!(node.open_exit.is_none());
    let open = enabled(&samples);
    assert_eq!(
        (open.port, open.gateways),
        (0, vec!["203.0.113.254".parse::<IpAddr>().unwrap()])
    );
    assert_eq!(open.settings.pool.addresses().len(), 8);
    assert_eq!(open.settings.timeouts, Timeouts::default());
    assert_eq!(open.settings.limits.mappings_per_worker, 65_536);
}

/// A host on the link that has the pool in its routes would send no ICMP error to it (RFC 4443 section 2.4).
#[test]
fn line_9_no_user_has_the_anycast_address_of_a_pool() {
    for (prefix, first, count) in [
        ("40/125", "41", 7),
        ("40/126", "41", 3),
        ("40/127", "40", 2),
        ("40/128", "40", 1),
    ] {
        let samples = Samples::new();
        let pool = format!("ipv6 = [\"2001:db8:64::{prefix}\"]");
        samples.edit("ain.toml", "# ipv6 = [\"2001:db8:64::40/125\"]", &pool);
        samples.edit("ain.toml", "# ipv6_gateway", "ipv6_gateway");
        samples.edit(
            "ain.toml",
            "# closed_lab = [\"198.18.0.0/15\"]",
            "closed_lab = [\"2001:db8::/32\"]",
        );
        let settings = enabled(&samples).settings;
        let v6: Vec<&IpAddr> = settings.pool.addresses().iter().filter(|one| one.is_ipv6()).collect();
        assert_eq!((v6[0].to_string(), v6.len()), (format!("2001:db8:64::{first}"), count));
        let reaches = |to: &str| settings.policy.reaches(to.parse().unwrap());
        assert!(
            reaches("2001:db8:64::3f") && !reaches("2001:db8:64::40"),
            "the node's own"
        );
    }
}

#[test]
fn line_9_the_rules_of_the_sample_mean_what_they_say() {
    let policy = enabled(&Samples::new()).settings.policy;
    let passes = |to: &str, protocol, port| {
        let to = to.parse().unwrap();
        policy.reaches(to) && policy.passes(to, protocol, port)
    };
    assert!(passes("9.9.9.9", Protocol::Tcp, 443) && passes("2620:fe::fe", Protocol::Udp, 53));
    assert!(passes("9.9.9.9", Protocol::Tcp, 8999) && passes("9.9.9.9", Protocol::Echo, 0));
    assert!(!passes("9.9.9.9", Protocol::Tcp, 25) && !passes("9.9.9.9", Protocol::Udp, 80));
    for own in [
        "203.0.113.1",
        "203.0.113.64",
        "203.0.113.254",
        "192.0.2.10",
        "198.51.100.1",
        "10.0.0.1",
    ] {
        assert!(!passes(own, Protocol::Tcp, 80), "{own}");
    }
}

#[test]
fn line_9_own_addresses_stay_out_of_laboratories_too() {
    let samples = Samples::new();
    samples.edit(
        "ain.toml",
        "# closed_lab = [\"198.18.0.0/15\"]",
        "closed_lab = [\"0.0.0.0/0\"]",
    );
    let policy = enabled(&samples).settings.policy;
    let reaches = |to: &str| policy.reaches(to.parse().unwrap());
    assert!(reaches("10.9.9.9") && reaches("203.0.113.200"));
    for own in [
        "203.0.113.1",
        "203.0.113.2",
        "203.0.113.71",
        "203.0.113.254",
        "192.0.2.20",
        "198.51.100.1",
    ] {
        assert!(!reaches(own), "{own}");
    }
}

#[test]
fn line_9_addresses_are_checked() {
    complains(
        "\"203.0.113.64/29\"",
        "\"203.0.113.65/29\"",
        "@: open_exit.ipv4[0]: 203.0.113.65/29 has bits set behind its prefix",
    );
    complains(
        "\"203.0.113.64/29\"",
        "\"203.0.112.0/23\"",
        "@: open_exit.ipv4[0]: 203.0.112.0/23 has more than 256 addresses",
    );
    complains(
        "\"203.0.113.64/29\"",
        "\"203.0.113.0/30\"",
        "@: open_exit.ipv4[0]: 203.0.113.0/30 overlaps 203.0.113.1/32, a port's own address",
    );
    complains(
        "\"203.0.113.64/29\"",
        "\"198.51.100.8/32\"",
        "@: open_exit.ipv4[0]: 198.51.100.8/32 overlaps 198.51.100.0/28, a host's prefix",
    );
    complains(
        "\"203.0.113.64/29\"",
        "\"203.0.113.64/29\", \"203.0.113.66/32\"",
        "@: open_exit.ipv4[1]: 203.0.113.66/32 is named twice",
    );
}

#[test]
fn line_9_gateways_ports_limits_and_rules_are_checked() {
    complains_at(
        "[open_exit]",
        "# ipv6_gateway = \"2001:db8:64::1\"",
        "ipv6_gateway = \"2001:db8:64::1\"",
        "open_exit.ipv6_gateway: needed with open_exit.ipv6, and only there",
    );
    complains(
        "# port = \"wan\"",
        "port = \"lan\"",
        "@: open_exit.port: no port of this name; needed where there are several",
    );
    complains(
        "ports = [1024, 65535]",
        "ports = [2000, 1999]",
        "@: open_exit.ports: 2000 to 1999 is no range of ports, or has less than one a worker",
    );
    complains(
        "mappings_per_aivt = 64",
        "mappings_per_aivt = 0",
        "@: open_exit.mappings_per_aivt: 0 is not 1 to 4096",
    );
    complains(
        "{ protocol = \"echo\" }",
        "{ protocol = \"echo\", ports = [1] }",
        "@: open_exit.allow[2]: echo has no ports",
    );
    complains_at(
        "refuse = ",
        "ports = [25] }",
        "ports = [[25, 24]] }",
        "open_exit.refuse[0]: no ports, or a range that ends before it begins",
    );
    complains_at(
        "refuse = ",
        "192.88.99.0/24",
        "192.88.99.1/24",
        "open_exit.refuse[1]: the prefix has bits set behind its length",
    );
}

#[test]
fn line_9_what_the_directory_lists_beside_what_the_section_allows() {
    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<_>>();
    let differences = |listed: &[&str], allowed: &[&str]| differences(&nets(listed), &nets(allowed));
    assert!(differences(&[], &[]).is_empty());
    assert!(differences(&["0.0.0.0/0"], &["128.0.0.0/1", "0.0.0.0/1", "10.0.0.0/8"]).is_empty());
    for (listed, allowed, complaints) in [
        (
            &["0.0.0.0/0", "2000::/3"][..],
            &["0.0.0.0/0"][..],
            &["lists 2000::/3 under open_exit"][..],
        ),
        (
            &["9.0.0.0/8"],
            &["9.0.0.0/8", "2000::/3"],
            &["[open_exit] allows 2000::/3"],
        ),
        (&["9.0.0.0/8"], &["9.9.0.0/16"], &["lists 9.0.0.0/8 under"]),
        (
            &["8.0.0.0/8"],
            &["9.0.0.0/8"],
            &["lists 8.0.0.0/8 under", "allows 9.0.0.0/8"],
        ),
        (&["8.0.0.0/8"], &[], &["lists 8.0.0.0/8 under"]),
        (&[], &["0.0.0.0/0"], &["allows 0.0.0.0/0"]),
    ] {
        let found = differences(listed, allowed);
        assert_eq!(found.len(), complaints.len(), "{found:?}");
        assert!(
            found.iter().zip(complaints).all(|(one, part)| one.contains(part)),
            "{found:?}"
        );
    }
}

#[test]
fn line_9_a_section_allows_what_its_addresses_have_the_family_for() {
    let prefixes = enabled(&Samples::new()).prefixes();
    assert_eq!(IpNet::aggregate(&prefixes), ["0.0.0.0/0".parse().unwrap()]);
}
