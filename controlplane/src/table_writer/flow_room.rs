//! Room in the workers' flow tables, counted on this side: a worker that has no slot for the answers of an exit can only drop them.

use ain_dataplane::id::WorkerId;

/// Slots of every worker's flow table that are taken, by flows of initiators and by answers of responders.
pub(super) struct FlowRoom {
    capacity: u32,
    taken: Vec<u32>,
}

impl FlowRoom {
    /// `capacity` free slots in each of so many workers.
    pub(super) fn new(workers: u8, capacity: u32) -> Self {
        Self {
            capacity,
            taken: vec![0; usize::from(workers)],
        }
    }

    /// Whether `worker` has a free slot.
    pub(super) fn is_left(&self, worker: WorkerId) -> bool {
        self.taken[usize::from(worker.0)] < self.capacity
    }

    /// A slot of `worker` is taken.
    pub(super) fn take(&mut self, worker: WorkerId) {
        self.taken[usize::from(worker.0)] += 1;
    }

    /// A slot of `worker` is free again.
    pub(super) fn leave(&mut self, worker: WorkerId) {
        self.taken[usize::from(worker.0)] -= 1;
    }
}
