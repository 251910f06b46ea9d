//! AH out: outer headers on, the ICVs of a burst in one batch, then the mutable fields (RFC 4302 section 3.3.3). The outer header
//! shows nothing of what is inside: [`Outer`].

use ain_crypto::{Backend, MacAlgorithm, MacJob};

use super::verify::append_high_half;
use super::{Lane, Outgoing};
use crate::count::Counters;
use crate::id::PortId;
use crate::key::Keys;
use crate::outside::Outside;
use crate::packet::PacketBuf;
use crate::peers::Peers;
use crate::verdict::DropReason;
use crate::wire::ah::{self, Family, Icv, IcvLayout};
use crate::wire::ethernet;
use crate::wire::outer::{OUTER_LEN, Outer};

/// What is settled about a packet before its ICV is computed.
struct Kept<'a> {
    outer: &'a Outer,
    layout: IcvLayout,
    iv: [u8; 8],
    port: PortId,
}

/// Signs a lane and sends it out.
pub fn sign<C: Backend, B: PacketBuf>(
    crypto: &mut C,
    keys: &mut Keys<C>,
    peers: &Peers,
    counters: &Counters,
    lane: &mut Lane<Outgoing<B>>,
    io: &mut impl Outside<C, B>,
) {
    let mut kept: Lane<Kept<'_>> = Lane::new();
    lane.retain(|packet| {
        match prepare(keys, peers, packet) {
            Ok(k) => kept.push(k),
            Err(why) => {
                counters.dropped(why);
                return false;
            }
        }
        true
    });
    let mut jobs: Lane<MacJob<'_, C::MacKey>> = Lane::new();
    for (packet, kept) in lane.iter().zip(&kept) {
        if let Some(key) = keys.ah(packet.key) {
            jobs.push(MacJob {
                key: &key.key,
                iv: kept.iv,
                message: &packet.buf.data()[ethernet::HEADER_LEN..],
                tag: [0; 16],
            });
        }
    }
    crypto.compute(&mut jobs);
    let tags: Lane<[u8; 16]> = jobs.iter().map(|job| job.tag).collect();
    drop(jobs);
    for ((mut packet, kept), tag) in lane.drain(..).zip(&kept).zip(tags) {
        match finish(&mut packet, kept, tag) {
            Ok(()) => io.transmit(kept.port, packet.buf),
            Err(why) => counters.dropped(why),
        }
    }
}

/// Everything that the ICV covers, the mutable fields zero; the Ethernet header, which it does not cover, before it.
fn prepare<'a, C: Backend, B: PacketBuf>(
    keys: &mut Keys<C>,
    peers: &'a Peers,
    packet: &mut Outgoing<B>,
) -> Result<Kept<'a>, DropReason> {
    let outer = peers.outer(packet.peer)?;
    let layout = IcvLayout::sent(algorithm(keys, packet)?, Family::V4);
    let front = OUTER_LEN + layout.len();
    if packet.buf.headroom() < front {
        return Err(DropReason::NoBuffer);
    }
    packet.buf.grow_front(front);
    let data = packet.buf.data_mut();
    let total_len = u16::try_from(data.len() - ethernet::HEADER_LEN).map_err(|_| DropReason::TooBig)?;
    let (headers, rest) = data.split_first_chunk_mut().ok_or(DropReason::Malformed)?;
    outer.write_masked(headers, total_len);
    ah::write_header(rest, layout, packet.next_header, packet.spi, packet.seq as u32)
        .map_err(|_| DropReason::Malformed)?;
    if packet.esn {
        append_high_half(&mut packet.buf, packet.seq)?;
    }
    Ok(Kept {
        outer,
        layout,
        iv: keys.next_iv(packet.key).ok_or(DropReason::SequenceExhausted)?,
        port: peers.peer(packet.peer).ok_or(DropReason::Gone)?.port,
    })
}

fn algorithm<C: Backend, B>(keys: &Keys<C>, packet: &Outgoing<B>) -> Result<MacAlgorithm, DropReason> {
    keys.ah(packet.key).map(|key| key.algorithm).ok_or(DropReason::Gone)
}

/// What the ICV does not cover, and the ICV itself.
fn finish<B: PacketBuf>(packet: &mut Outgoing<B>, kept: &Kept<'_>, tag: [u8; 16]) -> Result<(), DropReason> {
    if packet.esn {
        packet.buf.truncate(packet.buf.data().len() - 4);
    }
    let (headers, rest) = packet
        .buf
        .data_mut()
        .split_first_chunk_mut()
        .ok_or(DropReason::Malformed)?;
    kept.outer.unmask(headers);
    ah::put_icv(rest, kept.layout, &Icv { iv: kept.iv, tag }).map_err(|_| DropReason::Malformed)
}
