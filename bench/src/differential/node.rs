//! The node under test: a real engine, told of the tunnels by the real table writer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ain_controlplane::sa::{Numbers, SaSpec};
use ain_controlplane::table_writer::TableError;
use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use ain_dataplane::engine::Capacity;
use ain_dataplane::id::{PeerId, Spi};
use ain_dataplane::packet::{BufPool, PacketBuf};
use ain_dataplane::peers::{Peer, PeerKind};
use ain_dataplane::stage::Lane;
use ain_dataplane::verdict::DropReason;
use ain_dataplane::wire::cell::CellProfile;
use ain_worker::vec_buf::VecPool;
use zeroize::Zeroizing;

use super::model::{Verdict, Why};
use super::tunnel::Tunnel;
use crate::backend::Fresh;
use crate::site::{Shape, Site, tunnel};

/// Bytes of the longest frame, and of what is put behind it while it is judged.
const ROOM: usize = 4096;

/// An engine whose tunnels' datagrams go to a device, as those of `ain endpoint` do.
pub struct Node<C: Fresh> {
    site: Site<C, VecPool>,
    before: Vec<u64>,
}

impl<C: Fresh> Node<C> {
    /// One that has these tunnels.
    ///
    /// # Errors
    /// Never, with tables of this size.
    pub fn new(tunnels: &[Tunnel]) -> Result<Self, TableError> {
        let shape = Shape {
            ah: MacAlgorithm::Aes128Gmac,
            esp: AeadAlgorithm::Aes128Gcm16,
            profile: CellProfile::Standard,
            peers: vec![PeerKind::Gateway; tunnels.len()],
            capacity: Capacity {
                tvts: 8,
                tunnels: 64,
                flows: 8,
            },
        };
        let specs: Vec<_> = (0..)
            .map(PeerId)
            .zip(tunnels)
            .map(|(peer, ours)| spec(&shape, peer, ours))
            .collect();
        let mut site = Site::with_tunnels(&shape, &specs, VecPool::new(8, ROOM))?;
        let list: Vec<Peer> = site
            .peers
            .iter()
            .zip(tunnels)
            .map(|((_, peer), ours)| at_ends(peer, ours))
            .collect();
        site.peers = ain_dataplane::peers::Peers::new(list, CellProfile::Standard);
        Ok(Self {
            before: drops(&site),
            site,
        })
    }

    /// What it makes of a frame.
    pub fn judge(&mut self, frame: &[u8]) -> Verdict {
        let mut burst = Lane::new();
        let mut buf = self.site.io.alloc().expect("buffers come back");
        buf.grow_back(frame.len());
        buf.data_mut().copy_from_slice(frame);
        burst.push(buf);
        self.site.burst(&mut burst);
        let after = drops(&self.site);
        let why = DropReason::ALL
            .iter()
            .zip(after.iter().zip(&self.before))
            .find(|(_, (now, then))| now > then);
        let verdict = match (self.site.io.delivered.take(), why) {
            (Some(datagram), None) => Verdict::Datagram(datagram.data().to_vec()),
            (None, None) => Verdict::Dummy,
            (_, Some((why, _))) => Verdict::Dropped(class(*why)),
        };
        self.before = after;
        verdict
    }
}

fn drops<C: Fresh>(site: &Site<C, VecPool>) -> Vec<u64> {
    let counters = site.engine.counters();
    DropReason::ALL.iter().map(|why| counters.drops(*why)).collect()
}

/// The reason in the words of the model.
fn class(why: DropReason) -> Why {
    match why {
        DropReason::ForTheKernel => Why::NotAh,
        DropReason::Malformed => Why::Malformed,
        DropReason::OuterFragment => Why::Fragment,
        DropReason::OuterExtension => Why::Extension,
        DropReason::UnknownPeer | DropReason::UnknownSpi => Why::NoAssociation,
        DropReason::WrongProtocol => Why::Protocol,
        DropReason::AhReplayOld | DropReason::AhReplay => Why::AhReplay,
        DropReason::AhIcv => Why::AhIcv,
        DropReason::EspReplay => Why::EspReplay,
        DropReason::EspIcv => Why::EspIcv,
        DropReason::InnerMalformed => Why::Inner,
        other => panic!("no tunnel's packet is lost for this: {}", other.name()),
    }
}

fn spec(shape: &Shape, peer: PeerId, ours: &Tunnel) -> [SaSpec; 4] {
    let shape = Shape {
        ah: ours.ah,
        esp: ours.esp,
        ..shape.clone()
    };
    let [ah_in, esp_in, ah_out, esp_out] = tunnel(&shape, peer);
    let inbound = |spi, key: &[u8], sa| SaSpec {
        spi: Spi::new(spi).expect("not reserved"),
        key: Zeroizing::new(key.to_vec()),
        esn: ours.esn,
        numbers: Numbers::In {
            highest: Arc::new(AtomicU64::new(ours.start)),
        },
        ..sa
    };
    [
        inbound(ours.ah_spi, &ours.ah_key, ah_in),
        inbound(ours.esp_spi, &ours.esp_key, esp_in),
        ah_out,
        esp_out,
    ]
}

fn at_ends(peer: &Peer, ours: &Tunnel) -> Peer {
    Peer {
        local: address(&ours.destination),
        remote: address(&ours.source),
        ..peer.clone()
    }
}

/// Of 4 or 16 bytes.
pub fn address(bytes: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(bytes) {
        Ok(bytes) => Ipv4Addr::from(bytes).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).expect("4 or 16 bytes")).into(),
    }
}
