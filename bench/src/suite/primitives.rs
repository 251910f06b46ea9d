//! The bare primitives, hot: bursts of 32 messages under 32 keys, all taking turns; and what `openssl speed` says in the same run.
//!
//! HCTR2 is set beside AES-128-GCM over the same bytes, which is one pass of CTR and one of POLYVAL's twin GHASH, stitched together by
//! the fastest library of the machine: a stricter measure than the two one after the other.

use std::hint::black_box;
use std::process::Command;

use ain_crypto::{AeadAlgorithm, AeadJob, KeyLengthError, LayerJob, LayerOp, MacAlgorithm, MacJob};

use super::Run;
use crate::backend::Fresh;
use crate::clock::Clock;
use crate::memory::Memories;
use crate::role::mac_name;
use crate::stats::Spread;

const BURST: usize = 32;
/// A standard cell, bytes.
const CELL: usize = 1408;
/// What the ICV of a TVT packet covers, bytes, near enough for every algorithm.
const PACKET: usize = 1464;
/// Bursts of one turn.
const LOOPS: u64 = 16;

type Measure = Box<dyn FnMut()>;

/// Measures and adds `primitives.*`, `hctr2.*` and `openssl.*`.
///
/// # Errors
/// Never with the backends there are: key material is as long as the algorithm says.
pub fn run<C: Fresh, P: Memories>(run: &mut Run<'_, P>, turns: usize) -> anyhow::Result<()> {
    let mut measures: Vec<(String, Measure)> = Vec::new();
    for algorithm in [
        MacAlgorithm::Aes128Gmac,
        MacAlgorithm::HmacSha256_128,
        MacAlgorithm::AesCmac96,
    ] {
        measures.push((format!("{}.{PACKET}", mac_name(algorithm)), mac::<C>(algorithm)?));
    }
    measures.push((format!("gcm.{CELL}"), gcm::<C>()?));
    measures.push((format!("hctr2.{CELL}"), hctr2::<C>()));
    let figures = take_turns(&mut measures, &run.clock, turns);
    println!(
        "\n{:<24} {:>8} {:>8} {:>6}",
        "cycles a message, hot", "median", "min", "iqr%"
    );
    for (name, spread) in figures {
        println!(
            "{name:<24} {:>8.0} {:>8.0} {:>6.1}",
            spread.median,
            spread.min,
            spread.iqr_percent()
        );
        run.summary.put(&format!("primitives.{name}.cycles"), spread.median);
    }
    run.summary.put_ratio(
        "hctr2.1408.ratio_to_ctr_polyval",
        "primitives.hctr2.1408.cycles",
        "primitives.gcm.1408.cycles",
    );
    openssl(run);
    Ok(())
}

fn mac<C: Fresh>(algorithm: MacAlgorithm) -> Result<Measure, KeyLengthError> {
    let key = |n| C::mac_key(algorithm, &material(n, algorithm.key_bytes()));
    let keys: Vec<C::MacKey> = (0..BURST).map(key).collect::<Result<_, _>>()?;
    let (mut crypto, message) = (C::fresh(), vec![0x5a; PACKET]);
    Ok(Box::new(move || {
        let jobs = keys.iter().map(|key| MacJob {
            key,
            iv: [7; 8],
            message: &message,
            tag: [0; 16],
        });
        let mut jobs: Vec<_> = jobs.collect();
        (0..LOOPS).for_each(|_| crypto.compute(black_box(&mut jobs)));
    }))
}

fn gcm<C: Fresh>() -> Result<Measure, KeyLengthError> {
    let algorithm = AeadAlgorithm::Aes128Gcm16;
    let key = |n| C::aead_key(algorithm, &material(n, algorithm.key_bytes()));
    let keys: Vec<C::AeadKey> = (0..BURST).map(key).collect::<Result<_, _>>()?;
    let (mut crypto, mut texts) = (C::fresh(), vec![vec![0x5a; CELL]; BURST]);
    Ok(Box::new(move || {
        let jobs = keys.iter().zip(&mut texts).map(|(key, text)| AeadJob {
            key,
            iv: [7; 8],
            aad: &[9; 12],
            text,
            tag: [0; 16],
            authentic: false,
        });
        let mut jobs: Vec<_> = jobs.collect();
        (0..LOOPS).for_each(|_| crypto.seal(black_box(&mut jobs)));
    }))
}

fn hctr2<C: Fresh>() -> Measure {
    let keys: Vec<C::LayerKey> = (0..BURST).map(|n| C::layer_key(&[n as u8; 16])).collect();
    let (mut crypto, mut cells) = (C::fresh(), vec![vec![0x5a; CELL]; BURST]);
    Box::new(move || {
        let jobs = keys.iter().zip(&mut cells).map(|(key, cell)| LayerJob {
            key,
            tweak: [1; 16],
            op: LayerOp::Encrypt,
            cell,
        });
        let mut jobs: Vec<_> = jobs.collect();
        (0..LOOPS).for_each(|_| crypto.apply(black_box(&mut jobs)));
    })
}

fn material(key: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + key) as u8).collect()
}

/// Cycles a message.
fn take_turns(measures: &mut [(String, Measure)], clock: &Clock, turns: usize) -> Vec<(String, Spread)> {
    let mut cycles = vec![Vec::new(); measures.len()];
    for turn in 0..=turns {
        for ((_, measure), cycles) in measures.iter_mut().zip(&mut cycles) {
            let start = clock.ticks();
            measure();
            let each = (clock.ticks() - start) as f64 / (LOOPS * BURST as u64) as f64;
            if turn > 0 {
                cycles.push(each);
            }
        }
    }
    let names = measures.iter().map(|(name, _)| name.clone());
    names.zip(cycles.into_iter().map(Spread::of)).collect()
}

/// One message at a time under one key, by the processor time of `openssl speed`.
fn openssl<P: Memories>(run: &mut Run<'_, P>) {
    for (algorithm, bytes) in [("aes-128-gcm", CELL), ("sha256", PACKET)] {
        let seconds = run.scale.pick("1", "1", "3");
        let Some(per_second) = speed(algorithm, bytes, seconds) else {
            println!("openssl {algorithm}: skipped, no `openssl speed` here");
            run.summary.note("openssl.note", "no `openssl speed` here");
            continue;
        };
        let cycles = run.clock.hz() / (per_second / bytes as f64);
        println!("{:<24} {cycles:>8.0}", format!("openssl {algorithm}.{bytes}"));
        run.summary.put(&format!("openssl.{algorithm}.{bytes}.cycles"), cycles);
    }
}

/// Bytes a second.
fn speed(algorithm: &str, bytes: usize, seconds: &str) -> Option<f64> {
    let bytes = bytes.to_string();
    let arguments = ["speed", "-mr", "-seconds", seconds, "-bytes", &bytes, "-evp", algorithm];
    let output = Command::new("openssl").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().find(|line| line.starts_with("+F:"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}
