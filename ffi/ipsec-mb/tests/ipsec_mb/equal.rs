//! Both backends on the same bursts: 0 to 64 packets of 0 to 9100 bytes at any alignment, algorithms and keys mixed.

use ain_crypto::{Aead, AeadAlgorithm, AeadJob, Mac, MacAlgorithm, MacJob, Portable};
use ipsec_mb_sys::IpsecMb;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::subject;

const MACS: [MacAlgorithm; 3] = [
    MacAlgorithm::HmacSha256_128,
    MacAlgorithm::Aes128Gmac,
    MacAlgorithm::AesCmac96,
];
const AEADS: [AeadAlgorithm; 2] = [AeadAlgorithm::Aes128Gcm16, AeadAlgorithm::Aes256Gcm16];
const LONGEST: usize = 9100;
/// Distinct keys an algorithm.
const KEYS: usize = 5;

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 192,
        rng_seed: RngSeed::Fixed(0x1b),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[derive(Clone, Debug)]
struct Packet {
    algorithm: usize,
    key: usize,
    iv: [u8; 8],
    /// Where in a buffer the text begins.
    offset: usize,
    len: usize,
    esn: bool,
}

fn packet() -> impl Strategy<Value = Packet> {
    // Half the lengths are near those that block sizes and the 1500-byte MTU make special.
    let len = prop_oneof![
        0..=LONGEST,
        0..200_usize,
        1400..1500_usize,
        (0_usize..140, 0_usize..3).prop_map(|(block, off)| (block * 64 + 64 + off).saturating_sub(1)),
    ];
    (0..3_usize, 0..KEYS, any::<[u8; 8]>(), 0..64_usize, len, any::<bool>()).prop_map(
        |(algorithm, key, iv, offset, len, esn)| Packet {
            algorithm,
            key,
            iv,
            offset,
            len: len.min(LONGEST),
            esn,
        },
    )
}

/// Bursts of one algorithm as well as mixed ones: the first packet's `one` decides.
fn burst() -> impl Strategy<Value = Vec<Packet>> {
    (vec(packet(), 0..=64), prop::option::of(0..3_usize)).prop_map(|(mut packets, one)| {
        if let Some(one) = one {
            packets.iter_mut().for_each(|packet| packet.algorithm = one);
        }
        packets
    })
}

