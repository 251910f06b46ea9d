//! The two sides of a role's contest: the packet path, and the bare primitives over the same packets.

use std::collections::HashMap;

use ain_dataplane::packet::PacketBuf;
use ain_dataplane::stage::Lane;
use ain_dataplane::wire::{esp, ethernet};
use anyhow::ensure;

use super::scene::{ESP, Scene, peers};
use super::{Case, Half, Role, layer_key};
use crate::backend::Fresh;
use crate::clock::Clock;
use crate::floor::{AAD, Bare, Floor, Keys, Recipe, Work};
use crate::memory::Memory;
use crate::site::{Sa, material};
use crate::turns::Contest;

/// A scene, and the primitives beside it.
pub struct Measured<C: Fresh, M: Memory> {
    scene: Scene<C, M>,
    floor: Floor<C>,
    halves: Vec<Half>,
    chunk: Vec<M::Buf>,
}

impl<C: Fresh, M: Memory> Measured<C, M> {
    /// Sets the scene and expands the floor's own keys.
    ///
    /// # Errors
    /// When there is no room.
    pub fn new(case: Case, pool: M) -> anyhow::Result<Self> {
        Ok(Self {
            scene: Scene::new(case, pool)?,
            floor: Floor::new(recipe(&case), keys(&case)?),
            halves: Vec::with_capacity(case.chunk),
            chunk: Vec::with_capacity(case.chunk),
        })
    }

    /// A fresh chunk.
    fn make(&mut self) -> anyhow::Result<()> {
        self.chunk.clear();
        self.halves.clear();
        self.halves
            .extend((0..self.scene.case.chunk).map(|_| self.scene.draw()));
        self.scene.make(&self.halves, &mut self.chunk)
    }

    /// What comes out of one burst.
    fn outs(&self, burst: &[Half]) -> Vec<Work> {
        let case = &self.scene.case;
        if burst.iter().any(|half| case.from_host(half.forward())) {
            return cells(case, burst);
        }
        let copies = if self.to_host(burst) {
            case.datagrams_in_cell()
        } else {
            1
        };
        burst
            .iter()
            .flat_map(|half| std::iter::repeat_n(work(case, *half), copies))
            .collect()
    }

    fn to_host(&self, burst: &[Half]) -> bool {
        burst.iter().any(|half| self.scene.case.to_host(half.forward()))
    }
}

impl<C: Fresh, M: Memory> Contest for Measured<C, M> {
    fn path(&mut self, clock: &Clock, go: impl FnOnce()) -> anyhow::Result<u64> {
        self.make()?;
        let size = self.scene.case.burst;
        let expected: usize = self.halves.chunks(size).map(|burst| self.outs(burst).len()).sum();
        let site = &mut self.scene.site;
        let before = site.io.sent;
        let mut frames = self.chunk.drain(..);
        let mut burst: Lane<M::Buf> = Lane::new();
        go();
        let start = clock.ticks();
        loop {
            burst.extend(frames.by_ref().take(size));
            if burst.is_empty() {
                break;
            }
            let rest = frames.as_slice();
            M::arriving(&rest[..size.min(rest.len())]);
            site.burst(&mut burst);
        }
        site.io.flush();
        let cycles = clock.ticks() - start;
        drop(frames);
        let sent = site.io.sent - before;
        ensure!(
            sent == expected as u64,
            "{sent} of {expected} packets came out: {:?}",
            site.drops()
        );
        Ok(cycles)
    }

