//! `ain host-config`: the commands that give a host's own Linux kernel its end of a tunnel, so that the host needs no program of ours.
//!
//! ```text
//!   IP | AH, transport mode | ESP, tunnel mode [ inner datagram ]         two states a direction, one policy with both as templates
//! ```

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use ain_crypto::MacAlgorithm;
use ipnet::IpNet;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::{Host, NodeConfig, Sa};

/// Packets of a kernel's replay window: what reorders less does not lose.
const REPLAY_WINDOW: u16 = 1024;
/// Ties the states of a tunnel to its policies.
const REQID: u8 = 1;
/// Where entrances draw the addresses that responders see (`random-private`).
const DRAWN: [&str; 2] = ["10.0.0.0/8", "fd00::/8"];
/// Room for the text, so that a string that grows leaves no copies of keys behind: nothing here is near it but a directory of
/// thousands of exit prefixes, whose lines come first.
const LINE_BYTES: usize = 512;

/// Why there are no commands.
#[derive(Debug, Error)]
pub enum HostConfigError {
    /// No such host.
    #[error("hosts: none is called `{0}`")]
    Unknown(String),
    /// The kernel's AH lacks the algorithm.
    #[error(
        "hosts: the tunnel of `{0}` has AH with aes-128-gmac, which the Linux kernel lacks; hmac-sha2-256-128 and aes-cmac-96 it has"
    )]
    NoGmac(String),
}

/// The commands for the host called `name`, for `/bin/sh`, secret. `interface`: the host's, towards this node.
///
/// # Errors
/// There is no such host, or the kernel cannot do what its tunnel asks for.
pub fn commands(config: &NodeConfig, name: &str, interface: &str) -> Result<Zeroizing<String>, HostConfigError> {
    let unknown = || HostConfigError::Unknown(name.to_owned());
    let host = config.hosts.iter().find(|host| host.name == name).ok_or_else(unknown)?;
    if host.tunnel.ah == MacAlgorithm::Aes128Gmac {
        return Err(HostConfigError::NoGmac(name.to_owned()));
    }
    let routed = routed(config, host);
    let lines = 32 + routed.len() + 8 * host.addresses.len();
    let mut text = Zeroizing::new(String::with_capacity(LINE_BYTES * lines));
    write_commands(&mut text, config, host, &routed, interface).expect("a string takes all");
    Ok(text)
}

/// What the host sends into the tunnel: an initiator to the exits' prefixes, a responder to the addresses that entrances draw.
fn routed(config: &NodeConfig, host: &Host) -> Vec<IpNet> {
    let of_exits = config.directory.entries().iter().flat_map(|entry| &entry.exit_prefixes);
    let mut all: Vec<IpNet> = Vec::new();
    if host.role.initiates() {
        all.extend(
            of_exits
                .filter(|prefix| !host.addresses.iter().any(|own| prefix.contains(own)))
                .copied(),
        );
    }
    if host.role.responds() {
        all.extend(
            DRAWN
                .iter()
                .map(|text| text.parse::<IpNet>().expect("a constant prefix")),
        );
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn write_commands(
    out: &mut String,
    config: &NodeConfig,
    host: &Host,
    routed: &[IpNet],
    interface: &str,
) -> fmt::Result {
    writeln!(
        out,
        "# The tunnel of `{}` with {}, by the host's own kernel: as root there.",
        host.name, config.name
    )?;
    writeln!(
        out,
        "# For one boot of the host: its kernel counts from 1 again, which {} refuses as a replay, and which repeats nonces under",
        config.name
    )?;
    writeln!(
        out,
        "# these keys (RFC 8221 section 4). New keys first (`ain keygen --sa`), at both ends."
    )?;
    if host.tunnel.shape.padded_len > 0 {
        writeln!(
            out,
            "# `ip xfrm` has no padding (RFC 4303 section 2.7): what the host sends shows its length on this link."
        )?;
    }
    writeln!(out, "set -e")?;
    for address in host
        .addresses
        .iter()
        .filter(|net| net.prefix_len() == net.max_prefix_len())
    {
        writeln!(out, "ip address add {address} dev lo")?;
    }
    for prefix in routed {
        let of_family = host
            .addresses
            .iter()
            .find(|own| own.addr().is_ipv4() == prefix.addr().is_ipv4());
        if let Some(own) = of_family {
            let (own, mtu) = (own.addr(), host.inner_mtu);
            writeln!(out, "ip route add {prefix} dev {interface} src {own} mtu {mtu}")?;
        }
    }
    let tunnel = &host.tunnel;
    let (own, node) = (tunnel.remote, tunnel.local);
    state(out, host, (own, node), (&tunnel.esp_in, &tunnel.ah_in))?;
    state(out, host, (node, own), (&tunnel.esp_out, &tunnel.ah_out))?;
    for address in &host.addresses {
        let any = if address.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        policy(out, (&address.to_string(), any), "out", (own, node))?;
        policy(out, (any, &address.to_string()), "in", (node, own))?;
        if address.prefix_len() != address.max_prefix_len() {
            policy(out, (any, &address.to_string()), "fwd", (node, own))?;
        }
    }
    Ok(())
}

/// The two states of one direction.
fn state(out: &mut String, host: &Host, (from, to): (IpAddr, IpAddr), (esp, ah): (&Sa, &Sa)) -> fmt::Result {
    let tunnel = &host.tunnel;
    // A selector of no family lets inner datagrams of both into one tunnel.
    let common = format!(
        "replay-window {REPLAY_WINDOW} flag af-unspec{}",
        if tunnel.esn { " flag esn" } else { "" }
    );
    write!(
        out,
        "ip xfrm state add src {from} dst {to} proto esp spi 0x{:08x} reqid {REQID} mode tunnel {common} ",
        esp.spi.value()
    )?;
    write!(out, "aead 'rfc4106(gcm(aes))' ")?;
    key(out, esp)?;
    writeln!(out, " 128")?; // bits of the ICV, of either key length
    // RFC 4302 section 2.5 aligns AH to 4 bytes in IPv4; the kernel does to 8 unless told.
    let align = if from.is_ipv4() { " flag align4" } else { "" };
    let (algorithm, bits) = match tunnel.ah {
        MacAlgorithm::AesCmac96 => ("cmac(aes)", 96),
        MacAlgorithm::HmacSha256_128 | MacAlgorithm::Aes128Gmac => ("hmac(sha256)", 128),
    };
    write!(
        out,
        "ip xfrm state add src {from} dst {to} proto ah spi 0x{:08x} reqid {REQID} mode transport {common}{align} ",
        ah.spi.value()
    )?;
    write!(out, "auth-trunc '{algorithm}' ")?;
    key(out, ah)?;
    writeln!(out, " {bits}")
}

/// Key and salt, as the kernel takes them: one after the other.
fn key(out: &mut String, sa: &Sa) -> fmt::Result {
    out.push_str("0x");
    sa.key.expose().iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

fn policy(
    out: &mut String,
    (source, destination): (&str, &str),
    way: &str,
    (from, to): (IpAddr, IpAddr),
) -> fmt::Result {
    write!(out, "ip xfrm policy add src {source} dst {destination} dir {way}")?;
    write!(out, " tmpl src {from} dst {to} proto esp reqid {REQID} mode tunnel")?;
    writeln!(out, " tmpl src {from} dst {to} proto ah reqid {REQID} mode transport")
}
