//! Every level that the machine has, the portable one among them, against published vectors, `hctr2-rs`, and each other.

use super::{Hctr2Key, Level, Onion, OnionKey, OnionKey256};
use crate::onion::portable::tests::published;
use crate::{Layer, LayerJob, LayerOp};
use hctr2_rs::hctr2::{Hctr2_128, Hctr2_256};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn engines() -> impl Iterator<Item = Onion> {
    Level::available().map(|level| Onion::with_level(level).unwrap())
}

fn run<const R: usize>(engine: Onion, key: &Hctr2Key<R>, tweak: [u8; 16], op: LayerOp, cell: &mut [u8]) {
    engine.run(&mut [LayerJob { key, tweak, op, cell }]);
}

/// Both ways between `plain` and `cipher`, at every level.
fn expect<const R: usize>(key: &Hctr2Key<R>, tweak: [u8; 16], plain: &[u8], cipher: &[u8], name: &str) {
    for engine in engines() {
        let level = engine.level();
        let mut text = plain.to_vec();
        run(engine, key, tweak, LayerOp::Encrypt, &mut text);
        assert_eq!(text, cipher, "{level}, encrypting {name}");
        run(engine, key, tweak, LayerOp::Decrypt, &mut text);
        assert_eq!(text, plain, "{level}, decrypting {name}");
    }
}

/// What `hctr2-rs` makes of a text with both key sizes, the AES-128 key being half of the AES-256 key.
fn expect_oracle(key: &[u8; 32], tweak: [u8; 16], plain: &[u8]) {
    let half: [u8; 16] = key[..16].try_into().unwrap();
    let mut cipher = vec![0; plain.len()];
    Hctr2_128::new(&half).encrypt(plain, &tweak, &mut cipher).unwrap();
    let name = format!("{} bytes", plain.len());
    expect(&OnionKey::new(&half), tweak, plain, &cipher, &name);
    Hctr2_256::new(key).encrypt(plain, &tweak, &mut cipher).unwrap();
    expect(&OnionKey256::new(key), tweak, plain, &cipher, &name);
}

#[test]
fn published_vectors_with_tweaks_of_one_block() {
    for file in ["HCTR2_AES128.json", "HCTR2_AES256.json"] {
        let vectors = published(file).unwrap_or_default();
        let mut ran = 0;
        for vector in &vectors {
            let tweak = hex::decode(vector.input.tweak_hex.as_ref().unwrap()).unwrap();
            let Ok(tweak) = tweak.try_into() else { continue };
            let (plain, cipher, name) = (&vector.plaintext_hex, &vector.ciphertext_hex, &vector.description);
            match vector.input.key_hex.len() {
                16 => expect(&OnionKey::new(vector.input.key()), tweak, plain, cipher, name),
                _ => expect(&OnionKey256::new(vector.input.key()), tweak, plain, cipher, name),
            }
            ran += 1;
        }
        assert!(vectors.is_empty() || ran >= 40, "{file}: {ran} vectors fit");
    }
}

/// One job of a burst: key, tweak, whether it encrypts, where its cell starts in memory, and the cell.
type Job = (u8, u8, bool, usize, Vec<u8>);

fn burst() -> impl Strategy<Value = Vec<Job>> {
    let most = if cfg!(miri) { 4 } else { 64 };
    let cell = vec(any::<u8>(), 16..if cfg!(miri) { 100 } else { 800 });
    vec((any::<u8>(), any::<u8>(), any::<bool>(), 0_usize..64, cell), 0..=most)
}

/// The burst's cells after one call, each between bytes that must stay.
fn together(engine: Onion, burst: &[Job]) -> Vec<Vec<u8>> {
    let keys: Vec<_> = burst.iter().map(|job| OnionKey::new(&[job.0; 16])).collect();
    let mut cells: Vec<Vec<u8>> = burst
        .iter()
        .map(|(_, _, _, lead, cell)| [vec![0xa5; *lead], cell.clone(), vec![0xa5; 64]].concat())
        .collect();
    let mut jobs: Vec<_> = burst
        .iter()
        .zip(&keys)
        .zip(&mut cells)
        .map(|(((_, tweak, encrypt, lead, cell), key), place)| LayerJob {
            key,
            tweak: [*tweak; 16],
            op: if *encrypt { LayerOp::Encrypt } else { LayerOp::Decrypt },
            cell: &mut place[*lead..][..cell.len()],
        })
        .collect();
    engine.run(&mut jobs);
    cells
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 128 },
        rng_seed: RngSeed::Fixed(0x512),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_cells_agree_with_hctr2_rs(
        key: [u8; 32],
        tweak: [u8; 16],
        plain in vec(any::<u8>(), 16..=if cfg!(miri) { 200 } else { 9100 }),
    ) {
        expect_oracle(&key, tweak, &plain);
    }

    #[test]
    fn bursts_of_mixed_jobs_are_each_alone_at_the_portable_level(burst in burst()) {
        let portable = Onion::with_level(Level::Portable).unwrap();
        let mut alone = Vec::new();
        for job in burst.chunks(1) {
            alone.extend(together(portable, job));
        }
        for engine in engines() {
            prop_assert_eq!(&together(engine, &burst), &alone, "{}", engine.level());
        }
    }
}

#[test]
fn every_short_length_and_both_cells_agree_with_hctr2_rs() {
    let short = if cfg!(miri) { 80 } else { 1500 };
    let long = if cfg!(miri) { 81 } else { 8896 };
    for length in (16..short).chain([long]) {
        let plain: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
        expect_oracle(&[length as u8; 32], [length as u8; 16], &plain);
    }
}

#[test]
fn every_level_passes_its_self_test_and_the_fastest_is_taken() {
    for level in Level::available() {
        assert!(Onion::self_test(level), "{level}");
    }
    assert_eq!(Some(Onion::default().level()), Level::available().next());
    assert_eq!(Level::available().last(), Some(Level::Portable));
}

#[test]
fn levels_have_names() {
    let names: Vec<_> = Level::ALL.iter().map(Level::to_string).collect();
    assert_eq!(names, ["avx512", "aesni-avx2", "portable"]);
}

#[test]
fn a_cell_under_one_block_is_a_bug_at_every_level() {
    for engine in engines() {
        let key = Onion::layer_key(&[0; 16]);
        let short = move || run(engine, &key, [0; 16], LayerOp::Encrypt, &mut [0; 15]);
        assert!(std::panic::catch_unwind(short).is_err(), "{}", engine.level());
    }
}
