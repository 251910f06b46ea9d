//! A node's file: who it is, its ports and threads, its PVTs and host tunnels.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ain_controlplane::directory::{Directory, Entry};
use ain_controlplane::signal::suite;
use ain_dataplane::id::PeerId;
use ed25519_dalek::SigningKey;
use toml::Spanned;

use super::benchmark::{BenchmarkConfig, check_benchmark};
use super::capacity::{Capacity, check_capacity};
use super::directory::{KEPT_DIRECTORY, load_directory};
use super::ike::{Ike, check_ike};
use super::open_exit::{OpenExit, Surroundings, check_open_exit};
use super::paths::check_paths;
use super::peers::{Host, Neighbour, Peers, check_hosts, check_neighbours};
use super::port::{Port, check_ports};
use super::raw::{CellProfile, CryptoChoice, RawDpdk, RawHuge, RawIdle, RawNetwork, RawNode, RawNodeFile, RawWorkers};
use super::report::{Checker, Problems};
use super::secret::{KeyMaterial, read_identity};
use super::shape::fill_own_slots;
use super::tickets::{Tickets, check_tickets};
use super::tunnel::Tunnel;
use super::{check_clock, check_private, parse_text, read};

/// Nodes of a path, entrance and exit included (protocol section 5: 1 to 5 AINs after the entrance).
const PATH_NODES: std::ops::RangeInclusive<u8> = 2..=6;
/// Time of an onion key, seconds: tests turn them over fast, nobody keeps one for more than a month.
const ONION_KEY_PERIOD_S: std::ops::RangeInclusive<u32> = 2..=30 * 86_400;
/// Longest inactivity, seconds: a day.
const INACTIVITY_S_MAX: u32 = 86_400;
/// Lengths of slices that leave room for clocks that differ, and keep the memory of spent tickets small.
const SLICES_S: std::ops::RangeInclusive<u32> = 240..=86_400;
/// Longest sleep of an adaptive worker, microseconds.
const SLEEP_US_MAX: u32 = 10_000;
/// Sleep of an adaptive worker unless configured, microseconds.
const SLEEP_US_DEFAULT: u32 = 50;
/// Workers at most: their number is one byte of every IV.
const WORKERS_MAX: usize = 64;
/// Threads that open creating signals at most.
const CREATE_CORES_MAX: usize = 64;
/// A node's configuration, checked.
#[derive(Debug)]
pub struct NodeConfig {
    /// Its name in the directory.
    pub name: String,
    /// Ed25519 secret key, 32 bytes.
    pub identity_key: KeyMaterial,
    /// Where onion keys and sequence numbers are kept.
    pub state_dir: PathBuf,
    /// Socket of `ain status`.
    pub admin_socket: PathBuf,
    /// `/metrics` and `/healthz`, if wanted.
    pub metrics: Option<SocketAddr>,
    /// Constants of the network.
    pub network: Network,
    /// For how long a guard stays one; zero: no guards.
    pub guard_time: Duration,
    /// DPDK.
    pub dpdk: Dpdk,
    /// Threads.
    pub workers: Workers,
    /// Room.
    pub capacity: Capacity,
    /// Tickets, own and others'.
    pub tickets: Tickets,
    /// Ports; at least one.
    pub ports: Vec<Port>,
    /// PVTs. Their [`PeerId`]s count from 0.
    pub neighbours: Vec<Neighbour>,
    /// Host tunnels. Their [`PeerId`]s follow those of the neighbours.
    pub hosts: Vec<Host>,
    /// Keys by IKE.
    pub ike: Ike,
    /// Static AIVTs, on a node that is measured and serves nobody.
    pub benchmark: Option<BenchmarkConfig>,
    /// How hosts without IPsec are reached, if they are.
    pub open_exit: Option<OpenExit>,
    /// The file of the network's directory.
    pub directory_file: PathBuf,
    /// What was in it, or in the one that the node took last.
    pub directory: Directory,
    /// Why it is the latter.
    pub directory_refused: Option<Problems>,
}

