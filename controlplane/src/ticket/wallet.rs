//! The entrance's wallet: tickets of every node of the directory that issues some, fetched before they are needed, so that when one is
//! spent tells nothing of when it was fetched.
//!
//! ```text
//!   room for a batch ──request──► asked ──answer, proof checked──► held ──take──► spent, whatever becomes of the CREATE
//!                                   └─ no answer after three requests: the issuer is left alone for a while
//! ```
//!
//! Nothing of it is ever written to disk: a ticket on disk would say, to who takes the disk, which node it was meant for and when. A
//! restarted entrance fetches new ones; the quota has room for that.

use std::collections::BTreeMap;

use ain_dataplane::id::Now;
use ed25519_dalek::SigningKey;
use rand::{CryptoRng, RngExt};
use thiserror::Error;
use zeroize::Zeroize;

use super::message::{Answer, Head, Malformed, Nonce, Request};
use super::{Batch, ELEMENT_BYTES, Slice, Ticket};
use crate::directory::{NodeId, TicketKey};
use crate::limits::{
    ISSUER_REST, ISSUER_REST_MAX, NO_ISSUER_TICK, REQUEST_WAIT, REQUESTS_AT_A_TIME, REQUESTS_BEFORE_REST, TICKET_TICK,
    TICKETS_A_BATCH,
};

/// A node that issues tickets: itself, and the public halves of its keys by slice, as the directory has them.
pub type IssuerKeys<'a> = (NodeId, &'a [TicketKey]);

/// A request for this issuer.
pub type ToIssuer = (NodeId, Vec<u8>);

/// An answer that brings no tickets.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotAccepted {
    /// No answer.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// To no request of this node, or to one that was answered.
    #[error("an answer that nobody waits for")]
    NotAsked,
    /// The issuer used another key than the directory says: it may be marking this entrance's tickets.
    #[error("the batch was not evaluated with the key in the directory")]
    Proof,
}

/// A request under way.
struct Asked {
    issuer: NodeId,
    slice: Slice,
    public: [u8; ELEMENT_BYTES],
    batch: Batch,
    request: Vec<u8>,
    due: Now,
    sent: u8,
}

/// An issuer that did not answer.
struct Rest {
    until: Now,
    length: u64,
}

/// The wallet.
pub struct Wallet {
    me: NodeId,
    identity: SigningKey,
    slice_s: u32,
    capacity: usize,
    held: BTreeMap<(NodeId, Slice), Vec<Ticket>>,
    asked: BTreeMap<Nonce, Asked>,
    resting: BTreeMap<NodeId, Rest>,
    due: Now,
}

impl Wallet {
    /// Of node `me`, whose identity key signs its requests: at most `capacity` tickets, rounded up to whole batches, of each issuer and
    /// slice of `slice_s` seconds; with 0 it never asks.
    pub const fn new(me: NodeId, identity: SigningKey, slice_s: u32, capacity: usize) -> Self {
        Self {
            me,
            identity,
            slice_s,
            capacity,
            held: BTreeMap::new(),
            asked: BTreeMap::new(),
            resting: BTreeMap::new(),
            due: Now(0),
        }
    }

    /// Whether the wallet is in use.
    pub const fn is_open(&self) -> bool {
        self.capacity > 0
    }

    /// When to call [`Self::handle_timeout`].
    pub const fn due(&self) -> Now {
        self.due
    }

