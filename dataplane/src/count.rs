//! Counters of one worker. One writer, any reader, no lock: a worker adds by load and store, a scrape only loads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use crate::verdict::DropReason;

/// A node's part in an AIVT.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// First AIN.
    Entrance,
    /// Between.
    Intermediate,
    /// Last AIN.
    Exit,
}

macro_rules! traffic {
    ($($(#[doc = $doc:literal])+ $variant:ident = ($role:literal, $direction:literal),)+) => {
        /// What moved, by role and direction.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Traffic { $($(#[doc = $doc])+ $variant,)+ }

        impl Traffic {
            /// Every kind, in counter order.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Labels of the metric: role, direction.
            pub const fn labels(self) -> (&'static str, &'static str) {
                match self { $(Self::$variant => ($role, $direction),)+ }
            }
        }
    };
}

traffic! {
    /// Cells the entrance put into first TVTs.
    EntranceForward = ("entrance", "forward"),
    /// Cells the entrance took out of first TVTs.
    EntranceBackward = ("entrance", "backward"),
    /// Cells an intermediate AIN moved towards the exit.
    IntermediateForward = ("intermediate", "forward"),
    /// Cells an intermediate AIN moved towards the entrance.
    IntermediateBackward = ("intermediate", "backward"),
    /// Cells the exit took out of last TVTs.
    ExitForward = ("exit", "forward"),
    /// Cells the exit put into last TVTs.
    ExitBackward = ("exit", "backward"),
    /// Inner datagrams that came in through host tunnels.
    HostIn = ("host", "in"),
    /// Inner datagrams that went out through host tunnels.
    HostOut = ("host", "out"),
    /// Signals that came in through PVTs.
    PvtIn = ("pvt", "in"),
    /// Signals that went out through PVTs.
    PvtOut = ("pvt", "out"),
}

#[derive(Default)]
struct Cell(AtomicU64);

impl Cell {
    fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }
}

/// Packets and bytes of one kind.
#[derive(Default)]
struct Moved {
    packets: Cell,
    bytes: Cell,
}

/// Packets and bytes of a burst, to be counted together.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    packets: u64,
    bytes: u64,
}

impl Tally {
    /// Adds one packet of `bytes`.
    pub fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// The counters of one worker, on cache lines of their own.
#[derive(Default)]
pub struct Counters {
    moved: CachePadded<[Moved; Traffic::COUNT]>,
    drops: CachePadded<[Cell; DropReason::COUNT]>,
    handed_over: CachePadded<Cell>,
}

impl Counters {
    /// Adds one packet of `bytes`.
    pub fn moved(&self, what: Traffic, bytes: usize) {
        let m = &self.moved[what as usize];
        m.packets.add(1);
        m.bytes.add(bytes as u64);
    }

    /// Adds a burst.
    pub fn moved_many(&self, what: Traffic, burst: Tally) {
        if burst.packets > 0 {
            let m = &self.moved[what as usize];
            m.packets.add(burst.packets);
            m.bytes.add(burst.bytes);
        }
    }

    /// Adds `n` lost packets.
    pub fn dropped_many(&self, why: DropReason, n: usize) {
        self.drops[why as usize].add(n as u64);
    }

    /// Adds a lost packet.
    pub fn dropped(&self, why: DropReason) {
        self.dropped_many(why, 1);
    }

    /// Adds a packet given to the worker that owns its association.
    pub fn handed_over(&self) {
        self.handed_over.add(1);
    }

    /// (packets, bytes) of one kind.
    pub fn traffic(&self, what: Traffic) -> (u64, u64) {
        let m = &self.moved[what as usize];
        (m.packets.0.load(Relaxed), m.bytes.0.load(Relaxed))
    }

    /// Packets lost for one reason.
    pub fn drops(&self, why: DropReason) -> u64 {
        self.drops[why as usize].0.load(Relaxed)
    }

    /// Packets given to other workers.
    pub fn handovers(&self) -> u64 {
        self.handed_over.0.load(Relaxed)
    }
}
