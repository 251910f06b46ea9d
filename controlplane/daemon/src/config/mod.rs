//! Configuration: TOML files into values that need no further check.
//!
//! ```text
//! file --serde, unknown fields refused--> raw types --meaning checked, every problem noted--> validated types
//! ```
//!
//! Three kinds of file: a node's ([`NodeConfig`], has `[node]`), the network's directory ([`Directory`], has `[[nodes]]`) and a
//! host's ([`EndpointConfig`], has `[endpoint]`). A problem is told with file, line and field ([`report::Problem`]).

mod benchmark;
mod capacity;
mod clock;
mod directory;
mod endpoint;
pub mod entry;
mod ike;
mod limits;
mod node;
pub(crate) mod open_exit;
mod own;
mod paths;
mod peers;
mod port;
mod raw;
pub mod report;
pub mod secret;
mod shape;
mod tickets;
mod tunnel;

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ain_controlplane::directory::Directory;
use ain_dataplane::wire::ip::is_single_host;
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use toml::Spanned;
use zeroize::Zeroizing;

pub use benchmark::BenchmarkConfig;
pub use capacity::{Capacity, Hugepages};
pub use clock::{ClockError, RELEASED_UNIX_S, check_clock};
pub use directory::{KEPT_DIRECTORY, load_directory, load_drafts, parse_directory, parse_drafts};
pub use endpoint::EndpointConfig;
pub use ike::{Auth, Credentials, Ike, IkePeer, Rekey};
pub use limits::{HostLimits, NeighbourLimits};
pub use node::{Dpdk, Huge, Idle, Network, NodeConfig, Workers, public_of};
pub use open_exit::OpenExit;
pub use own::Own;
pub use peers::{Host, Neighbour};
pub use port::Port;
pub use raw::{AnonymityOption, CellProfile, CryptoChoice, KernelSide, Role};
pub use tickets::Tickets;
pub use tunnel::{HandMade, Keys, Sa, Tunnel};

use report::{Checker, Problems};

/// Longest configuration file, bytes: a directory of some ten thousand AINs, or of a few thousand with keys of suite 4.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Fields of a tunnel that hold its hand-made keys.
pub(crate) const SA_FIELDS: [&str; 4] = ["ah_in", "ah_out", "esp_in", "esp_out"];
/// Longest name of an AIN, a host or a port, bytes.
const NAME_BYTES_MAX: usize = 63;

/// A file of any kind, checked.
#[derive(Debug)]
pub enum AnyConfig {
    /// A node's.
    Node(Box<NodeConfig>),
    /// The network's directory.
    Directory(Directory),
    /// A host's.
    Endpoint(Box<EndpointConfig>),
}

/// Reads and checks a file of any kind, and the clock `now`.
pub fn check_any(path: &Path, now: SystemTime) -> Result<AnyConfig, Problems> {
    let (_, sections) = parse::<Sections>(path)?;
    if sections.nodes.is_some() {
        check_clock(now).map_err(|error| Problems::of_file(path, error))?;
        let directory = load_directory(path)?;
        check_times(path, &directory, now).map(|()| AnyConfig::Directory(directory))
    } else if sections.endpoint.is_some() {
        EndpointConfig::load(path, now).map(|config| AnyConfig::Endpoint(Box::new(config)))
    } else {
        NodeConfig::load_strictly(path, now).map(|config| AnyConfig::Node(Box::new(config)))
    }
}

/// Every entry holds at `now`. A running node does without those that do not; who passes a directory on wants to know.
fn check_times(path: &Path, directory: &Directory, now: SystemTime) -> Result<(), Problems> {
    let wall = unix_seconds(now);
    let over = directory
        .entries()
        .iter()
        .filter_map(|entry| entry.check_valid(wall).err());
    let problems: Vec<_> = over.flat_map(|error| Problems::of_file(path, error).0).collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Problems(problems))
    }
}

/// `now` as Unix time, seconds.
pub fn unix_seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The sections that tell the kinds of file apart.
#[derive(Deserialize)]
struct Sections {
    endpoint: Option<IgnoredAny>,
    nodes: Option<IgnoredAny>,
}

