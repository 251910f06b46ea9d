//! Associations that charon makes, as a source of the node's.
//!
//! ```text
//!   charon ─SPI─► drawn here, kept until its ADD ─ADD─► checked ─► SaEvent::Add ─► packet path ─► OK
//!                                                                     Soft, Hard ◄── lifetimes ─► EXPIRE
//! ```
//! An inbound and an outbound AH association are one key generation ([`super::pairs`]).
//!
//! Keys are taken once: this process numbers from 1 under each, and a process after it never hears of them.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use ain_controlplane::lifetime::Expiry;
use ain_controlplane::sa::{Numbers, SaDirection, SaEvent, SaKind, SaName, SaProtocol, SaSource, SaSpec};
use ain_controlplane::table_writer::TableError;
use ain_dataplane::id::{Now, PeerId, Spi};
use ain_dataplane::usage::SaUse;
use rand::{CryptoRng, RngExt};
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::check::{IkeTunnel, Refusal, check, check_policy, lifetime};
use super::message::{Add, Direction, Name, Protocol, Reply, Request};
use super::pairs::Pairs;

/// How long associations of a charon that is gone work while its successor makes new ones, nanoseconds.
const OLD_SESSION: u64 = 60 * Now::SECOND;
/// SPIs given out and not used yet; the oldest makes room.
const RESERVED_MAX: usize = 1024;
/// How long charon waits for a worker to take in an association, seconds: an answer has three.
const INSTALLING_S: u8 = 1;
/// After how many looks charon is asked again for what makes a generation whole: it may not have known yet what it was asked about.
const ALONE_LOOKS: u8 = 5;
/// SPIs drawn for one request at most.
const DRAWS: usize = 64;

/// What the source counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IkeCounts {
    /// Associations installed.
    pub installed: u64,
    /// Requests refused.
    pub refused: u64,
    /// Associations for which a successor was asked.
    pub expired_soft: u64,
    /// Associations ended here: by a limit, or because their successors had been there for long enough.
    pub expired_hard: u64,
    /// charon processes met.
    pub sessions: u64,
}

/// One association of charon's.
struct Held {
    /// Who receives its packets.
    destination: IpAddr,
    /// None until the packet path has it.
    used: Option<Arc<SaUse>>,
    /// Packets at the last look, and the last look at which there were more, Unix seconds.
    seen: u64,
    last_s: u64,
    /// When it ends, if a charon that is gone has made it.
    old_until: Option<Now>,
    /// Nobody knows its other half ([`Pairs::generation`]), and there is no newer one: looks since charon was asked for a successor.
    alone: Option<u8>,
}

/// An SPI given out.
struct Reserved {
    peer: PeerId,
    protocol: SaProtocol,
    spi: Spi,
}

/// An association on its way to the worker that owns its tunnel. The other end may send under it as soon as charon is answered.
struct Installing {
    id: u32,
    name: SaName,
    used: Arc<SaUse>,
    /// How often [`IkeSource::handle_timeout`] has met it.
    seconds: u8,
}

/// The associations that charon makes.
pub struct IkeSource {
    process: u64,
    workers: u8,
    tunnels: Vec<IkeTunnel>,
    session: Option<u64>,
    /// charon has gone; what is there is not asked about.
    is_away: bool,
    held: BTreeMap<SaName, Held>,
    reserved: VecDeque<Reserved>,
    pairs: Pairs,
    events: VecDeque<SaEvent>,
    /// ADDs whose answer the packet path knows: id, and who sends to whom.
    asked: BTreeMap<SaName, (u32, (IpAddr, IpAddr))>,
    replies: VecDeque<(u32, Reply)>,
    /// What follows once the packet path has associations.
    installing: VecDeque<Installing>,
    counts: IkeCounts,
}

impl IkeSource {
    /// For `tunnels` of a node with `workers` workers; `process` names this process to charon and is random.
    pub fn new(tunnels: Vec<IkeTunnel>, workers: u8, process: u64) -> Self {
        Self {
            process,
            workers,
            tunnels,
            session: None,
            is_away: false,
            held: BTreeMap::new(),
            reserved: VecDeque::new(),
            pairs: Pairs::default(),
            events: VecDeque::new(),
            asked: BTreeMap::new(),
            replies: VecDeque::new(),
            installing: VecDeque::new(),
            counts: IkeCounts::default(),
        }
    }

    /// What it has counted.
    pub const fn counts(&self) -> IkeCounts {
        self.counts
    }

