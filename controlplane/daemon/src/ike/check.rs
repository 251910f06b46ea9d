//! Whether what charon has negotiated is what the configuration asks for. What is not is refused, in words for who reads charon's log.

use std::net::IpAddr;

use ain_controlplane::lifetime::{Amounts, Lifetime};
use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use ain_dataplane::id::{Now, PeerId};
use ipnet::IpNet;
use thiserror::Error;

use super::message::{Add, Direction, Keyed, Limit, Mode, Policy, PolicyDirection, Protocol, Selector};
use crate::config::NodeConfig;
use crate::ike_config::{all_of, host_selectors, neighbour_selectors};

/// ENCR_AES_GCM_16 (RFC 4106).
const ENCR_AES_GCM_16: u16 = 20;
/// AUTH_AES_CMAC_96 (RFC 4494).
const AUTH_AES_CMAC_96: u16 = 8;
/// AUTH_AES_128_GMAC (RFC 4543).
const AUTH_AES_128_GMAC: u16 = 9;
/// AUTH_HMAC_SHA2_256_128 (RFC 4868).
const AUTH_HMAC_SHA2_256_128: u16 = 12;
/// All protocols.
const ANY_PROTOCOL: u8 = 0;
/// All ports.
const ANY_PORT: (u16, u16) = (0, u16::MAX);

/// Why charon's association is none of this node's. As text without an address, so that any log may have it.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No such tunnel.
    #[error("no tunnel with keys by IKE has these ends")]
    NoTunnel,
    /// UDP encapsulation is asked for.
    #[error("a NAT stands between the ends: AH cannot cross it")]
    Nat,
    /// An end has moved.
    #[error("an end of a tunnel does not move, and AH crosses no NAT")]
    Moved,
    /// Transport for tunnel or the other way round.
    #[error("{protocol} in {given:?} mode where {wanted:?} mode is due")]
    Mode {
        /// AH or ESP.
        protocol: &'static str,
        /// What it is in.
        given: Mode,
        /// What it has to be in.
        wanted: Mode,
    },
    /// Another algorithm than the tunnel's.
    #[error(
        "transforms {encryption} and {integrity} of IKEv2 with keys of {bytes} bytes where `{wanted}` is configured"
    )]
    Algorithm {
        /// Transform of encryption, 0: none.
        encryption: u16,
        /// Transform of integrity, 0: none.
        integrity: u16,
        /// Bytes of both keys.
        bytes: usize,
        /// The tunnel's.
        wanted: &'static str,
    },
    /// Another kind of sequence numbers than the tunnel's.
    #[error("extended sequence numbers are {}, and configured {}", on(*.0), on(!*.0))]
    Esn(bool),
    /// Other traffic than the tunnel's.
    #[error("the traffic selectors are not those of the tunnel")]
    Selectors(String),
    /// An SPI below 256.
    #[error("an SPI that RFC 4302 reserves")]
    ReservedSpi,
    /// An inbound SPI from elsewhere.
    #[error("an inbound SPI that this process did not give out")]
    StrangeSpi,
    /// The packet path does not take it.
    #[error("not installed: {0}")]
    NotInstalled(String),
}

impl Refusal {
    /// In words for charon's log, which knows addresses that ours does not.
    pub(super) fn between(&self, source: IpAddr, destination: IpAddr) -> String {
        match self {
            Self::Nat => format!("a NAT stands between {source} and {destination}: AH cannot cross it"),
            Self::Selectors(these) => format!("{source} to {destination}: {self}: {these}"),
            other => format!("{source} to {destination}: {other}"),
        }
    }
}

const fn on(esn: bool) -> &'static str {
    if esn { "on" } else { "off" }
}

/// A tunnel whose keys IKE makes.
#[derive(Debug)]
pub struct IkeTunnel {
    /// The other end.
    pub peer: PeerId,
    /// What logs may call it: a neighbour's name, and of hosts none.
    pub label: String,
    /// Whether it is a PVT, whose TVTs are born under pairs of AH keys.
    pub has_tvts: bool,
    /// This end's outer address.
    pub local: IpAddr,
    /// The other end's outer address.
    pub remote: IpAddr,
    /// Extended sequence numbers.
    pub esn: bool,
    /// AH algorithm, both directions.
    pub ah: MacAlgorithm,
    /// ESP algorithm, both directions.
    pub esp: AeadAlgorithm,
    /// What is inside, at this end and at the other.
    pub inside: [Vec<IpNet>; 2],
}

/// The tunnels of a node whose keys IKE makes.
pub fn tunnels(config: &NodeConfig) -> Vec<IkeTunnel> {
    let neighbours = config.neighbours.iter();
    let neighbours = neighbours.map(|one| (one.node.clone(), true, neighbour_selectors(config, one)));
    let hosts = config
        .hosts
        .iter()
        .map(|host| ("a host".to_owned(), false, host_selectors(host)));
    config
        .tunnels()
        .zip(neighbours.chain(hosts))
        .filter(|((.., tunnel), _)| tunnel.ike().is_some())
        .map(|((peer, _, tunnel), (label, has_tvts, inside))| IkeTunnel {
            peer,
            label,
            has_tvts,
            local: tunnel.local,
            remote: tunnel.remote,
            esn: tunnel.esn,
            ah: tunnel.ah,
            esp: tunnel.esp,
            inside,
        })
        .collect()
}

