//! The story of a packet, one short function a direction. Each line is a stage; each stage takes the whole burst.
//!
//! ```text
//!   from the wire      classify → verify → peel → forward → sign → out
//!                                    │        └→ deliver → seal → sign → out
//!                                    └→ open → enter → pack → wrap → sign → out
//!                        └→ strays: of the Internet, for an open exit → pack → wrap → sign → out
//!                                    └→ exception: of the kernel, where it does not share the port → a tap
//!   from a worker      the same from `classify` on, or a datagram for a tunnel or a flow that this worker owns
//!   from the device    (`ain endpoint`) seal → sign → out
//!   out                at once, or in slots where the tunnel has a rate (`stage::shape`)
//! ```

use ain_crypto::{Backend, LayerJob, LayerOp};

use crate::command::{Event, Handoff};
use crate::count::Traffic;
use crate::engine::Engine;
use crate::entry::Way;
use crate::id::{Now, PeerId, PortId};
use crate::outside::Outside;
use crate::packet::PacketBuf;
use crate::peers::{PeerKind, Peers};
use crate::stage::classify::{Sorter, Source};
use crate::stage::for_node::{for_own, is_for};
use crate::stage::forward::{forward, outgoing};
use crate::stage::internet::Stray;
use crate::stage::layer::{peel, wrap};
use crate::stage::pack::{FreshCell, pack};
use crate::stage::sign::sign;
use crate::stage::verify::verify;
use crate::stage::{Lane, Outgoing, Received, esp};
use crate::verdict::DropReason;

impl<C: Backend, B: PacketBuf> Engine<C, B> {
    /// A burst of Ethernet frames from a port.
    pub fn from_wire(
        &mut self,
        now: Now,
        peers: &Peers,
        port: PortId,
        frames: &mut Lane<B>,
        io: &mut impl Outside<C, B>,
    ) {
        self.packets(now, peers, Source::Wire(port), frames, io);
        self.flush(now, peers, io);
    }

    /// What other workers handed over.
    pub fn from_workers(&mut self, now: Now, peers: &Peers, items: &mut Lane<Handoff<B>>, io: &mut impl Outside<C, B>) {
        let (mut packets, mut strays) = (Lane::new(), Lane::new());
        for item in items.drain(..) {
            match item {
                Handoff::Packet(packet) => packets.push(packet),
                Handoff::Datagram(tunnel, datagram) => self.outbox.push_back((tunnel, datagram)),
                Handoff::Cell(peer, spi, cell) => self.queue_cell(peers, peer, spi, cell, io),
                Handoff::IntoFlow(tunnel, pair, datagram) => self.into_flow.push_back((tunnel, pair, datagram)),
                Handoff::FromInternet(packet) => strays.push(Stray::Ours(packet)),
            }
        }
        self.packets(now, peers, Source::Worker, &mut packets, io);
        self.strays(now, peers, &mut strays, io);
        self.flush(now, peers, io);
    }

    /// Datagrams from the local device for the gateway's tunnel (`ain endpoint`).
    pub fn from_device(
        &mut self,
        now: Now,
        peers: &Peers,
        gateway: PeerId,
        datagrams: &mut Lane<B>,
        io: &mut impl Outside<C, B>,
    ) {
        self.outbox
            .extend(datagrams.drain(..).map(|datagram| (gateway, datagram)));
        self.flush(now, peers, io);
    }

    /// Gives up pieces of datagrams that waited too long. Call a few times a second.
    pub fn tick(&mut self, now: Now) {
        let expired = self.pool.expire(now);
        self.counters.dropped_many(DropReason::ReassemblyLost, expired);
        if let Some(open) = self.open_exit.as_mut() {
            let late = open.tick(now);
            self.counters.dropped_many(DropReason::OpenExitFragment, late);
            self.counters.mappings(open.nat.made());
        }
    }

