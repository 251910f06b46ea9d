//! Constant rate: what leaves a tunnel with a rate leaves in slots, one packet a slot, whether there is anything to say or not
//! (protocol section 8, the paper's sections 5.4 and 6).
//!
//! ```text
//!   cells of many TVTs ─► fair queue ─┐                     ready: veiled, sealed, signed before its time
//!   signals ─► queue ─────────────────┼─► one a slot ─► [frame] ─── at the deadline ──► out
//!   none waits: a dummy ──────────────┘
//!
//!   slots       next += period, whatever happened          |-.-------|.--------|--.------|
//!   deadline    the slot's begin and a part of a sixteenth of it that only the tunnel's key knows
//!   a slot that passed whole without its packet is missed: counted, never made up for
//! ```
//!
//! Caches, interrupts and the kernel move a packet by a microsecond or two, a little more under load. Between packets that leave at
//! perfectly even times this shows (Fu, Graham, Bettati, Zhao 2003); beside the random part of the deadline it does not.
//!
//! On a PVT with a rate its AH association carries everything: `veil[8] | cell`, and in every so-many-th slot, the PVT's own, an ESP
//! packet, a signal or a dummy. A host tunnel has ESP packets alone. A dummy goes the way of all others, and is told apart by the
//! key of its tunnel only.
//!
//! Nothing here reads a clock: [`Engine::slots`] is told the time, and the worker that calls it begins nothing else while
//! [`Engine::slot_near`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use ain_crypto::{Backend, LayerJob, LayerOp};

use super::sign::signed;
use super::{Lane, Outgoing, Received, esp};
use crate::command::Handoff;
use crate::count::{Counters, SlotUse};
use crate::engine::Engine;
use crate::entry::Tvt;
use crate::fair::FairQueue;
use crate::id::{Now, PeerId, PortId, Spi};
use crate::limits::{
    DITHER_SHARE, RATE_CELLS, RATE_CELLS_OF_A_TVT, RATE_DATAGRAMS, RATE_SIGNALS, SLOT_GUARD_NS, SLOT_GUARD_SHARE,
};
use crate::outside::Outside;
use crate::packet::PacketBuf;
use crate::peers::Peers;
use crate::slab::Slab;
use crate::table::{Reader, TargetKind};
use crate::tunnel::{Disguise, Pace, Tunnel};
use crate::verdict::DropReason;
use crate::wire::protocol;

/// Bytes of the veil before a cell: SPI of the TVT, or 0 for a dummy, and four zero bytes, under the key stream.
pub const VEIL_LEN: usize = 8;

/// Whether this build keeps time as a careless shaper does: a control for the test of the real one, never a product. Slots follow the
/// packet before, a packet is made when it is due, and a dummy only when a last look for something better brought nothing.
const LATE: bool = cfg!(feature = "test-late-shaper");

/// Where a frame goes, and what it is.
struct Ready<B> {
    port: PortId,
    frame: B,
    is: SlotUse,
    deadline: Now,
}

/// The outbound side of one tunnel with a rate.
struct Shaper<B> {
    peer: PeerId,
    /// The tunnel's slot.
    tunnel: u32,
    /// A PVT's cells, by TVT.
    cells: FairQueue<B>,
    /// What own slots carry: a PVT's signals, or all that a host tunnel does.
    own: VecDeque<B>,
    /// How many those may be.
    own_most: usize,
    ready: Option<Ready<B>>,
    /// Whether that has been attempted for this slot: what cannot be sent costs one packet and not many.
    tried: bool,
    /// The slot's begin.
    next: Now,
    period_ns: u64,
    /// Slots used since the last that was the PVT's own.
    since_own: u32,
    /// [`LATE`] alone: this slot has been put off already.
    put_off: bool,
}

