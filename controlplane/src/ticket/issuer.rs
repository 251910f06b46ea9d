//! The issuer: blind tickets for the entrances of the directory, at most a quota each and slice.
//!
//! It keeps numbers, and hashes of requests to know a repeated one by; nothing that a ticket could later be compared with: what it
//! signs is blinded, and a repeat is evaluated anew.

use std::collections::{BTreeMap, HashMap};

use ain_dataplane::id::Now;
use ain_dataplane::per_second::PerSecond;
use rand::CryptoRng;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::message::{Answer, Malformed, Request};
use super::{Past, Slice, SliceKey, TicketSeed};
use crate::directory::NodeId;
use crate::limits::{BATCHES_PER_SECOND, REQUEST_ANSWERS, REQUESTS_PER_SECOND, TICKET_CLOCK_SLACK_S, TICKETS_A_BATCH};

/// Why no ticket was issued.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotIssued {
    /// No request.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// For another node.
    #[error("the request names another issuer")]
    NotForMe,
    /// Of a slice that is over or not near yet.
    #[error("tickets of this slice are not issued now")]
    Slice,
    /// Of no entrance of the directory, or not signed by it.
    #[error("the request is not signed by a node of the directory")]
    Unauthentic,
    /// More than the entrance's share of the slice, or one request again and again.
    #[error("the entrance had its share of this slice")]
    Quota,
    /// More requests in a second than this node works on.
    #[error("too many requests in a second")]
    Busy,
}

/// What a request is known by when it comes again.
pub type RequestTag = [u8; 16];

/// A batch that an entrance got, for the memory of shares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Issued {
    /// Slice of the tickets.
    pub slice: Slice,
    /// Who got them.
    pub entrance: NodeId,
    /// The request.
    pub request: RequestTag,
    /// How many.
    pub tickets: u8,
}

/// What one entrance got in one slice.
#[derive(Default)]
struct Given {
    tickets: u32,
    /// Times that each request was answered.
    requests: HashMap<RequestTag, u8>,
}

impl Given {
    fn note(&mut self, issued: &Issued) {
        self.tickets += u32::from(issued.tickets);
        self.requests.insert(issued.request, 1);
    }
}

/// The issuer.
pub struct Issuer {
    me: NodeId,
    slice_s: u32,
    quota: u32,
    keys: BTreeMap<Slice, SliceKey>,
    given: BTreeMap<(Slice, NodeId), Given>,
    earliest: Slice,
    requests: PerSecond,
    batches: PerSecond,
}

impl Issuer {
    /// Node `me`, which issues at most `quota` tickets a slice of `slice_s` seconds to each entrance.
    pub const fn new(me: NodeId, slice_s: u32, quota: u32) -> Self {
        Self {
            me,
            slice_s,
            quota,
            keys: BTreeMap::new(),
            given: BTreeMap::new(),
            earliest: Slice(0),
            requests: PerSecond::new(REQUESTS_PER_SECOND),
            batches: PerSecond::new(BATCHES_PER_SECOND),
        }
    }

    /// The same, after `past`.
    pub fn after(mut self, past: &Past) -> Self {
        self.earliest = past.earliest;
        for issued in &past.issued {
            let given = self.given.entry((issued.slice, issued.entrance)).or_default();
            given.note(issued);
        }
        self
    }

    /// The answer to `bytes`, and the batch in it unless it was issued before. `identity` knows the identity keys of the
    /// directory. Errors: see [`NotIssued`]; nobody is told, a wallet asks again by its own timers.
    pub fn answer(
        &mut self,
        (now, wall): (Now, u64),
        bytes: &[u8],
        seed: &TicketSeed,
        identity: impl Fn(&NodeId) -> Option<[u8; 32]>,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Vec<u8>, Option<Issued>), NotIssued> {
        let request = Request::decode(bytes)?;
        if request.issuer != self.me {
            return Err(NotIssued::NotForMe);
        }
        let slice = request.head.slice;
        self.turn_to(wall);
        if !self.issues(wall, slice) {
            return Err(NotIssued::Slice);
        }
        let identity = identity(&request.entrance).ok_or(NotIssued::Unauthentic)?;
        if !self.requests.admit(now) {
            return Err(NotIssued::Busy);
        }
        if !request.is_signed_by(&identity) {
            return Err(NotIssued::Unauthentic);
        }
        let batch = request.batch()?;
        let fresh = self.count(now, &request)?;
        let key = self.keys.entry(slice).or_insert_with(|| seed.key(slice));
        let (evaluated, proof) = key.evaluate(&batch, rng);
        let answer = Answer {
            head: request.head,
            evaluated,
            proof,
        };
        Ok((answer.encode(), fresh))
    }

    /// The slice that `wall` is in, the one after it, and the one before it while an entrance's clock may be there.
    fn issues(&self, wall: u64, slice: Slice) -> bool {
        let from = Slice::at(wall.saturating_sub(TICKET_CLOCK_SLACK_S), self.slice_s);
        (from.max(self.earliest)..=Slice::at(wall, self.slice_s).next()).contains(&slice)
    }

    /// Forgets the slices that are over, and issues no more of what it gave tickets of.
    fn turn_to(&mut self, wall: u64) {
        let from = Slice::at(wall, self.slice_s).previous();
        self.keys = self.keys.split_off(&from);
        let kept = self.given.split_off(&(from, NodeId([0; 32])));
        if let Some(((last, _), _)) = std::mem::replace(&mut self.given, kept).last_key_value() {
            self.earliest = self.earliest.max(last.next());
        }
    }

    /// Counts the request towards the entrance's share. None: it has been answered before.
    fn count(&mut self, now: Now, request: &Request<'_>) -> Result<Option<Issued>, NotIssued> {
        let issued = Issued {
            slice: request.head.slice,
            entrance: request.entrance,
            request: *Sha256::digest(request.signed()).first_chunk().expect("32 bytes"),
            tickets: u8::try_from(request.head.count).expect("a batch is small"),
        };
        let given = self.given.entry((issued.slice, issued.entrance)).or_default();
        let answered = given.requests.get(&issued.request).copied();
        // Batches may be small, and each costs some memory.
        let most_requests = (self.quota as usize).div_ceil(TICKETS_A_BATCH) * 2;
        let within = match answered {
            Some(times) => times < REQUEST_ANSWERS,
            None => given.requests.len() < most_requests && given.tickets + u32::from(issued.tickets) <= self.quota,
        };
        if !within {
            return Err(NotIssued::Quota);
        }
        if !self.batches.admit(now) {
            return Err(NotIssued::Busy);
        }
        let Some(times) = answered else {
            given.note(&issued);
            return Ok(Some(issued));
        };
        given.requests.insert(issued.request, times + 1);
        Ok(None)
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("me", &self.me).finish_non_exhaustive()
    }
}
