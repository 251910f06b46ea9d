//! The quota that this entrance gives each of its initiators ([`crate::share`]).

use ain_dataplane::id::PeerId;

use super::Node;
use crate::share::AivtsPerSlice;

impl Node {
    fn quota(&self, tunnel: PeerId) -> Option<AivtsPerSlice> {
        self.settings.hosts.get(&tunnel)?.quota
    }

    /// Whether another AIVT may be asked for on behalf of the initiator behind `tunnel`.
    pub(super) fn is_within_quota(&self, wall: u64, tunnel: PeerId) -> bool {
        self.quota(tunnel)
            .is_none_or(|quota| self.made.admits(wall, tunnel, quota))
    }

    /// One was asked for.
    pub(super) fn count_in_quota(&mut self, wall: u64, tunnel: PeerId) {
        if let Some(quota) = self.quota(tunnel) {
            self.made.count(wall, tunnel, quota);
        }
    }
}
