//! DPDK's buffers and ports under the packet path's traits. One EAL, so one test.
#![cfg(feature = "dpdk")]

mod common;

use ain_dataplane::limits::BURST;
use ain_dataplane::packet::{BufPool, PacketBuf};
use ain_worker::dpdk::{DpdkBuf, DpdkPool, DpdkPort};
use ain_worker::port::{Burst, Port};
use common::{buffers_keep_their_contract, buffers_refuse_what_they_cannot, frame, frames, receive};
use dpdk_sys::eal::{Eal, Handle, memory_options};
use dpdk_sys::mempool::{Mempool, PoolConfig};
use dpdk_sys::port::{PortConfig, RunningPort};

/// Packets that a `net_ring` port holds.
const RING: u64 = 1023;

/// A started virtual device and its only pair of queues.
fn port(eal: &Handle, device: &str, mempool: &Mempool, descriptors: u16) -> (RunningPort, DpdkPort) {
    eal.plug(device).expect("plug");
    let name = device.split(',').next().expect("name");
    let config = PortConfig {
        rx_descriptors: descriptors,
        tx_descriptors: descriptors,
        ..PortConfig::default()
    };
    let mut started = dpdk_sys::port::Port::open(eal, name)
        .expect("open")
        .start(&config, mempool)
        .expect("start");
    (started.port, DpdkPort::new(started.rx.remove(0), started.tx.remove(0)))
}

#[test]
fn dpdk_under_the_traits() {
    let fixed = [
        "--no-pci",
        "--no-telemetry",
        "--lcores",
        "0",
        "--file-prefix",
        "ain-worker-test",
    ]
    .map(str::to_owned);
    let eal = Eal::init(fixed.into_iter().chain(memory_options(64))).expect("EAL");
    let handle = eal.handle();
    let config = PoolConfig {
        name: "worker",
        buffers: 2047,
        data_room: 2176,
        cache: 0,
        socket: None,
    };
    let mempool = Mempool::create(&handle, &config).expect("pool");
    let mut pool = DpdkPool::new(mempool.clone());
    buffers_keep_their_contract(&mut pool);
    buffers_refuse_what_they_cannot(&mut pool);
    the_last_buffer_is_to_be_had(&mempool);
    loop_carries_packets(&handle, &mempool, &mut pool);
    full_ring_drops_the_rest(&handle, &mempool, &mut pool);
    broken_packets_count(&handle, &mempool);
    drop(pool);
    assert_eq!(mempool.in_use(), 0, "a buffer leaked");
}

fn the_last_buffer_is_to_be_had(mempool: &Mempool) {
    let mut pool = DpdkPool::new(mempool.clone());
    let free = mempool.available();
    let held: Vec<DpdkBuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!((held.len(), mempool.available()), (free, 0));
}

fn loop_carries_packets(eal: &Handle, mempool: &Mempool, pool: &mut DpdkPool) {
    let (_running, mut port) = port(eal, "net_ring0", mempool, 1024);
    for first in (0..64 * 50).step_by(64) {
        let mut burst = frames(pool, first, 64);
        port.tx(&mut burst);
        assert!(burst.is_empty());
        for (number, buf) in (first..).zip(receive(&mut port, 64, |_| true)) {
            assert_eq!(buf.data(), frame(number));
        }
    }
    port.tx(&mut frames(pool, 0, 64));
    let mut burst: Burst<DpdkBuf> = frames(pool, 300, 60);
    assert_eq!(port.rx(&mut burst), BURST - 60, "only the free places");
    assert_eq!((burst[59].data(), burst[60].data()), (&frame(359)[..], &frame(0)[..]));
    burst.clear();
    assert_eq!(port.rx(&mut burst), 60);
    let counts = port.counters().read();
    assert_eq!(
        (counts.tx_packets, counts.rx_packets, counts.tx_dropped),
        (64 * 51, 64 * 51, 0)
    );
    assert_eq!(counts.tx_bytes, counts.rx_bytes);
}

fn full_ring_drops_the_rest(eal: &Handle, mempool: &Mempool, pool: &mut DpdkPool) {
    let (_running, mut port) = port(eal, "net_ring1", mempool, 1024);
    for first in (0..1500).step_by(10) {
        port.tx(&mut frames(pool, first, 10));
    }
    let counts = port.counters().read();
    assert_eq!((counts.tx_packets, counts.tx_dropped), (RING, 1500 - RING));
    let came = receive(&mut port, RING as usize, |_| true);
    for (number, buf) in (0..).zip(&came) {
        assert_eq!(buf.data(), frame(number), "the first go, the last are lost");
    }
    assert_eq!(port.counters().read().rx_bytes, counts.tx_bytes);
}

fn broken_packets_count(eal: &Handle, mempool: &Mempool) {
    let (_running, mut port) = port(eal, "net_null0,size=4000", mempool, 1024);
    assert_eq!(port.rx(&mut Burst::new()), 0);
    assert_eq!(port.counters().read().rx_dropped, BURST as u64);
}
