//! Fragments at the open exit (RFC 4787 REQ-14): the first has the ports and leads the others, which have none.
//!
//! ```text
//!   first ──► ports ──► mapping, and a leader for (source, destination, protocol, identification)
//!   later ──► leader ──► only the address changes, and on the way out the identification, as in the first
//!         └─► none yet ──► waits a while for the first (`Early`)
//! ```
//! Nothing is put together here: hosts do that. A later fragment of the Internet names no port, and so no worker: all of a datagram go
//! to one worker first (`Key::gatherer`), which sends them on once the first has told whose they are. What is remembered of the
//! Internet's fragments lies apart from what is of the AIVTs', so that nobody outside pushes theirs out.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::net::IpAddr;

use rustc_hash::FxBuildHasher;

use super::transport::locate;
use super::{Nat, unfit};
use crate::id::{FlowTag, Now, WorkerId};
use crate::limits::{BURST, NAT_EARLY_NS, NAT_FRAGMENTED, NAT_FRAGMENTED_NS};
use crate::rewrite;
use crate::stage::Lane;
use crate::verdict::DropReason;
use crate::wire::extension::FRAGMENT;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};

/// What all fragments of a datagram have in common (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    identification: u32,
}

impl Key {
    /// The one of `workers` that fragments of the Internet come to first.
    pub(super) fn gatherer(&self, workers: u8) -> WorkerId {
        // Less than a byte.
        WorkerId((FxBuildHasher.hash_one(self) >> 32) as u8 % workers.max(1))
    }
}

/// One fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Of which datagram.
    pub key: Key,
    /// The one with the ports.
    pub is_first: bool,
}

impl Piece {
    /// The fragment at the front of `datagram`; `None` if that is a whole datagram, or none at all.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        if datagram.first()? >> 4 == 4 {
            let ip = Ipv4::parse(datagram).ok().filter(Ipv4::is_fragment)?;
            let key = Key {
                from: ip.source().into(),
                to: ip.destination().into(),
                protocol: ip.protocol(),
                identification: ip.id().into(),
            };
            let is_first = ip.fragment_offset() == 0;
            return Some(Self { key, is_first });
        }
        let ip = Ipv6::parse(datagram).ok().filter(|ip| ip.next_header() == FRAGMENT)?;
        let &[protocol, _, high, low, a, b, c, d] = ip.payload().first_chunk()?;
        let key = Key {
            from: ip.source().into(),
            to: ip.destination().into(),
            protocol,
            identification: u32::from_be_bytes([a, b, c, d]),
        };
        let is_first = u16::from_be_bytes([high, low]) & 0xfff8 == 0;
        Some(Self { key, is_first })
    }
}

/// Gives a datagram another identification, if it has one: of IPv6 only fragments have.
pub(super) fn identify(datagram: &mut [u8], identification: u32) {
    let [_, _, high, low] = identification.to_be_bytes();
    if Ipv4::parse(datagram).is_ok() {
        datagram[4..6].copy_from_slice(&[high, low]);
        // Its header has just been parsed.
        let _whole = ipv4::refresh_checksum(datagram);
    } else if Piece::of(datagram).is_some() {
        datagram[ipv6::HEADER_LEN + 4..ipv6::HEADER_LEN + 8].copy_from_slice(&identification.to_be_bytes());
    }
}

/// Out of an AIVT: later fragments follow the first under this identification.
#[derive(Clone, Copy)]
pub(super) struct Outward(u32);

/// Where later fragments of the Internet follow the first.
#[derive(Clone, Copy)]
pub(super) enum Inward {
    /// Into the AIVT of this session and flow: the number may be another flow's by then.
    Session(u32, FlowTag),
    /// To the worker that has the port.
    Elsewhere(WorkerId),
}

/// Leaders of one direction by datagram, the oldest forgotten first.
pub(super) struct Leaders<L> {
    /// Addresses are the users' and the Internet's choice, hence the keyed hash of the standard library.
    by_key: HashMap<Key, (Now, L)>,
    order: VecDeque<(Now, Key)>,
}

impl<L: Copy> Leaders<L> {
    /// Room for [`NAT_FRAGMENTED`] datagrams.
    pub(super) fn new() -> Self {
        Self {
            by_key: HashMap::with_capacity(NAT_FRAGMENTED),
            order: VecDeque::with_capacity(NAT_FRAGMENTED),
        }
    }

    fn note(&mut self, now: Now, key: Key, leader: L) {
        if self.order.len() >= NAT_FRAGMENTED
            && let Some((at, oldest)) = self.order.pop_front()
            && self.by_key.get(&oldest).is_some_and(|(noted, _)| *noted == at)
        {
            self.by_key.remove(&oldest);
        }
        self.by_key.insert(key, (now, leader));
        self.order.push_back((now, key));
    }

