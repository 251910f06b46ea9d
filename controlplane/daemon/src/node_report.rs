//! The control thread's answer to `ain status` and `/metrics`: sums of what the control node, the workers and the ports count.

use std::time::Instant;

use ain_controlplane::aivt::RoleName;
use ain_controlplane::associations::Associations;
use ain_controlplane::count::{PerKind, PerReason, TicketCounts};
use ain_controlplane::request::Outcome;
use ain_controlplane::signal::destroy::Reason;
use ain_controlplane::signal::frame::Kind;
use ain_crypto::Backend;
use ain_dataplane::id::PeerId;
use ain_dataplane::packet::BufPool;
use ain_worker::port::PortCounts;

use crate::control_thread::ControlThread;
use crate::hardware::PortView;
use crate::ike::Ike;
use crate::report::{AivtSum, IkeReport, NeighbourReport, PortReport, Report, SignalReport, Sum};

impl<C: Backend, A: BufPool> ControlThread<C, A> {
    /// The node at this moment.
    pub(crate) fn report(&self, started: Instant) -> Report {
        let counts = self.node.counts();
        let snapshot = self.node.snapshot();
        let found = self.directions.neighbours.found();
        let neighbours = snapshot.pvts.iter().map(|pvt| NeighbourReport {
            name: pvt.name.clone(),
            up: pvt.up,
            pending: pvt.pending as u64,
            creates_opened: pvt.opened,
            next_hop_known: found.contains_key(&pvt.peer),
        });
        let aivts = [("creating", snapshot.creating), ("standing", snapshot.standing)];
        let aivts = aivts.iter().flat_map(|(state, sums)| {
            RoleName::ALL.iter().zip(sums).map(|(role, count)| AivtSum {
                role: role.name().into(),
                state: (*state).into(),
                count: *count as u64,
            })
        });
        let [taken, refused] = self.reloads.read();
        let mut report = Report {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: started.elapsed().as_secs(),
            crypto: self.crypto.clone(),
            benchmark_aivts: self.benchmark.as_ref().map_or(0, |benchmark| benchmark.aivts.into()),
            takes_replays: !self.writer.refuses_replays(),
            neighbours: neighbours.collect(),
            aivts: aivts.collect(),
            flows: snapshot.flows as u64,
            ah_keys: self.writer.keys_in_use() as u64,
            wallet: snapshot.wallet as u64,
            control: vec![
                Sum::new("rebuilds", counts.rebuilds),
                Sum::new("flows_refused", counts.flows_refused),
                Sum::new("flows_over_quota", counts.flows_over_quota),
                Sum::new("pvt_downs", counts.pvt_downs),
                Sum::new("misbehaviours", counts.misbehaviours),
                Sum::new("requests_closed", counts.requests.of(Outcome::Closed)),
                Sum::new("requests_unknown", counts.requests.of(Outcome::Unknown)),
                Sum::new("requests_not_understood", counts.requests.of(Outcome::NotUnderstood)),
                Sum::new("requests_malformed", counts.requests_malformed),
            ]
            .into_iter()
            .chain(tickets(&counts.tickets))
            .collect(),
            directories: vec![
                Sum::new("taken", self.directories[0]),
                Sum::new("refused", self.directories[1]),
            ],
            reloads: vec![Sum::new("taken", taken), Sum::new("refused", refused)],
            ended: reasons(&counts.ended),
            failed: reasons(&counts.failed),
            ike: self.sources.ike.as_ref().map(|ike| ike_report(ike, &self.associations)),
            signals: SignalReport {
                sent: kinds(&counts.sent),
                received: kinds(&counts.received),
                resent: counts.resent,
                repeated: counts.repeated,
                refused: reasons(&counts.refused),
                problems: vec![
                    Sum::new("given_up", counts.given_up),
                    Sum::new("malformed", counts.malformed),
                    Sum::new("stray", counts.stray),
                    Sum::new("overload", counts.overload),
                    Sum::new("queue_full", counts.queue_full),
                    Sum::new("never_whole", snapshot.never_whole),
                ],
            },
            ports: self.views.iter().map(port).collect(),
            next_hops_unknown: self.directions.neighbours.unknown() as u64,
            next_hops_lost: self.directions.neighbours.lost(),
            rate_mismatches: self.rates.wrong(),
            ..Report::default()
        };
        report.add_workers(self.counters.iter().map(|counters| &**counters));
        report
    }
}

