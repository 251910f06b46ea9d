//! Ethernet ports.
//!
//! ```text
//!   Port::open ── claimed, stopped ── start ──► RunningPort + RxQueues + TxQueues ── stop ──► Port
//!        ▲                                                                                      │
//!        └────────── dropped: stopped, closed; for good, until the device is plugged again ◄────┘
//! ```

use std::ffi::{CString, c_char, c_int};
use std::sync::{Arc, Mutex};

use crate::eal::{Handle, lock};
use crate::errno::Errno;
use crate::info::{Link, PortInfo, RssTypes, RxOffloads, TxOffloads, text};
use crate::mempool::{HEADROOM, Mempool};
use crate::queue::{RxQueue, TxQueue};
use crate::sys;

/// Bytes of a frame beside its MTU: Ethernet header, one VLAN tag.
const FRAME_OVERHEAD: usize = 14 + 4;

/// Why a port cannot be had or started. Each names the port.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// No port of that name.
    #[error("port {0}: no such port; DPDK knows {1:?}")]
    Unknown(String, Vec<String>),
    /// Opened before and not dropped yet.
    #[error("port {0}: already in use in this process")]
    InUse(String),
    /// More queues than the port has, or none.
    #[error("port {port}: {asked} {direction} queues asked for, 1 to {max} possible")]
    Queues {
        /// The port.
        port: String,
        /// `rx` or `tx`.
        direction: &'static str,
        /// Queues asked for.
        asked: u16,
        /// Queues that the port has.
        max: u16,
    },
    /// Hash fields that the port cannot hash over.
    #[error("port {port}: cannot spread packets by {asked:?}, only by {possible:?}")]
    Rss {
        /// The port.
        port: String,
        /// Fields asked for.
        asked: RssTypes,
        /// Fields possible.
        possible: RssTypes,
    },
    /// The MTU is outside the port's limits.
    #[error("port {port}: MTU {asked} asked for, {min} to {max} possible")]
    Mtu {
        /// The port.
        port: String,
        /// Bytes asked for.
        asked: u16,
        /// Bytes at least.
        min: u16,
        /// Bytes at most.
        max: u16,
    },
    /// A frame would not fit into one buffer.
    #[error("port {port}: MTU {mtu} needs buffers of {needed} bytes, the pool has {room}")]
    Buffers {
        /// The port.
        port: String,
        /// The MTU, bytes.
        mtu: u16,
        /// Data room needed, bytes.
        needed: usize,
        /// Data room of the pool, bytes.
        room: usize,
    },
    /// The driver or DPDK refused.
    #[error("port {port}: {call}: {errno}")]
    Call {
        /// The port.
        port: String,
        /// The function that refused.
        call: &'static str,
        /// Its reason.
        errno: Errno,
    },
}

/// Queues of a port still exist, so that it cannot be stopped under their owners. The port runs on.
#[derive(Debug, thiserror::Error)]
#[error("port {}: cannot stop, {queues} queues are in use", .port.device().name())]
pub struct QueuesInUse {
    /// The port, still running.
    pub port: RunningPort,
    /// Queues not dropped yet.
    pub queues: usize,
}

/// How a port shall run.
#[derive(Clone, Copy, Debug)]
pub struct PortConfig {
    /// Receive queues.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Descriptors of each receive queue, brought within the driver's limits.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue, brought within the driver's limits.
    pub tx_descriptors: u16,
    /// Bytes of the largest IP packet; `None` leaves the port's (and, for `af_packet`, the kernel's) as it is.
    pub mtu: Option<u16>,
    /// Fields by which packets are spread over several receive queues.
    pub rss: RssTypes,
    /// Work for the port at reception; what it cannot do is left out.
    pub rx_offloads: RxOffloads,
    /// Work for the port at transmission; what it cannot do is left out.
    pub tx_offloads: TxOffloads,
    /// Receive frames for other stations too.
    pub promiscuous: bool,
    /// Receive the frames of all groups, where the driver chooses among them.
    pub all_multicast: bool,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: None,
            rss: RssTypes::NONE,
            rx_offloads: RxOffloads::NONE,
            tx_offloads: TxOffloads::NONE,
            promiscuous: false,
            all_multicast: false,
        }
    }
}