    fn floor(&mut self, clock: &Clock, asked: bool, go: impl FnOnce()) -> anyhow::Result<u64> {
        self.make()?;
        let case = self.scene.case;
        let outs: Vec<Vec<Work>> = self.halves.chunks(case.burst).map(|burst| self.outs(burst)).collect();
        for frame in &mut self.chunk {
            frame.grow_back(HIGH_HALF);
        }
        let mut packets: Vec<Bare<'_>> = self
            .chunk
            .iter_mut()
            .zip(&self.halves)
            .map(|(frame, half)| {
                let bytes = &mut frame.data_mut()[ethernet::HEADER_LEN..];
                Bare {
                    aad: aad(&bytes[case.outer_len()..]),
                    bytes,
                    work: work(&case, *half),
                }
            })
            .collect();
        go();
        let start = clock.ticks();
        for (burst, outs) in packets.chunks_mut(case.burst).zip(&outs) {
            self.floor.burst(burst, outs, asked);
        }
        let cycles = clock.ticks() - start;
        drop(packets);
        self.chunk.clear();
        Ok(cycles)
    }

    fn packets(&self) -> usize {
        self.scene.case.chunk
    }

    fn frame_bits(&self) -> usize {
        8 * self.scene.case.frame_len()
    }
}

/// Bytes of the high half of a sequence number, which the ICV covers behind the packet.
const HIGH_HALF: usize = 4;

/// Keys of a half.
fn work(case: &Case, half: Half) -> Work {
    let (from, to) = half.ends();
    Work {
        from: usize::from(from.0),
        to: usize::from(to.0),
        layer: half.0 as usize * case.layers(),
        decrypt: !case.from_host(half.forward()) && (half.forward() || case.role == Role::Entrance),
    }
}

/// Additional data of the ESP packet at the front of `payload`; of other payloads, some bytes.
fn aad(payload: &[u8]) -> [u8; AAD] {
    let mut aad = [0; AAD];
    let (spi, high_and_low) = aad.split_at_mut(4);
    spi.copy_from_slice(&payload[..4]);
    high_and_low[4..].copy_from_slice(&payload[4..8]);
    aad
}

/// Cells that the datagrams of one burst fill, flow by flow.
fn cells(case: &Case, burst: &[Half]) -> Vec<Work> {
    let mut bytes: HashMap<u32, usize> = HashMap::new();
    for half in burst {
        *bytes.entry(half.0).or_default() += case.datagram();
    }
    let mut outs = Vec::new();
    for half in burst {
        if let Some(bytes) = bytes.remove(&half.0) {
            let cells = bytes.div_ceil(case.profile.data_len());
            outs.extend(std::iter::repeat_n(work(case, *half), cells));
        }
    }
    outs
}

fn recipe(case: &Case) -> Recipe {
    let forward = case.ways != super::Ways::Backward;
    let text_at = case.outer_len() + esp::HEADER_LEN + esp::IV_LEN;
    let text_len = esp::packet_len(case.datagram()) - esp::AROUND_TEXT;
    Recipe {
        layers: case.layers(),
        cell_at: case.outer_len(),
        cell_len: case.profile.cell_len(),
        text_at,
        text_len,
        from_host: case.from_host(forward),
        to_host: case.to_host(forward),
        out_len: HIGH_HALF
            + if case.to_host(forward) {
                case.host_len()
            } else {
                case.tvt_len()
            },
    }
}

fn keys<C: Fresh>(case: &Case) -> anyhow::Result<Keys<C>> {
    let mac = |sa| peers().map(move |peer| C::mac_key(case.ah, &material(sa, peer, case.ah.key_bytes())));
    let aead = |sa| peers().map(move |peer| C::aead_key(ESP, &material(sa, peer, ESP.key_bytes())));
    let layers = (0..2 * case.aivts).flat_map(|half| (0..case.layers()).map(move |hop| layer_key(Half(half), hop)));
    Ok(Keys {
        macs_in: mac(Sa::AhIn).collect::<Result<_, _>>()?,
        macs_out: mac(Sa::AhOut).collect::<Result<_, _>>()?,
        opens: aead(Sa::EspIn).collect::<Result<_, _>>()?,
        seals: aead(Sa::EspOut).collect::<Result<_, _>>()?,
        layers: layers.map(|key| C::layer_key(&key)).collect(),
    })
}
