//! Makes packets that the node under test accepts: as its peers would, with their keys and fresh sequence numbers, by the burst.

use std::net::{IpAddr, Ipv4Addr};

use ain_crypto::{AeadAlgorithm, AeadJob, Backend, MacAlgorithm, MacJob};
use ain_dataplane::id::{Pair, PeerId, Spi};
use ain_dataplane::packet::PacketBuf;
use ain_dataplane::stage::Lane;
use ain_dataplane::wire::ah::{self, Family, Icv, IcvLayout};
use ain_dataplane::wire::esp::{self, Aad, EspHeader};
use ain_dataplane::wire::ethernet::{self, ETHERTYPE_IPV4, EthernetHeader};
use ain_dataplane::wire::ipv4::{self, Ipv4Fields};
use ain_dataplane::wire::protocol;
use anyhow::Context;
use zerocopy::IntoBytes;

use crate::backend::Fresh;
use crate::site::{LOCAL, LOCAL_MAC, REMOTE_MAC, Sa, material, remote, tunnel_spi};

/// Where an AH packet comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Its sender.
    pub peer: PeerId,
    /// The association at the node under test.
    pub spi: Spi,
    /// Sequence number.
    pub seq: u64,
    /// What the AH carries.
    pub next_header: u8,
}

/// The peers' signing side.
pub struct Forge<C: Backend> {
    crypto: C,
    layout: IcvLayout,
    /// By peer.
    keys: Vec<C::MacKey>,
    /// By peer.
    esp_keys: Vec<C::AeadKey>,
}

impl<C: Fresh> Forge<C> {
    /// For peers `0..peers` that all use the same algorithms.
    ///
    /// # Errors
    /// Never with the backends there are: key material is as long as the algorithm says.
    pub fn new(ah: MacAlgorithm, esp: AeadAlgorithm, peers: u16) -> anyhow::Result<Self> {
        let key = |peer| C::mac_key(ah, &material(Sa::AhIn, PeerId(peer), ah.key_bytes()));
        let esp_key = |peer| C::aead_key(esp, &material(Sa::EspIn, PeerId(peer), esp.key_bytes()));
        Ok(Self {
            crypto: C::fresh(),
            layout: IcvLayout::sent(ah, Family::V4),
            keys: (0..peers).map(key).collect::<Result<_, _>>()?,
            esp_keys: (0..peers).map(esp_key).collect::<Result<_, _>>()?,
        })
    }

    /// Puts ESP around a datagram.
    ///
    /// # Errors
    /// When there is no room around it.
    pub fn seal<B: PacketBuf>(&mut self, peer: PeerId, seq: u64, buf: &mut B) -> anyhow::Result<()> {
        let (spi, len) = (tunnel_spi(Sa::EspIn, peer), buf.data().len());
        let text_len = len + esp::trailer_len(len);
        buf.grow_back(text_len - len + esp::ICV_LEN);
        esp::write_trailer(&mut buf.data_mut()[len..text_len], protocol::IPV4)?;
        let iv = seq.to_be_bytes();
        let (text, icv) = buf.data_mut().split_at_mut(text_len);
        let aad = Aad::new(spi, seq, true);
        let mut jobs = [AeadJob {
            key: &self.esp_keys[usize::from(peer.0)],
            iv,
            aad: aad.as_bytes(),
            text,
            tag: [0; esp::ICV_LEN],
            authentic: false,
        }];
        self.crypto.seal(&mut jobs);
        icv.copy_from_slice(&jobs[0].tag);
        buf.grow_front(esp::HEADER_LEN + esp::IV_LEN);
        let (header, rest) = buf.data_mut().split_at_mut(esp::HEADER_LEN);
        header.copy_from_slice(EspHeader::new(spi, seq as u32).as_bytes());
        rest[..esp::IV_LEN].copy_from_slice(&iv);
        Ok(())
    }

    /// Makes whole frames of a burst of AH payloads.
    ///
    /// # Errors
    /// When a payload is too long for a packet, or has no room around it.
    pub fn sign<B: PacketBuf>(&mut self, burst: &mut [(Origin, B)]) -> anyhow::Result<()> {
        for (origin, buf) in &mut *burst {
            buf.grow_front(ipv4::HEADER_LEN + self.layout.len());
            let rest = write_outer(origin.peer, buf, true)?;
            ah::write_header(rest, self.layout, origin.next_header, origin.spi, origin.seq as u32)?;
            let end = buf.data().len();
            buf.grow_back(4);
            buf.data_mut()[end..].copy_from_slice(&((origin.seq >> 32) as u32).to_be_bytes());
        }
        let mut jobs: Lane<MacJob<'_, C::MacKey>> = Lane::new();
        for (origin, buf) in &*burst {
            jobs.push(MacJob {
                key: &self.keys[usize::from(origin.peer.0)],
                iv: origin.seq.to_be_bytes(),
                message: buf.data(),
                tag: [0; 16],
            });
        }
        self.crypto.compute(&mut jobs);
        let icvs: Lane<Icv> = jobs
            .iter()
            .map(|job| Icv {
                iv: job.iv,
                tag: job.tag,
            })
            .collect();
        drop(jobs);
        for ((origin, buf), icv) in burst.iter_mut().zip(icvs) {
            buf.truncate(buf.data().len() - 4);
            let rest = write_outer(origin.peer, buf, false)?;
            ah::put_icv(rest, self.layout, &icv)?;
            buf.grow_front(ethernet::HEADER_LEN);
            EthernetHeader::new(LOCAL_MAC, REMOTE_MAC, ETHERTYPE_IPV4).write(buf.data_mut())?;
        }
        Ok(())
    }
}

fn write_outer<B: PacketBuf>(from: PeerId, buf: &mut B, masked: bool) -> anyhow::Result<&mut [u8]> {
    let total = u16::try_from(buf.data().len())?;
    let (header, rest) = buf.data_mut().split_first_chunk_mut().context("no header")?;
    ipv4::write_header(header, &Ipv4Fields::outer(remote(from), LOCAL, protocol::AH, total));
    if masked {
        ah::mask_mutable_ipv4(header)?;
    }
    Ok(rest)
}

/// Writes the header of an inner datagram that fills `datagram`; the rest stays as it is. Its protocol is none that a node looks into.
pub fn write_datagram(datagram: &mut [u8], pair: Pair) {
    const EXPERIMENT: u8 = 253; // RFC 3692
    let v4 = |address| match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    let total = u16::try_from(datagram.len()).unwrap_or(u16::MAX);
    if let Some(header) = datagram.first_chunk_mut() {
        let fields = Ipv4Fields::outer(v4(pair.source), v4(pair.destination), EXPERIMENT, total);
        ipv4::write_header(header, &fields);
    }
}
