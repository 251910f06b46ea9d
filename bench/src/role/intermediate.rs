//! An intermediate AIN: a TVT packet in, one layer, a TVT packet out. Floor: two MACs and a layer.
//!
//! ```text
//!   neighbours 0..8 ── forward: verify, take a layer off, sign ──► neighbours 8..16
//!                   ◄── backward: verify, add a layer, sign ──
//! ```
//! Every AIVT has both directions installed. Which direction of which AIVT comes next is drawn at random.

use ain_controlplane::action::{HopKeys, Link, Route};
use ain_crypto::{AeadAlgorithm, LayerOp, MacAlgorithm};
use ain_dataplane::engine::Capacity;
use ain_dataplane::id::{AivtId, PeerId, Spi};
use ain_dataplane::packet::{BufPool, PacketBuf};
use ain_dataplane::peers::PeerKind;
use ain_dataplane::stage::Lane;
use ain_dataplane::wire::ah::{Family, ah_len};
use ain_dataplane::wire::cell::CellProfile;
use ain_dataplane::wire::{ethernet, protocol};
use anyhow::{Context, ensure};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::backend::Fresh;
use crate::clock::Clock;
use crate::floor::{Bare, layers, macs};
use crate::forge::{Forge, Origin};
use crate::memory::Memory;
use crate::site::{FIRST_TVT_SPI, Sa, Shape, Site, material};
use crate::turns::Contest;

/// Neighbours on each side.
const NEIGHBOURS: u16 = 8;

/// Which way packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ways {
    /// From entrances to exits.
    Forward,
    /// From exits to entrances.
    Backward,
    /// Half and half.
    Both,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// AH algorithm.
    pub ah: MacAlgorithm,
    /// Cell length.
    pub profile: CellProfile,
    /// AIVTs.
    pub aivts: u32,
    /// Packets of a burst.
    pub burst: usize,
    /// Packets made beforehand for a turn.
    pub chunk: usize,
    /// Directions.
    pub ways: Ways,
}

/// One direction of an AIVT.
#[derive(Clone, Copy)]
struct Half(u32);

impl Half {
    fn aivt(self) -> u32 {
        self.0 / 2
    }

    fn forward(self) -> bool {
        self.0.is_multiple_of(2)
    }

    /// The neighbour on the entrance's side, then that on the exit's.
    fn neighbours(self) -> (PeerId, PeerId) {
        let aivt = self.aivt();
        let number = |n: u32| (n % u32::from(NEIGHBOURS)) as u16;
        (
            PeerId(number(aivt)),
            PeerId(NEIGHBOURS + number(aivt / u32::from(NEIGHBOURS))),
        )
    }

    /// Where packets come from, and where they go.
    fn ends(self) -> (PeerId, PeerId) {
        let (up, down) = self.neighbours();
        if self.forward() { (up, down) } else { (down, up) }
    }

    fn spi(self) -> Spi {
        Spi::new(FIRST_TVT_SPI + self.aivt()).expect("far above the reserved ones")
    }
}

fn hop_key(aivt: u32, forward: bool) -> [u8; 16] {
    let mut key = [forward.into(); 16];
    key[..4].copy_from_slice(&aivt.to_be_bytes());
    key
}

/// The node, its neighbours, and the primitives beside.
pub struct Intermediate<C: Fresh, M: Memory> {
    case: Case,
    site: Site<C, M>,
    forge: Forge<C>,
    /// Last sequence number by half.
    sent: Vec<u32>,
    /// Key of the bare layer by half.
    layer_keys: Vec<C::LayerKey>,
    macs_in: Vec<C::MacKey>,
    macs_out: Vec<C::MacKey>,
    crypto: C,
    noise: Vec<u8>,
    rng: ChaCha12Rng,
    chunk: Vec<M::Buf>,
    visits: Vec<Half>,
}

impl<C: Fresh, M: Memory> Intermediate<C, M> {
    /// Bytes of a received frame.
    pub fn frame_len(case: &Case) -> usize {
        ethernet::HEADER_LEN + case.profile.packet_len_ipv4(ah_len(case.ah, Family::V4))
    }

