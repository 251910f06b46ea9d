//! The mappings of one worker: (AIVT, protocol, inner port) and (external address, protocol, external port), each to the other.
//!
//! Everything is allocated at the start. A mapping ends with its session, or when nothing passed for as long as its protocol's timeout
//! says (RFC 4787 section 4.3, RFC 5382 section 5, RFC 5508 section 3.2). Its port is nobody's for a while then, so that what still
//! comes for the one user does not reach the next (RFC 6888 REQ-8):
//!
//! ```text
//!   by_external   free ──add──► place ──end──► HELD ──in the order of their ends, when the time is over or there are too many──► free
//!                                 ▲              └── add, where no port is free ──► place
//! ```

use std::collections::{HashMap, VecDeque};
use std::iter;

use rustc_hash::FxHashMap;

use super::pool::AddressId;
use super::transport::Protocol;
use crate::id::Now;

/// What a mapping shows outside.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct External {
    /// The address.
    pub address: AddressId,
    /// The protocol.
    pub protocol: Protocol,
    /// The port, or the identifier of an echo.
    pub port: u16,
}

/// What a mapping stands for: a port of an AIVT.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Internal {
    /// Number of the AIVT's session.
    pub session: u32,
    /// The protocol.
    pub protocol: Protocol,
    /// The initiator's port, or the identifier of an echo.
    pub port: u16,
}

/// How long mappings live without a packet, and ports are nobody's after them, nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// UDP.
    pub udp: u64,
    /// Echo.
    pub echo: u64,
    /// TCP that has been answered and not ended.
    pub tcp_established: u64,
    /// TCP else.
    pub tcp_transitory: u64,
    /// A port whose mapping has ended.
    pub port_held: u64,
}

impl Default for Timeouts {
    /// UDP 5 min (RFC 4787 REQ-5), echo 60 s (RFC 5508 REQ-1), TCP 2 h 4 min and 4 min (RFC 5382 REQ-5), ports 2 min (RFC 6888
    /// REQ-8).
    fn default() -> Self {
        const MINUTE: u64 = 60 * Now::SECOND;
        Self {
            udp: 5 * MINUTE,
            echo: MINUTE,
            tcp_established: 124 * MINUTE,
            tcp_transitory: 4 * MINUTE,
            port_held: 2 * MINUTE,
        }
    }
}

/// How far the TCP connection of a mapping has come; of several, the newest.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Connection {
    answered: bool,
    reset: bool,
    /// FIN seen from the initiator, from the server.
    ended: [bool; 2],
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

impl Connection {
    fn initiator_sent(&mut self, flags: u8) {
        if flags & (SYN | ACK) == SYN {
            *self = Self::default();
        }
        self.reset |= flags & RST != 0;
        self.ended[0] |= flags & FIN != 0;
    }

    fn server_sent(&mut self, flags: u8) {
        self.answered |= flags & RST == 0;
        self.reset |= flags & RST != 0;
        self.ended[1] |= flags & FIN != 0;
    }

    const fn is_established(self) -> bool {
        self.answered && !self.reset && !(self.ended[0] && self.ended[1])
    }
}

/// One mapping.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// Inside.
    pub internal: Internal,
    /// Outside.
    pub external: External,
    /// The destination port that the policy was last asked about, and said yes.
    pub passed_port: u16,
    connection: Connection,
    last: Now,
    /// The next mapping of the same AIVT.
    next: Option<u32>,
}

impl Mapping {
    /// The initiator sent something.
    pub fn sent(&mut self, now: Now, tcp_flags: u8) {
        self.last = now;
        self.connection.initiator_sent(tcp_flags);
    }

    /// The server sent something. That keeps only a connection alive: else anybody could keep a mapping (RFC 4787 REQ-6).
    pub fn received(&mut self, now: Now, tcp_flags: u8) {
        if self.internal.protocol == Protocol::Tcp {
            self.last = now;
            self.connection.server_sent(tcp_flags);
        }
    }

    fn timeout(&self, timeouts: &Timeouts) -> u64 {
        match self.internal.protocol {
            Protocol::Udp => timeouts.udp,
            Protocol::Echo => timeouts.echo,
            Protocol::Tcp if self.connection.is_established() => timeouts.tcp_established,
            Protocol::Tcp => timeouts.tcp_transitory,
        }
    }
}

/// In the number of a mapping's place: there is none, but the port is not free yet. The other bits count endings.
const HELD: u32 = 1 << 31;

/// Whose an external port is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// Nobody's and no longer anybody's.
    Free,
    /// Nobody's; the less, the longer ago its mapping ended.
    Held(u32),
    /// A mapping's.
    Taken,
}

/// All mappings of a worker.
pub struct Mappings {
    places: Vec<Option<Mapping>>,
    free: Vec<u32>,
    /// Inner ports are the users' choice, hence the keyed hash of the standard library.
    by_internal: HashMap<Internal, u32>,
    by_external: FxHashMap<External, u32>,
    /// Ports that are nobody's for now, in the order in which their mappings ended.
    held: VecDeque<(Now, External)>,
    /// What [`HELD`] counts, of the first of those.
    oldest_held: u32,
    most_held: usize,
    /// The place that [`Self::expire`] looks at next.
    hand: usize,
}

