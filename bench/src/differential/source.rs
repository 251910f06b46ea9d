//! Where the packets of a run come from: tunnels in turn, classes in turn, numbers that only go up unless a class wants otherwise.

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::classes::CLASSES;
use super::draft::{Draft, datagram};
use super::tunnel::{Kind, Tunnel};

/// Packets and numbers of a tunnel that are remembered, to be used again.
const REMEMBERED: usize = 64;

/// A packet on the wire.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its class, an index into [`CLASSES`].
    pub class: usize,
    /// Its tunnel.
    pub tunnel: usize,
    /// What its datagram begins with. A replay has that of its original.
    pub id: u32,
    /// From the IP header on.
    pub packet: Vec<u8>,
}

/// The other end of one tunnel.
struct End {
    /// Highest number drawn.
    highest: u64,
    /// Numbers of packets that were all right.
    used: VecDeque<u64>,
    /// Numbers that were skipped.
    holes: VecDeque<u64>,
    /// Packets that were all right, and their datagrams.
    sent: VecDeque<(u32, Vec<u8>)>,
}

/// The other ends of all tunnels.
pub struct Source<'t> {
    tunnels: &'t [Tunnel],
    ends: Vec<End>,
    /// What is random in a packet.
    pub rng: ChaCha12Rng,
    id: u32,
    turn: usize,
}

/// The tunnels of these kinds, keys by `seed`.
pub fn tunnels(kinds: &[Kind], seed: u64) -> Vec<Tunnel> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    (0..)
        .zip(kinds)
        .map(|(number, kind)| Tunnel::new(*kind, number, &mut rng))
        .collect()
}

impl<'t> Source<'t> {
    /// The other ends of `tunnels`, drawing by `seed`.
    pub fn new(tunnels: &'t [Tunnel], seed: u64) -> Self {
        let end = |tunnel: &Tunnel| End {
            highest: tunnel.start,
            used: VecDeque::new(),
            holes: VecDeque::new(),
            sent: VecDeque::new(),
        };
        Self {
            tunnels,
            ends: tunnels.iter().map(end).collect(),
            rng: ChaCha12Rng::seed_from_u64(seed),
            id: 0,
            turn: 0,
        }
    }

    /// What is sent next: one packet, or a few that belong together.
    pub fn make(&mut self) -> Vec<Made> {
        loop {
            let class = self.turn % CLASSES.len();
            self.turn += 1;
            let tunnel = self.below(self.tunnels.len());
            if let Some(made) = self.of_class(class, tunnel) {
                return made;
            }
        }
    }

    /// A packet of a tunnel that nobody has anything against.
    pub fn plain(&mut self, tunnel: usize) -> Vec<Made> {
        self.of_class(0, tunnel)
            .expect("the first class has packets for every tunnel")
    }

    fn of_class(&mut self, class: usize, tunnel: usize) -> Option<Vec<Made>> {
        self.id += 1;
        let packets = CLASSES[class].1(self, tunnel)?;
        let made = packets.into_iter().map(|(id, packet)| Made {
            class,
            tunnel,
            id,
            packet,
        });
        Some(made.collect())
    }

    /// A random number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.rng.random_range(0..limit)
    }

    /// The tunnel of a number.
    pub fn tunnel(&self, tunnel: usize) -> &'t Tunnel {
        &self.tunnels[tunnel]
    }

    /// A datagram that is told from all others.
    pub fn datagram(&mut self, tunnel: usize) -> Vec<u8> {
        let (v6, filler) = (self.rng.random(), self.below(60));
        datagram(v6, tunnel as u8, self.id, filler)
    }

    /// A packet with the next number.
    pub fn draft(&mut self, tunnel: usize) -> Draft<'t> {
        let number = self.ahead(tunnel, 1);
        self.numbered(tunnel, number)
    }

    /// A packet with a number of choice.
    pub fn numbered(&mut self, tunnel: usize, number: u64) -> Draft<'t> {
        let datagram = self.datagram(tunnel);
        Draft::new(self.tunnel(tunnel), number, datagram)
    }

    /// The number that lies so far ahead.
    pub fn ahead(&mut self, tunnel: usize, by: u64) -> u64 {
        let end = &mut self.ends[tunnel];
        end.highest += by;
        end.highest
    }

    /// Skips a few numbers, that may be used later.
    pub fn skip(&mut self, tunnel: usize, numbers: u64) {
        let from = self.ends[tunnel].highest + 1;
        self.ahead(tunnel, numbers);
        let end = &mut self.ends[tunnel];
        end.holes.extend(from..=end.highest);
        while end.holes.len() > REMEMBERED {
            end.holes.pop_front();
        }
    }

    /// A number that was skipped.
    pub fn hole(&mut self, tunnel: usize) -> Option<u64> {
        let at = self.rng.random_range(0..REMEMBERED);
        self.ends[tunnel].holes.remove(at)
    }

    /// A number that was used.
    pub fn used(&mut self, tunnel: usize) -> Option<u64> {
        let at = self.rng.random_range(0..REMEMBERED);
        self.ends[tunnel].used.get(at).copied()
    }

    /// A packet that was sent, and its datagram.
    pub fn sent(&mut self, tunnel: usize) -> Option<(u32, Vec<u8>)> {
        let at = self.rng.random_range(0..REMEMBERED);
        self.ends[tunnel].sent.get(at).cloned()
    }

    /// Sends a packet that is all right, and remembers it.
    pub fn good(&mut self, tunnel: usize, draft: &Draft<'_>) -> Option<Vec<(u32, Vec<u8>)>> {
        let (packet, _) = draft.packet()?;
        let (id, end) = (self.id, &mut self.ends[tunnel]);
        end.used.push_back(draft.ah_number);
        end.sent.push_back((id, packet.clone()));
        if end.used.len() > REMEMBERED {
            end.used.pop_front();
            end.sent.pop_front();
        }
        Some(vec![(id, packet)])
    }

    /// Sends a packet that may have something wrong.
    pub fn as_it_is(&self, draft: &Draft<'_>) -> Option<Vec<(u32, Vec<u8>)>> {
        draft.packet().map(|(packet, _)| vec![(self.id, packet)])
    }

    /// Sends a packet that something happens to on its way; `change` is told where the AH begins.
    pub fn en_route(
        &mut self,
        draft: &Draft<'_>,
        change: impl FnOnce(&mut ChaCha12Rng, &mut Vec<u8>, usize),
    ) -> Option<Vec<(u32, Vec<u8>)>> {
        let (mut packet, ah_at) = draft.packet()?;
        change(&mut self.rng, &mut packet, ah_at);
        Some(vec![(self.id, packet)])
    }

    /// Sends the pieces of a packet.
    pub fn pieces(&self, pieces: impl IntoIterator<Item = Vec<u8>>) -> Option<Vec<(u32, Vec<u8>)>> {
        Some(pieces.into_iter().map(|piece| (self.id, piece)).collect())
    }
}
