//! Is it mine, from whom, and which association: Ethernet header off, outer fragments and strangers out, the rest sorted into TVT
//! and tunnel packets; packets of associations that other workers own change hands.

use std::net::IpAddr;

use ain_crypto::Backend;

use super::{Lane, Received};
use crate::command::Handoff;
use crate::count::Counters;
use crate::id::WorkerId;
use crate::outside::Outside;
use crate::packet::PacketBuf;
use crate::peers::Peers;
use crate::sa::SeqNo;
use crate::table::{Reader, TargetKind};
use crate::verdict::DropReason;
use crate::wire::ah::Ah;
use crate::wire::ethernet::{self, ETHERTYPE_IPV4, EthernetHeader};
use crate::wire::ipv4::Ipv4;
use crate::wire::protocol;

/// Where a packet came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A port: a whole Ethernet frame.
    Wire,
    /// Another worker: from the IP header on. It is never handed over twice.
    Worker,
}

/// Sorted packets.
#[derive(Debug)]
pub struct Sorted<B> {
    /// TVT packets.
    pub tvts: Lane<Received<B>>,
    /// ESP+AH tunnel packets.
    pub tunnels: Lane<Received<B>>,
}

/// Who sorts, and by what.
pub struct Sorter<'a> {
    /// This worker.
    pub me: WorkerId,
    /// Owners of associations.
    pub table: &'a Reader,
    /// Peers.
    pub peers: &'a Peers,
    /// Counters.
    pub counters: &'a Counters,
}

enum Recognised<B> {
    Tvt(Received<B>),
    Tunnel(Received<B>),
    Foreign(WorkerId, B),
}

impl Sorter<'_> {
    /// Sorts a burst.
    pub fn classify<C: Backend, B: PacketBuf>(
        &self,
        source: Source,
        burst: &mut Lane<B>,
        io: &mut impl Outside<C, B>,
    ) -> Sorted<B> {
        let mut sorted = Sorted {
            tvts: Lane::new(),
            tunnels: Lane::new(),
        };
        for buf in burst.drain(..) {
            match strip_ethernet(source, buf).and_then(|buf| self.recognise(buf)) {
                Ok(Recognised::Tvt(packet)) => sorted.tvts.push(packet),
                Ok(Recognised::Tunnel(packet)) => sorted.tunnels.push(packet),
                Ok(Recognised::Foreign(owner, buf)) if source == Source::Wire => {
                    match io.hand_over(owner, Handoff::Packet(buf)) {
                        Ok(()) => self.counters.handed_over(),
                        Err(_) => self.counters.dropped(DropReason::HandoffFull),
                    }
                }
                Ok(Recognised::Foreign(..)) => self.counters.dropped(DropReason::Gone),
                Err(why) => self.counters.dropped(why),
            }
        }
        sorted
    }

    fn recognise<B: PacketBuf>(&self, mut buf: B) -> Result<Recognised<B>, DropReason> {
        let ip = Ipv4::parse(buf.data()).map_err(|_| DropReason::Malformed)?;
        if ip.protocol() != protocol::AH {
            return Err(DropReason::ForTheKernel);
        }
        if ip.is_fragment() {
            return Err(DropReason::OuterFragment);
        }
        let peer = self
            .peers
            .by_remote(IpAddr::V4(ip.source()))
            .ok_or(DropReason::UnknownPeer)?;
        if self.peers.peer(peer).map(|p| p.local) != Some(IpAddr::V4(ip.destination())) {
            return Err(DropReason::UnknownPeer);
        }
        let ah = Ah::parse(ip.payload()).map_err(|_| DropReason::Malformed)?;
        let target = self.table.lookup(peer, ah.spi()).ok_or(DropReason::UnknownSpi)?;
        let (total, ip_len) = (ip.total_len(), ip.header_len());
        let (spi, ah_len, seq_low, next_header) = (ah.spi(), ah.len(), ah.sequence_low(), ah.next_header());
        buf.truncate(total);
        if target.worker != self.me {
            return Ok(Recognised::Foreign(target.worker, buf));
        }
        let packet = Received {
            buf,
            slot: target.slot,
            peer,
            spi,
            ip_len,
            ah_len,
            seq_low,
            seq: SeqNo(0),
        };
        match (target.kind, next_header) {
            (TargetKind::Tvt, protocol::CELL) => Ok(Recognised::Tvt(packet)),
            (TargetKind::Tunnel, protocol::ESP) => Ok(Recognised::Tunnel(packet)),
            _ => Err(DropReason::WrongProtocol),
        }
    }
}

fn strip_ethernet<B: PacketBuf>(source: Source, mut buf: B) -> Result<B, DropReason> {
    if source == Source::Wire {
        let (header, _) = EthernetHeader::parse(buf.data()).map_err(|_| DropReason::Malformed)?;
        if header.ethertype.get() != ETHERTYPE_IPV4 {
            return Err(DropReason::ForTheKernel);
        }
        buf.trim_front(ethernet::HEADER_LEN);
    }
    Ok(buf)
}