impl<B> Shaper<B> {
    /// Passes over the slot that is due, and those missed before it, which it returns.
    fn pass(&mut self, now: Now) -> u64 {
        self.tried = false;
        let missed = now.since(self.next) / self.period_ns;
        self.next = if LATE {
            now.plus(self.period_ns)
        } else {
            self.next.plus((missed + 1) * self.period_ns)
        };
        missed
    }

    /// [`LATE`] alone: a slot for which nothing waits comes a little later, in case something does by then.
    fn put_off(&mut self) -> Option<Now> {
        self.put_off = LATE && !self.put_off && self.cells.is_empty() && self.own.is_empty();
        self.put_off.then(|| {
            self.next = self.next.plus(self.period_ns / 16);
            self.next
        })
    }
}

/// All shapers of a worker, by deadline.
pub(crate) struct Shapers<B> {
    of_peer: Vec<Option<Shaper<B>>>,
    due: BinaryHeap<Reverse<(Now, u16)>>,
    shortest_ns: u64,
}

impl<B> Default for Shapers<B> {
    fn default() -> Self {
        Self {
            of_peer: Vec::new(),
            due: BinaryHeap::new(),
            shortest_ns: u64::MAX,
        }
    }
}

impl<B> Shapers<B> {
    /// Begins slots for a tunnel. Tunnels begin at different parts of their periods, so that
    /// their slots do not meet.
    pub(crate) fn add(&mut self, now: Now, (peer, tunnel): (PeerId, u32), pace: Pace) {
        let period_ns = pace.period_ns.get();
        let at = usize::from(peer.0);
        if self.of_peer.len() <= at {
            self.of_peer.resize_with(at + 1, || None);
        }
        self.due.retain(|Reverse((_, of))| *of != peer.0);
        let turn = u64::from(tunnel.wrapping_mul(GOLDEN) >> 16) * (period_ns >> 16);
        let next = now.plus(period_ns + turn);
        let (cells, own_most) = if pace.own_every.is_some() {
            (RATE_CELLS, RATE_SIGNALS)
        } else {
            (0, RATE_DATAGRAMS)
        };
        self.of_peer[at] = Some(Shaper {
            peer,
            tunnel,
            cells: FairQueue::new(cells, RATE_CELLS_OF_A_TVT),
            own: VecDeque::with_capacity(own_most),
            own_most,
            ready: None,
            tried: false,
            next,
            period_ns,
            since_own: 0,
            put_off: false,
        });
        self.due.push(Reverse((next, peer.0)));
        self.shortest_ns = self.shortest_ns.min(period_ns);
    }

    /// Ends the slots of the tunnel in a slot.
    pub(crate) fn remove(&mut self, tunnel: u32) {
        for shaper in &mut self.of_peer {
            if let Some(gone) = shaper.take_if(|shaper| shaper.tunnel == tunnel) {
                self.due.retain(|Reverse((_, of))| *of != gone.peer.0);
            }
        }
    }

    fn of(&mut self, peer: PeerId) -> Option<&mut Shaper<B>> {
        self.of_peer.get_mut(usize::from(peer.0))?.as_mut()
    }

    /// Queues a signal for a PVT, or a datagram for a host tunnel.
    pub(crate) fn queue_datagram(&mut self, counters: &Counters, of: PeerId, datagram: B) {
        match self.of(of) {
            Some(shaper) if shaper.own.len() < shaper.own_most => shaper.own.push_back(datagram),
            Some(_) => counters.dropped(DropReason::RateFull),
            None => counters.dropped(DropReason::Gone),
        }
    }

    /// How long before a deadline its worker begins nothing else: what a burst takes, but all tunnels together no more than a share of
    /// the time.
    fn guard_ns(&self) -> u64 {
        let share = self.shortest_ns / SLOT_GUARD_SHARE / (self.due.len().max(1) as u64);
        if LATE { 0 } else { share.min(SLOT_GUARD_NS) }
    }
}

/// 2^32 divided by the golden ratio: multiples of it modulo 2^32 lie far apart.
const GOLDEN: u32 = 0x9e37_79b9;