impl Mappings {
    /// Room for `capacity` mappings, 2^31 at most, and for `most_held` ports that are nobody's.
    pub fn new(capacity: u32, most_held: u32) -> Self {
        let (room, most_held) = (capacity as usize, most_held as usize);
        Self {
            places: vec![None; room],
            free: (0..capacity).rev().collect(),
            by_internal: HashMap::with_capacity(room),
            by_external: FxHashMap::with_capacity_and_hasher(room + most_held + 1, Default::default()),
            held: VecDeque::with_capacity(most_held + 1),
            oldest_held: 0,
            most_held,
            hand: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_internal.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The mapping of an AIVT's port.
    pub fn of(&mut self, internal: Internal) -> Option<&mut Mapping> {
        let at = *self.by_internal.get(&internal)?;
        self.places[at as usize].as_mut()
    }

    /// The mapping behind an external port.
    pub fn behind(&mut self, external: External) -> Option<&mut Mapping> {
        let at = *self.by_external.get(&external)?;
        self.places.get_mut(at as usize)?.as_mut()
    }

    /// Whose an external port is.
    pub fn standing(&self, external: External) -> Standing {
        match self.by_external.get(&external) {
            None => Standing::Free,
            Some(held) if held & HELD != 0 => Standing::Held((held & !HELD).wrapping_sub(self.oldest_held) & !HELD),
            Some(_) => Standing::Taken,
        }
    }

    /// The external ports of the AIVT whose newest mapping is `first`.
    pub fn externals(&self, first: Option<u32>) -> impl Iterator<Item = External> {
        let places = &self.places;
        let mapping = move |at: u32| places.get(at as usize)?.as_ref();
        let all = iter::successors(first.and_then(mapping), move |one| one.next.and_then(mapping));
        all.map(|one| one.external)
    }

    /// Whether there is no room for another.
    pub fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Makes a mapping, neither end of which has one, though the outer may be held, and links it before `first`, the AIVT's newest so
    /// far; returns its place, the newest from now on. `None` if there is no room.
    pub fn add(&mut self, now: Now, internal: Internal, external: External, first: Option<u32>) -> Option<u32> {
        let at = self.free.pop()?;
        self.places[at as usize] = Some(Mapping {
            internal,
            external,
            passed_port: 0,
            connection: Connection::default(),
            last: now,
            next: first,
        });
        self.by_internal.insert(internal, at);
        self.by_external.insert(external, at);
        Some(at)
    }

    /// Ends the mapping in a place and returns the next of the same AIVT.
    pub fn end(&mut self, now: Now, at: u32) -> Option<u32> {
        let gone = self.places[at as usize].take()?;
        self.by_internal.remove(&gone.internal);
        let count = self.oldest_held.wrapping_add(self.held.len() as u32);
        self.by_external.insert(gone.external, HELD | count);
        self.held.push_back((now, gone.external));
        if self.held.len() > self.most_held {
            self.free_oldest();
        }
        self.free.push(at);
        gone.next
    }

    fn free_oldest(&mut self) {
        if let Some((_, external)) = self.held.pop_front() {
            let standing = HELD | self.oldest_held;
            self.oldest_held = self.oldest_held.wrapping_add(1) & !HELD;
            // A mapping may have it by now, or have had it and ended later.
            if self.by_external.get(&external) == Some(&standing) {
                self.by_external.remove(&external);
            }
        }
    }

    /// Frees the ports whose mappings ended `hold` nanoseconds ago or earlier.
    pub fn free_held(&mut self, now: Now, hold: u64) {
        while self.held.front().is_some_and(|(ended, _)| now.since(*ended) >= hold) {
            self.free_oldest();
        }
    }

    /// Looks at the next `count` places and returns one whose mapping has timed out, if any, to be unlinked by [`Self::unlink`].
    /// `None` when it has come through.
    pub fn expire(&mut self, now: Now, timeouts: &Timeouts, count: &mut usize) -> Option<(u32, Internal)> {
        while *count > 0 && !self.places.is_empty() {
            *count -= 1;
            let at = self.hand;
            self.hand = (at + 1) % self.places.len();
            if let Some(mapping) = &self.places[at]
                && now.since(mapping.last) >= mapping.timeout(timeouts)
            {
                return Some((at as u32, mapping.internal));
            }
        }
        None
    }

    /// Ends the mapping in the place `at` of the AIVT whose newest is `first`; returns the newest from now on.
    pub fn unlink(&mut self, now: Now, first: Option<u32>, at: u32) -> Option<u32> {
        let next = self.end(now, at);
        if first == Some(at) {
            return next;
        }
        let mut here = first;
        while let Some(place) = here
            && let Some(mapping) = self.places[place as usize].as_mut()
        {
            if mapping.next == Some(at) {
                mapping.next = next;
                break;
            }
            here = mapping.next;
        }
        first
    }
}