    /// Packets from their IP header on (or from Ethernet, by `source`).
    fn packets(&mut self, now: Now, peers: &Peers, source: Source, burst: &mut Lane<B>, io: &mut impl Outside<C, B>) {
        let sorter = Sorter {
            me: self.id,
            table: &self.table,
            peers,
            counters: &self.counters,
            keeps_strays: self.open_exit.is_some() || !self.given.is_empty(),
        };
        let (mut tvts, mut tunnels, mut strays) = (Lane::new(), Lane::new(), Lane::new());
        sorter.classify(source, burst, &mut tvts, &mut tunnels, &mut strays, io);
        self.cells(now, peers, &mut tvts, io);
        self.tunnel_packets(now, peers, &mut tunnels, io);
        if !strays.is_empty() {
            self.strays(now, peers, &mut strays, io);
        }
    }

    /// TVT packets: one layer, then on, or out at an edge.
    fn cells(&mut self, now: Now, peers: &Peers, lane: &mut Lane<Received<B>>, io: &mut impl Outside<C, B>) {
        if lane.is_empty() {
            return;
        }
        self.tvts.prefetch(lane.iter().map(|packet| packet.slot));
        verify(&mut self.crypto, &self.keys, &mut self.tvts, &self.counters, lane);
        self.authentic_cells(now, peers, lane, io);
    }

    /// Cells whose packets have been verified.
    fn authentic_cells(&mut self, now: Now, peers: &Peers, lane: &mut Lane<Received<B>>, io: &mut impl Outside<C, B>) {
        peel(
            &mut self.crypto,
            &self.tvts,
            &self.counters,
            peers.profile().cell_len(),
            lane,
        );
        let mut onward = Lane::new();
        forward(now, &mut self.tvts, &self.counters, lane, &mut onward);
        self.send(peers, &mut onward, io);
        self.deliver(now, peers, lane, io);
    }

    /// Packets of PVTs and host tunnels: signals for the control thread, datagrams of hosts.
    fn tunnel_packets(&mut self, now: Now, peers: &Peers, lane: &mut Lane<Received<B>>, io: &mut impl Outside<C, B>) {
        if lane.is_empty() {
            return;
        }
        verify(&mut self.crypto, &self.keys, &mut self.tunnels, &self.counters, lane);
        if peers.have_rates() {
            let mut cells = self.unveil(peers, lane);
            self.authentic_cells(now, peers, &mut cells, io);
        }
        for (peer, datagram) in esp::open(&mut self.crypto, &mut self.tunnels, &self.counters, lane) {
            let Some(known) = peers.peer(peer) else {
                self.counters.dropped(DropReason::Gone);
                continue;
            };
            match &known.kind {
                PeerKind::Neighbour => self.signal(peer, datagram, io),
                _ if is_for(known.local, datagram.data()) => self.for_node(now, (peer, known), datagram, io),
                PeerKind::Host(policy) => self.enter(now, peers, (peer, policy), datagram, io),
                PeerKind::Gateway => self.device(datagram, io),
                PeerKind::Own(_) => self.counters.dropped(DropReason::Gone),
            }
        }
    }

    fn signal(&mut self, peer: PeerId, datagram: B, io: &mut impl Outside<C, B>) {
        self.counters.moved(Traffic::PvtIn, datagram.data().len());
        if io.report(Event::Signal(peer, datagram)).is_err() {
            self.counters.dropped(DropReason::ControlFull);
        }
    }

    fn device(&mut self, datagram: B, io: &mut impl Outside<C, B>) {
        self.counters.moved(Traffic::HostOut, datagram.data().len());
        io.deliver(datagram);
    }

    /// Everything that the stages have queued goes out. What a datagram causes (an ICMP error back into a flow) causes nothing more.
    pub(crate) fn flush(&mut self, now: Now, peers: &Peers, io: &mut impl Outside<C, B>) {
        while let Some((tunnel, pair, datagram)) = self.into_flow.pop_front() {
            self.return_to_flow(now, peers, tunnel, pair, datagram, io);
        }
        self.flush_ready(now, peers, io);
        self.flush_outbox(now, peers, io);
    }

