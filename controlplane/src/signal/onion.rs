//! The onion: layers of a Sphinx header that every node peels by one and that keeps its length (protocol section 5).
//!
//! ```text
//! onion  = version | suite | 0 u16 | kem_ct | mac[16] | beta[5 * slot]
//!                                                       |
//!          beta | 0^slot  XOR  S_i  =  slot_i | beta of the next onion
//!                                      |
//!                     head (routing, ticket) | kem_ct, mac of the next onion
//! ```
//!
//! What stands in a slot's head is [`super::create`]'s affair.

use aes::Aes256;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use rand::CryptoRng;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::suite::{Kem, MAC_BYTES, OnionPrivateKey, PREFIX_BYTES, ROUTING_BYTES, Suite, TICKET_BYTES};
use crate::key_schedule::{HopKey, KeySchedule};

/// Version of the layout.
pub const VERSION: u8 = 1;
/// Bytes of a slot that [`super::create`] fills.
pub const HEAD_BYTES: usize = ROUTING_BYTES + TICKET_BYTES;

/// One layer to be: the hop's key, its encapsulation, and what the hop is told.
pub(super) struct Layer {
    schedule: KeySchedule,
    kem_ct: Vec<u8>,
    head: [u8; HEAD_BYTES],
}

impl Layer {
    /// Draws a hop key for `public_key`. `None` if that is no usable key of the suite.
    pub(super) fn new(kem: &Kem, public_key: &[u8], head: [u8; HEAD_BYTES], rng: &mut dyn CryptoRng) -> Option<Self> {
        let mut kem_ct = vec![0; kem.suite.kem_ct];
        let key: HopKey = (kem.encapsulate)(public_key, &mut kem_ct, rng)?;
        Some(Self {
            schedule: KeySchedule::new(&key),
            kem_ct,
            head,
        })
    }

    /// The hop's keys.
    pub(super) fn schedule(&self) -> &KeySchedule {
        &self.schedule
    }
}

/// Wraps `layers`, 1 to [`ain_dataplane::limits::MAX_HOPS`] of them in path order, into one onion.
pub(super) fn wrap(suite: &Suite, layers: &[Layer], rng: &mut dyn CryptoRng) -> Vec<u8> {
    let (slot, beta_bytes) = (suite.slot(), suite.beta());
    let streams: Vec<_> = layers
        .iter()
        .map(|layer| stream(&layer.schedule, beta_bytes + slot))
        .collect();
    let filler = filler(slot, &streams);

    // Beyond the exit there is nothing: its "next" kem_ct and mac, and all of beta behind its slot, are random.
    let mut beta = vec![0; beta_bytes];
    rng.fill_bytes(&mut beta);
    let mut next = vec![0; suite.kem_ct + MAC_BYTES];
    rng.fill_bytes(&mut next);

    for (index, (layer, stream)) in layers.iter().zip(&streams).enumerate().rev() {
        let last = index + 1 == layers.len();
        beta.copy_within(..beta_bytes - slot, slot);
        beta[..HEAD_BYTES].copy_from_slice(&layer.head);
        beta[HEAD_BYTES..slot].copy_from_slice(&next);
        xor(&mut beta, stream);
        if last {
            beta[beta_bytes - filler.len()..].copy_from_slice(&filler);
        }
        next[..suite.kem_ct].copy_from_slice(&layer.kem_ct);
        next[suite.kem_ct..].copy_from_slice(&mac(&layer.schedule, suite.id, &layer.kem_ct, &beta));
    }
    assemble(suite, &next, &beta)
}

/// What one node finds in an onion.
pub(super) struct Unwrapped {
    pub(super) suite: &'static Suite,
    pub(super) schedule: KeySchedule,
    pub(super) head: [u8; HEAD_BYTES],
    pub(super) next: Vec<u8>,
}

/// Takes one layer off. `None` if anything is wrong: a bad encapsulation and a bad mac look alike.
pub(super) fn unwrap(onion: &[u8], key: &OnionPrivateKey) -> Option<Unwrapped> {
    let (prefix, rest) = onion.split_at_checked(PREFIX_BYTES)?;
    let suite = key.suite();
    if prefix != [VERSION, suite.id, 0, 0] || onion.len() != suite.onion() {
        return None;
    }
    let (kem_ct, rest) = rest.split_at(suite.kem_ct);
    let (given_mac, beta) = rest.split_at(MAC_BYTES);
    let schedule = KeySchedule::new(&key.decapsulate(kem_ct));
    let authentic = mac(&schedule, suite.id, kem_ct, beta).ct_eq(given_mac);
    bool::from(authentic).then(|| peel(suite, schedule, beta))
}

fn peel(suite: &'static Suite, schedule: KeySchedule, beta: &[u8]) -> Unwrapped {
    let slot = suite.slot();
    let mut plain = beta.to_vec();
    plain.resize(beta.len() + slot, 0);
    xor(&mut plain, &stream(&schedule, beta.len() + slot));
    let mut head = [0; HEAD_BYTES];
    head.copy_from_slice(&plain[..HEAD_BYTES]);
    let next = assemble(suite, &plain[HEAD_BYTES..slot], &plain[slot..]);
    Unwrapped {
        suite,
        schedule,
        head,
        next,
    }
}

fn assemble(suite: &Suite, kem_ct_and_mac: &[u8], beta: &[u8]) -> Vec<u8> {
    let mut onion = Vec::with_capacity(suite.onion());
    onion.extend_from_slice(&[VERSION, suite.id, 0, 0]);
    onion.extend_from_slice(kem_ct_and_mac);
    onion.extend_from_slice(beta);
    onion
}

/// phi of the last hop: what the zeros that earlier hops append have become when they reach it.
fn filler(slot: usize, streams: &[Zeroizing<Vec<u8>>]) -> Vec<u8> {
    let mut filler = Vec::new();
    for stream in &streams[..streams.len() - 1] {
        filler.resize(filler.len() + slot, 0);
        let tail = stream.len() - filler.len();
        xor(&mut filler, &stream[tail..]);
    }
    filler
}

fn stream(schedule: &KeySchedule, bytes: usize) -> Zeroizing<Vec<u8>> {
    let mut stream = Zeroizing::new(vec![0; bytes]);
    Ctr128BE::<Aes256>::new(&schedule.header_stream.into(), &[0; 16].into()).apply_keystream(&mut stream);
    stream
}

fn mac(schedule: &KeySchedule, suite: u8, kem_ct: &[u8], beta: &[u8]) -> [u8; MAC_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(&schedule.header_mac).expect("HMAC takes keys of any length");
    mac.update(&[VERSION, suite]);
    mac.update(kem_ct);
    mac.update(beta);
    let full: [u8; 32] = mac.finalize().into_bytes().into();
    *full.first_chunk().expect("16 of 32")
}

/// XORs the start of `other` into `bytes`.
fn xor(bytes: &mut [u8], other: &[u8]) {
    bytes.iter_mut().zip(other).for_each(|(byte, other)| *byte ^= other);
}
