//! All security associations of the node: takes what sources add and remove to the packet path, holds each to its lifetime, and tells
//! the control node which keys its PVTs have.
//!
//! ```text
//!   inbound   newest ── another is added, and the outbound one with it ──► older, kept for SA_GRACE: packets under way, and an end
//!             that has yet to hear of the new ones, use it ──► gone
//!   outbound  in use ── another is added ──► older, kept as long ──► gone
//!                        the newest is gone ──► the one before it is the newest again
//!   AH pair   known to the node ── its last association gone ──► kept for GENERATION_GRACE: a CREATE under way names it ──► over
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ain_crypto::Backend;
use ain_dataplane::id::{Now, PeerId, Spi};
use ain_dataplane::limits::SAS_OF_A_KIND;
use ain_dataplane::usage::SaUse;
use zeroize::Zeroizing;

use crate::config::SpiSecret;
use crate::generation::AhPair;
use crate::lifetime::{Amounts, Expiry, Lifetime};
use crate::limits::{GENERATION_GRACE, SA_GRACE, SA_LOOK_EVERY};
use crate::sa::{Generation, SaDirection, SaEvent, SaKind, SaName, SaProtocol, SaSource, SaSpec};
use crate::table_writer::TableWriter;

/// What has changed of a tunnel's keys, for [`crate::node::Node::handle_keying`].
pub enum Keying {
    /// There is another AH pair.
    Begun(PeerId, AhPair),
    /// TVTs are not born under this generation any more. Those that stand keep it.
    Over(PeerId, Generation),
    /// Those that stand have kept this generation for too long: it is over, and so are many after it.
    Outlived(PeerId, Generation),
    /// All four kinds of associations are there.
    Up(PeerId),
    /// They are not, any more.
    Down(PeerId),
}

/// One association in the packet path.
struct Held {
    used: Arc<SaUse>,
    lifetime: Lifetime,
    generation: Option<Generation>,
    /// When it was made, and the how-manieth it is.
    made: Now,
    number: u64,
    /// Since when there is a newer one.
    superseded: Option<Now>,
    /// Its source has been asked for a successor.
    asked: bool,
}

impl Held {
    fn expiry(&self, now: Now) -> Option<Expiry> {
        if self.superseded.is_some_and(|since| now.since(since) >= SA_GRACE) {
            return Some(Expiry::Hard);
        }
        let spent = Amounts {
            packets: self.used.packets().max(self.used.highest()),
            octets: self.used.octets(),
            age: now.since(self.made),
        };
        let expiry = self.lifetime.expiry(spent)?;
        let is_news = expiry == Expiry::Hard || !self.asked && self.superseded.is_none();
        is_news.then_some(expiry)
    }
}

/// What becomes a pair.
#[derive(Default)]
struct Halves {
    keys: [Option<(Spi, Zeroizing<Vec<u8>>)>; 2],
    spi_counter: Option<u32>,
    heard: Option<Arc<SaUse>>,
    /// Since when none of its associations is there.
    gone: Option<Now>,
}

/// The associations of a node.
#[derive(Default)]
pub struct Associations {
    held: BTreeMap<SaName, Held>,
    generations: BTreeMap<(PeerId, Generation), Halves>,
    /// Tunnels that have all that they need.
    up: BTreeSet<PeerId>,
    news: VecDeque<Keying>,
    /// Highest numbers of inbound AH associations that are gone, together.
    heard_before: BTreeMap<PeerId, u64>,
    made: u64,
    next_look: Now,
}

impl Associations {
    /// Does what `source` wants done at `now`, and tells it of associations that have reached a limit.
    pub fn handle<C: Backend, B>(&mut self, now: Now, source: &mut impl SaSource, writer: &mut TableWriter<C, B>) {
        while let Some(event) = source.poll_event() {
            match event {
                SaEvent::Add(spec) => self.add(now, spec, source, writer),
                SaEvent::Remove(name) => self.remove(now, name, writer),
            }
        }
        if now >= self.next_look {
            self.next_look = now.plus(SA_LOOK_EVERY);
            self.look(now, source, writer);
            self.end_generations(now, writer);
        }
    }

