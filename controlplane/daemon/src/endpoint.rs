//! `ain endpoint`: the host's side of an ESP+AH tunnel on a TUN device, for hosts whose kernel has no IPsec. The same packet path
//! as a node's, with one tunnel and no control node.

mod close;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ain_controlplane::associations::{Associations, Keying};
use ain_controlplane::hand_made::HandMadeSource;
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
use ain_worker::vec_buf::{VecBuf, VecPool};
use anyhow::{Context, anyhow, ensure};
use rand::TryRng;
use rand::rngs::SysRng;
use tracing::{info, warn};

pub use close::{close, socket};

use crate::config::{EndpointConfig, read};
use crate::control_thread::{AllReins, Asker, Directions, Request};
use crate::crypto::Chosen;
use crate::durable::Durable;
use crate::hand_made::{self, Place};
use crate::hardware::OnThread;
use crate::interface;
use crate::neighbours::{Neighbours, Target};
use crate::reload::{self, Known, Reloader};
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
    let text = read(path)?;
    let config = EndpointConfig::of_text(path, &text, SystemTime::now())?;
    let file = (path, Known::of(&text, [(GATEWAY, &config.tunnel.keys)].into_iter()));
    drop(text);
    match Chosen::choose(config.crypto).context("endpoint.crypto")? {
        #[cfg(feature = "ipsec-mb")]
        Chosen::IpsecMb(_) => start(file, config, ipsec_mb_sys::IpsecMb::new()?),
        Chosen::Portable => start(file, config, Portable::default()),
    }
}

fn start<C: Backend>((path, known): (&Path, Known), config: EndpointConfig, backend: C) -> anyhow::Result<()> {
    let (asker, requests) = Asker::new(thread::current());
    let reloader = Arc::new(Reloader::new(path, reload::of_endpoint, known, Arc::new(asker)));
    reload::on_hangup(Arc::clone(&reloader))?;
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
    let clock = Clock::start();
    let by_hand = [(GATEWAY, &config.tunnel, &config.tunnel.keys)].into_iter();
    let (mut associations, mut keys) = hand_made::install(clock.now(), by_hand, &mut place(&mut writer, &mut durable))?;
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
    let mut closer = Closer::listen(&config, reloader)?;
    // They are in the packet path.
    drop(config.tunnel.keys);
    let (mut team, mut waiting) = (Team::default(), Some(worker));
    let mut reins = AllReins(vec![rein]);
    let mut next_second = Now(0);
    while !shutdown.requested() {
        let now = clock.now();
        directions.refresh(now);
        // Until there is a way for them, datagrams wait in the device, as the kernel's own wait for ARP.
        if let Some(worker) = waiting.take_if(|_| directions.neighbours.unknown() == 0) {
            team.add(None, worker, &nothing, &shutdown)?;
            info!(role = ?config.role, tun = config.tun, "running");
        }
        rekey(
            now,
            &requests,
            (&mut keys, &mut associations),
            place(&mut writer, &mut durable),
        );
        writer.pump(&mut reins);
        while let Some(event) = reins.0[0].events.pop() {
            if let Event::ForNode(_, datagram) = event {
                closer.heard(datagram.data());
            }
        }
        for datagram in closer.due(Instant::now(), || random.try_next_u32().unwrap_or_default()) {
            // Who asks before there is a way hears that the AIN does not answer.
            if waiting.is_none()
                && let Some(buf) = filled(&mut control_pool, &datagram)
            {
                writer.signal(GATEWAY, buf);
            }
        }
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

const fn place<'a, C: Backend>(
    writer: &'a mut TableWriter<C, VecBuf>,
    durable: &'a mut Durable,
) -> Place<'a, C, VecBuf> {
    Place {
        workers: 1,
        writer,
        durable,
    }
}

/// Takes other keys if there are any, and gives the packet path those whose time has come.
fn rekey<C: Backend>(
    now: Now,
    requests: &Receiver<Request>,
    (keys, associations): (&mut HandMadeSource, &mut Associations),
    mut place: Place<'_, C, VecBuf>,
) {
    while let Ok(Request::ReplaceKeys(new, answer)) = requests.try_recv() {
        let outcome = hand_made::replace(now, &new, (keys, associations), &mut place).and_then(|()| {
            associations.handle(now, keys, place.writer);
            hand_made::taken(keys)
        });
        // An asker that has gone away is no trouble.
        let _gone = answer.send(outcome);
    }
    keys.handle_timeout(now);
    associations.handle(now, keys, place.writer);
    while let Some(keying) = associations.poll_keying() {
        if let Keying::Over(peer, generation) = keying {
            place.durable.end_generation((peer, generation));
        }
    }
    hand_made::warn_of(keys);
}
