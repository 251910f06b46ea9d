//! `[open_exit]`: hosts of the Internet that know nothing of IPsec, reached for AIVTs that end here. Off unless enabled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ain_controlplane::directory::Directory;
use ain_dataplane::id::Now;
use ain_dataplane::nat::mappings::Timeouts;
use ain_dataplane::nat::policy::{Policy, Rule};
use ain_dataplane::nat::pool::Pool;
use ain_dataplane::nat::transport::Protocol;
use ain_dataplane::nat::{Limits, Settings};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;
use toml::Spanned;

use super::peers::{Host, Neighbour};
use super::port::Port;
use super::report::Checker;

/// Addresses of one family in a pool at most.
const ADDRESSES_MAX: usize = 256;
/// Rules at most, one a port or range.
const RULES_MAX: usize = 256;
/// Mappings of one AIVT at most.
const MAPPINGS_PER_AIVT_MAX: u32 = 4096;
/// Mappings of a node at most.
const MAPPINGS_MAX: u32 = 1 << 22;

/// `[open_exit]` as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOpenExit {
    enabled: bool,
    #[serde(default)]
    ipv4: Vec<Spanned<Ipv4Net>>,
    #[serde(default)]
    ipv6: Vec<Spanned<Ipv6Net>>,
    ipv4_gateway: Option<Spanned<Ipv4Addr>>,
    ipv6_gateway: Option<Spanned<Ipv6Addr>>,
    port: Option<Spanned<String>>,
    #[serde(default = "default_ports")]
    ports: Spanned<[u16; 2]>,
    allow: Spanned<Vec<Spanned<RawRule>>>,
    #[serde(default)]
    refuse: Vec<Spanned<RawRule>>,
    #[serde(default)]
    closed_lab: Vec<IpNet>,
    #[serde(default = "default_mappings")]
    mappings: Spanned<u32>,
    #[serde(default = "default_mappings_per_aivt")]
    mappings_per_aivt: Spanned<u32>,
    #[serde(default = "default_held_ports")]
    held_ports: Spanned<u32>,
    #[serde(default = "default_new_mappings_per_s")]
    new_mappings_per_s: u32,
    #[serde(default = "default_packets_per_s")]
    packets_per_s: u32,
    #[serde(default)]
    timeouts: RawTimeouts,
}

fn default_ports() -> Spanned<[u16; 2]> {
    Spanned::new(0..0, [1024, 65535])
}

fn default_mappings() -> Spanned<u32> {
    Spanned::new(0..0, 65_536)
}

fn default_mappings_per_aivt() -> Spanned<u32> {
    Spanned::new(0..0, 64)
}

fn default_held_ports() -> Spanned<u32> {
    Spanned::new(0..0, 65_536)
}

fn default_new_mappings_per_s() -> u32 {
    32
}

fn default_packets_per_s() -> u32 {
    50_000
}

