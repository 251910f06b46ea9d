//! `ain run`: one appliance, from its configuration to its last packet.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::SystemTime;

use ain_controlplane::node::Node;
use ain_controlplane::table_writer::{Rate, Steering, TableWriter, TunnelSpec};
use ain_crypto::{Backend, Portable};
use ain_dataplane::engine::Engine;
use ain_dataplane::handoff::Mesh;
use ain_dataplane::id::{Now, PeerId, WorkerId};
use ain_dataplane::limits::{HANDOFF_RING, SAS_OF_A_KIND};
use ain_dataplane::packet::BufPool;
use ain_dataplane::peers::Peers;
use ain_dataplane::publish::published;
use ain_dataplane::table::flow_table;
use ain_worker::idle::{Adaptive, IdlePolicy};
use ain_worker::kernel::KernelEnd;
use ain_worker::pin::{keep_off, set_up_thread};
use ain_worker::run::{Clock, Worker, reins};
use anyhow::{Context, ensure};
use rand::rngs::{StdRng, SysRng};
use rand::{Rng, RngExt, SeedableRng};
use tracing::{info, warn};

use crate::config::{Idle, KEPT_DIRECTORY, NodeConfig, OpenExit, read};
use crate::control_thread::{AllReins, Asker, ControlThread, Directions, Request, wall};
use crate::crypto::Chosen;
use crate::durable::Durable;
use crate::hand_made::{self, Place};
use crate::hardware::{Hardware, PortView};
use crate::ike::{Ike, Sources};
use crate::neighbours::{Neighbours, Target};
use crate::openers::Openers;
use crate::rates::RateWatch;
use crate::reload::{self, Known, Reloader};
use crate::shared_interface::KernelSilence;
use crate::shutdown::Shutdown;
use crate::team::Team;
use crate::ticket_log::TicketLog;
use crate::upkeep::{ENTRY_FILE, FileSource, OwnKeys, SteadyWall, Upkeep};
use crate::{admin, benchmark, guards, ike, metrics, room, secrets, tickets, translate};

/// What asks for reports and reloads, and where that arrives.
type Asked = (Arc<Asker>, Receiver<Request>, Arc<Reloader>);

/// Runs the node that a file describes until it is told to stop.
///
/// # Errors
/// [`crate::config::report::Problems`] for the file; what could not be had, otherwise.
pub fn node(path: &Path) -> anyhow::Result<()> {
    protect_memory()?;
    let text = read(path)?;
    let config = NodeConfig::of_text(path, &text, SystemTime::now())?;
    let by_hand = config
        .tunnels()
        .filter_map(|(peer, _, tunnel)| Some((peer, tunnel.hand_made()?)));
    let known = Known::of(&text, by_hand);
    drop(text);
    warn_of_test_builds();
    if let Some(problems) = &config.directory_refused {
        warn!(
            "the node starts with the directory that it took last, for the one that is configured cannot be used: {problems}"
        );
    }
    keep_off(&config.workers.cores).context("workers.cores")?;
    // Until the control thread runs, whoever asks for a reload waits.
    let (asker, requests) = Asker::new(thread::current());
    let asker = Arc::new(asker);
    let reloader = Arc::new(Reloader::new(path, reload::of_node, known, Arc::clone(&asker)));
    reload::on_hangup(Arc::clone(&reloader))?;
    let asked = (asker, requests, reloader);
    room::place::<Portable>(&config)?;
    let crypto = Chosen::choose(config.workers.crypto).context("workers.crypto")?;
    benchmark::claim(&config.state_dir, config.benchmark.is_some())?;
    // First of all its lock: a second instance must not touch the ports of the first.
    let durable = Durable::open(&config.state_dir)?;
    #[cfg(feature = "dpdk")]
    let hardware = crate::hardware::dpdk::open(&config)?;
    #[cfg(not(feature = "dpdk"))]
    let hardware = crate::hardware::kernel::open(&config)?;
    match crypto {
        #[cfg(feature = "ipsec-mb")]
        Chosen::IpsecMb(_) => start((asked, config), durable, hardware, crypto, || {
            Ok(ipsec_mb_sys::IpsecMb::new()?)
        }),
        Chosen::Portable => start((asked, config), durable, hardware, crypto, || Ok(Portable::default())),
    }
}

