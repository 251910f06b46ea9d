//! Link-layer addresses of the next hops, from the kernel: it does ARP and neighbour discovery, this module only asks (netlink,
//! RFC 3549).
//!
//! ```text
//! peer's outer address --route (RTM_GETROUTE)--> next hop: the peer or a gateway --neighbour table (RTM_GETNEIGH)--> MAC
//! ```
//!
//! The kernel resolves a neighbour when it sends to it, which it never does for the packets of a port. So every refresh asks it to
//! use (`NTF_USE`) each next hop whose entry is missing, failed or stale.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ain_dataplane::id::PeerId;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc::ENODEV;
use thiserror::Error;
use tracing::{debug, info, warn};

use self::netlink::Netlink;

mod netlink;
#[cfg(test)]
mod tests;

/// Time between refreshes when every peer has its address.
const REFRESH: Duration = Duration::from_secs(1);
/// Time between refreshes while one is wanting.
const REFRESH_WANTING: Duration = Duration::from_millis(100);

/// A MAC address.
pub type Mac = [u8; 6];

/// Whom to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The peer; of the next routers towards the Internet [`PeerId::INTERNET`] and [`PeerId::INTERNET_V6`].
    pub peer: PeerId,
    /// The port it is reached over.
    pub port: usize,
    /// Kernel interface of the same MAC.
    pub interface: String,
    /// The peer's outer address.
    pub remote: IpAddr,
}

/// Ethernet addresses of packets to one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adjacency {
    /// The port to send on.
    pub port: usize,
    /// The port's own MAC.
    pub source: Mac,
    /// MAC of the next hop.
    pub destination: Mac,
}

/// Why nothing could be found out.
#[derive(Debug, Error)]
pub enum NeighbourError {
    /// Netlink failed.
    #[error("netlink, {what}: {source}")]
    Netlink {
        /// What was asked.
        what: &'static str,
        /// Cause.
        source: io::Error,
    },
    /// The configuration names an interface that the kernel does not have.
    #[error("no kernel interface `{0}`")]
    NoInterface(String),
    /// The interface has no Ethernet address.
    #[error("the kernel interface `{0}` has no Ethernet address")]
    NotEthernet(String),
}

/// Finds the MACs of all peers and keeps them fresh. Lives on the control thread.
#[derive(Debug)]
pub struct Neighbours {
    netlink: Netlink,
    targets: Vec<Target>,
    found: HashMap<PeerId, Adjacency>,
    lost: u64,
}

/// A kernel interface.
#[derive(Debug, Clone, Copy)]
struct Interface {
    index: u32,
    mac: Mac,
}

impl Neighbours {
    /// To find `targets`. Nothing is asked before [`Self::refresh`].
    ///
    /// # Errors
    /// See [`NeighbourError`].
    pub fn new(targets: Vec<Target>) -> Result<Self, NeighbourError> {
        let netlink = Netlink::open().map_err(|source| NeighbourError::Netlink { what: "socket", source })?;
        Ok(Self {
            netlink,
            targets,
            found: HashMap::new(),
            lost: 0,
        })
    }

    /// Asks the kernel about every peer. `true` if an answer differs from the last one.
    ///
    /// # Errors
    /// See [`NeighbourError`]; what was found before stays.
    pub fn refresh(&mut self) -> Result<bool, NeighbourError> {
        let table = self.table()?;
        let mut interfaces: HashMap<String, Interface> = HashMap::new();
        let mut found = HashMap::new();
        for target in self.targets.clone() {
            let interface = match interfaces.get(&target.interface) {
                Some(known) => *known,
                None => self.interface(&target.interface)?,
            };
            interfaces.insert(target.interface.clone(), interface);
            let Some(next_hop) = self.next_hop(&target, interface)? else {
                continue;
            };
            let entry = table.get(&(interface.index, next_hop));
            if !entry.is_some_and(|entry| entry.fresh) {
                self.resolve(interface, next_hop)?;
            }
            if let Some(destination) = entry.and_then(|entry| entry.mac) {
                let adjacency = Adjacency {
                    port: target.port,
                    source: interface.mac,
                    destination,
                };
                found.insert(target.peer, adjacency);
            }
        }
        Ok(self.replace(found))
    }

    /// How long to wait until the next refresh.
    pub fn refresh_after(&self) -> Duration {
        if self.found.len() == self.targets.len() {
            REFRESH
        } else {
            REFRESH_WANTING
        }
    }

    /// The peers whose next hop is known.
    pub fn found(&self) -> &HashMap<PeerId, Adjacency> {
        &self.found
    }

    /// How many next hops are not known.
    pub fn unknown(&self) -> usize {
        self.targets.len() - self.found.len()
    }

