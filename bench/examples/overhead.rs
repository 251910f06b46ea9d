//! Cycles of an intermediate AIN's packet path with cryptography that does nothing: what every packet pays beside its crypto.
#![allow(missing_docs, clippy::undocumented_unsafe_blocks)]
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ain_crypto::*;
use ain_dataplane::command::{Command, Event, Handoff, IvSource};
use ain_dataplane::engine::{Capacity, Engine};
use ain_dataplane::entry::{Activity, AhKey, Layers, Next, Touch, Tvt, TvtOut};
use ain_dataplane::id::*;
use ain_dataplane::outside::Outside;
use ain_dataplane::packet::{BufPool, HEADROOM, PacketBuf};
use ain_dataplane::peers::{Link, Peer, PeerKind, Peers};
use ain_dataplane::reserve::{Grant, Reserved};
use ain_dataplane::stage::Lane;
use ain_dataplane::table::{Target, TargetKind, flow_table};
use ain_dataplane::wire::ah::{self, Family, IcvLayout};
use ain_dataplane::wire::cell::CellProfile;
use ain_dataplane::wire::ethernet::{EthernetHeader, MacAddr};
use ain_dataplane::wire::ipv4::{self, Ipv4Fields};

struct Nop;
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Key([u8; 384]);
impl Mac for Nop {
    type MacKey = ();
    fn mac_key(_: MacAlgorithm, _: &[u8]) -> Result<(), KeyLengthError> {
        Ok(())
    }
    #[inline(never)]
    fn compute(&mut self, jobs: &mut [MacJob<'_, ()>]) {
        for j in jobs {
            j.tag = [0; 16];
        }
    }
}
impl Aead for Nop {
    type AeadKey = ();
    fn aead_key(_: AeadAlgorithm, _: &[u8]) -> Result<(), KeyLengthError> {
        Ok(())
    }
    fn seal(&mut self, _: &mut [AeadJob<'_, ()>]) {}
    fn open(&mut self, _: &mut [AeadJob<'_, ()>]) {}
}
impl Layer for Nop {
    type LayerKey = Key;
    fn layer_key(k: &[u8; 16]) -> Key {
        Key([k[0]; 384])
    }
    #[inline(never)]
    fn apply(&mut self, jobs: &mut [LayerJob<'_, Key>]) {
        for j in jobs {
            j.cell[0] ^= j.key.0[0];
        }
    }
}
impl Backend for Nop {}

#[repr(C, align(64))]
struct Raw {
    off: u32,
    len: u32,
    bytes: [u8; 1984],
}
#[repr(transparent)]
struct Buf(Box<Raw>);
impl PacketBuf for Buf {
    #[inline]
    fn data(&self) -> &[u8] {
        let r = &*self.0;
        &r.bytes[r.off as usize..(r.off + r.len) as usize]
    }
    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        let r = &mut *self.0;
        &mut r.bytes[r.off as usize..(r.off + r.len) as usize]
    }
    #[inline]
    fn headroom(&self) -> usize {
        self.0.off as usize
    }
    #[inline]
    fn tailroom(&self) -> usize {
        1984 - (self.0.off + self.0.len) as usize
    }
    #[inline]
    fn grow_front(&mut self, n: usize) {
        self.0.off = self.0.off.checked_sub(n as u32).unwrap();
        self.0.len += n as u32;
    }
    #[inline]
    fn grow_back(&mut self, n: usize) {
        self.0.len += n as u32;
        assert!(self.0.len + self.0.off <= 1984);
    }
    #[inline]
    fn trim_front(&mut self, n: usize) {
        self.0.off += n as u32;
        self.0.len = self.0.len.checked_sub(n as u32).unwrap();
    }
    #[inline]
    fn truncate(&mut self, n: usize) {
        self.0.len = self.0.len.min(n as u32);
    }
}

struct Io {
    out: Vec<Buf>,
}
impl BufPool for Io {
    type Buf = Buf;
    fn alloc(&mut self) -> Option<Buf> {
        None
    }
}
impl Outside<Nop, Buf> for Io {
    #[inline]
    fn transmit(&mut self, _: PortId, frame: Buf) {
        self.out.push(frame);
    }
    fn hand_over(&mut self, _: WorkerId, item: Handoff<Buf>) -> Result<(), Handoff<Buf>> {
        Err(item)
    }
    fn report(&mut self, event: Event<Nop, Buf>) -> Result<(), Event<Nop, Buf>> {
        Err(event)
    }
    fn deliver(&mut self, _: Buf) {}
}

fn main() {
    let aivts: u32 = std::env::args().nth(1).map_or(1000, |a| a.parse().unwrap());
    let burst: usize = std::env::args().nth(2).map_or(64, |a| a.parse().unwrap());
    let (mut writer, reader) = flow_table(aivts as usize + 1, [1, 2]);
    let cap = Capacity {
        tvts: aivts,
        tunnels: 4,
        flows: 4,
    };
    let mut engine: Engine<Nop, Buf> = Engine::new(WorkerId(0), Nop, reader, cap, CellProfile::Standard);
    let ip = |n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n));
    let peer = |n| Peer {
        port: PortId(0),
        local: ip(1),
        remote: ip(n),
        link: Some(Link {
            source: MacAddr([2, 0, 0, 0, 0, 1]),
            destination: MacAddr([2, 0, 0, 0, 0, n]),
        }),
        owner: WorkerId(0),
        tunnel: 0,
        kind: PeerKind::Neighbour,
    };
    let peers = Peers::new(vec![peer(2), peer(3)], CellProfile::Standard);
    let mut io = Io {
        out: Vec::with_capacity(128),
    };
    let now = Now(1_000_000_000);
    for slot in 0..2 {
        let key = Arc::new(AhKey {
            algorithm: MacAlgorithm::Aes128Gmac,
            key: (),
        });
        let iv = (slot == 1).then(|| IvSource {
            counter: Reserved::new(Grant::new(1, 1 << 50)),
            mask: 5,
        });
        engine.command(
            now,
            &peers,
            Command::Key {
                slot: KeySlot(slot),
                key,
                iv,
            },
            &mut io,
        );
    }
    for n in 0..aivts {
        let spi = Spi::new(1000 + n * 7).unwrap();
        writer
            .insert(
                PeerId(0),
                spi,
                Target {
                    worker: WorkerId(0),
                    slot: n,
                    kind: TargetKind::Tvt,
                },
            )
            .unwrap();
        let tvt = Tvt {
            aivt: AivtId(u64::from(n)),
            peer: PeerId(0),
            spi,
            key: KeySlot(0),
            window: Default::default(),
            layers: Layers::new(Nop::layer_key(&[7; 16]), []),
            op: LayerOp::Decrypt,
            tweak: [0; 16],
            next: Next::Relay {
                out: TvtOut {
                    peer: PeerId(1),
                    spi: Spi::new(5000 + n).unwrap(),
                    key: KeySlot(1),
                    next_seq: 1,
                },
                direction: Direction::Forward,
            },
            activity: Touch::new(&Arc::new(Activity::default())),
        };
        engine.command(now, &peers, Command::Tvt(n, Box::new(tvt)), &mut io);
    }
    // packets
    let set: usize = std::env::args().nth(3).map_or(4096, |a| a.parse().unwrap());
    let mut seqs = vec![0u32; aivts as usize];
    let mut x = 88172645463325252u64;
    let mut pool: Vec<Buf> = (0..set)
        .map(|_| {
            Buf(Box::new(Raw {
                off: HEADROOM as u32,
                len: 0,
                bytes: [0x5a; 1984],
            }))
        })
        .collect();
    let mut samples = Vec::new();
    let mut lane: Lane<Buf> = Lane::new();
    for _ in 0..200 {
        for buf in &mut pool {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let n = (x % u64::from(aivts)) as usize;
            seqs[n] += 1;
            let layout = IcvLayout::sent(MacAlgorithm::Aes128Gmac, Family::V4);
            let total = 14 + 20 + layout.len() + 1408;
            buf.0.off = HEADROOM as u32;
            buf.0.len = total as u32;
            let data = buf.data_mut();
            EthernetHeader::new(MacAddr([2; 6]), MacAddr([2; 6]), 0x800)
                .write(data)
                .unwrap();
            let IpAddr::V4(from) = ip(2) else { unreachable!() };
            let IpAddr::V4(to) = ip(1) else { unreachable!() };
            let h: &mut [u8; 20] = data[14..].first_chunk_mut().unwrap();
            ipv4::write_header(h, &Ipv4Fields::outer(from, to, 51, (total - 14) as u16));
            let spi = Spi::new(1000 + n as u32 * 7).unwrap();
            ah::write_header(&mut data[34..], layout, 99, spi, seqs[n]).unwrap();
        }
        let mut next = Vec::with_capacity(set);
        let mut ticks = 0;
        while !pool.is_empty() {
            for _ in 0..burst.min(pool.len()) {
                lane.push(pool.pop().unwrap());
            }
            let t = unsafe { core::arch::x86_64::_rdtsc() };
            engine.from_wire(now, &peers, &mut lane, &mut io);
            ticks += unsafe { core::arch::x86_64::_rdtsc() } - t;
            next.append(&mut io.out);
        }
        assert_eq!(next.len(), set);
        pool = next;
        samples.push(ticks as f64 / set as f64);
    }
    samples.sort_by(f64::total_cmp);
    let n = (200 * set) as u64;
    let names = ["classify", "check", "verify", "mark", "peel", "forward", "sign"];
    for (i, name) in names.iter().enumerate() {
        print!(
            "{name} {} ",
            ain_dataplane::prof::T[i].load(std::sync::atomic::Ordering::Relaxed) / n
        );
    }
    println!(
        "aivts {aivts} burst {burst}: min {:.0} median {:.0} cycles/packet",
        samples[0], samples[100]
    );
}