/// Before any key is read: no core dump, and no swap where the machine allows that.
///
/// # Errors
/// Core dumps cannot be forbidden.
pub(crate) fn protect_memory() -> anyhow::Result<()> {
    secrets::forbid_core_dumps().context("core dumps cannot be forbidden")?;
    if let Err(error) = secrets::lock_memory() {
        warn!("{error}");
    }
    Ok(())
}

fn warn_of_test_builds() {
    if cfg!(feature = "test-dump") {
        warn!(
            "TEST BUILD: anybody with access to the admin socket can read this node's tables; never let it serve users"
        );
    }
    if cfg!(feature = "test-late-shaper") {
        warn!("TEST BUILD: slots show what they carry by their time; never let it serve users");
    }
    if cfg!(feature = "test-no-onion") {
        warn!("TEST BUILD: cells are not encrypted; never let it serve users");
    }
    if cfg!(feature = "test-tag") {
        warn!("TEST BUILD: cells that are passed on are changed; never let it serve users");
    }
}

/// `backend` makes one for each worker, of the kind that `chosen` names.
fn start<C: Backend, A: BufPool + Send + 'static>(
    ((asker, requests, reloader), config): (Asked, NodeConfig),
    mut durable: Durable,
    mut hardware: Hardware<A>,
    chosen: Chosen,
    backend: impl Fn() -> anyhow::Result<C>,
) -> anyhow::Result<()> {
    let workers = u8::try_from(hardware.stations.len()).context("too many workers")?;
    let mut rng = StdRng::try_from_rng(&mut SysRng).context("the system gives no random numbers")?;
    let upkeep = upkeep(&config)?;
    let keys = upkeep.keys.onion.keys(upkeep.period)?;
    let mut node_config = translate::control_config(&config, &durable, keys, guards::load(&config.state_dir)?)?;
    let slice_s = config.network.ticket_slice_s;
    let (ticket_log, past) = TicketLog::open(&config.state_dir, slice_s, wall(), &mut durable)?;
    if config.benchmark.is_none() {
        node_config.tickets = Some(tickets::of(&config, past)?);
    }
    let clock = Clock::start();
    let capacity = room::of_each_worker(&config);
    let (table, reader) = flow_table(
        // One more of a tunnel while it takes the place of another.
        capacity.tvts as usize + config.tunnels().count() * (SAS_OF_A_KIND + 1),
        [rng.next_u64(), rng.next_u64()],
    );
    let mut writer = TableWriter::new(table, workers, capacity);
    writer.steer_by(steering(&config, &mut hardware.views));
    let benchmark = config.benchmark.as_ref().map(|asked| benchmark::of(&config, asked));
    if let Some(asked) = config.benchmark {
        benchmark::warn_of(&asked);
        if !asked.anti_replay {
            writer.without_anti_replay();
        }
    }
    let mut rates = RateWatch::default();
    let mut peers = install_tunnels(&config, workers, &mut writer, &mut rates)?;
    let place = &mut Place {
        workers,
        writer: &mut writer,
        durable: &mut durable,
    };
    let by_hand = config
        .tunnels()
        .filter_map(|(peer, _, tunnel)| Some((peer, tunnel, tunnel.hand_made()?)));
    let (associations, hand_made) = hand_made::install(clock.now(), by_hand, place)?;
    if let (Some(own), Some(entry)) = (node_config.own_peer(), config.own_entry()) {
        writer.add_own(own, WorkerId(0));
        peers.push(translate::own_peer(entry.address, WorkerId(0)));
    }
    if let Some(benchmark) = &benchmark {
        benchmark.install(&mut writer).context("static AIVTs of [benchmark]")?;
    }
    let open_exit = node_config.open_exit.clone();
    let mut seeds = StdRng::from_rng(&mut rng);
    let node = Node::new(node_config, clock.now(), Box::new(rng))?;

    let (publisher, readers) = published(
        Peers::new(peers, translate::profile(config.network.cell_profile))
            .with_rates(config.tunnels().map(|(_, _, tunnel)| tunnel.shape.rate != Rate::None))
            .with_uplinks(translate::uplinks(&config)),
        usize::from(workers),
    );
    let shutdown = Shutdown::on_signals(thread::current())?;
    let mut team = Team::default();
    let (mut all_reins, mut counters) = (Vec::new(), Vec::new());
    let meshes = Mesh::new(usize::from(workers), HANDOFF_RING).into_ends();
    for ((number, (station, mesh)), peers) in (0..workers).zip(hardware.stations.into_iter().zip(meshes)).zip(readers) {
        let profile = translate::profile(config.network.cell_profile);
        let mut engine = Engine::new(WorkerId(number), backend()?, reader.clone(), capacity, profile);
        if let Some(settings) = &open_exit {
            engine.open_exit(Arc::clone(settings), seeds.random());
        }
        counters.push(engine.counters());
        let (rein, bit) = reins();
        all_reins.push(rein);
        let worker = Worker {
            engine,
            ports: station.ports,
            device: None,
            kernel: station.kernel,
            pool: station.pool,
            peers,
            bit,
            mesh,
            control: thread::current(),
            idle: idle_policy(config.workers.idle),
            clock,
        };
        let core = config
            .workers
            .cores
            .get(usize::from(number))
            .map(|core| usize::from(*core));
        team.add(core, worker, &hardware.on_thread, &shutdown)?;
    }
    counters.extend(hardware.taps.iter().map(KernelEnd::counters));
    team.add_taps(hardware.taps, clock, &shutdown)?;
    let openers = Openers::start(&config.workers.create_cores, &thread::current(), &shutdown)?;
    if let Some(core) = config.workers.control_core {
        set_up_thread("ain-control", Some(usize::from(core)))?;
    }
    let _silence = KernelSilence::hold().context("raw sockets that keep the kernel from answering AH and ESP")?;
    let asker: Arc<dyn crate::report::Source> = asker;
    let _admin = admin::serve(&config.admin_socket, Arc::clone(&asker), Arc::clone(&reloader))?;
    if let Some(address) = config.metrics {
        let bound = metrics::serve(address, &asker).with_context(|| format!("metrics on {address}"))?;
        info!(%bound, "metrics");
    }
    let sources = Sources {
        hand_made,
        ike: start_ike(&config, workers, StdRng::from_rng(&mut seeds))?,
    };
    let neighbours = Neighbours::new(targets(&config))?;
    // Their keys are in the packet path.
    drop((config.neighbours, config.hosts));
    let (_upkeep, updates) = upkeep.start()?;
    info!(name = config.name, workers, "running");
    let durable = ControlThread {
        name: config.name,
        crypto: chosen.report(),
        node,
        openers,
        writer,
        benchmark,
        reins: AllReins(all_reins),
        directions: Directions::new(neighbours, publisher),
        durable,
        state_dir: config.state_dir,
        updates,
        directories: [0; 2],
        associations,
        sources,
        reloads: reloader.counts(),
        pool: hardware.control_pool,
        counters,
        rates,
        views: hardware.views,
        clock,
        requests,
        ticket_log,
        unreserved: std::collections::BTreeMap::new(),
        next_complaint: Now(0),
    }
    .run(&shutdown);
    drop(team);
    durable.close()?;
    drop(hardware.on_thread);
    drop(hardware.rest);
    ensure!(!shutdown.failed(), "a thread ended before it was told to");
    Ok(())
}

