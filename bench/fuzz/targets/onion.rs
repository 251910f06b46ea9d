//! The creating signal: anything but what was built is refused.
#![no_main]

use ain_controlplane::directory::NodeId;
use ain_controlplane::signal::create::{FlowToken, HopSpec, Terms, build, peel};
use ain_controlplane::signal::suite::OnionPrivateKey;
use ain_controlplane::signal::suite::x25519::{self, KEM};
use libfuzzer_sys::fuzz_target;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::sync::LazyLock;

static KEY: LazyLock<OnionPrivateKey> = LazyLock::new(|| x25519::onion_key(&[7; 32]));

/// An onion of two layers for our key.
static ONION: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let hop = |id| HopSpec {
        id: NodeId([id; 32]),
        onion_key: KEY.public(),
        created: 1,
        ticket: None,
    };
    let terms = Terms {
        profile: 0,
        expires: 0,
        flow_token: FlowToken::random(&mut rng),
    };
    build(&KEM, &[hop(1), hop(2)], &terms, &mut rng)
        .expect("a path of two")
        .0
});

fuzz_target!(|bytes: &[u8]| {
    assert!(peel(bytes, &KEY).is_err() || bytes == &ONION[..]);
    let mut changed = ONION.clone();
    for (to, change) in changed.iter_mut().zip(bytes) {
        *to ^= change;
    }
    assert_eq!(peel(&changed, &KEY).is_ok(), changed == *ONION);
});
