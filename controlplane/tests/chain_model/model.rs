//! What ought to happen, by arithmetic alone: which cells a datagram lies in, which packets a window lets pass, which datagrams
//! have all their pieces in time, and what the bytes are that come out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Bytes of datagrams in a standard cell: 1408, less 8 of sequence number, 12 of redundancy, 4 of AGGFRAG header.
const CELL_DATA: usize = 1384;
/// Cells that an edge waits for the rest of a datagram.
const WAIT_CELLS: u64 = 64;
/// And time, ns.
const WAIT_NS: u64 = 100_000_000;
/// Packets of the windows of TVTs and of host tunnels. The network reorders less than that.
const WINDOWS: [u64; 2] = [1024, 8192];

/// Which way a datagram travels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    Forward,
    Backward,
}

/// A datagram, by the order of sending.
pub type Id = usize;

/// What a host sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub flow: u8,
    pub way: Way,
    pub len: usize,
}

/// What a packet on a wire carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carries {
    /// From a host to its AIN.
    Up(Id),
    /// Between AINs: the how-manieth cell of a flow's way, from 1.
    Cell(u8, Way, u64),
    /// From an AIN to its host: a datagram, or this piece of it.
    Down(Id, usize),
}

/// An association: sender, receiver and, for TVTs, flow and way.
pub type Association = (u8, u8, Option<(u8, Way)>);

/// Received packets of an association.
#[derive(Default)]
struct Window {
    highest: u64,
    seen: BTreeSet<u64>,
}

/// The cells of one way of an AIVT.
#[derive(Default)]
struct Aivt {
    cells: u64,
    /// Per cell, the datagrams in it, in order.
    members: BTreeMap<u64, Vec<Id>>,
    /// Per datagram, its first and last cell.
    spans: BTreeMap<Id, (u64, u64)>,
    highest: u64,
    arrived: BTreeMap<u64, u64>,
}

/// How it went.
#[derive(Clone, Copy, Default, Debug)]
pub struct Fates {
    pub sent: usize,
    /// All of the datagram.
    pub arrived: usize,
    /// Second copies of packets.
    pub repeated: u64,
    /// Datagrams whose last piece came more than 64 cells after one before it.
    pub late: usize,
    /// Or more than 100 ms.
    pub expired: usize,
}

pub struct Model {
    pub sent: Vec<Sent>,
    pub fates: Fates,
    mtu: usize,
    windows: BTreeMap<Association, Window>,
    aivts: BTreeMap<(u8, Way), Aivt>,
    pieces_missing: BTreeMap<Id, usize>,
}

impl Model {
    pub fn new(mtu: usize) -> Self {
        Self {
            sent: Vec::new(),
            fates: Fates::default(),
            mtu,
            windows: BTreeMap::new(),
            aivts: BTreeMap::new(),
            pieces_missing: BTreeMap::new(),
        }
    }

    /// A host sends a datagram.
    pub fn send(&mut self, sent: Sent) -> Id {
        self.sent.push(sent);
        self.fates.sent += 1;
        self.sent.len() - 1
    }

    /// Whether the `number`th packet of an association is let pass: the first copy only.
    pub fn passes(&mut self, association: Association, number: u64) -> bool {
        let window = self.windows.entry(association).or_default();
        let packets = WINDOWS[usize::from(association.2.is_none())];
        assert!(
            number + packets > window.highest,
            "the network must not reorder beyond windows"
        );
        window.highest = window.highest.max(number);
        let first = window.seen.insert(number);
        self.fates.repeated += u64::from(!first);
        first
    }

    /// The cells that leave an edge for a burst of datagrams: flow by flow, each flow's datagrams back to back.
    pub fn pack(&mut self, burst: &[Id]) -> Vec<Carries> {
        let mut flows: Vec<(u8, Way)> = Vec::new();
        for &id in burst {
            let of = (self.sent[id].flow, self.sent[id].way);
            if !flows.contains(&of) {
                flows.push(of);
            }
        }
        let mut cells = Vec::new();
        for (flow, way) in flows {
            let aivt = self.aivts.entry((flow, way)).or_default();
            let mut at = 0;
            for &id in burst {
                let Sent { len, .. } = self.sent[id];
                if (self.sent[id].flow, self.sent[id].way) != (flow, way) {
                    continue;
                }
                let cell_at = |byte: usize| aivt.cells + 1 + (byte / CELL_DATA) as u64;
                let (first, last) = (cell_at(at), cell_at(at + len - 1));
                for cell in first..=last {
                    aivt.members.entry(cell).or_default().push(id);
                }
                aivt.spans.insert(id, (first, last));
                at += len;
            }
            let made = at.div_ceil(CELL_DATA) as u64;
            cells.extend((1..=made).map(|n| Carries::Cell(flow, way, aivt.cells + n)));
            aivt.cells += made;
        }
        cells
    }

