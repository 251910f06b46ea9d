//! A host's file, for `ain endpoint`: the host's side of one ESP+AH tunnel on a TUN device.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ipnet::IpNet;
use toml::Spanned;

use super::node::{Idle, check_idle};
use super::peers::check_inner_mtu;
use super::port::check_interface;
use super::raw::{CryptoChoice, RawEndpoint, RawEndpointFile, Role};
use super::report::{Checker, Problems};
use super::shape::host_shape;
use super::tunnel::{HandMade, RawHandMade, RawTunnelParts, Register, Tunnel, check_hand_made};
use super::{check_address, check_clock, check_inner, check_prefix, check_private, parse_text, read};

/// A host's configuration, checked.
#[derive(Debug)]
pub struct EndpointConfig {
    /// What it does in flows.
    pub role: Role,
    /// Kernel interface towards the AIN.
    pub interface: String,
    /// TUN device to make.
    pub tun: String,
    /// Inner addresses with their prefixes, given to the TUN device; at least one.
    pub addresses: Vec<IpNet>,
    /// Prefixes routed into the TUN device.
    pub routes: Vec<IpNet>,
    /// Inner MTU, bytes.
    pub inner_mtu: u16,
    /// Outer MTU, bytes.
    pub mtu: u16,
    /// Where sequence numbers are kept.
    pub state_dir: PathBuf,
    /// What the worker without packets does.
    pub idle: Idle,
    /// Whose cryptography it runs.
    pub crypto: CryptoChoice,
    /// The tunnel to the AIN.
    pub tunnel: Tunnel<HandMade>,
}

impl EndpointConfig {
    /// Reads and checks the file at `path`, the key files it names, and the clock `now`.
    pub fn load(path: &Path, now: SystemTime) -> Result<Self, Problems> {
        Self::of_text(path, &read(path)?, now)
    }

    /// The same of `text`, which the file holds.
    pub fn of_text(path: &Path, text: &str, now: SystemTime) -> Result<Self, Problems> {
        let (mut checker, raw) = parse_text::<RawEndpointFile>(path, text)?;
        let config = check(&mut checker, raw, now);
        checker.finish(config)
    }
}

fn check(checker: &mut Checker, raw: RawEndpointFile, now: SystemTime) -> Option<EndpointConfig> {
    if let Err(error) = check_clock(now) {
        checker.whole(error);
    }
    let RawEndpointFile { endpoint, tunnel } = raw;
    check_places(checker, &endpoint);
    check_inner_mtu(
        checker,
        (&endpoint.inner_mtu, "endpoint.inner_mtu"),
        *endpoint.mtu.get_ref(),
        endpoint.addresses.get_ref(),
    );
    let idle = check_idle(checker, endpoint.idle, endpoint.max_sleep_us, "endpoint.max_sleep_us");
    let mut register = Register::default();
    let parts = RawTunnelParts {
        local: endpoint.local.into_inner(),
        remote: endpoint.remote.into_inner(),
        esn: tunnel.esn,
        ah: tunnel.ah,
        esp: tunnel.esp,
    };
    let sas = RawHandMade {
        ah_in: tunnel.ah_in,
        ah_out: tunnel.ah_out,
        esp_in: tunnel.esp_in,
        esp_out: tunnel.esp_out,
    };
    let sas = check_hand_made(checker, &mut register, "tunnel.", &parts, sas);
    let mut tunnel = sas.map(|sas| parts.with(sas));
    if let Some(tunnel) = &mut tunnel {
        let padding = (endpoint.padding, *endpoint.inner_mtu.get_ref());
        tunnel.shape = host_shape(checker, "endpoint.", padding, endpoint.rate.as_ref());
    }
    if register.inline_keys {
        check_private(checker);
    }
    let plain = |nets: Vec<Spanned<IpNet>>| nets.into_iter().map(Spanned::into_inner).collect();
    Some(EndpointConfig {
        role: endpoint.role,
        interface: endpoint.interface.into_inner(),
        tun: endpoint.tun.into_inner(),
        addresses: plain(endpoint.addresses.into_inner()),
        routes: plain(endpoint.routes),
        inner_mtu: endpoint.inner_mtu.into_inner(),
        mtu: endpoint.mtu.into_inner(),
        state_dir: checker.resolve(&endpoint.state_dir),
        idle,
        crypto: endpoint.crypto,
        tunnel: tunnel?,
    })
}

fn check_places(checker: &mut Checker, raw: &RawEndpoint) {
    check_interface(checker, &raw.interface, "endpoint.interface");
    check_interface(checker, &raw.tun, "endpoint.tun");
    check_address(checker, &raw.local, "endpoint.local");
    check_address(checker, &raw.remote, "endpoint.remote");
    if raw.local.get_ref().is_ipv4() != raw.remote.get_ref().is_ipv4() {
        checker.at(
            raw.remote.span(),
            "endpoint.remote",
            "not of the family of endpoint.local",
        );
    }
    if raw.local.get_ref() == raw.remote.get_ref() {
        checker.at(raw.remote.span(), "endpoint.remote", "the same as endpoint.local");
    }
    if raw.addresses.get_ref().is_empty() {
        checker.at(
            raw.addresses.span(),
            "endpoint.addresses",
            "at least one inner address is needed",
        );
    }
    for (place, address) in raw.addresses.get_ref().iter().enumerate() {
        check_inner(checker, address, &format!("endpoint.addresses[{place}]"));
    }
    for (place, route) in raw.routes.iter().enumerate() {
        let field = format!("endpoint.routes[{place}]");
        check_prefix(checker, route, &field);
        check_source(checker, raw.addresses.get_ref(), route, &field);
        check_no_loop(checker, route, *raw.remote.get_ref(), &field);
    }
}

/// What goes through a route needs an inner address to come from.
fn check_source(checker: &mut Checker, addresses: &[Spanned<IpNet>], route: &Spanned<IpNet>, field: &str) {
    let net = *route.get_ref();
    let of_family = |address: &Spanned<IpNet>| address.get_ref().addr().is_ipv4() == net.addr().is_ipv4();
    if !addresses.is_empty() && !addresses.iter().any(of_family) {
        checker.at(
            route.span(),
            field,
            format_args!("{net}: endpoint.addresses has no address of its family"),
        );
    }
}

/// A route that takes the tunnel's own packets into the tunnel would loop.
fn check_no_loop(checker: &mut Checker, route: &Spanned<IpNet>, remote: IpAddr, field: &str) {
    if route.get_ref().contains(&remote) {
        checker.at(
            route.span(),
            field,
            format_args!(
                "{} holds {remote}, the AIN's own address: the tunnel would swallow itself",
                route.get_ref()
            ),
        );
    }
}
