//! Neighbours and hosts: who is at the other end of a tunnel, and that no two clash.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use ain_controlplane::directory::{Directory, Entry};
use ain_dataplane::wire::ipv6;
use ipnet::IpNet;
use toml::Spanned;

use super::ike::{Ike, IkePeers, RawIkePeer};
use super::limits::{HostLimits, NeighbourLimits, check_host_limits, check_neighbour_limits};
use super::port::Port;
use super::raw::{AnonymityOption, RawHost, RawNeighbour, RawSa, Role};
use super::report::Checker;
use super::shape::{host_shape, pvt_shape};
use super::tunnel::{Keys, RawHandMade, RawTunnelParts, Register, Tunnel, check_hand_made};
use super::{check_address, check_name, check_prefix, overlap};

/// Smallest inner MTU of a tunnel without IPv6 addresses: what every IPv4 host takes in (RFC 791 section 3.1).
const INNER_MTU_MIN_V4: u16 = 576;
/// Outer bytes around an inner datagram at most: IPv6, AH of 40, ESP header, IV, trailer with pad, tag.
const TUNNEL_OVERHEAD: u16 = 114;

/// A neighbouring AIN.
#[derive(Debug)]
pub struct Neighbour {
    /// Its name in the directory.
    pub node: String,
    /// Place in [`super::NodeConfig::ports`] of the port it is reached over.
    pub port: usize,
    /// The PVT. ESN always (protocol section 2).
    pub tunnel: Tunnel,
    /// What it may have of this node.
    pub limits: NeighbourLimits,
}

/// A host behind an ESP+AH tunnel.
#[derive(Debug)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// What it does in flows.
    pub role: Role,
    /// How its source is treated when it initiates.
    pub option: AnonymityOption,
    /// Inner prefixes: served for a responder, registered for an initiator.
    pub addresses: Vec<IpNet>,
    /// Inner MTU, bytes.
    pub inner_mtu: u16,
    /// Place in [`super::NodeConfig::ports`] of the port it is reached over.
    pub port: usize,
    /// The host tunnel.
    pub tunnel: Tunnel,
    /// What it may have of this node as an initiator.
    pub limits: HostLimits,
}

/// `ike`, `ah_in`, `ah_out`, `esp_in` and `esp_out` of a tunnel.
type RawKeys = (Option<Spanned<RawIkePeer>>, [Option<Spanned<RawSa>>; 4]);

/// What the checks of neighbours and hosts look at.
pub(super) struct Peers<'a> {
    own: Option<&'a Entry>,
    directory: Option<&'a Directory>,
    ports: &'a [Port],
    register: Register,
    ike: IkePeers,
    /// Outer address -> field that has it.
    remotes: HashMap<IpAddr, String>,
}

impl<'a> Peers<'a> {
    pub(super) fn new(own: &str, directory: Option<&'a Directory>, ports: &'a [Port]) -> Self {
        Self {
            own: directory.and_then(|directory| directory.named(own)),
            directory,
            ports,
            register: Register::default(),
            ike: IkePeers::default(),
            remotes: HashMap::new(),
        }
    }

    /// Whether a key stands in the file itself.
    pub(super) fn has_inline_keys(&self) -> bool {
        self.register.inline_keys
    }

    /// Who wants certificates in IKE has them.
    pub(super) fn check_credentials(&self, checker: &mut Checker, ike: &Ike) {
        self.ike.check_credentials(checker, ike);
    }

    /// Keys by hand or by IKE, not both. `inside`: name and prefixes of the other end.
    fn check_keys(
        &mut self,
        checker: &mut Checker,
        (path, whole): (&str, Range<usize>),
        parts: &RawTunnelParts,
        raw: RawKeys,
        (name, addresses): (&str, &[Spanned<IpNet>]),
    ) -> Option<Keys> {
        match raw {
            (None, [Some(ah_in), Some(ah_out), Some(esp_in), Some(esp_out)]) => {
                let sas = RawHandMade {
                    ah_in,
                    ah_out,
                    esp_in,
                    esp_out,
                };
                let sas = check_hand_made(checker, &mut self.register, path, parts, sas)?;
                Some(Keys::ByHand(Box::new(sas)))
            }
            (Some(ike), [None, None, None, None]) => {
                let inside = (name, parts.ah.algorithm(), addresses);
                self.ike.check(checker, path, ike, inside).map(Keys::ByIke)
            }
            (Some(ike), _) => {
                let problem = "the keys of a tunnel are made by IKE or by hand, not both";
                checker.at(ike.span(), format!("{path}ike"), problem);
                None
            }
            (None, _) => {
                let problem = "needs the four SAs `ah_in`, `ah_out`, `esp_in` and `esp_out`, or `ike`";
                checker.at(whole, path.trim_end_matches('.'), problem);
                None
            }
        }
    }

