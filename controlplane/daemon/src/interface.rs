//! The TUN device of an endpoint gets its addresses and routes, by iproute2.

use std::process::Command;

use anyhow::{Context, ensure};
use ipnet::IpNet;

/// Gives the device its addresses, brings it up and sends `routes` through it, with the first address as their source.
///
/// # Errors
/// What `ip` said.
pub fn set_up(device: &str, addresses: &[IpNet], routes: &[IpNet]) -> anyhow::Result<()> {
    for address in addresses {
        ip(&["address", "replace", &address.to_string(), "dev", device])?;
    }
    ip(&["link", "set", device, "up"])?;
    for route in routes {
        let source = addresses.first().map(|net| net.addr().to_string()).unwrap_or_default();
        ip(&["route", "replace", &route.to_string(), "dev", device, "src", &source])?;
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
