//! What entrances and issuers of tickets say to each other.
#![no_main]

use ain_controlplane::directory::NodeId;
use ain_controlplane::ticket::issuer::Issuer;
use ain_controlplane::ticket::message::{Answer, Request};
use ain_controlplane::ticket::{Presented, Slice, TicketSeed, Verifier};
use ain_dataplane::id::Now;
use libfuzzer_sys::fuzz_target;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const WALL: u64 = 500_000 * 3600;
const SEED: TicketSeed = TicketSeed::from_bytes([3; 32]);
/// A public key of Ed25519: RFC 8032, 7.1, test 1.
const IDENTITY: [u8; 32] = [
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1, 0x72,
    0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];

fuzz_target!(|bytes: &[u8]| {
    if let Ok(answer) = Answer::decode(bytes) {
        assert_eq!(answer.encode(), bytes);
    }
    if let Ok(request) = Request::decode(bytes) {
        let mut issuer = Issuer::new(request.issuer, 3600, 100);
        let rng = &mut ChaCha8Rng::seed_from_u64(1);
        let issued = issuer.answer((Now(1), WALL), bytes, &SEED, |_: &NodeId| Some(IDENTITY), rng);
        assert!(issued.is_err(), "nobody has the private half here");
    }
    if let Some(ticket) = bytes.first_chunk() {
        let presented = Verifier::new(&SEED, Slice(500_000)).check(ticket);
        assert!(!matches!(presented, Presented::Good(_)), "a forged ticket");
    }
});
