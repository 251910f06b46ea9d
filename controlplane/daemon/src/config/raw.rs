//! The configuration files as TOML has them: shapes and types only. Meaning is checked on the way to the validated types.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ain_controlplane::limits::TICKET_SLICE_S;
use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::benchmark::RawBenchmark;
use super::capacity::RawCapacity;
use super::ike::{RawIke, RawIkePeer};
use super::limits::{RawHostLimits, RawNeighbourLimits};
use super::open_exit::RawOpenExit;
use super::paths::RawPaths;
use super::tickets::RawTickets;

/// Text that holds a secret.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// A node's file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNodeFile {
    /// Who the node is.
    pub node: RawNode,
    /// Constants of the network.
    #[serde(default)]
    pub network: RawNetwork,
    /// Choice of paths.
    #[serde(default)]
    pub(super) paths: RawPaths,
    /// DPDK.
    #[serde(default)]
    pub dpdk: RawDpdk,
    /// Threads.
    #[serde(default)]
    pub workers: RawWorkers,
    /// Room.
    #[serde(default)]
    pub capacity: RawCapacity,
    /// Tickets.
    #[serde(default)]
    pub tickets: RawTickets,
    /// Keys by IKE.
    #[serde(default)]
    pub(super) ike: RawIke,
    /// Ports.
    #[serde(default)]
    pub ports: Vec<Spanned<RawPort>>,
    /// PVTs.
    #[serde(default)]
    pub neighbours: Vec<Spanned<RawNeighbour>>,
    /// Host tunnels.
    #[serde(default)]
    pub hosts: Vec<Spanned<RawHost>>,
    /// Static AIVTs.
    pub benchmark: Option<Spanned<RawBenchmark>>,
    /// Hosts without IPsec.
    pub open_exit: Option<Spanned<RawOpenExit>>,
}

/// `[node]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNode {
    /// Name in the directory.
    pub name: Spanned<String>,
    /// Ed25519 key file.
    pub identity_key_file: Spanned<PathBuf>,
    /// Directory file.
    pub directory: Spanned<PathBuf>,
    /// Where onion keys and sequence numbers are kept.
    pub state_dir: PathBuf,
    /// Socket of `ain status`.
    pub admin_socket: PathBuf,
    /// `/metrics` and `/healthz`.
    pub metrics: Option<SocketAddr>,
}

/// `[network]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawNetwork {
    /// Length of every cell.
    pub cell_profile: CellProfile,
    /// Suite of the creating signal.
    pub suite: Spanned<u8>,
    /// Seconds after which a node's onion key changes.
    pub onion_key_period_s: Spanned<u32>,
    /// Seconds without a packet after which an AIVT ends.
    pub inactivity_s: Spanned<u32>,
    /// Seconds after which an AIVT that this node makes ends in any case; 0: never.
    pub lifetime_s: u32,
    /// AINs on a path, entrance and exit included, at least.
    pub min_path_nodes: Spanned<u8>,
    /// The same, at most.
    pub max_path_nodes: Spanned<u8>,
    /// Length of the slices of time that tickets are good in.
    pub ticket_slice_s: Spanned<u32>,
}

impl Default for RawNetwork {
    fn default() -> Self {
        Self {
            cell_profile: CellProfile::Standard,
            suite: unplaced(3),
            onion_key_period_s: unplaced(86_400),
            inactivity_s: unplaced(300),
            lifetime_s: 0,
            min_path_nodes: unplaced(3),
            max_path_nodes: unplaced(3),
            ticket_slice_s: unplaced(TICKET_SLICE_S),
        }
    }
}

/// A value that the file left to its default.
pub(super) fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// Length of every cell of the network (protocol section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellProfile {
    /// 1408 bytes, for an MTU of 1500.
    Standard,
    /// 8896 bytes, for an MTU of 9000.
    Jumbo,
}

/// `[dpdk]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawDpdk {
    /// Whether packet memory is in hugepages.
    pub huge: RawHuge,
    /// Packet memory in MiB.
    pub memory_mib: Option<u32>,
    /// More arguments of the EAL.
    pub eal_args: Vec<String>,
}

/// `true`, `false` or `"auto"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RawHuge {
    /// Hugepages when the machine has free ones.
    #[default]
    Auto,
    /// Hugepages, or the start fails.
    Always,
    /// Ordinary memory.
    Never,
}

impl<'de> Deserialize<'de> for RawHuge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected true, false or \"auto\"")]
        enum Form {
            Flag(bool),
            Word(Word),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Word {
            Auto,
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Flag(true) => Self::Always,
            Form::Flag(false) => Self::Never,
            Form::Word(Word::Auto) => Self::Auto,
        })
    }
}

/// `[workers]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawWorkers {
    /// A worker is pinned to each.
    pub cores: Spanned<Vec<u16>>,
    /// Core of the control thread.
    pub control_core: Option<Spanned<u16>>,
    /// Cores that open creating signals.
    pub create_cores: Option<Spanned<Vec<u16>>>,
    /// What a worker without packets does.
    pub idle: RawIdle,
    /// Longest sleep of an adaptive worker, in microseconds.
    pub max_sleep_us: Option<Spanned<u32>>,
    /// Whose cryptography runs.
    pub crypto: CryptoChoice,
}

