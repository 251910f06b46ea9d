//! The open exit: source NAT between AIVTs and hosts of the Internet that know nothing of IPsec (protocol section 7).
//!
//! ```text
//!   AIVT of (S, D)      S:sp ─► D:dp  ══ outbound ══►  E:ep ─► D:dp        E, ep: drawn from the pool, kept while the flow's port
//!                       D:dp ─► S:sp  ◄═ inbound ═══  D:dp ─► E:ep               sp is in use, the same for every dp
//!                       D ─► S: error ◄═ inbound ═══  R ─► E: error about E:ep ─► D:dp, from any router R
//! ```
//!
//! * Mapping is endpoint-independent within an AIVT, and an AIVT shows one address (RFC 4787 REQ-1, REQ-2). Ports are drawn at random
//!   (RFC 6056 section 3.3.1).
//! * Filtering is address-dependent (RFC 4787 REQ-8): an AIVT has one destination, and hears nobody else. Of routers it hears errors
//!   about its own packets; they go into the AIVT with the destination as source, for the entrance lets nothing else through.
//! * Fragments follow the first of their datagram ([`fragments`]).
//! * Each worker has ports of its own ([`pool`]), so that nothing here is shared.
//! * An AIVT that is built in place of a broken one finds the mappings of its flow again ([`sessions`]); ports whose mappings have ended
//!   are nobody's for a while ([`mappings`]).
//! * What may pass is the [`policy`]'s; what one AIVT may take is [`Limits`].

pub mod fragments;
pub mod mappings;
pub mod neighbour;
pub mod policy;
pub mod pool;
pub mod sessions;
pub mod transport;

use std::net::IpAddr;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use self::fragments::{Inward, Leaders, Outward, Piece, identify};
use self::mappings::{External, Internal, Mappings, Standing, Timeouts};
use self::policy::Policy;
use self::pool::{AddressId, Pool};
use self::sessions::{Session, Sessions};
use self::transport::{Message, Protocol, Transport, Unfit, locate, locate_quoted};
use crate::id::{FlowTag, Now, Pair, WorkerId};
use crate::limits::{NAT_DRAWS, NAT_KEPT_LOOKED_AT, NAT_KEPT_NS, NAT_PLACES_A_TICK};
use crate::per_second::PerSecond;
use crate::rewrite;
use crate::verdict::DropReason;
use crate::wire::checksum::{checksum, transport_ipv6};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::protocol;

/// What an AIVT may take of an open exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Mappings of one AIVT.
    pub mappings_per_aivt: u32,
    /// New mappings of one AIVT a second.
    pub new_mappings_per_s: u32,
    /// Packets of one AIVT a second, towards the Internet.
    pub packets_per_s: u32,
    /// Mappings of one worker.
    pub mappings_per_worker: u32,
    /// Ports of one worker that are nobody's because their mappings ended a moment ago; the oldest make room. Never more than a quarter
    /// of the ports that the worker has for a protocol.
    pub held_ports_per_worker: u32,
}

/// Everything that is configured of an open exit; workers share it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it shows.
    pub pool: Pool,
    /// What it reaches.
    pub policy: Policy,
    /// What an AIVT may take.
    pub limits: Limits,
    /// When mappings end.
    pub timeouts: Timeouts,
}

/// Mappings made and ended by one worker, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Made {
    /// Made.
    pub made: u64,
    /// Ended.
    pub ended: u64,
}

/// The open exit of one worker.
pub struct Nat {
    me: WorkerId,
    settings: Arc<Settings>,
    mappings: Mappings,
    leaders_out: Leaders<Outward>,
    leaders_in: Leaders<Inward>,
    sessions: Sessions,
    made: Made,
    rng: ChaCha8Rng,
}

impl Nat {
    /// The open exit of worker `me` with room for `flows` AIVTs. `seed` must be secret and another for each worker: it draws ports.
    pub fn new(me: WorkerId, settings: Arc<Settings>, flows: u32, seed: [u8; 32]) -> Self {
        let (limits, ports) = (&settings.limits, ports(&settings.pool, me));
        // A quarter, so that what is held exhausts no pool.
        let (most, most_held) = (
            limits.mappings_per_worker.min(ports.saturating_mul(3)),
            limits.held_ports_per_worker.min(ports / 4),
        );
        Self {
            me,
            mappings: Mappings::new(most, most_held),
            leaders_out: Leaders::new(),
            leaders_in: Leaders::new(),
            sessions: Sessions::new(flows),
            made: Made::default(),
            rng: ChaCha8Rng::from_seed(seed),
            settings,
        }
    }