/// Constants that every node of a network shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Length of every cell.
    pub cell_profile: CellProfile,
    /// Suite of the creating signal.
    pub suite: u8,
    /// How long a node's onion key is its current one.
    pub onion_key_period: Duration,
    /// Without a packet for this long an AIVT ends.
    pub inactivity: Duration,
    /// Age at which AIVTs made here end in any case, seconds; 0: none.
    pub lifetime_s: u32,
    /// AINs on a path, entrance and exit included, at least.
    pub min_path_nodes: u8,
    /// The same, at most.
    pub max_path_nodes: u8,
    /// Length of the slices of time that tickets are good in, seconds.
    pub ticket_slice_s: u32,
}

/// Settings of DPDK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dpdk {
    /// Where packet memory lies.
    pub huge: Huge,
    /// Packet memory in MiB; `None` leaves it to the number of ports and workers.
    pub memory_mib: Option<u32>,
    /// More arguments of the EAL.
    pub eal_args: Vec<String>,
}

/// Where packet memory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Huge {
    /// In hugepages when the machine has free ones.
    Auto,
    /// In hugepages, or the start fails.
    Always,
    /// In ordinary memory.
    Never,
}

/// Settings of the threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// A worker is pinned to each; at least one.
    pub cores: Vec<u16>,
    /// Core of the control thread; `None` lets the kernel choose.
    pub control_core: Option<u16>,
    /// A thread that opens creating signals runs on each, one anywhere on `None`; at least one.
    pub create_cores: Vec<Option<u16>>,
    /// What a worker without packets does.
    pub idle: Idle,
    /// Whose cryptography they run.
    pub crypto: CryptoChoice,
}

/// What a worker without packets does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Polls on.
    Spin,
    /// Pauses, then sleeps, longer while nothing comes.
    Adaptive {
        /// Longest sleep.
        max_sleep: Duration,
    },
}

impl NodeConfig {
    /// Reads and checks the file at `path`, the files it names, and the clock `now`.
    pub fn load(path: &Path, now: SystemTime) -> Result<Self, Problems> {
        Self::of_text(path, &read(path)?, now)
    }

    /// The same of `text`, which the file holds.
    pub fn of_text(path: &Path, text: &str, now: SystemTime) -> Result<Self, Problems> {
        let (mut checker, raw) = parse_text::<RawNodeFile>(path, text)?;
        let config = check(&mut checker, raw, now);
        checker.finish(config)
    }

    /// The same, for who wants no node that runs on the directory it took last: that the one configured is refused is an error.
    pub fn load_strictly(path: &Path, now: SystemTime) -> Result<Self, Problems> {
        let mut config = Self::load(path, now)?;
        match config.directory_refused.take() {
            Some(refused) => Err(refused),
            None => Ok(config),
        }
    }

    /// This node's entry in the directory.
    pub fn own_entry(&self) -> Option<&Entry> {
        self.directory.named(&self.name)
    }

    /// Every tunnel with its peer and the port it is reached over: neighbours, then hosts.
    pub fn tunnels(&self) -> impl Iterator<Item = (PeerId, usize, &Tunnel)> {
        let neighbours = self
            .neighbours
            .iter()
            .map(|neighbour| (neighbour.port, &neighbour.tunnel));
        let hosts = self.hosts.iter().map(|host| (host.port, &host.tunnel));
        neighbours
            .chain(hosts)
            .zip(0..)
            .map(|((port, tunnel), id)| (PeerId(id), port, tunnel))
    }
}