impl Default for RawWorkers {
    fn default() -> Self {
        Self {
            cores: unplaced(vec![0]),
            control_core: None,
            create_cores: None,
            idle: RawIdle::Spin,
            max_sleep_us: None,
            crypto: CryptoChoice::Auto,
        }
    }
}

/// Whose AH and ESP algorithms the workers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CryptoChoice {
    /// The fastest that build and machine have.
    #[default]
    Auto,
    /// Intel IPsec Multi-Buffer, or the start fails.
    IpsecMb,
    /// The one of every machine.
    Portable,
}

/// What a worker without packets does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawIdle {
    /// Polls on: the lowest latency, a whole core.
    #[default]
    Spin,
    /// Pauses, then sleeps, longer while nothing comes.
    Adaptive,
}

/// `[[ports]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPort {
    /// Name in logs and metrics.
    pub name: Spanned<String>,
    /// PCI address or DPDK virtual device.
    pub device: Spanned<String>,
    /// Kernel interface of the same MAC: neighbour look-ups.
    pub interface: Spanned<String>,
    /// Whether that is there already or is made; by default the device tells.
    pub kernel: Option<KernelSide>,
    /// Outer address and its on-link prefix, or one of each family.
    pub address: Spanned<RawAddresses>,
    /// Outer MTU, bytes.
    #[serde(default = "default_mtu")]
    pub mtu: Spanned<u16>,
}

/// How the kernel has its part in a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KernelSide {
    /// It has the interface on which the device stands, and sees every packet itself.
    Shared,
    /// The driver keeps the device from it: the node makes a tap and gives it what is the kernel's.
    Tap,
}

/// One address with its prefix, or a list of them.
#[derive(Debug)]
pub struct RawAddresses(pub Vec<IpNet>);

impl<'de> Deserialize<'de> for RawAddresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected \"ADDRESS/LENGTH\" or a list of such")]
        enum Form {
            One(IpNet),
            Many(Vec<IpNet>),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::One(one) => vec![one],
            Form::Many(many) => many,
        }))
    }
}

fn default_mtu() -> Spanned<u16> {
    unplaced(1500)
}

/// `[[neighbours]]`: a PVT.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNeighbour {
    /// Name in the directory.
    pub node: Spanned<String>,
    /// This node's outer address.
    pub local: Option<Spanned<IpAddr>>,
    /// The neighbour's outer address.
    pub remote: Option<Spanned<IpAddr>>,
    /// Packets a second, dummies among them.
    pub rate: Option<Spanned<u32>>,
    /// What the neighbour may have of this node.
    #[serde(default)]
    pub limits: RawNeighbourLimits,
    /// AH algorithm.
    #[serde(default = "gmac")]
    pub ah: RawAh,
    /// ESP algorithm.
    #[serde(default)]
    pub esp: RawEsp,
    /// Inbound AH.
    pub ah_in: Option<Spanned<RawSa>>,
    /// Outbound AH.
    pub ah_out: Option<Spanned<RawSa>>,
    /// Inbound ESP.
    pub esp_in: Option<Spanned<RawSa>>,
    /// Outbound ESP.
    pub esp_out: Option<Spanned<RawSa>>,
    /// All four by IKE.
    pub(super) ike: Option<Spanned<RawIkePeer>>,
}

fn gmac() -> RawAh {
    RawAh::Aes128Gmac
}

pub(super) fn yes() -> bool {
    true
}

fn default_inner_mtu() -> Spanned<u16> {
    unplaced(1386)
}

/// `[[hosts]]`: a host tunnel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHost {
    /// Name in logs at debug level and in messages.
    pub name: Spanned<String>,
    /// Whether it begins flows, answers them, or both.
    pub role: Role,
    /// How an initiator's source is treated.
    pub option: Option<Spanned<AnonymityOption>>,
    /// This node's outer address.
    pub local: Option<Spanned<IpAddr>>,
    /// The host's outer address.
    pub remote: Spanned<IpAddr>,
    /// Inner prefixes: served for a responder, registered for an initiator.
    #[serde(default)]
    pub addresses: Vec<Spanned<IpNet>>,
    /// Inner MTU, bytes.
    #[serde(default = "default_inner_mtu")]
    pub inner_mtu: Spanned<u16>,
    /// Whether packets to the other end are padded to one size.
    #[serde(default = "yes")]
    pub padding: bool,
    /// Packets a second, dummies among them.
    pub rate: Option<Spanned<u32>>,
    /// What the host may have of this node as an initiator.
    #[serde(default)]
    pub limits: RawHostLimits,
    /// Extended sequence numbers.
    #[serde(default = "yes")]
    pub esn: bool,
    /// AH algorithm.
    #[serde(default)]
    pub ah: RawAh,
    /// ESP algorithm.
    #[serde(default)]
    pub esp: RawEsp,
    /// Inbound AH.
    pub ah_in: Option<Spanned<RawSa>>,
    /// Outbound AH.
    pub ah_out: Option<Spanned<RawSa>>,
    /// Inbound ESP.
    pub esp_in: Option<Spanned<RawSa>>,
    /// Outbound ESP.
    pub esp_out: Option<Spanned<RawSa>>,
    /// All four by IKE.
    pub(super) ike: Option<Spanned<RawIkePeer>>,
}

