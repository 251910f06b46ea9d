//! Ports, buffers and worker threads' surroundings: DPDK's, or the kernel's own packet sockets in a build without DPDK.

use std::any::Any;
use std::sync::Arc;

use ain_controlplane::table_writer::Rate;
use ain_dataplane::id::{PortId, Spi, WorkerId};
use ain_dataplane::limits::{RATE_CELLS, RATE_DATAGRAMS, RATE_SIGNALS};
use ain_dataplane::packet::BufPool;
use ain_worker::kernel::{KernelEnd, WorkerEnd};
use ain_worker::port::PortCounters;
use ain_worker::run::AnyPort;
use ain_worker::tun::TunPort;

use crate::config::NodeConfig;
use crate::report::{SpreadReport, Sum};

/// What one worker gets.
pub struct Station<A: BufPool> {
    /// Its queues, one a port.
    pub ports: Vec<AnyPort<A::Buf>>,
    /// Its way to empty buffers.
    pub pool: A,
    /// Its ways to the kernel, of ports that have a tap.
    pub kernel: Vec<(PortId, WorkerEnd)>,
}

/// A port as reports show it.
pub struct PortView {
    /// Its name in the configuration.
    pub name: String,
    /// The workers' counters of it.
    pub counters: Vec<Arc<PortCounters>>,
    /// The counters of its tap, if it has one.
    pub tap: Option<Arc<PortCounters>>,
    /// The driver's own counters, where there is one.
    pub driver: Box<dyn Fn() -> Vec<Sum> + Send>,
    /// How its packets reach several workers.
    pub spread: SpreadReport,
    /// The worker that packets with an SPI come to, where the port tells.
    pub steering: Option<Steering>,
}

/// From an SPI to a worker.
pub type Steering = Box<dyn Fn(Spi) -> WorkerId + Send>;

/// What a worker's thread keeps while it runs.
pub type ThreadGuard = Box<dyn Any>;
/// Run on each worker's thread before it polls.
pub type OnThread = Arc<dyn Fn() -> anyhow::Result<ThreadGuard> + Send + Sync>;

/// Everything that moves packets.
pub struct Hardware<A: BufPool> {
    /// One a worker.
    pub stations: Vec<Station<A>>,
    /// The control thread's way to empty buffers.
    pub control_pool: A,
    /// One a port.
    pub views: Vec<PortView>,
    /// The taps, one a port that the kernel does not share.
    pub taps: Vec<KernelEnd<TunPort>>,
    /// What a worker's thread does first.
    pub on_thread: OnThread,
    /// Dropped last: what must outlive the ports.
    pub rest: Box<dyn Any>,
}

/// Buffers that a node needs: what its ports, its workers and the queues of its tunnels with a rate can hold at a time. Without the
/// last, load on such tunnels would take the buffers of dummies, and slots would tell of it.
pub(crate) fn buffers(config: &NodeConfig) -> usize {
    let rates = config.tunnels().map(|(_, _, tunnel)| tunnel.shape.rate);
    moving(config.ports.len(), config.workers.cores.len()) + rates.map(queued).sum::<usize>()
}

/// What ports and workers can hold at a time.
fn moving(ports: usize, workers: usize) -> usize {
    const DESCRIPTORS: usize = 2 * 1024;
    const A_WORKER: usize = 8192;
    (ports * workers * DESCRIPTORS + workers * A_WORKER + 4096).next_power_of_two() - 1
}

/// What waits for slots of one tunnel at most.
const fn queued(rate: Rate) -> usize {
    match rate {
        Rate::None => 0,
        Rate::Host(_) => RATE_DATAGRAMS,
        Rate::Pvt(_) => RATE_CELLS as usize + RATE_SIGNALS,
    }
}

/// Ports on kernel interfaces by packet sockets. Slow, but needs nothing.
#[cfg(not(feature = "dpdk"))]
pub mod kernel {
    use ain_worker::af_packet::AfPacketPort;
    use ain_worker::port::Port;
    use ain_worker::vec_buf::VecPool;
    use anyhow::ensure;

    use super::{Hardware, PortView, Station, buffers};
    use crate::config::{KernelSide, NodeConfig};
    use crate::report::SpreadReport;

    /// The buffers of this build.
    pub type Pool = VecPool;

