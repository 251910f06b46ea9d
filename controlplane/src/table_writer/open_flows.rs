//! Which worker has the mappings of a flow that leaves through the open exit: its next AIVT must come to the same one, for ports belong
//! to workers.

use std::collections::{HashMap, VecDeque};

use ain_dataplane::id::{AivtId, FlowTag, WorkerId};

use crate::limits::PAIRS_REMEMBERED;

/// Workers by flow: of all that are bound, and of some whose AIVT has ended.
#[derive(Default)]
pub(super) struct OpenFlows {
    last: HashMap<FlowTag, (AivtId, WorkerId)>,
    ended: VecDeque<(FlowTag, AivtId)>,
}

impl OpenFlows {
    /// The AIVT of the flow has been bound at `worker`.
    pub(super) fn note(&mut self, flow: FlowTag, aivt: AivtId, worker: WorkerId) {
        self.last.insert(flow, (aivt, worker));
    }

    /// That AIVT has ended. The flows that ended last are remembered.
    pub(super) fn end(&mut self, flow: FlowTag, aivt: AivtId) {
        self.ended.push_back((flow, aivt));
        if self.ended.len() > PAIRS_REMEMBERED
            && let Some((flow, aivt)) = self.ended.pop_front()
            && self.last.get(&flow).is_some_and(|(last, _)| *last == aivt)
        {
            self.last.remove(&flow);
        }
    }

    /// Where the flow was bound last.
    pub(super) fn worker(&self, flow: FlowTag) -> Option<WorkerId> {
        self.last.get(&flow).map(|(_, worker)| *worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_9_flows_are_remembered_a_while() {
        let mut flows = OpenFlows::default();
        let flow = |n: u32| {
            let mut tag = [0; 16];
            tag[..4].copy_from_slice(&n.to_be_bytes());
            FlowTag(tag)
        };
        let most = PAIRS_REMEMBERED as u32;
        for n in 0..=most {
            flows.note(flow(n), AivtId(n.into()), WorkerId((n % 4) as u8));
            flows.end(flow(n), AivtId(n.into()));
        }
        assert_eq!(
            [0, 1, 2].map(|n| flows.worker(flow(n))),
            [None, Some(WorkerId(1)), Some(WorkerId(2))]
        );
        // One that is bound again outlives its older end.
        flows.note(flow(1), AivtId(1_000_000), WorkerId(3));
        flows.end(flow(2), AivtId(2));
        assert_eq!(flows.worker(flow(1)), Some(WorkerId(3)));
    }
}
