//! The bare primitives over a burst of 32 packets with 32 keys, on the fastest backend of this machine: the floor under every role.

use std::time::Duration;

use ain_bench::backend::{Choice, Fresh, WithBackend, with};
use ain_bench::role::mac_name;
use ain_crypto::{AeadAlgorithm, AeadJob, LayerJob, LayerOp, MacAlgorithm, MacJob};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BURST: usize = 32;
/// A standard cell, bytes.
const CELL: usize = 1408;
/// Bytes of a TVT packet that its ICV covers, near enough for every algorithm.
const PACKET: usize = 1464;

fn material(key: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + key) as u8).collect()
}

fn mac<C: Fresh>(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("{}/mac", C::NAME));
    group.throughput(Throughput::Elements(BURST as u64));
    for algorithm in [
        MacAlgorithm::Aes128Gmac,
        MacAlgorithm::HmacSha256_128,
        MacAlgorithm::AesCmac96,
    ] {
        let key = |n| C::mac_key(algorithm, &material(n, algorithm.key_bytes())).expect("key");
        let keys: Vec<_> = (0..BURST).map(key).collect();
        let message = vec![0x5a; PACKET];
        let job = |key| MacJob {
            key,
            iv: [7; 8],
            message: &message,
            tag: [0; 16],
        };
        let mut jobs: Vec<_> = keys.iter().map(job).collect();
        let mut backend = C::fresh();
        group.bench_function(mac_name(algorithm), |b| b.iter(|| backend.compute(&mut jobs)));
    }
}

fn aead<C: Fresh>(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("{}/aead", C::NAME));
    group.throughput(Throughput::Elements(BURST as u64));
    for algorithm in [AeadAlgorithm::Aes128Gcm16, AeadAlgorithm::Aes256Gcm16] {
        let key = |n| C::aead_key(algorithm, &material(n, algorithm.key_bytes())).expect("key");
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
        let mut backend = C::fresh();
        group.bench_function(format!("seal {algorithm:?}"), |b| b.iter(|| backend.seal(&mut jobs)));
    }
}

fn layer<C: Fresh>(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("{}/layer", C::NAME));
    group.throughput(Throughput::Elements(BURST as u64));
    let keys: Vec<_> = (0..BURST).map(|n| C::layer_key(&[n as u8; 16])).collect();
    let mut backend = C::fresh();
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

struct All<'a>(&'a mut Criterion);

impl WithBackend for All<'_> {
    type Output = ();

    fn run<C: Fresh>(self) {
        mac::<C>(self.0);
        aead::<C>(self.0);
        layer::<C>(self.0);
    }
}

fn all(c: &mut Criterion) {
    with(Choice::Auto, All(c));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = all
}
criterion_main!(benches);
