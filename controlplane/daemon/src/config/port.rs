//! Ports of a node, and what neighbours and hosts share with them.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;

use super::raw::{CellProfile, RawPort};
use super::report::Checker;
use super::{check_ipv4, check_name};

/// A port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name in logs and metrics.
    pub name: String,
    /// PCI address or DPDK virtual device.
    pub device: String,
    /// Kernel interface of the same MAC.
    pub interface: String,
    /// Outer address.
    pub address: IpAddr,
    /// On-link prefix.
    pub prefix: IpNet,
    /// Outer MTU, bytes.
    pub mtu: u16,
}

/// Every port, and that no two are the same.
pub(super) fn check_ports(checker: &mut Checker, raw: Vec<Spanned<RawPort>>, profile: CellProfile) -> Vec<Port> {
    if raw.is_empty() {
        checker.whole("no [[ports]]: a node needs at least one");
    }
    let mut ports: Vec<Port> = Vec::new();
    for (at, port) in raw.into_iter().enumerate() {
        let port = check_port(checker, at, port.get_ref(), profile, &ports);
        ports.push(port);
    }
    ports
}

fn check_port(checker: &mut Checker, at: usize, raw: &RawPort, profile: CellProfile, before: &[Port]) -> Port {
    let path = format!("ports[{at}]");
    check_name(checker, &raw.name, &format!("{path}.name"));
    let net = *raw.address.get_ref();
    check_ipv4(
        checker,
        &Spanned::new(raw.address.span(), net.addr()),
        &format!("{path}.address"),
    );
    check_interface(checker, &raw.interface, &format!("{path}.interface"));
    if raw.device.get_ref().trim().is_empty() {
        checker.at(raw.device.span(), format!("{path}.device"), "empty");
    }
    let mtu = *raw.mtu.get_ref();
    let mtu_min = match profile {
        CellProfile::Standard => 1500,
        CellProfile::Jumbo => 9000,
    };
    if mtu < mtu_min {
        checker.at(
            raw.mtu.span(),
            format!("{path}.mtu"),
            format_args!("{mtu}: the network's cells need {mtu_min}"),
        );
    }
    let same = |pick: fn(&Port) -> &str, value: &str| before.iter().position(|port| pick(port) == value);
    let clashes = [
        ("name", raw.name.span(), same(|port| &port.name, raw.name.get_ref())),
        (
            "device",
            raw.device.span(),
            same(|port| &port.device, raw.device.get_ref()),
        ),
        (
            "interface",
            raw.interface.span(),
            same(|port| &port.interface, raw.interface.get_ref()),
        ),
        (
            "address",
            raw.address.span(),
            before.iter().position(|port| port.address == net.addr()),
        ),
    ];
    for (field, span, clash) in clashes {
        if let Some(other) = clash {
            checker.at(
                span,
                format!("{path}.{field}"),
                format_args!("the same as ports[{other}].{field}"),
            );
        }
    }
    Port {
        name: raw.name.get_ref().clone(),
        device: raw.device.get_ref().clone(),
        interface: raw.interface.get_ref().clone(),
        address: net.addr(),
        prefix: net.trunc(),
        mtu,
    }
}

/// A name the kernel takes for an interface: 1 to 15 bytes, no slash, no white space.
pub(super) fn check_interface(checker: &mut Checker, name: &Spanned<String>, field: &str) {
    let text = name.get_ref();
    if text.is_empty() || text.len() > 15 || text.contains(|c: char| c == '/' || c.is_whitespace()) {
        checker.at(
            name.span(),
            field,
            "not a name of a kernel interface (1 to 15 bytes, no slash, no space)",
        );
    }
}