/// The onion keys of now are there, and the node's entry says so.
fn upkeep(config: &NodeConfig) -> anyhow::Result<Upkeep> {
    let wall = wall();
    let keys = OwnKeys::open(&config.identity_key, &config.state_dir, &config.network)?;
    let upkeep = Upkeep {
        source: Box::new(FileSource::new(&config.directory_file)),
        period: keys.onion.period_of(wall),
        keys,
        entry_file: config.state_dir.join(ENTRY_FILE),
        kept_file: config.state_dir.join(KEPT_DIRECTORY),
        directory: config.directory.clone(),
        open_exit: config.open_exit.as_ref().map(OpenExit::prefixes).unwrap_or_default(),
        clock: SteadyWall::new(config.network.onion_key_period.as_secs()),
        erased_in: None,
    };
    upkeep.write_entry(wall);
    Ok(upkeep)
}

/// Every peer with its tunnel's slot.
fn install_tunnels<C: Backend, B>(
    config: &NodeConfig,
    workers: u8,
    writer: &mut TableWriter<C, B>,
    rates: &mut RateWatch,
) -> anyhow::Result<Vec<ain_dataplane::peers::Peer>> {
    let mut peers = translate::peers(config, workers);
    for ((id, _, tunnel), peer) in config.tunnels().zip(&mut peers) {
        peer.tunnel = writer.add_tunnel(&TunnelSpec {
            peer: id,
            owner: peer.owner,
            shape: tunnel.shape,
        })?;
        if let (Rate::Pvt(pps), Some(neighbour)) = (tunnel.shape.rate, config.neighbours.get(usize::from(id.0))) {
            rates.watch(&neighbour.node, id, pps.get());
        }
    }
    Ok(peers)
}

