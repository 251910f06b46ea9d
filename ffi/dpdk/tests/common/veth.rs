//! Real frames between a port on one end of a veth pair and a raw socket on the other.
//!
//! ```text
//!   DPDK port ── dpdk0 ═══ veth ═══ host0 ── AF_PACKET socket        (a network namespace of the test thread's own)
//! ```

use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

use dpdk_sys::mempool::Mempool;
use dpdk_sys::port::Started;
use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket};

use super::{Burst, eal, fill, frame, pool, receive, send_all, started};

/// Frames each way.
const FRAMES: u64 = 32 * 100;

/// Frames both ways through the driver of `device`, whose interface is `dpdk0`; then its counters. Once the port is closed, all
/// buffers but the `kept` that the driver's rings may swallow are back: far fewer than frames went through.
pub fn both_ways(driver: &str, device: &str, kept: usize) {
    assert!(kept < FRAMES as usize);
    let host = namespace_with_veth();
    let eal = eal();
    let handle = eal.handle();
    let buffers = pool(&handle, "veth", 8191);
    {
        let mut port = started(&handle, device, 1, &buffers);
        describes_itself(driver, &port);
        frames_cross(&mut port, &host, &buffers);
        let stats = port.port.device().stats().expect("stats");
        assert!(stats.rx_packets >= FRAMES && stats.tx_packets >= FRAMES, "{stats:?}");
        assert!(
            stats.rx_bytes > FRAMES * 60 && stats.tx_bytes > FRAMES * 60,
            "{stats:?}"
        );
    }
    assert!(buffers.in_use() <= kept, "{} buffers leaked", buffers.in_use());
}

/// Frames from the port to the kernel's side and back, each as it was and in order.
pub fn frames_cross(port: &mut Started, host: &OwnedFd, buffers: &Mempool) {
    port_to_host(port, host, buffers);
    host_to_port(port, host);
}

fn describes_itself(driver: &str, port: &Started) {
    let device = port.port.device();
    let info = device.info().expect("info");
    assert_eq!((info.driver.as_str(), info.mtu), (driver, 1500));
    assert_eq!(info.mac.to_string(), "02:00:00:00:00:0d");
    assert!(info.if_index.is_some_and(|i| i > 0), "{info:?}");
    device.set_promiscuous(true).expect("promiscuous");
    assert!(device.is_promiscuous());
}

fn port_to_host(port: &mut Started, host: &OwnedFd, buffers: &Mempool) {
    let mut burst = Burst::new();
    let mut bytes = [0; 2048];
    for first in (0..FRAMES).step_by(32) {
        fill(buffers, first, 32, &mut burst);
        send_all(&mut port.tx[0], &mut burst);
        for number in first..first + 32 {
            let length = host_receive(port, host, &mut bytes);
            assert_eq!(bytes[..length], frame(number), "frame {number}");
        }
    }
}

/// The next frame of ours. Some drivers send on the next call only: they are called in between.
fn host_receive(port: &mut Started, host: &OwnedFd, bytes: &mut [u8]) -> usize {
    for _ in 0..1_000_000 {
        match recv(host.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(length) if ours(&bytes[..length]) => return length,
            Ok(_) => {}
            Err(_) => {
                port.tx[0].tx_burst(&mut Burst::new());
                std::thread::yield_now();
            }
        }
    }
    panic!("no frame at the host's end");
}

fn host_to_port(port: &mut Started, host: &OwnedFd) {
    let mut burst = Burst::new();
    for first in (0..FRAMES).step_by(32) {
        for number in first..first + 32 {
            send(host.as_raw_fd(), &frame(number), MsgFlags::empty()).expect("send");
        }
        receive(&mut port.rx[0], 32, &mut burst, ours);
        for (number, buf) in (first..).zip(&burst) {
            assert_eq!(buf.data(), frame(number), "frame {number}");
        }
        burst.clear();
    }
}

fn ours(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x88, 0xb5])
}

/// Puts this thread into a namespace that ends with it; returns a socket on the host's end.
fn namespace_with_veth() -> OwnedFd {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("sysctl");
    for command in [
        "ip link add dpdk0 address 02:00:00:00:00:0d type veth peer name host0",
        "ip link set host0 up",
        "ip link set dpdk0 up",
    ] {
        let mut words = command.split(' ');
        let status = Command::new(words.next().expect("program"))
            .args(words)
            .status()
            .expect("iproute2 is installed");
        assert!(status.success(), "{command}");
    }
    raw_socket("host0")
}

/// A socket on the kernel's side of an interface.
pub fn raw_socket(interface: &str) -> OwnedFd {
    let raw = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )
    .expect("socket");
    let mut interfaces = getifaddrs().expect("interfaces");
    let host = interfaces
        .find(|i| i.interface_name == interface)
        .and_then(|i| i.address)
        .expect("the interface");
    bind(raw.as_raw_fd(), &host).expect("bind");
    raw
}