/// Bytes that differ from packet to packet and from seed to seed.
fn bytes(packet: usize, seed: u8, len: usize) -> Vec<u8> {
    let mut state = (packet as u64) << 8 | u64::from(seed) | 1 << 40;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn material(algorithm: usize, key: usize, len: usize) -> Vec<u8> {
    bytes(1000 + algorithm * KEYS + key, 7, len)
}

fn mac_keys<M: Mac>() -> Vec<M::MacKey> {
    let of = |at: usize| {
        let algorithm = MACS[at / KEYS];
        M::mac_key(algorithm, &material(at / KEYS, at % KEYS, algorithm.key_bytes())).unwrap()
    };
    (0..MACS.len() * KEYS).map(of).collect()
}

fn aead_keys<A: Aead>() -> Vec<A::AeadKey> {
    let of = |at: usize| {
        let algorithm = AEADS[at / KEYS];
        A::aead_key(algorithm, &material(at / KEYS, at % KEYS, algorithm.key_bytes())).unwrap()
    };
    (0..AEADS.len() * KEYS).map(of).collect()
}

fn tags<M: Mac>(backend: &mut M, burst: &[Packet], texts: &[Vec<u8>]) -> Vec<[u8; 16]> {
    let keys = mac_keys::<M>();
    let mut jobs: Vec<_> = burst
        .iter()
        .zip(texts)
        .map(|(packet, text)| MacJob {
            key: &keys[packet.algorithm % MACS.len() * KEYS + packet.key],
            iv: packet.iv,
            message: &text[packet.offset..],
            tag: [0x5a; 16],
        })
        .collect();
    backend.compute(&mut jobs);
    jobs.iter().map(|job| job.tag).collect()
}

fn aead<A: Aead>(
    burst: &[Packet],
    texts: &mut [Vec<u8>],
    tags: &mut [[u8; 16]],
    run: impl FnOnce(&mut [AeadJob<'_, A::AeadKey>]),
) -> Vec<bool> {
    let keys = aead_keys::<A>();
    let aad = [3; 12];
    let mut jobs: Vec<_> = burst
        .iter()
        .zip(texts)
        .zip(&*tags)
        .map(|((packet, text), tag)| AeadJob {
            key: &keys[packet.algorithm % AEADS.len() * KEYS + packet.key],
            iv: packet.iv,
            aad: if packet.esn { &aad } else { &aad[..8] },
            text: &mut text[packet.offset..],
            tag: *tag,
            authentic: false,
        })
        .collect();
    run(&mut jobs);
    let authentic = jobs.iter().map(|job| job.authentic).collect();
    let made: Vec<_> = jobs.iter().map(|job| job.tag).collect();
    tags.copy_from_slice(&made);
    authentic
}

fn texts(burst: &[Packet], seed: u8) -> Vec<Vec<u8>> {
    let of = |(at, packet): (usize, &Packet)| bytes(at, seed, packet.offset + packet.len);
    burst.iter().enumerate().map(of).collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn macs(burst in burst(), seed: u8) {
        let texts = texts(&burst, seed);
        let ours = tags::<IpsecMb>(&mut subject(), &burst, &texts);
        let theirs = tags(&mut Portable::default(), &burst, &texts);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn seals_and_opens(burst in burst(), seed: u8, victim: prop::sample::Index, bit in 0..128_usize) {
        let plain = texts(&burst, seed);
        let (mut ours, mut theirs) = (plain.clone(), plain.clone());
        let mut our_tags = vec![[0; 16]; burst.len()];
        let mut their_tags = our_tags.clone();
        aead::<IpsecMb>(&burst, &mut ours, &mut our_tags, |jobs| subject().seal(jobs));
        aead::<Portable>(&burst, &mut theirs, &mut their_tags, |jobs| Portable::default().seal(jobs));
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(&our_tags, &their_tags);

        // A bit of one tag is wrong: that packet is refused, and no other.
        let victim = (!burst.is_empty()).then(|| victim.index(burst.len()));
        if let Some(victim) = victim {
            our_tags[victim][bit / 8] ^= 1 << (bit % 8);
        }
        let authentic = aead::<IpsecMb>(&burst, &mut theirs, &mut our_tags, |jobs| subject().open(jobs));
        for (at, good) in authentic.into_iter().enumerate() {
            prop_assert_eq!(good, Some(at) != victim);
            prop_assert!(!good || theirs[at] == plain[at]);
        }
    }
}

/// The library's bursts take neither empty messages nor those of 64 KiB; the backend does.
#[test]
fn lengths_at_the_librarys_limits() {
    let lengths = [0, 1, 65_533, 65_534, 65_535, 65_536, 200_000];
    for algorithm in 0..MACS.len() {
        let burst: Vec<Packet> = (0..35)
            .map(|at| Packet {
                algorithm,
                key: at % KEYS,
                iv: [at as u8; 8],
                offset: at,
                len: lengths[at % lengths.len()],
                esn: false,
            })
            .collect();
        for burst in [&burst[..], &burst[..2], &burst[2..4], &burst[5..7]] {
            let texts = texts(burst, 1);
            let ours = tags::<IpsecMb>(&mut subject(), burst, &texts);
            assert_eq!(ours, tags(&mut Portable::default(), burst, &texts));
        }
    }
}

/// Workers share keys and have a backend each, made on the control thread.
#[test]
fn backends_move_to_threads_and_keys_are_shared() {
    let burst: Vec<Packet> = (0..40)
        .map(|at| Packet {
            algorithm: at % 3,
            key: at % KEYS,
            iv: [at as u8; 8],
            offset: 0,
            len: 1464,
            esn: false,
        })
        .collect();
    let texts = texts(&burst, 2);
    let expected = tags(&mut Portable::default(), &burst, &texts);
    let keys = mac_keys::<IpsecMb>();
    let backends = [IpsecMb::new().unwrap(), IpsecMb::new().unwrap()];
    std::thread::scope(|scope| {
        for mut backend in backends {
            let (burst, texts, keys, expected) = (&burst, &texts, &keys, &expected);
            scope.spawn(move || {
                for _ in 0..200 {
                    let mut jobs: Vec<_> = burst
                        .iter()
                        .zip(texts)
                        .map(|(packet, text)| MacJob {
                            key: &keys[packet.algorithm % MACS.len() * KEYS + packet.key],
                            iv: packet.iv,
                            message: text,
                            tag: [0; 16],
                        })
                        .collect();
                    backend.compute(&mut jobs);
                    assert!(jobs.iter().map(|job| job.tag).eq(expected.iter().copied()));
                }
            });
        }
    });
}
