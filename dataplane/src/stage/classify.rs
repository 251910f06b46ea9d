//! Is it mine, from whom, and which association: Ethernet header off, outer fragments and strangers out, the rest sorted into TVT
//! and tunnel packets; packets of associations that other workers own change hands.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ain_crypto::{Backend, prefetch};

use super::internet::Stray;
use super::{Lane, Received};
use crate::command::Handoff;
use crate::count::Counters;
use crate::id::{PeerId, PortId, Spi, WorkerId};
use crate::outside::Outside;
use crate::packet::PacketBuf;
use crate::peers::Peers;
use crate::sa::SeqNo;
use crate::table::{Reader, Target, TargetKind};
use crate::verdict::DropReason;
use crate::wire::ah::{Ah, Family, offset_ipv6};
use crate::wire::ethernet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::{WireError, protocol};

/// Where a packet came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A port: a whole Ethernet frame.
    Wire(PortId),
    /// Another worker: from the IP header on. It is never handed over twice.
    Worker,
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
    /// Whether somebody wants what is not IPsec.
    pub keeps_strays: bool,
}

/// Outer source and destination of the packet before, and whose they are: most of a burst comes from few peers.
type Seen<A> = Option<((A, A), PeerId)>;

/// Of each family.
#[derive(Default)]
struct LastSeen {
    v4: Seen<Ipv4Addr>,
    v6: Seen<Ipv6Addr>,
}

/// Bytes at the front of a frame that are read before its ICV is computed: Ethernet, IP, and AH in its usual lengths.
const HEADERS: usize = 128;

impl Sorter<'_> {
    /// Sorts a burst: TVT packets of this worker into `tvts`, its ESP+AH tunnel packets into `tunnels`, what is not IPsec and wanted all
    /// the same into `strays`; all empty before.
    ///
    /// Headers are read into `tvts`, where most packets stay; only a burst that has others is gone through again.
    pub fn classify<C: Backend, B: PacketBuf>(
        &self,
        source: Source,
        burst: &mut Lane<B>,
        tvts: &mut Lane<Received<B>>,
        tunnels: &mut Lane<Received<B>>,
        strays: &mut Lane<Stray<B>>,
        io: &mut impl Outside<C, B>,
    ) {
        self.read(source, burst, tvts, strays);
        let keys: Lane<_> = tvts.iter().map(|packet| (packet.peer, packet.spi)).collect();
        let mut targets = Lane::new();
        self.table.lookup_burst(&keys, &mut targets);
        let mut others = false;
        for (packet, target) in tvts.iter_mut().zip(&targets) {
            match target {
                Some(target) if self.takes(target, packet) == Some(TargetKind::Tvt) => packet.slot = target.slot,
                _ => others = true,
            }
        }
        if others {
            self.sort_out(source, tvts, tunnels, targets, io);
        }
    }

    /// Reads the headers of a burst, all of which are asked for before the first is read. The payloads come packet by packet, while
    /// the ICV of one before is computed ([`ain_crypto::Mac`]): asked for all at once they would only queue up here.
    fn read<B: PacketBuf>(
        &self,
        source: Source,
        burst: &mut Lane<B>,
        into: &mut Lane<Received<B>>,
        strays: &mut Lane<Stray<B>>,
    ) {
        for buf in burst.iter() {
            let data = buf.data();
            prefetch(&data[..data.len().min(HEADERS)]);
            prefetch(&data[data.len().saturating_sub(1)..]); // where the high half of the sequence number goes
        }
        let mut last = LastSeen::default();
        for mut buf in burst.drain(..) {
            let read = ip_packet(source, buf.data()).and_then(|(at, family)| {
                let headers = match family {
                    Family::V4 => self.ipv4(&buf.data()[at..], &mut last.v4),
                    Family::V6 => self.ipv6(&buf.data()[at..], &mut last.v6),
                };
                headers.map(|headers| (at, headers))
            });
            match (read, source) {
                (Ok((at, headers)), _) => {
                    buf.trim_front(at);
                    buf.truncate(headers.total_len);
                    into.push(Received {
                        buf,
                        seq: SeqNo(0),
                        slot: 0,
                        spi: headers.spi,
                        seq_low: headers.seq_low,
                        peer: headers.peer,
                        ah_len: headers.ah_len,
                        ip_len: headers.ip_len,
                        family: headers.family,
                        next_header: headers.next_header,
                        esn: false,
                    });
                }
                (Err(DropReason::ForTheKernel), Source::Wire(port)) if self.keeps_strays => {
                    strays.push(Stray::Frame(port, buf));
                }
                (Err(why), _) => self.counters.dropped(why),
            }
        }
    }

    fn ipv4(&self, data: &[u8], last: &mut Seen<Ipv4Addr>) -> Result<Headers, DropReason> {
        let ip = Ipv4::parse(data)?;
        if ip.protocol() != protocol::AH {
            return Err(DropReason::ForTheKernel);
        }
        if ip.is_fragment() {
            return Err(DropReason::OuterFragment);
        }
        let peer = self.between((ip.source(), ip.destination()), last)?;
        Headers::read(Family::V4, peer, &data[..ip.total_len()], ip.header_len())
    }

    fn ipv6(&self, data: &[u8], last: &mut Seen<Ipv6Addr>) -> Result<Headers, DropReason> {
        let ip = Ipv6::parse(data)?;
        let ip_len = offset_ipv6(&ip)?;
        let peer = self.between((ip.source(), ip.destination()), last)?;
        Headers::read(Family::V6, peer, &data[..ip.total_len()], ip_len)
    }

    /// The peer whose tunnels run between two outer addresses, the remote one first.
    fn between<A: Copy + Eq + Into<IpAddr>>(&self, outside: (A, A), last: &mut Seen<A>) -> Result<PeerId, DropReason> {
        match *last {
            Some((seen, peer)) if seen == outside => Ok(peer),
            _ => {
                let (remote, local) = (outside.0.into(), outside.1.into());
                let peer = self.peers.by_remote(remote).ok_or(DropReason::UnknownPeer)?;
                if self.peers.peer(peer).is_none_or(|peer| peer.local != local) {
                    return Err(DropReason::UnknownPeer);
                }
                *last = Some((outside, peer));
                Ok(peer)
            }
        }
    }

    /// What a packet is to this worker, if it owns the association and the packet carries what such an association carries.
    fn takes<B>(&self, target: &Target, packet: &Received<B>) -> Option<TargetKind> {
        let fits = match (target.kind, packet.next_header) {
            (TargetKind::Tvt, carries) => carries == protocol::CELL,
            (TargetKind::Tunnel, carries) => carries == protocol::ESP,
            (TargetKind::Carrier, carries) => carries == protocol::ESP || carries == protocol::CELL,
            (TargetKind::Carried, _) => false,
        };
        (target.worker == self.me && fits).then_some(target.kind)
    }

    /// Leaves in `tvts` what belongs there and brings everything else to its place.
    fn sort_out<C: Backend, B: PacketBuf>(
        &self,
        source: Source,
        tvts: &mut Lane<Received<B>>,
        tunnels: &mut Lane<Received<B>>,
        targets: Lane<Option<Target>>,
        io: &mut impl Outside<C, B>,
    ) {
        for (mut packet, target) in std::mem::take(tvts).into_iter().zip(targets) {
            let Some(target) = target else {
                self.counters.dropped(DropReason::UnknownSpi);
                continue;
            };
            packet.slot = target.slot;
            match self.takes(&target, &packet) {
                Some(TargetKind::Tvt) => tvts.push(packet),
                Some(TargetKind::Tunnel | TargetKind::Carrier) => tunnels.push(packet),
                Some(TargetKind::Carried) => self.counters.dropped(DropReason::WrongProtocol),
                None if target.worker == self.me => self.counters.dropped(DropReason::WrongProtocol),
                None => self.hand_over(source, target.worker, packet.buf, io),
            }
        }
    }

    fn hand_over<C: Backend, B: PacketBuf>(&self, source: Source, to: WorkerId, buf: B, io: &mut impl Outside<C, B>) {
        if source == Source::Worker {
            return self.counters.dropped(DropReason::Gone);
        }
        match io.hand_over(to, Handoff::Packet(buf)) {
            Ok(()) => self.counters.handed_over(),
            Err(_) => self.counters.dropped(DropReason::HandoffFull),
        }
    }
}

