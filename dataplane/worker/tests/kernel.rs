//! Ports that the kernel gives: `AF_PACKET` over a veth pair, TUN and TAP. Each test in a network namespace of its own thread.

mod common;

use std::net::UdpSocket;
use std::process::Command;

use ain_dataplane::packet::PacketBuf;
use ain_dataplane::wire::ethernet::MacAddr;
use ain_worker::af_packet::{AfPacketError, AfPacketPort};
use ain_worker::port::{Burst, Port};
use ain_worker::tun::{TunError, TunPort, frame_room};
use ain_worker::vec_buf::VecPool;
use common::{filled, frame, frames, ours, receive};
use nix::sched::{CloneFlags, unshare};

/// Puts this thread into a namespace that ends with it, without IPv6 and its unasked-for packets.
fn namespace(commands: &[&str]) {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("sysctl");
    commands.iter().for_each(|command| run(command));
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let status = Command::new(words.next().expect("program"))
        .args(words)
        .status()
        .expect("iproute2 is installed");
    assert!(status.success(), "{command}");
}

fn veth() {
    namespace(&[
        "ip link add left address 02:00:00:00:00:0a type veth peer name right",
        "ip link set left up",
        "ip link set right up",
    ]);
}

#[test]
fn af_packet_carries_frames_both_ways() {
    veth();
    let mut pool = VecPool::new(512, 2048);
    let mut left = AfPacketPort::open("left", pool.clone()).expect("left");
    let mut right = AfPacketPort::open("right", pool.clone()).expect("right");
    assert_eq!(left.mac(), [2, 0, 0, 0, 0, 0x0a]);
    for first in (0..64 * 20).step_by(64) {
        left.tx(&mut frames(&mut pool, first, 64));
        for (number, buf) in (first..).zip(receive(&mut right, 64, ours)) {
            assert_eq!(buf.data(), frame(number));
        }
    }
    right.tx(&mut frames(&mut pool, 5000, 3));
    let back = receive(&mut left, 3, ours);
    assert_eq!(
        back.iter().map(|b| b.data().to_vec()).collect::<Vec<_>>(),
        [frame(5000), frame(5001), frame(5002)]
    );
    assert_eq!(left.rx(&mut Burst::new()), 0, "what it sent itself does not come back");
    let counts = left.counters().read();
    assert_eq!((counts.tx_packets, counts.tx_dropped, counts.rx_dropped), (1280, 0, 0));
    drop((back, left, right));
    assert_eq!(pool.available(), 512);
}

#[test]
fn af_packet_counts_what_is_too_long_and_what_cannot_leave() {
    veth();
    let mut pool = VecPool::new(512, 2048);
    let mut left = AfPacketPort::open("left", pool.clone()).expect("left");
    let mut right = AfPacketPort::open("right", VecPool::new(8, 100)).expect("right");
    let short = [&frame(1)[..20], &[7; 50]].concat();
    let mut burst = Burst::new();
    burst.extend([
        filled(&mut pool, &[&frame(1)[..20], &[7; 500]].concat()),
        filled(&mut pool, &short),
    ]);
    burst.push(filled(&mut pool, &[&frame(1)[..20], &[7; 1600]].concat()));
    left.tx(&mut burst);
    let came = receive(&mut right, 1, ours);
    assert_eq!(came[0].data(), short);
    assert_eq!(right.counters().read().rx_dropped, 1, "520 bytes do not fit into 100");
    let counts = left.counters().read();
    assert_eq!(
        (counts.tx_packets, counts.tx_bytes, counts.tx_dropped),
        (2, 590, 1),
        "1620 bytes exceed the MTU"
    );
    run("ip link set left down");
    left.tx(&mut frames(&mut pool, 0, 4));
    assert_eq!(left.counters().read().tx_dropped, 5);
    drop(left);
    assert_eq!(pool.available(), 512);
}

