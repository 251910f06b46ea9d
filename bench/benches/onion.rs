//! One onion layer at every level of the machine, beside AES-CTR and POLYVAL over the same bytes: cycles a standard cell, 32 cells
//! with 32 keys a burst. All take turns. "hot" keys are the same 32 in every burst, "cold" ones are drawn from 256k.

use std::hint::black_box;

use aes::cipher::{KeyIvInit, StreamCipher};
use ain_bench::clock::Clock;
use ain_bench::stats::Spread;
use ain_crypto::{LayerJob, LayerOp, Level, Onion, OnionKey};
use polyval::Polyval;
use polyval::universal_hash::UniversalHash;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Ctr = ctr::Ctr64LE<aes::Aes128>;

const BURST: usize = 32;
/// A standard cell, bytes.
const CELL: usize = 1408;
const COLD_KEYS: usize = 1 << 18;
const TURNS: usize = 400;

/// What takes a turn: a name, and a burst of cells with the indices of their keys.
type Side<'a> = (String, Box<dyn FnMut(&mut [[u8; CELL]], &[usize]) + 'a>);

fn main() {
    let keys: Vec<OnionKey> = (0..COLD_KEYS)
        .map(|n| OnionKey::new(&(n as u128).to_le_bytes()))
        .collect();
    let mut sides: Vec<Side<'_>> = Vec::new();
    for level in Level::available() {
        for op in [LayerOp::Encrypt, LayerOp::Decrypt] {
            let name = format!("HCTR2-AES-128 {level} {op:?}");
            sides.push((
                name,
                Box::new(layer(Onion::with_level(level).expect("available"), op, &keys)),
            ));
        }
    }
    sides.push(("AES-128-CTR (aes, ctr)".into(), Box::new(key_stream())));
    sides.push(("POLYVAL (polyval)".into(), Box::new(hash())));

    let clock = Clock::new();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut cells = vec![[0x5a; CELL]; BURST];
    let mut cycles = vec![[const { Vec::new() }; 2]; sides.len()];
    for _ in 0..TURNS {
        for ((_, run), cycles) in sides.iter_mut().zip(&mut cycles) {
            let hot: Vec<usize> = (0..BURST).collect();
            let cold: Vec<usize> = (0..BURST).map(|_| rng.random_range(0..COLD_KEYS)).collect();
            run(&mut cells, &hot);
            for (picked, cycles) in [hot, cold].into_iter().zip(cycles) {
                let start = clock.ticks();
                run(black_box(&mut cells), &picked);
                cycles.push((clock.ticks() - start) as f64 / BURST as f64);
            }
        }
    }
    println!(
        "{:<40} {:>10} {:>10}  cycles a cell, medians",
        "", "hot keys", "cold keys"
    );
    for ((name, _), cycles) in sides.iter().zip(cycles) {
        let [hot, cold] = cycles.map(|cycles| Spread::of(cycles).median);
        println!("{name:<40} {hot:>10.0} {cold:>10.0}");
    }
}

fn layer(engine: Onion, op: LayerOp, keys: &[OnionKey]) -> impl FnMut(&mut [[u8; CELL]], &[usize]) {
    move |cells, picked| {
        let job = |(cell, &key): (_, &usize)| LayerJob {
            key: &keys[key],
            tweak: [1; 16],
            op,
            cell,
        };
        let cells = cells.iter_mut().map(<[u8; CELL]>::as_mut_slice);
        let mut jobs: Vec<_> = cells.zip(picked).map(job).collect();
        engine.run(&mut jobs);
    }
}

/// CTR with keys expanded beforehand, 32 of them.
fn key_stream() -> impl FnMut(&mut [[u8; CELL]], &[usize]) {
    let mut streams: Vec<Ctr> = (0..BURST)
        .map(|n| Ctr::new(&[n as u8; 16].into(), &[0; 16].into()))
        .collect();
    move |cells, _| {
        for (cell, stream) in cells.iter_mut().zip(&mut streams) {
            stream.apply_keystream(cell);
        }
    }
}

/// POLYVAL with keys expanded beforehand, 32 of them.
fn hash() -> impl FnMut(&mut [[u8; CELL]], &[usize]) {
    let states: Vec<Polyval> = (0..BURST).map(|n| Polyval::new(&[n as u8; 16].into())).collect();
    move |cells, _| {
        for (cell, state) in cells.iter().zip(&states) {
            let mut state = state.clone();
            state.update_padded(cell);
            black_box(state.finalize());
        }
    }
}
