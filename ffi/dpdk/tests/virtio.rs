//! `net_virtio_user` over `net_vhost`: the two sides of a vhost-user socket, here of one process.
mod common;

use common::pair::cross;
use common::{MEMORY_MB, eal_with, pool, started};
use dpdk_sys::eal::memory_options;

#[test]
fn virtio_and_vhost_carry_frames_both_ways() {
    let mut memory = memory_options(MEMORY_MB);
    // The other side maps this memory too: as one file, not as one a page.
    memory.push("--single-file-segments".into());
    let eal = eal_with(memory);
    let handle = eal.handle();
    let buffers = pool(&handle, "virtio", 16_383);
    let socket = std::env::temp_dir().join(format!("dpdk-sys-vhost-{}.sock", std::process::id()));
    {
        let path = socket.display();
        let mut vhost = started(&handle, &format!("net_vhost0,iface={path},queues=1"), 1, &buffers);
        let device = format!("net_virtio_user0,path={path},queues=1,mac=02:00:00:00:00:0e");
        let mut virtio = started(&handle, &device, 1, &buffers);
        assert_eq!(
            virtio.port.device().info().expect("info").mac.to_string(),
            "02:00:00:00:00:0e"
        );
        cross(&mut virtio, &mut vhost, 0, &buffers);
        cross(&mut vhost, &mut virtio, 0, &buffers);
    }
    drop(std::fs::remove_file(socket));
}
