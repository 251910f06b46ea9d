//! Signals in and out: decoding, ACKs, repeats, liveness. What a signal means is its role's affair.

use ain_dataplane::id::{Now, PeerId, Spi};

use super::{Node, Teller};
use crate::action::{Action, Link};
use crate::pvt::{Arrival, Event};
use crate::signal::destroy::Reason;
use crate::signal::frame::{Kind, Message, Signal};
use crate::signal::part::{Contradiction, Part};

impl Node {
    pub(super) fn receive(&mut self, now: Now, peer: PeerId, datagram: &[u8]) {
        let Some(pvt) = self.pvts.get_mut(&peer) else {
            self.counts.malformed += 1;
            return;
        };
        let Ok(part) = pvt.frame().read(datagram) else {
            self.counts.malformed += 1;
            return;
        };
        if part.count > 1 {
            if !pvt.liveness.is_up() {
                return;
            }
            pvt.liveness.heard(now);
            return self.receive_part(now, peer, &part);
        }
        let Ok(signal) = part.signal() else {
            self.counts.malformed += 1;
            return;
        };
        self.counts.received.add(signal.message.kind());
        // A PVT that is down comes up by what tells the neighbour's process, so that nothing is made with one that knows nothing of
        // what stands here. What else comes is not ACKed, and comes again.
        if !pvt.liveness.is_up() && !signal.message.tells_process() {
            return;
        }
        pvt.liveness.heard(now);
        if signal.message.is_request() {
            self.receive_request(now, peer, signal);
        } else {
            self.receive_other(now, peer, &signal);
        }
    }

    /// One part of a request. Those of a request that is whole already belong to a repetition.
    fn receive_part(&mut self, now: Now, peer: PeerId, part: &Part<'_>) {
        let Some(pvt) = self.pvts.get_mut(&peer) else { return };
        self.counts.parts += 1;
        if pvt.has_seen(part.message_id) {
            self.counts.repeated += 1;
            return self.answer(peer, part.spi, part.message_id, Message::Ack);
        }
        match pvt.halves.add(now, part) {
            Ok(Some(signal)) => {
                self.counts.received.add(part.kind);
                self.receive_request(now, peer, signal);
            }
            Ok(None) => {}
            Err(Contradiction) => self.counts.malformed += 1,
        }
    }

    fn receive_request(&mut self, now: Now, peer: PeerId, signal: Signal) {
        let Some(pvt) = self.pvts.get_mut(&peer) else { return };
        let arrival = pvt.arrival(now, signal.message_id);
        match arrival {
            Arrival::Overload => {
                self.counts.overload += 1;
                return;
            }
            Arrival::Repeated => self.counts.repeated += 1,
            Arrival::First => {}
        }
        self.answer(peer, signal.spi, signal.message_id, Message::Ack);
        if arrival == Arrival::First {
            self.obey(now, peer, signal);
        }
    }

    fn obey(&mut self, now: Now, peer: PeerId, signal: Signal) {
        let link = Spi::new(signal.spi).map(|spi| Link { peer, spi });
        match (signal.message, link) {
            (Message::Create { ah, onion }, Some(link)) => self.create(now, (link, ah), signal.message_id, onion),
            (Message::Create { .. }, None) => {
                self.refuse(now, peer, signal.spi, signal.message_id, Reason::SpiCollision);
            }
            (Message::Created { create, confirmation }, Some(link)) => {
                self.created(now, link, create, confirmation);
            }
            (Message::Destroy { create, reason }, Some(link)) => self.destroy(now, link, create, reason),
            _ => self.counts.stray += 1,
        }
    }

    fn receive_other(&mut self, now: Now, peer: PeerId, signal: &Signal) {
        let Some(pvt) = self.pvts.get_mut(&peer) else { return };
        match signal.message {
            Message::Ack => {
                pvt.settle(signal.message_id);
                return;
            }
            Message::Keepalive => self.answer(peer, 0, signal.message_id, Message::KeepaliveAck),
            _ => {}
        }
        if self
            .pvts
            .get_mut(&peer)
            .is_some_and(|pvt| pvt.neighbour_restarted(signal.spi))
        {
            self.pvt_lost(now, peer);
        }
    }

    pub(super) fn drive_pvt(&mut self, now: Now, peer: PeerId) {
        let Some(pvt) = self.pvts.get_mut(&peer) else { return };
        for event in pvt.handle_timeout(now, &mut *self.rng) {
            match event {
                Event::Send { kind, datagrams } => {
                    self.counts.resent += u64::from(kind != Kind::Keepalive);
                    self.send(peer, kind, datagrams);
                }
                Event::GivenUp { spi, kind } => self.given_up(now, peer, spi, kind),
                Event::Down => self.pvt_lost(now, peer),
            }
        }
    }

    /// A CREATE or CREATED that never was ACKed: the neighbour is beyond reach.
    fn given_up(&mut self, now: Now, peer: PeerId, spi: u32, kind: Kind) {
        self.counts.given_up += 1;
        let id = Spi::new(spi).and_then(|spi| self.aivts.with_link(&Link { peer, spi }));
        if let Some(id) = id.filter(|_| kind != Kind::Destroy) {
            let silent = if kind == Kind::Create {
                Teller::Downstream
            } else {
                Teller::Upstream
            };
            self.end(now, id, Reason::NextHopUnreachable, silent);
        }
    }

    /// Sends a request about `spi` to `peer` until it is ACKed; its message id. `None`: the PVT is down or full.
    pub(super) fn request(&mut self, now: Now, peer: PeerId, spi: u32, message: Message) -> Option<u32> {
        let pvt = self.pvts.get_mut(&peer).filter(|pvt| pvt.liveness.is_up())?;
        let kind = message.kind();
        match pvt.request(now, spi, message, &mut *self.rng) {
            Ok((message_id, datagrams)) => {
                self.send(peer, kind, datagrams);
                Some(message_id)
            }
            Err(_) => {
                self.counts.overload += 1;
                None
            }
        }
    }

    fn answer(&mut self, peer: PeerId, spi: u32, message_id: u32, message: Message) {
        if let Some(pvt) = self.pvts.get(&peer) {
            let kind = message.kind();
            let datagram = pvt.answer(spi, message_id, message, &mut *self.rng);
            self.send(peer, kind, vec![datagram]);
        }
    }

    fn send(&mut self, peer: PeerId, kind: Kind, datagrams: Vec<Vec<u8>>) {
        self.counts.sent.add(kind);
        let send = |datagram| Action::Send { peer, datagram };
        self.actions.extend(datagrams.into_iter().map(send));
    }
}
