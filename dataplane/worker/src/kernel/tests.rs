use ain_dataplane::limits::{EXCEPTIONS_OUT, HANDOFF_RING};
use ain_dataplane::packet::PacketBuf;

use super::*;
use crate::mem::{MemPort, pair};

/// What waits for the kernel beyond this is left where it is.
const ROOM: usize = HANDOFF_RING;

struct World {
    workers: Vec<WorkerEnd>,
    kernel: KernelEnd<MemPort<VecBuf>>,
    /// The other side of the tap.
    stack: MemPort<VecBuf>,
    pool: VecPool,
}

fn world(workers: usize) -> World {
    let pool = VecPool::new(buffers(workers), 100);
    let (tap, stack) = pair(ROOM);
    let (workers, kernel) = ways(tap, workers, &pool);
    World {
        workers,
        kernel,
        stack,
        pool,
    }
}

fn first_bytes(frames: impl IntoIterator<Item = VecBuf>) -> Vec<u8> {
    frames.into_iter().map(|frame| frame.data()[0]).collect()
}

#[test]
fn frames_pass_both_ways() {
    let mut world = world(2);
    world.workers[0].give(Exception::Other, &[1; 60]).unwrap();
    world.workers[1].give(Exception::Neighbour, &[2; 42]).unwrap();
    assert!(world.kernel.step(Now(1)));
    let mut burst = Burst::new();
    world.stack.rx(&mut burst);
    assert_eq!(
        burst.iter().map(|frame| frame.data().len()).collect::<Vec<_>>(),
        [60, 42]
    );
    assert_eq!(first_bytes(burst.drain(..)), [1, 2]);

    burst.push(filled(&mut world.pool, &[3; 42]).unwrap());
    world.stack.tx(&mut burst);
    assert!(world.kernel.step(Now(1)));
    assert_eq!(world.workers[1].frames().count(), 0, "one worker sends for the kernel");
    assert_eq!(first_bytes(world.workers[0].frames()), [3]);
    assert!(!world.kernel.step(Now(1)));
    assert_eq!(world.pool.available(), world.pool.size());
}

#[test]
fn the_last_places_are_kept_for_what_tunnels_need() {
    let mut world = world(1);
    let mut given = |kind, frames| {
        let given = (0..frames).map(|_| world.workers[0].give(kind, &[0; 60]));
        given.filter(Result::is_ok).count()
    };
    assert_eq!(given(Exception::Other, KERNEL_RING), KERNEL_RING - KERNEL_RING_KEPT);
    assert_eq!(given(Exception::Ike, 8), 8);
    assert_eq!(given(Exception::Neighbour, KERNEL_RING), KERNEL_RING_KEPT - 8);
    assert_eq!(
        world.workers[0].give(Exception::Neighbour, &[0; 60]),
        Err(DropReason::ExceptionFull)
    );
}

#[test]
fn a_frame_that_no_buffer_holds_is_lost_and_counted() {
    let mut world = world(1);
    let long = world.workers[0].give(Exception::Ike, &[0; 101]);
    assert_eq!(long, Err(DropReason::ExceptionFull));
    assert_eq!(world.pool.available(), world.pool.size());
}

/// The kernel sends more than it may, and more than the worker takes.
#[test]
fn the_kernel_cannot_flood_a_worker() {
    let mut world = world(1);
    let counters = world.kernel.counters();
    let mut send = |now, taken: bool| {
        let mut burst: Burst<VecBuf> = (0..BURST).map_while(|_| filled(&mut world.pool, &[0; 60])).collect();
        world.stack.tx(&mut burst);
        world.kernel.step(now);
        if taken { world.workers[0].frames().count() } else { 0 }
    };
    let at_once: usize = (0..8).map(|_| send(Now(1), true)).sum();
    assert_eq!(at_once as u64, EXCEPTIONS_OUT.burst);
    assert_eq!(
        counters.drops(DropReason::ExceptionRate),
        8 * BURST as u64 - EXCEPTIONS_OUT.burst
    );
    let sent = 2 * KERNEL_RING / BURST;
    for second in 1..=sent as u64 {
        send(Now(second * Now::SECOND), false);
    }
    assert_eq!(counters.drops(DropReason::ExceptionFull), KERNEL_RING as u64);
}