    /// A peer is found by its outer address, so that no two share one (AH does not cross NAT).
    fn claim_remote(&mut self, checker: &mut Checker, remote: &Spanned<IpAddr>, field: String) {
        let ip = *remote.get_ref();
        if let Some(port) = self.ports.iter().position(|port| port.has(ip)) {
            checker.at(
                remote.span(),
                field,
                format_args!("{ip} is this node's own address, of ports[{port}]"),
            );
            return;
        }
        if let Some(other) = self.remotes.get(&ip) {
            checker.at(remote.span(), field, format_args!("{ip} is the address of {other} too"));
            return;
        }
        self.remotes.insert(ip, field);
    }

    /// The local outer address towards `remote` and its port: the one named, or the only one of that family.
    fn port(
        &self,
        checker: &mut Checker,
        local: Option<&Spanned<IpAddr>>,
        remote: IpAddr,
        whole: Range<usize>,
        field: &str,
    ) -> Option<(usize, IpAddr)> {
        let mut able = (0..)
            .zip(self.ports)
            .filter_map(|(at, port)| Some((at, port.address_beside(remote)?)));
        let (span, found, message) = match local.map(|local| (local.span(), *local.get_ref())) {
            Some((span, local)) if local.is_ipv4() != remote.is_ipv4() => {
                (span, None, format!("not of the family of {remote}, the other end"))
            }
            Some((span, local)) => (
                span,
                able.find(|(_, address)| *address == local),
                "no port has this address".to_owned(),
            ),
            None => match (able.next(), able.next()) {
                (Some(only), None) => (whole, Some(only), String::new()),
                (Some(_), Some(_)) => (whole, None, "needed where there are several ports".to_owned()),
                (None, _) => (whole, None, format!("no port has an address of the family of {remote}")),
            },
        };
        if found.is_none() && !self.ports.is_empty() {
            checker.at(span, field, message);
        }
        found
    }
}

/// Every PVT of the directory's entry is configured once, and no other.
pub(super) fn check_neighbours(
    checker: &mut Checker,
    peers: &mut Peers<'_>,
    raw: Vec<Spanned<RawNeighbour>>,
) -> Option<Vec<Neighbour>> {
    let names: Vec<(Range<usize>, String)> = raw
        .iter()
        .map(|one| (one.get_ref().node.span(), one.get_ref().node.get_ref().clone()))
        .collect();
    for (at, (span, name)) in names.iter().enumerate() {
        if names[..at].iter().any(|(_, earlier)| earlier == name) {
            checker.at(
                span.clone(),
                format!("neighbours[{at}].node"),
                format_args!("`{name}` is configured twice"),
            );
        }
    }
    if let (Some(own), Some(directory)) = (peers.own, peers.directory) {
        for listed in own.neighbours.iter().filter_map(|id| directory.entry(id)) {
            if !names.iter().any(|(_, name)| *name == listed.name) {
                checker.whole(format_args!(
                    "the directory names `{}` as a neighbour, but no [[neighbours]] has its tunnel",
                    listed.name
                ));
            }
        }
    }
    let checked: Vec<Option<Neighbour>> = raw
        .into_iter()
        .enumerate()
        .map(|(at, one)| check_neighbour(checker, peers, at, one))
        .collect();
    checked.into_iter().collect()
}