/// A port as the control side sees it: what it is, its link, its counters. Clones are cheap and keep the port open.
#[derive(Clone, Debug)]
pub struct Device(Arc<Claim>);

#[derive(Debug)]
struct Claim {
    id: u16,
    name: String,
    eal: Handle,
    /// Control calls on one port are not thread-safe.
    calls: Mutex<()>,
}

/// A port that is stopped. One owner: it cannot be opened twice.
#[derive(Debug)]
pub struct Port(Device);

/// A port that runs, until this and all its queues are dropped.
#[derive(Debug)]
pub struct RunningPort(Arc<Running>);

/// Stops the port when the last holder is gone.
#[derive(Debug)]
pub(crate) struct Running(Device);

/// A running port and its queues, each handed out this once.
#[derive(Debug)]
pub struct Started {
    /// For stopping it.
    pub port: RunningPort,
    /// Receive queues, by number.
    pub rx: Vec<RxQueue>,
    /// Transmit queues, by number.
    pub tx: Vec<TxQueue>,
}

/// Names of the ports that DPDK has, in the order of their numbers.
pub fn names(_eal: &Handle) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = 0;
    loop {
        // SAFETY: the EAL runs, as a handle proves.
        let id = unsafe { sys::rte_eth_find_next(next) };
        if u64::from(id) >= sys::SHIM_MAX_PORTS {
            return found;
        }
        let mut name = [0 as c_char; sys::SHIM_NAME_SIZE as usize];
        // SAFETY: an existing port, a buffer of the size that DPDK documents. A port that went meanwhile is refused.
        if unsafe { sys::rte_eth_dev_get_name_by_port(id, name.as_mut_ptr()) } != 0 {
            return found;
        }
        found.push(text(&name));
        next = id + 1;
    }
}

impl Port {
    /// Takes a port by its name: that of the virtual device (`net_af_packet0`) or the PCI address (`0000:00:05.0`).
    ///
    /// # Errors
    /// If there is none, or it is taken.
    pub fn open(eal: &Handle, name: &str) -> Result<Self, PortError> {
        let unknown = || PortError::Unknown(name.into(), names(eal));
        let text = CString::new(name).map_err(|_| unknown())?;
        let mut id = 0;
        // SAFETY: the EAL runs; a NUL-terminated string and a place for the number.
        if unsafe { sys::rte_eth_dev_get_port_by_name(text.as_ptr(), &raw mut id) } != 0 {
            return Err(unknown());
        }
        if !eal.claim(id) {
            return Err(PortError::InUse(name.into()));
        }
        Ok(Self(Device(Arc::new(Claim {
            id,
            name: name.into(),
            eal: eal.clone(),
            calls: Mutex::new(()),
        }))))
    }

    /// The port's control side.
    pub fn device(&self) -> &Device {
        &self.0
    }

    /// Configures the port, its queues with buffers from `pool`, and starts it. On failure the port is dropped.
    ///
    /// # Errors
    /// When the port cannot do what `config` asks, or the driver fails.
    pub fn start(self, config: &PortConfig, pool: &Mempool) -> Result<Started, PortError> {
        let Self(device) = self;
        device.check(config, pool)?;
        device.configure(config)?;
        device.set_up_queues(config, pool)?;
        // SAFETY: configured, with every queue set up.
        device.call("rte_eth_dev_start", |id| unsafe { sys::rte_eth_dev_start(id) })?;
        let running = Arc::new(Running(device));
        if config.promiscuous {
            running.0.set_promiscuous(true)?;
        }
        if config.all_multicast {
            running.0.hear_all_multicast()?;
        }
        let rx = (0..config.rx_queues).map(|q| RxQueue::new(&running, q)).collect();
        let tx = (0..config.tx_queues).map(|q| TxQueue::new(&running, q)).collect();
        Ok(Started {
            port: RunningPort(running),
            rx,
            tx,
        })
    }
}

