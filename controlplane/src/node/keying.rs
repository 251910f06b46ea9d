//! Keys of tunnels come and go: TVTs are born under the newest of a PVT, a PVT without any is down, and a host without any is missed.

use ain_dataplane::id::{Now, PeerId};

use super::Node;
use crate::action::Action;
use crate::associations::Keying;

impl Node {
    pub(super) fn keyed(&mut self, now: Now, keying: Keying) {
        match keying {
            Keying::Begun(peer, pair) => {
                if let Some(pvt) = self.pvts.get_mut(&peer) {
                    pvt.generations.begin(pair);
                    self.reserve_spis(peer);
                }
            }
            Keying::Over(peer, generation) => {
                if let Some(pvt) = self.pvts.get_mut(&peer) {
                    pvt.generations.end(generation);
                }
            }
            Keying::Outlived(peer, generation) => self.generation_outlived(now, peer, generation),
            Keying::Up(peer) => {
                self.away.welcome(peer);
                if let Some(pvt) = self.pvts.get_mut(&peer) {
                    pvt.liveness.ask_at(now);
                }
            }
            Keying::Down(host) if self.settings.hosts.contains_key(&host) => self.away.miss(now, host),
            Keying::Down(peer) => {
                if self.pvts.get_mut(&peer).is_some_and(|pvt| pvt.cut(now)) {
                    self.pvt_lost(now, peer);
                }
            }
        }
    }

    /// Asks for more SPIs on disk if the PVT of `peer` runs low.
    pub(super) fn reserve_spis(&mut self, peer: PeerId) {
        let wanted = self
            .pvts
            .get_mut(&peer)
            .and_then(|pvt| pvt.generations.reservation_wanted());
        if let Some((generation, up_to)) = wanted {
            self.actions.push_back(Action::ReserveSpis {
                peer,
                generation,
                up_to,
            });
        }
    }
}