/// A rule: what it leaves out is everything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    prefix: Option<IpNet>,
    protocol: Option<RawProtocol>,
    ports: Option<Vec<RawPorts>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawProtocol {
    Tcp,
    Udp,
    Echo,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected a port or [first, last]")]
enum RawPorts {
    One(u16),
    Range([u16; 2]),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTimeouts {
    udp_s: u32,
    echo_s: u32,
    tcp_established_s: u32,
    tcp_transitory_s: u32,
    port_held_s: u32,
}

impl Default for RawTimeouts {
    fn default() -> Self {
        let Timeouts {
            udp,
            echo,
            tcp_established,
            tcp_transitory,
            port_held,
        } = Timeouts::default();
        let [udp_s, echo_s, tcp_established_s, tcp_transitory_s, port_held_s] =
            [udp, echo, tcp_established, tcp_transitory, port_held].map(|ns| (ns / Now::SECOND) as u32);
        Self {
            udp_s,
            echo_s,
            tcp_established_s,
            tcp_transitory_s,
            port_held_s,
        }
    }
}

/// An open exit, checked.
#[derive(Debug, Clone)]
pub struct OpenExit {
    /// Place in [`super::NodeConfig::ports`] of the port towards the Internet.
    pub port: usize,
    /// The next router, by family.
    pub gateways: Vec<IpAddr>,
    /// What the workers are told.
    pub settings: Settings,
}

impl OpenExit {
    /// What some datagram may be sent to, as far as the section says.
    pub fn prefixes(&self) -> Vec<IpNet> {
        let has_family = |net: &IpNet| {
            self.gateways
                .iter()
                .any(|gateway| gateway.is_ipv4() == net.addr().is_ipv4())
        };
        let allowed = self.settings.policy.allow.iter().map(|rule| rule.prefix);
        allowed.filter(has_family).collect()
    }
}

/// What the directory lists of a node that its own file does not allow, and the other way round, in words for its operator.
pub fn differences(listed: &[IpNet], allowed: &[IpNet]) -> Vec<String> {
    let list = |nets: &[IpNet]| nets.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ");
    let beyond = |nets: &[IpNet], bounds: &[IpNet]| {
        let mut nets = IpNet::aggregate(&nets.to_vec());
        let bounds = IpNet::aggregate(&bounds.to_vec());
        nets.retain(|net| !bounds.iter().any(|bound| bound.contains(net)));
        (!nets.is_empty()).then(|| list(&nets))
    };
    let more = beyond(listed, allowed).map(|nets| {
        format!(
            "this node's entry in the directory lists {nets} under open_exit, and [open_exit] of its configuration does not allow all \
             of that: who sends there through it is refused"
        )
    });
    let less = beyond(allowed, listed).map(|nets| {
        format!(
            "[open_exit] allows {nets}, and open_exit of this node's entry in the directory does not list all of that: what is not \
             listed nobody sends through it"
        )
    });
    more.into_iter().chain(less).collect()
}

/// What the checks look at besides the section.
pub(super) struct Surroundings<'a> {
    pub ports: &'a [Port],
    pub neighbours: &'a [Neighbour],
    pub hosts: &'a [Host],
    pub directory: Option<&'a Directory>,
    pub workers: usize,
}

pub(super) fn check_open_exit(
    checker: &mut Checker,
    raw: Spanned<RawOpenExit>,
    around: &Surroundings<'_>,
) -> Option<OpenExit> {
    let whole = raw.span();
    let raw = raw.into_inner();
    let nets = check_addresses(checker, &raw, around);
    let v4_gateway = raw.ipv4_gateway.as_ref().map(|one| IpAddr::V4(*one.get_ref()));
    let v6_gateway = raw.ipv6_gateway.as_ref().map(|one| IpAddr::V6(*one.get_ref()));
    for (family, has_addresses, gateway) in [
        ("ipv4", !raw.ipv4.is_empty(), v4_gateway),
        ("ipv6", !raw.ipv6.is_empty(), v6_gateway),
    ] {
        if has_addresses != gateway.is_some() {
            let field = format!("open_exit.{family}_gateway");
            checker.at(
                whole.clone(),
                field,
                format_args!("needed with open_exit.{family}, and only there"),
            );
        }
    }
    if raw.ipv4.is_empty() && raw.ipv6.is_empty() {
        checker.at(
            whole.clone(),
            "open_exit",
            "neither ipv4 nor ipv6 has an address to show",
        );
    }
    let gateways: Vec<IpAddr> = v4_gateway.into_iter().chain(v6_gateway).collect();
    let ports = check_ports(checker, &raw.ports, around.workers);
    let policy = check_policy(checker, &raw, own_prefixes(nets.clone(), &gateways, around));
    let limits = check_limits(checker, &raw, around.workers);
    let port = check_port(checker, &raw, around.ports, whole)?;
    let seconds = |seconds: u32| u64::from(seconds) * Now::SECOND;
    let settings = Settings {
        pool: Pool::new(
            nets.into_iter().flat_map(shown),
            &ports,
            u8::try_from(around.workers).unwrap_or(u8::MAX),
        ),
        policy,
        limits,
        timeouts: Timeouts {
            udp: seconds(raw.timeouts.udp_s),
            echo: seconds(raw.timeouts.echo_s),
            tcp_established: seconds(raw.timeouts.tcp_established_s),
            tcp_transitory: seconds(raw.timeouts.tcp_transitory_s),
            port_held: seconds(raw.timeouts.port_held_s),
        },
    };
    raw.enabled.then_some(OpenExit {
        port,
        gateways,
        settings,
    })
}

/// Addresses that nobody else has: the kernel would answer for its own what it knows nothing of.
fn check_addresses(checker: &mut Checker, raw: &RawOpenExit, around: &Surroundings<'_>) -> Vec<IpNet> {
    let v4 = raw
        .ipv4
        .iter()
        .enumerate()
        .map(|(at, net)| ("ipv4", at, net.span(), IpNet::V4(*net.get_ref())));
    let v6 = raw
        .ipv6
        .iter()
        .enumerate()
        .map(|(at, net)| ("ipv6", at, net.span(), IpNet::V6(*net.get_ref())));
    let taken = taken(around);
    let mut seen: Vec<IpNet> = Vec::new();
    for (family, at, span, net) in v4.chain(v6) {
        let field = format!("open_exit.{family}[{at}]");
        let bits = u32::from(net.max_prefix_len() - net.prefix_len());
        if net.trunc() != net {
            checker.at(
                span.clone(),
                field.as_str(),
                format_args!("{net} has bits set behind its prefix"),
            );
        } else if bits > ADDRESSES_MAX.ilog2() {
            checker.at(
                span.clone(),
                field.as_str(),
                format_args!("{net} has more than {ADDRESSES_MAX} addresses"),
            );
            continue;
        }
        if let Some((other, whose)) = taken.iter().find(|(other, _)| super::overlap(other, &net)) {
            checker.at(
                span.clone(),
                field.as_str(),
                format_args!("{net} overlaps {other}, {whose}"),
            );
        }
        if seen.iter().any(|other| super::overlap(other, &net)) {
            checker.at(span, field.as_str(), format_args!("{net} is named twice"));
        }
        seen.push(net);
    }
    let shown: Vec<IpAddr> = seen.iter().copied().flat_map(shown).collect();
    let of = |v4: bool| shown.iter().filter(|one| one.is_ipv4() == v4).count();
    if of(true).max(of(false)) > ADDRESSES_MAX {
        checker.whole(format_args!(
            "open_exit: more than {ADDRESSES_MAX} addresses of one family"
        ));
    }
    seen
}

/// The addresses of a prefix that users may have: every one of IPv4, for the pool is no network of hosts. Not the first of IPv6, the
/// Subnet-Router anycast address (RFC 4291 section 2.6.1; links of two, RFC 6164, have none): a host on the pool's link that has the
/// prefix in its routes sends no ICMP error there (RFC 4443 section 2.4 (e)), so that a closed port would look like a lost packet.
fn shown(net: IpNet) -> Vec<IpAddr> {
    let bits = net.max_prefix_len() - net.prefix_len();
    let first = u32::from(matches!(net, IpNet::V6(_)) && bits > 1);
    let offsets = first..1u32 << bits;
    match net {
        IpNet::V4(net) => offsets
            .map(|n| IpAddr::V4((u32::from(net.network()) + n).into()))
            .collect(),
        IpNet::V6(net) => offsets
            .map(|n| IpAddr::V6((u128::from(net.network()) + u128::from(n)).into()))
            .collect(),
    }
}

/// Addresses that are somebody's already.
fn taken(around: &Surroundings<'_>) -> Vec<(IpNet, &'static str)> {
    let ports = around.ports.iter().flat_map(|port| &port.addresses);
    let ports = ports.map(|net| (net.addr(), "a port's own address"));
    let neighbours = around
        .neighbours
        .iter()
        .map(|one| (one.tunnel.remote, "a neighbour's address"));
    let hosts = around
        .hosts
        .iter()
        .map(|one| (one.tunnel.remote, "a host's outer address"));
    let nodes = around.directory.into_iter().flat_map(Directory::entries);
    let nodes = nodes.map(|node| (node.address, "an AIN's address"));
    let single = ports.chain(neighbours).chain(hosts).chain(nodes);
    let inner = around.hosts.iter().flat_map(|host| &host.addresses);
    single
        .map(|(address, whose)| (IpNet::from(address), whose))
        .chain(inner.map(|net| (*net, "a host's prefix")))
        .collect()
}

/// What is never reached: what [`taken`] has, the pool itself and the routers.
fn own_prefixes(pool: Vec<IpNet>, gateways: &[IpAddr], around: &Surroundings<'_>) -> Vec<IpNet> {
    let mut all = pool;
    all.extend(gateways.iter().map(|address| IpNet::from(*address)));
    all.extend(taken(around).into_iter().map(|(net, _)| net));
    IpNet::aggregate(&all)
}

fn check_ports(checker: &mut Checker, raw: &Spanned<[u16; 2]>, workers: usize) -> RangeInclusive<u16> {
    let [first, last] = *raw.get_ref();
    if first == 0 || first > last || usize::from(last - first) + 1 < workers {
        checker.at(
            raw.span(),
            "open_exit.ports",
            format_args!("{first} to {last} is no range of ports, or has less than one a worker"),
        );
        return 1024..=65535;
    }
    first..=last
}

fn check_limits(checker: &mut Checker, raw: &RawOpenExit, workers: usize) -> Limits {
    let mut within = |field: &str, value: &Spanned<u32>, least: u32, most: u32| {
        if !(least..=most).contains(value.get_ref()) {
            checker.at(
                value.span(),
                format!("open_exit.{field}"),
                format_args!("{} is not {least} to {most}", value.get_ref()),
            );
        }
        *value.get_ref()
    };
    let workers = u32::try_from(workers.max(1)).unwrap_or(1);
    Limits {
        mappings_per_aivt: within("mappings_per_aivt", &raw.mappings_per_aivt, 1, MAPPINGS_PER_AIVT_MAX),
        new_mappings_per_s: raw.new_mappings_per_s,
        packets_per_s: raw.packets_per_s,
        mappings_per_worker: within("mappings", &raw.mappings, 1, MAPPINGS_MAX).div_ceil(workers),
        held_ports_per_worker: within("held_ports", &raw.held_ports, 0, MAPPINGS_MAX).div_ceil(workers),
    }
}

fn check_policy(checker: &mut Checker, raw: &RawOpenExit, own: Vec<IpNet>) -> Policy {
    if raw.allow.get_ref().is_empty() {
        checker.at(
            raw.allow.span(),
            "open_exit.allow",
            "empty: an open exit that reaches nothing",
        );
    }
    let policy = Policy {
        allow: check_rules(checker, "allow", raw.allow.get_ref()),
        refuse: check_rules(checker, "refuse", &raw.refuse),
        own,
        closed_lab: raw.closed_lab.clone(),
    };
    if policy.allow.len() + policy.refuse.len() > RULES_MAX {
        checker.whole(format_args!(
            "open_exit: more than {RULES_MAX} rules, each range of ports counted"
        ));
    }
    policy
}

fn check_rules(checker: &mut Checker, list: &str, raw: &[Spanned<RawRule>]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (at, spanned) in raw.iter().enumerate() {
        let rule = spanned.get_ref();
        let mut complain = |message: &str| checker.at(spanned.span(), format!("open_exit.{list}[{at}]"), message);
        if rule.ports.is_some() && rule.protocol == Some(RawProtocol::Echo) {
            complain("echo has no ports");
        }
        if rule.prefix.is_some_and(|net| net.trunc() != net) {
            complain("the prefix has bits set behind its length");
        }
        let ranges: Vec<Option<RangeInclusive<u16>>> = match &rule.ports {
            None => vec![None],
            Some(ports) => ports.iter().map(|one| Some(range(*one))).collect(),
        };
        if ranges.is_empty() || ranges.iter().flatten().any(RangeInclusive::is_empty) {
            complain("no ports, or a range that ends before it begins");
        }
        for prefix in prefixes(rule.prefix) {
            rules.extend(ranges.iter().map(|ports| Rule {
                prefix,
                protocol: rule.protocol.map(protocol),
                ports: ports.clone(),
            }));
        }
    }
    rules
}

const fn range(ports: RawPorts) -> RangeInclusive<u16> {
    match ports {
        RawPorts::One(port) => port..=port,
        RawPorts::Range([first, last]) => first..=last,
    }
}

const fn protocol(raw: RawProtocol) -> Protocol {
    match raw {
        RawProtocol::Tcp => Protocol::Tcp,
        RawProtocol::Udp => Protocol::Udp,
        RawProtocol::Echo => Protocol::Echo,
    }
}

/// The prefix named, or everything of both families.
fn prefixes(named: Option<IpNet>) -> Vec<IpNet> {
    named.map_or_else(
        || vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())],
        |prefix| vec![prefix],
    )
}

/// The port towards the Internet: the one named, or the only one there is.
fn check_port(
    checker: &mut Checker,
    raw: &RawOpenExit,
    ports: &[Port],
    whole: std::ops::Range<usize>,
) -> Option<usize> {
    let (span, found) = match &raw.port {
        Some(name) => (name.span(), ports.iter().position(|port| port.name == *name.get_ref())),
        None => (whole, (ports.len() == 1).then_some(0)),
    };
    if found.is_none() && !ports.is_empty() {
        checker.at(
            span,
            "open_exit.port",
            "no port of this name; needed where there are several",
        );
    }
    found
}
