//! A node's part in an AIVT as entries of the packet path: inbound halves in the workers that own them, ways for what leaves.

use std::sync::Arc;

use ain_crypto::{Backend, Direction, LayerOp};
use ain_dataplane::aggfrag::Unpacker;
use ain_dataplane::command::Command;
use ain_dataplane::entry::{Activity, Edge, EdgeTo, Layers, Next, Touch, Tvt, TvtOut, Way};
use ain_dataplane::id::{AivtId, FlowId, FlowTag, KeySlot, WorkerId};
use ain_dataplane::sa::TvtWindow;
use ain_dataplane::table::{Target, TargetKind};
use arrayvec::ArrayVec;

use super::tunnels::TvtKeys;
use super::{ExitPart, FlowFacts, Half, Installed, Part, TableError, TableWriter};
use crate::action::{HopKeys, KeyedLink, Link};

impl<C: Backend, B> TableWriter<C, B> {
    pub(super) fn install_intermediate(
        &mut self,
        aivt: AivtId,
        upstream: KeyedLink,
        downstream: KeyedLink,
        keys: &HopKeys,
        activity: &Arc<Activity>,
    ) -> Result<Installed, TableError> {
        let (to_exit, to_entrance) = (self.tvt_out(downstream)?, self.tvt_out(upstream)?);
        let forward = Next::Relay {
            out: to_exit,
            direction: Direction::Forward,
        };
        let backward = Next::Relay {
            out: to_entrance,
            direction: Direction::Backward,
        };
        let owner = self.owner_for(upstream.link);
        let first = self.add_half(owner, upstream, |spi_key| {
            half(
                aivt,
                upstream.link,
                spi_key,
                Direction::Forward,
                LayerOp::Decrypt,
                &[keys],
                forward,
                activity,
            )
        })?;
        let owner = self.owner_for(downstream.link);
        let second = self.add_half(owner, downstream, |spi_key| {
            half(
                aivt,
                downstream.link,
                spi_key,
                Direction::Backward,
                LayerOp::Encrypt,
                &[keys],
                backward,
                activity,
            )
        });
        let second = second.inspect_err(|_| self.remove_half(first))?;
        Ok(Installed {
            halves: [first, second].into(),
            part: Part::Intermediate,
        })
    }

    pub(super) fn install_entrance(
        &mut self,
        aivt: AivtId,
        flow: FlowId,
        downstream: KeyedLink,
        keys: &[HopKeys],
        activity: &Arc<Activity>,
    ) -> Result<Installed, TableError> {
        let FlowFacts { tunnel, pair, shown } = *self.flows.get(&flow).ok_or(TableError::Unknown("flow"))?;
        let owner = self.peers.get(&tunnel).ok_or(TableError::Unknown("tunnel"))?.owner;
        if keys.is_empty() {
            return Err(TableError::Unknown("hop"));
        }
        let edge = edge(aivt, EdgeTo::Initiator { tunnel, pair, shown });
        let nearest_first: Vec<&HopKeys> = keys.iter().collect();
        let back = self.add_half(
            self.carrier_owner(downstream.link).unwrap_or(owner),
            downstream,
            |spi_key| {
                half(
                    aivt,
                    downstream.link,
                    spi_key,
                    Direction::Backward,
                    LayerOp::Decrypt,
                    &nearest_first,
                    edge,
                    activity,
                )
            },
        )?;
        let farthest_first: Vec<&HopKeys> = keys.iter().rev().collect();
        let out = self.tvt_out(downstream)?;
        let way = Box::new(way(aivt, Direction::Forward, &farthest_first, out, activity));
        self.command(owner, Command::OpenFlow(flow, way));
        Ok(Installed {
            halves: ArrayVec::from_iter([back]),
            part: Part::Entrance(flow),
        })
    }

    pub(super) fn install_exit(
        &mut self,
        aivt: AivtId,
        upstream: KeyedLink,
        keys: HopKeys,
        flow: FlowTag,
        activity: &Arc<Activity>,
    ) -> Result<Installed, TableError> {
        let before = self
            .open_flows
            .worker(activity.last(), flow)
            .filter(|_| self.carrier_owner(upstream.link).is_none());
        let owner = before.unwrap_or_else(|| self.owner_for(upstream.link));
        let edge = edge(aivt, EdgeTo::Unbound { asked: None });
        let forward = self.add_half(owner, upstream, |spi_key| {
            half(
                aivt,
                upstream.link,
                spi_key,
                Direction::Forward,
                LayerOp::Decrypt,
                &[&keys],
                edge,
                activity,
            )
        })?;
        let part = ExitPart {
            keys,
            upstream,
            flow,
            bound: None,
            verdicts: 0,
            activity: Arc::clone(activity),
        };
        Ok(Installed {
            halves: ArrayVec::from_iter([forward]),
            part: Part::Exit(Box::new(part)),
        })
    }

