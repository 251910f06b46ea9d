//! Creating signals on their way through the private-key operation, which is the one thing here that costs: bounded for every
//! neighbour, and neighbours take turns, so that one that floods waits for itself.
//!
//! ```text
//!  CREATE ─► cheap checks ─► queue of its neighbour ┐
//!                            queue of another       ├─ in turn, few at a time ─► Action::Open ─► Node::handle_opened
//!                            ...                    ┘                            (any thread)
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use ain_dataplane::id::PeerId;
use thiserror::Error;

use crate::action::Link;
use crate::limits::{OPENINGS_AT_A_TIME, OPENINGS_WAITING_PER_NEIGHBOUR};
use crate::sa::Generation;
use crate::signal::create::{CreateError, Peeled, peel};
use crate::signal::suite::OnionKeys;
use crate::ticket::{Presented, Verifier};

/// A creating signal to open, with all it takes. May go to any thread.
pub struct Opening {
    number: u64,
    onion: Vec<u8>,
    keys: Arc<OnionKeys>,
    tickets: Option<Arc<Verifier>>,
}

/// What came of an [`Opening`].
pub struct Opened {
    number: u64,
    /// The node's layer.
    pub(crate) peeled: Result<Peeled, CreateError>,
    /// What it presented as ticket, if the node demands one.
    pub(crate) presented: Option<Presented>,
}

impl Opening {
    /// The private-key operation, and the check of the ticket if one is demanded: tens of microseconds to milliseconds by suite. Tells [`crate::node::Node::handle_opened`].
    pub fn open(self) -> Opened {
        let open = |key| peel(&self.onion, key);
        // Only the right key makes a mac right; which key it was is no secret.
        let peeled = match (open(&self.keys.current), &self.keys.previous) {
            (Err(CreateError::Unauthentic), Some(previous)) => open(previous),
            (peeled, _) => peeled,
        };
        let presented = match (&self.tickets, &peeled) {
            (Some(tickets), Ok(peeled)) => Some(tickets.check(&peeled.ticket)),
            _ => None,
        };
        Opened {
            number: self.number,
            peeled,
            presented,
        }
    }
}

/// A CREATE that was not opened yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    /// The TVT it is about.
    pub(crate) link: Link,
    /// What that is born under.
    pub(crate) generation: Generation,
    /// Its message id.
    pub(crate) create_id: u32,
}

/// The neighbour's queue is full.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{OPENINGS_WAITING_PER_NEIGHBOUR} creating signals of this neighbour wait to be opened")]
pub(crate) struct Full;

/// One neighbour's part.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Asked, Vec<u8>)>,
    /// Those that wait or are being opened, and are still wanted.
    wanted: usize,
    opened: u64,
}

/// All creating signals that are to be opened.
pub(crate) struct Openings {
    keys: Arc<OnionKeys>,
    tickets: Option<Arc<Verifier>>,
    queues: BTreeMap<PeerId, Queue>,
    /// Neighbours of which something waits, each once, the next first.
    turn: VecDeque<PeerId>,
    /// Message id of the CREATE that is still wanted for a TVT.
    wanted: HashMap<Link, u32>,
    under_way: HashMap<u64, Asked>,
    last: u64,
}

impl Openings {
    /// None yet; `keys` open them.
    pub(crate) fn new(keys: OnionKeys) -> Self {
        Self {
            keys: Arc::new(keys),
            tickets: None,
            queues: BTreeMap::new(),
            turn: VecDeque::new(),
            wanted: HashMap::new(),
            under_way: HashMap::new(),
            last: 0,
        }
    }

    /// From now on `keys` open them. The old ones are erased when what is being opened with them is done.
    pub(crate) fn set_keys(&mut self, keys: OnionKeys) {
        self.keys = Arc::new(keys);
    }

    /// From now on `tickets` looks at their tickets.
    pub(crate) fn demand_tickets(&mut self, tickets: Arc<Verifier>) {
        self.tickets = Some(tickets);
    }