    /// Opens the configured ports' interfaces.
    ///
    /// # Errors
    /// When an interface cannot be opened.
    pub fn open(config: &NodeConfig) -> anyhow::Result<Hardware<Pool>> {
        ensure!(
            config.workers.cores.len() == 1,
            "a build without DPDK runs one worker: name one core in workers.cores"
        );
        let room = config
            .ports
            .iter()
            .map(|port| usize::from(port.mtu))
            .max()
            .unwrap_or(1500)
            + 256;
        let pool = VecPool::new(buffers(config), room);
        let mut station = Station {
            ports: Vec::new(),
            pool: pool.clone(),
            kernel: Vec::new(),
        };
        let mut views = Vec::new();
        for port in &config.ports {
            ensure!(
                port.kernel == KernelSide::Shared,
                "port {}: a build without DPDK shares its interfaces with the kernel",
                port.name
            );
            let opened = AfPacketPort::open(&port.interface, pool.clone())?;
            let counters = vec![opened.counters().clone()];
            views.push(PortView {
                name: port.name.clone(),
                counters,
                tap: None,
                driver: Box::new(Vec::new),
                spread: SpreadReport {
                    mode: "one queue".into(),
                    reason: "there is one worker".into(),
                },
                steering: None,
            });
            station.ports.push(Box::new(opened));
        }
        Ok(Hardware {
            stations: vec![station],
            control_pool: pool,
            views,
            taps: Vec::new(),
            on_thread: std::sync::Arc::new(|| Ok(Box::new(()))),
            rest: Box::new(()),
        })
    }
}

/// DPDK ports.
#[cfg(feature = "dpdk")]
pub mod dpdk {
    use std::sync::Arc;

    use ain_dataplane::id::{PortId, WorkerId};
    use ain_dataplane::wire::ethernet::MacAddr;
    use ain_worker::dpdk::{DpdkPool, DpdkPort};
    use ain_worker::port::{Port as _, PortCounters};
    use ain_worker::share::share;
    use anyhow::{Context, ensure};
    use dpdk_sys::eal::{self, Eal, Handle};
    use dpdk_sys::lcore::Lcore;
    use dpdk_sys::mempool::{Mempool, PoolConfig};
    use dpdk_sys::port::{Port, PortConfig, Started};
    use dpdk_sys::spread::{judge, plan};
    use nix::sched::{CpuSet, sched_getaffinity};
    use nix::unistd::Pid;
    use tracing::info;

    use super::{Hardware, PortView, Station, Steering, ThreadGuard, buffers};
    use crate::config::{Huge, KernelSide, NodeConfig, Port as ConfiguredPort};
    use crate::interface;
    use crate::report::{SpreadReport, Sum};

    /// The buffers of this build.
    pub type Pool = DpdkPool;

    const BUFFER_OVERHEAD: usize = 128 + 256;
    const MIB: usize = 1 << 20;

    /// Starts DPDK and the configured ports. The calling thread is the control thread.
    ///
    /// # Errors
    /// When DPDK, a device or memory is not to be had; says what to install or set up where that is known.
    pub fn open(config: &NodeConfig) -> anyhow::Result<Hardware<Pool>> {
        let workers = config.workers.cores.len();
        let room = config
            .ports
            .iter()
            .map(|port| usize::from(port.mtu))
            .max()
            .unwrap_or(1500)
            + BUFFER_OVERHEAD;
        let room = room.max(2048 + 128).next_multiple_of(64);
        let count = buffers(config);
        let memory = config
            .dpdk
            .memory_mib
            .unwrap_or((count * (room + 256) / MIB + 32) as u32);
        let eal = Eal::init(arguments(config, memory)?)?;
        let handle = eal.handle();
        let pool = Mempool::create(
            &handle,
            &PoolConfig {
                name: "packets",
                buffers: u32::try_from(count)?,
                data_room: u16::try_from(room)?,
                cache: 256,
                socket: None,
            },
        )
        .with_context(|| {
            format!(
                "packet memory: {count} buffers of {room} bytes in {memory} MiB; free hugepages, set dpdk.huge, or give \
                 dpdk.memory_mib more"
            )
        })?;
        let mut stations: Vec<Station<Pool>> = (0..workers)
            .map(|_| Station {
                ports: Vec::new(),
                pool: DpdkPool::new(pool.clone()),
                kernel: Vec::new(),
            })
            .collect();
        let mut views = Vec::new();
        let (mut running, mut taps) = (Vec::new(), Vec::new());
        for (port, id) in config.ports.iter().zip((0..).map(PortId)) {
            let named = || format!("port {} ({})", port.name, port.device);
            let (mut view, keep) = start(&handle, port, &pool, &mut stations).with_context(named)?;
            if port.kernel == KernelSide::Tap {
                let mac = MacAddr(keep.device().info()?.mac.0);
                let (ends, tap) = interface::tap(port, mac, workers).with_context(named)?;
                for (station, end) in stations.iter_mut().zip(ends) {
                    station.kernel.push((id, end));
                }
                view.tap = Some(Arc::clone(tap.tap().counters()));
                taps.push(tap);
            }
            views.push(view);
            running.push(keep);
        }
        let on_thread = Arc::new(move || Ok(Box::new(Lcore::register(&handle)?) as ThreadGuard));
        let control_pool = DpdkPool::new(pool);
        Ok(Hardware {
            stations,
            control_pool,
            views,
            taps,
            on_thread,
            rest: Box::new((running, eal)),
        })
    }

