//! The bare primitives over a burst of 32 packets with 32 keys: the floor under every role.

use std::time::Duration;

use ain_crypto::{Aead, AeadAlgorithm, AeadJob, Layer, LayerJob, LayerOp, Mac, MacAlgorithm, MacJob, Portable};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BURST: usize = 32;
/// A standard cell, bytes.
const CELL: usize = 1408;
/// Bytes of a TVT packet that its ICV covers, near enough for every algorithm.
const PACKET: usize = 1464;

fn material(key: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + key) as u8).collect()
}

fn mac(c: &mut Criterion) {
    let mut group = c.benchmark_group("mac");
    group.throughput(Throughput::Elements(BURST as u64));
    for algorithm in [MacAlgorithm::Aes128Gmac, MacAlgorithm::HmacSha256_128] {
        let key = |n| Portable::mac_key(algorithm, &material(n, algorithm.key_bytes())).expect("key");
        let keys: Vec<_> = (0..BURST).map(key).collect();
        let message = vec![0x5a; PACKET];
        let job = |key| MacJob {
            key,
            iv: [7; 8],
            message: &message,
            tag: [0; 16],
        };
        let mut jobs: Vec<_> = keys.iter().map(job).collect();
        let mut backend = Portable::default();
        group.bench_function(format!("{algorithm:?}"), |b| b.iter(|| backend.compute(&mut jobs)));
    }
}

fn aead(c: &mut Criterion) {
    let mut group = c.benchmark_group("aead");
    group.throughput(Throughput::Elements(BURST as u64));
    for algorithm in [AeadAlgorithm::Aes128Gcm16, AeadAlgorithm::Aes256Gcm16] {
        let key = |n| Portable::aead_key(algorithm, &material(n, algorithm.key_bytes())).expect("key");
        let keys: Vec<_> = (0..BURST).map(key).collect();
        let mut texts = vec![[0x5a; CELL]; BURST];
        let job = |(key, text)| AeadJob {
            key,
            iv: [7; 8],
            aad: &[9; 12],
            text,
            tag: [0; 16],
            authentic: false,
        };
        let texts = texts.iter_mut().map(<[u8; CELL]>::as_mut_slice);
        let mut jobs: Vec<_> = keys.iter().zip(texts).map(job).collect();
        let mut backend = Portable::default();
        group.bench_function(format!("seal {algorithm:?}"), |b| b.iter(|| backend.seal(&mut jobs)));
    }
}

fn layer(c: &mut Criterion) {
    let mut group = c.benchmark_group("layer");
    group.throughput(Throughput::Elements(BURST as u64));
    let keys: Vec<_> = (0..BURST).map(|n| Portable::layer_key(&[n as u8; 16])).collect();
    let mut backend = Portable::default();
    for op in [LayerOp::Encrypt, LayerOp::Decrypt] {
        let mut cells = vec![[0x5a; CELL]; BURST];
        let job = |(key, cell)| LayerJob {
            key,
            tweak: [1; 16],
            op,
            cell,
        };
        let cells = cells.iter_mut().map(<[u8; CELL]>::as_mut_slice);
        let mut jobs: Vec<_> = keys.iter().zip(cells).map(job).collect();
        group.bench_function(format!("{op:?}"), |b| b.iter(|| backend.apply(&mut jobs)));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = mac, aead, layer
}
criterion_main!(benches);