    pub(super) fn way_back(&self, aivt: AivtId) -> Result<Way<C>, TableError> {
        let installed = self.aivts.of(aivt).ok_or(TableError::Unknown("AIVT"))?;
        match &installed.part {
            Part::Exit(exit) if exit.bound.is_none() => {
                let mut out = self.tvt_out(exit.upstream)?;
                out.next_seq += exit.verdicts;
                let mut back = way(aivt, Direction::Backward, &[&exit.keys], out, &exit.activity);
                back.next_cell += exit.verdicts;
                Ok(back)
            }
            Part::Exit(_) | Part::Entrance(_) | Part::Intermediate => Err(TableError::Unknown("unbound exit")),
        }
    }

    pub(super) fn tvt_out(&self, of: KeyedLink) -> Result<TvtOut, TableError> {
        let TvtKeys { key_out, .. } = self.tvt_keys(of)?;
        Ok(TvtOut {
            peer: of.link.peer,
            spi: of.link.spi,
            key: key_out,
            next_seq: 1,
        })
    }

    pub(super) fn add_half(
        &mut self,
        worker: WorkerId,
        of: KeyedLink,
        make: impl FnOnce(KeySlot) -> Tvt<C>,
    ) -> Result<Half, TableError> {
        let TvtKeys { key_in, carries, .. } = self.tvt_keys(of)?;
        let slots = &mut self.tvt_slots[usize::from(worker.0)];
        let slot = slots.free.pop().ok_or(TableError::Full("TVT"))?;
        let target = Target {
            worker,
            slot,
            kind: if carries { TargetKind::Carried } else { TargetKind::Tvt },
        };
        if self.table.insert(of.link.peer, of.link.spi, target).is_err() {
            slots.free.push(slot);
            return Err(TableError::Full("association"));
        }
        let mut tvt = Box::new(make(key_in));
        if !self.anti_replay {
            tvt.window = TvtWindow::off();
            if let Next::Edge(edge) = &mut tvt.next {
                edge.window = TvtWindow::off();
            }
        }
        self.command(worker, Command::Tvt(slot, tvt));
        self.tvt_born(of);
        Ok(Half { link: of, worker, slot })
    }

    pub(super) fn remove_half(&mut self, half: Half) {
        let Link { peer, spi } = half.link.link;
        self.table.remove(peer, spi);
        self.command(half.worker, Command::RemoveTvt(half.slot));
        self.tvt_slots[usize::from(half.worker.0)].free.push(half.slot);
        self.tvt_gone(half.link);
    }
}

/// The tweak of an AIVT's layers: direction, suite, 14 zero bytes (protocol section 4).
fn tweak(direction: Direction, keys: &[&HopKeys]) -> [u8; 16] {
    let mut tweak = [0; 16];
    tweak[0] = direction as u8;
    tweak[1] = keys.first().map_or(0, |keys| keys.suite);
    tweak
}

fn layers<C: Backend>(direction: Direction, keys: &[&HopKeys]) -> Layers<C> {
    let mut of = keys.iter().map(|keys| match direction {
        Direction::Forward => C::layer_key(&keys.forward),
        Direction::Backward => C::layer_key(&keys.backward),
    });
    Layers::new(of.next().expect("an AIVT has a hop"), of)
}

#[allow(clippy::too_many_arguments)] // one constructor for the three parts of an AIVT
fn half<C: Backend>(
    aivt: AivtId,
    link: Link,
    key: KeySlot,
    direction: Direction,
    op: LayerOp,
    keys: &[&HopKeys],
    next: Next,
    activity: &Arc<Activity>,
) -> Tvt<C> {
    Tvt {
        aivt,
        peer: link.peer,
        spi: link.spi,
        key,
        window: TvtWindow::new(),
        layers: layers(direction, keys),
        op,
        tweak: tweak(direction, keys),
        next,
        activity: Touch::new(activity),
    }
}

fn way<C: Backend>(
    aivt: AivtId,
    direction: Direction,
    keys: &[&HopKeys],
    out: TvtOut,
    activity: &Arc<Activity>,
) -> Way<C> {
    Way {
        aivt,
        layers: layers(direction, keys),
        tweak: tweak(direction, keys),
        next_cell: 1,
        out,
        activity: Touch::new(activity),
    }
}

fn edge(aivt: AivtId, to: EdgeTo) -> Next {
    Next::Edge(Box::new(Edge {
        window: TvtWindow::new(),
        unpacker: Unpacker::new(aivt),
        to,
        told: false,
    }))
}
