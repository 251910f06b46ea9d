//! AH in: the ICVs of a burst in one batch (RFC 4302 section 3.4.4). Mutable fields and the ICV field are zeroed in place and the
//! high half of an extended sequence number is put behind the packet, so that the covered bytes are contiguous; none of it is
//! needed afterwards.

use ain_crypto::{Backend, MacJob, TAG_BYTES};
use subtle::ConstantTimeEq;

use super::replay::AhInbound;
use super::{Lane, Received};
use crate::count::Counters;
use crate::id::KeySlot;
use crate::key::Keys;
use crate::packet::PacketBuf;
use crate::slab::Slab;
use crate::verdict::DropReason;
use crate::wire::ah::{self, Family, Icv, IcvLayout};

/// What is kept of a packet between preparing and comparing.
struct Kept {
    key: KeySlot,
    icv: Icv,
    esn: bool,
}

/// Drops what is not authentic and strips the outer headers off the rest.
pub fn verify<C: Backend, S: AhInbound, B: PacketBuf>(
    crypto: &mut C,
    keys: &Keys<C>,
    slab: &Slab<S>,
    counters: &Counters,
    lane: &mut Lane<Received<B>>,
) {
    let mut kept: Lane<Kept> = Lane::new();
    lane.retain(|packet| {
        let prepared = prepare(keys, slab, packet);
        match prepared {
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
        if let Some(key) = keys.ah(kept.key) {
            jobs.push(MacJob {
                key: &key.key,
                iv: kept.icv.iv,
                message: packet.buf.data(),
                tag: [0; 16],
            });
        }
    }
    crypto.compute(&mut jobs);
    let good: Lane<bool> = jobs
        .iter()
        .zip(&kept)
        .map(|(job, kept)| equal(job.tag, kept.icv.tag))
        .collect();
    drop(jobs);
    let mut verdicts = good.into_iter().zip(kept);
    lane.retain(|packet| match verdicts.next() {
        Some((true, kept)) => {
            strip(packet, kept.esn);
            true
        }
        _ => {
            counters.dropped(DropReason::AhIcv);
            false
        }
    });
}

/// Constant-time, in two words: byte by byte it would cost as much as the rest of this stage.
fn equal(computed: [u8; TAG_BYTES], received: [u8; TAG_BYTES]) -> bool {
    u128::from_ne_bytes(computed)
        .ct_eq(&u128::from_ne_bytes(received))
        .into()
}

fn prepare<C: Backend, S: AhInbound, B: PacketBuf>(
    keys: &Keys<C>,
    slab: &Slab<S>,
    packet: &mut Received<B>,
) -> Result<Kept, DropReason> {
    let sa = slab.entry(packet.slot).ok_or(DropReason::Gone)?;
    let algorithm = keys.ah(sa.key()).ok_or(DropReason::Gone)?.algorithm;
    let layout = IcvLayout::received(algorithm, Family::V4, packet.ah_len()).map_err(|_| DropReason::Malformed)?;
    let ip_len = packet.ip_len();
    let (header, rest) = packet.buf.data_mut().split_at_mut(ip_len);
    ah::mask_mutable_ipv4(header).map_err(|_| DropReason::Malformed)?;
    let icv = ah::take_icv(rest, layout).map_err(|_| DropReason::Malformed)?;
    if sa.esn() {
        append_high_half(&mut packet.buf, packet.seq.0)?;
    }
    Ok(Kept {
        key: sa.key(),
        icv,
        esn: sa.esn(),
    })
}

/// Puts the high half of an extended sequence number behind the packet, where the ICV covers it (RFC 4302 section 2.5.1).
pub(super) fn append_high_half<B: PacketBuf>(buf: &mut B, seq: u64) -> Result<(), DropReason> {
    if buf.tailroom() < 4 {
        return Err(DropReason::NoBuffer);
    }
    let end = buf.data().len();
    buf.grow_back(4);
    buf.data_mut()[end..].copy_from_slice(&((seq >> 32) as u32).to_be_bytes());
    Ok(())
}

fn strip<B: PacketBuf>(packet: &mut Received<B>, esn: bool) {
    let trailer = if esn { 4 } else { 0 };
    packet.buf.truncate(packet.buf.data().len() - trailer);
    packet.buf.trim_front(packet.ip_len() + packet.ah_len());
}