fn check_neighbour(
    checker: &mut Checker,
    peers: &mut Peers<'_>,
    at: usize,
    raw: Spanned<RawNeighbour>,
) -> Option<Neighbour> {
    let whole = raw.span();
    let raw = raw.into_inner();
    let path = format!("neighbours[{at}]");
    let name = raw.node.get_ref();
    let entry = peers.directory.and_then(|directory| directory.named(name));
    let listed = |own: &Entry| entry.is_some_and(|entry| own.neighbours.contains(&entry.id()));
    if peers.own.is_some_and(|own| !listed(own)) {
        checker.at(
            raw.node.span(),
            format!("{path}.node"),
            format_args!("the directory does not name `{name}` as a neighbour of this node"),
        );
    }
    if let Some(remote) = &raw.remote {
        check_address(checker, remote, &format!("{path}.remote"));
    }
    let remote_span = raw.remote.as_ref().map_or(raw.node.span(), Spanned::span);
    let remote = raw
        .remote
        .map(Spanned::into_inner)
        .or(entry.map(|entry| entry.address))?;
    let (port, local) = peers.port(
        checker,
        raw.local.as_ref(),
        remote,
        whole.clone(),
        &format!("{path}.local"),
    )?;
    peers.claim_remote(checker, &Spanned::new(remote_span, remote), format!("{path}.remote"));
    let parts = RawTunnelParts {
        local,
        remote,
        esn: true,
        ah: raw.ah,
        esp: raw.esp,
    };
    let keys = (raw.ike, [raw.ah_in, raw.ah_out, raw.esp_in, raw.esp_out]);
    let inside = (raw.node.get_ref().as_str(), &[][..]);
    let keys = peers.check_keys(checker, (&format!("{path}."), whole), &parts, keys, inside)?;
    let mut tunnel = parts.with(keys);
    tunnel.shape = pvt_shape(checker, &format!("{path}."), raw.rate.as_ref());
    Some(Neighbour {
        node: raw.node.into_inner(),
        port,
        tunnel,
        limits: check_neighbour_limits(checker, &path, &raw.limits),
    })
}

/// Every host tunnel, and that they do not clash.
pub(super) fn check_hosts(
    checker: &mut Checker,
    peers: &mut Peers<'_>,
    raw: Vec<Spanned<RawHost>>,
) -> Option<Vec<Host>> {
    check_host_prefixes(checker, &raw);
    let checked: Vec<Option<Host>> = raw
        .into_iter()
        .enumerate()
        .map(|(at, host)| check_host(checker, peers, at, host))
        .collect();
    checked.into_iter().collect()
}

fn check_host(checker: &mut Checker, peers: &mut Peers<'_>, at: usize, raw: Spanned<RawHost>) -> Option<Host> {
    let whole = raw.span();
    let raw = raw.into_inner();
    let path = format!("hosts[{at}]");
    check_name(checker, &raw.name, &format!("{path}.name"));
    check_address(checker, &raw.remote, &format!("{path}.remote"));
    peers.claim_remote(checker, &raw.remote, format!("{path}.remote"));
    check_host_role(checker, peers.own, &path, &raw, whole.clone());
    let remote = *raw.remote.get_ref();
    let place = peers.port(
        checker,
        raw.local.as_ref(),
        remote,
        whole.clone(),
        &format!("{path}.local"),
    );
    if let Some((port, _)) = place {
        check_inner_mtu(
            checker,
            (&raw.inner_mtu, &format!("{path}.inner_mtu")),
            peers.ports[port].mtu,
            &raw.addresses,
        );
    }
    let (port, local) = place?;
    let parts = RawTunnelParts {
        local,
        remote,
        esn: raw.esn,
        ah: raw.ah,
        esp: raw.esp,
    };
    let keys = (raw.ike, [raw.ah_in, raw.ah_out, raw.esp_in, raw.esp_out]);
    let inside = (raw.name.get_ref().as_str(), &raw.addresses[..]);
    let keys = peers.check_keys(checker, (&format!("{path}."), whole), &parts, keys, inside)?;
    let mut tunnel = parts.with(keys);
    let padding = (raw.padding, *raw.inner_mtu.get_ref());
    tunnel.shape = host_shape(checker, &format!("{path}."), padding, raw.rate.as_ref());
    Some(Host {
        name: raw.name.into_inner(),
        role: raw.role,
        option: raw.option.map_or(AnonymityOption::RandomPrivate, Spanned::into_inner),
        addresses: raw.addresses.into_iter().map(Spanned::into_inner).collect(),
        inner_mtu: raw.inner_mtu.into_inner(),
        port,
        tunnel,
        limits: check_host_limits(checker, &path, raw.role, &raw.limits),
    })
}

