//! Packets by hand: what a neighbour or a stranger may put on the wire, written without the packet path's stages.

use std::net::IpAddr;

use ain_controlplane::action::HopKeys;
use ain_crypto::{Direction, Layer, LayerJob, LayerOp, Mac, MacAlgorithm, MacJob};
use ain_dataplane::packet::PacketBuf;
use ain_dataplane::wire::ah::Family;

use super::chain::tvt_spi;
use super::{Buf, Suite, key, mac_of, outer_of};
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

/// Extension headers of a packet over IPv6, up to the AH.
#[derive(Clone, Copy)]
pub struct Extensions<'a> {
    /// What the IPv6 header announces.
    pub first: u8,
    pub sent: &'a [u8],
    /// As the ICV covers them.
    pub covered: &'a [u8],
}

impl Extensions<'_> {
    pub const NONE: Self = Self {
        first: AH,
        sent: &[],
        covered: &[],
    };
}

const AH: u8 = 51;

impl<'a> Forged<'a> {
    /// A TVT packet of flow 0 from AIN 2 to AIN 3, signed as AIN 2 would: joint seeds are the chain's.
    pub fn tvt(suite: Suite, seq: u64, payload: &'a [u8]) -> Self {
        Self {
            from: 2,
            to: 3,
            suite,
            seed: 5,
            spi: tvt_spi(0, 2).value(),
            seq,
            esn: true,
            next_header: 99,
            payload,
        }
    }

    /// The frame, its ICV right under the key of `seed`.
    pub fn frame(&self) -> Vec<u8> {
        self.frame_with(Extensions::NONE)
    }

    /// With extension headers, if it goes over IPv6.
    pub fn frame_with(&self, extensions: Extensions<'_>) -> Vec<u8> {
        let (iv, tag_len, pad): (&[u8], usize, usize) = match (self.suite.ah, self.suite.family) {
            (MacAlgorithm::Aes128Gmac, Family::V4) => (&IV, 16, 0),
            (MacAlgorithm::Aes128Gmac, Family::V6) => (&IV, 16, 4),
            (MacAlgorithm::HmacSha256_128, Family::V4) => (&[], 16, 0),
            (MacAlgorithm::HmacSha256_128, Family::V6) => (&[], 16, 4),
            (MacAlgorithm::AesCmac96, _) => (&[], 12, 0),
        };
        let ah_len = 12 + iv.len() + tag_len + pad;
        let mut ah = vec![self.next_header, (ah_len / 4 - 2) as u8, 0, 0];
        ah.extend(self.spi.to_be_bytes());
        ah.extend((self.seq as u32).to_be_bytes());
        ah.resize(ah_len, 0);
        let behind = extensions.sent.len() + ah_len + self.payload.len();
        let mut header = self.masked_header(behind as u16, extensions.first);
        let mut covered = [&header, extensions.covered, &ah, self.payload].concat();
        if self.esn {
            covered.extend(((self.seq >> 32) as u32).to_be_bytes());
        }
        let tag = self.tag(iv, &covered);
        ah[12..12 + iv.len()].copy_from_slice(iv);
        ah[12 + iv.len()..][..tag_len].copy_from_slice(&tag[..tag_len]);
        let (ethertype, ttl) = match self.suite.family {
            Family::V4 => ([8, 0], 8),
            Family::V6 => ([0x86, 0xdd], 7),
        };
        header[ttl] = 64;
        let (to, from) = (mac_of(self.to).0, mac_of(self.from).0);
        let parts: [&[u8]; 7] = [&to, &from, &ethertype, &header, extensions.sent, &ah, self.payload];
        let mut frame = parts.concat();
        fix_checksum(&mut frame);
        frame
    }

    /// The IP header as the ICV covers it, before `behind` bytes.
    fn masked_header(&self, behind: u16, first: u8) -> Vec<u8> {
        let ends = [self.from, self.to].map(|number| outer_of(number, self.suite.family));
        let mut header = match self.suite.family {
            Family::V4 => [&[0x45, 0][..], &(20 + behind).to_be_bytes(), &[0, 0, 0, 0, 0, AH, 0, 0]].concat(),
            Family::V6 => [&[0x60, 0, 0, 0][..], &behind.to_be_bytes(), &[first, 0]].concat(),
        };
        for end in ends {
            match end {
                IpAddr::V4(address) => header.extend(address.octets()),
                IpAddr::V6(address) => header.extend(address.octets()),
            }
        }
        header
    }

    fn tag(&self, iv: &[u8], covered: &[u8]) -> [u8; 16] {
        let material = key(3, self.seed, self.suite.ah.key_bytes());
        let mac_key = Crypto::mac_key(self.suite.ah, &material).expect("key");
        let mut job = [MacJob {
            key: &mac_key,
            iv: iv.try_into().unwrap_or_default(),
            message: covered,
            tag: [0; 16],
        }];
        crypto().compute(&mut job);
        job[0].tag
    }

    pub fn buf(&self) -> Buf {
        Buf::of(&self.frame())
    }
}

const IV: [u8; 8] = [0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7];

/// Puts the right header checksum into a frame's IPv4 header, if it has one.
pub fn fix_checksum(frame: &mut [u8]) {
    if frame[12..14] != [8, 0] {
        return;
    }
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
