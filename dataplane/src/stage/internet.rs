//! The open exit in the packet path: datagrams of AIVTs into the Internet, and the Internet's packets into AIVTs. What is done to them
//! is [`crate::nat`]'s.

use std::net::IpAddr;

use ain_crypto::Backend;

use super::Lane;
use super::deliver::{Datagram, Delivery};
use crate::command::Handoff;
use crate::count::Traffic;
use crate::engine::Engine;
use crate::entry::EdgeTo;
use crate::fragment::fragments;
use crate::icmp::Problem;
use crate::id::{FlowTag, Now, Pair, PeerId, PortId, WorkerId};
use crate::limits::NEIGHBOUR_ANSWERS_PER_S;
use crate::nat::fragments::{Early, Piece, Towards};
use crate::nat::neighbour::{self, ANSWER, ETHERTYPE_ARP};
use crate::nat::{Nat, tells};
use crate::outside::Outside;
use crate::packet::PacketBuf;
use crate::peers::{Link, Peers, Uplink};
use crate::per_second::PerSecond;
use crate::verdict::DropReason;
use crate::wire::datagram_len;
use crate::wire::ethernet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader};
use crate::wire::ipv4::Ipv4;

/// A worker's open exit.
pub(crate) struct OpenExit<B> {
    pub nat: Nat,
    /// Of AIVTs; the Internet's lie apart and cannot push them out.
    early_out: Early<B>,
    early_in: Early<B>,
    /// What is too long for one buffer is translated here.
    scratch: Box<[u8]>,
    answers: PerSecond,
}

impl<B> OpenExit<B> {
    pub fn new(nat: Nat) -> Self {
        Self {
            nat,
            early_out: Early::default(),
            early_in: Early::default(),
            scratch: vec![0; crate::aggfrag::MAX_DATAGRAM].into(),
            answers: PerSecond::new(NEIGHBOUR_ANSWERS_PER_S),
        }
    }

    /// Gives up fragments that waited too long for their first, mappings and what else has timed out; how many fragments.
    pub fn tick(&mut self, now: Now) -> usize {
        self.nat.tick(now);
        self.early_out.expire(now) + self.early_in.expire(now)
    }

    /// A datagram, or a piece of one, becomes one of this node's.
    fn translate(
        &mut self,
        now: Now,
        session: u32,
        piece: Option<Piece>,
        datagram: &mut [u8],
    ) -> Result<(), DropReason> {
        match piece {
            None => self.nat.outbound(now, session, datagram),
            Some(piece) => self.nat.outbound_piece(now, session, piece, datagram),
        }
    }
}

/// What came in and is not IPsec.
pub enum Stray<B> {
    /// A whole frame, and the port that it came from.
    Frame(PortId, B),
    /// An IP packet, from its header on, from another worker, which has found out that it is for this one.
    Ours(B),
}

impl<C: Backend, B: PacketBuf> Engine<C, B> {
    /// What is not IPsec: the Internet's packets for the open exit go into AIVTs, questions for its addresses are answered, the rest is
    /// the kernel's.
    pub(crate) fn strays(&mut self, now: Now, peers: &Peers, lane: &mut Lane<Stray<B>>, io: &mut impl Outside<C, B>) {
        for stray in lane.drain(..) {
            let taken = match stray {
                Stray::Frame(port, frame) => self.frame_of_internet(now, peers, port, frame, io),
                Stray::Ours(buf) => self.enter_aivt(now, peers, buf, io),
            };
            if let Err(why) = taken {
                self.counters.dropped(why);
            }
        }
    }

    /// What the datagrams of an exit's AIVT are for, whose answers have their flow already.
    pub(crate) fn bound(&mut self, now: Now, tunnel: PeerId, pair: Pair, flow: FlowTag) -> EdgeTo {
        if tunnel != PeerId::INTERNET {
            return EdgeTo::Responder { tunnel, pair };
        }
        let answers = self.flows.find(tunnel, pair.reversed());
        let open = self.open_exit.as_mut();
        let begun = answers
            .zip(open)
            .and_then(|(answers, open)| open.nat.begin(now, answers, pair, flow));
        // Without room for the answers there is no flow: what is sent then is dropped.
        let session = begun.unwrap_or(u32::MAX);
        EdgeTo::Internet { pair, session }
    }

    /// The AIVT with these answers is gone.
    pub(crate) fn leave_internet(&mut self, now: Now, tunnel: PeerId, answers: Pair) {
        if tunnel == PeerId::INTERNET
            && let Some(slot) = self.flows.find(tunnel, answers)
            && let Some(open) = self.open_exit.as_mut()
        {
            open.nat.end(now, slot);
        }
    }

