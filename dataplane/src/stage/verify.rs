//! AH in: replay check, the ICVs of a burst in one batch, replay mark (RFC 4302 section 3.4). Mutable fields and the ICV field are
//! zeroed in place and the high half of an extended sequence number is put behind the packet, so that the covered bytes are
//! contiguous; none of it is needed afterwards.

use ain_crypto::{Backend, MacJob, TAG_BYTES};
use subtle::ConstantTimeEq;

use super::replay::AhInbound;
use super::{Lane, Received};
use crate::count::Counters;
use crate::entry::AhKey;
use crate::key::Keys;
use crate::packet::PacketBuf;
use crate::slab::Slab;
use crate::verdict::DropReason;
use crate::wire::ah::{self, Family, Icv, IcvLayout};

/// Drops what is replayed or not authentic and strips the outer headers off the rest.
pub fn verify<C: Backend, S: AhInbound, B: PacketBuf>(
    crypto: &mut C,
    keys: &Keys<C>,
    slab: &mut Slab<S>,
    counters: &Counters,
    lane: &mut Lane<Received<B>>,
) {
    let mut jobs: Lane<MacJob<'_, C::MacKey>> = Lane::new();
    let mut received: Lane<Result<[u8; TAG_BYTES], DropReason>> = Lane::new();
    for packet in lane.iter_mut() {
        received.push(prepare(keys, slab, packet).map(|(key, icv)| {
            jobs.push(MacJob {
                key: &key.key,
                iv: icv.iv,
                message: packet.buf.data(),
                tag: [0; TAG_BYTES],
            });
            icv.tag
        }));
    }
    crypto.compute(&mut jobs);
    let mut computed = jobs.iter();
    let verdicts: Lane<Result<(), DropReason>> = received
        .iter()
        .map(|received| match (received, computed.by_ref()) {
            (Ok(tag), computed) => computed
                .next()
                .filter(|job| equal(job.tag, *tag))
                .map(|_| ())
                .ok_or(DropReason::AhIcv),
            (Err(why), _) => Err(*why),
        })
        .collect();
    drop(jobs);
    let mut verdicts = verdicts.into_iter();
    lane.retain(|packet| {
        let verdict = verdicts.next().unwrap_or(Err(DropReason::Gone));
        verdict
            .and_then(|()| finish(slab, packet))
            .inspect_err(|why| counters.dropped(*why))
            .is_ok()
    });
}

/// Constant-time, in two words: byte by byte it would cost as much as the rest of this stage.
fn equal(computed: [u8; TAG_BYTES], received: [u8; TAG_BYTES]) -> bool {
    u128::from_ne_bytes(computed)
        .ct_eq(&u128::from_ne_bytes(received))
        .into()
}

/// Looks at the window and makes the packet what its ICV covers.
fn prepare<'k, C: Backend, S: AhInbound, B: PacketBuf>(
    keys: &'k Keys<C>,
    slab: &Slab<S>,
    packet: &mut Received<B>,
) -> Result<(&'k AhKey<C>, Icv), DropReason> {
    let entry = slab.entry(packet.slot).ok_or(DropReason::Gone)?;
    let sa = entry.look((packet.peer, packet.spi), packet.seq_low)?;
    (packet.seq, packet.esn) = (sa.seq, sa.esn);
    let key = keys.ah(sa.key).ok_or(DropReason::Gone)?;
    let layout = IcvLayout::received(key.algorithm, packet.family, packet.ah_len())?;
    let ip_len = packet.ip_len();
    let (header, rest) = packet.buf.data_mut().split_at_mut(ip_len);
    match packet.family {
        Family::V4 => ah::mask_mutable_ipv4(header)?,
        Family::V6 => ah::mask_mutable_ipv6(header)?,
    }
    let icv = ah::take_icv(rest, layout)?;
    if packet.esn {
        append_high_half(&mut packet.buf, packet.seq.0)?;
    }
    Ok((key, icv))
}

/// Puts the high half of an extended sequence number behind the packet, where the ICV covers it (RFC 4302 section 2.5.1).
pub(super) fn append_high_half<B: PacketBuf>(buf: &mut B, seq: u64) -> Result<(), DropReason> {
    if buf.tailroom() < HIGH_HALF {
        return Err(DropReason::NoBuffer);
    }
    buf.grow_back(HIGH_HALF);
    let end = buf.data_mut().last_chunk_mut().ok_or(DropReason::NoBuffer)?;
    *end = ((seq >> 32) as u32).to_be_bytes();
    Ok(())
}

/// Bytes of it.
pub(super) const HIGH_HALF: usize = 4;

/// Strips the outer headers off an authentic packet and marks its number.
fn finish<S: AhInbound, B: PacketBuf>(slab: &mut Slab<S>, packet: &mut Received<B>) -> Result<(), DropReason> {
    if packet.esn {
        packet.buf.truncate(packet.buf.data().len() - HIGH_HALF);
    }
    packet.buf.trim_front(packet.ip_len() + packet.ah_len());
    let entry = slab.entry_mut(packet.slot).ok_or(DropReason::Gone)?;
    if entry.mark(packet.spi, packet.seq, packet.buf.data().len()) {
        Ok(())
    } else {
        Err(DropReason::AhReplay)
    }
}
