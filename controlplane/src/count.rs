//! What the control node counts. Sums only: nothing here tells one user, flow or AIVT from another.

use crate::request::Outcome;
use crate::signal::destroy::Reason;
use crate::signal::frame::Kind;

/// One number a kind of signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PerKind([u64; Kind::ALL.len()]);

impl PerKind {
    /// The number of `kind`.
    pub const fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    pub(crate) fn add(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }
}

/// One number a reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PerReason([u64; Reason::ALL.len()]);

impl PerReason {
    /// The number of `reason`.
    pub const fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// All of them together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn add(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }
}

/// One number an outcome of a host's request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PerOutcome([u64; Outcome::ALL.len()]);

impl PerOutcome {
    /// The number of `outcome`.
    pub const fn of(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }

    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
    }
}

/// Tickets since the start: issued, fetched, spent and refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TicketCounts {
    /// Issued to entrances, repeated answers not counted.
    pub issued: u64,
    /// Requests for tickets that got no answer.
    pub not_issued: u64,
    /// Fetched for the wallet.
    pub received: u64,
    /// Datagrams for this node itself that are no request and no answer that it waits for.
    pub malformed: u64,
    /// Spent here.
    pub spent: u64,
    /// CREATEs refused: no ticket.
    pub missing: u64,
    /// CREATEs refused: no ticket of this node.
    pub wrong: u64,
    /// CREATEs refused: the ticket's slice is over or far ahead.
    pub stale: u64,
    /// CREATEs refused: the ticket was spent before.
    pub spent_twice: u64,
    /// CREATEs refused: no room to remember another spent ticket.
    pub no_room: u64,
}

/// Totals since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Tickets.
    pub tickets: TicketCounts,
    /// Signals sent, repetitions included.
    pub sent: PerKind,
    /// Signals received, repetitions included.
    pub received: PerKind,
    /// Requests sent again for want of an ACK.
    pub resent: u64,
    /// Requests received that had been received before.
    pub repeated: u64,
    /// Requests given up after their last repetition.
    pub given_up: u64,
    /// Parts of signals that take several datagrams, received.
    pub parts: u64,
    /// Datagrams on a PVT that are no signals.
    pub malformed: u64,
    /// Signals about no AIVT of this node, or in a state that does not expect them.
    pub stray: u64,
    /// Requests dropped, or not made, because a queue was full.
    pub overload: u64,
    /// CREATEs refused because their neighbour had too many waiting to be opened.
    pub queue_full: u64,
    /// CREATEs that this node refused.
    pub refused: PerReason,
    /// AIVTs that ended here after they stood, by the reason first known here.
    pub ended: PerReason,
    /// AIVTs that ended here before they stood.
    pub failed: PerReason,
    /// Flows turned away at the entrance.
    pub flows_refused: u64,
    /// Of these, flows whose initiator had its quota of AIVTs.
    pub flows_over_quota: u64,
    /// AIVTs that the entrance made in place of another.
    pub rebuilds: u64,
    /// PVTs that went down, neighbours' restarts included.
    pub pvt_downs: u64,
    /// Cells that a hop must have repeated or changed.
    pub misbehaviours: u64,
    /// Requests of hosts, by what came of them.
    pub requests: PerOutcome,
    /// Datagrams of hosts to this node that are no requests.
    pub requests_malformed: u64,
}
