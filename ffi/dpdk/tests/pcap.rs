//! `net_pcap`: packets out of one capture file, into another, and the second read again as the first.
mod common;

use std::path::{Path, PathBuf};

use common::{Burst, eal, frame, pool, send_all, started};
use dpdk_sys::eal::Handle;
use dpdk_sys::mempool::Mempool;

const FRAMES: u64 = 500;

#[test]
fn pcap_files_pass_through() {
    let eal = eal();
    let handle = eal.handle();
    let buffers = pool(&handle, "pcap", 4095);
    let directory = std::env::temp_dir().join(format!("dpdk-sys-pcap-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("directory");
    let files: [PathBuf; 3] = [0, 1, 2].map(|number| directory.join(format!("{number}.pcap")));
    std::fs::write(&files[0], capture()).expect("written");
    replay(&handle, 0, &files[0], &files[1], &buffers);
    replay(&handle, 1, &files[1], &files[2], &buffers);
    assert_eq!(buffers.in_use(), 0, "a buffer leaked");
    std::fs::remove_dir_all(directory).expect("removed");
}

/// Every frame of one file, in order, into another.
fn replay(eal: &Handle, number: u32, from: &Path, to: &Path, pool: &Mempool) {
    let device = format!("net_pcap{number},rx_pcap={},tx_pcap={}", from.display(), to.display());
    let mut port = started(eal, &device, 1, pool);
    let (mut burst, mut next) = (Burst::new(), 0);
    while port.rx[0].rx_burst(&mut burst) > 0 {
        for buf in &burst {
            assert_eq!(buf.data(), frame(next), "frame {next} of {device}");
            next += 1;
        }
        send_all(&mut port.tx[0], &mut burst);
    }
    assert_eq!(next, FRAMES);
}

/// A capture file (draft-ietf-opsawg-pcap): its header, then each frame behind its own; little-endian.
fn capture() -> Vec<u8> {
    let word = |value: u32| value.to_le_bytes();
    let mut file: Vec<u8> = [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, 1].map(word).concat();
    for number in 0..FRAMES {
        let bytes = frame(number);
        let length = bytes.len() as u32;
        file.extend([number as u32, 0, length, length].map(word).concat());
        file.extend(bytes);
    }
    file
}
