//! What passes between the control thread and the workers, and between workers.

use std::net::IpAddr;
use std::sync::Arc;

use ain_crypto::Backend;

use crate::entry::{AhKey, Flow, Tvt, Way};
use crate::id::{AivtId, FlowId, FlowTag, KeySlot, Pair, PeerId, Spi};
use crate::reserve::Reserved;
use crate::tunnel::{Association, SaDirection, SaProtocol, Tunnel};

/// Control thread to worker. Entries arrive ready-made: a worker never expands a key.
pub enum Command<C: Backend, B> {
    /// An AH key schedule for tunnels and TVTs.
    Key {
        /// Its slot, the same on every worker.
        slot: KeySlot,
        /// The schedule.
        key: Arc<AhKey<C>>,
        /// This worker's explicit IVs under the key, for GMAC outbound.
        iv: Option<IvSource>,
    },
    /// The key's slot is free again.
    RemoveKey(KeySlot),
    /// A tunnel whose owner this worker is.
    Tunnel(u32, Box<Tunnel<C>>),
    /// The tunnel is gone.
    RemoveTunnel(u32),
    /// An association of the tunnel in a slot; it takes the place of the one before it, or of the oldest where there are too many.
    AddSa(u32, Association<C>),
    /// An association of the tunnel is over.
    RemoveSa(u32, SaDirection, SaProtocol, Spi),
    /// An inbound TVT whose owner this worker is.
    Tvt(u32, Box<Tvt<C>>),
    /// The TVT is gone.
    RemoveTvt(u32),
    /// An AIVT now carries the entrance's flow; datagrams that waited leave.
    OpenFlow(FlowId, Box<Way<C>>),
    /// The flow's AIVT is gone; datagrams wait again.
    SuspendFlow(FlowId),
    /// The source to show for a flow.
    Rewrite(FlowId, IpAddr),
    /// Forget the flow; tell the initiator if refused.
    CloseFlow(FlowId, Closing),
    /// The exit's answers of `Flow::pair` through `Flow::tunnel` go into an AIVT.
    AnswerFlow(Box<Flow<C>>),
    /// No longer.
    RemoveAnswerFlow(PeerId, Pair),
    /// The exit's AIVT in a TVT slot is bound: datagrams that waited leave through the tunnel.
    Bind {
        /// The inbound TVT.
        slot: u32,
        /// The responder's tunnel, or [`PeerId::INTERNET`].
        tunnel: PeerId,
        /// The forward pair.
        pair: Pair,
        /// The flow that the AIVT carries.
        flow: FlowTag,
    },
    /// The exit refuses: send one verdict cell and drop what waits on the TVT in `slot`.
    Refuse {
        /// The inbound TVT.
        slot: u32,
        /// Backward way, for this one cell.
        way: Box<Way<C>>,
        /// Reason.
        verdict: u8,
    },
    /// The exit's AIVT that answers of this tunnel and pair go into: send one verdict cell along it.
    Verdict {
        /// The responder's tunnel.
        tunnel: PeerId,
        /// As the responder sends.
        pair: Pair,
        /// Reason.
        verdict: u8,
    },
    /// Seal a whole inner datagram, a signal or an answer of this node, into the tunnel of a peer.
    Signal(PeerId, B),
    /// A datagram of the node's own, from [`crate::peers::PeerKind::Own`].
    Enter(PeerId, B),
}

/// Whether a closed flow's initiator hears of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closing {
    /// No.
    Silently,
    /// ICMP communication administratively prohibited.
    Prohibited,
}

/// Explicit IVs of one worker under one key (protocol section 2): (worker u8 | counter u56) XOR mask.
#[derive(Debug)]
pub struct IvSource {
    /// Counters; the worker's number is in the top byte of the grant.
    pub counter: Reserved,
    /// A secret of the key.
    pub mask: u64,
}

impl IvSource {
    /// The next IV as a number, big-endian on the wire, or `None` until the grant is extended.
    pub fn take(&mut self) -> Option<u64> {
        self.counter.take().map(|n| n ^ self.mask)
    }
}

/// Worker to control thread.
pub enum Event<C: Backend, B> {
    /// A signal came through a PVT: the inner datagram.
    Signal(PeerId, B),
    /// A datagram for this node itself: from the other end of a host tunnel (UDP port 4797), or out of an AIVT for the node as its own
    /// host.
    ForNode(PeerId, B),
    /// An initiator's datagram with no AIVT; it waits.
    NewFlow {
        /// Chosen by the worker.
        flow: FlowId,
        /// The initiator's tunnel.
        tunnel: PeerId,
        /// The pair as sent.
        pair: Pair,
    },
    /// The first datagram of an AIVT at its exit; it waits.
    FirstDatagram(AivtId, Pair),
    /// A cell that passed AH but not the last layer's check: a hop misbehaves. An edge tells this or a verdict, once.
    Misbehaviour(AivtId),
    /// The exit's verdict reached the entrance. An edge tells this or misbehaviour, once.
    Verdict(AivtId, u8),
    /// An entry comes home to be freed and its keys erased.
    Retired(Retired<C>),
}

/// Entries on their way to be freed on the control thread.
pub enum Retired<C: Backend> {
    /// A tunnel.
    Tunnel(Box<Tunnel<C>>),
    /// An association.
    Sa(Association<C>),
    /// A TVT.
    Tvt(Box<Tvt<C>>),
    /// A way.
    Way(Box<Way<C>>),
    /// A flow.
    Flow(Box<Flow<C>>),
    /// A key.
    Key(Arc<AhKey<C>>),
}

/// Worker to worker.
#[derive(Debug)]
pub enum Handoff<B> {
    /// A packet whose association the other worker owns, from its IP header on; looked up again there.
    Packet(B),
    /// A datagram for a host's tunnel.
    Datagram(PeerId, B),
    /// A cell for a TVT of a PVT with a rate.
    Cell(PeerId, Spi, B),
    /// A datagram of this node's making that goes back into the AIVT of an answer flow, or into an initiator's flow.
    IntoFlow(PeerId, Pair, B),
    /// A packet of the Internet, from its IP header on, for an external port of the other worker's.
    FromInternet(B),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::reserve::Grant;

    fn source(worker: u8, next: u64, limit: u64, mask: u64) -> IvSource {
        let top = u64::from(worker) << 56;
        IvSource {
            counter: Reserved::new(Grant::new(top + next, top + limit)),
            mask,
        }
    }

    #[test]
    fn ivs_are_masked_counters() {
        let mut ivs = source(3, 0x10, 0x12, 0xff00_0000_0000_00f0);
        assert_eq!(ivs.take(), Some(0xfc00_0000_0000_00e0));
        assert_eq!(ivs.take(), Some(0xfc00_0000_0000_00e1));
        assert_eq!(ivs.take(), None);
    }

    proptest! {
        #[test]
        fn ivs_of_workers_never_meet(mask: u64, next in 0u64..1000, take in 1usize..50) {
            let mut seen = BTreeSet::new();
            for worker in 0..4 {
                let mut ivs = source(worker, next, 1 << 56, mask);
                for _ in 0..take {
                    prop_assert!(seen.insert(ivs.take().unwrap()));
                }
            }
        }
    }
}
