//! What every backend promises, whatever its algorithms: batches, failures, keys.

use ain_crypto::{Aead, AeadAlgorithm, AeadJob, KeyLengthError, Layer, LayerJob, LayerOp, Mac, MacAlgorithm, MacJob};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::{Subject, subject};

const MACS: [MacAlgorithm; 3] = [
    MacAlgorithm::HmacSha256_128,
    MacAlgorithm::Aes128Gmac,
    MacAlgorithm::AesCmac96,
];
const AEADS: [AeadAlgorithm; 2] = [AeadAlgorithm::Aes128Gcm16, AeadAlgorithm::Aes256Gcm16];

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 128 },
        rng_seed: RngSeed::Fixed(0xa1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A packet of a burst: which algorithm and key it uses, and its bytes.
type Packet = (usize, u8, [u8; 8], Vec<u8>);

fn burst() -> impl Strategy<Value = Vec<Packet>> {
    let bytes = vec(any::<u8>(), 16..if cfg!(miri) { 40 } else { 600 });
    vec((0..6_usize, 0_u8..4, any::<[u8; 8]>(), bytes), 1..40)
}

fn mac_key(which: usize, seed: u8) -> <Subject as Mac>::MacKey {
    let algorithm = MACS[which % MACS.len()];
    Subject::mac_key(algorithm, &vec![seed; algorithm.key_bytes()]).unwrap()
}

fn aead_key(which: usize, seed: u8) -> <Subject as Aead>::AeadKey {
    let algorithm = AEADS[which % AEADS.len()];
    Subject::aead_key(algorithm, &vec![seed; algorithm.key_bytes()]).unwrap()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_batch_of_macs_is_each_alone(burst in burst()) {
        let keys: Vec<_> = burst.iter().map(|p| mac_key(p.0, p.1)).collect();
        let mut jobs: Vec<_> = burst
            .iter()
            .zip(&keys)
            .map(|((_, _, iv, message), key)| MacJob { key, iv: *iv, message, tag: [0; 16] })
            .collect();
        subject().compute(&mut jobs);
        for (job, (_, _, iv, message)) in jobs.iter().zip(&burst) {
            let mut alone = [MacJob { key: job.key, iv: *iv, message, tag: [0xff; 16] }];
            subject().compute(&mut alone);
            prop_assert_eq!(alone[0].tag, job.tag);
        }
    }

    #[test]
    fn a_batch_of_seals_is_each_alone_and_opens_again(burst in burst()) {
        let keys: Vec<_> = burst.iter().map(|p| aead_key(p.0, p.1)).collect();
        let mut texts: Vec<Vec<u8>> = burst.iter().map(|p| p.3.clone()).collect();
        let aad = [7; 12];
        let mut jobs: Vec<_> = texts
            .iter_mut()
            .zip(&burst)
            .zip(&keys)
            .map(|((text, p), key)| AeadJob { key, iv: p.2, aad: &aad, text, tag: [0; 16], authentic: false })
            .collect();
        subject().seal(&mut jobs);
        for (job, p) in jobs.iter().zip(&burst) {
            let mut text = p.3.clone();
            let mut alone = [AeadJob { key: job.key, iv: p.2, aad: &aad, text: &mut text, tag: [1; 16], authentic: false }];
            subject().seal(&mut alone);
            prop_assert_eq!(alone[0].tag, job.tag);
            prop_assert_eq!(&*alone[0].text, &*job.text);
        }
        subject().open(&mut jobs);
        for (job, p) in jobs.iter().zip(&burst) {
            prop_assert!(job.authentic);
            prop_assert_eq!(&*job.text, &p.3[..]);
        }
    }

    #[test]
    fn one_bad_packet_of_a_burst_fails_alone(burst in burst(), victim: prop::sample::Index, bit: prop::sample::Index) {
        let keys: Vec<_> = burst.iter().map(|p| aead_key(p.0, p.1)).collect();
        let victim = victim.index(burst.len());
        let mut texts: Vec<Vec<u8>> = burst.iter().map(|p| p.3.clone()).collect();
        let aad = [7; 8];
        let mut jobs: Vec<_> = texts
            .iter_mut()
            .zip(&burst)
            .zip(&keys)
            .map(|((text, p), key)| AeadJob { key, iv: p.2, aad: &aad, text, tag: [0; 16], authentic: false })
            .collect();
        subject().seal(&mut jobs);
        let hurt = &mut jobs[victim];
        let bit = bit.index(8 * (hurt.text.len() + 16));
        match hurt.text.get_mut(bit / 8) {
            Some(byte) => *byte ^= 1 << (bit % 8),
            None => hurt.tag[bit / 8 - hurt.text.len()] ^= 1 << (bit % 8),
        }
        subject().open(&mut jobs);
        for (index, job) in jobs.iter().enumerate() {
            prop_assert_eq!(job.authentic, index != victim);
        }
    }

    #[test]
    fn a_batch_of_layers_is_each_alone_and_peels_again(burst in burst()) {
        let keys: Vec<_> = burst.iter().map(|p| Subject::layer_key(&[p.1; 16])).collect();
        let mut cells: Vec<Vec<u8>> = burst.iter().map(|p| p.3.clone()).collect();
        let run = |cells: &mut [Vec<u8>], wrap: LayerOp, peel: LayerOp, together: bool| {
            let mut jobs: Vec<_> = cells
                .iter_mut()
                .zip(&burst)
                .zip(&keys)
                .map(|((cell, p), key)| {
                    let mut tweak = [0; 16];
                    tweak[..8].copy_from_slice(&p.2);
                    LayerJob { key, tweak, op: if p.0 % 2 == 1 { wrap } else { peel }, cell }
                })
                .collect();
            if together {
                subject().apply(&mut jobs);
            } else {
                jobs.chunks_mut(1).for_each(|job| subject().apply(job));
            }
        };
        run(&mut cells, LayerOp::Encrypt, LayerOp::Decrypt, true);
        let mut alone: Vec<Vec<u8>> = burst.iter().map(|p| p.3.clone()).collect();
        run(&mut alone, LayerOp::Encrypt, LayerOp::Decrypt, false);
        prop_assert_eq!(&cells, &alone);
        run(&mut cells, LayerOp::Decrypt, LayerOp::Encrypt, true);
        for (cell, p) in cells.iter().zip(&burst) {
            prop_assert_eq!(cell, &p.3);
        }
    }
}

/// A wide block: one flipped bit anywhere, or another tweak, changes about half of every block.
#[test]
fn a_flipped_bit_spreads_over_the_whole_cell() {
    let key = Subject::layer_key(&[9; 16]);
    let peel = |cell: &mut [u8], direction: u8| {
        let tweak = std::array::from_fn(|i| if i == 0 { direction } else { 0 });
        subject().apply(&mut [LayerJob {
            key: &key,
            tweak,
            op: LayerOp::Decrypt,
            cell,
        }]);
    };
    let mut plain = vec![0; 1408];
    peel(&mut plain, 0);
    let mut variants = vec![vec![0; 1408]; 4];
    variants[0][0] = 1;
    variants[1][700] = 0x80;
    variants[2][1407] = 1;
    for (index, mut variant) in variants.into_iter().enumerate() {
        peel(&mut variant, u8::from(index == 3));
        for (block, (a, b)) in plain.chunks(16).zip(variant.chunks(16)).enumerate() {
            let differing: u32 = a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert!(
                (30..100).contains(&differing),
                "variant {index}, block {block}: {differing} of 128 bits differ"
            );
        }
    }
}

#[test]
fn another_iv_salt_or_aad_is_another_message() {
    let seal = |salt: u8, iv: u8, aad: &[u8]| {
        let mut material = [5; 20];
        material[19] = salt;
        let key = Subject::aead_key(AeadAlgorithm::Aes128Gcm16, &material).unwrap();
        let mut text = [0; 40];
        let mut jobs = [AeadJob {
            key: &key,
            iv: [iv; 8],
            aad,
            text: &mut text,
            tag: [0; 16],
            authentic: false,
        }];
        subject().seal(&mut jobs);
        jobs[0].tag
    };
    let base = seal(1, 1, &[0; 8]);
    assert_ne!(base, seal(2, 1, &[0; 8]));
    assert_ne!(base, seal(1, 2, &[0; 8]));
    assert_ne!(base, seal(1, 1, &[0; 12]));
}

#[test]
fn key_material_of_another_length_is_refused() {
    for algorithm in MACS {
        let wanted = algorithm.key_bytes();
        for given in (0..70).filter(|&given| given != wanted) {
            let error = Subject::mac_key(algorithm, &vec![1; given]).unwrap_err();
            assert_eq!(error, KeyLengthError { given, wanted });
        }
    }
    for algorithm in AEADS {
        let wanted = algorithm.key_bytes();
        for given in (0..70).filter(|&given| given != wanted) {
            let error = Subject::aead_key(algorithm, &vec![1; given]).unwrap_err();
            assert_eq!(error, KeyLengthError { given, wanted });
        }
    }
}

#[test]
fn keys_do_not_print_themselves() {
    let shown = [
        format!("{:?}", mac_key(0, 0xab)),
        format!("{:?}", mac_key(1, 0xab)),
        format!("{:?}", mac_key(2, 0xab)),
        format!("{:?}", aead_key(0, 0xab)),
        format!("{:?}", aead_key(1, 0xab)),
        format!("{:?}", Subject::layer_key(&[0xab; 16])),
    ];
    for text in shown {
        assert!(text.ends_with("..)"), "{text}");
        assert!(!text.contains("171") && !text.contains("ab, ab"), "{text}");
    }
}
