//! What an entrance and an issuer say to each other, each in one datagram to and from UDP port 4797 of the issuer (protocol section 8).
//!
//! ```text
//! request  0 version u8 (1) | kind u8 (1) | count u8 | 0 u8 | slice u32        answer  0 version u8 (1) | kind u8 (2) | count u8 | 0 u8 | slice u32
//!          8 nonce[16]                                                                 8 nonce[16]
//!         24 issuer id[32] | entrance id[32]                                          24 count x evaluated element[32]
//!         88 count x blinded element[32]                                                 proof[64]
//!            signature[64] of the entrance's identity key
//! ```
//!
//! The signature covers "ain ticket request" and all before it. The proof and the AIVT authenticate the answer.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use thiserror::Error;
use voprf::{BlindedElement, EvaluationElement, Proof, Ristretto255};

use super::{ELEMENT_BYTES, PROOF_BYTES, Slice};
use crate::directory::NodeId;
use crate::limits::TICKETS_A_BATCH;

const VERSION: u8 = 1;
const REQUEST: u8 = 1;
const ANSWER: u8 = 2;
const HEAD_BYTES: usize = 24;
const IDS_BYTES: usize = 64;
const SIGNATURE_BYTES: usize = 64;
const CONTEXT: &[u8] = b"ain ticket request";

/// Random, and chosen by the entrance for each request: answers are known by it.
pub type Nonce = [u8; 16];

/// What cannot be a message.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// Not of this version, or not what was expected.
    #[error("a ticket message of another kind or version")]
    Kind,
    /// No ticket, more than a batch holds, or a length that does not fit.
    #[error("a ticket message whose length does not fit its batch")]
    Length,
    /// Something that is no element of the group, or no proof.
    #[error("a ticket message with what is no element of the group")]
    Element,
}

/// The first part of both messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Tickets of the batch.
    pub count: usize,
    /// Slice that they are for.
    pub slice: Slice,
    /// Of the request.
    pub nonce: Nonce,
}

impl Head {
    fn encode(&self, kind: u8) -> Vec<u8> {
        let count = u8::try_from(self.count).expect("a batch is small");
        let mut out = vec![VERSION, kind, count, 0];
        out.extend_from_slice(&self.slice.0.to_be_bytes());
        out.extend_from_slice(&self.nonce);
        out
    }

    /// The head of a message of `kind`, and what follows.
    fn decode(bytes: &[u8], kind: u8) -> Result<(Self, &[u8]), Malformed> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES).ok_or(Malformed::Length)?;
        if (head[0], head[1], head[3]) != (VERSION, kind, 0) {
            return Err(Malformed::Kind);
        }
        let count = usize::from(head[2]);
        if !(1..=TICKETS_A_BATCH).contains(&count) {
            return Err(Malformed::Length);
        }
        let slice = Slice(u32::from_be_bytes(*head[4..].first_chunk().expect("24 bytes")));
        let nonce = *head[8..].first_chunk().expect("24 bytes");
        Ok((Self { count, slice, nonce }, rest))
    }
}

/// A request as it came, its elements not looked at.
#[derive(Debug)]
pub struct Request<'a> {
    /// Batch, slice and nonce.
    pub head: Head,
    /// Who shall issue.
    pub issuer: NodeId,
    /// Who asks.
    pub entrance: NodeId,
    elements: &'a [u8],
    signed: &'a [u8],
    signature: Signature,
}

impl<'a> Request<'a> {
    /// Makes and signs a request for a ticket an element.
    pub fn encode(
        head: &Head,
        issuer: &NodeId,
        entrance: &NodeId,
        elements: impl Iterator<Item = [u8; ELEMENT_BYTES]>,
        identity: &SigningKey,
    ) -> Vec<u8> {
        let mut out = head.encode(REQUEST);
        out.extend_from_slice(&issuer.0);
        out.extend_from_slice(&entrance.0);
        elements.for_each(|element| out.extend_from_slice(&element));
        let signature = identity.sign(&[CONTEXT, &out].concat());
        out.extend_from_slice(&signature.to_bytes());
        out
    }

    /// Reads a request.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (head, rest) = Head::decode(bytes, REQUEST)?;
        if rest.len() != IDS_BYTES + head.count * ELEMENT_BYTES + SIGNATURE_BYTES {
            return Err(Malformed::Length);
        }
        let (signed, signature) = bytes.split_at(bytes.len() - SIGNATURE_BYTES);
        let id = |at: usize| NodeId(*rest[at..].first_chunk().expect("the length fits"));
        Ok(Self {
            head,
            issuer: id(0),
            entrance: id(32),
            elements: &signed[HEAD_BYTES + IDS_BYTES..],
            signed,
            signature: Signature::from_bytes(signature.first_chunk().expect("64 bytes")),
        })
    }

    /// Whether the entrance signed it, whose identity key is `identity`.
    pub fn is_signed_by(&self, identity: &[u8; 32]) -> bool {
        let key = VerifyingKey::from_bytes(identity);
        key.is_ok_and(|key| {
            key.verify_strict(&[CONTEXT, self.signed].concat(), &self.signature)
                .is_ok()
        })
    }

    /// The blinded elements.
    pub(super) fn batch(&self) -> Result<Vec<BlindedElement<Ristretto255>>, Malformed> {
        let elements = self.elements.chunks_exact(ELEMENT_BYTES);
        let batch: Result<_, _> = elements.map(BlindedElement::deserialize).collect();
        batch.map_err(|_| Malformed::Element)
    }

    /// All that the signature covers.
    pub(super) const fn signed(&self) -> &[u8] {
        self.signed
    }
}

/// Whether a message claims to be an answer, and not a request.
pub(crate) fn is_answer(bytes: &[u8]) -> bool {
    bytes.get(1) == Some(&ANSWER)
}

/// An answer.
pub struct Answer {
    /// Batch, slice and nonce of the request.
    pub head: Head,
    pub(super) evaluated: Vec<EvaluationElement<Ristretto255>>,
    pub(super) proof: Proof<Ristretto255>,
}

impl Answer {
    /// The answer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.head.encode(ANSWER);
        for element in &self.evaluated {
            out.extend_from_slice(&element.serialize());
        }
        out.extend_from_slice(&self.proof.serialize());
        out
    }

    /// Reads the head of an answer and checks the answer's length, which costs nothing: its elements are not looked at.
    pub fn head(bytes: &[u8]) -> Result<Head, Malformed> {
        Self::split(bytes).map(|(head, _)| head)
    }

    fn split(bytes: &[u8]) -> Result<(Head, &[u8]), Malformed> {
        let (head, rest) = Head::decode(bytes, ANSWER)?;
        if rest.len() != head.count * ELEMENT_BYTES + PROOF_BYTES {
            return Err(Malformed::Length);
        }
        Ok((head, rest))
    }

    /// Reads an answer: a root in the field for each element.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (head, rest) = Self::split(bytes)?;
        let (elements, proof) = rest.split_at(rest.len() - PROOF_BYTES);
        let evaluated: Result<_, _> = elements
            .chunks_exact(ELEMENT_BYTES)
            .map(EvaluationElement::deserialize)
            .collect();
        Ok(Self {
            head,
            evaluated: evaluated.map_err(|_| Malformed::Element)?,
            proof: Proof::deserialize(proof).map_err(|_| Malformed::Element)?,
        })
    }
}
