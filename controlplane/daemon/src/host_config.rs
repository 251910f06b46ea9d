//! `ain host-config`: the commands that give a Linux kernel the other end of a tunnel, so that a host needs no program of ours.
//!
//! ```text
//!   IP | AH, transport mode | ESP, tunnel mode [ inner datagram ]         two states a direction, one policy with both as templates
//! ```

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use ain_crypto::MacAlgorithm;
use ain_dataplane::wire::protocol::AIN_PORT;
use ipnet::IpNet;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::{HandMade, Host, Keys, NodeConfig, Sa, Tunnel};

/// Packets of a kernel's replay window: what reorders less does not lose.
const REPLAY_WINDOW: u16 = 1024;
/// Ties the states of ESP to policies.
pub(crate) const ESP_REQID: u8 = 1;
/// Ties those of AH to them.
pub(crate) const AH_REQID: u8 = 2;
/// Where entrances draw the addresses that responders see (`random-private`).
const DRAWN: [&str; 2] = ["10.0.0.0/8", "fd00::/8"];
/// Room for the text, so that a string that grows leaves no copies of keys behind: no line is longer.
const LINE_BYTES: usize = 512;

/// Why there are no commands.
#[derive(Debug, Error)]
pub enum HostConfigError {
    /// No such peer.
    #[error("{0}: none is called `{1}`")]
    Unknown(&'static str, String),
    /// The kernel's AH lacks the algorithm.
    #[error(
        "the tunnel of `{0}` has AH with aes-128-gmac, which Linux lacks; it has hmac-sha2-256-128 and aes-cmac-96"
    )]
    NoGmac(String),
}

/// The commands for the host called `name`, for `/bin/sh`, secret. `interface`: the host's, towards this node.
///
/// # Errors
/// There is no such host, or the kernel cannot do what its tunnel asks for.
pub fn of_host(config: &NodeConfig, name: &str, interface: &str) -> Result<Zeroizing<String>, HostConfigError> {
    let host = config.hosts.iter().find(|host| host.name == name);
    let host = host.ok_or_else(|| HostConfigError::Unknown("hosts", name.to_owned()))?;
    let routed = routed(config, host);
    let mut text = room(16 + routed.len() + 8 * host.addresses.len());
    write_start(&mut text, config, name, &host.tunnel)?;
    write_inside(&mut text, host, &routed, interface).expect("a string takes all");
    Ok(text)
}

/// The same for the neighbour called `name`: its PVT alone, for signals. Cells take a node.
///
/// # Errors
/// There is no such neighbour, or the kernel cannot do what its tunnel asks for.
pub fn of_neighbour(config: &NodeConfig, name: &str) -> Result<Zeroizing<String>, HostConfigError> {
    let neighbour = config.neighbours.iter().find(|neighbour| neighbour.node == name);
    let tunnel = &neighbour
        .ok_or_else(|| HostConfigError::Unknown("neighbours", name.to_owned()))?
        .tunnel;
    let mut text = room(16);
    write_start(&mut text, config, name, tunnel)?;
    let ends = (
        IpNet::from(tunnel.remote).to_string(),
        IpNet::from(tunnel.local).to_string(),
    );
    let signals = format!(" proto udp sport {AIN_PORT} dport {AIN_PORT}");
    write_policies(&mut text, tunnel, (&ends.0, &ends.1), &signals, &["in"]).expect("a string takes all");
    Ok(text)
}

fn room(lines: usize) -> Zeroizing<String> {
    Zeroizing::new(String::with_capacity(LINE_BYTES * lines))
}

