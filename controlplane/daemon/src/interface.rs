//! The TUN device of an endpoint and the taps of a node's ports get their addresses and routes, by iproute2.

use std::fs;
use std::process::Command;

use ain_dataplane::wire::ethernet::MacAddr;
use ain_worker::kernel::{KernelEnd, WorkerEnd, buffers, ways};
use ain_worker::tun::{TunPort, frame_room};
use ain_worker::vec_buf::VecPool;
use anyhow::{Context, ensure};
use ipnet::IpNet;

use crate::config::Port;

/// Gives the device its addresses, brings it up and sends `routes` through it, with the first address of their family as source. The
/// device gets no address by itself: nothing on it would answer one of its own link.
///
/// # Errors
/// What `ip` said.
pub fn set_up(device: &str, addresses: &[IpNet], routes: &[IpNet]) -> anyhow::Result<()> {
    if addresses.iter().any(|net| net.addr().is_ipv6()) {
        ip(&["link", "set", device, "addrgenmode", "none"])?;
    }
    bring_up(device, addresses)?;
    for route in routes {
        let of_family = |net: &&IpNet| net.addr().is_ipv4() == route.addr().is_ipv4();
        let source = addresses.iter().find(of_family).map(|net| net.addr().to_string());
        let (route, source) = (route.to_string(), source.unwrap_or_default());
        ip(&["route", "replace", &route, "dev", device, "src", &source])?;
    }
    Ok(())
}

/// The tap that stands for a port in the kernel, with the port's MAC address, MTU and addresses, and the ways between it and `workers`
/// workers. Routes are whoever's who manages the machine's network. The tap goes with its owner.
///
/// # Errors
/// What the kernel or `ip` said.
pub fn tap(port: &Port, mac: MacAddr, workers: usize) -> anyhow::Result<(Vec<WorkerEnd>, KernelEnd<TunPort>)> {
    let pool = VecPool::new(buffers(workers), frame_room(port.mtu));
    let tap = TunPort::create_tap(&port.interface, mac, port.mtu, pool.clone())?;
    if port.addresses.iter().any(|net| net.addr().is_ipv6()) {
        let switch = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", port.interface);
        fs::write(&switch, "0").context(switch)?;
    }
    bring_up(&port.interface, &port.addresses)?;
    Ok(ways(tap, workers, &pool))
}

fn bring_up(device: &str, addresses: &[IpNet]) -> anyhow::Result<()> {
    for address in addresses {
        let text = address.to_string();
        // Whose it is has been decided: by the configuration, and on both sides of a tunnel.
        let at_once = address.addr().is_ipv6().then_some("nodad");
        let words = ["address", "replace", &text, "dev", device].into_iter().chain(at_once);
        ip(&words.collect::<Vec<_>>())?;
    }
    ip(&["link", "set", device, "up"])
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