fn check(checker: &mut Checker, raw: RawNodeFile, now: SystemTime) -> Option<NodeConfig> {
    if let Err(error) = check_clock(now) {
        checker.whole(error);
    }
    let (directory, directory_refused) = listed_directory(checker, &raw.node);
    let listed = directory
        .as_ref()
        .map(|directory| directory.named(raw.node.name.get_ref()));
    let identity_key = check_identity(checker, &raw.node, listed);
    let network = check_network(checker, &raw.network);
    let dpdk = check_dpdk(raw.dpdk);
    let workers = check_workers(checker, raw.workers);
    let capacity = check_capacity(checker, raw.capacity);
    let tickets = check_tickets(checker, &raw.tickets);
    let ports = check_ports(checker, raw.ports, network.cell_profile);
    if raw.neighbours.len() + raw.hosts.len() > usize::from(PeerId::INTERNET_V6.0) {
        checker.whole("more than 65534 neighbours and hosts");
    }
    let mut peers = Peers::new(raw.node.name.get_ref(), directory.as_ref(), &ports);
    let mut neighbours = check_neighbours(checker, &mut peers, raw.neighbours);
    fill_own_slots(neighbours.as_deref_mut().unwrap_or_default(), network.cell_profile);
    let hosts = check_hosts(checker, &mut peers, raw.hosts);
    let ike = check_ike(checker, raw.ike, raw.node.name.get_ref());
    peers.check_credentials(checker, &ike);
    let benchmark = raw.benchmark.map(|benchmark| {
        let count = |peers: Option<usize>| peers.unwrap_or_default();
        let counts = (
            count(neighbours.as_ref().map(Vec::len)),
            count(hosts.as_ref().map(Vec::len)),
        );
        let by_ike = hosts.iter().flatten().any(|host| host.tunnel.ike().is_some());
        if by_ike || neighbours.iter().flatten().any(|one| one.tunnel.ike().is_some()) {
            checker.at(
                benchmark.span(),
                "benchmark",
                "static AIVTs need tunnels with hand-made keys, not `ike`",
            );
        }
        check_benchmark(checker, &benchmark, counts, capacity)
    });
    if peers.has_inline_keys() {
        check_private(checker);
    }
    let open_exit = raw.open_exit.and_then(|open_exit| {
        let around = Surroundings {
            ports: &ports,
            neighbours: neighbours.as_deref().unwrap_or_default(),
            hosts: hosts.as_deref().unwrap_or_default(),
            directory: directory.as_ref(),
            workers: workers.cores.len(),
        };
        check_open_exit(checker, open_exit, &around)
    });
    let guard_time = check_paths(checker, &raw.paths);
    // What was found may only be that the directory in use is not the one configured.
    if let Some(refused) = directory_refused.as_ref().filter(|_| checker.has_found()) {
        checker.whole(format_args!(
            "read beside {KEPT_DIRECTORY} of state_dir, as the directory configured is refused:"
        ));
        checker.adopt(refused.clone());
    }
    Some(NodeConfig {
        name: raw.node.name.into_inner(),
        identity_key: identity_key?,
        state_dir: checker.resolve(&raw.node.state_dir),
        admin_socket: checker.resolve(&raw.node.admin_socket),
        metrics: raw.node.metrics,
        network,
        guard_time,
        dpdk,
        workers,
        capacity,
        tickets,
        ports,
        neighbours: neighbours?,
        hosts: hosts?,
        ike,
        benchmark,
        open_exit,
        directory_file: checker.resolve(raw.node.directory.get_ref()),
        directory: directory?,
        directory_refused,
    })
}

/// The directory that is configured. If that cannot be used, as a running node would not, the one that the node took last, with what is
/// wrong; without such a one, that is a problem.
fn listed_directory(checker: &mut Checker, raw: &RawNode) -> (Option<Directory>, Option<Problems>) {
    let file = checker.resolve(raw.directory.get_ref());
    let name = raw.name.get_ref();
    let lists_node = |directory: &Directory| directory.named(name).is_some();
    let configured = load_directory(&file);
    let refused = match &configured {
        Ok(directory) if lists_node(directory) => return (configured.ok(), None),
        Ok(_) => Problems::of_file(&file, format_args!("no AIN named `{name}`")),
        Err(problems) => problems.clone(),
    };
    let kept = load_directory(&checker.resolve(&raw.state_dir).join(KEPT_DIRECTORY));
    if let Some(kept) = kept.ok().filter(lists_node) {
        return (Some(kept), Some(refused));
    }
    (configured.map_err(|problems| checker.adopt(problems)).ok(), None)
}