impl RunningPort {
    /// The port's control side.
    pub fn device(&self) -> &Device {
        &self.0.0
    }

    /// Stops the port, so that it may start again with another configuration. All its queues must be dropped before.
    ///
    /// # Errors
    /// Queues still exist; the port runs on and comes back in the error.
    pub fn stop(self) -> Result<Port, QueuesInUse> {
        match Arc::try_unwrap(self.0) {
            Ok(running) => Ok(Port(running.0.clone())),
            Err(shared) => {
                let queues = Arc::strong_count(&shared) - 1;
                Err(QueuesInUse {
                    port: Self(shared),
                    queues,
                })
            }
        }
    }
}

impl Running {
    pub(crate) fn device(&self) -> &Device {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A driver that will not stop has said so in DPDK's log; closing comes next in any case.
        // SAFETY: a started port, whose queues are gone.
        let _ = self
            .0
            .call("rte_eth_dev_stop", |id| unsafe { sys::rte_eth_dev_stop(id) });
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // SAFETY: a port of ours, stopped, as a running one holds this claim. Nothing can be done about a failure.
        unsafe { sys::rte_eth_dev_close(self.id) };
        self.eal.release(self.id);
    }
}

impl Device {
    /// The name under which it was opened.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// DPDK's number of the port.
    pub fn id(&self) -> u16 {
        self.0.id
    }