    /// Associations that are there.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whose tunnels it makes.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.tunnels.iter().map(|tunnel| tunnel.peer)
    }

    /// Whether the tunnel of `peer` is one of them.
    pub fn makes(&self, peer: PeerId) -> bool {
        self.tunnels.iter().any(|tunnel| tunnel.peer == peer)
    }

    /// What charon asks for. [`Self::poll_reply`] has the answer once events have been taken. `is_free`: whether no AH association from
    /// a peer, and no TVT, has an SPI.
    pub fn handle_request(
        &mut self,
        now: Now,
        (id, request): (u32, Request),
        rng: &mut impl CryptoRng,
        is_free: impl Fn(PeerId, Spi) -> bool,
    ) {
        let (ends, outcome) = match request {
            Request::Hello { session, version } => {
                self.handle_gone();
                self.is_away = false;
                self.greet(now, session, &version);
                // The first thing that a connection hears.
                return self.replies.push_front((id, Reply::Process(self.process)));
            }
            Request::Spi {
                protocol,
                source,
                destination,
            } => (
                (source, destination),
                self.draw(protocol, (source, destination), rng, is_free),
            ),
            Request::Add(add) => {
                let ends = (add.name.source, add.name.destination);
                match self.add(id, *add) {
                    Ok(()) => return,
                    Err(refusal) => (ends, Err(refusal)),
                }
            }
            Request::Update { name, .. } => ((name.source, name.destination), Err(Refusal::Moved)),
            Request::Query(name) => ((name.source, name.destination), self.query(&name)),
            Request::Delete(name) => {
                self.delete(&name);
                return self.replies.push_back((id, Reply::Done));
            }
            Request::Flush => {
                self.end_all(|_| true);
                self.reserved.clear();
                return self.replies.push_back((id, Reply::Done));
            }
            Request::Policy(policy) => {
                let outcome = if policy.is_added {
                    check_policy(&self.tunnels, &policy)
                } else {
                    Ok(())
                };
                let ends = (policy.source.first, policy.destination.first);
                (ends, outcome.map(|()| Reply::Done))
            }
        };
        let reply = outcome.unwrap_or_else(|refusal| self.refuse(ends, &refusal));
        self.replies.push_back((id, reply));
    }

    /// The next answer, or with id 0 what charon has not asked.
    pub fn poll_reply(&mut self) -> Option<(u32, Reply)> {
        let is_over = |one: &Installing| one.used.is_in_place() || one.seconds > INSTALLING_S;
        while self.installing.front().is_some_and(is_over)
            && let Some(one) = self.installing.pop_front()
        {
            self.replies.push_back((one.id, Reply::Done));
            if self.held.get(&one.name).is_some_and(|held| held.alone.is_some()) {
                self.handle_expired(one.name, Expiry::Soft);
            }
        }
        self.replies.pop_front()
    }

    /// Whether an answer waits for a worker.
    pub fn is_installing(&self) -> bool {
        !self.installing.is_empty()
    }

    /// A reply did not reach charon: what it has not asked for waits until it is there again. For an answer nobody waits.
    pub fn not_told(&mut self, id: u32, reply: Reply) {
        if id == 0 {
            self.replies.push_front((id, reply));
        }
    }

    /// charon is away: for answers nobody waits.
    pub fn handle_gone(&mut self) {
        self.is_away = true;
        self.installing.clear();
    }

    /// Once a second or so, at `now` and `wall`, Unix seconds.
    pub fn handle_timeout(&mut self, now: Now, wall: u64) {
        let mut again = Vec::new();
        for (name, held) in &mut self.held {
            let packets = held.used.as_ref().map_or(0, |used| used.packets());
            if packets > std::mem::replace(&mut held.seen, packets) {
                held.last_s = wall;
            }
            if let Some(looks) = &mut held.alone
                && !self.is_away
            {
                *looks = (*looks + 1) % ALONE_LOOKS;
                again.extend((*looks == 0).then_some(*name));
            }
        }
        again
            .into_iter()
            .for_each(|name| self.handle_expired(name, Expiry::Soft));
        self.installing.iter_mut().for_each(|one| one.seconds += 1);
        self.end_all(|held| held.old_until.is_some_and(|until| now >= until));
    }

    fn greet(&mut self, now: Now, session: u64, version: &str) {
        if self.session == Some(session) {
            return;
        }
        info!(version, "charon is there");
        self.counts.sessions += 1;
        self.session = Some(session);
        self.replies.clear();
        self.reserved.clear();
        self.pairs.clear();
        for held in self.held.values_mut() {
            held.old_until.get_or_insert(now.plus(OLD_SESSION));
            held.alone = None;
        }
    }

    fn refuse(&mut self, (source, destination): (IpAddr, IpAddr), refusal: &Refusal) -> Reply {
        self.counts.refused += 1;
        let ends = [(source, destination), (destination, source)];
        let tunnel = self.tunnels.iter().find(|one| ends.contains(&(one.local, one.remote)));
        let tunnel = tunnel.map_or("none", |tunnel| tunnel.label.as_str());
        warn!(tunnel, %refusal, "charon is refused");
        Reply::Refused(refusal.between(source, destination))
    }

    fn tunnel(&self, direction: Direction, (source, destination): (IpAddr, IpAddr)) -> Result<&IkeTunnel, Refusal> {
        let (local, remote) = match direction {
            Direction::In => (destination, source),
            Direction::Out => (source, destination),
        };
        let found = self
            .tunnels
            .iter()
            .find(|tunnel| (tunnel.local, tunnel.remote) == (local, remote));
        found.ok_or(Refusal::NoTunnel)
    }

    fn draw(
        &mut self,
        protocol: Protocol,
        ends: (IpAddr, IpAddr),
        rng: &mut impl CryptoRng,
        is_free: impl Fn(PeerId, Spi) -> bool,
    ) -> Result<Reply, Refusal> {
        let peer = self.tunnel(Direction::In, ends)?.peer;
        let protocol = kind_of(protocol);
        let is_given = |spi: Spi| {
            let held = self
                .held
                .keys()
                .any(|name| (name.direction, name.protocol, name.spi) == (SaDirection::In, protocol, spi));
            held || self
                .reserved
                .iter()
                .any(|given| (given.protocol, given.spi) == (protocol, spi))
        };
        let drawn = std::iter::repeat_with(|| Spi::new(rng.random()))
            .take(DRAWS)
            .flatten()
            .find(|spi| !is_given(*spi) && (protocol == SaProtocol::Esp || is_free(peer, *spi)));
        let spi = drawn.ok_or_else(|| Refusal::NotInstalled("no SPI is free".into()))?;
        if self.reserved.len() == RESERVED_MAX {
            self.reserved.pop_front();
        }
        self.reserved.push_back(Reserved { peer, protocol, spi });
        Ok(Reply::Spi(spi.value()))
    }

    /// Its name here, if it can have one.
    fn name_of(&self, name: &Name) -> Result<SaName, Refusal> {
        Ok(SaName {
            peer: self.tunnel(name.direction, (name.source, name.destination))?.peer,
            direction: match name.direction {
                Direction::In => SaDirection::In,
                Direction::Out => SaDirection::Out,
            },
            protocol: kind_of(name.protocol),
            spi: Spi::new(name.spi).ok_or(Refusal::ReservedSpi)?,
        })
    }

    fn add(&mut self, id: u32, add: Add) -> Result<(), Refusal> {
        if add.flags.udp {
            return Err(Refusal::Nat);
        }
        let ends = (add.name.source, add.name.destination);
        let tunnel = self.tunnel(add.name.direction, ends)?;
        check(tunnel, &add)?;
        let (ah, esp, esn, has_tvts) = (tunnel.ah, tunnel.esp, tunnel.esn, tunnel.has_tvts);
        let name = self.name_of(&add.name)?;
        if self.held.contains_key(&name) {
            return Err(Refusal::NotInstalled("it is there".into()));
        }
        if name.direction == SaDirection::In && !self.take_reserved(name) {
            return Err(Refusal::StrangeSpi);
        }
        let (kind, alone) = match name.protocol {
            SaProtocol::Esp => (SaKind::Esp(esp), None),
            SaProtocol::Ah => {
                let (generation, is_alone) = self.pairs.generation(name, add.flags.initiator);
                let kind = SaKind::Ah {
                    algorithm: ah,
                    generation,
                    spi_counter: None,
                };
                (kind, (is_alone && has_tvts).then_some(0))
            }
        };
        let lifetime = lifetime(&add);
        let key = match name.protocol {
            SaProtocol::Esp => add.encryption.key,
            SaProtocol::Ah => add.integrity.key,
        };
        let held = Held {
            destination: add.name.destination,
            used: None,
            seen: 0,
            last_s: 0,
            old_until: None,
            alone,
        };
        self.held.insert(name, held);
        self.events.push_back(SaEvent::Add(SaSpec {
            peer: name.peer,
            spi: name.spi,
            kind,
            key: Zeroizing::new(key.expose().to_vec()),
            esn,
            numbers: match name.direction {
                SaDirection::In => Numbers::fresh_in(),
                SaDirection::Out => Numbers::fresh_out(self.workers),
            },
            lifetime,
        }));
        self.asked.insert(name, (id, ends));
        Ok(())
    }

    /// Whether the SPI was given out for this; it is not any more.
    fn take_reserved(&mut self, name: SaName) -> bool {
        let is_it = |given: &Reserved| (given.peer, given.protocol, given.spi) == (name.peer, name.protocol, name.spi);
        let at = self.reserved.iter().position(is_it);
        at.and_then(|at| self.reserved.remove(at)).is_some()
    }

    fn query(&self, name: &Name) -> Result<Reply, Refusal> {
        let name = self.name_of(name)?;
        let held = self.held.get(&name);
        let held = held.ok_or_else(|| Refusal::NotInstalled("there is no such association".into()))?;
        let (packets, bytes) = held
            .used
            .as_ref()
            .map_or((0, 0), |used| (used.packets(), used.octets()));
        Ok(Reply::Use {
            packets,
            bytes,
            last_s: held.last_s,
        })
    }

    fn delete(&mut self, name: &Name) {
        let Ok(name) = self.name_of(name) else { return };
        self.take_reserved(name);
        if self.held.contains_key(&name) {
            self.forget(name);
            self.events.push_back(SaEvent::Remove(name));
        }
    }

    fn end_all(&mut self, which: impl Fn(&Held) -> bool) {
        let over: Vec<SaName> = self
            .held
            .iter()
            .filter(|(_, held)| which(held))
            .map(|(name, _)| *name)
            .collect();
        for name in over {
            self.forget(name);
            self.events.push_back(SaEvent::Remove(name));
        }
    }

    /// What is as `newest` is, and older: no successor has to be asked for.
    fn not_newest_any_more(&mut self, newest: SaName) {
        let kind = |name: &SaName| (name.peer, name.direction, name.protocol);
        let older = self
            .held
            .iter_mut()
            .filter(|(name, _)| **name != newest && kind(name) == kind(&newest));
        older.for_each(|(_, held)| held.alone = None);
    }

    fn forget(&mut self, name: SaName) {
        self.held.remove(&name);
        self.pairs.forget(name);
    }
}

