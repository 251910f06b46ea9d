//! Bounded rings between threads: packets from a worker to the owner of their SA, signals between workers and control.
//!
//! ```text
//!            to 0   to 1   to 2        row: what worker i sends        ring (i, j) has one producer, worker i,
//!  from 0     -      o      o          column: what worker j receives            and one consumer, worker j
//!  from 1     o      -      o
//!  from 2     o      o      -
//! ```
//!
//! Nothing ever waits: a full ring gives the item back, and the caller drops and counts it. A packet that crosses is
//! looked up again on the other side, because the SA may be gone by then.

use std::fmt;

use crate::id::WorkerId;
use crate::sync::Arc;

#[cfg(not(loom))]
use crossbeam_queue::ArrayQueue;

/// The producing end of a ring; there is one.
pub struct Producer<T>(Arc<ArrayQueue<T>>);

/// The consuming end of a ring; there is one.
pub struct Consumer<T>(Arc<ArrayQueue<T>>);

/// A ring of `capacity` items, at least one.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let queue = Arc::new(ArrayQueue::new(capacity.max(1)));
    (Producer(Arc::clone(&queue)), Consumer(queue))
}

impl<T> Producer<T> {
    /// Puts an item in.
    ///
    /// # Errors
    /// The item, if the ring is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        self.0.push(item)
    }

    /// Items that fit in now, at least.
    pub fn room(&self) -> usize {
        self.0.capacity() - self.0.len()
    }
}

impl<T> Consumer<T> {
    /// Whether there is nothing to take out: two loads.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the oldest item out.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Producer").finish()
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Consumer").finish()
    }
}

/// Rings between every two of some workers.
#[derive(Debug)]
pub struct Mesh<T> {
    ends: Vec<Handoff<T>>,
}

/// One worker's ends of a mesh: its row and its column.
#[derive(Debug)]
pub struct Handoff<T> {
    /// By receiving worker; `None` for this one.
    outgoing: Vec<Option<Producer<T>>>,
    incoming: Vec<Consumer<T>>,
    /// The incoming ring that is asked first next time.
    turn: usize,
}

impl<T> Mesh<T> {
    /// A mesh for `workers` workers with rings of `capacity` items each.
    pub fn new(workers: usize, capacity: usize) -> Self {
        let end = || Handoff {
            outgoing: Vec::with_capacity(workers),
            incoming: Vec::with_capacity(workers),
            turn: 0,
        };
        let mut ends: Vec<_> = (0..workers).map(|_| end()).collect();
        for from in 0..workers {
            for to in 0..workers {
                let producer = (from != to).then(|| {
                    let (producer, consumer) = ring(capacity);
                    ends[to].incoming.push(consumer);
                    producer
                });
                ends[from].outgoing.push(producer);
            }
        }
        Self { ends }
    }

    /// The ends, by worker: one to each thread.
    pub fn into_ends(self) -> Vec<Handoff<T>> {
        self.ends
    }
}

impl<T> Handoff<T> {
    /// Hands an item to another worker.
    ///
    /// # Errors
    /// The item, if the ring is full or `to` is no other worker of the mesh.
    pub fn send(&mut self, to: WorkerId, item: T) -> Result<(), T> {
        match self.outgoing.get_mut(usize::from(to.0)) {
            Some(Some(producer)) => producer.push(item),
            _ => Err(item),
        }
    }

    /// One item from any other worker; they take turns, and order is kept per sender.
    pub fn receive(&mut self) -> Option<T> {
        let rings = self.incoming.len();
        for step in 0..rings {
            let at = (self.turn + step) % rings;
            if let Some(item) = self.incoming[at].pop() {
                self.turn = (at + 1) % rings;
                return Some(item);
            }
        }
        None
    }
}

/// A bounded queue that loom can look into: crossbeam's is not built on loom's atomics.
#[cfg(loom)]
struct ArrayQueue<T> {
    items: loom::sync::Mutex<std::collections::VecDeque<T>>,
    capacity: usize,
}

#[cfg(loom)]
impl<T> ArrayQueue<T> {
    fn new(capacity: usize) -> Self {
        Self {
            items: loom::sync::Mutex::new(std::collections::VecDeque::new()),
            capacity,
        }
    }

    fn push(&self, item: T) -> Result<(), T> {
        let mut items = self.items.lock().unwrap();
        if items.len() == self.capacity {
            return Err(item);
        }
        items.push_back(item);
        Ok(())
    }

    fn pop(&self) -> Option<T> {
        self.items.lock().unwrap().pop_front()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn len(&self) -> usize {
        self.items.lock().unwrap().len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests;