    /// The datagrams that a cell completes at its edge, in order.
    pub fn unpack(&mut self, now: u64, flow: u8, way: Way, cell: u64) -> Vec<Id> {
        let aivt = self
            .aivts
            .get_mut(&(flow, way))
            .expect("cells come of an AIVT that sent some");
        aivt.highest = aivt.highest.max(cell);
        aivt.arrived.insert(cell, now);
        let mut complete = Vec::new();
        for &id in &aivt.members[&cell] {
            let (first, last) = aivt.spans[&id];
            let pieces: Option<Vec<u64>> = (first..=last).map(|cell| aivt.arrived.get(&cell).copied()).collect();
            let Some(pieces) = pieces else { continue };
            if first == last {
                complete.push(id);
            } else if aivt.highest - first >= WAIT_CELLS {
                self.fates.late += 1;
            } else if pieces.iter().any(|arrived| now - arrived > WAIT_NS) {
                self.fates.expired += 1;
            } else {
                complete.push(id);
            }
        }
        complete
    }

    /// The packets to the host for a datagram: one, or its fragments.
    pub fn deliver(&mut self, id: Id) -> Vec<Carries> {
        let pieces = self.cuts(self.sent[id].len).len();
        let before = self.pieces_missing.insert(id, pieces);
        assert_eq!(before, None, "datagram {id} complete twice");
        (0..pieces).map(|piece| Carries::Down(id, piece)).collect()
    }

    /// A piece has come out at the host.
    pub fn arrive(&mut self, id: Id) {
        let missing = self.pieces_missing.get_mut(&id).expect("sent to the host");
        *missing -= 1;
        self.fates.arrived += usize::from(*missing == 0);
    }

    /// The stretches of payload, behind a header of 20 bytes, that fit the host's tunnel (RFC 791): as much as fits, of all but the
    /// last a multiple of 8.
    fn cuts(&self, len: usize) -> Vec<Range<usize>> {
        let room = self.mtu - 20;
        let mut cuts = Vec::new();
        let mut at = 20;
        while len - at > room {
            cuts.push(at..at + room / 8 * 8);
            at += room / 8 * 8;
        }
        cuts.push(at..len);
        cuts
    }

    /// The bytes of datagram `id` between these addresses, and of its `piece` if it is cut.
    pub fn bytes(&self, id: Id, (source, destination): ([u8; 4], [u8; 4]), ttl: u8, piece: Option<usize>) -> Vec<u8> {
        let whole = whole(id, self.sent[id].len, source, destination, ttl);
        let Some(piece) = piece else { return whole };
        let cuts = self.cuts(whole.len());
        let cut = cuts[piece].clone();
        let mut bytes = whole[..20].to_vec();
        bytes.extend(&whole[cut.clone()]);
        let total = (bytes.len() as u16).to_be_bytes();
        let more = if piece + 1 < cuts.len() { 0x2000 } else { 0 };
        let flags = (more | ((cut.start - 20) / 8) as u16).to_be_bytes();
        bytes[2..4].copy_from_slice(&total);
        bytes[6..8].copy_from_slice(&flags);
        bytes[10..12].fill(0);
        let sum = ones_complement(&[&bytes[..20]]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// UDP where it fits, every fourth without a checksum; bytes that tell datagrams apart.
fn whole(id: Id, len: usize, source: [u8; 4], destination: [u8; 4], ttl: u8) -> Vec<u8> {
    let udp = len >= 28;
    let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, ttl, if udp { 17 } else { 253 }, 0, 0];
    bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    bytes[4..6].copy_from_slice(&(id as u16).to_be_bytes());
    bytes.extend(source);
    bytes.extend(destination);
    let header = ones_complement(&[&bytes]);
    bytes[10..12].copy_from_slice(&header.to_be_bytes());
    bytes.extend((20..len).map(|at| (at.wrapping_mul(id | 1) >> 3) as u8 ^ id as u8));
    if udp {
        let segment = (len as u16 - 20).to_be_bytes();
        bytes[24..26].copy_from_slice(&segment);
        bytes[26..28].fill(0);
        if !id.is_multiple_of(4) {
            let sum = ones_complement(&[&source, &destination, &[0, 17], &segment, &bytes[20..]]);
            let sum = if sum == 0 { 0xffff } else { sum };
            bytes[26..28].copy_from_slice(&sum.to_be_bytes());
        }
    }
    bytes
}

/// The Internet checksum (RFC 1071) of parts of which only the last has an odd length.
fn ones_complement(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 = words
        .map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low)))
        .sum();
    let folded = (0..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
    !(folded as u16)
}
