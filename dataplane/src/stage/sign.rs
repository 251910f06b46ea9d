//! AH out: outer headers on, the ICVs of a burst in one batch, then the mutable fields (RFC 4302 section 3.3.3). The outer header
//! shows nothing of what is inside: [`Outer`].

use ain_crypto::{Backend, MacJob, TAG_BYTES};

use super::verify::{HIGH_HALF, append_high_half};
use super::{Lane, Outgoing};
use crate::count::Counters;
use crate::entry::AhKey;
use crate::id::PortId;
use crate::key::Keys;
use crate::outside::Outside;
use crate::packet::PacketBuf;
use crate::peers::Peers;
use crate::verdict::DropReason;
use crate::wire::ah::{self, Icv, IcvLayout};
use crate::wire::ethernet;
use crate::wire::outer::Outer;

/// What is settled about a packet before its ICV is computed.
struct Kept<'a> {
    outer: &'a Outer,
    /// Explicit IV. A number and not bytes: a struct of bytes lies at odd addresses, and moving it just after it was written stalls.
    iv: u64,
    layout: IcvLayout,
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
    signed(crypto, keys, peers, counters, lane, |port, frame| {
        io.transmit(port, frame)
    });
}

/// Signs a lane; `send` gets whole frames and the ports they go to.
pub(super) fn signed<C: Backend, B: PacketBuf>(
    crypto: &mut C,
    keys: &mut Keys<C>,
    peers: &Peers,
    counters: &Counters,
    lane: &mut Lane<Outgoing<B>>,
    mut send: impl FnMut(PortId, B),
) {
    let mut jobs: Lane<MacJob<'_, C::MacKey>> = Lane::new();
    let mut prepared: Lane<Result<Kept<'_>, DropReason>> = Lane::new();
    for packet in lane.iter_mut() {
        prepared.push(prepare(keys, peers, packet).map(|(key, kept)| {
            jobs.push(MacJob {
                key: &key.key,
                iv: kept.iv.to_be_bytes(),
                message: &packet.buf.data()[ethernet::HEADER_LEN..],
                tag: [0; TAG_BYTES],
            });
            kept
        }));
    }
    crypto.compute(&mut jobs);
    let tags: Lane<[u8; TAG_BYTES]> = jobs.iter().map(|job| job.tag).collect();
    drop(jobs);
    let mut tags = tags.into_iter();
    for (mut packet, kept) in lane.drain(..).zip(&prepared) {
        let sent = match kept {
            Ok(kept) => finish(&mut packet, kept, tags.next().unwrap_or_default()),
            Err(why) => Err(*why),
        };
        match sent {
            Ok(port) => send(port, packet.buf),
            Err(why) => counters.dropped(why),
        }
    }
}

/// Everything that the ICV covers, the mutable fields zero; the Ethernet header, which it does not cover, before it.
fn prepare<'a, C: Backend, B: PacketBuf>(
    keys: &'a Keys<C>,
    peers: &'a Peers,
    packet: &mut Outgoing<B>,
) -> Result<(&'a AhKey<C>, Kept<'a>), DropReason> {
    let outer = peers.outer(packet.peer)?;
    let (key, iv) = keys.for_sending(packet.key)?;
    let layout = IcvLayout::sent(key.algorithm, outer.family());
    let front = outer.len() + layout.len();
    if packet.buf.headroom() < front {
        return Err(DropReason::NoBuffer);
    }
    packet.buf.grow_front(front);
    let data = packet.buf.data_mut();
    let rest = outer.write_masked(data).map_err(|_| DropReason::TooBig)?;
    ah::write_header(rest, layout, packet.next_header, packet.spi, packet.seq as u32)?;
    if packet.esn {
        append_high_half(&mut packet.buf, packet.seq)?;
    }
    Ok((key, Kept { outer, iv, layout }))
}

/// What the ICV does not cover, and the ICV itself; the port that sends it.
fn finish<B: PacketBuf>(packet: &mut Outgoing<B>, kept: &Kept<'_>, tag: [u8; TAG_BYTES]) -> Result<PortId, DropReason> {
    if packet.esn {
        packet.buf.truncate(packet.buf.data().len() - HIGH_HALF);
    }
    let rest = kept.outer.unmask(packet.buf.data_mut())?;
    let icv = Icv {
        iv: kept.iv.to_be_bytes(),
        tag,
    };
    ah::put_icv(rest, kept.layout, &icv)?;
    Ok(kept.outer.port())
}
