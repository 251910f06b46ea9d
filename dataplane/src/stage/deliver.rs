//! Cells that have lost their last layer: checked, unpacked, and their datagrams brought to the host they are for.

use std::net::IpAddr;

use ain_crypto::Backend;

use super::enter::{icmp_error, look};
use super::internet::OpenExit;
use super::{Lane, Received};
use crate::aggfrag::{self, Content, Opened};
use crate::command::Event;
use crate::count::{Counters, Traffic};
use crate::engine::{Engine, IntoFlow, Outbox};
use crate::entry::{Edge, EdgeTo, Next};
use crate::fragment::fragments;
use crate::icmp::Problem;
use crate::id::{AivtId, Now, Pair, PeerId};
use crate::outside::Outside;
use crate::packet::PacketBuf;
use crate::peers::Peers;
use crate::sa::ReplayError;
use crate::verdict::DropReason;
use crate::waiting::{Waiting, WaitsFor};
use crate::wire::ipv4::Ipv4;
use crate::wire::{cell, ip};
use crate::{mss, rewrite};

/// Why a cell is refused after its last layer.
enum Refused {
    /// AH excludes the wire: a hop did it (protocol section 4).
    Misbehaviour(DropReason),
    /// Too late; the network reorders.
    Late,
}

impl<C: Backend, B: PacketBuf> Engine<C, B> {
    /// Unpacks the cells of edges. Datagrams go to the outbox; those that must go back into a flow, to `into_flow`.
    pub(crate) fn deliver(
        &mut self,
        now: Now,
        peers: &Peers,
        lane: &mut Lane<Received<B>>,
        io: &mut impl Outside<C, B>,
    ) {
        for packet in lane.drain(..) {
            let Some(tvt) = self.tvts.entry_mut(packet.slot) else {
                continue;
            };
            let Next::Edge(edge) = &mut tvt.next else { continue };
            let Edge {
                window,
                unpacker,
                to,
                told,
            } = &mut **edge;
            let traffic = match to {
                EdgeTo::Initiator { .. } => Traffic::EntranceBackward,
                EdgeTo::Unbound { .. } | EdgeTo::Responder { .. } | EdgeTo::Internet { .. } => Traffic::ExitForward,
            };
            self.counters.moved(traffic, packet.buf.data().len());
            let opened = aggfrag::open(packet.buf.data())
                .map_err(|_| Refused::Misbehaviour(DropReason::CellBroken))
                .and_then(|opened| match window.check_full(opened.sequence) {
                    Ok(sequence) if window.mark(sequence) => Ok(opened),
                    Err(ReplayError::Old) => Err(Refused::Late),
                    Ok(_) | Err(ReplayError::Repeated) => Err(Refused::Misbehaviour(DropReason::CellReplay)),
                });
            let mut delivery = Delivery {
                now,
                peers,
                counters: &self.counters,
                outbox: &mut self.outbox,
                into_flow: &mut self.into_flow,
                waiting: &mut self.waiting,
                open_exit: self.open_exit.as_deref_mut(),
                slot: packet.slot,
                aivt: tvt.aivt,
                from: tvt.peer,
                io,
            };
            match opened {
                Ok(Opened { sequence, content }) => match content {
                    Content::Data(blocks) => {
                        let fed = match blocks.only_datagram() {
                            Some(len) => {
                                let fed = unpacker.pass(now, sequence, &mut self.pool);
                                delivery.datagram(to, Datagram::Own(alone(packet.buf, len)));
                                fed
                            }
                            None => unpacker.feed(now, sequence, blocks, &mut self.pool, |datagram| {
                                delivery.datagram(to, Datagram::Shared(datagram));
                            }),
                        };
                        let lost = fed.expired + fed.evicted;
                        if lost + fed.malformed > 0 {
                            self.counters
                                .dropped_many(DropReason::InnerMalformed, fed.malformed as usize);
                            self.counters.dropped_many(DropReason::ReassemblyLost, lost as usize);
                        }
                    }
                    Content::Verdict(reason) => delivery.verdict(to, told, reason),
                },
                Err(Refused::Late) => self.counters.dropped(DropReason::CellReplay),
                Err(Refused::Misbehaviour(why)) => {
                    self.counters.dropped(why);
                    delivery.report(told, Event::Misbehaviour(tvt.aivt));
                }
            }
        }
    }

