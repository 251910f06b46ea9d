//! Where packets lie: in DPDK's buffers as on a node, or in ordinary memory where DPDK is not built in.

use ain_dataplane::limits::BURST;
use ain_dataplane::packet::BufPool;
use ain_worker::pin::set_up_thread;
use ain_worker::vec_buf::VecPool;
use arrayvec::ArrayVec;

/// Bytes that a packet may grow by beyond its frame: ESP around a datagram, and the high half of a sequence number.
const SLACK: usize = 128;

/// A pool whose buffers go home by the handful, as a port frees what it has sent.
pub trait Memory: BufPool + Send + 'static {
    /// The buffers of the burst after this one: a driver would be writing their own fields now, so asks for those (not for the packets).
    fn arriving(next: &[Self::Buf]);
    /// Frees a burst.
    fn free(burst: &mut ArrayVec<Self::Buf, BURST>);
}

impl Memory for VecPool {
    fn arriving(_next: &[Self::Buf]) {}

    fn free(burst: &mut ArrayVec<Self::Buf, BURST>) {
        burst.clear();
    }
}

/// Makes pools.
pub trait Memories {
    /// The pools it makes.
    type Pool: Memory;
    /// A pool of `buffers` buffers for frames of up to `frame` bytes.
    ///
    /// # Errors
    /// When memory is short.
    fn pool(&mut self, buffers: usize, frame: usize) -> anyhow::Result<Self::Pool>;
    /// What a thread needs that uses its pools.
    fn seat(&self) -> Seat;
    /// What it is, for the head of a table.
    fn describe(&self) -> String;
}

/// A place for one more thread.
#[derive(Clone, Debug, Default)]
pub struct Seat {
    #[cfg(feature = "dpdk")]
    eal: Option<dpdk_sys::eal::Handle>,
}

/// A thread in its place, until dropped.
#[derive(Debug)]
pub struct Seated {
    #[cfg(feature = "dpdk")]
    _lcore: Option<dpdk_sys::lcore::Lcore>,
}

impl Seat {
    /// Gives the calling thread a name and a core, and makes it an lcore where DPDK runs.
    ///
    /// # Errors
    /// When the core is not to be had.
    pub fn take(&self, name: &str, core: usize) -> anyhow::Result<Seated> {
        set_up_thread(name, Some(core))?;
        Ok(Seated {
            #[cfg(feature = "dpdk")]
            _lcore: self.eal.as_ref().map(dpdk_sys::lcore::Lcore::register).transpose()?,
        })
    }
}

/// Ordinary memory.
#[derive(Debug, Default)]
pub struct Ordinary(());

impl Memories for Ordinary {
    type Pool = VecPool;

    fn pool(&mut self, buffers: usize, frame: usize) -> anyhow::Result<VecPool> {
        Ok(VecPool::new(buffers, frame + SLACK))
    }

    fn seat(&self) -> Seat {
        Seat::default()
    }

    fn describe(&self) -> String {
        "ordinary memory".into()
    }
}

#[cfg(feature = "dpdk")]
pub use dpdk::Dpdk;

#[cfg(feature = "dpdk")]
mod dpdk {
    use ain_worker::dpdk::{DpdkBuf, DpdkPool};
    use anyhow::Context;
    use dpdk_sys::eal::{Eal, free_hugepages_mb, memory_options};
    use dpdk_sys::mbuf::Mbuf;
    use dpdk_sys::mempool::{HEADROOM, Mempool, PoolConfig};

    use super::{ArrayVec, BURST, Memories, Memory, SLACK, Seat};

    /// Megabytes that all pools of a run share.
    const MEGABYTES: u32 = 192;

    impl Memory for DpdkPool {
        fn arriving(next: &[DpdkBuf]) {
            next.iter().for_each(|buf| buf.0.prefetch());
        }

        fn free(burst: &mut ArrayVec<DpdkBuf, BURST>) {
            let mut mbufs: ArrayVec<Mbuf, BURST> = burst.drain(..).map(|buf| buf.0).collect();
            Mbuf::free_bulk(&mut mbufs);
        }
    }

    /// DPDK without ports. The thread that makes it is an lcore, pinned to one core.
    #[derive(Debug)]
    pub struct Dpdk {
        /// Pools live as long as it does, one a shape.
        pools: Vec<((usize, usize), Mempool)>,
        hugepages: bool,
        eal: Eal,
    }

    impl Dpdk {
        /// Starts DPDK with this thread on `core`.
        ///
        /// # Errors
        /// When DPDK does not start.
        pub fn start(core: usize) -> anyhow::Result<Self> {
            let fixed = ["--no-pci", "--no-telemetry", "--log-level", "lib.eal:error", "--lcores"].map(String::from);
            let hugepages = free_hugepages_mb() >= u64::from(MEGABYTES);
            let options = fixed
                .into_iter()
                .chain([format!("0@{core}")])
                .chain(memory_options(MEGABYTES));
            let eal = Eal::init(options).context("starting DPDK")?;
            Ok(Self {
                pools: Vec::new(),
                hugepages,
                eal,
            })
        }
    }

    impl Memories for Dpdk {
        type Pool = DpdkPool;

        fn pool(&mut self, buffers: usize, frame: usize) -> anyhow::Result<DpdkPool> {
            let room = HEADROOM + frame + SLACK;
            if let Some((_, pool)) = self.pools.iter().find(|(shape, _)| *shape == (buffers, room)) {
                return Ok(DpdkPool::new(pool.clone()));
            }
            let config = PoolConfig {
                name: &format!("bench{}", self.pools.len()),
                buffers: u32::try_from(buffers)?,
                data_room: u16::try_from(room)?,
                cache: 256,
                socket: None,
            };
            let pool = Mempool::create(&self.eal.handle(), &config)?;
            self.pools.push(((buffers, room), pool.clone()));
            Ok(DpdkPool::new(pool))
        }

        fn seat(&self) -> Seat {
            Seat {
                eal: Some(self.eal.handle()),
            }
        }

        fn describe(&self) -> String {
            let pages = if self.hugepages { "hugepages" } else { "ordinary pages" };
            format!("DPDK mbufs in {pages}")
        }
    }
}
