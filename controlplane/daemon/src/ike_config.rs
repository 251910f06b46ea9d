//! `ain ike-config`: what charon has to be told so that it makes the keys of this node's tunnels, and what the IKE daemon at the other
//! end of one has to be told.
//!
//! ```text
//!   DIR/strongswan.conf               plugins, sockets, patience
//!   DIR/swanctl/swanctl.conf          a connection a tunnel, in it two children, and pre-shared keys
//!   DIR/swanctl/{x509,x509ca,private} certificates and the node's private key: `ain-*`, what else is there is the operator's
//! ```
//! IKEv2 makes AH and ESP apart (RFC 7296 has no bundle): a child for ESP in tunnel mode, and one for AH in transport mode around it.
//! The selectors of the latter are all addresses of the families inside, with protocol 50: charon takes a single address there for the
//! end of the association (it is made for MIPv6), and Linux holds what is innermost against them.

mod folder;
mod swanctl;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::{Host, IkePeer, Neighbour, NodeConfig, Tunnel};
use folder::replace;
use swanctl::{Connection, End, Role};

/// All addresses of a family.
const ANY: [&str; 2] = ["0.0.0.0/0", "::/0"];
/// Room for the text of a tunnel, so that a string that grows leaves no copies of keys behind.
const TUNNEL_BYTES: usize = 16 << 10;

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum IkeConfigError {
    /// No such peer.
    #[error("{0}: none is called `{1}`")]
    Unknown(&'static str, String),
    /// Its keys are made by hand.
    #[error("the tunnel of `{0}` has keys made by hand: no `ike`; see `ain host-config`")]
    ByHand(String),
    /// Linux's AH by IKE would carry a part of what is inside (decision 0025).
    #[error(
        "the tunnel of `{0}` has a family inside that is not the outer one: with keys by IKE, Linux puts AH around that one alone; a \
         tunnel for each family over itself, or keys made by hand"
    )]
    Families(String),
    /// charon's configuration, and the shell that it has read its connections, take no such path.
    #[error("{0}: charon takes letters, digits and `/._-` alone in paths")]
    Path(PathBuf),
    /// A folder is open to others, who could tell charon whom to believe.
    #[error(
        "{0}: no folder that is this user's or root's and no link, or others may write there: look at what is in it, then `chown`, `chmod go-w`"
    )]
    Writable(PathBuf),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// A tunnel that IKE makes, as both its ends see it.
struct Peer<'a> {
    /// Of the connection.
    name: String,
    tunnel: &'a Tunnel,
    ike: &'a IkePeer,
    /// What may be inside, at this node's end and at the other.
    inside: [Vec<IpNet>; 2],
    /// Whether this node's end is the first to negotiate successors.
    is_first: bool,
}

impl<'a> Peer<'a> {
    fn of_neighbour(config: &NodeConfig, neighbour: &'a Neighbour) -> Option<Self> {
        Some(Self {
            name: format!("neighbour-{}", neighbour.node),
            tunnel: &neighbour.tunnel,
            ike: neighbour.tunnel.ike()?,
            inside: neighbour_selectors(config, neighbour),
            is_first: neighbour.tunnel.local < neighbour.tunnel.remote,
        })
    }

    fn of_host(host: &'a Host) -> Option<Self> {
        Some(Self {
            name: format!("host-{}", host.name),
            tunnel: &host.tunnel,
            ike: host.tunnel.ike()?,
            inside: host_selectors(host),
            // A kernel that is asked sends under the new association from its answer on, before the asker knows the key; it is the one
            // that asks, for a node goes on with the old one until that is deleted.
            is_first: false,
        })
    }

    /// As this node's charon is told, of the tunnel in place `at`.
    fn here<'b>(&'b self, config: &'b NodeConfig, at: usize) -> Connection<'b> {
        self.connection(config, Role::Node(at), self.is_first, [0, 1])
    }

    /// As the other end's is.
    fn there<'b>(&'b self, config: &'b NodeConfig) -> Connection<'b> {
        self.connection(config, Role::Kernel, !self.is_first, [1, 0])
    }

