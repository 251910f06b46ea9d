//! `ain endpoint`: the host's side of an ESP+AH tunnel on a TUN device, for hosts whose kernel has no IPsec. The same packet path
//! as a node's, with one tunnel and no control node.

mod close;

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ain_controlplane::table_writer::{Rate, TableWriter, TunnelSpec};
use ain_crypto::{Backend, Portable};
use ain_dataplane::command::Event;
use ain_dataplane::engine::{Capacity, Engine};
use ain_dataplane::handoff::Mesh;
use ain_dataplane::id::{Now, PeerId, WorkerId};
use ain_dataplane::limits::HANDOFF_RING;
use ain_dataplane::packet::{PacketBuf, filled};
use ain_dataplane::peers::{PeerKind, Peers};
use ain_dataplane::publish::published;
use ain_dataplane::table::flow_table;
use ain_dataplane::wire::cell::CellProfile;
use ain_worker::af_packet::AfPacketPort;
use ain_worker::run::{Clock, Device, Worker, reins};
use ain_worker::tun::TunPort;
use ain_worker::vec_buf::VecPool;
use anyhow::{Context, anyhow, ensure};
use rand::TryRng;
use rand::rngs::SysRng;
use tracing::{info, warn};

pub use close::close;

use crate::config::EndpointConfig;
use crate::control_thread::{AllReins, Directions};
use crate::crypto::Chosen;
use crate::durable::Durable;
use crate::hardware::OnThread;
use crate::interface;
use crate::neighbours::{Neighbours, Target};
use crate::run::{idle_policy, protect_memory};
use crate::shared_interface::KernelSilence;
use crate::shutdown::Shutdown;
use crate::team::Team;
use crate::translate;
use close::Closer;

const CAPACITY: Capacity = Capacity {
    tvts: 0,
    tunnels: 1,
    flows: 0,
};
const GATEWAY: PeerId = PeerId(0);
const BUFFERS: usize = 4096;
/// Between two looks at next hop and numbers.
const NAP: Duration = Duration::from_millis(5);

/// Runs the endpoint that a file describes until it is told to stop.
///
/// # Errors
/// [`crate::config::report::Problems`] for the file; what could not be had, otherwise.
pub fn endpoint(path: &Path) -> anyhow::Result<()> {
    protect_memory()?;
    let config = EndpointConfig::load(path, SystemTime::now())?;
    match Chosen::choose(config.crypto).context("endpoint.crypto")? {
        #[cfg(feature = "ipsec-mb")]
        Chosen::IpsecMb(_) => start(&config, ipsec_mb_sys::IpsecMb::new()?),
        Chosen::Portable => start(&config, Portable::default()),
    }
}

fn start<C: Backend>(config: &EndpointConfig, backend: C) -> anyhow::Result<()> {
    let mut durable = Durable::open(&config.state_dir)?;
    let mut random = SysRng;
    let seed = [random.try_next_u64()?, random.try_next_u64()?];
    let (table, reader) = flow_table(16, seed);
    let mut writer = TableWriter::new(table, 1, CAPACITY);
    let slot = writer.add_tunnel(&TunnelSpec {
        peer: GATEWAY,
        owner: WorkerId(0),
        shape: config.tunnel.shape,
    })?;
    let sas = &config.tunnel.keys;
    for spec in translate::associations(GATEWAY, (&config.tunnel, sas), 1, &mut durable)? {
        let used = writer.add_sa(&spec, None)?;
        translate::follow(&mut durable, sas, spec.name(), &used);
    }
    let mut gateway = translate::peer(0, &config.tunnel, PeerKind::Gateway, WorkerId(0));
    gateway.tunnel = slot;

    let pool = VecPool::new(BUFFERS, usize::from(config.mtu.max(config.inner_mtu)) + 256);
    let mut control_pool = pool.clone();
    let port = AfPacketPort::open(&config.interface, pool.clone())?;
    let tun = TunPort::create(&config.tun, config.inner_mtu, pool.clone())?;
    interface::set_up(&config.tun, &config.addresses, &config.routes)?;
    let _silence = KernelSilence::hold().context("raw sockets that keep the kernel from answering AH and ESP")?;

    let target = Target {
        peer: GATEWAY,
        port: 0,
        interface: config.interface.clone(),
        remote: config.tunnel.remote,
    };
    let (publisher, mut readers) = published(
        Peers::new(vec![gateway], CellProfile::Standard).with_rates([config.tunnel.shape.rate != Rate::None]),
        1,
    );
    let mut directions = Directions::new(Neighbours::new(vec![target])?, publisher);
    let clock = Clock::start();
    let (rein, bit) = reins();
    let one = || anyhow!("one worker");
    let worker = Worker {
        engine: Engine::new(WorkerId(0), backend, reader, CAPACITY, CellProfile::Standard),
        ports: vec![Box::new(port)],
        device: Some(Device {
            port: Box::new(tun),
            gateway: GATEWAY,
        }),
        kernel: Vec::new(),
        pool,
        peers: readers.pop().ok_or_else(one)?,
        bit,
        mesh: Mesh::new(1, HANDOFF_RING).into_ends().pop().ok_or_else(one)?,
        control: thread::current(),
        idle: idle_policy(config.idle),
        clock,
    };
    let shutdown = Shutdown::on_signals(thread::current())?;
    let nothing: OnThread = Arc::new(|| Ok(Box::new(())));
    let mut closer = Closer::listen(config)?;
    // Until there is a way for them, datagrams wait in the device, as the kernel's own wait for ARP.
    while directions.neighbours.unknown() > 0 && !shutdown.requested() {
        directions.refresh(clock.now());
        thread::park_timeout(NAP);
    }
    let mut team = Team::default();
    team.add(None, worker, &nothing, &shutdown)?;
    info!(role = ?config.role, tun = config.tun, "running");
    let mut reins = AllReins(vec![rein]);
    let mut next_second = Now(0);
    while !shutdown.requested() {
        directions.refresh(clock.now());
        writer.pump(&mut reins);
        while let Some(event) = reins.0[0].events.pop() {
            if let Event::ForNode(_, datagram) = event {
                closer.heard(datagram.data());
            }
        }
        for datagram in closer.due(Instant::now(), || random.try_next_u32().unwrap_or_default()) {
            if let Some(buf) = filled(&mut control_pool, &datagram) {
                writer.signal(GATEWAY, buf);
            }
        }
        let now = clock.now();
        let mut kept = durable.write_accepted().and_then(|()| durable.top_up());
        if now >= next_second {
            kept = kept.and_then(|()| durable.sync_accepted());
            next_second = now.plus(Now::SECOND);
            if let Err(error) = &kept {
                warn!(%error, "numbers not kept");
            }
        }
        thread::park_timeout(NAP);
    }
    drop(team);
    durable.close()?;
    ensure!(!shutdown.failed(), "the worker ended before it was told to");
    Ok(())
}