    /// Sends on what waited for the binding of the TVT in `slot`.
    pub(crate) fn deliver_waiting(&mut self, now: Now, peers: &Peers, slot: u32, io: &mut impl Outside<C, B>) {
        while let Some(buf) = self.waiting.take_first(WaitsFor::Binding(slot)) {
            let Some(tvt) = self.tvts.entry_mut(slot) else { continue };
            let Next::Edge(edge) = &mut tvt.next else { continue };
            let mut delivery = Delivery {
                now,
                peers,
                counters: &self.counters,
                outbox: &mut self.outbox,
                into_flow: &mut self.into_flow,
                waiting: &mut self.waiting,
                open_exit: self.open_exit.as_deref_mut(),
                slot,
                aivt: tvt.aivt,
                from: tvt.peer,
                io,
            };
            delivery.datagram(&mut edge.to, Datagram::Own(buf));
        }
    }
}

/// A datagram that came out of a cell.
pub(super) enum Datagram<'a, B> {
    /// Alone in its buffer.
    Own(B),
    /// Among others, or put together from pieces.
    Shared(&'a [u8]),
}

impl<B: PacketBuf> Datagram<'_, B> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(buf) => buf.data(),
            Self::Shared(bytes) => bytes,
        }
    }

    /// The datagram in a buffer of its own.
    pub(super) fn into_buf<C: Backend>(self, io: &mut impl Outside<C, B>) -> Result<B, DropReason> {
        match self {
            Self::Own(buf) => Ok(buf),
            Self::Shared(bytes) => copy_of(bytes, io),
        }
    }
}

/// What is left of a cell when it is nothing but its only datagram, of `len` bytes.
fn alone<B: PacketBuf>(mut cell: B, len: usize) -> B {
    cell.trim_front(cell::HEADER_LEN);
    cell.truncate(len);
    cell
}

/// Everything that bringing a datagram to its host may touch.
pub(super) struct Delivery<'a, B, O> {
    pub(super) now: Now,
    pub(super) peers: &'a Peers,
    pub(super) counters: &'a Counters,
    outbox: &'a mut Outbox<B>,
    into_flow: &'a mut IntoFlow<B>,
    waiting: &'a mut Waiting<B>,
    pub(super) open_exit: Option<&'a mut OpenExit<B>>,
    slot: u32,
    aivt: AivtId,
    from: PeerId,
    pub(super) io: &'a mut O,
}