    /// `is_first`: to rekey. `order`: which of node and peer is told.
    fn connection<'b>(
        &'b self,
        config: &'b NodeConfig,
        role: Role,
        is_first: bool,
        order: [usize; 2],
    ) -> Connection<'b> {
        let ends = [
            End {
                address: self.tunnel.local,
                id: &config.ike.id,
                inside: &self.inside[0],
            },
            End {
                address: self.tunnel.remote,
                id: &self.ike.id,
                inside: &self.inside[1],
            },
        ];
        Connection {
            name: &self.name,
            tunnel: self.tunnel,
            auth: &self.ike.auth,
            rekey: config.ike.rekey,
            authorities: config.ike.credentials.as_ref().map_or(0, |files| files.ca_files.len()),
            role,
            is_first,
            ends: order.map(|at| ends[at]),
        }
    }
}

/// What a PVT carries in it: signals, between the signalling addresses of the two AINs.
pub(crate) fn neighbour_selectors(config: &NodeConfig, neighbour: &Neighbour) -> [Vec<IpNet>; 2] {
    let address = |name: &str| config.directory.named(name).map(|entry| IpNet::from(entry.address));
    [&config.name, &neighbour.node].map(|name| address(name).into_iter().collect())
}

/// What a host's tunnel carries in it: between its own addresses, and everything of their families. Without addresses, everything.
pub(crate) fn host_selectors(host: &Host) -> [Vec<IpNet>; 2] {
    if host.addresses.is_empty() {
        let everything = ANY.map(|text| text.parse().expect("a constant prefix")).to_vec();
        return [everything.clone(), everything];
    }
    [all_of(&host.addresses), host.addresses.clone()]
}

/// All addresses of the families of `nets`.
pub(crate) fn all_of(nets: &[IpNet]) -> Vec<IpNet> {
    let any = ANY.map(|text| text.parse::<IpNet>().expect("a constant prefix"));
    let is_used = |family: &IpNet| nets.iter().any(|net| net.addr().is_ipv4() == family.addr().is_ipv4());
    any.into_iter().filter(is_used).collect()
}

fn peers(config: &NodeConfig) -> impl Iterator<Item = Peer<'_>> {
    let neighbours = config.neighbours.iter();
    let neighbours = neighbours.filter_map(|neighbour| Peer::of_neighbour(config, neighbour));
    neighbours.chain(config.hosts.iter().filter_map(Peer::of_host))
}

/// Writes what this node's charon needs into `dir`: files of the owner's alone, each replaced as a whole. Returns what to do with them,
/// in words.
///
/// # Errors
/// [`IkeConfigError::Path`], [`IkeConfigError::Writable`], [`IkeConfigError::Io`].
pub fn write(config: &NodeConfig, dir: &Path) -> Result<String, IkeConfigError> {
    let dir = std::path::absolute(dir).map_err(|source| failed(dir, source))?;
    for path in [&dir, &config.ike.socket] {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
        if !path.as_os_str().as_encoded_bytes().iter().all(plain) {
            return Err(IkeConfigError::Path(path.clone()));
        }
    }
    folder::make(&dir)?;
    let swanctl = dir.join("swanctl");
    folder::put(config.ike.credentials.as_ref(), &swanctl)?;
    let peers: Vec<Peer<'_>> = peers(config).collect();
    let connections: Vec<Connection<'_>> = (0..).zip(&peers).map(|(at, peer)| peer.here(config, at)).collect();
    let mut text = Zeroizing::new(String::with_capacity(TUNNEL_BYTES * (1 + connections.len())));
    swanctl::write(&mut text, &connections).expect("a string takes all");
    replace(&swanctl.join("swanctl.conf"), text.as_bytes())?;
    replace(&dir.join("strongswan.conf"), strongswan_conf(config, &dir).as_bytes())?;
    Ok(format!(
        "{} tunnels. charon with them:\n  STRONGSWAN_CONF={} charon-systemd",
        connections.len(),
        dir.join("strongswan.conf").display()
    ))
}