/// Mode, algorithm, numbers and selectors of `add` are those of `tunnel`.
pub(super) fn check(tunnel: &IkeTunnel, add: &Add) -> Result<(), Refusal> {
    let protocol = add.name.protocol;
    let (name, wanted) = match protocol {
        Protocol::Esp => ("ESP", Mode::Tunnel),
        Protocol::Ah => ("AH", Mode::Transport),
    };
    if add.mode != wanted {
        return Err(Refusal::Mode {
            protocol: name,
            given: add.mode,
            wanted,
        });
    }
    check_algorithm(tunnel, add)?;
    if add.flags.esn != tunnel.esn {
        return Err(Refusal::Esn(add.flags.esn));
    }
    let [here, there] = &tunnel.inside;
    let (source, destination) = match add.name.direction {
        Direction::In => (there, here),
        Direction::Out => (here, there),
    };
    match protocol {
        Protocol::Esp => {
            check_selectors(&add.source, source, ANY_PROTOCOL)?;
            check_selectors(&add.destination, destination, ANY_PROTOCOL)
        }
        // What is inside is for the ESP within to say.
        Protocol::Ah => {
            check_selectors(&add.source, &all_of(source), Protocol::Esp.number())?;
            check_selectors(&add.destination, &all_of(destination), Protocol::Esp.number())
        }
    }
}

fn check_algorithm(tunnel: &IkeTunnel, add: &Add) -> Result<(), Refusal> {
    let (wanted, name, bytes) = match add.name.protocol {
        Protocol::Esp => (
            (ENCR_AES_GCM_16, 0),
            match tunnel.esp {
                AeadAlgorithm::Aes128Gcm16 => "esp = aes-128-gcm-16",
                AeadAlgorithm::Aes256Gcm16 => "esp = aes-256-gcm-16",
            },
            (tunnel.esp.key_bytes(), 0),
        ),
        Protocol::Ah => {
            let (id, name) = match tunnel.ah {
                MacAlgorithm::HmacSha256_128 => (AUTH_HMAC_SHA2_256_128, "ah = hmac-sha2-256-128"),
                MacAlgorithm::Aes128Gmac => (AUTH_AES_128_GMAC, "ah = aes-128-gmac"),
                MacAlgorithm::AesCmac96 => (AUTH_AES_CMAC_96, "ah = aes-cmac-96"),
            };
            ((0, id), name, (0, tunnel.ah.key_bytes()))
        }
    };
    let length = |keyed: &Keyed| keyed.key.expose().len();
    let given = (add.encryption.id, add.integrity.id);
    let lengths = (length(&add.encryption), length(&add.integrity));
    if (given, lengths) == (wanted, bytes) {
        return Ok(());
    }
    Err(Refusal::Algorithm {
        encryption: given.0,
        integrity: given.1,
        bytes: lengths.0 + lengths.1,
        wanted: name,
    })
}

/// `selectors` say `nets`, each once, in whatever order.
fn check_selectors(selectors: &[Selector], nets: &[IpNet], protocol: u8) -> Result<(), Refusal> {
    let wanted = |net: &IpNet| Selector {
        protocol,
        ports: ANY_PORT,
        first: net.network(),
        last: net.broadcast(),
    };
    let all_there = nets.iter().all(|net| selectors.contains(&wanted(net)));
    if all_there && selectors.len() == nets.len() {
        return Ok(());
    }
    let nets: Vec<String> = nets.iter().map(IpNet::to_string).collect();
    let given: Vec<String> = selectors.iter().map(show).collect();
    Err(Refusal::Selectors(format!(
        "{} where {} is due",
        given.join(" "),
        nets.join(" ")
    )))
}

fn show(selector: &Selector) -> String {
    format!("{}-{}/{}", selector.first, selector.last, selector.protocol)
}

/// The policy's prefixes are inside some tunnel, or it is one for AH, which has none of its own.
pub(super) fn check_policy(tunnels: &[IkeTunnel], policy: &Policy) -> Result<(), Refusal> {
    if [policy.source.protocol, policy.destination.protocol] == [Protocol::Esp.number(); 2] {
        return Ok(());
    }
    let (here, there) = match policy.direction {
        PolicyDirection::Out => (&policy.source, &policy.destination),
        PolicyDirection::In | PolicyDirection::Forward => (&policy.destination, &policy.source),
    };
    let holds = |nets: &[IpNet], selector: &Selector| {
        let inside = |net: &IpNet| net.contains(&selector.first) && net.contains(&selector.last);
        nets.iter().any(inside)
    };
    let fits = |tunnel: &IkeTunnel| holds(&tunnel.inside[0], here) && holds(&tunnel.inside[1], there);
    if tunnels.iter().any(fits) {
        return Ok(());
    }
    let shown = format!("{} {}", show(&policy.source), show(&policy.destination));
    Err(Refusal::Selectors(shown))
}

/// charon's limits. It leaves those of time to who has the association, as it does with a kernel.
pub(super) fn lifetime(add: &Add) -> Lifetime {
    let limit = |figure: u64| if figure == 0 { u64::MAX } else { figure };
    let amounts = |of: fn(Limit) -> u64| Amounts {
        packets: limit(of(add.packets)),
        octets: limit(of(add.bytes)),
        age: limit(of(add.seconds)).saturating_mul(Now::SECOND),
    };
    Lifetime {
        soft: amounts(|limit| limit.soft),
        hard: amounts(|limit| limit.hard),
    }
}
