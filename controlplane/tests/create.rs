//! The creating signal from the outside: what each hop of a path sees, and what it refuses.

use ain_controlplane::directory::NodeId;
use ain_controlplane::key_schedule::HopSecrets;
use ain_controlplane::signal::create::{BuildError, CreateError, FlowToken, HopSpec, Next, Peeled, Terms, build, peel};
use ain_controlplane::signal::created::{BEYOND_EXIT, confirm, is_confirmed};
use ain_controlplane::signal::suite::OnionPrivateKey;
use ain_controlplane::signal::suite::x25519::{self, KEM};
use proptest::prelude::*;
use rand::{CryptoRng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use sha2::{Digest, Sha256};

struct Hop {
    id: NodeId,
    private: OnionPrivateKey,
    public: Vec<u8>,
    created: u32,
}

fn fresh_key(rng: &mut dyn CryptoRng) -> OnionPrivateKey {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    x25519::onion_key(&bytes)
}

fn hops(count: u8, rng: &mut dyn CryptoRng) -> Vec<Hop> {
    let hop = |number: u8| {
        let private = fresh_key(rng);
        let public = private.public().to_vec();
        Hop {
            id: NodeId([number; 32]),
            private,
            public,
            created: 1000 + 10 * u32::from(number),
        }
    };
    (1..=count).map(hop).collect()
}

fn specs(hops: &[Hop]) -> Vec<HopSpec<'_>> {
    hops.iter()
        .map(|hop| HopSpec {
            id: hop.id,
            onion_key: &hop.public,
            created: hop.created,
            ticket: None,
        })
        .collect()
}

fn terms(rng: &mut dyn CryptoRng) -> Terms {
    Terms {
        profile: 0,
        expires: 4200,
        flow_token: FlowToken::random(rng),
    }
}

fn built(hops: &[Hop], terms: &Terms, rng: &mut dyn CryptoRng) -> (Vec<u8>, Vec<HopSecrets>) {
    build(&KEM, &specs(hops), terms, rng).expect("a good path")
}

/// The onion each hop receives, in path order.
fn onions(hops: &[Hop], first: Vec<u8>) -> Vec<Vec<u8>> {
    let mut onions = vec![first];
    for hop in hops {
        if let Next::Relay { onion, .. } = peel(onions.last().unwrap(), &hop.private).unwrap().next {
            onions.push(onion);
        }
    }
    onions
}

fn data_keys(peeled: &Peeled) -> ([u8; 16], [u8; 16]) {
    (peeled.keys.forward, peeled.keys.backward)
}

proptest! {
    #[test]
    fn every_hop_gets_its_own_and_one_length(seed: u64, count in 1..=5u8) {
        let rng = &mut ChaCha12Rng::seed_from_u64(seed);
        let (path, terms) = (hops(count, rng), terms(rng));
        let (mut onion, secrets) = built(&path, &terms, rng);
        let mut confirms = Vec::new();
        for (index, (hop, secrets)) in path.iter().zip(&secrets).enumerate() {
            prop_assert_eq!(onion.len(), 1092);
            let peeled = peel(&onion, &hop.private).unwrap();
            prop_assert_eq!(data_keys(&peeled), (secrets.data.forward, secrets.data.backward));
            prop_assert_eq!((peeled.profile, peeled.expires, peeled.created), (0, 4200, hop.created));
            confirms.push(peeled.confirm);
            onion = match (peeled.next, path.get(index + 1)) {
                (Next::Relay { node, onion }, Some(next)) if node == next.id => onion,
                (Next::Exit { flow_token }, None) if flow_token == terms.flow_token => Vec::new(),
                (next, _) => panic!("hop {index} of {count} is told {next:?}"),
            };
        }
        let c_2 = confirms.iter().rev().fold(BEYOND_EXIT, |beyond, key| confirm(key, &beyond));
        prop_assert!(is_confirmed(&secrets, &c_2));
        for short in 1..confirms.len() {
            let c_2 = confirms[..short].iter().rev().fold(BEYOND_EXIT, |beyond, key| confirm(key, &beyond));
            prop_assert!(!is_confirmed(&secrets, &c_2), "a hop that was left out goes unnoticed");
        }
    }

    #[test]
    fn any_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
        let key = x25519::onion_key(&[7; 32]);
        prop_assert_eq!(peel(&bytes, &key).err(), Some(CreateError::Unauthentic));
    }
}