impl<C: Backend, B: PacketBuf> Engine<C, B> {
    /// The next deadline, none where no tunnel has a rate.
    pub fn next_slot(&self) -> Option<Now> {
        self.shapers.due.peek().map(|Reverse((next, _))| *next)
    }

    /// Whether the next deadline is so near that the worker should do nothing but call [`Self::slots`] until it has passed.
    pub fn slot_near(&self, now: Now) -> bool {
        self.next_slot()
            .is_some_and(|next| now.plus(self.shapers.guard_ns()) >= next)
    }

    /// Makes the packet of the next slot ready if that is near, and sends it if it is due.
    pub fn slots(&mut self, now: Now, peers: &Peers, io: &mut impl Outside<C, B>) {
        while self.slot_near(now) {
            let Some(&Reverse((next, of))) = self.shapers.due.peek() else {
                return;
            };
            if let Some(later) = self.shapers.of(PeerId(of)).and_then(Shaper::put_off) {
                self.shapers.due.pop();
                self.shapers.due.push(Reverse((later, of)));
                continue;
            }
            let deadline = self.make_ready(peers, PeerId(of), io).unwrap_or(next);
            self.shapers.due.pop();
            if now < deadline {
                self.shapers.due.push(Reverse((deadline, of)));
                if deadline == next {
                    return;
                }
                continue;
            }
            if let Some(next) = self.depart(now, PeerId(of), io) {
                self.shapers.due.push(Reverse((next, of)));
            }
        }
    }

    /// The packet leaves; when the next one shall.
    fn depart(&mut self, now: Now, of: PeerId, io: &mut impl Outside<C, B>) -> Option<Now> {
        let shaper = self.shapers.of(of)?;
        let missed = shaper.pass(now);
        match shaper.ready.take() {
            Some(Ready { port, frame, is, .. }) => {
                io.transmit(port, frame);
                self.counters.slots(is, 1);
                self.counters.slots(SlotUse::Missed, missed);
            }
            None => self.counters.slots(SlotUse::Missed, missed + 1),
        }
        Some(shaper.next)
    }

    /// Has the next packet veiled or sealed, and signed; when it shall leave.
    fn make_ready(&mut self, peers: &Peers, of: PeerId, io: &mut impl Outside<C, B>) -> Option<Now> {
        let shaper = self.shapers.of(of)?;
        if std::mem::replace(&mut shaper.tried, true) {
            return shaper.ready.as_ref().map(|ready| ready.deadline);
        }
        peers.outer(of).ok()?; // what waits can wait until the next hop is known, and there are associations
        let tunnel = self
            .tunnels
            .entry_mut(shaper.tunnel)
            .filter(|tunnel| tunnel.can_send())?;
        let own = tunnel.pace?.own_every.is_none_or(|every| shaper.since_own >= every);
        let made = if own {
            shaper.since_own = 1;
            let mut lane = Lane::new();
            let waiting = shaper.own.pop_front();
            let is = if waiting.is_some() {
                SlotUse::Own
            } else {
                SlotUse::Dummy
            };
            lane.extend(waiting.or_else(|| io.alloc()).map(|buf| (shaper.tunnel, buf)));
            let mut sealed = esp::seal(&mut self.crypto, &mut self.tunnels, &self.counters, &mut lane);
            sealed.pop().map(|packet| (packet, is))
        } else {
            shaper.since_own += 1;
            let waiting = shaper.cells.pop();
            let is = if waiting.is_some() {
                SlotUse::Cell
            } else {
                SlotUse::Dummy
            };
            let cell_len = peers.profile().cell_len();
            carry(&mut self.crypto, tunnel, waiting, cell_len, &self.counters, io).map(|packet| (packet, is))
        };
        let (packet, is) = made?;
        let deadline = self.deadline(of, packet.seq)?;
        let mut lane = Lane::new();
        lane.push(packet);
        let ready = &mut self.shapers.of(of)?.ready;
        signed(
            &mut self.crypto,
            &mut self.keys,
            peers,
            &self.counters,
            &mut lane,
            |port, frame| {
                *ready = Some(Ready {
                    port,
                    frame,
                    is,
                    deadline,
                });
            },
        );
        self.shapers.of(of)?.ready.as_ref().map(|ready| ready.deadline)
    }

