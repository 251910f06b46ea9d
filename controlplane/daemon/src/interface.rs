//! The TUN device of an endpoint gets its addresses and routes, by iproute2.

use std::process::Command;

use anyhow::{Context, ensure};
use ipnet::IpNet;

/// Gives the device its addresses, brings it up and sends `routes` through it, with the first address of their family as source. The
/// device gets no address by itself: nothing on it would answer one of its own link.
///
/// # Errors
/// What `ip` said.
pub fn set_up(device: &str, addresses: &[IpNet], routes: &[IpNet]) -> anyhow::Result<()> {
    if addresses.iter().any(|net| net.addr().is_ipv6()) {
        ip(&["link", "set", device, "addrgenmode", "none"])?;
    }
    for address in addresses {
        let text = address.to_string();
        // Nobody else is on the link who could have the address too.
        let at_once = address.addr().is_ipv6().then_some("nodad");
        let words = ["address", "replace", &text, "dev", device].into_iter().chain(at_once);
        ip(&words.collect::<Vec<_>>())?;
    }
    ip(&["link", "set", device, "up"])?;
    for route in routes {
        let of_family = |net: &&IpNet| net.addr().is_ipv4() == route.addr().is_ipv4();
        let source = addresses.iter().find(of_family).map(|net| net.addr().to_string());
        let (route, source) = (route.to_string(), source.unwrap_or_default());
        ip(&["route", "replace", &route, "dev", device, "src", &source])?;
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("ip (of iproute2)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), said.trim());
    Ok(())
}
