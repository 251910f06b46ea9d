//! Hand-made keys as a source of associations. They can be replaced while the tunnel stands, though nobody tells this end when the
//! other one has the new ones too.
//!
//! ```text
//!   inbound    accepted at once; the old one until SA_GRACE after the outbound one is used
//!   outbound   waits ── a packet came under the new inbound one, or HAND_MADE_PATIENCE is over ──► used
//! ```
//! Nothing is lost if both ends are told within HAND_MADE_PATIENCE: the first one uses the new keys when the other has them, and accepts
//! the old ones until that one, which may hear nothing on an idle tunnel, is out of patience too. AH and ESP go apart.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ain_dataplane::id::{Now, PeerId, Spi};
use ain_dataplane::usage::SaUse;

use crate::lifetime::Expiry;
use crate::limits::HAND_MADE_PATIENCE;
use crate::sa::{Generation, SaDirection, SaEvent, SaName, SaProtocol, SaSource, SaSpec};
use crate::table_writer::TableError;

/// An outbound association whose time has not come.
struct Waiting {
    outbound: SaSpec,
    inbound: SaName,
    /// Use of the inbound one, once the packet path has it.
    heard: Option<Arc<SaUse>>,
    until: Now,
}

/// Hand-made keys.
#[derive(Default)]
pub struct HandMadeSource {
    events: VecDeque<SaEvent>,
    waiting: Vec<Waiting>,
    newest: BTreeMap<(PeerId, SaDirection, SaProtocol), Spi>,
    generations: u32,
    refused: Vec<(SaName, TableError)>,
    expired: Vec<(SaName, Expiry)>,
}

impl HandMadeSource {
    /// Gives this next.
    pub fn push(&mut self, event: SaEvent) {
        self.events.push_back(event);
    }

    /// A name for the next AH pair; the first ones are [`Generation::HAND_MADE`].
    pub fn next_generation(&mut self) -> Generation {
        self.generations += 1;
        Generation(self.generations)
    }

    /// Gives an inbound association now, and the outbound one of the same peer and protocol when the other end is ready for it.
    pub fn replace(&mut self, now: Now, [inbound, outbound]: [SaSpec; 2]) {
        self.waiting.push(Waiting {
            outbound,
            inbound: inbound.name(),
            heard: None,
            until: now.plus(HAND_MADE_PATIENCE),
        });
        self.push(SaEvent::Add(inbound));
    }

    /// Until when at most an outbound association of this peer and protocol waits, if one does.
    pub fn changing_until(&self, peer: PeerId, protocol: SaProtocol) -> Option<Now> {
        let is_it = |one: &&Waiting| (one.inbound.peer, one.inbound.protocol) == (peer, protocol);
        self.waiting.iter().find(is_it).map(|one| one.until)
    }

    /// Gives the outbound associations whose time has come.
    pub fn handle_timeout(&mut self, now: Now) {
        let is_due = |one: &mut Waiting| {
            let is_heard = one.heard.as_ref().is_some_and(|used| used.packets() > 0);
            is_heard || now >= one.until
        };
        for due in self.waiting.extract_if(.., is_due) {
            self.events.push_back(SaEvent::Add(due.outbound));
        }
    }

    /// What could not be made since the last call.
    pub fn take_refused(&mut self) -> Vec<(SaName, TableError)> {
        std::mem::take(&mut self.refused)
    }

    /// What has reached a limit since the last call, and has no successor from here.
    pub fn take_expired(&mut self) -> Vec<(SaName, Expiry)> {
        std::mem::take(&mut self.expired)
    }
}

impl SaSource for HandMadeSource {
    fn poll_event(&mut self) -> Option<SaEvent> {
        self.events.pop_front()
    }

    fn handle_added(&mut self, sa: SaName, outcome: Result<Arc<SaUse>, TableError>) {
        match outcome {
            Ok(used) => {
                self.newest.insert((sa.peer, sa.direction, sa.protocol), sa.spi);
                let waiting = self.waiting.iter_mut().find(|one| one.inbound == sa);
                waiting.into_iter().for_each(|one| one.heard = Some(Arc::clone(&used)));
            }
            Err(error) => {
                // Without the inbound half the tunnel goes on as it was.
                self.waiting.retain(|one| one.inbound != sa);
                self.refused.push((sa, error));
            }
        }
    }