/// What a host does in flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Begins them: this AIN is its entrance.
    Initiator,
    /// Answers them: this AIN is its exit.
    Responder,
    /// Both.
    Both,
}

impl Role {
    /// Whether it begins flows.
    pub const fn initiates(self) -> bool {
        matches!(self, Self::Initiator | Self::Both)
    }

    /// Whether it answers flows.
    pub const fn responds(self) -> bool {
        matches!(self, Self::Responder | Self::Both)
    }
}

/// How the entrance treats an initiator's source (paper section 4.4, protocol section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnonymityOption {
    /// It reaches the responder as it was sent.
    AsSent,
    /// A fresh private source a flow.
    RandomPrivate,
}

/// AH algorithm by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum RawAh {
    /// RFC 4868.
    #[default]
    #[serde(rename = "hmac-sha2-256-128")]
    HmacSha256,
    /// RFC 4543.
    #[serde(rename = "aes-128-gmac")]
    Aes128Gmac,
    /// RFC 4494.
    #[serde(rename = "aes-cmac-96")]
    AesCmac,
}

impl RawAh {
    /// As the packet path knows it.
    pub const fn algorithm(self) -> MacAlgorithm {
        match self {
            Self::HmacSha256 => MacAlgorithm::HmacSha256_128,
            Self::Aes128Gmac => MacAlgorithm::Aes128Gmac,
            Self::AesCmac => MacAlgorithm::AesCmac96,
        }
    }
}

/// ESP algorithm by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum RawEsp {
    /// RFC 4106, 128-bit key.
    #[default]
    #[serde(rename = "aes-128-gcm-16")]
    Aes128Gcm,
    /// RFC 4106, 256-bit key.
    #[serde(rename = "aes-256-gcm-16")]
    Aes256Gcm,
}

impl RawEsp {
    /// As the packet path knows it.
    pub const fn algorithm(self) -> AeadAlgorithm {
        match self {
            Self::Aes128Gcm => AeadAlgorithm::Aes128Gcm16,
            Self::Aes256Gcm => AeadAlgorithm::Aes256Gcm16,
        }
    }
}

/// One SA with a hand-made key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSa {
    /// SPI.
    pub spi: Spanned<u32>,
    /// Key in hex, salt behind it.
    pub key: Option<Spanned<SecretText>>,
    /// File that holds the same.
    pub key_file: Option<Spanned<PathBuf>>,
}

/// A host's file, for `ain endpoint`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEndpointFile {
    /// The host.
    pub endpoint: RawEndpoint,
    /// Its tunnel.
    pub tunnel: RawTunnel,
}

/// `[endpoint]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEndpoint {
    /// Whether it begins or answers flows.
    pub role: Role,
    /// Kernel interface towards the AIN.
    pub interface: Spanned<String>,
    /// Its outer address.
    pub local: Spanned<IpAddr>,
    /// The AIN's outer address.
    pub remote: Spanned<IpAddr>,
    /// TUN device to make.
    pub tun: Spanned<String>,
    /// Inner addresses, given to the TUN device.
    pub addresses: Spanned<Vec<Spanned<IpNet>>>,
    /// Prefixes routed into the TUN device.
    #[serde(default)]
    pub routes: Vec<Spanned<IpNet>>,
    /// Inner MTU, bytes.
    #[serde(default = "default_inner_mtu")]
    pub inner_mtu: Spanned<u16>,
    /// Whether packets to the other end are padded to one size.
    #[serde(default = "yes")]
    pub padding: bool,
    /// Packets a second, dummies among them.
    pub rate: Option<Spanned<u32>>,
    /// Outer MTU, bytes.
    #[serde(default = "default_mtu")]
    pub mtu: Spanned<u16>,
    /// Where sequence numbers are kept.
    pub state_dir: PathBuf,
    /// What the worker without packets does.
    #[serde(default)]
    pub idle: RawIdle,
    /// Longest sleep of an adaptive worker, in microseconds.
    pub max_sleep_us: Option<Spanned<u32>>,
    /// Whose cryptography runs.
    #[serde(default)]
    pub crypto: CryptoChoice,
}

/// `[tunnel]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTunnel {
    /// Extended sequence numbers.
    #[serde(default = "yes")]
    pub esn: bool,
    /// AH algorithm.
    #[serde(default)]
    pub ah: RawAh,
    /// ESP algorithm.
    #[serde(default)]
    pub esp: RawEsp,
    /// Inbound AH.
    pub ah_in: Spanned<RawSa>,
    /// Outbound AH.
    pub ah_out: Spanned<RawSa>,
    /// Inbound ESP.
    pub esp_in: Spanned<RawSa>,
    /// Outbound ESP.
    pub esp_out: Spanned<RawSa>,
}
