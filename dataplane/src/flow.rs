//! The flows of the host tunnels that a worker owns: which AIVT a host's datagram goes into.

use std::collections::HashMap;

use ain_crypto::{Backend, prefetch};
use arrayvec::ArrayVec;

use crate::entry::{Flow, FlowEnd, OPENING};
use crate::id::{FlowId, Pair, PeerId, WorkerId};
use crate::slab::Slab;

/// Flows by (tunnel, pair). An exit's binding wins over the entrance's table when both ends have opened AIVTs (protocol section 7).
/// Inner addresses are the hosts' choice, hence the keyed hash of the standard library.
pub struct Flows<C: Backend> {
    worker: WorkerId,
    slab: Slab<Flow<C>>,
    free: Vec<u32>,
    made: u32,
    by_pair: HashMap<(PeerId, Pair), Ends>,
    len: usize,
}

/// The flows of one tunnel and pair: one or both.
#[derive(Clone, Copy, Default)]
struct Ends {
    answers: Option<u32>,
    entrance: Option<u32>,
}

impl<C: Backend> Flows<C> {
    /// Room for `capacity` flows.
    pub fn new(worker: WorkerId, capacity: u32) -> Self {
        let size = capacity as usize;
        Self {
            worker,
            slab: Slab::new(size),
            free: (0..capacity).rev().collect(),
            made: 0,
            by_pair: HashMap::with_capacity(size),
            len: 0,
        }
    }

    /// The flows by slot.
    pub fn slab(&self) -> &Slab<Flow<C>> {
        &self.slab
    }

    /// The flow in a slot.
    pub fn entry_mut(&mut self, slot: u32) -> Option<&mut Flow<C>> {
        self.slab.entry_mut(slot)
    }

    /// The slot for a host's datagram, if there is a flow.
    pub fn find(&self, tunnel: PeerId, pair: Pair) -> Option<u32> {
        let ends = self.by_pair.get(&(tunnel, pair))?;
        ends.answers.or(ends.entrance)
    }

    /// The slot of an exit's answers.
    pub fn answers(&self, tunnel: PeerId, pair: Pair) -> Option<u32> {
        self.by_pair.get(&(tunnel, pair))?.answers
    }

    /// The slot of an entrance flow.
    pub fn by_id(&self, id: FlowId) -> Option<u32> {
        let slot = id.0 as u32;
        match self.slab.entry(slot)?.end {
            FlowEnd::Entrance { id: named, .. } if named == id => Some(slot),
            FlowEnd::Entrance { .. } | FlowEnd::Exit => None,
        }
    }

    /// Begins an initiator's flow with its first datagram's opening; `None` when there is no room.
    pub fn begin(&mut self, tunnel: PeerId, pair: Pair, opening: ArrayVec<u8, OPENING>) -> Option<(u32, FlowId)> {
        // An eighth of the slots is kept for the answers of exits.
        if self.free.len() <= self.slab.capacity() / 8 {
            return None;
        }
        let slot = self.free.pop()?;
        self.made = self.made.wrapping_add(1) & 0x00ff_ffff;
        let id = FlowId(u64::from(self.worker.0) << 56 | u64::from(self.made) << 32 | u64::from(slot));
        let end = FlowEnd::Entrance { id, shown: None };
        self.slab.put(
            slot,
            Box::new(Flow {
                tunnel,
                pair,
                end,
                way: None,
                opening,
            }),
        );
        self.by_pair.entry((tunnel, pair)).or_default().entrance = Some(slot);
        self.len += 1;
        Some((slot, id))
    }

    /// Adds the flow of an exit's answers, in place of an older one of the same pair. Returns what is not needed any more: the older
    /// flow, or this one when there is no room.
    pub fn add_answers(&mut self, flow: Box<Flow<C>>) -> Option<Box<Flow<C>>> {
        let key = (flow.tunnel, flow.pair);
        let older = self.remove_answers(flow.tunnel, flow.pair);
        let Some(slot) = self.free.pop() else { return Some(flow) };
        self.by_pair.entry(key).or_default().answers = Some(slot);
        self.len += 1;
        self.slab.put(slot, flow);
        older
    }

    /// Removes the flow of an exit's answers.
    pub fn remove_answers(&mut self, tunnel: PeerId, pair: Pair) -> Option<Box<Flow<C>>> {
        let slot = self.unlink((tunnel, pair), |ends| ends.answers.take())?;
        self.free.push(slot);
        self.slab.take(slot)
    }

    /// Removes an initiator's flow.
    pub fn end(&mut self, slot: u32) -> Option<Box<Flow<C>>> {
        let flow = self.slab.take(slot)?;
        self.unlink((flow.tunnel, flow.pair), |ends| ends.entrance.take());
        self.free.push(slot);
        Some(flow)
    }

    /// Takes one end of a pair out, and the pair with its last.
    fn unlink(&mut self, key: (PeerId, Pair), end: impl FnOnce(&mut Ends) -> Option<u32>) -> Option<u32> {
        let ends = self.by_pair.get_mut(&key)?;
        let slot = end(ends)?;
        if ends.answers.is_none() && ends.entrance.is_none() {
            self.by_pair.remove(&key);
        }
        self.len -= 1;
        Some(slot)
    }

    /// Asks for the ways of a burst's flows, to be near when they are read.
    pub fn prefetch_ways(&self, slots: impl Iterator<Item = u32> + Clone) {
        self.slab.prefetch(slots.clone());
        for slot in slots {
            if let Some(way) = self.slab.entry(slot).and_then(|flow| flow.way.as_deref()) {
                prefetch(way);
            }
        }
    }

    /// Flows of both kinds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