    fn of(&self, now: Now, key: Key) -> Option<L> {
        let (noted, leader) = self.by_key.get(&key)?;
        (now.since(*noted) < NAT_FRAGMENTED_NS).then_some(*leader)
    }
}

/// Fragments of one direction that came before the first of their datagram.
pub struct Early<B>(VecDeque<(Now, Key, B)>);

impl<B> Default for Early<B> {
    /// None, and room for a burst.
    fn default() -> Self {
        Self(VecDeque::with_capacity(BURST))
    }
}

impl<B> Early<B> {
    /// Keeps one for a while.
    ///
    /// # Errors
    /// The oldest had to make room.
    pub fn keep(&mut self, now: Now, key: Key, fragment: B) -> Result<(), DropReason> {
        let full = self.0.len() >= BURST && self.0.pop_front().is_some();
        self.0.push_back((now, key, fragment));
        if full {
            Err(DropReason::OpenExitFragment)
        } else {
            Ok(())
        }
    }

    /// Those of a datagram whose first has come.
    pub fn of(&mut self, key: Key) -> Lane<B> {
        let mut found = Lane::new();
        while let Some(at) = self.0.iter().position(|(_, of, _)| *of == key) {
            found.extend(self.0.remove(at).map(|(_, _, fragment)| fragment));
        }
        found
    }

    /// Gives up those that have waited too long; how many.
    pub fn expire(&mut self, now: Now) -> usize {
        let before = self.0.len();
        self.0.retain(|(came, _, _)| now.since(*came) < NAT_EARLY_NS);
        before - self.0.len()
    }
}

/// Where a fragment of the Internet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Towards {
    /// Into an AIVT: the slot of its backward flow.
    Flow(u32),
    /// To another worker, as it is.
    Worker(WorkerId),
}

impl Nat {
    /// [`Nat::outbound`] for a fragment.
    ///
    /// # Errors
    /// As there; [`DropReason::OpenExitFragment`], and it is unchanged, if the first of its datagram has not come yet.
    pub fn outbound_piece(
        &mut self,
        now: Now,
        number: u32,
        piece: Piece,
        datagram: &mut [u8],
    ) -> Result<(), DropReason> {
        if piece.is_first {
            self.outbound(now, number, datagram)?;
            if let Some(shown) = Piece::of(datagram) {
                let leader = Outward(shown.key.identification);
                self.leaders_out.note(now, piece.key, leader);
            }
            return Ok(());
        }
        let Some(Outward(identification)) = self.leaders_out.of(now, piece.key) else {
            return Err(DropReason::OpenExitFragment);
        };
        let session = self.sessions.entry_mut(number).ok_or(DropReason::Gone)?;
        if !session.packets.admit(now) {
            return Err(DropReason::OpenExitRate);
        }
        let address = self.settings.pool.address(session.address).ok_or(DropReason::Gone)?;
        rewrite::source(datagram, address).map_err(|_| DropReason::NotRewritable)?;
        identify(datagram, identification);
        Ok(())
    }

    /// [`Nat::inbound`] for a fragment.
    ///
    /// # Errors
    /// As there; [`DropReason::OpenExitFragment`], and it is unchanged, if the first of its datagram has not come yet.
    pub fn inbound_piece(&mut self, now: Now, piece: Piece, packet: &mut [u8]) -> Result<Towards, DropReason> {
        if piece.is_first {
            let port = locate(packet).map_err(unfit)?.destination;
            let owner = self.settings.pool.owner(port).ok_or(DropReason::OpenExitUnsolicited)?;
            if owner != self.me {
                self.leaders_in.note(now, piece.key, Inward::Elsewhere(owner));
                return Ok(Towards::Worker(owner));
            }
            let flow = self.inbound(now, packet)?;
            let number = self.sessions.of_flow(flow).ok_or(DropReason::Gone)?;
            let tag = self.sessions.entry_mut(number).ok_or(DropReason::Gone)?.tag;
            self.leaders_in.note(now, piece.key, Inward::Session(number, tag));
            return Ok(Towards::Flow(flow));
        }
        let leader = self.leaders_in.of(now, piece.key);
        match leader.ok_or(DropReason::OpenExitFragment)? {
            Inward::Elsewhere(owner) => Ok(Towards::Worker(owner)),
            Inward::Session(number, tag) => {
                let session = self.sessions.entry_mut(number).ok_or(DropReason::Gone)?;
                let is_same = session.tag == tag && session.pair.destination == piece.key.from;
                let flow = session.flow.filter(|_| is_same).ok_or(DropReason::Gone)?;
                rewrite::destination(packet, session.pair.source).map_err(|_| DropReason::NotRewritable)?;
                Ok(Towards::Flow(flow))
            }
        }
    }
}
