//! What an open exit reaches for its users, and what it never does.
//!
//! A datagram passes if its destination may be reached at all, some `allow` rule fits it and no `refuse` rule does. Whatever rules
//! say, the node never reaches what is its own or its network's, nor addresses that are not globally reachable (RFC 6890 and IANA's
//! registries that followed): behind those lies somebody's inside, often the operator's. Closed laboratories, which have no other
//! addresses, name theirs in so many words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::transport::Protocol;

/// Datagrams that a rule fits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// To these destinations.
    pub prefix: IpNet,
    /// Of this protocol; `None` is every one that an open exit carries.
    pub protocol: Option<Protocol>,
    /// To these ports; `None` is every one. A rule with ports is about TCP and UDP alone.
    pub ports: Option<RangeInclusive<u16>>,
}

impl Rule {
    fn fits(&self, destination: IpAddr, protocol: Protocol, port: u16) -> bool {
        self.prefix.contains(&destination)
            && self.protocol.is_none_or(|only| only == protocol)
            && self
                .ports
                .as_ref()
                .is_none_or(|ports| protocol != Protocol::Echo && ports.contains(&port))
    }
}

/// An open exit's policy.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Policy {
    /// What may pass.
    pub allow: Vec<Rule>,
    /// What may not, though allowed.
    pub refuse: Vec<Rule>,
    /// Addresses of this node, of its hosts and of its network: never reached.
    pub own: Vec<IpNet>,
    /// Prefixes that are not globally reachable and reached all the same: for closed laboratories.
    pub closed_lab: Vec<IpNet>,
}

impl Policy {
    /// Whether any datagram to `destination` may pass.
    pub fn reaches(&self, destination: IpAddr) -> bool {
        let within = |prefixes: &[IpNet]| prefixes.iter().any(|prefix| prefix.contains(&destination));
        !within(&self.own)
            && (is_global(destination) || within(&self.closed_lab))
            && self.allow.iter().any(|rule| rule.prefix.contains(&destination))
    }

    /// Whether a datagram to `destination`, which [`Self::reaches`] has been asked about, passes. `port` is the destination's.
    pub fn passes(&self, destination: IpAddr, protocol: Protocol, port: u16) -> bool {
        let fits = |rules: &[Rule]| rules.iter().any(|rule| rule.fits(destination, protocol, port));
        fits(&self.allow) && !fits(&self.refuse)
    }
}

/// Whether an address is one host's, anywhere in the Internet.
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !NOT_GLOBAL_V4
            .iter()
            .any(|(net, length)| Ipv4Net::new_assert(*net, *length).contains(&v4)),
        IpAddr::V6(v6) => {
            Ipv6Net::new_assert(GLOBAL_UNICAST, 3).contains(&v6)
                && !NOT_GLOBAL_V6
                    .iter()
                    .any(|(net, length)| Ipv6Net::new_assert(*net, *length).contains(&v6))
        }
    }
}

/// IANA IPv4 special-purpose address registry, entries that are not globally reachable; deprecated 6to4 relays; multicast; class E.
const NOT_GLOBAL_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// RFC 4291 section 2.4 leaves global unicast this prefix so far (2000::/3).
const GLOBAL_UNICAST: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0);

/// What is special within it: IETF protocol assignments with Teredo and ORCHID, documentation, 6to4 (which embeds any IPv4 address).
const NOT_GLOBAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn rule(prefix: &str, protocol: Option<Protocol>, ports: impl Into<Option<RangeInclusive<u16>>>) -> Rule {
        Rule {
            prefix: net(prefix),
            protocol,
            ports: ports.into(),
        }
    }

    #[test]
    fn line_9_only_global_addresses_are_reached() {
        let open = Policy {
            allow: vec![rule("0.0.0.0/0", None, None), rule("::/0", None, None)],
            ..Policy::default()
        };
        for there in [
            "9.9.9.9",
            "192.1.2.3",
            "172.32.0.1",
            "2620:fe::fe",
            "2001:4860::1",
            "2a00::1",
        ] {
            assert!(open.reaches(ip(there)), "{there}");
        }
        for special in [
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "100::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!open.reaches(ip(special)), "{special}");
        }
    }

    #[test]
    fn line_9_laboratories_name_their_prefixes_and_own_addresses_stay_out() {
        let policy = Policy {
            allow: vec![rule("0.0.0.0/0", None, None)],
            refuse: Vec::new(),
            own: vec![net("192.0.2.1/32"), net("9.9.9.0/24")],
            closed_lab: vec![net("192.0.2.0/24")],
        };
        assert!(policy.reaches(ip("192.0.2.2")));
        for own in ["192.0.2.1", "9.9.9.9", "198.51.100.1", "2620:fe::fe"] {
            assert!(!policy.reaches(ip(own)), "{own}");
        }
    }

    #[test]
    fn line_9_refusals_win_and_echo_has_no_port() {
        let policy = Policy {
            allow: vec![
                rule("0.0.0.0/0", Some(Protocol::Tcp), 1..=1024),
                rule("9.0.0.0/8", Some(Protocol::Echo), None),
            ],
            refuse: vec![rule("0.0.0.0/0", None, 25..=25), rule("9.9.0.0/16", None, None)],
            ..Policy::default()
        };
        let passes = |to: &str, protocol, port| policy.passes(ip(to), protocol, port);
        assert!(passes("8.8.8.8", Protocol::Tcp, 80));
        assert!(!passes("8.8.8.8", Protocol::Tcp, 25));
        assert!(!passes("8.8.8.8", Protocol::Tcp, 1025));
        assert!(!passes("8.8.8.8", Protocol::Udp, 80));
        assert!(passes("9.8.8.8", Protocol::Echo, 0));
        assert!(!passes("8.8.8.8", Protocol::Echo, 0));
        assert!(!passes("9.9.8.8", Protocol::Tcp, 80));
        assert!(!policy.reaches(ip("2620:fe::fe")));
    }
}
