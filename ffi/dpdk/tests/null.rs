//! `net_null`: a source without end and a sink. No buffer leaks, none is made up, and the EAL waits for the last one.
mod common;

use arrayvec::ArrayVec;
use common::{Burst, eal, pool, started};
use dpdk_sys::eal::{CleanupError, Handle};
use dpdk_sys::mbuf::Mbuf;
use dpdk_sys::mempool::Mempool;

#[test]
fn null_port() {
    let eal = eal();
    let handle = eal.handle();
    let buffers = pool(&handle, "null", 255);
    source_to_sink(&handle, &buffers);
    exhausted_pool_recovers(&handle, &buffers);
    packets_longer_than_buffers(&handle, &buffers);
    let mut last = buffers.alloc().expect("buffer");
    drop((buffers, handle));
    assert_eq!(eal.cleanup(), Err(CleanupError::BuffersInUse(1)));
    last.append(4).expect("room");
    last.data_mut().copy_from_slice(b"live");
    assert_eq!(last.data(), b"live", "the buffer outlives the owner of the EAL");
}

fn source_to_sink(eal: &Handle, pool: &Mempool) {
    let mut port = started(eal, "net_null0,size=64", 1, pool);
    let mut burst = Burst::new();
    for _ in 0..10_000 {
        assert_eq!(port.rx[0].rx_burst(&mut burst), 32);
        assert!(burst.iter().all(|b| b.len() == 64));
        assert_eq!(port.tx[0].tx_burst(&mut burst), 32);
        assert!(burst.is_empty());
    }
    let stats = port.port.device().stats().expect("stats");
    assert_eq!((stats.rx_packets, stats.tx_packets), (320_000, 320_000));
    assert_eq!(pool.in_use(), 0);
}

fn exhausted_pool_recovers(eal: &Handle, pool: &Mempool) {
    let mut port = started(eal, "net_null1,size=64", 1, pool);
    let mut held = Vec::new();
    loop {
        let mut one = ArrayVec::<Mbuf, 1>::new();
        if port.rx[0].rx_burst(&mut one) == 0 {
            break;
        }
        held.extend(one);
    }
    assert_eq!((held.len(), pool.in_use(), pool.available()), (255, 255, 0));
    drop(held);
    assert_eq!(pool.in_use(), 0);
    let mut burst = Burst::new();
    assert_eq!(port.rx[0].rx_burst(&mut burst), 32, "it serves again");
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}

/// The driver claims more bytes than a buffer has; none of them may be seen.
fn packets_longer_than_buffers(eal: &Handle, pool: &Mempool) {
    let mut port = started(eal, "net_null2,size=4000", 1, pool);
    let mut burst = Burst::new();
    assert_eq!(port.rx[0].rx_burst(&mut burst), 0);
    assert_eq!(port.rx[0].broken(), 32);
    assert_eq!(pool.in_use(), 0);
}
