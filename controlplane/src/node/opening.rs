//! A CREATE on its way in: the order of work of protocol section 5, cheap things first, the private-key operation elsewhere.
//!
//! ```text
//!  create: known SPI? quota? ─► Openings ─► Action::Open ── openers ──► handle_opened: mac, time, replay tag, ticket ─► join
//! ```

use ain_dataplane::id::{Now, PeerId};

use super::Node;
use crate::action::{Action, Link};
use crate::aivt::Admission;
use crate::limits::PENDING_CREATES_PER_NEIGHBOUR;
use crate::opening::{Asked, Opened};
use crate::replay::NotFresh;
use crate::sa::Generation;
use crate::signal::create::{Next, Peeled};
use crate::signal::destroy::Reason;

impl Node {
    /// A neighbour asks this node to join an AIVT.
    pub(super) fn create(&mut self, now: Now, (link, ah): (Link, u32), create_id: u32, onion: Vec<u8>) {
        let queued = self.admit(now, link, ah).and_then(|generation| {
            let asked = Asked {
                link,
                generation,
                create_id,
            };
            let queued = self.openings.push(asked, onion);
            self.counts.queue_full += u64::from(queued.is_err());
            queued.map_err(|_| Reason::ResourceLimit)
        });
        if let Err(reason) = queued {
            self.refuse(now, link.peer, link.spi.value(), create_id, reason);
        }
        self.open_next();
    }

    /// What needs no secret: is there room for another AIVT of this neighbour, its TVT free, and are there the keys that it names by
    /// the SPI `ah`? Returns their generation.
    fn admit(&mut self, now: Now, link: Link, ah: u32) -> Result<Generation, Reason> {
        if self.shutting_down {
            return Err(Reason::Shutdown);
        }
        let pvt = self.pvts.get_mut(&link.peer).ok_or(Reason::ProtocolError)?;
        if self.aivts.uses(&link) || self.openings.uses(&link) || pvt.generations.owns(link.spi) {
            return Err(Reason::SpiCollision);
        }
        let generation = pvt.generations.named(ah).ok_or(Reason::ProtocolError)?;
        let (joined, opening) = (self.aivts.joined(link.peer), self.openings.wanted_by(link.peer));
        let room = joined.all + opening < pvt.share.of(self.settings.quotas.aivts)
            && joined.pending + opening < PENDING_CREATES_PER_NEIGHBOUR
            && self.aivts.len() + self.openings.len() < self.settings.quotas.aivts
            && pvt.admit_create(now);
        if room {
            Ok(generation)
        } else {
            Err(Reason::ResourceLimit)
        }
    }

    /// A creating signal was opened, or could not be.
    pub(super) fn opened(&mut self, now: Now, wall: u64, opened: Opened) {
        if let Some(asked) = self.openings.finish(&opened) {
            let Asked { link, create_id, .. } = asked;
            let joined = self
                .accept((now, wall), link, opened)
                .and_then(|(peeled, admission)| self.join(now, wall, asked, peeled, admission));
            if let Err(reason) = joined {
                self.refuse(now, link.peer, link.spi.value(), create_id, reason);
            }
        }
        self.open_next();
    }

    fn accept(&mut self, (now, wall): (Now, u64), link: Link, opened: Opened) -> Result<(Peeled, Admission), Reason> {
        let peeled = opened.peeled.map_err(|_| Reason::ProtocolError)?;
        // This node may have drawn the SPI in the meantime, if the neighbour did not keep to its side.
        if self.aivts.uses(&link) {
            return Err(Reason::SpiCollision);
        }
        if peeled.profile != self.settings.profile as u8 {
            return Err(Reason::ProtocolError);
        }
        if peeled.expires != 0 && u64::from(peeled.expires) <= wall {
            return Err(Reason::Expired);
        }
        match self.replay.accept(wall, u64::from(peeled.created), peeled.replay) {
            Ok(()) => {}
            Err(NotFresh::Full) => return Err(Reason::ResourceLimit),
            Err(NotFresh::Stale | NotFresh::Future | NotFresh::Seen) => return Err(Reason::ReplayedCreate),
        }
        let is_exit = matches!(peeled.next, Next::Exit { .. });
        let admission = self.spend((now, wall), link.peer, opened.presented, is_exit)?;
        Ok((peeled, admission))
    }

    fn open_next(&mut self) {
        while let Some(opening) = self.openings.next() {
            self.actions.push_back(Action::Open(opening));
        }
    }

    /// The neighbour takes back, before it was opened, the CREATE for `link`. Whether there was one.
    pub(super) fn take_back(&mut self, link: &Link, create: u32, reason: Reason) -> bool {
        let taken = self.openings.cancel(link, create);
        if taken {
            self.counts.failed.add(reason);
        }
        taken
    }

    /// The neighbour is gone, or has forgotten what it asked for.
    pub(super) fn forget_openings(&mut self, peer: PeerId) {
        for _ in self.openings.cancel_all(|whose| whose == peer) {
            self.counts.failed.add(Reason::NextHopUnreachable);
        }
    }

    /// The node goes down: nothing more is opened.
    pub(super) fn refuse_openings(&mut self, now: Now) {
        for (link, create_id) in self.openings.cancel_all(|_| true) {
            self.refuse(now, link.peer, link.spi.value(), create_id, Reason::Shutdown);
        }
    }
}
