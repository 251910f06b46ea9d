//! AH out: outer headers on, the ICVs of a burst in one batch, then the mutable fields and the Ethernet header (RFC 4302
//! section 3.3.3). The outer header shows nothing of what is inside: DF, TTL 64, DSCP 0, ID 0 (protocol section 2).

use std::net::{IpAddr, Ipv4Addr};

use ain_crypto::{Backend, MacAlgorithm, MacJob};

use super::verify::append_high_half;
use super::{Lane, Outgoing};
use crate::count::Counters;
use crate::key::Keys;
use crate::outside::Outside;
use crate::packet::PacketBuf;
use crate::peers::{Peer, Peers};
use crate::verdict::DropReason;
use crate::wire::ah::{self, Family, Icv, IcvLayout};
use crate::wire::ethernet::{self, ETHERTYPE_IPV4, EthernetHeader};
use crate::wire::ipv4::{self, Ipv4Fields};
use crate::wire::protocol;

/// Signs a lane and sends it out.
pub fn sign<C: Backend, B: PacketBuf>(
    crypto: &mut C,
    keys: &mut Keys<C>,
    peers: &Peers,
    counters: &Counters,
    lane: &mut Lane<Outgoing<B>>,
    io: &mut impl Outside<C, B>,
) {
    let mut ivs: Lane<[u8; 8]> = Lane::new();
    lane.retain(|packet| {
        match prepare(keys, peers, packet) {
            Ok(iv) => ivs.push(iv),
            Err(why) => {
                counters.dropped(why);
                return false;
            }
        }
        true
    });
    let mut jobs: Lane<MacJob<'_, C::MacKey>> = Lane::new();
    for (packet, iv) in lane.iter().zip(&ivs) {
        if let Some(key) = keys.ah(packet.key) {
            jobs.push(MacJob {
                key: &key.key,
                iv: *iv,
                message: packet.buf.data(),
                tag: [0; 16],
            });
        }
    }
    crypto.compute(&mut jobs);
    let icvs: Lane<Icv> = jobs
        .iter()
        .map(|job| Icv {
            iv: job.iv,
            tag: job.tag,
        })
        .collect();
    drop(jobs);
    for (mut packet, icv) in lane.drain(..).zip(icvs) {
        let sent = keys.ah(packet.key).zip(peers.peer(packet.peer)).ok_or(DropReason::Gone);
        match sent.and_then(|(key, peer)| finish(key.algorithm, peer, &mut packet, &icv).map(|()| peer.port)) {
            Ok(port) => io.transmit(port, packet.buf),
            Err(why) => counters.dropped(why),
        }
    }
}

/// Everything that the ICV covers, the mutable fields zero.
fn prepare<C: Backend, B: PacketBuf>(
    keys: &mut Keys<C>,
    peers: &Peers,
    packet: &mut Outgoing<B>,
) -> Result<[u8; 8], DropReason> {
    let peer = peers.peer(packet.peer).ok_or(DropReason::Gone)?;
    if peer.link.is_none() {
        return Err(DropReason::NoNeighbour);
    }
    let layout = IcvLayout::sent(keys.ah(packet.key).ok_or(DropReason::Gone)?.algorithm, Family::V4);
    let outer = ipv4::HEADER_LEN + layout.len();
    if packet.buf.headroom() < outer + ethernet::HEADER_LEN {
        return Err(DropReason::NoBuffer);
    }
    packet.buf.grow_front(outer);
    let rest = write_outer(peer, &mut packet.buf, true)?;
    ah::write_header(rest, layout, packet.next_header, packet.spi, packet.seq as u32)
        .map_err(|_| DropReason::Malformed)?;
    if packet.esn {
        append_high_half(&mut packet.buf, packet.seq)?;
    }
    keys.next_iv(packet.key).ok_or(DropReason::SequenceExhausted)
}

/// What the ICV does not cover, and the ICV itself.
fn finish<B: PacketBuf>(
    algorithm: MacAlgorithm,
    peer: &Peer,
    packet: &mut Outgoing<B>,
    icv: &Icv,
) -> Result<(), DropReason> {
    if packet.esn {
        packet.buf.truncate(packet.buf.data().len() - 4);
    }
    let rest = write_outer(peer, &mut packet.buf, false)?;
    ah::put_icv(rest, IcvLayout::sent(algorithm, Family::V4), icv).map_err(|_| DropReason::Malformed)?;
    let link = peer.link.ok_or(DropReason::NoNeighbour)?;
    packet.buf.grow_front(ethernet::HEADER_LEN);
    EthernetHeader::new(link.destination, link.source, ETHERTYPE_IPV4)
        .write(packet.buf.data_mut())
        .map_err(|_| DropReason::Malformed)
}

/// Writes the outer IPv4 header, its mutable fields zero if `masked`, and returns what lies behind it.
fn write_outer<'b, B: PacketBuf>(peer: &Peer, buf: &'b mut B, masked: bool) -> Result<&'b mut [u8], DropReason> {
    let (source, destination) = addresses(peer)?;
    let total = u16::try_from(buf.data().len()).map_err(|_| DropReason::TooBig)?;
    let (header, rest) = buf.data_mut().split_first_chunk_mut().ok_or(DropReason::Malformed)?;
    ipv4::write_header(header, &Ipv4Fields::outer(source, destination, protocol::AH, total));
    if masked {
        ah::mask_mutable_ipv4(header).map_err(|_| DropReason::Malformed)?;
    }
    Ok(rest)
}

fn addresses(peer: &Peer) -> Result<(Ipv4Addr, Ipv4Addr), DropReason> {
    match (peer.local, peer.remote) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => Ok((local, remote)),
        _ => Err(DropReason::WrongProtocol),
    }
}
