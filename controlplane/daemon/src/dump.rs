//! Everything a node's tables know, as text, for tests that search it. Only in builds with the feature `test-dump`.

use std::fmt::Write;

use ain_crypto::Backend;
use ain_dataplane::packet::BufPool;

use crate::control_thread::ControlThread;

impl<C: Backend, A: BufPool> ControlThread<C, A> {
    /// All tables, keys left out.
    pub(crate) fn dump(&self) -> String {
        let mut text = String::new();
        let peers = self.directions.publisher.current();
        for (id, peer) in peers.iter() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "peer {} {} -> {} {:?}", id.0, peer.local, peer.remote, peer.kind);
        }
        text + &self.writer.dump() + &self.node.dump()
    }
}