    /// How many are wanted.
    pub(crate) fn len(&self) -> usize {
        self.wanted.len()
    }

    /// How many wait, of all neighbours, those no longer wanted included.
    pub(crate) fn waiting(&self) -> usize {
        self.queues.values().map(|queue| queue.waiting.len()).sum()
    }

    /// How many are being opened, those no longer wanted included.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// How many `peer` wants.
    pub(crate) fn wanted_by(&self, peer: PeerId) -> usize {
        self.queues.get(&peer).map_or(0, |queue| queue.wanted)
    }

    /// How many of `peer` were handed out since the start.
    pub(crate) fn opened_for(&self, peer: PeerId) -> u64 {
        self.queues.get(&peer).map_or(0, |queue| queue.opened)
    }

    /// Whether one is wanted for `link`.
    pub(crate) fn uses(&self, link: &Link) -> bool {
        self.wanted.contains_key(link)
    }

    /// Takes in a CREATE for a link that is not in use.
    pub(crate) fn push(&mut self, asked: Asked, onion: Vec<u8>) -> Result<(), Full> {
        let queue = self.queues.entry(asked.link.peer).or_default();
        if queue.waiting.len() >= OPENINGS_WAITING_PER_NEIGHBOUR {
            return Err(Full);
        }
        if queue.waiting.is_empty() {
            self.turn.push_back(asked.link.peer);
        }
        queue.waiting.push_back((asked, onion));
        queue.wanted += 1;
        self.wanted.insert(asked.link, asked.create_id);
        Ok(())
    }

    /// The next to open, if not enough are being opened.
    pub(crate) fn next(&mut self) -> Option<Opening> {
        while self.under_way.len() < OPENINGS_AT_A_TIME {
            let peer = self.turn.pop_front()?;
            let queue = self.queues.get_mut(&peer)?;
            let found = loop {
                match queue.waiting.pop_front() {
                    Some((asked, _)) if self.wanted.get(&asked.link) != Some(&asked.create_id) => {}
                    found => break found,
                }
            };
            if !queue.waiting.is_empty() {
                self.turn.push_back(peer);
            }
            let Some((asked, onion)) = found else { continue };
            queue.opened += 1;
            self.last += 1;
            self.under_way.insert(self.last, asked);
            return Some(Opening {
                number: self.last,
                onion,
                keys: Arc::clone(&self.keys),
                tickets: self.tickets.clone(),
            });
        }
        None
    }

    /// One came back: whose it was, if it is still wanted.
    pub(crate) fn finish(&mut self, opened: &Opened) -> Option<Asked> {
        let asked = self.under_way.remove(&opened.number)?;
        self.cancel(&asked.link, asked.create_id).then_some(asked)
    }

    /// The CREATE `create_id` for `link`, or whichever there is if that is 0, is not wanted any more. Whether it was.
    pub(crate) fn cancel(&mut self, link: &Link, create_id: u32) -> bool {
        let wanted = self
            .wanted
            .get(link)
            .is_some_and(|id| create_id == 0 || *id == create_id);
        if wanted {
            self.wanted.remove(link);
            if let Some(queue) = self.queues.get_mut(&link.peer) {
                queue.wanted -= 1;
            }
        }
        wanted
    }

    /// Nothing that `whose` holds for is wanted any more; what was.
    pub(crate) fn cancel_all(&mut self, whose: impl Fn(PeerId) -> bool) -> Vec<(Link, u32)> {
        let mut gone: Vec<_> = self.wanted.extract_if(|link, _| whose(link.peer)).collect();
        for (peer, queue) in self.queues.iter_mut().filter(|(peer, _)| whose(**peer)) {
            queue.waiting.clear();
            queue.wanted = 0;
            self.turn.retain(|waits| waits != peer);
        }
        gone.sort_by_key(|(link, create_id)| (link.peer, *create_id));
        gone
    }
}
