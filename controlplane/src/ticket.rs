//! Tickets: what a node may ask for before it joins an AIVT, so that no entrance can use more of it than its share, and so that it
//! cannot tell which entrance's share it was (protocol section 8, the paper's section 6).
//!
//! ```text
//!   entrance: Wallet ──request: blinded inputs, signed──► issuer: Issuer       (through an AIVT whose exit is the issuer)
//!                    ◄──answer: evaluated, proof────────
//!             unblinds: input | output = a ticket
//!   CREATE's slot for the issuer ──────ticket──────────► Verifier, Spent       (through an AIVT that says nothing of the entrance)
//! ```
//!
//! The function is the VOPRF of RFC 9497 over ristretto255. Issuer and verifier are one, so a ticket is checked with the key that
//! made it. Time is cut in slices, each with a key of its own: what was spent need not be known for longer than its slice is good.

pub mod issuer;
pub mod message;
pub mod spent;
pub mod wallet;

use std::fmt;

use rand::CryptoRng;
use subtle::ConstantTimeEq;
use voprf::{BlindedElement, EvaluationElement, Group, Proof, Ristretto255, VoprfClient, VoprfServer};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::directory::TicketKey;
use crate::limits::TICKET_CLOCK_SLACK_S;
use crate::signal::suite::TICKET_BYTES;
use issuer::Issued;
use message::Answer;

/// Bytes of what the entrance chooses: the slice u32, then random.
pub const INPUT_BYTES: usize = 32;
/// Bytes of an element of the group, blinded, evaluated or a public key.
pub const ELEMENT_BYTES: usize = 32;
/// Bytes of the proof that a batch was evaluated with the key of the directory.
pub const PROOF_BYTES: usize = 64;

/// Number of a slice of time: Unix time divided by the network's `ticket_slice_s`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Slice(pub u32);

impl Slice {
    /// The slice of the Unix time `wall`, where slices are `length_s` long.
    pub fn at(wall: u64, length_s: u32) -> Self {
        Self(u32::try_from(wall / u64::from(length_s.max(1))).unwrap_or(u32::MAX))
    }

    /// The one after it.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one before it.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Whether a ticket of this slice is good at `wall`: in its slice and in the one after it; and a little before, for clocks differ.
    pub fn is_good(self, wall: u64, length_s: u32) -> bool {
        let earliest = Self::at(wall, length_s).previous();
        earliest <= self && self <= Self::at(wall.saturating_add(TICKET_CLOCK_SLACK_S), length_s)
    }
}

/// `input[32] | output[64]`, good once at the node that issued it.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Ticket([u8; TICKET_BYTES]);

impl Ticket {
    /// As it stands in a CREATE.
    pub const fn bytes(&self) -> &[u8; TICKET_BYTES] {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(redacted)")
    }
}

/// The node's secret from which the keys of all slices come.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct TicketSeed([u8; 32]);

impl TicketSeed {
    /// From the 32 bytes of the node's file.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key of `slice`: DeriveKeyPair of RFC 9497, section 3.2.1, with "ain ticket" | slice u32 as its info.
    pub fn key(&self, slice: Slice) -> SliceKey {
        let mut info = b"ain ticket".to_vec();
        info.extend_from_slice(&slice.0.to_be_bytes());
        SliceKey {
            slice,
            server: VoprfServer::new_from_seed(&self.0, &info).expect("a derivation fails once in 2^2000"),
        }
    }
}

impl fmt::Debug for TicketSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketSeed(redacted)")
    }
}

/// The issuer's key of one slice; erased when dropped.
pub struct SliceKey {
    slice: Slice,
    server: VoprfServer<Ristretto255>,
}

impl SliceKey {
    /// The public half, for the directory.
    pub fn entry(&self) -> TicketKey {
        TicketKey {
            slice: self.slice.0,
            key: Ristretto255::serialize_elem(self.server.get_public_key()).into(),
        }
    }

    /// Evaluates a batch, and proves that it was this key that did.
    fn evaluate(
        &self,
        batch: &[BlindedElement<Ristretto255>],
        rng: &mut dyn CryptoRng,
    ) -> (Vec<EvaluationElement<Ristretto255>>, Proof<Ristretto255>) {
        let done = self.server.batch_blind_evaluate(&mut Elder(rng), &batch.to_vec());
        let done = done.expect("a batch is far shorter than 65536");
        (done.messages, done.proof)
    }

    /// Whether this key made the ticket. One evaluation; the time it takes does not depend on the answer.
    fn made(&self, ticket: &[u8; TICKET_BYTES]) -> bool {
        let (input, output) = ticket.split_at(INPUT_BYTES);
        let made = self.server.evaluate(input);
        made.is_ok_and(|made| made[..].ct_eq(output).into())
    }
}

