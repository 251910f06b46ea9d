//! Counters of one worker. One writer, any reader, no lock: a worker adds by load and store, a scrape only loads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use crate::nat::Made;
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
    /// Packets of the Internet that an open exit put into AIVTs.
    InternetIn = ("internet", "in"),
    /// Packets that an open exit sent into the Internet.
    InternetOut = ("internet", "out"),
}

/// What a slot of a tunnel with a rate was used for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum SlotUse {
    /// A cell of a TVT.
    Cell = 0,
    /// A PVT's signal, a host's datagram.
    Own = 1,
    /// Nothing waited.
    Dummy = 2,
    /// No packet left before the slot was over.
    Missed = 3,
}

impl SlotUse {
    /// Every use, in counter order.
    pub const ALL: [Self; 4] = [Self::Cell, Self::Own, Self::Dummy, Self::Missed];

    /// Name of the counter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cell => "cell",
            Self::Own => "own",
            Self::Dummy => "dummy",
            Self::Missed => "missed",
        }
    }
}

#[derive(Default)]
struct Cell(AtomicU64);

impl Cell {
    fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }
}

/// One cell a reason.
struct Drops([Cell; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Cell::default()))
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
    drops: CachePadded<Drops>,
    handed_over: CachePadded<Cell>,
    slots: CachePadded<[Cell; SlotUse::ALL.len()]>,
    mappings: CachePadded<[Cell; 2]>,
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
        self.drops.0[why as usize].add(n as u64);
    }

    /// Adds a lost packet.
    pub fn dropped(&self, why: DropReason) {
        self.dropped_many(why, 1);
    }

    /// Adds a packet given to the worker that owns its association.
    pub fn handed_over(&self) {
        self.handed_over.add(1);
    }

    /// Adds `n` slots of tunnels with a rate.
    pub fn slots(&self, of: SlotUse, n: u64) {
        self.slots[of as usize].add(n);
    }

    /// Slots by what they were used for.
    pub fn slots_used(&self, of: SlotUse) -> u64 {
        self.slots[of as usize].0.load(Relaxed)
    }

    /// Notes how many mappings the worker's open exit has made and ended since its start.
    pub fn mappings(&self, now: Made) {
        let [made, ended] = &*self.mappings;
        made.0.store(now.made, Relaxed);
        ended.0.store(now.ended, Relaxed);
    }

    /// Mappings that the worker's open exit has made and ended since its start.
    pub fn mappings_made(&self) -> Made {
        let [made, ended] = self.mappings.each_ref().map(|cell| cell.0.load(Relaxed));
        Made { made, ended }
    }

    /// (packets, bytes) of one kind.
    pub fn traffic(&self, what: Traffic) -> (u64, u64) {
        let m = &self.moved[what as usize];
        (m.packets.0.load(Relaxed), m.bytes.0.load(Relaxed))
    }

    /// Packets lost for one reason.
    pub fn drops(&self, why: DropReason) -> u64 {
        self.drops.0[why as usize].0.load(Relaxed)
    }

    /// Packets given to other workers.
    pub fn handovers(&self) -> u64 {
        self.handed_over.0.load(Relaxed)
    }
}