/// What the host sends into the tunnel: an initiator to the exits' prefixes, a responder to the addresses that entrances draw.
fn routed(config: &NodeConfig, host: &Host) -> Vec<IpNet> {
    let of_exits = config.directory.entries().iter().flat_map(|entry| &entry.exit_prefixes);
    let elsewhere = of_exits.filter(|prefix| !host.addresses.iter().any(|own| prefix.contains(own)));
    let drawn = DRAWN
        .iter()
        .map(|text| text.parse::<IpNet>().expect("a constant prefix"));
    let mut all: Vec<IpNet> = Vec::new();
    if host.role.initiates() {
        all.extend(elsewhere.copied());
    }
    if host.role.responds() {
        all.extend(drawn);
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// What is said first, and the four states if this file makes them.
fn write_start(out: &mut String, config: &NodeConfig, name: &str, tunnel: &Tunnel) -> Result<(), HostConfigError> {
    if tunnel.ah == MacAlgorithm::Aes128Gmac {
        return Err(HostConfigError::NoGmac(name.to_owned()));
    }
    match &tunnel.keys {
        Keys::ByHand(sas) => write_hand_made(out, &config.name, name, (tunnel, sas)),
        Keys::ByIke(_) => writeln!(
            out,
            "# The tunnel of `{name}` with {}, by the other end's own kernel, with keys by IKE (`ain ike-config`): as root there, once in a\n\
             # boot. `ip xfrm` cannot pad (RFC 4303 section 2.7): what it sends shows its length on this link.\nset -e",
            config.name
        ),
    }
    .expect("a string takes all");
    Ok(())
}

/// Why the keys are good for one boot, and the four states.
fn write_hand_made(out: &mut String, node: &str, name: &str, (tunnel, sas): (&Tunnel, &HandMade)) -> fmt::Result {
    let (own, here) = (tunnel.remote, tunnel.local);
    writeln!(
        out,
        "# The tunnel of `{name}` with {node}, by the other end's own kernel: as root there, once in a boot. A kernel that begins again\n\
         # counts from 1, which {node} refuses as a replay, and repeats nonces under these keys (RFC 8221 section 4): new keys first, at\n\
         # both ends (`ain keygen --sa`). `ip xfrm` cannot pad (RFC 4303 section 2.7): what it sends shows its length on this link.\n\
         set -e"
    )?;
    write_states(out, tunnel, (own, here), (&sas.esp_in, &sas.ah_in))?;
    write_states(out, tunnel, (here, own), (&sas.esp_out, &sas.ah_out))
}

/// Addresses, routes and policies of what is inside a host's tunnel.
fn write_inside(out: &mut String, host: &Host, routed: &[IpNet], interface: &str) -> fmt::Result {
    for address in &host.addresses {
        let is_one_host = address.prefix_len() == address.max_prefix_len();
        if is_one_host {
            writeln!(out, "ip address add {address} dev lo")?;
        }
        let any = if address.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let inward: &[&str] = if is_one_host { &["in"] } else { &["in", "fwd"] };
        write_policies(out, &host.tunnel, (&address.to_string(), any), "", inward)?;
    }
    for prefix in routed {
        let of_family = |own: &&IpNet| own.addr().is_ipv4() == prefix.addr().is_ipv4();
        let mut own = host.addresses.iter().filter(of_family).peekable();
        if own.peek().is_some() {
            // A source has to be the host's own: of a network behind it, only its owner knows which is.
            let source = own.find(|own| own.prefix_len() == own.max_prefix_len());
            let source = source.map_or(String::new(), |own| format!(" src {}", own.addr()));
            writeln!(
                out,
                "ip route add {prefix} dev {interface}{source} mtu {}",
                host.inner_mtu
            )?;
        }
    }
    Ok(())
}

/// The two states of one direction.
fn write_states(out: &mut String, tunnel: &Tunnel, (from, to): (IpAddr, IpAddr), (esp, ah): (&Sa, &Sa)) -> fmt::Result {
    // A selector of no family lets inner datagrams of both into one tunnel.
    let esn = if tunnel.esn { " flag esn" } else { "" };
    let common = format!("replay-window {REPLAY_WINDOW} flag af-unspec{esn}");
    // RFC 4302 section 2.5 aligns AH to 4 bytes in IPv4; the kernel does to 8 unless told.
    let align = if from.is_ipv4() { " flag align4" } else { "" };
    let (algorithm, bits) = match tunnel.ah {
        MacAlgorithm::AesCmac96 => ("cmac(aes)", 96),
        MacAlgorithm::HmacSha256_128 | MacAlgorithm::Aes128Gmac => ("hmac(sha256)", 128),
    };
    let spi = esp.spi.value();
    write!(
        out,
        "ip xfrm state add src {from} dst {to} proto esp spi {spi:#010x} reqid {ESP_REQID} mode tunnel {common}"
    )?;
    write!(out, " aead 'rfc4106(gcm(aes))' ")?;
    write_key(out, esp)?;
    writeln!(out, " 128")?; // bits of the ICV, whatever the key's length
    let spi = ah.spi.value();
    write!(
        out,
        "ip xfrm state add src {from} dst {to} proto ah spi {spi:#010x} reqid {AH_REQID} mode transport {common}{align}"
    )?;
    write!(out, " auth-trunc '{algorithm}' ")?;
    write_key(out, ah)?;
    writeln!(out, " {bits}")
}

/// Key and salt, as the kernel takes them: one after the other.
fn write_key(out: &mut String, sa: &Sa) -> fmt::Result {
    out.push_str("0x");
    sa.key.expose().iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

/// Of what is between `own` at the other end and `here`, and as `kind` says.
fn write_policies(
    out: &mut String,
    tunnel: &Tunnel,
    (own, here): (&str, &str),
    kind: &str,
    inward: &[&str],
) -> fmt::Result {
    let through = |from: IpAddr, to: IpAddr| {
        format!(
            "tmpl src {from} dst {to} proto esp reqid {ESP_REQID} mode tunnel tmpl src {from} dst {to} proto ah reqid {AH_REQID} mode transport"
        )
    };
    let (outward, back) = (
        through(tunnel.remote, tunnel.local),
        through(tunnel.local, tunnel.remote),
    );
    writeln!(out, "ip xfrm policy add src {own} dst {here}{kind} dir out {outward}")?;
    inward
        .iter()
        .try_for_each(|way| writeln!(out, "ip xfrm policy add src {here} dst {own}{kind} dir {way} {back}"))
}
