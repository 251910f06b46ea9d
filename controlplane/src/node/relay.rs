//! CREATE, CREATED and DESTROY as they pass along a path (protocol section 5, the paper's sections 4.3 and 4.5).

use ain_dataplane::id::{AivtId, Now, PeerId};

use super::{Node, Teller};
use crate::action::{Link, Route};
use crate::aivt::{Admission, Aivt, Downstream, NEVER, Role, Stage, Upstream, Waiting};
use crate::directory::NodeId;
use crate::generation::Drawn;
use crate::limits::SPI_REDRAWS;
use crate::opening::Asked;
use crate::signal::create::{Next, Peeled};
use crate::signal::created::Confirmation;
use crate::signal::destroy::Reason;
use crate::signal::frame::Message;
use crate::spi::SpiError;

impl Node {
    pub(super) fn refuse(&mut self, now: Now, peer: PeerId, spi: u32, create: u32, reason: Reason) {
        self.counts.refused.add(reason);
        // A neighbour that cannot be told gives up by its own timers.
        let _ = self.request(now, peer, spi, Message::Destroy { create, reason });
    }

    pub(super) fn join(
        &mut self,
        now: Now,
        wall: u64,
        asked: Asked,
        peeled: Peeled,
        admission: Admission,
    ) -> Result<(), Reason> {
        let expires = until(now, wall, peeled.expires);
        let link = asked.link;
        let upstream = Some(Upstream {
            link,
            generation: asked.generation,
            create_id: asked.create_id,
            confirm: Some(Box::new(peeled.confirm)),
        });
        match peeled.next {
            Next::Exit { flow_token } => {
                let flow = flow_token.tag();
                let role = Role::Exit {
                    flow_token,
                    bound: None,
                    admission,
                };
                let stage = Stage::Installing;
                let id = self.insert(Aivt {
                    upstream,
                    downstream: None,
                    role,
                    stage,
                    since: now,
                    expires,
                    activity: None,
                    due: now,
                });
                let route = Route::Exit {
                    upstream: link.under(asked.generation),
                    keys: peeled.keys,
                    flow,
                };
                self.install(now, id, route);
            }
            Next::Relay { node, onion } => {
                let downstream = Some(self.pass_on(now, link.peer, &node, onion)?);
                let waiting = Waiting {
                    keys: Some(peeled.keys),
                    beyond: [0; 32],
                };
                let role = Role::Relay {
                    waiting: Some(Box::new(waiting)),
                };
                self.insert(Aivt {
                    upstream,
                    downstream,
                    role,
                    stage: Stage::Asked,
                    since: now,
                    expires,
                    activity: None,
                    due: now,
                });
            }
        }
        Ok(())
    }

    fn pass_on(&mut self, now: Now, from: PeerId, to: &NodeId, onion: Vec<u8>) -> Result<Downstream, Reason> {
        let peer = *self.neighbours.get(to).ok_or(Reason::NextHopUnreachable)?;
        if peer == from {
            return Err(Reason::ProtocolError);
        }
        self.ask(now, peer, onion)
    }

    /// Draws an SPI and sends CREATE to `peer`.
    pub(super) fn ask(&mut self, now: Now, peer: PeerId, onion: Vec<u8>) -> Result<Downstream, Reason> {
        if !self.is_up(peer) {
            return Err(Reason::NextHopUnreachable);
        }
        let Drawn { spi, generation, ah } = self.draw_spi(peer).map_err(|_| Reason::ResourceLimit)?;
        let create = Message::Create {
            ah: ah.value(),
            onion: onion.clone(),
        };
        let create_id = self
            .request(now, peer, spi.value(), create)
            .ok_or(Reason::ResourceLimit)?;
        Ok(Downstream {
            link: Link { peer, spi },
            generation,
            create_id,
            onion: onion.into(),
            redraws: 0,
        })
    }

    pub(super) fn is_up(&self, peer: PeerId) -> bool {
        self.pvts.get(&peer).is_some_and(|pvt| pvt.liveness.is_up())
    }