/// What the IKE daemon of the host called `name` is told, secret where the two ends share a key.
///
/// # Errors
/// There is no such host, it has hand-made keys, or strongSwan on Linux cannot carry its traffic.
pub fn of_host(config: &NodeConfig, name: &str) -> Result<Zeroizing<String>, IkeConfigError> {
    let host = config.hosts.iter().find(|host| host.name == name);
    let host = host.ok_or_else(|| IkeConfigError::Unknown("hosts", name.to_owned()))?;
    let peer = Peer::of_host(host).ok_or_else(|| IkeConfigError::ByHand(name.to_owned()))?;
    of_other_end(config, &peer, ("--host", name))
}

/// The same for the neighbour called `name`, if that is no AIN of ours but a kernel: its PVT alone, for signals.
///
/// # Errors
/// There is no such neighbour, it has hand-made keys, or strongSwan on Linux cannot carry its traffic.
pub fn of_neighbour(config: &NodeConfig, name: &str) -> Result<Zeroizing<String>, IkeConfigError> {
    let neighbour = config.neighbours.iter().find(|neighbour| neighbour.node == name);
    let neighbour = neighbour.ok_or_else(|| IkeConfigError::Unknown("neighbours", name.to_owned()))?;
    let peer = Peer::of_neighbour(config, neighbour).ok_or_else(|| IkeConfigError::ByHand(name.to_owned()))?;
    of_other_end(config, &peer, ("--neighbour", name))
}

fn of_other_end(
    config: &NodeConfig,
    peer: &Peer<'_>,
    (option, name): (&str, &str),
) -> Result<Zeroizing<String>, IkeConfigError> {
    let is_outer = |net: &IpNet| net.addr().is_ipv4() == peer.tunnel.local.is_ipv4();
    if !peer.inside.iter().flatten().all(is_outer) {
        return Err(IkeConfigError::Families(name.to_owned()));
    }
    let mut text = Zeroizing::new(String::with_capacity(TUNNEL_BYTES));
    writeln!(
        text,
        "# The other end of a tunnel with {}, for strongSwan on Linux: /etc/swanctl/conf.d/ain.conf, of mode 0600, then\n\
         # `swanctl --load-all`. Addresses, routes and policies of the kernel: what `ain host-config {option} {name}` prints, once in a boot.\n\
         # strongSwan is to leave routes alone: `install_routes = no` in strongswan.conf.",
        config.name
    )
    .and_then(|()| swanctl::write(&mut text, &[peer.there(config)]))
    .expect("a string takes all");
    Ok(text)
}

fn failed(path: &Path, source: io::Error) -> IkeConfigError {
    IkeConfigError::Io {
        path: path.to_owned(),
        source,
    }
}

/// charon's own settings. It gives a silent peer up after about ten seconds, so that who was killed is found again soon. Its log would
/// name users, their addresses and when they came.
fn strongswan_conf(config: &NodeConfig, dir: &Path) -> String {
    let (socket, dir) = (config.ike.socket.display(), dir.display());
    format!(
        r#"# Written by `ain ike-config`: charon of {name}.
charon {{
    load_modular = no
    load = random nonce aes sha1 sha2 hmac kdf gcm cmac curve25519 pem pkcs1 pkcs8 x509 revocation constraints pubkey openssl kernel-ain kernel-netlink socket-default vici
    install_routes = no
    install_virtual_ip = no
    # No log: it names peers. To look for a fault: 1 in place of -1.
    syslog {{
        daemon {{
            default = -1
        }}
        auth {{
            default = -1
        }}
    }}
    retransmit_timeout = 0.5
    retransmit_base = 1.5
    retransmit_tries = 5
    plugins {{
        kernel-ain {{
            socket = {socket}
        }}
        vici {{
            socket = unix://{dir}/charon.vici
        }}
    }}
    start-scripts {{
        ain = SWANCTL_DIR={dir}/swanctl /usr/sbin/swanctl --load-all --noprompt --uri unix://{dir}/charon.vici
    }}
}}
charon-systemd {{
    journal {{
        default = -1
    }}
}}
swanctl {{
    load = random openssl pem pkcs1 pkcs8 x509 curve25519
}}
"#,
        name = config.name
    )
}

#[cfg(test)]
mod tests;
