//! A host's datagram: an answer into the AIVT it is bound to, or an initiator's into the AIVT of its flow. The first of a flow asks
//! the control thread for an AIVT; datagrams wait in order until it is there (protocol section 7).

use std::net::IpAddr;

use ain_crypto::Backend;

use crate::allowance::OfInitiator;
use crate::command::Event;
use crate::count::Traffic;
use crate::engine::Engine;
use crate::entry::{Flow, FlowEnd};
use crate::icmp::{self, Problem};
use crate::id::{Now, Pair, PeerId};
use crate::outside::Outside;
use crate::packet::PacketBuf;
use crate::peers::{HostPolicy, Peers};
use crate::verdict::DropReason;
use crate::waiting::WaitsFor;
use crate::wire::WireError;
use crate::wire::ip::{self, Ip};
use crate::{mss, rewrite};

/// What an inner datagram says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub pair: Pair,
    pub ttl: u8,
    pub dont_fragment: bool,
}

/// Reads an inner datagram.
pub(crate) fn look(datagram: &[u8]) -> Result<Seen, DropReason> {
    let ip = Ip::parse(datagram).map_err(|error| match error {
        WireError::Version => DropReason::WrongProtocol,
        _ => DropReason::InnerMalformed,
    })?;
    let pair = Pair {
        source: ip.source(),
        destination: ip.destination(),
    };
    Ok(Seen {
        pair,
        ttl: ip.ttl(),
        dont_fragment: ip.dont_fragment(),
    })
}

impl<C: Backend, B: PacketBuf> Engine<C, B> {
    /// Takes a datagram out of a host tunnel.
    pub(crate) fn enter(
        &mut self,
        now: Now,
        peers: &Peers,
        (tunnel, policy): (PeerId, &HostPolicy),
        mut buf: B,
        io: &mut impl Outside<C, B>,
    ) {
        self.counters.moved(Traffic::HostIn, buf.data().len());
        let seen = match look(buf.data()) {
            Ok(seen) => seen,
            Err(why) => return self.counters.dropped(why),
        };
        mss::clamp(buf.data_mut(), policy.inner_mtu);
        let found = self.flows.find(tunnel, seen.pair);
        let answers = found.is_some_and(|slot| self.flows.slab().entry(slot).is_some_and(|f| f.end == FlowEnd::Exit));
        if !answers {
            if !policy.initiator {
                return self.counters.dropped(DropReason::NoBinding);
            }
            if let Some(allowance) = policy.allowance
                && let Some(used) = self.used_by(peers, tunnel)
                && !used.bytes.admit(now, allowance, buf.data().len())
            {
                return self.counters.dropped(DropReason::InitiatorRate);
            }
            if seen.ttl <= 1 {
                self.counters.dropped(DropReason::TtlExceeded);
                return self.complain(peers, tunnel, Problem::TtlExceeded, buf.data(), io);
            }
            if ip::decrement_ttl(buf.data_mut()).is_err() {
                return self.counters.dropped(DropReason::InnerMalformed);
            }
        }
        if found.is_none() && self.refused.knows(now, tunnel, seen.pair) {
            self.counters.dropped(DropReason::Refused);
            return self.complain(peers, tunnel, Problem::AdministrativelyProhibited, buf.data(), io);
        }
        if found.is_none()
            && let Some(allowance) = policy.flows
            && let Some(used) = self.used_by(peers, tunnel)
            && !used.flows.admit(now, allowance, 1)
        {
            return self.counters.dropped(DropReason::InitiatorFlows);
        }
        match found.or_else(|| self.begin(tunnel, seen.pair, buf.data(), io)) {
            Some(slot) => self.enter_flow(now, peers, slot, buf, io),
            None => self.counters.dropped(DropReason::ControlFull),
        }
    }

    /// What the initiator behind `tunnel` has used of its allowances.
    fn used_by(&mut self, peers: &Peers, tunnel: PeerId) -> Option<&mut OfInitiator> {
        self.initiators.get_mut(peers.peer(tunnel)?.tunnel as usize)
    }

    /// Begins a flow and asks for its AIVT.
    fn begin(&mut self, tunnel: PeerId, pair: Pair, first: &[u8], io: &mut impl Outside<C, B>) -> Option<u32> {
        let (slot, flow) = self.flows.begin(tunnel, pair, icmp::opening(first))?;
        if io.report(Event::NewFlow { flow, tunnel, pair }).is_err() {
            self.flows.end(slot);
            return None;
        }
        Some(slot)
    }

