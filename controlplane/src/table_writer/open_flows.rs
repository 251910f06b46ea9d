//! Which worker has the mappings of a flow that leaves through the open exit: its next AIVT must come to the same one, for ports belong
//! to workers.

use std::collections::{HashMap, VecDeque};

use ain_dataplane::id::{AivtId, FlowTag, Now, WorkerId};

use crate::limits::{PAIR_MEMORY, PAIRS_REMEMBERED};

/// Workers by flow: of all that are bound, and of some whose AIVT ended within [`PAIR_MEMORY`].
#[derive(Default)]
pub(super) struct OpenFlows {
    last: HashMap<FlowTag, (AivtId, WorkerId)>,
    ended: VecDeque<(Now, FlowTag, AivtId)>,
}

impl OpenFlows {
    /// The AIVT of the flow has been bound at `worker`.
    pub(super) fn note(&mut self, flow: FlowTag, aivt: AivtId, worker: WorkerId) {
        self.last.insert(flow, (aivt, worker));
    }

    /// That AIVT has ended. The flows that ended last are remembered.
    pub(super) fn end(&mut self, now: Now, flow: FlowTag, aivt: AivtId) {
        self.ended.push_back((now, flow, aivt));
        self.forget(now);
    }

    /// Where the flow is bound, or was a moment ago.
    pub(super) fn worker(&mut self, now: Now, flow: FlowTag) -> Option<WorkerId> {
        self.forget(now);
        self.last.get(&flow).map(|(_, worker)| *worker)
    }

    /// Forgets flows that ended too long ago, or before too many others.
    fn forget(&mut self, now: Now) {
        while let Some(&(at, flow, aivt)) = self.ended.front()
            && (self.ended.len() > PAIRS_REMEMBERED || now.since(at) >= PAIR_MEMORY)
        {
            self.ended.pop_front();
            // Unless it has been bound again since.
            if self.last.get(&flow).is_some_and(|(last, _)| *last == aivt) {
                self.last.remove(&flow);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_9_flows_are_remembered_a_while() {
        let mut flows = OpenFlows::default();
        let now = Now(5);
        let flow = |n: u32| {
            let mut tag = [0; 16];
            tag[..4].copy_from_slice(&n.to_be_bytes());
            FlowTag(tag)
        };
        let most = PAIRS_REMEMBERED as u32;
        for n in 0..=most {
            flows.note(flow(n), AivtId(n.into()), WorkerId((n % 4) as u8));
            flows.end(now, flow(n), AivtId(n.into()));
        }
        assert_eq!(
            [0, 1, 2].map(|n| flows.worker(now, flow(n))),
            [None, Some(WorkerId(1)), Some(WorkerId(2))]
        );
        // One that is bound again outlives its older end.
        flows.note(flow(1), AivtId(1_000_000), WorkerId(3));
        flows.end(now, flow(2), AivtId(2));
        assert_eq!(flows.worker(now, flow(1)), Some(WorkerId(3)));
        let over = now.plus(PAIR_MEMORY);
        assert_eq!(flows.worker(Now(over.0 - 1), flow(3)), Some(WorkerId(3)));
        assert_eq!(flows.worker(over, flow(3)), None);
        assert_eq!(flows.worker(over, flow(1)), Some(WorkerId(3)), "it is bound");
        assert_eq!((flows.ended.len(), flows.last.len()), (0, 1));
    }
}