    /// What has changed since the last call.
    pub fn poll_keying(&mut self) -> Option<Keying> {
        self.news.pop_front()
    }

    /// Whether the tunnel of `peer` has all four kinds of associations.
    pub fn is_up(&self, peer: PeerId) -> bool {
        self.up.contains(&peer)
    }

    /// Whether an association of this name is in the packet path.
    pub fn has(&self, name: SaName) -> bool {
        self.held.contains_key(&name)
    }

    /// The associations in the packet path and their use.
    pub fn iter(&self) -> impl Iterator<Item = (SaName, &Arc<SaUse>)> {
        self.held.iter().map(|(name, held)| (*name, &held.used))
    }

    /// Sequence numbers that AH associations from `peer` have come to, together: what the peer has sent, lost packets included.
    pub fn heard(&self, peer: PeerId) -> u64 {
        let before = self.heard_before.get(&peer).copied().unwrap_or(0);
        let now = self.like(peer, SaDirection::In, SaProtocol::Ah);
        before + now.map(|(_, held)| held.used.highest()).sum::<u64>()
    }

    fn add<C: Backend, B>(
        &mut self,
        now: Now,
        spec: SaSpec,
        source: &mut impl SaSource,
        writer: &mut TableWriter<C, B>,
    ) {
        let name = spec.name();
        let oldest = self.in_the_way(name);
        let used = match writer.add_sa(&spec, oldest) {
            Ok(used) => used,
            Err(error) => return source.handle_added(name, Err(error)),
        };
        if let Some(oldest) = oldest {
            self.forget(now, oldest);
            source.handle_expired(oldest, Expiry::Hard);
        }
        source.handle_added(name, Ok(Arc::clone(&used)));
        if let Some(newest) = self.newest_like(name) {
            newest.superseded = Some(now);
        }
        if name.direction == SaDirection::Out
            && let Some(before) = self.last_superseded(name)
        {
            before.superseded = Some(now);
        }
        self.made += 1;
        let held = Held {
            used: Arc::clone(&used),
            lifetime: spec.lifetime.within_numbers(spec.esn),
            generation: None,
            made: now,
            number: self.made,
            superseded: None,
            asked: false,
        };
        self.held.insert(name, held);
        if let SaKind::Ah {
            generation,
            spi_counter,
            ..
        } = spec.kind
        {
            self.pair(name, generation, spi_counter, spec.key, used);
        }
        self.tell_up(name.peer);
    }

    /// The oldest association where there is no room for another like `name`.
    fn in_the_way(&self, name: SaName) -> Option<SaName> {
        let like = || self.like(name.peer, name.direction, name.protocol);
        let oldest = like().min_by_key(|(_, held)| held.number)?.0;
        (like().count() >= SAS_OF_A_KIND).then_some(oldest)
    }

    /// The newest association like `name`.
    fn newest_like(&mut self, name: SaName) -> Option<&mut Held> {
        let like = self.like(name.peer, name.direction, name.protocol);
        let newest = like.max_by_key(|(_, held)| held.number)?.0;
        self.held.get_mut(&newest)
    }

    /// The inbound association before the newest one of the tunnel and protocol of `name`.
    fn last_superseded(&mut self, name: SaName) -> Option<&mut Held> {
        let like = self.like(name.peer, SaDirection::In, name.protocol);
        let older = like.filter(|(_, held)| held.superseded.is_some());
        let last = older.max_by_key(|(_, held)| held.number)?.0;
        self.held.get_mut(&last)
    }