    /// How many times a known next hop became unknown.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn replace(&mut self, found: HashMap<PeerId, Adjacency>) -> bool {
        for peer in self.found.keys().filter(|peer| !found.contains_key(peer)) {
            self.lost += 1;
            warn!(peer = peer.0, "the next hop's link-layer address is lost");
        }
        for peer in found.keys().filter(|peer| !self.found.contains_key(peer)) {
            info!(peer = peer.0, "the next hop's link-layer address is known");
        }
        let changed = found != self.found;
        self.found = found;
        changed
    }

    fn interface(&mut self, name: &str) -> Result<Interface, NeighbourError> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answers = match self.netlink.request(RouteNetlinkMessage::GetLink(request), false) {
            Err(error) if error.raw_os_error() == Some(ENODEV) => {
                return Err(NeighbourError::NoInterface(name.to_owned()));
            }
            other => other.map_err(|source| NeighbourError::Netlink {
                what: "interface",
                source,
            })?,
        };
        let link = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        let link = link.ok_or_else(|| NeighbourError::NoInterface(name.to_owned()))?;
        let mac = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => Mac::try_from(bytes.as_slice()).ok(),
            _ => None,
        });
        let mac = mac.ok_or_else(|| NeighbourError::NotEthernet(name.to_owned()))?;
        Ok(Interface {
            index: link.header.index,
            mac,
        })
    }

    /// The peer itself, or the gateway to it. `None` without a route over the target's interface.
    fn next_hop(&mut self, target: &Target, interface: Interface) -> Result<Option<IpAddr>, NeighbourError> {
        let mut request = RouteMessage::default();
        let (bits, destination) = match target.remote {
            IpAddr::V4(remote) => (32, RouteAddress::Inet(remote)),
            IpAddr::V6(remote) => (128, RouteAddress::Inet6(remote)),
        };
        request.header.address_family = family_of(target.remote);
        request.header.destination_prefix_length = bits;
        request.attributes.push(RouteAttribute::Destination(destination));
        request.attributes.push(RouteAttribute::Oif(interface.index));
        let answers = match self.netlink.request(RouteNetlinkMessage::GetRoute(request), false) {
            Ok(answers) => answers,
            Err(error) => {
                debug!(peer = target.peer.0, %error, "no route over its interface");
                return Ok(None);
            }
        };
        let route = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        });
        let gateway = route
            .iter()
            .flat_map(|route| &route.attributes)
            .find_map(|attribute| match attribute {
                RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => Some(IpAddr::V4(*gateway)),
                RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => Some(IpAddr::V6(*gateway)),
                _ => None,
            });
        Ok(route.map(|_| gateway.unwrap_or(target.remote)))
    }

    /// The kernel's neighbour tables of both families.
    fn table(&mut self) -> Result<HashMap<(u32, IpAddr), Entry>, NeighbourError> {
        let mut request = NeighbourMessage::default();
        request.header.family = AddressFamily::Unspec;
        let answers = self
            .netlink
            .request(RouteNetlinkMessage::GetNeighbour(request), true)
            .map_err(|source| NeighbourError::Netlink {
                what: "neighbour table",
                source,
            })?;
        let entries = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(neighbour) => Entry::parse(&neighbour),
            _ => None,
        });
        Ok(entries.collect())
    }

    /// Has the kernel resolve a next hop, as if it had a packet for it.
    fn resolve(&mut self, interface: Interface, next_hop: IpAddr) -> Result<(), NeighbourError> {
        let mut request = NeighbourMessage::default();
        request.header.family = family_of(next_hop);
        request.header.ifindex = interface.index;
        request.header.flags = NeighbourFlags::Use;
        request
            .attributes
            .push(NeighbourAttribute::Destination(next_hop.into()));
        self.netlink
            .create(RouteNetlinkMessage::NewNeighbour(request))
            .map_err(|source| NeighbourError::Netlink {
                what: "resolving a next hop",
                source,
            })
    }
}

/// What the kernel knows of a neighbour.
#[derive(Debug, Clone, Copy)]
struct Entry {
    mac: Option<Mac>,
    /// Confirmed lately, or being confirmed: no need to ask.
    fresh: bool,
}

impl Entry {
    fn parse(message: &NeighbourMessage) -> Option<((u32, IpAddr), Self)> {
        use NeighbourState as S;
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
            _ => None,
        })?;
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => Mac::try_from(bytes.as_slice()).ok(),
            _ => None,
        });
        let state = message.header.state;
        let usable = matches!(
            state,
            S::Reachable | S::Stale | S::Delay | S::Probe | S::Permanent | S::Noarp
        );
        let fresh = matches!(
            state,
            S::Reachable | S::Delay | S::Probe | S::Permanent | S::Noarp | S::Incomplete
        );
        Some((
            (message.header.ifindex, address),
            Self {
                mac: mac.filter(|_| usable),
                fresh,
            },
        ))
    }
}

const fn family_of(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
