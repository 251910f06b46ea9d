//! `net_memif`: shared memory between two ports, here of one process; a server, a client, two pairs of queues.
mod common;

use common::pair::cross;
use common::{eal, pool, started};

#[test]
fn memif_carries_frames_both_ways() {
    let eal = eal();
    let handle = eal.handle();
    let buffers = pool(&handle, "memif", 16_383);
    let directory = tempdir();
    let socket = directory.join("memif.sock");
    {
        let end = |name: &str, role: &str| {
            let socket = socket.display();
            format!("{name},role={role},id=0,socket={socket},socket-abstract=no,rsize=10")
        };
        let mut server = started(&handle, &end("net_memif0", "server"), 2, &buffers);
        let mut client = started(&handle, &end("net_memif1", "client"), 2, &buffers);
        for queue in 0..2 {
            cross(&mut server, &mut client, queue, &buffers);
            cross(&mut client, &mut server, queue, &buffers);
        }
    }
    assert_eq!(buffers.in_use(), 0, "a buffer leaked");
    std::fs::remove_dir_all(directory).expect("removed");
}

fn tempdir() -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("dpdk-sys-memif-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("directory");
    path
}