/// The identity key can be read and is that of the node's entry, if there is a directory to list one.
pub(super) fn check_identity(
    checker: &mut Checker,
    raw: &RawNode,
    listed: Option<Option<&Entry>>,
) -> Option<KeyMaterial> {
    let name = raw.name.get_ref();
    if listed == Some(None) {
        checker.at(
            raw.name.span(),
            "node.name",
            format_args!("no AIN named `{name}` in the directory"),
        );
    }
    let (span, field) = (raw.identity_key_file.span(), "node.identity_key_file");
    let key = match read_identity(&checker.resolve(raw.identity_key_file.get_ref())) {
        Ok(key) => key,
        Err(error) => {
            checker.at(span, field, error);
            return None;
        }
    };
    let public = public_of(key.expose_array()?);
    if listed.flatten().is_some_and(|entry| entry.identity != public) {
        let message = "not the secret half of the key that the directory lists for this node";
        checker.at(span, field, message);
    }
    Some(key)
}

/// The public half of an identity key.
pub fn public_of(secret: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(secret).verifying_key().to_bytes()
}

pub(super) fn check_network(checker: &mut Checker, raw: &RawNetwork) -> Network {
    let suite = *raw.suite.get_ref();
    if suite::by_id(suite).is_none() {
        checker.at(
            raw.suite.span(),
            "network.suite",
            format_args!("there is no suite {suite}, but 1 to 4"),
        );
    }
    let period_s = *raw.onion_key_period_s.get_ref();
    if !ONION_KEY_PERIOD_S.contains(&period_s) {
        checker.at(
            raw.onion_key_period_s.span(),
            "network.onion_key_period_s",
            format_args!(
                "{period_s} is not {} to {}",
                ONION_KEY_PERIOD_S.start(),
                ONION_KEY_PERIOD_S.end()
            ),
        );
    }
    let inactivity_s = *raw.inactivity_s.get_ref();
    if !(1..=INACTIVITY_S_MAX).contains(&inactivity_s) {
        checker.at(
            raw.inactivity_s.span(),
            "network.inactivity_s",
            format_args!("{inactivity_s} is not 1 to {INACTIVITY_S_MAX}"),
        );
    }
    let (min, max) = (*raw.min_path_nodes.get_ref(), *raw.max_path_nodes.get_ref());
    for (span, field, nodes) in [
        (raw.min_path_nodes.span(), "network.min_path_nodes", min),
        (raw.max_path_nodes.span(), "network.max_path_nodes", max),
    ] {
        if !PATH_NODES.contains(&nodes) {
            checker.at(span, field, format_args!("{nodes} is not 2 to 6 AINs"));
        }
    }
    if min > max {
        checker.at(
            raw.min_path_nodes.span(),
            "network.min_path_nodes",
            format_args!("{min} is above max_path_nodes, {max}"),
        );
    }
    let ticket_slice_s = *raw.ticket_slice_s.get_ref();
    if !SLICES_S.contains(&ticket_slice_s) {
        checker.at(
            raw.ticket_slice_s.span(),
            "network.ticket_slice_s",
            format_args!("{ticket_slice_s} is not {} to {}", SLICES_S.start(), SLICES_S.end()),
        );
    }
    Network {
        cell_profile: raw.cell_profile,
        suite,
        onion_key_period: Duration::from_secs(period_s.into()),
        inactivity: Duration::from_secs(inactivity_s.into()),
        lifetime_s: raw.lifetime_s,
        min_path_nodes: min,
        max_path_nodes: max,
        ticket_slice_s,
    }
}