    /// When the packet of this number leaves: at a point of the first part of its slot that no observer can foresee.
    fn deadline(&mut self, of: PeerId, number: u64) -> Option<Now> {
        let shaper = self.shapers.of(of)?;
        let disguise = self.tunnels.entry(shaper.tunnel)?.disguise()?;
        let part = if LATE { 0 } else { shaper.period_ns / DITHER_SHARE };
        Some(shaper.next.plus(disguise.dither.mask(number) % part.max(1)))
    }

    /// Takes the cells for PVTs with a rate out of `lane`.
    pub(crate) fn queue_cells(&mut self, peers: &Peers, lane: &mut Lane<Outgoing<B>>, io: &mut impl Outside<C, B>) {
        for packet in std::mem::take(lane) {
            if peers.has_rate(packet.peer) {
                self.queue_cell(peers, packet.peer, packet.spi, packet.buf, io);
            } else {
                lane.push(packet);
            }
        }
    }

    /// Queues a cell here, or hands it to the worker that owns the PVT.
    pub(crate) fn queue_cell(&mut self, peers: &Peers, of: PeerId, spi: Spi, cell: B, io: &mut impl Outside<C, B>) {
        let Some(owner) = peers.peer(of).map(|peer| peer.owner) else {
            return self.counters.dropped(DropReason::Gone);
        };
        if owner != self.id {
            if io.hand_over(owner, Handoff::Cell(of, spi, cell)).is_err() {
                self.counters.dropped(DropReason::HandoffFull);
            }
            return;
        }
        let queued = self.shapers.of(of).ok_or(DropReason::Gone);
        if let Err(why) = queued.and_then(|shaper| shaper.cells.push(spi, cell).map_err(|_| DropReason::RateFull)) {
            self.counters.dropped(why);
        }
    }

    /// Of authentic packets of tunnels, those that carry cells: unveiled, their TVTs looked up, ready to be peeled. Dummies end here,
    /// after the same work.
    pub(crate) fn unveil(&mut self, peers: &Peers, lane: &mut Lane<Received<B>>) -> Lane<Received<B>> {
        let cell_len = peers.profile().cell_len();
        let (mut cells, mut dummies) = (Lane::new(), Lane::new());
        for mut packet in std::mem::take(lane) {
            if packet.next_header != protocol::CELL {
                lane.push(packet);
                continue;
            }
            match unveiled(&self.tunnels, cell_len, &mut packet) {
                Ok(0) => dummies.push(packet),
                Ok(spi) => match find(&self.table, &self.tvts, packet.peer, spi) {
                    Ok((spi, slot)) => {
                        (packet.spi, packet.slot) = (spi, slot);
                        cells.push(packet);
                    }
                    Err(why) => self.counters.dropped(why),
                },
                Err(why) => self.counters.dropped(why),
            }
        }
        self.peel_dummies(&mut dummies);
        cells
    }

    /// A layer over each, as an intermediate AIN's cells get, for nothing.
    fn peel_dummies(&mut self, dummies: &mut Lane<Received<B>>) {
        let mut jobs: Lane<LayerJob<'_, C::LayerKey>> = Lane::new();
        for packet in dummies.iter_mut() {
            let disguise = self.tunnels.entry(packet.slot).and_then(Tunnel::disguise);
            if let Some(disguise) = disguise {
                jobs.push(noise(disguise, LayerOp::Decrypt, packet.buf.data_mut()));
            }
        }
        self.crypto.apply(&mut jobs);
    }
}