    /// Asks for what is missing, and again for what did not come: the requests to send. In any order at most a few at a time, so that
    /// a large directory does not make a burst.
    pub fn handle_timeout<'a>(
        &mut self,
        (now, wall): (Now, u64),
        issuers: impl Iterator<Item = IssuerKeys<'a>>,
        rng: &mut dyn CryptoRng,
    ) -> Vec<ToIssuer> {
        self.due = now.plus(TICKET_TICK);
        if !self.is_open() {
            return Vec::new();
        }
        let earliest = Slice::at(wall, self.slice_s).previous();
        self.held.retain(|(_, slice), _| *slice >= earliest);
        let mut requests = self.repeat(now);
        let issues = |(issuer, keys): &IssuerKeys<'_>| *issuer != self.me && !keys.is_empty();
        let mut issuers: Vec<_> = issuers.filter(issues).collect();
        if issuers.is_empty() {
            self.due = now.plus(NO_ISSUER_TICK);
        } else {
            let first = rng.random_range(0..issuers.len());
            issuers.rotate_left(first);
        }
        for (issuer, keys) in issuers {
            if self.resting.get(&issuer).is_some_and(|rest| now < rest.until) {
                continue;
            }
            for slice in self.wanted(wall) {
                let Some(key) = keys.iter().find(|key| key.slice == slice.0) else {
                    continue;
                };
                while self.asked.len() < REQUESTS_AT_A_TIME && self.has_room(issuer, slice) {
                    requests.push((issuer, self.ask(now, issuer, slice, key.key, rng)));
                }
            }
        }
        requests
    }

    /// This slice, and in its last quarter the next one too: when it comes, its tickets are there.
    fn wanted(&self, wall: u64) -> impl Iterator<Item = Slice> + use<> {
        let now = Slice::at(wall, self.slice_s);
        let soon = Slice::at(wall + u64::from(self.slice_s / 4), self.slice_s);
        [now, soon].into_iter().take(1 + usize::from(soon != now))
    }

    fn has_room(&self, issuer: NodeId, slice: Slice) -> bool {
        let held = self.held.get(&(issuer, slice)).map_or(0, Vec::len);
        let of_it = |asked: &&Asked| (asked.issuer, asked.slice) == (issuer, slice);
        let under_way = self.asked.values().filter(of_it).count();
        held + under_way * TICKETS_A_BATCH <= self.capacity.saturating_sub(TICKETS_A_BATCH)
    }

    fn ask(
        &mut self,
        now: Now,
        issuer: NodeId,
        slice: Slice,
        public: [u8; ELEMENT_BYTES],
        rng: &mut dyn CryptoRng,
    ) -> Vec<u8> {
        let batch = Batch::new(slice, TICKETS_A_BATCH, rng);
        let mut nonce = Nonce::default();
        rng.fill_bytes(&mut nonce);
        let head = Head {
            count: TICKETS_A_BATCH,
            slice,
            nonce,
        };
        let request = Request::encode(&head, &issuer, &self.me, batch.elements(), &self.identity);
        let asked = Asked {
            issuer,
            slice,
            public,
            batch,
            request: request.clone(),
            due: now.plus(REQUEST_WAIT),
            sent: 1,
        };
        self.asked.insert(nonce, asked);
        request
    }

    /// Requests that wait too long go out once more, or are given up.
    fn repeat(&mut self, now: Now) -> Vec<ToIssuer> {
        let due = self.asked.iter().filter(|(_, asked)| asked.due <= now);
        let due: Vec<Nonce> = due.map(|(nonce, _)| *nonce).collect();
        let mut again = Vec::new();
        for nonce in due {
            match self.asked.get_mut(&nonce) {
                Some(asked) if asked.sent < REQUESTS_BEFORE_REST => {
                    asked.sent += 1;
                    asked.due = now.plus(REQUEST_WAIT);
                    again.push((asked.issuer, asked.request.clone()));
                }
                _ => self.give_up(now, &nonce),
            }
        }
        again
    }

    /// The issuer does not answer: it is asked for nothing for a while, each time for longer.
    fn give_up(&mut self, now: Now, nonce: &Nonce) {
        let Some(asked) = self.asked.remove(nonce) else { return };
        let rest = self.resting.entry(asked.issuer).or_insert(Rest {
            until: Now(0),
            length: ISSUER_REST / 2,
        });
        if rest.until <= now {
            rest.length = (2 * rest.length).min(ISSUER_REST_MAX);
            rest.until = now.plus(rest.length);
        }
    }

    /// An answer came: how many tickets it brought. One that nobody waits for costs a look at its head.
    pub fn accept(&mut self, bytes: &[u8]) -> Result<usize, NotAccepted> {
        let head = Answer::head(bytes)?;
        let asked = self.asked.get(&head.nonce).ok_or(NotAccepted::NotAsked)?;
        if (head.slice, head.count) != (asked.slice, TICKETS_A_BATCH) {
            return Err(NotAccepted::NotAsked);
        }
        let answer = Answer::decode(bytes)?;
        let tickets = asked.batch.unblind(&answer, &asked.public).ok_or(NotAccepted::Proof)?;
        let brought = tickets.len();
        self.held
            .entry((asked.issuer, asked.slice))
            .or_default()
            .extend(tickets);
        self.resting.remove(&asked.issuer);
        self.asked.remove(&head.nonce);
        self.due = Now(0);
        Ok(brought)
    }

    /// A ticket of `issuer` that is good at `wall`, gone from the wallet for good.
    pub fn take(&mut self, issuer: &NodeId, wall: u64) -> Option<Ticket> {
        let slice = self.spendable(issuer, wall)?;
        let held = self.held.get_mut(&(*issuer, slice))?;
        let last = held.last_mut()?;
        let ticket = Ticket(last.0);
        // What is popped is moved, and would stay behind in the list's room.
        last.zeroize();
        held.pop();
        Some(ticket)
    }

    /// Whether [`Self::take`] would find one.
    pub fn holds(&self, issuer: &NodeId, wall: u64) -> bool {
        self.spendable(issuer, wall).is_some()
    }

    /// The slice of such a ticket: this one, or in its first half the one before, which the issuer takes as well.
    fn spendable(&self, issuer: &NodeId, wall: u64) -> Option<Slice> {
        let now = Slice::at(wall, self.slice_s);
        let half_ago = Slice::at(wall.saturating_sub(u64::from(self.slice_s / 2)), self.slice_s);
        let any = |slice: &Slice| self.held.get(&(*issuer, *slice)).is_some_and(|held| !held.is_empty());
        [now, half_ago].into_iter().find(any)
    }

    /// Tickets held.
    pub fn len(&self) -> usize {
        self.held.values().map(Vec::len).sum()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