    fn draw_spi(&mut self, peer: PeerId) -> Result<Drawn, SpiError> {
        let Some(pvt) = self.pvts.get_mut(&peer) else {
            return Err(SpiError::NoKeys);
        };
        let (aivts, openings) = (&self.aivts, &self.openings);
        let is_free = |link| !aivts.uses(&link) && !openings.uses(&link);
        let drawn = pvt.generations.draw(|spi| is_free(Link { peer, spi }));
        self.reserve_spis(peer);
        drawn
    }

    /// The AIVT stands from the next node to the exit.
    pub(super) fn created(&mut self, now: Now, link: Link, create: u32, confirmation: Confirmation) {
        let Some((id, downstream)) = self.asked_over(link, create) else {
            self.counts.stray += 1;
            return;
        };
        downstream.onion = Box::default();
        if let Some(pvt) = self.pvts.get_mut(&link.peer) {
            pvt.settle(create);
        }
        match self.route(id, confirmation) {
            Some(route) => {
                self.aivts.set_stage(id, Stage::Installing);
                self.install(now, id, route);
            }
            None => self.end(now, id, Reason::ProtocolError, Teller::Here),
        }
    }

    /// The AIVT whose CREATE `create` over the downstream TVT `link` waits for an answer.
    fn asked_over(&mut self, link: Link, create: u32) -> Option<(AivtId, &mut Downstream)> {
        let id = self.aivts.with_link(&link)?;
        let aivt = self.aivts.by_id_mut(id).filter(|aivt| aivt.stage == Stage::Asked)?;
        let downstream = aivt.downstream.as_mut()?;
        (downstream.link == link && downstream.create_id == create).then_some((id, downstream))
    }

    /// What to install, once CREATED brought `confirmation`. `None` at the entrance if a hop did not confirm.
    fn route(&mut self, id: AivtId, confirmation: Confirmation) -> Option<Route> {
        let aivt = self.aivts.by_id_mut(id)?;
        let downstream = aivt.downstream.as_ref()?.keyed();
        match &mut aivt.role {
            Role::Relay { waiting } => {
                let waiting = waiting.as_mut()?;
                waiting.beyond = confirmation;
                let upstream = aivt.upstream.as_ref()?.keyed();
                Some(Route::Intermediate {
                    upstream,
                    downstream,
                    keys: waiting.keys.take()?,
                })
            }
            Role::Entrance { flow, secrets, .. } => {
                let flow = self.flows.by_number(*flow)?.id?;
                let keys = super::entrance::confirmed_keys(secrets.take()?, &confirmation)?;
                Some(Route::Entrance { flow, downstream, keys })
            }
            Role::Exit { .. } => None,
        }
    }

    /// The neighbour that shares the TVT `link` ends its AIVT, or refuses our CREATE `create`.
    pub(super) fn destroy(&mut self, now: Now, link: Link, create: u32, reason: Reason) {
        let Some(id) = self.aivts.with_link(&link) else {
            self.counts.stray += u64::from(!self.take_back(&link, create, reason));
            return;
        };
        let Some(aivt) = self.aivts.by_id(id) else { return };
        let Some(downstream) = aivt.downstream.as_ref().filter(|downstream| downstream.link == link) else {
            return self.end(now, id, reason, Teller::Upstream);
        };
        if create != 0 && create != downstream.create_id {
            self.counts.stray += 1;
            return;
        }
        let redraw = reason == Reason::SpiCollision && aivt.stage == Stage::Asked && downstream.redraws < SPI_REDRAWS;
        if !redraw || self.redraw(now, id).is_none() {
            self.end(now, id, reason, Teller::Downstream);
        }
    }

    /// Sends the CREATE of `id` again under another SPI.
    fn redraw(&mut self, now: Now, id: AivtId) -> Option<()> {
        let aivt = self.aivts.by_id(id)?;
        let downstream = aivt.downstream.as_ref()?;
        let (peer, refused, onion) = (downstream.link.peer, downstream.create_id, downstream.onion.to_vec());
        self.pvts.get_mut(&peer)?.settle(refused);
        let fresh = self.ask(now, peer, onion).ok()?;
        self.aivts.relink(id, fresh);
        Some(())
    }
}

/// The moment of the Unix time `expires`, 0 = never.
pub(super) fn until(now: Now, wall: u64, expires: u32) -> Now {
    match expires {
        0 => NEVER,
        _ => now.plus(u64::from(expires).saturating_sub(wall).saturating_mul(Now::SECOND)),
    }
}