fn ike_report(ike: &Ike, associations: &Associations) -> IkeReport {
    let counts = ike.source().counts();
    let (up, down): (Vec<PeerId>, Vec<PeerId>) = ike.source().peers().partition(|peer| associations.is_up(*peer));
    IkeReport {
        connected: ike.is_connected(),
        tunnels: [up.len() as u64, down.len() as u64],
        associations: ike.source().len() as u64,
        events: vec![
            Sum::new("installed", counts.installed),
            Sum::new("refused", counts.refused),
            Sum::new("expired_soft", counts.expired_soft),
            Sum::new("expired_hard", counts.expired_hard),
            Sum::new("charon_starts", counts.sessions),
        ],
    }
}

fn tickets(counts: &TicketCounts) -> [Sum; 10] {
    [
        ("tickets_issued", counts.issued),
        ("tickets_not_issued", counts.not_issued),
        ("tickets_received", counts.received),
        ("tickets_malformed", counts.malformed),
        ("tickets_spent", counts.spent),
        ("tickets_missing", counts.missing),
        ("tickets_wrong", counts.wrong),
        ("tickets_stale", counts.stale),
        ("tickets_spent_twice", counts.spent_twice),
        ("tickets_no_room", counts.no_room),
    ]
    .map(|(name, count)| Sum::new(name, count))
}

fn kinds(per: &PerKind) -> Vec<Sum> {
    Kind::ALL
        .iter()
        .map(|kind| Sum::new(kind.name(), per.of(*kind)))
        .collect()
}

fn reasons(per: &PerReason) -> Vec<Sum> {
    Reason::ALL
        .iter()
        .map(|reason| Sum::new(reason.name(), per.of(*reason)))
        .collect()
}

fn port(view: &PortView) -> PortReport {
    let all: Vec<PortCounts> = view.counters.iter().map(|counters| counters.read()).collect();
    let sum = |name: &str, of: fn(&PortCounts) -> u64| Sum::new(name, all.iter().map(of).sum());
    let mut counters = vec![
        sum("rx_packets", |c| c.rx_packets),
        sum("rx_bytes", |c| c.rx_bytes),
        sum("rx_dropped", |c| c.rx_dropped),
        sum("tx_packets", |c| c.tx_packets),
        sum("tx_bytes", |c| c.tx_bytes),
        sum("tx_dropped", |c| c.tx_dropped),
    ];
    let driver = (view.driver)();
    counters.extend(
        driver
            .into_iter()
            .map(|one| Sum::new(format!("driver_{}", one.name), one.count)),
    );
    PortReport {
        name: view.name.clone(),
        counters,
        spread: view.spread.clone(),
        exceptions: view.tap.as_ref().map(|tap| exceptions(tap.read())).unwrap_or_default(),
    }
}

/// What went to the kernel was sent by the tap.
fn exceptions(tap: PortCounts) -> Vec<Sum> {
    let sums = [
        ("to_kernel_packets", tap.tx_packets),
        ("to_kernel_bytes", tap.tx_bytes),
        ("to_kernel_dropped", tap.tx_dropped),
        ("from_kernel_packets", tap.rx_packets),
        ("from_kernel_bytes", tap.rx_bytes),
        ("from_kernel_dropped", tap.rx_dropped),
    ];
    sums.map(|(name, count)| Sum::new(name, count)).into()
}