/// What tells one ticket of a slice from the others: bytes of its input. Who makes two inputs alike loses one of the tickets.
pub type TicketTag = [u8; 16];

/// A good ticket, for the memory of those that are spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Its slice.
    pub slice: Slice,
    /// Its tag.
    pub tag: TicketTag,
}

/// What the processes of this node did before: without it a restart would give every entrance its share, and its spent tickets, again.
#[derive(Clone, Default, Debug)]
pub struct Past {
    /// The slices before this one are forgotten: nothing of them is issued or accepted again, even if the clock goes back.
    pub earliest: Slice,
    /// Spent tickets of the slices since.
    pub spent: Vec<Mark>,
    /// Batches issued in them.
    pub issued: Vec<Issued>,
}

/// What stands where a CREATE may have a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presented {
    /// Zeros: none.
    Nothing,
    /// A ticket of this node. Whether it is spent is another question.
    Good(Mark),
    /// A ticket of a slice that is over, or far ahead.
    Stale,
    /// Anything else.
    Wrong,
}

/// The keys of the slices that are good at a time: what a thread that opens creating signals needs.
pub struct Verifier {
    keys: [SliceKey; 3],
}

impl Verifier {
    /// For tickets that are presented in the slice `current`, or a little before or after it.
    pub fn new(seed: &TicketSeed, current: Slice) -> Self {
        Self {
            keys: [current.previous(), current, current.next()].map(|slice| seed.key(slice)),
        }
    }

    /// Looks at the ticket of a CREATE: a public-key operation.
    pub fn check(&self, ticket: &[u8; TICKET_BYTES]) -> Presented {
        if ticket.iter().fold(0, |all, byte| all | byte) == 0 {
            return Presented::Nothing;
        }
        let slice = Slice(u32::from_be_bytes(*ticket.first_chunk().expect("96 bytes")));
        match self.keys.iter().find(|key| key.slice == slice) {
            None => Presented::Stale,
            Some(key) if key.made(ticket) => Presented::Good(Mark {
                slice,
                tag: *ticket[4..].first_chunk().expect("96 bytes"),
            }),
            Some(_) => Presented::Wrong,
        }
    }
}

/// Tickets in the making: their inputs, and what blinds them.
struct Batch {
    inputs: Zeroizing<Vec<[u8; INPUT_BYTES]>>,
    clients: Vec<VoprfClient<Ristretto255>>,
    elements: Vec<[u8; ELEMENT_BYTES]>,
}

impl Batch {
    fn new(slice: Slice, count: usize, rng: &mut dyn CryptoRng) -> Self {
        let mut batch = Self {
            inputs: Zeroizing::new(vec![[0; INPUT_BYTES]; count]),
            clients: Vec::with_capacity(count),
            elements: Vec::with_capacity(count),
        };
        for input in batch.inputs.iter_mut() {
            input[..4].copy_from_slice(&slice.0.to_be_bytes());
            rng.fill_bytes(&mut input[4..]);
            let blind = VoprfClient::blind(input, &mut Elder(rng)).expect("32 bytes are neither none nor too many");
            batch.elements.push(blind.message.serialize().into());
            batch.clients.push(blind.state);
        }
        batch
    }

    /// What the issuer gets to see.
    fn elements(&self) -> impl Iterator<Item = [u8; ELEMENT_BYTES]> {
        self.elements.iter().copied()
    }

    /// The tickets, if all was evaluated with the key whose public half is `public`.
    fn unblind(&self, answer: &Answer, public: &[u8; ELEMENT_BYTES]) -> Option<Vec<Ticket>> {
        let public = Ristretto255::deserialize_elem(public).ok()?;
        let Answer { evaluated, proof, .. } = answer;
        let outputs = VoprfClient::batch_finalize(&*self.inputs, &self.clients, evaluated, proof, public).ok()?;
        let mut tickets = Vec::with_capacity(self.inputs.len());
        for (input, output) in self.inputs.iter().zip(outputs) {
            let mut ticket = Ticket([0; TICKET_BYTES]);
            ticket.0[..INPUT_BYTES].copy_from_slice(input);
            ticket.0[INPUT_BYTES..].copy_from_slice(&output.ok()?);
            tickets.push(ticket);
        }
        Some(tickets)
    }
}

/// A generator of today as one of the kind that `voprf` takes.
struct Elder<'a>(&'a mut dyn CryptoRng);

impl rand_core_06::RngCore for Elder<'_> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl rand_core_06::CryptoRng for Elder<'_> {}

#[cfg(test)]
mod tests;