#[test]
fn af_packet_names_what_is_missing() {
    veth();
    let error = AfPacketPort::open("nowhere", VecPool::new(1, 100)).expect_err("no such interface");
    assert!(
        matches!(&error, AfPacketError::NoInterface(name) if name == "nowhere"),
        "{error}"
    );
}

#[test]
fn tun_carries_datagrams_of_the_host() {
    namespace(&[]);
    let mut pool = VecPool::new(64, 2048);
    let mut port = TunPort::create("aintest0", 1386, pool.clone()).expect("tun");
    run("ip addr add 10.9.0.1/24 dev aintest0");
    let mtu = Command::new("ip")
        .args(["link", "show", "aintest0"])
        .output()
        .expect("ip")
        .stdout;
    assert!(String::from_utf8_lossy(&mtu).contains("mtu 1386"));
    let host = UdpSocket::bind("10.9.0.1:4000").expect("socket");
    host.send_to(b"a question", "10.9.0.2:5000").expect("send");
    let from_udp = |p: &[u8]| p.len() > 28 && p[0] == 0x45 && p[9] == 17;
    let asked = receive(&mut port, 1, from_udp).remove(0);
    assert_eq!(
        (&asked.data()[12..20], &asked.data()[28..]),
        (&[10, 9, 0, 1, 10, 9, 0, 2][..], &b"a question"[..])
    );
    port.tx(&mut [answer(&mut pool, asked.data())].into_iter().collect());
    host.set_read_timeout(Some(std::time::Duration::from_secs(5)))
        .expect("timeout");
    let mut bytes = [0; 100];
    let (length, from) = host.recv_from(&mut bytes).expect("answer");
    assert_eq!(
        (&bytes[..length], from.to_string().as_str()),
        (&b"a question"[..], "10.9.0.2:5000")
    );
    assert_eq!(port.counters().read().tx_packets, 1);
}

/// The datagram back to its sender: with both pairs of addresses and ports swapped its checksums stay right.
fn answer(pool: &mut VecPool, question: &[u8]) -> ain_worker::vec_buf::VecBuf {
    let mut bytes = question.to_vec();
    let (source, destination) = bytes[12..20].split_at_mut(4);
    source.swap_with_slice(destination);
    let (source, destination) = bytes[20..24].split_at_mut(2);
    source.swap_with_slice(destination);
    filled(pool, &bytes)
}

#[test]
fn tap_carries_frames_under_the_address_it_was_given() {
    namespace(&[]);
    let mac = MacAddr([2, 0, 0, 0, 0, 7]);
    let pool = VecPool::new(64, frame_room(1500));
    let mut port = TunPort::create_tap("aintest3", mac, 1500, pool).expect("tap");
    run("ip addr add 10.9.0.1/24 dev aintest3");
    let host = UdpSocket::bind("10.9.0.1:4000").expect("socket");
    host.send_to(b"a question", "10.9.0.2:5000").expect("send");
    let asked = receive(&mut port, 1, |frame| frame[12..14] == [8, 6]).remove(0);
    assert_eq!((&asked.data()[..6], &asked.data()[6..12]), (&[0xff; 6][..], &mac.0[..]));
    let small = VecPool::new(1, frame_room(1500) - 1);
    let error = TunPort::create_tap("aintest4", mac, 1500, small).expect_err("buffers too small");
    assert!(matches!(error, TunError::Buffers { .. }), "{error}");
}

#[test]
fn tun_refuses_what_it_cannot() {
    namespace(&[]);
    let error = TunPort::create("aintest1", 1400, VecPool::new(1, 1399)).expect_err("buffers too small");
    assert!(
        matches!(
            error,
            TunError::Buffers {
                mtu: 1400,
                room: 1399,
                ..
            }
        ),
        "{error}"
    );
    let _first = TunPort::create("aintest2", 1400, VecPool::new(1, 1500)).expect("tun");
    let error = TunPort::create("aintest2", 1400, VecPool::new(1, 1500)).expect_err("the name is taken");
    assert!(matches!(error, TunError::Create { .. }), "{error}");
}
