//! Ports of a node, and what neighbours and hosts share with them.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;

use super::raw::{CellProfile, KernelSide, RawAddresses, RawPort};
use super::report::Checker;
use super::{check_address, check_name};

/// Drivers that read what the kernel gets too. (`net_af_xdp` does not: its XDP program keeps every frame from the kernel.)
const SHARING_DRIVERS: [&str; 2] = ["net_af_packet", "net_pcap"];

/// A port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name in logs and metrics.
    pub name: String,
    /// PCI address or DPDK virtual device.
    pub device: String,
    /// Kernel interface of the same MAC.
    pub interface: String,
    /// Whether the node makes it.
    pub kernel: KernelSide,
    /// Outer addresses with their on-link prefixes, at most one of each family.
    pub addresses: Vec<IpNet>,
    /// Outer MTU, bytes.
    pub mtu: u16,
}

impl Port {
    /// Whether the device is one of DPDK's virtual ones, not a NIC.
    pub fn is_virtual(&self) -> bool {
        self.device.starts_with("net_")
    }

    /// Its outer address of the family of `other`, if it has one.
    pub fn address_beside(&self, other: IpAddr) -> Option<IpAddr> {
        let mut addresses = self.addresses.iter().map(IpNet::addr);
        addresses.find(|own| own.is_ipv4() == other.is_ipv4())
    }

    /// Whether `address` is one of its outer addresses.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.addr() == address)
    }
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
    check_addresses(checker, &raw.address, before, &format!("{path}.address"));
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
        kernel: raw.kernel.unwrap_or_else(|| kernel_side(raw.device.get_ref())),
        addresses: raw.address.get_ref().0.clone(),
        mtu,
    }
}

/// How the kernel has its part in a device by default.
fn kernel_side(device: &str) -> KernelSide {
    if SHARING_DRIVERS.iter().any(|driver| device.starts_with(driver)) {
        KernelSide::Shared
    } else {
        KernelSide::Tap
    }
}

/// One of each family at most, so that a peer's address tells which of them is meant.
fn check_addresses(checker: &mut Checker, raw: &Spanned<RawAddresses>, before: &[Port], field: &str) {
    let nets = &raw.get_ref().0;
    for net in nets {
        check_address(checker, &Spanned::new(raw.span(), net.addr()), field);
        if let Some(other) = before.iter().position(|port| port.has(net.addr())) {
            checker.at(raw.span(), field, format_args!("the same as ports[{other}].address"));
        }
    }
    let v4 = nets.iter().filter(|net| net.addr().is_ipv4()).count();
    if v4 > 1 || nets.len() - v4 > 1 || nets.is_empty() {
        checker.at(raw.span(), field, "one IPv4 address, one IPv6 address, or one of each");
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
