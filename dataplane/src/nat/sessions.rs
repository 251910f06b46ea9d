//! The AIVTs of one worker that are bound to destinations in the Internet, and those that were a moment ago.
//!
//! ```text
//!   begin ──► flow: Some ──end──► flow: None, kept for the flow's next AIVT ──resume──► flow: Some, with the same mappings
//!                                      └── after a while, or when room is needed ──► released, and its mappings end
//! ```
//! A flow is known by its tag: the AIVT that its entrance builds in place of a broken one finds its mappings again, so that connections
//! go on, and no other does.

use std::collections::{HashMap, VecDeque};

use super::pool::AddressId;
use crate::id::{FlowTag, Now, Pair};
use crate::per_second::PerSecond;
use crate::slab::Slab;

/// One AIVT that is bound to a destination in the Internet.
pub struct Session {
    /// Slot of the backward flow, as long as there is one.
    pub flow: Option<u32>,
    /// Whose it is.
    pub tag: FlowTag,
    /// (inner source, destination).
    pub pair: Pair,
    /// What it shows.
    pub address: AddressId,
    /// The newest of its mappings.
    pub first: Option<u32>,
    /// How many it has.
    pub mappings: u32,
    /// Packets towards the Internet.
    pub packets: PerSecond,
    /// New mappings.
    pub new_mappings: PerSecond,
    /// When it lost its flow.
    pub ended: Now,
}

/// Sessions by number.
pub struct Sessions {
    slab: Slab<Session>,
    free: Vec<u32>,
    of_flow: Box<[Option<u32>]>,
    /// Those without a flow. Tags come from other nodes, hence the keyed hash of the standard library.
    kept: HashMap<FlowTag, u32>,
    /// In the order in which they lost it; some have one again.
    ended: VecDeque<(Now, u32)>,
    live: usize,
}

impl Sessions {
    /// Room for a session of each of so many flows, and for as many that are kept.
    pub fn new(flows: u32) -> Self {
        let room = flows as usize;
        Self {
            slab: Slab::new(2 * room),
            free: (0..flows.saturating_mul(2)).rev().collect(),
            of_flow: vec![None; room].into(),
            kept: HashMap::with_capacity(room),
            ended: VecDeque::with_capacity(room),
            live: 0,
        }
    }

    /// Sessions that have a flow.
    pub fn live(&self) -> usize {
        self.live
    }

    /// The session of this number.
    pub fn entry_mut(&mut self, number: u32) -> Option<&mut Session> {
        self.slab.entry_mut(number)
    }

    /// The number of the session that has the slot `flow`.
    pub fn of_flow(&self, flow: u32) -> Option<u32> {
        *self.of_flow.get(flow as usize)?
    }

    /// Takes in a session; its number, or `None` if there is no room.
    pub fn begin(&mut self, session: Session) -> Option<u32> {
        let place = self.of_flow.get_mut(session.flow? as usize)?;
        let number = self.free.pop()?;
        *place = Some(number);
        self.live += 1;
        let _nothing = self.slab.put(number, Box::new(session));
        Some(number)
    }

    /// The kept session of a flow, which goes on in the slot `flow` for the same pair.
    pub fn resume(&mut self, flow: u32, tag: FlowTag, pair: Pair) -> Option<u32> {
        let number = *self.kept.get(&tag)?;
        let place = self.of_flow.get_mut(flow as usize)?;
        let session = self.slab.entry_mut(number).filter(|session| session.pair == pair)?;
        session.flow = Some(flow);
        *place = Some(number);
        self.live += 1;
        self.kept.remove(&tag);
        Some(number)
    }

    /// The session of the slot `flow` loses it and is kept, if it has mappings. Returns one that is to be released: itself, or an older
    /// one of the same tag.
    pub fn end(&mut self, now: Now, flow: u32) -> Option<u32> {
        let number = self.of_flow.get_mut(flow as usize)?.take()?;
        let session = self.slab.entry_mut(number)?;
        self.live -= 1;
        (session.flow, session.ended) = (None, now);
        if session.first.is_none() {
            return Some(number);
        }
        self.ended.push_back((now, number));
        self.kept.insert(session.tag, number)
    }

    /// Whether one must be released before another can end.
    pub fn keeps_enough(&self) -> bool {
        self.ended.len() >= self.of_flow.len()
    }

    /// The oldest that is kept, if it ended at `by` or earlier, to be released.
    pub fn oldest(&mut self, by: Now) -> Option<u32> {
        while let Some(&(at, number)) = self.ended.front().filter(|(at, _)| *at <= by) {
            self.ended.pop_front();
            if self.kept_since(at, number).is_some() {
                return Some(number);
            }
        }
        None
    }

    /// Those that are kept, the oldest first.
    pub fn kept(&self) -> impl Iterator<Item = (u32, &Session)> {
        let ended = self.ended.iter();
        ended.filter_map(|&(at, number)| Some((number, self.kept_since(at, number)?)))
    }

    fn kept_since(&self, at: Now, number: u32) -> Option<&Session> {
        let kept = |session: &&Session| session.flow.is_none() && session.ended == at;
        self.slab.entry(number).filter(kept)
    }

    /// Takes out the session of this number.
    pub fn take(&mut self, number: u32) -> Option<Box<Session>> {
        let session = self.slab.take(number)?;
        self.free.push(number);
        if self.kept.get(&session.tag) == Some(&number) {
            self.kept.remove(&session.tag);
        }
        Some(session)
    }
}