/// A cell of the TVT that it is queued for, or a dummy, under its veil.
fn carry<C: Backend, B: PacketBuf>(
    crypto: &mut C,
    tunnel: &mut Tunnel<C>,
    waiting: Option<(Spi, B)>,
    cell_len: usize,
    counters: &Counters,
    io: &mut impl Outside<C, B>,
) -> Option<Outgoing<B>> {
    let ah = tunnel.ah_out.newest_mut()?;
    let seq = ah
        .take(VEIL_LEN + cell_len)
        .inspect_err(|why| counters.dropped(*why))
        .ok()?;
    let disguise = ah.key.disguise.as_ref()?;
    let (spi, mut buf) = match waiting {
        Some((spi, cell)) => (spi.value(), cell),
        None => (0, dummy(crypto, disguise, seq, cell_len, io)?),
    };
    if buf.headroom() < VEIL_LEN {
        counters.dropped(DropReason::NoBuffer);
        return None;
    }
    let veil = u64::from(spi) << 32 ^ disguise.veil.mask(seq);
    buf.grow_front(VEIL_LEN);
    buf.data_mut()[..VEIL_LEN].copy_from_slice(&veil.to_be_bytes());
    Some(Outgoing {
        buf,
        peer: tunnel.peer,
        spi: ah.spi,
        key: ah.key.slot,
        seq,
        esn: ah.esn,
        next_header: protocol::CELL,
    })
}

/// A cell that says nothing: a layer over a number that never comes again.
fn dummy<C: Backend, B: PacketBuf>(
    crypto: &mut C,
    disguise: &Disguise<C>,
    seq: u64,
    cell_len: usize,
    io: &mut impl Outside<C, B>,
) -> Option<B> {
    let mut buf = io.alloc().filter(|buf| buf.tailroom() >= cell_len)?;
    buf.grow_back(cell_len);
    let cell = buf.data_mut();
    cell.fill(0);
    cell[..8].copy_from_slice(&seq.to_be_bytes());
    crypto.apply(&mut [noise(disguise, LayerOp::Encrypt, cell)]);
    Some(buf)
}

fn noise<'a, C: Backend>(disguise: &'a Disguise<C>, op: LayerOp, cell: &'a mut [u8]) -> LayerJob<'a, C::LayerKey> {
    LayerJob {
        key: &disguise.noise,
        tweak: [0; 16],
        op,
        cell,
    }
}

/// Takes the veil off; the number of the SPI under it.
fn unveiled<C: Backend, B: PacketBuf>(
    tunnels: &Slab<Tunnel<C>>,
    cell_len: usize,
    packet: &mut Received<B>,
) -> Result<u32, DropReason> {
    let sa = tunnels.entry(packet.slot).and_then(|tunnel| tunnel.ah_in(packet.spi));
    let under = sa.and_then(|sa| sa.key.veil.as_ref()).ok_or(DropReason::Gone)?;
    let veil = packet.buf.data().first_chunk().copied().map(u64::from_be_bytes);
    let veil = veil
        .filter(|_| packet.buf.data().len() == VEIL_LEN + cell_len)
        .ok_or(DropReason::CellLength)?;
    let plain = veil ^ under.mask(packet.seq.0);
    packet.buf.trim_front(VEIL_LEN);
    if plain as u32 == 0 {
        Ok((plain >> 32) as u32)
    } else {
        Err(DropReason::Malformed)
    }
}

/// The slot of the TVT that a cell on a carrier belongs to.
fn find<C: Backend>(table: &Reader, tvts: &Slab<Tvt<C>>, peer: PeerId, spi: u32) -> Result<(Spi, u32), DropReason> {
    let spi = Spi::new(spi).ok_or(DropReason::UnknownSpi)?;
    let target = table
        .lookup(peer, spi)
        .filter(|target| target.kind == TargetKind::Carried);
    let slot = target.ok_or(DropReason::UnknownSpi)?.slot;
    let tvt = tvts.entry(slot).filter(|tvt| (tvt.peer, tvt.spi) == (peer, spi));
    tvt.map(|_| (spi, slot)).ok_or(DropReason::Gone)
}