    fn frame_of_internet(
        &mut self,
        now: Now,
        peers: &Peers,
        port: PortId,
        mut frame: B,
        io: &mut impl Outside<C, B>,
    ) -> Result<(), DropReason> {
        let (header, packet) = EthernetHeader::parse(frame.data())?;
        let is_ip = matches!(header.ethertype.get(), ETHERTYPE_IPV4 | ETHERTYPE_IPV6);
        let open = self.open_exit.as_ref().filter(|_| is_ip);
        if let Some(owner) = open.and_then(|open| open.nat.owner(packet)) {
            frame.trim_front(ethernet::HEADER_LEN);
            if owner == self.id {
                return self.enter_aivt(now, peers, frame, io);
            }
            return self.send_to_worker(owner, frame, io);
        }
        let mut answer = [0; ANSWER];
        match self.answer(peers, port, frame.data(), &mut answer) {
            Some(len) => self.send_answer(now, port, &answer[..len], frame, io),
            None => self.exception(now, port, frame.data(), io),
        }
    }

    fn send_to_worker(&mut self, owner: WorkerId, packet: B, io: &mut impl Outside<C, B>) -> Result<(), DropReason> {
        io.hand_over(owner, Handoff::FromInternet(packet))
            .map_err(|_| DropReason::HandoffFull)?;
        self.counters.handed_over();
        Ok(())
    }

    fn enter_aivt(
        &mut self,
        now: Now,
        peers: &Peers,
        mut buf: B,
        io: &mut impl Outside<C, B>,
    ) -> Result<(), DropReason> {
        let open = self.open_exit.as_mut().ok_or(DropReason::Gone)?;
        // Ethernet's padding is no part of it.
        buf.truncate(datagram_len(buf.data()).map_err(|_| DropReason::Malformed)?);
        let Some(piece) = Piece::of(buf.data()) else {
            let flow = open.nat.inbound(now, buf.data_mut())?;
            self.counters.moved(Traffic::InternetIn, buf.data().len());
            self.queue(now, peers, flow, buf, io);
            return Ok(());
        };
        match open.nat.inbound_piece(now, piece, buf.data_mut()) {
            Ok(Towards::Flow(flow)) => {
                self.counters.moved(Traffic::InternetIn, buf.data().len());
                self.queue(now, peers, flow, buf, io);
            }
            Ok(Towards::Worker(owner)) => self.send_to_worker(owner, buf, io)?,
            Err(DropReason::OpenExitFragment) if !piece.is_first => return open.early_in.keep(now, piece.key, buf),
            Err(why) => return Err(why),
        }
        for next in self.led_by(piece) {
            if let Err(why) = self.enter_aivt(now, peers, next, io) {
                self.counters.dropped(why);
            }
        }
        Ok(())
    }

    /// The fragments that came before this one and can follow it now.
    fn led_by(&mut self, piece: Piece) -> Lane<B> {
        match &mut self.open_exit {
            Some(open) if piece.is_first => open.early_in.of(piece.key),
            Some(_) | None => Lane::new(),
        }
    }

    /// The answer to who asks on the uplink for the link-layer address of a pool address, and its length.
    fn answer(&self, peers: &Peers, port: PortId, frame: &[u8], answer: &mut [u8; ANSWER]) -> Option<usize> {
        let open = self.open_exit.as_ref()?;
        let (header, _) = EthernetHeader::parse(frame).ok()?;
        let uplink = match header.ethertype.get() {
            ETHERTYPE_ARP => peers.uplinks().v4,
            ETHERTYPE_IPV6 => peers.uplinks().v6,
            _ => None,
        };
        let own = uplink.filter(|uplink| uplink.port == port)?.link?.source;
        neighbour::answer(frame, own, &open.nat.settings().pool, answer)
    }

    /// Sends such an answer in the place of the question, some times a second.
    fn send_answer(
        &mut self,
        now: Now,
        port: PortId,
        answer: &[u8],
        mut buf: B,
        io: &mut impl Outside<C, B>,
    ) -> Result<(), DropReason> {
        let open = self.open_exit.as_mut().ok_or(DropReason::Gone)?;
        if !open.answers.admit(now) {
            return Err(DropReason::OpenExitRate);
        }
        let missing = answer.len().saturating_sub(buf.data().len());
        if buf.tailroom() < missing {
            return Err(DropReason::NoBuffer);
        }
        buf.grow_back(missing);
        buf.truncate(answer.len());
        buf.data_mut().copy_from_slice(answer);
        io.transmit(port, buf);
        Ok(())
    }
}