    /// What the port is and can do.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn info(&self) -> Result<PortInfo, PortError> {
        let mut raw = sys::shim_port_info::default();
        // SAFETY: a claimed port and a structure to fill.
        self.call("rte_eth_dev_info_get", |id| unsafe {
            sys::shim_port_info(id, &raw mut raw)
        })?;
        Ok(PortInfo::from_raw(&raw))
    }

    /// The link's state, without waiting for it to settle.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn link(&self) -> Result<Link, PortError> {
        let mut raw = sys::shim_link::default();
        // SAFETY: a claimed port and a structure to fill.
        self.call("rte_eth_link_get_nowait", |id| unsafe {
            sys::shim_link(id, &raw mut raw)
        })?;
        Ok(Link {
            up: raw.up != 0,
            speed_mbps: raw.speed_mbps,
            full_duplex: raw.full_duplex != 0,
        })
    }

    /// Receives frames for other stations too, or no more.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), PortError> {
        let done = if on {
            // SAFETY: a claimed port.
            self.call("rte_eth_promiscuous_enable", |id| unsafe {
                sys::rte_eth_promiscuous_enable(id)
            })
        } else {
            // SAFETY: a claimed port.
            self.call("rte_eth_promiscuous_disable", |id| unsafe {
                sys::rte_eth_promiscuous_disable(id)
            })
        };
        done.map(drop)
    }

    /// Receives the frames of all groups. A driver without a word for that does not choose among frames.
    fn hear_all_multicast(&self) -> Result<(), PortError> {
        // SAFETY: a claimed port.
        unless_unsupported(self.call("rte_eth_allmulticast_enable", |id| unsafe {
            sys::rte_eth_allmulticast_enable(id)
        }))
    }

    /// Whether frames for other stations are received.
    pub fn is_promiscuous(&self) -> bool {
        // SAFETY: a claimed port.
        unsafe { sys::rte_eth_promiscuous_get(self.0.id) == 1 }
    }

    /// Runs a control call alone on this port and makes a negative answer an error.
    pub(crate) fn call(&self, call: &'static str, run: impl FnOnce(u16) -> c_int) -> Result<c_int, PortError> {
        let answer = {
            let _alone = lock(&self.0.calls);
            run(self.0.id)
        };
        if answer < 0 {
            return Err(PortError::Call {
                port: self.0.name.clone(),
                call,
                errno: Errno::of(answer),
            });
        }
        Ok(answer)
    }

    fn check(&self, config: &PortConfig, pool: &Mempool) -> Result<(), PortError> {
        let info = self.info()?;
        let port = || self.0.name.clone();
        let sides = [
            ("rx", config.rx_queues, info.max_rx_queues),
            ("tx", config.tx_queues, info.max_tx_queues),
        ];
        for (direction, asked, max) in sides {
            if asked == 0 || asked > max {
                return Err(PortError::Queues {
                    port: port(),
                    direction,
                    asked,
                    max,
                });
            }
        }
        if !info.rss_types.contains(config.rss) {
            return Err(PortError::Rss {
                port: port(),
                asked: config.rss,
                possible: info.rss_types,
            });
        }
        let mtu = config.mtu.unwrap_or(info.mtu);
        if config.mtu.is_some() && !(info.min_mtu..=info.max_mtu).contains(&mtu) {
            return Err(PortError::Mtu {
                port: port(),
                asked: mtu,
                min: info.min_mtu,
                max: info.max_mtu,
            });
        }
        let (needed, room) = (HEADROOM + usize::from(mtu) + FRAME_OVERHEAD, pool.data_room());
        if needed > room {
            return Err(PortError::Buffers {
                port: port(),
                mtu,
                needed,
                room,
            });
        }
        Ok(())
    }

    fn configure(&self, config: &PortConfig) -> Result<(), PortError> {
        let info = self.info()?;
        let raw = sys::shim_port_config {
            rx_queues: config.rx_queues,
            tx_queues: config.tx_queues,
            mtu: config.mtu.map_or(0, u32::from),
            rss_types: config.rss.bits(),
            rx_offloads: config.rx_offloads.and(info.rx_offloads).bits(),
            tx_offloads: config.tx_offloads.and(info.tx_offloads).bits(),
        };
        // SAFETY: a claimed port that does not run.
        self.call("rte_eth_dev_configure", |id| unsafe {
            sys::shim_port_configure(id, &raw const raw)
        })?;
        let Some(mtu) = config.mtu else { return Ok(()) };
        // Drivers over a kernel interface change its MTU only on request; those without such a thing say so.
        // SAFETY: a claimed port that does not run.
        unless_unsupported(self.call("rte_eth_dev_set_mtu", |id| unsafe { sys::rte_eth_dev_set_mtu(id, mtu) }))
    }

    fn set_up_queues(&self, config: &PortConfig, pool: &Mempool) -> Result<(), PortError> {
        let (mut rx_size, mut tx_size) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: a configured port and two places.
        self.call("rte_eth_dev_adjust_nb_rx_tx_desc", |id| unsafe {
            sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &raw mut rx_size, &raw mut tx_size)
        })?;
        let socket = self.info()?.socket.unwrap_or(u32::MAX);
        for queue in 0..config.rx_queues {
            // SAFETY: a configured port, a queue number within it, the driver's default configuration, a living pool.
            self.call("rte_eth_rx_queue_setup", |id| unsafe {
                sys::rte_eth_rx_queue_setup(id, queue, rx_size, socket, std::ptr::null(), pool.as_ptr())
            })?;
        }
        for queue in 0..config.tx_queues {
            // SAFETY: as above.
            self.call("rte_eth_tx_queue_setup", |id| unsafe {
                sys::rte_eth_tx_queue_setup(id, queue, tx_size, socket, std::ptr::null())
            })?;
        }
        Ok(())
    }
}

/// What the driver has no word for is no error.
fn unless_unsupported(answer: Result<c_int, PortError>) -> Result<(), PortError> {
    match answer {
        Err(PortError::Call {
            errno: Errno(libc::ENOTSUP),
            ..
        }) => Ok(()),
        other => other.map(drop),
    }
}