/// The inner MTU fits both ways, and IPv6 if the tunnel has such addresses.
pub(super) fn check_inner_mtu(
    checker: &mut Checker,
    (inner_mtu, field): (&Spanned<u16>, &str),
    mtu: u16,
    addresses: &[Spanned<IpNet>],
) {
    let v6 = addresses.iter().any(|net| net.get_ref().addr().is_ipv6());
    let (least, why) = if v6 {
        (ipv6::MIN_MTU, "; no link of IPv6 carries less than 1280")
    } else {
        (INNER_MTU_MIN_V4, "")
    };
    let most = mtu.saturating_sub(TUNNEL_OVERHEAD);
    let given = *inner_mtu.get_ref();
    if !(least..=most).contains(&given) {
        checker.at(
            inner_mtu.span(),
            field,
            format_args!("{given} is not {least} to {most} (the port's MTU less the tunnel's headers{why})"),
        );
    }
}

/// The option is an initiator's, the prefixes of a responder are ones this node is listed as exit of.
fn check_host_role(checker: &mut Checker, own: Option<&Entry>, path: &str, raw: &RawHost, whole: Range<usize>) {
    if let Some(option) = raw.option.as_ref().filter(|_| !raw.role.initiates()) {
        checker.at(
            option.span(),
            format!("{path}.option"),
            "only an initiator has an option",
        );
    }
    if raw.role.responds() && raw.addresses.is_empty() {
        checker.at(
            whole,
            format!("{path}.addresses"),
            "a responder needs the prefixes it is reached at",
        );
    }
    for (place, prefix) in raw.addresses.iter().enumerate() {
        let field = format!("{path}.addresses[{place}]");
        check_prefix(checker, prefix, &field);
        let net = prefix.get_ref();
        let served = |own: &Entry| own.exit_prefixes.iter().any(|exit| exit.contains(net));
        if raw.role.responds() && own.is_some_and(|own| !served(own)) {
            checker.at(
                prefix.span(),
                field,
                format_args!("{net} is in none of the exit_prefixes that the directory lists for this node"),
            );
        }
    }
}

/// An address belongs to one host; only initiators may share private ones, which they are never reached at by.
fn check_host_prefixes(checker: &mut Checker, raw: &[Spanned<RawHost>]) {
    let mut seen: Vec<(usize, String, Role, IpNet)> = Vec::new();
    for (at, host) in raw.iter().enumerate() {
        let host = host.get_ref();
        if let Some(other) = raw[..at]
            .iter()
            .position(|other| other.get_ref().name.get_ref() == host.name.get_ref())
        {
            checker.at(
                host.name.span(),
                format!("hosts[{at}].name"),
                format_args!("the same as hosts[{other}].name"),
            );
        }
        for (place, prefix) in host.addresses.iter().enumerate() {
            let net = *prefix.get_ref();
            let field = format!("hosts[{at}].addresses[{place}]");
            let shares = |role: &Role, other: &IpNet| {
                !role.responds() && !host.role.responds() && is_private(if other.contains(&net) { &net } else { other })
            };
            let clash = seen
                .iter()
                .find(|(owner, _, role, other)| overlap(other, &net) && (*owner == at || !shares(role, other)));
            if let Some((_, other_field, _, other)) = clash {
                checker.at(
                    prefix.span(),
                    field.as_str(),
                    format_args!("{net} overlaps {other} of {other_field}"),
                );
            }
            seen.push((at, field, host.role, net));
        }
    }
}

/// Whether every address of the prefix is private (RFC 1918, RFC 4193) or shared (RFC 6598).
fn is_private(net: &IpNet) -> bool {
    const PRIVATE: [(IpAddr, u8); 5] = [
        (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
        (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
        (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
        (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10),
        (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    ];
    PRIVATE
        .iter()
        .any(|(address, length)| IpNet::new(*address, *length).is_ok_and(|private| private.contains(net)))
}