    /// Notes half of a pair, and tells of the pair once it is whole.
    fn pair(
        &mut self,
        name: SaName,
        generation: Generation,
        spi_counter: Option<u32>,
        key: Zeroizing<Vec<u8>>,
        used: Arc<SaUse>,
    ) {
        if let Some(held) = self.held.get_mut(&name) {
            held.generation = Some(generation);
        }
        let halves = self.generations.entry((name.peer, generation)).or_default();
        halves.keys[name.direction as usize] = Some((name.spi, key));
        // A value is free if neither key has seen it.
        halves.spi_counter = halves.spi_counter.max(spi_counter);
        halves.gone = None;
        if name.direction == SaDirection::In {
            halves.heard = Some(used);
        }
        let ([Some((spi_in, key_in)), Some((spi_out, key_out))], Some(heard)) = (&halves.keys, &halves.heard) else {
            return;
        };
        let pair = AhPair {
            generation,
            spi_in: *spi_in,
            spi_out: *spi_out,
            spi_secret: SpiSecret::derive(key_in, key_out),
            spi_counter: halves.spi_counter,
            heard: Arc::clone(heard),
        };
        halves.keys = [None, None];
        self.news.push_back(Keying::Begun(name.peer, pair));
    }

    fn remove<C: Backend, B>(&mut self, now: Now, name: SaName, writer: &mut TableWriter<C, B>) {
        writer.remove_sa(name);
        self.forget(now, name);
        self.tell_up(name.peer);
    }

    /// The packet path does not have `name` any more.
    fn forget(&mut self, now: Now, name: SaName) {
        let Some(gone) = self.held.remove(&name) else { return };
        // It may have been a successor that did not last: the one before it goes on.
        if let Some(newest) = self.newest_like(name) {
            newest.superseded = None;
        }
        let Some(generation) = gone.generation else { return };
        if name.direction == SaDirection::In {
            *self.heard_before.entry(name.peer).or_default() += gone.used.highest();
        }
        let mut of_peer = self.held.iter().filter(|(other, _)| other.peer == name.peer);
        if of_peer.all(|(_, held)| held.generation != Some(generation))
            && let Some(halves) = self.generations.get_mut(&(name.peer, generation))
        {
            halves.gone = Some(now);
        }
    }

    /// Asks for successors, and ends what is over.
    fn look<C: Backend, B>(&mut self, now: Now, source: &mut impl SaSource, writer: &mut TableWriter<C, B>) {
        let expiries = self.held.iter().map(|(name, held)| (*name, held.expiry(now)));
        let expired: Vec<_> = expiries.filter_map(|(name, expiry)| Some((name, expiry?))).collect();
        for (name, expiry) in expired {
            match expiry {
                Expiry::Hard => self.remove(now, name, writer),
                Expiry::Soft => {
                    let held = self.held.get_mut(&name);
                    held.into_iter().for_each(|held| held.asked = true);
                }
            }
            source.handle_expired(name, expiry);
        }
    }

    fn end_generations<C: Backend, B>(&mut self, now: Now, writer: &mut TableWriter<C, B>) {
        let over = |halves: &Halves| halves.gone.is_some_and(|since| now.since(since) >= GENERATION_GRACE);
        let known = self.generations.iter().filter(|(_, halves)| over(halves));
        let ended: Vec<_> = known.map(|(name, _)| *name).collect();
        for (peer, generation) in ended {
            self.generations.remove(&(peer, generation));
            self.news.push_back(Keying::Over(peer, generation));
            let outlived = writer.end_generation(peer, generation).into_iter();
            self.news.extend(outlived.map(|oldest| Keying::Outlived(peer, oldest)));
        }
    }

    /// Associations of one peer, direction and protocol.
    fn like(
        &self,
        peer: PeerId,
        direction: SaDirection,
        protocol: SaProtocol,
    ) -> impl Iterator<Item = (SaName, &Held)> {
        let name = |spi| SaName {
            peer,
            direction,
            protocol,
            spi,
        };
        let held = self.held.range(name(Spi::LOWEST)..=name(Spi::HIGHEST));
        held.map(|(name, held)| (*name, held))
    }

    fn tell_up(&mut self, peer: PeerId) {
        let has = |direction, protocol| self.like(peer, direction, protocol).next().is_some();
        let is_up = [SaDirection::In, SaDirection::Out]
            .into_iter()
            .all(|direction| has(direction, SaProtocol::Ah) && has(direction, SaProtocol::Esp));
        let changed = if is_up {
            self.up.insert(peer)
        } else {
            self.up.remove(&peer)
        };
        if changed {
            let news = if is_up { Keying::Up(peer) } else { Keying::Down(peer) };
            self.news.push_back(news);
        }
    }
}