    /// Mappings made and ended so far.
    pub fn made(&self) -> Made {
        self.made
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The AIVT whose backward flow is in the slot `flow`, and which carries the flow `tag`, is bound to `pair`. The number of its
    /// session: that of the AIVT before, if it ended just now. `None` where the pool has no address of its family.
    pub fn begin(&mut self, now: Now, flow: u32, pair: Pair, tag: FlowTag) -> Option<u32> {
        self.end(now, flow);
        if let Some(number) = self.sessions.resume(flow, tag, pair) {
            return Some(number);
        }
        let address = self.settings.pool.some_address(pair.destination, self.rng.next_u32())?;
        let limits = self.settings.limits;
        self.sessions.begin(Session {
            flow: Some(flow),
            tag,
            pair,
            address,
            first: None,
            mappings: 0,
            packets: PerSecond::new(limits.packets_per_s),
            new_mappings: PerSecond::new(limits.new_mappings_per_s),
            ended: Now(0),
        })
    }

    /// The AIVT is gone; its mappings stay for the next one of the flow, for a while.
    pub fn end(&mut self, now: Now, flow: u32) {
        if self.sessions.keeps_enough() {
            self.release_oldest(now);
        }
        if let Some(number) = self.sessions.end(now, flow) {
            self.release(now, number);
        }
    }

    fn release_oldest(&mut self, now: Now) {
        if let Some(number) = self.sessions.oldest(Now(u64::MAX)) {
            self.release(now, number);
        }
    }

    /// Ends a session's mappings.
    fn release(&mut self, now: Now, number: u32) {
        let mut next = self.sessions.take(number).and_then(|session| session.first);
        while let Some(at) = next {
            next = self.mappings.end(now, at);
            self.made.ended += 1;
        }
    }

    /// Ends mappings that nothing passed through for long, some at a time, and those of AIVTs that were not built again. Call a few
    /// times a second.
    pub fn tick(&mut self, now: Now) {
        while let Some(number) = self.sessions.oldest(Now(now.0.saturating_sub(NAT_KEPT_NS))) {
            self.release(now, number);
        }
        self.mappings.free_held(now, self.settings.timeouts.port_held);
        let mut count = NAT_PLACES_A_TICK;
        while let Some((at, internal)) = self.mappings.expire(now, &self.settings.timeouts, &mut count) {
            self.made.ended += 1;
            match self.sessions.entry_mut(internal.session) {
                Some(session) => {
                    session.first = self.mappings.unlink(now, session.first, at);
                    session.mappings -= 1;
                }
                None => {
                    self.mappings.end(now, at);
                }
            }
        }
    }

    /// Makes `datagram`, a whole one which came out of the AIVT of the session `number`, one of this node's.
    ///
    /// # Errors
    /// Why it may not leave, or could not come back; [`tells`] whether the initiator shall know. It may be changed then.
    pub fn outbound(&mut self, now: Now, number: u32, datagram: &mut [u8]) -> Result<(), DropReason> {
        let Self {
            settings,
            sessions,
            mappings,
            ..
        } = self;
        let session = sessions.entry_mut(number).ok_or(DropReason::Gone)?;
        if !session.packets.admit(now) {
            return Err(DropReason::OpenExitRate);
        }
        let transport = locate(datagram).map_err(unfit)?;
        if transport.message != Message::Request {
            return Err(DropReason::OpenExitPolicy);
        }
        let internal = Internal {
            session: number,
            protocol: transport.protocol,
            port: transport.source,
        };
        let (destination, port) = (session.pair.destination, transport.destination);
        let known = mappings.of(internal);
        let asked = known
            .as_ref()
            .is_some_and(|known| transport.protocol == Protocol::Echo || known.passed_port == port);
        if !asked && !settings.policy.passes(destination, transport.protocol, port) {
            return Err(DropReason::OpenExitPolicy);
        }
        if known.is_none() {
            self.map(now, internal)?;
        }
        let mapping = self.mappings.of(internal).ok_or(DropReason::OpenExitExhausted)?;
        mapping.passed_port = port;
        mapping.sent(now, transport.tcp_flags);
        let external = mapping.external;
        let address = self.settings.pool.address(external.address).ok_or(DropReason::Gone)?;
        rewrite::source(datagram, address).map_err(|_| DropReason::NotRewritable)?;
        transport.set_source(datagram, external.port);
        // One that does not clash with those of other AIVTs behind the same address (RFC 6864 section 5.3), also where no router may
        // fragment: a host that counts them would be known by its count behind several AIVTs.
        identify(datagram, self.rng.next_u32());
        Ok(())
    }

    /// Makes a mapping for a port of an AIVT.
    fn map(&mut self, now: Now, internal: Internal) -> Result<(), DropReason> {
        let session = self.sessions.entry_mut(internal.session).ok_or(DropReason::Gone)?;
        if session.mappings >= self.settings.limits.mappings_per_aivt || !session.new_mappings.admit(now) {
            return Err(DropReason::OpenExitMappings);
        }
        let (address, first) = (session.address, session.first);
        if self.mappings.is_full() {
            self.release_oldest(now);
            if self.mappings.is_full() {
                return Err(DropReason::OpenExitExhausted);
            }
        }
        let external = self
            .draw(address, internal.protocol)
            .or_else(|| self.port_of_kept(now, address, internal.protocol))
            .ok_or(DropReason::OpenExitExhausted)?;
        let made = self.mappings.add(now, internal, external, first);
        let session = self.sessions.entry_mut(internal.session).ok_or(DropReason::Gone)?;
        session.first = Some(made.ok_or(DropReason::OpenExitExhausted)?);
        session.mappings += 1;
        self.made.made += 1;
        Ok(())
    }

    /// A port at random: a free one of some that are drawn, or of as many that follow the last; or else, of all these, the one that has
    /// been nobody's for longest.
    fn draw(&mut self, address: AddressId, protocol: Protocol) -> Option<External> {
        let pool = &self.settings.pool;
        let external = |nth| External {
            address,
            protocol,
            port: pool.port(self.me, nth),
        };
        let (mut nth, mut best) = (0, (Standing::Taken, None));
        for step in 0..2 * NAT_DRAWS {
            nth = if step < NAT_DRAWS {
                self.rng.next_u32() >> 8
            } else {
                nth + 1
            };
            let standing = self.mappings.standing(external(nth));
            if standing < best.0 {
                best = (standing, Some(external(nth)));
            }
            if standing == Standing::Free {
                break;
            }
        }
        best.1
    }

    /// A port that one of the sessions kept for longest gives up, and all it has with it.
    fn port_of_kept(&mut self, now: Now, address: AddressId, protocol: Protocol) -> Option<External> {
        let (number, first) = self
            .sessions
            .kept()
            .take(NAT_KEPT_LOOKED_AT)
            .find(|(_, kept)| kept.address == address && kept.first.is_some())
            .map(|(number, kept)| (number, kept.first))?;
        let port = self.mappings.externals(first).find(|port| port.protocol == protocol);
        self.release(now, number);
        port
    }

    /// Whether a packet of the Internet, from its IP header on, is for this open exit, and then which worker knows its mapping, or
    /// gathers its fragments.
    pub fn owner(&self, packet: &[u8]) -> Option<WorkerId> {
        let pair = pair_of(packet)?;
        self.settings.pool.find(pair.destination)?;
        if let Some(piece) = Piece::of(packet) {
            return Some(piece.key.gatherer(self.settings.pool.workers()));
        }
        let port = match locate(packet) {
            Ok(error) if error.message == Message::Error => {
                locate_quoted(error.quoted(packet)).map_or(0, |quoted| quoted.source)
            }
            Ok(transport) => transport.destination,
            // A question to this node.
            Err(_) if neighbour::is_solicitation(packet) => return None,
            Err(_) => return Some(self.me),
        };
        Some(self.settings.pool.owner(port).unwrap_or(self.me))
    }

    /// Makes a packet of the Internet for a pool address one of an AIVT's: the slot of its backward flow.
    ///
    /// # Errors
    /// Why it is for nobody. It may be changed then.
    pub fn inbound(&mut self, now: Now, packet: &mut [u8]) -> Result<u32, DropReason> {
        let transport = locate(packet).map_err(unfit)?;
        match (transport.message, transport.protocol) {
            (Message::Error, _) => self.error(packet, &transport),
            (Message::Request, Protocol::Echo) => Err(DropReason::OpenExitUnsolicited),
            (Message::Request | Message::Reply, _) => self.answer(now, packet, &transport),
        }
    }

    fn answer(&mut self, now: Now, packet: &mut [u8], transport: &Transport) -> Result<u32, DropReason> {
        let ends = pair_of(packet).ok_or(DropReason::Malformed)?;
        let external = self.external(ends.destination, transport.protocol, transport.destination)?;
        let mapping = self.mappings.behind(external).ok_or(DropReason::OpenExitUnsolicited)?;
        let internal = mapping.internal;
        let session = self.sessions.entry_mut(internal.session).ok_or(DropReason::Gone)?;
        if ends.source != session.pair.destination {
            return Err(DropReason::OpenExitUnsolicited);
        }
        let flow = session.flow.ok_or(DropReason::Gone)?;
        mapping.received(now, transport.tcp_flags);
        rewrite::destination(packet, session.pair.source).map_err(|_| DropReason::NotRewritable)?;
        transport.set_destination(packet, internal.port);
        Ok(flow)
    }

    /// An ICMP error about a packet of an AIVT (RFC 5508 section 4.2), from its destination or a router on the way.
    fn error(&mut self, packet: &mut [u8], transport: &Transport) -> Result<u32, DropReason> {
        if !is_intact(packet) {
            return Err(DropReason::Malformed);
        }
        let ends = pair_of(packet).ok_or(DropReason::Malformed)?;
        let quoted = locate_quoted(transport.quoted(packet)).map_err(unfit)?;
        let about = pair_of(transport.quoted(packet)).ok_or(DropReason::Malformed)?;
        if quoted.message != Message::Request || about.source != ends.destination {
            return Err(DropReason::OpenExitUnsolicited);
        }
        let external = self.external(about.source, quoted.protocol, quoted.source)?;
        let mapping = self.mappings.behind(external).ok_or(DropReason::OpenExitUnsolicited)?;
        let internal = mapping.internal;
        let session = self.sessions.entry_mut(internal.session).ok_or(DropReason::Gone)?;
        if about.destination != session.pair.destination {
            return Err(DropReason::OpenExitUnsolicited);
        }
        let flow = session.flow.ok_or(DropReason::Gone)?;
        transport.set_quoted_source(packet, &quoted, internal.port);
        let Pair { source, destination } = session.pair;
        // This also changes the address that is quoted.
        rewrite::destination(packet, source)
            .and_then(|()| rewrite::source(packet, destination))
            .map_err(|_| DropReason::NotRewritable)?;
        Ok(flow)
    }

    fn external(&self, address: IpAddr, protocol: Protocol, port: u16) -> Result<External, DropReason> {
        let address = self
            .settings
            .pool
            .find(address)
            .ok_or(DropReason::OpenExitUnsolicited)?;
        Ok(External {
            address,
            protocol,
            port,
        })
    }

    /// Mappings and AIVTs at this moment.
    pub fn in_use(&self) -> [usize; 2] {
        [self.mappings.len(), self.sessions.live()]
    }
}

/// Whether the initiator gets an ICMP error, administratively prohibited, about a datagram that was refused for this (RFC 6888
/// REQ-8): not where the errors themselves would be the flood.
pub const fn tells(why: DropReason) -> bool {
    matches!(
        why,
        DropReason::OpenExitPolicy | DropReason::OpenExitMappings | DropReason::OpenExitExhausted
    )
}

const fn unfit(why: Unfit) -> DropReason {
    match why {
        Unfit::Malformed => DropReason::InnerMalformed,
        Unfit::Fragment => DropReason::OpenExitFragment,
        Unfit::Protocol => DropReason::OpenExitPolicy,
    }
}

/// External ports that a worker has for each of three protocols.
fn ports(pool: &Pool, me: WorkerId) -> u32 {
    let addresses = u32::try_from(pool.addresses().len()).unwrap_or(u32::MAX);
    pool.share(me).saturating_mul(addresses)
}

/// Source and destination of a datagram or of the head of one.
fn pair_of(head: &[u8]) -> Option<Pair> {
    match head.first()? >> 4 {
        4 => Some(Pair {
            source: IpAddr::from(*head.get(12..)?.first_chunk::<4>()?),
            destination: IpAddr::from(*head.get(16..)?.first_chunk::<4>()?),
        }),
        6 => Some(Pair {
            source: IpAddr::from(*head.get(8..)?.first_chunk::<16>()?),
            destination: IpAddr::from(*head.get(24..)?.first_chunk::<16>()?),
        }),
        _ => None,
    }
}

/// Whether the checksum of an ICMP message is right (RFC 5508 REQ-3).
fn is_intact(packet: &[u8]) -> bool {
    match packet.first().map(|first| first >> 4) {
        Some(4) => Ipv4::parse(packet).is_ok_and(|ip| checksum(ip.payload()) == 0),
        Some(6) => Ipv6::parse(packet)
            .is_ok_and(|ip| transport_ipv6(ip.source(), ip.destination(), protocol::ICMPV6, ip.payload()) == 0),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