    /// The cores that this process may use, as the EAL writes lists.
    fn allowed_cores() -> anyhow::Result<String> {
        let set = sched_getaffinity(Pid::from_raw(0))?;
        let allowed = (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false));
        Ok(allowed.map(|core| core.to_string()).collect::<Vec<_>>().join(","))
    }

    /// The EAL's command line: no file left behind, devices added one by one later.
    fn arguments(config: &NodeConfig, memory: u32) -> anyhow::Result<Vec<String>> {
        let mut arguments = match config.dpdk.huge {
            Huge::Auto => eal::memory_options(memory),
            Huge::Always => {
                let free = eal::free_hugepages_mb();
                ensure!(
                    free >= u64::from(memory),
                    "dpdk.huge: {memory} MiB of hugepages wanted, {free} MiB are free"
                );
                eal::memory_options(memory)
            }
            Huge::Never => ["--no-huge", "--no-shconf", "-m"]
                .map(String::from)
                .into_iter()
                .chain([memory.to_string()])
                .collect(),
        };
        let control = match config.workers.control_core {
            Some(core) => core.to_string(),
            None => format!("({})", allowed_cores()?),
        };
        arguments.extend(["--file-prefix".into(), format!("ain-{}", config.name)]);
        arguments.extend(["--lcores".into(), format!("0@{control}"), "--no-telemetry".into()]);
        if config.ports.iter().all(ConfiguredPort::is_virtual) {
            arguments.push("--no-pci".into());
        } else {
            // Only the devices named: the first -a keeps the EAL from probing all others.
            arguments.extend(
                config
                    .ports
                    .iter()
                    .filter(|p| !p.is_virtual())
                    .flat_map(|p| ["-a".into(), p.device.clone()]),
            );
        }
        arguments.extend(config.dpdk.eal_args.iter().cloned());
        Ok(arguments)
    }

    /// Starts one port with a queue pair for every worker, as far as it has them.
    fn start(
        handle: &Handle,
        port: &ConfiguredPort,
        pool: &Mempool,
        stations: &mut [Station<Pool>],
    ) -> anyhow::Result<(PortView, dpdk_sys::port::RunningPort)> {
        let name = port.device.split(',').next().unwrap_or(&port.device);
        if port.is_virtual() {
            handle.plug(&port.device)?;
        }
        let opened = Port::open(handle, name)?;
        let workers = u16::try_from(stations.len())?;
        let able = opened.device().info()?;
        let plan = plan(&able, workers);
        let settings = PortConfig {
            // A virtual device has the MTU of what it stands on; a NIC has to be told.
            mtu: (!port.is_virtual()).then_some(port.mtu),
            rx_queues: plan.queues,
            tx_queues: plan.queues,
            rss: plan.rss,
            // Neighbour discovery asks groups; where the kernel shares the interface, it has joined them.
            all_multicast: port.kernel == KernelSide::Tap,
            ..PortConfig::default()
        };
        let Started { port: running, rx, tx } = opened.start(&settings, pool)?;
        let device = running.device().clone();
        let spread = judge(&able, workers, &plan, &device.program_spread(&plan)?);
        info!(
            port = port.name,
            spread = spread.mode.name(),
            reason = spread.reason,
            "port"
        );
        let pairs = rx.into_iter().zip(tx).map(|(rx, tx)| DpdkPort::new(rx, tx));
        let counters = hand_out(pairs.collect(), stations);
        let driver = Box::new(move || {
            let all = device.extended_stats().unwrap_or_default();
            all.into_iter().map(|(name, count)| Sum::new(name, count)).collect()
        });
        let steering = spread.steering.map(|steering| {
            Box::new(move |spi: ain_dataplane::id::Spi| WorkerId(steering.queue_of(spi.value()) as u8)) as Steering
        });
        let view = PortView {
            name: port.name.clone(),
            counters,
            tap: None,
            driver,
            spread: SpreadReport {
                mode: spread.mode.name().into(),
                reason: spread.reason,
            },
            steering,
        };
        Ok((view, running))
    }

    /// A pair of queues to each station; stations without one are guests of those that have.
    fn hand_out(pairs: Vec<DpdkPort>, stations: &mut [Station<Pool>]) -> Vec<Arc<PortCounters>> {
        let (hosts, stations_len) = (pairs.len(), stations.len());
        let mut counters = Vec::new();
        for (number, queues) in pairs.into_iter().enumerate() {
            let guests = (number + hosts..stations_len).step_by(hosts);
            let (host, guest_ports) = share(queues, guests.clone().count());
            counters.push(Arc::clone(host.counters()));
            stations[number].ports.push(Box::new(host));
            for (station, guest) in guests.zip(guest_ports) {
                counters.push(Arc::clone(guest.counters()));
                stations[station].ports.push(Box::new(guest));
            }
        }
        counters
    }
}
