//! ESP under the AH of PVTs and host tunnels: open what came in, seal what goes out, a burst in one batch (RFC 4303, RFC 4106).

use ain_crypto::{AeadJob, Backend};
use zerocopy::IntoBytes;

use super::{Lane, Outgoing, Received};
use crate::count::Counters;
use crate::id::{PeerId, Spi};
use crate::packet::PacketBuf;
use crate::sa::SeqNo;
use crate::slab::Slab;
use crate::tunnel::Tunnel;
use crate::verdict::DropReason;
use crate::wire::esp::{self, Aad, Esp, EspHeader, HEADER_LEN, ICV_LEN, IV_LEN, Inner};
use crate::wire::protocol;

/// What is read off an ESP packet before its text is decrypted in place.
struct Kept {
    spi: Spi,
    aad: Aad,
    iv: [u8; IV_LEN],
    tag: [u8; ICV_LEN],
    seq: SeqNo,
}

/// Opens authentic AH payloads into the datagrams inside, with their peer.
pub fn open<C: Backend, B: PacketBuf>(
    crypto: &mut C,
    tunnels: &mut Slab<Tunnel<C>>,
    counters: &Counters,
    lane: &mut Lane<Received<B>>,
) -> Lane<(PeerId, B)> {
    let mut kept: Lane<Kept> = Lane::new();
    lane.retain(|packet| {
        match tunnels
            .entry(packet.slot)
            .ok_or(DropReason::Gone)
            .and_then(|tunnel| read(tunnel, packet.buf.data()))
        {
            Ok(k) => kept.push(k),
            Err(why) => {
                counters.dropped(why);
                return false;
            }
        }
        true
    });
    let mut jobs: Lane<AeadJob<'_, C::AeadKey>> = Lane::new();
    for (packet, kept) in lane.iter_mut().zip(&kept) {
        let sa = tunnels.entry(packet.slot).and_then(|tunnel| tunnel.esp_in(kept.spi));
        if let Some(sa) = sa {
            jobs.push(AeadJob {
                key: &sa.key,
                iv: kept.iv,
                aad: kept.aad.as_bytes(),
                text: text_of(&mut packet.buf),
                tag: kept.tag,
                authentic: false,
            });
        }
    }
    crypto.open(&mut jobs);
    let authentic: Lane<bool> = jobs.iter().map(|job| job.authentic).collect();
    drop(jobs);
    let mut datagrams = Lane::new();
    for ((packet, kept), authentic) in lane.drain(..).zip(&kept).zip(authentic) {
        match finish_open(tunnels, &packet, kept, authentic) {
            Ok(Some(len)) => {
                let mut buf = packet.buf;
                buf.trim_front(HEADER_LEN + IV_LEN);
                buf.truncate(len);
                datagrams.push((packet.peer, buf));
            }
            Ok(None) => {}
            Err(why) => counters.dropped(why),
        }
    }
    datagrams
}

fn read<C: Backend>(tunnel: &Tunnel<C>, packet: &[u8]) -> Result<Kept, DropReason> {
    let esp = Esp::parse(packet).map_err(|_| DropReason::Malformed)?;
    let sa = tunnel.esp_in(esp.spi()).ok_or(DropReason::UnknownSpi)?;
    let seq = sa.look(esp.sequence_low()).map_err(|_| DropReason::EspReplay)?;
    Ok(Kept {
        spi: sa.spi,
        aad: Aad::new(sa.spi, seq.0, sa.esn),
        iv: *esp.iv(),
        tag: *esp.icv(),
        seq,
    })
}

fn text_of<B: PacketBuf>(buf: &mut B) -> &mut [u8] {
    let end = buf.data().len() - ICV_LEN;
    &mut buf.data_mut()[HEADER_LEN + IV_LEN..end]
}

/// Marks the sequence number and gives the length of the inner datagram, none for a dummy.
fn finish_open<C: Backend, B: PacketBuf>(
    tunnels: &mut Slab<Tunnel<C>>,
    packet: &Received<B>,
    kept: &Kept,
    authentic: bool,
) -> Result<Option<usize>, DropReason> {
    if !authentic {
        return Err(DropReason::EspIcv);
    }
    let tunnel = tunnels.entry_mut(packet.slot).ok_or(DropReason::Gone)?;
    let sa = tunnel.esp_in_mut(kept.spi).ok_or(DropReason::Gone)?;
    let data = packet.buf.data();
    let text = &data[HEADER_LEN + IV_LEN..data.len() - ICV_LEN];
    if !sa.accept(kept.seq, text.len()) {
        return Err(DropReason::EspReplay);
    }
    match Inner::parse(text) {
        Ok(Inner::Ipv4(datagram) | Inner::Ipv6(datagram)) => Ok(Some(datagram.len())),
        Ok(Inner::Dummy) => Ok(None),
        Err(_) => Err(DropReason::InnerMalformed),
    }
}