/// charon's socket, if there is a tunnel with keys by IKE.
fn start_ike(config: &NodeConfig, workers: u8, rng: StdRng) -> anyhow::Result<Option<Ike>> {
    let tunnels = ike::check::tunnels(config);
    if tunnels.is_empty() {
        return Ok(None);
    }
    let ike = Ike::start(&config.ike.socket, (tunnels, workers), thread::current(), rng);
    ike.map(Some).context("ike.socket")
}

/// What the ports do with each peer's SPIs.
fn steering(config: &NodeConfig, views: &mut [PortView]) -> Steering {
    let ports: Vec<_> = views.iter_mut().map(|view| view.steering.take()).collect();
    let port_of: Vec<usize> = config.tunnels().map(|(_, port, _)| port).collect();
    Box::new(move |peer, spi| {
        let steer = ports.get(*port_of.get(usize::from(peer.0))?)?.as_ref()?;
        Some(steer(spi))
    })
}

/// Peers, and the routers towards the Internet.
fn targets(config: &NodeConfig) -> Vec<Target> {
    let tunnels = config.tunnels().map(|(peer, port, tunnel)| (peer, port, tunnel.remote));
    let gateways = config.open_exit.iter().flat_map(|open| {
        let gateways = open.gateways.iter();
        gateways.map(|gateway| match gateway {
            IpAddr::V4(_) => (PeerId::INTERNET, open.port, *gateway),
            IpAddr::V6(_) => (PeerId::INTERNET_V6, open.port, *gateway),
        })
    });
    tunnels
        .chain(gateways)
        .map(|(peer, port, remote)| Target {
            peer,
            port,
            interface: config.ports[port].interface.clone(),
            remote,
        })
        .collect()
}

/// The worker's idle policy.
pub(crate) fn idle_policy(idle: Idle) -> IdlePolicy {
    match idle {
        Idle::Spin => IdlePolicy::Spin,
        Idle::Adaptive { max_sleep } => IdlePolicy::Adaptive(Adaptive {
            max_sleep_us: u32::try_from(max_sleep.as_micros()).unwrap_or(u32::MAX),
            ..Adaptive::default()
        }),
    }
}