    fn handle_expired(&mut self, sa: SaName, expiry: Expiry) {
        if self.newest.get(&(sa.peer, sa.direction, sa.protocol)) == Some(&sa.spi) {
            self.expired.push((sa, expiry));
        }
    }
}

#[cfg(test)]
mod tests {
    use ain_crypto::AeadAlgorithm;
    use zeroize::Zeroizing;

    use super::*;
    use crate::lifetime::Lifetime;
    use crate::sa::{Numbers, SaKind};

    const PEER: PeerId = PeerId(3);

    fn pair(spi: u32) -> [SaSpec; 2] {
        [Numbers::fresh_in(), Numbers::fresh_out(1)].map(|numbers| SaSpec {
            peer: PEER,
            spi: Spi::new(spi).unwrap(),
            kind: SaKind::Esp(AeadAlgorithm::Aes128Gcm16),
            key: Zeroizing::new(vec![7; 20]),
            esn: true,
            numbers,
            lifetime: Lifetime::NONE,
        })
    }

    /// What it gives at `now`, by direction and SPI; all of it can be made.
    fn given(source: &mut HandMadeSource, now: Now) -> Vec<(SaDirection, u32, Arc<SaUse>)> {
        source.handle_timeout(now);
        let mut given = Vec::new();
        while let Some(SaEvent::Add(spec)) = source.poll_event() {
            let (name, used) = (spec.name(), SaUse::new(0));
            source.handle_added(name, Ok(Arc::clone(&used)));
            given.push((name.direction, name.spi.value(), used));
        }
        given
    }

    #[test]
    fn the_outbound_one_waits_until_the_other_end_is_heard() {
        let mut source = HandMadeSource::default();
        source.replace(Now(0), pair(0x1000));
        let inbound = given(&mut source, Now(0)).pop().unwrap();
        assert_eq!((inbound.0, inbound.1), (SaDirection::In, 0x1000));
        assert_eq!(
            source.changing_until(PEER, SaProtocol::Esp),
            Some(Now(HAND_MADE_PATIENCE))
        );
        assert_eq!(source.changing_until(PEER, SaProtocol::Ah), None);
        assert!(given(&mut source, Now(1)).is_empty());
        inbound.2.count(100, 1);
        let outbound = given(&mut source, Now(2)).pop().unwrap();
        assert_eq!((outbound.0, outbound.1), (SaDirection::Out, 0x1000));
        assert_eq!(source.changing_until(PEER, SaProtocol::Esp), None);
        assert!(given(&mut source, Now(u64::MAX)).is_empty(), "once");
    }

    #[test]
    fn it_does_not_wait_for_ever() {
        let mut source = HandMadeSource::default();
        source.replace(Now(5), pair(0x1000));
        let mut count = |now| given(&mut source, now).len();
        assert_eq!([count(Now(5)), count(Now(4 + HAND_MADE_PATIENCE))], [1, 0]);
        assert_eq!(count(Now(5 + HAND_MADE_PATIENCE)), 1);
    }

    #[test]
    fn without_its_inbound_half_an_outbound_one_is_never_given() {
        let mut source = HandMadeSource::default();
        source.replace(Now(0), pair(0x1000));
        let Some(SaEvent::Add(spec)) = source.poll_event() else {
            panic!("the inbound one");
        };
        source.handle_added(spec.name(), Err(TableError::InUse));
        assert_eq!(source.take_refused().len(), 1);
        assert!(given(&mut source, Now(u64::MAX)).is_empty());
    }

    #[test]
    fn only_keys_without_successor_are_used_up() {
        let mut source = HandMadeSource::default();
        for spec in pair(0x1000) {
            source.push(SaEvent::Add(spec));
        }
        given(&mut source, Now(0));
        let [old, new] = [0x1000, 0x2000].map(|spi| pair(spi)[0].name());
        source.handle_expired(old, Expiry::Soft);
        assert_eq!(source.take_expired(), [(old, Expiry::Soft)]);
        source.handle_added(new, Err(TableError::InUse));
        source.handle_expired(old, Expiry::Hard);
        assert_eq!(source.take_expired(), [(old, Expiry::Hard)], "there is no other");
        source.replace(Now(1), pair(0x2000));
        given(&mut source, Now(1));
        source.handle_expired(old, Expiry::Hard);
        assert_eq!(source.take_expired(), []);
        source.handle_expired(new, Expiry::Hard);
        assert_eq!(source.take_expired(), [(new, Expiry::Hard)]);
    }
}