    /// Datagrams of open flows: into cells, under their layers, out.
    pub(crate) fn flush_ready(&mut self, now: Now, peers: &Peers, io: &mut impl Outside<C, B>) {
        let cell_len = peers.profile().cell_len();
        pack(
            now,
            &mut self.flows,
            &self.counters,
            cell_len,
            &mut self.ready,
            &mut self.fresh,
            io,
        );
        while !self.fresh.is_empty() {
            let burst = self.fresh.len().min(crate::limits::BURST);
            let mut cells: Lane<FreshCell<B>> = self.fresh.drain(..burst).collect();
            wrap(&mut self.crypto, self.flows.slab(), &mut cells);
            let mut onward = Lane::new();
            for cell in cells {
                let way = self.flows.entry_mut(cell.flow).and_then(|flow| flow.way.as_deref_mut());
                match way {
                    Some(way) => onward.push(outgoing(&mut way.out, cell.buf)),
                    None => self.counters.dropped(DropReason::Gone),
                }
            }
            self.send(peers, &mut onward, io);
        }
    }

    /// Datagrams and signals for tunnels: sealed here, or handed to the worker that owns the tunnel.
    fn flush_outbox(&mut self, now: Now, peers: &Peers, io: &mut impl Outside<C, B>) {
        while !self.outbox.is_empty() {
            let burst = self.outbox.len().min(crate::limits::BURST);
            let mut mine: Lane<(u32, B)> = Lane::new();
            for (id, datagram) in self.outbox.drain(..burst) {
                let Some(peer) = peers.peer(id) else {
                    self.counters.dropped(DropReason::Gone);
                    continue;
                };
                if matches!(peer.kind, PeerKind::Own(_)) {
                    let admitted = is_for(peer.local, datagram.data()) && self.for_own.admit(now);
                    for_own(&self.counters, admitted, id, datagram, io);
                } else if peer.owner == self.id {
                    let traffic = if matches!(peer.kind, PeerKind::Neighbour) {
                        Traffic::PvtOut
                    } else {
                        Traffic::HostOut
                    };
                    self.counters.moved(traffic, datagram.data().len());
                    if peers.has_rate(id) {
                        self.shapers.queue_datagram(&self.counters, id, datagram);
                    } else {
                        mine.push((peer.tunnel, datagram));
                    }
                } else if io.hand_over(peer.owner, Handoff::Datagram(id, datagram)).is_err() {
                    self.counters.dropped(DropReason::HandoffFull);
                }
            }
            let mut onward = esp::seal(&mut self.crypto, &mut self.tunnels, &self.counters, &mut mine);
            self.send(peers, &mut onward, io);
        }
    }

    /// Signs and sends cells and sealed datagrams; where the PVT has a rate, cells wait for their slots instead.
    fn send(&mut self, peers: &Peers, lane: &mut Lane<Outgoing<B>>, io: &mut impl Outside<C, B>) {
        if peers.have_rates() {
            self.queue_cells(peers, lane, io);
        }
        sign(&mut self.crypto, &mut self.keys, peers, &self.counters, lane, io);
    }

    fn return_to_flow(
        &mut self,
        now: Now,
        peers: &Peers,
        tunnel: PeerId,
        pair: crate::id::Pair,
        datagram: B,
        io: &mut impl Outside<C, B>,
    ) {
        let owner = match tunnel {
            PeerId::INTERNET => Some(self.id),
            _ => peers.peer(tunnel).map(|peer| peer.owner),
        };
        if owner != Some(self.id) {
            let Some(owner) = owner else {
                return self.counters.dropped(DropReason::Gone);
            };
            if io.hand_over(owner, Handoff::IntoFlow(tunnel, pair, datagram)).is_err() {
                self.counters.dropped(DropReason::HandoffFull);
            }
            return;
        }
        match self.flows.find(tunnel, pair) {
            Some(slot) => self.queue(now, peers, slot, datagram, io),
            None => self.counters.dropped(DropReason::Gone),
        }
    }

    /// Sends one cell along a way that no flow holds.
    pub(crate) fn send_alone(&mut self, peers: &Peers, way: &mut Way<C>, mut cell: B, io: &mut impl Outside<C, B>) {
        for key in way.layers.iter() {
            let job = LayerJob {
                key,
                tweak: way.tweak,
                op: LayerOp::Encrypt,
                cell: cell.data_mut(),
            };
            self.crypto.apply(&mut [job]);
        }
        self.counters.moved(Traffic::ExitBackward, cell.data().len());
        let mut onward = Lane::new();
        onward.push(outgoing(&mut way.out, cell));
        self.send(peers, &mut onward, io);
    }
}
