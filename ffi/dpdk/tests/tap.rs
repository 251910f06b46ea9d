//! `net_tap`: a port whose other side is an interface of the kernel's.
mod common;

use common::veth::{frames_cross, raw_socket};
use common::{eal, pool, started};
use nix::sched::{CloneFlags, unshare};

#[test]
fn tap_carries_frames_both_ways() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("sysctl");
    let eal = eal();
    let handle = eal.handle();
    let buffers = pool(&handle, "tap", 8191);
    {
        let mut port = started(&handle, "net_tap0,iface=ain-tap0", 1, &buffers);
        let kernel = raw_socket("ain-tap0");
        port.port.device().set_promiscuous(true).expect("promiscuous");
        frames_cross(&mut port, &kernel, &buffers);
    }
    assert_eq!(buffers.in_use(), 0, "a buffer leaked");
}