    /// Installs all AIVTs.
    ///
    /// # Errors
    /// When the engine has no room for them.
    pub fn new(case: Case, pool: M) -> anyhow::Result<Self> {
        let peers = 2 * NEIGHBOURS;
        let halves = 2 * case.aivts;
        let mut site = Site::new(
            &Shape {
                ah: case.ah,
                esp: AeadAlgorithm::Aes128Gcm16,
                profile: case.profile,
                peers: vec![PeerKind::Neighbour; usize::from(peers)],
                capacity: Capacity {
                    tvts: halves,
                    tunnels: u32::from(peers),
                    flows: 0,
                },
            },
            pool,
        )?;
        for aivt in 0..case.aivts {
            let half = Half(2 * aivt);
            let (up, down) = half.neighbours();
            let link = |peer| Link { peer, spi: half.spi() };
            let keys = HopKeys {
                suite: 0,
                forward: hop_key(aivt, true),
                backward: hop_key(aivt, false),
            };
            let route = Route::Intermediate {
                upstream: link(up),
                downstream: link(down),
                keys,
            };
            site.install(AivtId(u64::from(aivt)), route)?;
        }
        let mac = |sa, peer| C::mac_key(case.ah, &material(sa, PeerId(peer), case.ah.key_bytes()));
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        Ok(Self {
            case,
            site,
            forge: Forge::new(case.ah, peers)?,
            sent: vec![0; halves as usize],
            layer_keys: (0..halves)
                .map(|half| C::layer_key(&hop_key(Half(half).aivt(), Half(half).forward())))
                .collect(),
            macs_in: (0..peers).map(|peer| mac(Sa::AhIn, peer)).collect::<Result<_, _>>()?,
            macs_out: (0..peers).map(|peer| mac(Sa::AhOut, peer)).collect::<Result<_, _>>()?,
            crypto: C::fresh(),
            noise: (0..2 * case.profile.cell_len()).map(|_| rng.random()).collect(),
            rng,
            chunk: Vec::with_capacity(case.chunk),
            visits: Vec::with_capacity(case.chunk),
        })
    }

    /// A fresh chunk.
    fn make(&mut self) -> anyhow::Result<()> {
        self.chunk.clear();
        self.visits.clear();
        while self.chunk.len() < self.case.chunk {
            let mut burst: Lane<(Origin, M::Buf)> = Lane::new();
            while !burst.is_full() && self.chunk.len() + burst.len() < self.case.chunk {
                let half = self.draw();
                burst.push(self.cell(half)?);
                self.visits.push(half);
            }
            self.forge.sign(&mut burst)?;
            self.chunk.extend(burst.into_iter().map(|(_, frame)| frame));
        }
        Ok(())
    }

    fn draw(&mut self) -> Half {
        let aivt = self.rng.random_range(0..self.case.aivts);
        let backward = match self.case.ways {
            Ways::Forward => false,
            Ways::Backward => true,
            Ways::Both => self.rng.random(),
        };
        Half(2 * aivt + u32::from(backward))
    }

    /// The next cell of a half.
    fn cell(&mut self, half: Half) -> anyhow::Result<(Origin, M::Buf)> {
        let len = self.case.profile.cell_len();
        let mut buf = self.site.io.alloc().context("packet buffers are used up")?;
        buf.grow_back(len);
        let at = self.rng.random_range(0..len);
        buf.data_mut().copy_from_slice(&self.noise[at..at + len]);
        let seq = &mut self.sent[half.0 as usize];
        *seq += 1;
        let origin = Origin {
            peer: half.ends().0,
            spi: half.spi(),
            seq: u64::from(*seq),
            next_header: protocol::CELL,
        };
        Ok((origin, buf))
    }
}

impl<C: Fresh, M: Memory> Contest for Intermediate<C, M> {
    fn path(&mut self, clock: &Clock) -> anyhow::Result<u64> {
        self.make()?;
        let (packets, before) = (self.chunk.len() as u64, self.site.io.sent);
        let mut frames = self.chunk.drain(..);
        let mut burst: Lane<M::Buf> = Lane::new();
        let start = clock.ticks();
        loop {
            burst.extend(frames.by_ref().take(self.case.burst));
            if burst.is_empty() {
                break;
            }
            self.site.burst(&mut burst);
        }
        self.site.io.flush();
        let cycles = clock.ticks() - start;
        drop(frames);
        let sent = self.site.io.sent - before;
        ensure!(
            sent == packets,
            "{sent} of {packets} packets came out: {:?}",
            self.site.drops()
        );
        Ok(cycles)
    }

    fn floor(&mut self, clock: &Clock) -> anyhow::Result<u64> {
        self.make()?;
        let cell_len = self.case.profile.cell_len();
        for frame in &mut self.chunk {
            frame.grow_back(4);
        }
        let mut packets: Vec<Bare<'_>> = self
            .chunk
            .iter_mut()
            .zip(&self.visits)
            .map(|(frame, half)| {
                let bytes = &mut frame.data_mut()[ethernet::HEADER_LEN..];
                let (from, to) = half.ends();
                Bare {
                    cell_at: bytes.len() - 4 - cell_len,
                    bytes,
                    cell_len,
                    mac_in: usize::from(from.0),
                    mac_out: usize::from(to.0),
                    layer: half.0 as usize,
                    op: if half.forward() {
                        LayerOp::Decrypt
                    } else {
                        LayerOp::Encrypt
                    },
                }
            })
            .collect();
        let start = clock.ticks();
        for burst in packets.chunks_mut(self.case.burst) {
            macs(&mut self.crypto, &self.macs_in, burst, |bare| bare.mac_in);
            layers(&mut self.crypto, &self.layer_keys, burst, 0);
            macs(&mut self.crypto, &self.macs_out, burst, |bare| bare.mac_out);
        }
        let cycles = clock.ticks() - start;
        drop(packets);
        self.chunk.clear();
        Ok(cycles)
    }

    fn packets(&self) -> usize {
        self.case.chunk
    }

    fn frame_bits(&self) -> usize {
        8 * Self::frame_len(&self.case)
    }
}
