//! Frames between two ports that are each other's other end.

use std::thread::sleep;
use std::time::{Duration, Instant};

use dpdk_sys::mempool::Mempool;
use dpdk_sys::port::Started;

use super::{Burst, fill, frame};

/// Frames each way.
const FRAMES: u64 = 16 * 200;
const PATIENCE: Duration = Duration::from_secs(20);

/// Frames from a queue of one port to the same queue of another: whole and in order. Waits for the two to find each other: until then
/// they drop what is sent, and nothing else is lost.
pub fn cross(from: &mut Started, to: &mut Started, queue: usize, pool: &Mempool) {
    let mut burst = Burst::new();
    let mut sent = 0;
    let mut received = 0;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if sent < FRAMES && sent - received < 128 {
            fill(pool, sent, 16, &mut burst);
            from.tx[queue].tx_burst(&mut burst);
            if burst.len() < 16 {
                assert!(burst.is_empty(), "rings of 1024 take a burst whole");
                sent += 16;
            }
            burst.clear();
        }
        if to.rx[queue].rx_burst(&mut burst) == 0 {
            sleep(Duration::from_micros(20));
        }
        for buf in burst
            .drain(..)
            .filter(|buf| buf.data().get(12..14) == Some(&[0x88, 0xb5]))
        {
            assert_eq!(buf.data(), frame(received), "frame {received}");
            received += 1;
        }
        if received == FRAMES {
            return;
        }
    }
    panic!("{received} of {FRAMES} frames came, {sent} were sent");
}