impl<B: PacketBuf, O> Delivery<'_, B, O> {
    /// Tells the control thread of what ends the AIVT, once: however many such cells come until it is gone, they fill no ring.
    fn report<C: Backend>(&mut self, told: &mut bool, event: Event<C, B>)
    where
        O: Outside<C, B>,
    {
        if !*told {
            *told = self.io.report(event).is_ok();
            if !*told {
                self.counters.dropped(DropReason::ControlFull);
            }
        }
    }

    fn verdict<C: Backend>(&mut self, to: &EdgeTo, told: &mut bool, reason: u8)
    where
        O: Outside<C, B>,
    {
        match to {
            EdgeTo::Initiator { .. } => self.report(told, Event::Verdict(self.aivt, reason)),
            EdgeTo::Unbound { .. } | EdgeTo::Responder { .. } | EdgeTo::Internet { .. } => {
                self.counters.dropped(DropReason::CellBroken);
            }
        }
    }

    fn datagram<C: Backend>(&mut self, to: &mut EdgeTo, datagram: Datagram<'_, B>)
    where
        O: Outside<C, B>,
    {
        if let Err(why) = self.bring(to, datagram) {
            self.counters.dropped(why);
        }
    }

    fn bring<C: Backend>(&mut self, to: &mut EdgeTo, datagram: Datagram<'_, B>) -> Result<(), DropReason>
    where
        O: Outside<C, B>,
    {
        let seen = look(datagram.bytes())?;
        match *to {
            EdgeTo::Initiator { tunnel, pair, shown } => {
                let outside = Pair {
                    source: shown.unwrap_or(pair.source),
                    destination: pair.destination,
                };
                if seen.pair != outside.reversed() {
                    return Err(DropReason::WrongPair);
                }
                if seen.ttl <= 1 {
                    return Err(DropReason::TtlExceeded);
                }
                let back = (tunnel, pair);
                self.send_to_host(tunnel, back, seen.dont_fragment, datagram, |bytes| {
                    to_initiator(bytes, pair, shown)
                })
            }
            EdgeTo::Responder { tunnel, pair } => {
                if seen.pair != pair {
                    return Err(DropReason::WrongPair);
                }
                let back = (tunnel, pair.reversed());
                self.send_to_host(tunnel, back, seen.dont_fragment, datagram, |_| Ok(()))
            }
            EdgeTo::Internet { pair, session } => {
                if seen.pair != pair {
                    return Err(DropReason::WrongPair);
                }
                self.send_to_internet((pair, session), seen.dont_fragment, datagram)
            }
            EdgeTo::Unbound { ref mut asked } => {
                if asked.is_some_and(|pair| pair != seen.pair) {
                    return Err(DropReason::WrongPair);
                }
                self.wait_for_binding(asked, seen.pair, datagram)
            }
        }
    }

    /// Keeps a datagram until the control thread has bound the AIVT; the first asks it to.
    fn wait_for_binding<C: Backend>(
        &mut self,
        asked: &mut Option<Pair>,
        pair: Pair,
        datagram: Datagram<'_, B>,
    ) -> Result<(), DropReason>
    where
        O: Outside<C, B>,
    {
        if asked.is_none() {
            self.io
                .report(Event::FirstDatagram(self.aivt, pair))
                .map_err(|_| DropReason::ControlFull)?;
            *asked = Some(pair);
        }
        // One that no buffer holds has asked all the same: the next finds its host, or hears that it is too big.
        let own = datagram.into_buf(self.io)?;
        match self.waiting.push(WaitsFor::Binding(self.slot), self.from, own) {
            Some(_) => Err(DropReason::WaitedTooLong),
            None => Ok(()),
        }
    }

    /// Sends a datagram to a host, in fragments if it must and may be; `back` is the flow that takes a complaint.
    fn send_to_host<C: Backend>(
        &mut self,
        tunnel: PeerId,
        back: (PeerId, Pair),
        dont_fragment: bool,
        datagram: Datagram<'_, B>,
        finish: impl Fn(&mut [u8]) -> Result<(), DropReason>,
    ) -> Result<(), DropReason>
    where
        O: Outside<C, B>,
    {
        let Some(policy) = self.peers.peer(tunnel).and_then(|peer| peer.kind.policy()) else {
            return Err(DropReason::Gone);
        };
        let mtu = policy.inner_mtu;
        let send = |this: &mut Self, mut buf: B| -> Result<(), DropReason> {
            finish(buf.data_mut())?;
            mss::clamp(buf.data_mut(), mtu);
            this.outbox.push_back((tunnel, buf));
            Ok(())
        };
        if datagram.bytes().len() <= usize::from(mtu) {
            let own = datagram.into_buf(self.io)?;
            return send(self, own);
        }
        if dont_fragment {
            self.tell(back, Problem::TooBig(mtu), datagram.bytes());
            return Err(DropReason::TooBig);
        }
        let whole = Ipv4::parse(datagram.bytes()).map_err(|_| DropReason::InnerMalformed)?; // an IPv6 one would not be here
        for piece in fragments(&whole, usize::from(mtu)).map_err(|_| DropReason::TooBig)? {
            let mut buf = self.io.alloc().ok_or(DropReason::NoBuffer)?;
            if buf.tailroom() < piece.total_len() {
                return Err(DropReason::NoBuffer);
            }
            buf.grow_back(piece.total_len());
            piece.write(buf.data_mut());
            send(self, buf)?;
        }
        Ok(())
    }

    /// Answers in the name of the host: the other end believes no one else, and its entrance lets nothing else pass.
    pub(super) fn tell<C: Backend>(&mut self, back: (PeerId, Pair), problem: Problem, datagram: &[u8])
    where
        O: Outside<C, B>,
    {
        let host = look(datagram).map(|seen| seen.pair.destination);
        let error = host.map(|host| icmp_error(host, problem, datagram, self.io));
        if let Ok(Some(error)) = error {
            self.into_flow.push_back((back.0, back.1, error));
        }
    }
}

/// The way back ends at the initiator: one hop less to live, and its own address again.
fn to_initiator(datagram: &mut [u8], pair: Pair, shown: Option<IpAddr>) -> Result<(), DropReason> {
    ip::decrement_ttl(datagram).map_err(|_| DropReason::InnerMalformed)?;
    match shown {
        None => Ok(()),
        Some(_) => rewrite::destination(datagram, pair.source).map_err(|_| DropReason::NotRewritable),
    }
}

fn copy_of<C: Backend, B: PacketBuf>(datagram: &[u8], io: &mut impl Outside<C, B>) -> Result<B, DropReason> {
    let mut buf = io.alloc().ok_or(DropReason::NoBuffer)?;
    if buf.tailroom() < datagram.len() {
        return Err(DropReason::NoBuffer);
    }
    buf.grow_back(datagram.len());
    buf.data_mut().copy_from_slice(datagram);
    Ok(buf)
}