fn check_dpdk(raw: RawDpdk) -> Dpdk {
    let huge = match raw.huge {
        RawHuge::Auto => Huge::Auto,
        RawHuge::Always => Huge::Always,
        RawHuge::Never => Huge::Never,
    };
    Dpdk {
        huge,
        memory_mib: raw.memory_mib,
        eal_args: raw.eal_args,
    }
}

fn check_workers(checker: &mut Checker, raw: RawWorkers) -> Workers {
    let span = raw.cores.span();
    let cores = raw.cores.into_inner();
    let repeated = cores.iter().enumerate().find(|(at, core)| cores[..*at].contains(core));
    if let Some((_, core)) = repeated {
        checker.at(
            span.clone(),
            "workers.cores",
            format_args!("core {core} is named twice"),
        );
    }
    if cores.is_empty() || cores.len() > WORKERS_MAX {
        checker.at(
            span,
            "workers.cores",
            format_args!("{} cores where 1 to {WORKERS_MAX} are due", cores.len()),
        );
    }
    let idle = check_idle(checker, raw.idle, raw.max_sleep_us, "workers.max_sleep_us");
    if let Some(core) = raw
        .control_core
        .as_ref()
        .filter(|core| idle == Idle::Spin && cores.contains(core.get_ref()))
    {
        checker.at(
            core.span(),
            "workers.control_core",
            "a worker that spins on that core would starve the control thread",
        );
    }
    let control_core = raw.control_core.map(Spanned::into_inner);
    Workers {
        create_cores: check_create_cores(checker, raw.create_cores, control_core, &cores, idle),
        cores,
        control_core,
        idle,
        crypto: raw.crypto,
    }
}

/// By default one thread, where the control thread is.
fn check_create_cores(
    checker: &mut Checker,
    raw: Option<Spanned<Vec<u16>>>,
    control_core: Option<u16>,
    workers: &[u16],
    idle: Idle,
) -> Vec<Option<u16>> {
    let Some(raw) = raw else {
        return vec![control_core];
    };
    let (span, cores) = (raw.span(), raw.into_inner());
    if cores.is_empty() || cores.len() > CREATE_CORES_MAX {
        let message = format_args!("{} cores where 1 to {CREATE_CORES_MAX} are due", cores.len());
        checker.at(span.clone(), "workers.create_cores", message);
    }
    if let Some(core) = cores.iter().find(|core| idle == Idle::Spin && workers.contains(core)) {
        let message = format_args!("a worker that spins on core {core} would starve the thread");
        checker.at(span, "workers.create_cores", message);
    }
    cores.into_iter().map(Some).collect()
}

/// Idle policy of a worker.
pub(super) fn check_idle(
    checker: &mut Checker,
    idle: RawIdle,
    max_sleep_us: Option<Spanned<u32>>,
    field: &str,
) -> Idle {
    let sleep_us = max_sleep_us.as_ref().map_or(SLEEP_US_DEFAULT, |sleep| *sleep.get_ref());
    let span = max_sleep_us.map(|sleep| sleep.span());
    match (idle, span) {
        (RawIdle::Spin, Some(span)) => checker.at(
            span,
            field,
            "a worker that spins never sleeps: leave it out, or `idle = \"adaptive\"`",
        ),
        (RawIdle::Adaptive, Some(span)) if !(1..=SLEEP_US_MAX).contains(&sleep_us) => {
            checker.at(span, field, format_args!("{sleep_us} is not 1 to {SLEEP_US_MAX}"));
        }
        _ => {}
    }
    match idle {
        RawIdle::Spin => Idle::Spin,
        RawIdle::Adaptive => Idle::Adaptive {
            max_sleep: Duration::from_micros(sleep_us.into()),
        },
    }
}
