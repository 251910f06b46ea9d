//! Packets by hand: what a neighbour or a stranger may put on the wire, written without the packet path's stages.

use ain_controlplane::action::HopKeys;
use ain_crypto::{Direction, Layer, LayerJob, LayerOp, Mac, MacAlgorithm, MacJob};
use ain_dataplane::packet::PacketBuf;

use super::{Buf, Suite, address_of, key, mac_of};
use crate::crypto::{Crypto, crypto};

/// An AH packet from one machine to another.
#[derive(Clone)]
pub struct Forged<'a> {
    pub from: u8,
    pub to: u8,
    pub suite: Suite,
    /// Seed of the association's keys.
    pub seed: u8,
    pub spi: u32,
    pub seq: u64,
    pub esn: bool,
    pub next_header: u8,
    pub payload: &'a [u8],
}

impl Forged<'_> {
    /// The frame, its ICV right under the key of `seed`.
    pub fn frame(&self) -> Vec<u8> {
        let (iv, icv_len): (&[u8], usize) = match self.suite.ah {
            MacAlgorithm::Aes128Gmac => (&[0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7], 24),
            MacAlgorithm::HmacSha256_128 => (&[], 16),
            MacAlgorithm::AesCmac96 => (&[], 12),
        };
        let mut packet = vec![0x45, 0];
        packet.extend(((20 + 12 + icv_len + self.payload.len()) as u16).to_be_bytes());
        packet.extend([0, 0, 0, 0, 0, 51, 0, 0]);
        packet.extend(address_of(self.from).octets());
        packet.extend(address_of(self.to).octets());
        packet.extend([self.next_header, ((12 + icv_len) / 4 - 2) as u8, 0, 0]);
        packet.extend(self.spi.to_be_bytes());
        packet.extend((self.seq as u32).to_be_bytes());
        packet.resize(packet.len() + icv_len, 0);
        packet.extend(self.payload);
        let mut covered = packet.clone();
        if self.esn {
            covered.extend(((self.seq >> 32) as u32).to_be_bytes());
        }
        let material = key(3, self.seed, self.suite.ah.key_bytes());
        let mac_key = Crypto::mac_key(self.suite.ah, &material).expect("key");
        let mut job = [MacJob {
            key: &mac_key,
            iv: iv.try_into().unwrap_or_default(),
            message: &covered,
            tag: [0; 16],
        }];
        crypto().compute(&mut job);
        packet[32..32 + iv.len()].copy_from_slice(iv);
        let tag = self.suite.ah.tag_bytes();
        packet[32 + iv.len()..][..tag].copy_from_slice(&job[0].tag[..tag]);
        packet[8] = 64;
        let mut frame = mac_of(self.to).0.to_vec();
        frame.extend(mac_of(self.from).0);
        frame.extend([8, 0]);
        frame.extend(packet);
        fix_checksum(&mut frame);
        frame
    }

    pub fn buf(&self) -> Buf {
        Buf::of(&self.frame())
    }
}

/// Puts the right header checksum into a frame's IPv4 header.
pub fn fix_checksum(frame: &mut [u8]) {
    let header = &mut frame[14..34];
    header[10..12].fill(0);
    let words = header
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
}

/// A standard cell under one layer, as it is on the last TVT forward and on the last TVT before the entrance of two AINs backward.
pub fn cell(direction: Direction, keys: &HopKeys, sequence: u64, data: &[u8]) -> Vec<u8> {
    let mut cell = sequence.to_be_bytes().to_vec();
    cell.resize(24, 0);
    cell.extend(data);
    cell.resize(1408, 0);
    let key = match direction {
        Direction::Forward => &keys.forward,
        Direction::Backward => &keys.backward,
    };
    let mut tweak = [0; 16];
    tweak[0] = direction as u8;
    tweak[1] = keys.suite;
    let mut jobs = [LayerJob {
        key: &Crypto::layer_key(key),
        tweak,
        op: LayerOp::Encrypt,
        cell: &mut cell,
    }];
    crypto().apply(&mut jobs);
    cell
}

/// The cell of a TVT frame.
pub fn cell_of(frame: &Buf) -> Vec<u8> {
    let data = frame.data();
    data[data.len() - 1408..].to_vec()
}