const fn kind_of(protocol: Protocol) -> SaProtocol {
    match protocol {
        Protocol::Esp => SaProtocol::Esp,
        Protocol::Ah => SaProtocol::Ah,
    }
}

impl SaSource for IkeSource {
    fn poll_event(&mut self) -> Option<SaEvent> {
        self.events.pop_front()
    }

    fn handle_added(&mut self, sa: SaName, outcome: Result<Arc<SaUse>, TableError>) {
        let Some((id, ends)) = self.asked.remove(&sa) else {
            return;
        };
        match outcome {
            Ok(used) => {
                debug!(?sa, "an association by IKE");
                self.counts.installed += 1;
                if let Some(held) = self.held.get_mut(&sa) {
                    held.used = Some(Arc::clone(&used));
                }
                self.not_newest_any_more(sa);
                self.installing.push_back(Installing {
                    id,
                    name: sa,
                    used,
                    seconds: 0,
                });
            }
            Err(error) => {
                self.forget(sa);
                let reply = self.refuse(ends, &Refusal::NotInstalled(error.to_string()));
                self.replies.push_back((id, reply));
            }
        }
    }

    fn handle_expired(&mut self, sa: SaName, expiry: Expiry) {
        let Some(held) = self.held.get(&sa) else { return };
        let hard = expiry == Expiry::Hard;
        let expire = Reply::Expire {
            protocol: match sa.protocol {
                SaProtocol::Esp => Protocol::Esp,
                SaProtocol::Ah => Protocol::Ah,
            },
            spi: sa.spi.value(),
            destination: held.destination,
            hard,
        };
        // The charon before cannot make successors, and the one that is there does not know it.
        if held.old_until.is_none() {
            self.replies.push_back((0, expire));
        }
        if hard {
            self.counts.expired_hard += 1;
            self.forget(sa);
        } else {
            self.counts.expired_soft += 1;
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
