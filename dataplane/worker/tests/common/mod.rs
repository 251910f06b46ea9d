//! What the tests share: the contracts of buffers and ports, packets that can be told apart.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use ain_dataplane::packet::{BufPool, HEADROOM, PacketBuf};
use ain_worker::port::{Burst, Port};

/// Packet number `number`: an Ethernet frame of an experimental type, its length and bytes following from the number.
pub fn frame(number: u64) -> Vec<u8> {
    let mut bytes = vec![0xff; 6];
    bytes.extend([0x02, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    bytes.extend(number.to_be_bytes());
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let length = 60 + (state >> 20) as usize % 1455;
    bytes.resize_with(length, || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    });
    bytes
}

/// The frame of another program does not count.
pub fn ours(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x88, 0xb5])
}

/// A buffer with `bytes` in it.
pub fn filled<P: BufPool>(pool: &mut P, bytes: &[u8]) -> P::Buf {
    let mut buf = pool.alloc().expect("buffer");
    buf.grow_back(bytes.len());
    buf.data_mut().copy_from_slice(bytes);
    buf
}

/// Frames `first..first + count`.
pub fn frames<P: BufPool>(pool: &mut P, first: u64, count: u64) -> Burst<P::Buf> {
    (first..first + count)
        .map(|number| filled(pool, &frame(number)))
        .collect()
}

/// Receives `count` packets that `wanted` accepts.
pub fn receive<P: Port>(port: &mut P, count: usize, wanted: impl Fn(&[u8]) -> bool) -> Vec<P::Buf> {
    let mut all = Vec::new();
    let mut burst = Burst::new();
    for _ in 0..1_000_000 {
        if port.rx(&mut burst) == 0 {
            std::thread::yield_now();
        }
        all.extend(burst.drain(..).filter(|b| wanted(b.data())));
        if all.len() >= count {
            return all;
        }
    }
    panic!("{} of {count} packets came", all.len());
}

/// What every buffer does, whatever it is made of.
pub fn buffers_keep_their_contract<P: BufPool>(pool: &mut P) {
    let mut buf = pool.alloc().expect("buffer");
    assert!(buf.data().is_empty());
    assert!(buf.headroom() >= HEADROOM);
    let (before, behind) = (buf.headroom(), buf.tailroom());
    buf.grow_back(10);
    buf.data_mut().copy_from_slice(b"0123456789");
    buf.grow_front(4);
    buf.data_mut()[..4].copy_from_slice(b"abcd");
    assert_eq!(buf.data(), b"abcd0123456789");
    buf.trim_front(2);
    buf.truncate(9);
    assert_eq!(buf.data(), b"cd0123456");
    buf.truncate(10);
    assert_eq!(buf.data(), b"cd0123456", "no effect past the length");
    assert_eq!((buf.headroom(), buf.tailroom()), (before - 2, behind - 7));
    buf.grow_front(before - 2);
    buf.grow_back(behind - 7);
    assert_eq!((buf.headroom(), buf.tailroom()), (0, 0));
    assert_eq!(&buf.data()[before - 2..before + 7], b"cd0123456");
    buf.truncate(0);
    assert!(buf.data().is_empty());
    drop(buf);
    let again = pool.alloc().expect("buffer");
    assert_eq!(
        (again.data().len(), again.headroom(), again.tailroom()),
        (0, before, behind),
        "fresh again"
    );
}

/// Past its limits a buffer panics and does not touch a neighbour's memory.
pub fn buffers_refuse_what_they_cannot<P: BufPool>(pool: &mut P) {
    let refusals: [fn(&mut P::Buf); 3] = [
        |b| b.grow_front(b.headroom() + 1),
        |b| b.grow_back(b.tailroom() + 1),
        |b| b.trim_front(b.data().len() + 1),
    ];
    for refused in refusals {
        let mut buf = filled(pool, b"abc");
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| refused(&mut buf)));
        assert!(caught.is_err());
        assert_eq!(buf.data(), b"abc");
    }
}