#[test]
fn any_changed_byte_is_refused_at_every_hop() {
    let rng = &mut ChaCha12Rng::seed_from_u64(1);
    let path = hops(5, rng);
    let terms = terms(rng);
    let (first, _) = built(&path, &terms, rng);
    let onions = onions(&path, first);
    assert_eq!(onions.len(), 5);
    for (hop, onion) in path.iter().zip(&onions) {
        let mut onion = onion.clone();
        for at in 0..onion.len() {
            onion[at] ^= 1 << (at % 8);
            assert_eq!(
                peel(&onion, &hop.private).err(),
                Some(CreateError::Unauthentic),
                "byte {at}"
            );
            onion[at] ^= 1 << (at % 8);
        }
        for length in [0, 3, 4, 1091] {
            assert!(peel(&onion[..length], &hop.private).is_err());
        }
    }
}

#[test]
fn a_hop_opens_only_its_own_layer() {
    let rng = &mut ChaCha12Rng::seed_from_u64(2);
    let path = hops(5, rng);
    let terms = terms(rng);
    let (first, _) = built(&path, &terms, rng);
    for (position, onion) in onions(&path, first).iter().enumerate() {
        for (other, hop) in path.iter().enumerate() {
            assert_eq!(peel(onion, &hop.private).is_ok(), other == position);
        }
    }
}

// Length and zeros must not tell a hop where it stands: what follows the exit's slot is as random as what follows any other.
#[test]
fn no_hop_sees_a_run_of_zeros_in_what_it_passes_on() {
    let rng = &mut ChaCha12Rng::seed_from_u64(3);
    for count in 1..=5 {
        let path = hops(count, rng);
        let terms = terms(rng);
        let (first, _) = built(&path, &terms, rng);
        for onion in onions(&path, first) {
            assert!(onion[4..].windows(8).all(|run| run.iter().any(|byte| *byte != 0)));
        }
    }
}

#[test]
fn no_node_twice_and_one_to_five_hops() {
    let rng = &mut ChaCha12Rng::seed_from_u64(4);
    let terms = terms(rng);
    let error = |path: &[Hop], rng: &mut ChaCha12Rng| build(&KEM, &specs(path), &terms, rng).err();
    let mut path = hops(3, rng);
    path[2].id = path[0].id;
    assert_eq!(error(&path, rng), Some(BuildError::Repeated(path[0].id)));
    assert_eq!(error(&[], rng), Some(BuildError::Length(0)));
    let six = hops(6, rng);
    assert_eq!(error(&six, rng), Some(BuildError::Length(6)));
}

// Points of small order (RFC 7748 section 6.1) make the shared secret all zero.
#[test]
fn an_all_zero_secret_is_refused_by_both_sides() {
    let rng = &mut ChaCha12Rng::seed_from_u64(5);
    let mut path = hops(2, rng);
    let terms = terms(rng);
    let (mut onion, _) = built(&path, &terms, rng);
    onion[4..36].fill(0);
    assert_eq!(peel(&onion, &path[0].private).err(), Some(CreateError::Unauthentic));
    path[1].public = vec![0; 32];
    assert_eq!(
        build(&KEM, &specs(&path), &terms, rng).err(),
        Some(BuildError::Key(path[1].id))
    );
}

// Golden values, made by this code itself when it was new: they pin the layout, they do not prove it.
#[test]
fn golden_onion_of_three_hops() {
    let rng = &mut ChaCha12Rng::from_seed([9; 32]);
    let path = hops(3, rng);
    let terms = terms(rng);
    let (first, secrets) = built(&path, &terms, rng);
    let digests: Vec<String> = onions(&path, first)
        .iter()
        .map(|onion| hex(&Sha256::digest(onion)))
        .collect();
    assert_eq!(
        digests,
        [
            "a2221c7bddf1ff7523a4dab8b26e0ce67668a39508267dcb081d8a36ad6e5781",
            "8489aaa6abc5158f3d7ca92bc18eb7c0ff8cbe0c8b80325fa0e3505ca9bbf8a2",
            "2950fef50fcd9e288fbfa5b98391aac07644b9e5b3e9deaf4a3d2e7c6022a2d1",
        ]
    );
    assert_eq!(hex(&secrets[2].data.forward), "34b129705aace02efcc10ee84d7b60c1");
    assert_eq!(hex(&secrets[0].data.backward), "f905721f38ea8c96ce5ec636eb682334");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