/// What sealing draws from the tunnel's associations.
struct Drawn {
    aad: Aad,
    iv: [u8; IV_LEN],
    ah_seq: u64,
}

/// Seals datagrams into the tunnels in the named slots; what comes out wants signing.
pub fn seal<C: Backend, B: PacketBuf>(
    crypto: &mut C,
    tunnels: &mut Slab<Tunnel<C>>,
    counters: &Counters,
    lane: &mut Lane<(u32, B)>,
) -> Lane<Outgoing<B>> {
    let mut drawn: Lane<Drawn> = Lane::new();
    lane.retain(|(slot, buf)| {
        match tunnels
            .entry_mut(*slot)
            .ok_or(DropReason::Gone)
            .and_then(|tunnel| prepare(tunnel, buf))
        {
            Ok(d) => drawn.push(d),
            Err(why) => {
                counters.dropped(why);
                return false;
            }
        }
        true
    });
    let mut jobs: Lane<AeadJob<'_, C::AeadKey>> = Lane::new();
    for ((slot, buf), drawn) in lane.iter_mut().zip(&drawn) {
        if let Some(sa) = tunnels.entry(*slot).and_then(|tunnel| tunnel.esp_out.newest()) {
            jobs.push(AeadJob {
                key: &sa.key.key,
                iv: drawn.iv,
                aad: drawn.aad.as_bytes(),
                text: text_of(buf),
                tag: [0; ICV_LEN],
                authentic: false,
            });
        }
    }
    crypto.seal(&mut jobs);
    let tags: Lane<[u8; ICV_LEN]> = jobs.iter().map(|job| job.tag).collect();
    drop(jobs);
    let mut outgoing = Lane::new();
    for (((slot, mut buf), drawn), tag) in lane.drain(..).zip(&drawn).zip(tags) {
        let at = buf.data().len() - ICV_LEN;
        buf.data_mut()[at..].copy_from_slice(&tag);
        let sa = tunnels
            .entry(slot)
            .and_then(|tunnel| Some((tunnel.peer, tunnel.ah_out.newest()?)));
        if let Some((peer, ah)) = sa {
            outgoing.push(Outgoing {
                buf,
                peer,
                spi: ah.spi,
                key: ah.key.slot,
                seq: drawn.ah_seq,
                esn: ah.esn,
                next_header: protocol::ESP,
            });
        }
    }
    outgoing
}

/// Header, IV, padding and trailer round the datagram; an empty one becomes a dummy (RFC 4303 section 2.6).
fn prepare<C: Backend, B: PacketBuf>(tunnel: &mut Tunnel<C>, buf: &mut B) -> Result<Drawn, DropReason> {
    let next_header = match buf.data().first().map(|first| first >> 4) {
        Some(4) => protocol::IPV4,
        Some(6) => protocol::IPV6,
        Some(_) => return Err(DropReason::InnerMalformed),
        None => protocol::NONE,
    };
    let inner_len = buf.data().len();
    let body_len = inner_len.max(usize::from(tunnel.padded_len));
    let text_len = body_len + esp::trailer_len(body_len);
    let added = text_len - inner_len + ICV_LEN;
    if buf.headroom() < HEADER_LEN + IV_LEN || buf.tailroom() < added {
        return Err(DropReason::NoBuffer);
    }
    let (Some(sa), Some(ah)) = (tunnel.esp_out.newest_mut(), tunnel.ah_out.newest_mut()) else {
        return Err(DropReason::NoAssociation);
    };
    let seq = sa.take(text_len)?;
    let ah_seq = ah.take(HEADER_LEN + IV_LEN + text_len + ICV_LEN)?;
    let iv = (seq ^ sa.key.iv_mask).to_be_bytes();
    buf.grow_back(added);
    let text = &mut buf.data_mut()[..text_len];
    text[inner_len..body_len].fill(0);
    esp::write_trailer(&mut text[body_len..], next_header).map_err(|_| DropReason::Malformed)?;
    buf.grow_front(HEADER_LEN + IV_LEN);
    let front = &mut buf.data_mut()[..HEADER_LEN + IV_LEN];
    front[..HEADER_LEN].copy_from_slice(EspHeader::new(sa.spi, seq as u32).as_bytes());
    front[HEADER_LEN..].copy_from_slice(&iv);
    Ok(Drawn {
        aad: Aad::new(sa.spi, seq, sa.esn),
        iv,
        ah_seq,
    })
}