/// The text of a configuration file.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, Problems> {
    let unreadable = |error: std::io::Error| Problems::of_file(path, error);
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(Problems::of_file(
            path,
            format_args!("longer than {FILE_BYTES_MAX} bytes"),
        ));
    }
    // Room from the start: a string that grows leaves copies of keys behind.
    let mut text = Zeroizing::new(String::with_capacity(bytes as usize + 1));
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(text)
}

/// Shape and types of a file; stops at the first problem, as the parser does.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path) -> Result<(Checker, T), Problems> {
    let text = read(path)?;
    parse_text(path, &text)
}

fn parse_text<T: DeserializeOwned>(path: &Path, text: &str) -> Result<(Checker, T), Problems> {
    let mut checker = Checker::new(path, text);
    let place = |error: &toml::de::Error| error.span().unwrap_or(0..0);
    let deserializer = match toml::Deserializer::parse(text) {
        Ok(deserializer) => deserializer,
        Err(error) => {
            checker.at(place(&error), "", error.message());
            return Err(checker.finish::<()>(None).unwrap_err());
        }
    };
    match serde_path_to_error::deserialize(deserializer) {
        Ok(raw) => Ok((checker, raw)),
        Err(error) => {
            let field = field_path(error.path());
            // The parser quotes the value it did not expect: not if that is a key.
            let of_an_sa = field.split('.').any(|part| SA_FIELDS.contains(&part));
            let message = if field.ends_with(".key") {
                "expected hex digits in quotes"
            } else if of_an_sa && !field.ends_with(".spi") {
                "expected { spi = NUMBER, key = \"HEX\" } or { spi = NUMBER, key_file = \"PATH\" }"
            } else {
                error.inner().message()
            };
            checker.at(place(error.inner()), field, message);
            Err(checker.finish::<()>(None).unwrap_err())
        }
    }
}

/// The path in the words of the file: without the parser's wrappers of spans.
fn field_path(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut field = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => field.push_str(&format!("[{index}]")),
            Segment::Map { key } if key.starts_with("$__") => {}
            Segment::Map { key } if field.is_empty() => field.push_str(key),
            Segment::Map { key } => field.push_str(&format!(".{key}")),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    field
}

/// A file with keys in it must be its owner's alone.
fn check_private(checker: &mut Checker) {
    let path = checker.file().to_owned();
    let outcome = File::open(&path)
        .map_err(|error| error.to_string())
        .and_then(|file| secret::check_mode(&path, &file).map_err(|error| error.to_string()));
    if let Err(message) = outcome {
        checker.whole(format_args!("has keys in it, and {message}"));
    }
}

fn check_name(checker: &mut Checker, name: &Spanned<String>, field: &str) {
    let text = name.get_ref();
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(good) {
        checker.at(name.span(), field, "a name is 1 to 63 of a-z, 0-9 and -");
    }
}

/// An address of one host that others can send to, of either family.
fn check_address(checker: &mut Checker, address: &Spanned<IpAddr>, field: &str) {
    let ip = address.get_ref();
    let is_special = match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    if is_special {
        checker.at(address.span(), field, format_args!("{ip} means nothing to other hosts"));
    } else if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        checker.at(address.span(), field, format_args!("{ip} is no host's address"));
    }
}

/// An address that a host can have inside its tunnel.
fn check_inner(checker: &mut Checker, net: &Spanned<IpNet>, field: &str) {
    let ip = net.get_ref().addr();
    if !is_single_host(ip) {
        checker.at(net.span(), field, format_args!("{ip} is no host's address"));
    }
}

/// A prefix of either family, not an address with a length.
fn check_prefix(checker: &mut Checker, prefix: &Spanned<IpNet>, field: &str) {
    let net = prefix.get_ref();
    let mapped = match net {
        IpNet::V4(_) => None,
        IpNet::V6(net) => net.addr().to_ipv4_mapped(),
    };
    if net.trunc() != *net {
        checker.at(
            prefix.span(),
            field,
            format_args!("{net} has bits set behind its prefix; {} is meant?", net.trunc()),
        );
    } else if let Some(mapped) = mapped {
        checker.at(
            prefix.span(),
            field,
            format_args!("{net} is IPv4 written as IPv6; {mapped} is meant?"),
        );
    } else if net.prefix_len() == net.max_prefix_len() {
        check_inner(checker, prefix, field);
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

#[cfg(test)]
pub(crate) mod tests;
