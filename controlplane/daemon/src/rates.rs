//! Whether neighbours keep the rate that their PVTs have here: both ends must be configured alike (protocol section 8).
//!
//! A PVT with a rate numbers every packet, dummies included, so the highest accepted number of its association tells the neighbour's pace.

use ain_dataplane::id::{Now, PeerId};
use tracing::warn;

/// Time between two looks.
const LOOK_EVERY: u64 = 10 * Now::SECOND;
/// Looks in a row that must find another rate: a restart makes numbers leap once.
const LOOKS: u8 = 2;

struct Watched {
    node: String,
    pps: u64,
    peer: PeerId,
    seen: Option<u64>,
    wrong: u8,
}

/// The PVTs with a rate.
#[derive(Default)]
pub struct RateWatch {
    watched: Vec<Watched>,
    last: Now,
}

impl RateWatch {
    /// Watches the PVT to `node`, which shall have `pps` packets a second.
    pub fn watch(&mut self, node: &str, peer: PeerId, pps: u32) {
        self.watched.push(Watched {
            node: node.to_owned(),
            pps: pps.into(),
            peer,
            seen: None,
            wrong: 0,
        });
    }

    /// Looks, if it is time to, and complains of those that begin to keep another rate. `heard` tells how many numbers a peer has used
    /// up.
    pub fn look(&mut self, now: Now, heard: impl Fn(PeerId) -> u64) {
        let elapsed_ns = now.since(self.last);
        if elapsed_ns < LOOK_EVERY {
            return;
        }
        self.last = now;
        for one in &mut self.watched {
            let highest = heard(one.peer);
            let packets = one.seen.replace(highest).map_or(0, |seen| highest.saturating_sub(seen));
            let expected = one.pps * (elapsed_ns / 1000) / 1_000_000;
            // A neighbour that is silent is down, which is told elsewhere.
            let fits = packets == 0 || packets.abs_diff(expected) <= expected / 5;
            one.wrong = if fits { 0 } else { one.wrong.saturating_add(1) };
            if one.wrong == LOOKS {
                let heard_pps = packets * 1_000_000 / (elapsed_ns / 1000);
                warn!(
                    node = one.node,
                    rate = one.pps,
                    heard_pps,
                    "the neighbour keeps another rate"
                );
            }
        }
    }

    /// How many neighbours keep another rate.
    pub fn wrong(&self) -> u64 {
        self.watched.iter().filter(|one| one.wrong >= LOOKS).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_6_another_rate_is_told_once_it_lasts_and_silence_and_leaps_are_not() {
        let mut highest = 5;
        let mut watch = RateWatch::default();
        watch.watch("ain2", PeerId(3), 200);
        let mut at = Now(0);
        let mut after = |packets: u64| {
            highest += packets;
            at = at.plus(LOOK_EVERY);
            watch.look(at, |_| highest);
            watch.wrong()
        };
        assert_eq!([2000, 1980, 0, 65_536, 2000].map(&mut after), [0; 5]);
        assert_eq!([1000, 1000, 1000, 2000].map(&mut after), [0, 1, 1, 0]);
    }
}