    /// Puts a datagram into an open flow's burst, or lets it wait.
    pub(crate) fn enter_flow(&mut self, now: Now, peers: &Peers, slot: u32, mut buf: B, io: &mut impl Outside<C, B>) {
        let Some(flow) = self.flows.entry_mut(slot) else {
            return self.counters.dropped(DropReason::Gone);
        };
        if flow.way.is_none() {
            if self.waiting.push(WaitsFor::Flow(slot), flow.tunnel, buf).is_some() {
                self.counters.dropped(DropReason::WaitedTooLong);
            }
            return;
        }
        match show(flow, buf.data_mut()) {
            Ok(()) => self.queue(now, peers, slot, buf, io),
            Err(why) => {
                let tunnel = flow.tunnel;
                self.counters.dropped(why);
                // An inner AH cannot live with another source: its sender shall know (protocol section 7).
                self.complain(peers, tunnel, Problem::AdministrativelyProhibited, buf.data(), io);
            }
        }
    }

    /// Queues a datagram that is as the AIVT shall carry it.
    pub(crate) fn queue(&mut self, now: Now, peers: &Peers, slot: u32, buf: B, io: &mut impl Outside<C, B>) {
        if self.ready.is_full() {
            self.flush_ready(now, peers, io);
        }
        self.ready.push((slot, buf));
    }

    /// Tells the sender of a datagram that came in through a tunnel why it goes no further.
    pub(crate) fn complain(
        &mut self,
        peers: &Peers,
        tunnel: PeerId,
        problem: Problem,
        datagram: &[u8],
        io: &mut impl Outside<C, B>,
    ) {
        let error = look(datagram)
            .ok()
            .and_then(|seen| icmp_error(own_address(peers, tunnel, seen.pair), problem, datagram, io));
        self.outbox.extend(error.map(|error| (tunnel, error)));
    }

    /// Tells the initiator of a flow none of whose datagrams is here any more that the flow is refused.
    pub(crate) fn complain_of_opening(&mut self, peers: &Peers, flow: &Flow<C>, io: &mut impl Outside<C, B>) {
        let between = (own_address(peers, flow.tunnel, flow.pair), flow.pair.source);
        let error = written(io, |out| icmp::prohibited(&flow.opening, between, out));
        self.outbox.extend(error.map(|error| (flow.tunnel, error)));
    }
}

/// Gives the datagram the source that the flow shows.
fn show<C: Backend>(flow: &Flow<C>, datagram: &mut [u8]) -> Result<(), DropReason> {
    match flow.end {
        FlowEnd::Entrance {
            shown: Some(source), ..
        } => rewrite::source(datagram, source).map_err(|_| DropReason::NotRewritable),
        FlowEnd::Entrance { shown: None, .. } | FlowEnd::Exit => Ok(()),
    }
}

/// An ICMP error about `datagram` in a buffer of its own; none where RFC 1122 or RFC 4443 forbids one or no buffer is free.
pub(crate) fn icmp_error<C: Backend, B: PacketBuf>(
    source: IpAddr,
    problem: Problem,
    datagram: &[u8],
    io: &mut impl Outside<C, B>,
) -> Option<B> {
    let about = Ip::parse(datagram).ok()?;
    written(io, |out| icmp::error(problem, &about, source, out))
}

/// A buffer that holds what `write` puts there.
fn written<C: Backend, B: PacketBuf>(
    io: &mut impl Outside<C, B>,
    write: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Option<B> {
    let mut buf = io.alloc()?;
    let room = buf.tailroom().min(icmp::MAX_ERROR);
    buf.grow_back(room);
    let len = write(buf.data_mut())?;
    buf.truncate(len);
    Some(buf)
}

/// Who tells the sender of a flow through `tunnel` about it: this node's address at the outside of the tunnel. If that is of the other
/// family, the node has none to show inside and speaks in the name of the destination, which the host's own selectors let pass.
fn own_address(peers: &Peers, tunnel: PeerId, of: Pair) -> IpAddr {
    peers
        .peer(tunnel)
        .map(|peer| peer.local)
        .filter(|local| local.is_ipv4() == of.source.is_ipv4())
        .unwrap_or(of.destination)
}
