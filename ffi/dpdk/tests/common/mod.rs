//! What the tests share: one EAL a process, pools, recognisable packets.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use arrayvec::ArrayVec;
use dpdk_sys::eal::{Eal, Handle, memory_options};
use dpdk_sys::mbuf::Mbuf;
use dpdk_sys::mempool::{Mempool, PoolConfig};
use dpdk_sys::port::{Port, PortConfig, Started};
use dpdk_sys::queue::{RxQueue, TxQueue};

pub mod pair;
pub mod ring;
pub mod veth;

/// Megabytes that a test asks for.
pub const MEMORY_MB: u32 = 64;

/// Packets of a burst.
pub type Burst = ArrayVec<Mbuf, 32>;

/// Starts the EAL on whatever memory the machine has.
pub fn eal() -> Eal {
    eal_with(memory_options(MEMORY_MB))
}

pub fn eal_with(memory: Vec<String>) -> Eal {
    let fixed = [
        "--no-pci",
        "--no-telemetry",
        "--lcores",
        "0",
        "--file-prefix",
        "dpdk-sys-test",
    ]
    .map(str::to_owned);
    Eal::init(fixed.into_iter().chain(memory)).expect("EAL")
}

pub fn pool(eal: &Handle, name: &str, buffers: u32) -> Mempool {
    let config = PoolConfig {
        name,
        buffers,
        data_room: 2048 + 128,
        cache: 32,
        socket: None,
    };
    Mempool::create(eal, &config).expect("pool")
}

/// Plugs a virtual device and starts it with `queues` queues each way.
pub fn started(eal: &Handle, device: &str, queues: u16, pool: &Mempool) -> Started {
    let name = device.split(',').next().expect("name");
    eal.plug(device).expect("plug");
    let config = PortConfig {
        rx_queues: queues,
        tx_queues: queues,
        ..PortConfig::default()
    };
    Port::open(eal, name)
        .expect("open")
        .start(&config, pool)
        .expect("start")
}

/// Deterministic numbers (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Packet number `number` of a test: an Ethernet frame of an experimental type whose length and bytes follow from the number.
pub fn frame(number: u64) -> Vec<u8> {
    let mut random = Random::new(number + 1);
    let mut bytes = vec![0xff; 6];
    bytes.extend([0x02, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    bytes.extend(number.to_be_bytes());
    let length = 60 + random.below(1514 - 60 + 1);
    bytes.resize_with(length, || random.next() as u8);
    bytes
}

/// Fills a burst with frames `from..from + count`.
pub fn fill(pool: &Mempool, from: u64, count: usize, burst: &mut Burst) {
    let start = burst.len();
    pool.alloc_bulk(count, burst).expect("buffers");
    for (number, buf) in (from..).zip(&mut burst[start..]) {
        let bytes = frame(number);
        buf.append(bytes.len()).expect("room");
        buf.data_mut().copy_from_slice(&bytes);
    }
}

/// Sends all of a burst, trying as long as the driver takes anything within a great many tries.
pub fn send_all(tx: &mut TxQueue, burst: &mut Burst) {
    for _ in 0..1_000_000 {
        tx.tx_burst(burst);
        if burst.is_empty() {
            return;
        }
        std::thread::yield_now();
    }
    panic!("{} packets do not leave", burst.len());
}

/// Receives into the burst until it holds `count` packets that `wanted` accepts.
pub fn receive(rx: &mut RxQueue, count: usize, burst: &mut Burst, wanted: impl Fn(&[u8]) -> bool) {
    for _ in 0..1_000_000 {
        let start = burst.len();
        if rx.rx_burst(burst) == 0 {
            std::thread::yield_now();
        }
        for place in (start..burst.len()).rev() {
            if !wanted(burst[place].data()) {
                burst.remove(place);
            }
        }
        if burst.len() >= count {
            return;
        }
    }
    panic!("{} of {count} packets came", burst.len());
}