impl<B: PacketBuf, O> Delivery<'_, B, O> {
    /// Sends a datagram of the AIVT of the session `session` into the Internet.
    pub(super) fn send_to_internet<C: Backend>(
        &mut self,
        (pair, session): (Pair, u32),
        dont_fragment: bool,
        datagram: Datagram<'_, B>,
    ) -> Result<(), DropReason>
    where
        O: Outside<C, B>,
    {
        let uplink = *self.peers.uplinks().towards(pair.destination).ok_or(DropReason::Gone)?;
        let link = uplink.link.ok_or(DropReason::NoNeighbour)?;
        let back = (PeerId::INTERNET, pair.reversed());
        let piece = Piece::of(datagram.bytes());
        if datagram.bytes().len() <= usize::from(uplink.mtu) {
            self.send_whole((back, session), (uplink, link), piece, datagram)?;
        } else if dont_fragment {
            self.tell(back, Problem::TooBig(uplink.mtu), datagram.bytes());
            return Err(DropReason::TooBig);
        } else {
            self.send_in_pieces((back, session), (uplink, link), piece, datagram)?;
        }
        if let (Some(first), Some(open)) = (piece.filter(|piece| piece.is_first), self.open_exit.as_mut()) {
            for next in open.early_out.of(first.key) {
                if let Err(why) = self.send_to_internet((pair, session), dont_fragment, Datagram::Own(next)) {
                    self.counters.dropped(why);
                }
            }
        }
        Ok(())
    }

    /// A datagram that the port takes as it is.
    fn send_whole<C: Backend>(
        &mut self,
        (back, session): ((PeerId, Pair), u32),
        (uplink, link): (Uplink, Link),
        piece: Option<Piece>,
        datagram: Datagram<'_, B>,
    ) -> Result<(), DropReason>
    where
        O: Outside<C, B>,
    {
        let mut own = datagram.into_buf(self.io)?;
        let open = self.open_exit.as_mut().ok_or(DropReason::Gone)?;
        match open.translate(self.now, session, piece, own.data_mut()) {
            Ok(()) => self.transmit(uplink, link, back.1.source, own),
            Err(why) => self.not_translated(back, piece, why, Datagram::Own(own)),
        }
    }

    /// A datagram too long for the port, which may be cut.
    fn send_in_pieces<C: Backend>(
        &mut self,
        (back, session): ((PeerId, Pair), u32),
        (uplink, link): (Uplink, Link),
        piece: Option<Piece>,
        datagram: Datagram<'_, B>,
    ) -> Result<(), DropReason>
    where
        O: Outside<C, B>,
    {
        let open = self.open_exit.as_mut().ok_or(DropReason::Gone)?;
        let mut scratch = std::mem::take(&mut open.scratch);
        let whole = &mut scratch[..datagram.bytes().len()];
        whole.copy_from_slice(datagram.bytes());
        let sent = match open.translate(self.now, session, piece, whole) {
            Ok(()) => self.pieces((uplink, link), whole),
            Err(why) => self.not_translated(back, piece, why, datagram),
        };
        if let Some(open) = self.open_exit.as_mut() {
            open.scratch = scratch;
        }
        sent
    }

    /// A fragment that came before its first waits for it; of anything else the initiator is told where it shall know.
    fn not_translated<C: Backend>(
        &mut self,
        back: (PeerId, Pair),
        piece: Option<Piece>,
        why: DropReason,
        datagram: Datagram<'_, B>,
    ) -> Result<(), DropReason>
    where
        O: Outside<C, B>,
    {
        if let (Some(later), DropReason::OpenExitFragment) = (piece.filter(|piece| !piece.is_first), why) {
            let own = datagram.into_buf(self.io)?;
            let open = self.open_exit.as_mut().ok_or(DropReason::Gone)?;
            return open.early_out.keep(self.now, later.key, own);
        }
        if tells(why) {
            self.tell(back, Problem::AdministrativelyProhibited, datagram.bytes());
        }
        Err(why)
    }

    fn pieces<C: Backend>(&mut self, (uplink, link): (Uplink, Link), whole: &[u8]) -> Result<(), DropReason>
    where
        O: Outside<C, B>,
    {
        let whole = Ipv4::parse(whole).map_err(|_| DropReason::InnerMalformed)?;
        for piece in fragments(&whole, usize::from(uplink.mtu)).map_err(|_| DropReason::TooBig)? {
            let mut buf = self.io.alloc().ok_or(DropReason::NoBuffer)?;
            if buf.tailroom() < piece.total_len() {
                return Err(DropReason::NoBuffer);
            }
            buf.grow_back(piece.total_len());
            piece.write(buf.data_mut());
            self.transmit(uplink, link, IpAddr::V4(whole.destination()), buf)?;
        }
        Ok(())
    }

    fn transmit<C: Backend>(&mut self, uplink: Uplink, link: Link, to: IpAddr, mut buf: B) -> Result<(), DropReason>
    where
        O: Outside<C, B>,
    {
        self.counters.moved(Traffic::InternetOut, buf.data().len());
        if buf.headroom() < ethernet::HEADER_LEN {
            return Err(DropReason::NoBuffer);
        }
        buf.grow_front(ethernet::HEADER_LEN);
        let ethertype = if to.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        EthernetHeader::new(link.destination, link.source, ethertype)
            .write(buf.data_mut())
            .map_err(|_| DropReason::NoBuffer)?;
        self.io.transmit(uplink.port, buf);
        Ok(())
    }
}