/// What is read off a packet.
struct Headers {
    total_len: usize,
    spi: Spi,
    seq_low: u32,
    peer: PeerId,
    ah_len: u16,
    ip_len: u16,
    family: Family,
    next_header: u8,
}

impl Headers {
    /// Of a whole packet whose AH stands behind `ip_len` bytes.
    fn read(family: Family, peer: PeerId, packet: &[u8], ip_len: usize) -> Result<Self, DropReason> {
        let ah = Ah::parse(&packet[ip_len..])?;
        Ok(Self {
            total_len: packet.len(),
            spi: ah.spi(),
            seq_low: ah.sequence_low(),
            peer,
            ah_len: ah.len() as u16,
            ip_len: ip_len as u16,
            family,
            next_header: ah.next_header(),
        })
    }
}

impl From<WireError> for DropReason {
    /// Of what is read off a packet before its ICV is looked at.
    fn from(error: WireError) -> Self {
        match error {
            WireError::NextHeader(_) => Self::ForTheKernel,
            WireError::Fragment => Self::OuterFragment,
            WireError::Extension(_) => Self::OuterExtension,
            _ => Self::Malformed,
        }
    }
}

/// Where the IP header of what came in begins, and its family: what was announced, and parsing will tell if that is not so.
fn ip_packet(source: Source, data: &[u8]) -> Result<(usize, Family), DropReason> {
    if source == Source::Worker {
        let is_v6 = data.first().is_some_and(|first| first >> 4 == 6);
        return Ok((0, if is_v6 { Family::V6 } else { Family::V4 }));
    }
    let (header, _) = EthernetHeader::parse(data)?;
    let family = match header.ethertype.get() {
        ETHERTYPE_IPV4 => Family::V4,
        ETHERTYPE_IPV6 => Family::V6,
        _ => return Err(DropReason::ForTheKernel),
    };
    Ok((ethernet::HEADER_LEN, family))
}
