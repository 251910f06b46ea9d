//! What a node says about itself, to `ain status` and to Prometheus: sums, and the operators' own names of neighbours and ports.
//! No user, no address of a user, no SPI, no AIVT.

use std::fmt::{self, Write as _};

use ain_dataplane::count::{Counters, SlotUse, Traffic};
use ain_dataplane::verdict::DropReason;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One figure with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Its name.
    pub name: String,
    /// The figure.
    pub count: u64,
}

impl Sum {
    /// The figure `count` under the name `name`.
    pub fn new(name: impl Into<String>, count: u64) -> Self {
        Self {
            name: name.into(),
            count,
        }
    }
}

/// What moved in one role and direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficSum {
    /// entrance, intermediate, exit, host or pvt.
    pub role: String,
    /// forward and backward, or in and out.
    pub direction: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// How many AIVTs this node is in, in one role and state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AivtSum {
    /// entrance, intermediate or exit.
    pub role: String,
    /// creating or standing.
    pub state: String,
    /// How many.
    pub count: u64,
}

/// A PVT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourReport {
    /// The neighbour's name in the directory.
    pub name: String,
    /// Whether it answers.
    pub up: bool,
    /// Requests that wait for its ACK.
    pub pending: u64,
    /// Its creating signals that were opened.
    pub creates_opened: u64,
    /// Whether the link-layer address towards it is known.
    pub next_hop_known: bool,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortReport {
    /// Its name in the configuration.
    pub name: String,
    /// The workers' counters and the driver's.
    pub counters: Vec<Sum>,
    /// How its packets reach several workers.
    pub spread: SpreadReport,
    /// What went through its tap, if it has one.
    #[serde(default)]
    pub exceptions: Vec<Sum>,
}

/// How a port's packets reach several workers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpreadReport {
    /// rss-ah-spi, software hand-off or one queue.
    pub mode: String,
    /// Why so.
    pub reason: String,
}

/// Whose cryptography the workers run, and behind a slash its code for this CPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CryptoReport {
    /// Of AH.
    pub mac: String,
    /// Of ESP.
    pub aead: String,
    /// Of the onion.
    pub layer: String,
}

/// Keys by IKE.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IkeReport {
    /// Whether charon is there.
    pub connected: bool,
    /// Tunnels that have all their associations, and that have not.
    pub tunnels: [u64; 2],
    /// Associations that charon has made.
    pub associations: u64,
    /// Associations installed, refused and expired, and charon processes met, since the start.
    pub events: Vec<Sum>,
}

/// What signalling has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalReport {
    /// Sent, by kind, repetitions included.
    pub sent: Vec<Sum>,
    /// Received, by kind, repetitions included.
    pub received: Vec<Sum>,
    /// Requests sent again for want of an ACK.
    pub resent: u64,
    /// Requests received that had been received before.
    pub repeated: u64,
    /// CREATEs refused here, by reason.
    pub refused: Vec<Sum>,
    /// Others that came to nothing: given_up, malformed, stray, overload, queue_full, never_whole.
    pub problems: Vec<Sum>,
}

/// A node at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its name in the directory.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// Cryptography.
    pub crypto: CryptoReport,
    /// Static AIVTs of a `[benchmark]`; 0 on every node that serves users.
    #[serde(default)]
    pub benchmark_aivts: u64,
    /// Whether packets that have come before are taken again; never on a node that serves users.
    #[serde(default)]
    pub takes_replays: bool,
    /// PVTs.
    pub neighbours: Vec<NeighbourReport>,
    /// AIVTs by role and state.
    pub aivts: Vec<AivtSum>,
    /// Flows that have, or wait for, an AIVT at this entrance.
    pub flows: u64,
    /// AH key schedules in use: of associations, and of AIVTs that were made under earlier ones.
    #[serde(default)]
    pub ah_keys: u64,
    /// Tickets of other nodes that this entrance holds.
    #[serde(default)]
    pub wallet: u64,
    /// Figures of the control node without a label of their own, as in `ain_{name}_total`.
    pub control: Vec<Sum>,
    /// New directories since the start, taken and refused.
    #[serde(default)]
    pub directories: Vec<Sum>,
    /// Reloads of the configuration since the start, taken and refused.
    #[serde(default)]
    pub reloads: Vec<Sum>,
    /// AIVTs that stood and ended, by reason.
    pub ended: Vec<Sum>,
    /// AIVTs that never stood, by reason.
    pub failed: Vec<Sum>,
    /// Keys by IKE, if some tunnel has such.
    #[serde(default)]
    pub ike: Option<IkeReport>,
    /// Signalling.
    pub signals: SignalReport,
    /// What moved, summed over the workers.
    pub traffic: Vec<TrafficSum>,
    /// What was lost, by reason.
    pub drops: Vec<Sum>,
    /// Slots of tunnels with a rate, by what they were used for.
    pub slots: Vec<Sum>,
    /// Packets handed from one worker to another.
    pub handovers: u64,
    /// External ports of the open exit in use.
    #[serde(default)]
    pub open_exit_mappings: u64,
    /// The same since the start, ended ones included.
    #[serde(default)]
    pub open_exit_mappings_made: u64,
    /// Ports.
    pub ports: Vec<PortReport>,
    /// Peers, hosts included, whose next hop has no known link-layer address.
    pub next_hops_unknown: u64,
    /// How often a known one was lost.
    pub next_hops_lost: u64,
    /// Neighbours that keep another rate than their PVT has here.
    pub rate_mismatches: u64,
}

impl Report {
    /// Fills in what the workers counted.
    pub fn add_workers<'a>(&mut self, workers: impl Iterator<Item = &'a Counters> + Clone) {
        for what in Traffic::ALL {
            let (role, direction) = what.labels();
            let moved = workers.clone().map(|worker| worker.traffic(*what));
            let (packets, bytes) = moved.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            self.traffic.push(TrafficSum {
                role: role.into(),
                direction: direction.into(),
                packets,
                bytes,
            });
        }
        for why in DropReason::ALL {
            self.drops.push(Sum::new(
                why.name(),
                workers.clone().map(|worker| worker.drops(*why)).sum(),
            ));
        }
        for used in SlotUse::ALL {
            let count = workers.clone().map(|worker| worker.slots_used(used)).sum();
            self.slots.push(Sum::new(used.name(), count));
        }
        for made in workers.clone().map(Counters::mappings_made) {
            self.open_exit_mappings_made += made.made;
            self.open_exit_mappings += made.made.saturating_sub(made.ended);
        }
        self.handovers += workers.map(Counters::handovers).sum::<u64>();
    }
}

/// For a person: what is there, and of the counters those that are not zero.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.render(&mut out)?;
        f.write_str(out.trim_end())
    }
}

impl Report {
    fn render(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "{}  ain {}, up {}",
            self.name,
            self.version,
            duration(self.uptime_s)
        )?;
        let CryptoReport { mac, aead, layer } = &self.crypto;
        writeln!(out, "  crypto ah {mac}, esp {aead}, onion {layer}")?;
        if self.benchmark_aivts > 0 {
            writeln!(
                out,
                "  BENCHMARK: {} static AIVTs with keys that everybody knows, anti-replay {}",
                self.benchmark_aivts,
                if self.takes_replays { "OFF" } else { "on" }
            )?;
        }
        for one in &self.neighbours {
            let state = if one.up { "up" } else { "DOWN" };
            let hop = if one.next_hop_known { "" } else { ", next hop unknown" };
            writeln!(out, "  pvt {:<20} {state}, {} pending{hop}", one.name, one.pending)?;
        }
        if let Some(ike) = &self.ike {
            let charon = if ike.connected { "charon is there" } else { "NO CHARON" };
            let [up, down] = ike.tunnels;
            writeln!(
                out,
                "  ike {charon}, tunnels {up} up, {down} down, associations {}",
                ike.associations
            )?;
        }
        for one in &self.aivts {
            writeln!(out, "  aivt {:<13} {:<9} {:>10}", one.role, one.state, one.count)?;
        }
        for one in &self.ports {
            writeln!(
                out,
                "  port {:<19} spread = \"{}\": {}",
                one.name, one.spread.mode, one.spread.reason
            )?;
            for sum in one.exceptions.iter().filter(|sum| sum.count > 0) {
                writeln!(out, "  exception {:<14} {:<28} {:>10}", one.name, sum.name, sum.count)?;
            }
        }
        writeln!(out, "  flows {:>32}", self.flows)?;
        writeln!(out, "  ah keys {:>30}", self.ah_keys)?;
        if self.open_exit_mappings_made > 0 {
            let (now, made) = (self.open_exit_mappings, self.open_exit_mappings_made);
            writeln!(out, "  open exit {now:>28} mappings, {made} since the start")?;
        }
        for one in self.traffic.iter().filter(|one| one.packets > 0) {
            writeln!(
                out,
                "  {:<13} {:<9} {:>14} packets {:>18} bytes",
                one.role, one.direction, one.packets, one.bytes
            )?;
        }
        let none = Vec::new();
        let groups = [
            ("drop", &self.drops),
            ("slot", &self.slots),
            ("signal sent", &self.signals.sent),
            ("signal received", &self.signals.received),
            ("create refused", &self.signals.refused),
            ("signal problem", &self.signals.problems),
            ("aivt ended", &self.ended),
            ("aivt failed", &self.failed),
            ("ike", self.ike.as_ref().map_or(&none, |ike| &ike.events)),
            ("reload", &self.reloads),
            ("control", &self.control),
        ];
        for (title, sums) in groups {
            for one in sums.iter().filter(|one| one.count > 0) {
                writeln!(out, "  {title:<16} {:<28} {:>10}", one.name, one.count)?;
            }
        }
        if self.next_hops_unknown + self.next_hops_lost > 0 {
            writeln!(
                out,
                "  next hops unknown {}, lost {} times",
                self.next_hops_unknown, self.next_hops_lost
            )?;
        }
        Ok(())
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The control thread does not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the control thread does not answer")]
pub struct Stalled;

/// Where reports come from.
pub trait Source: Send + Sync {
    /// The node now.
    ///
    /// # Errors
    /// [`Stalled`].
    fn report(&self) -> Result<Report, Stalled>;

    /// All tables of the node as text, keys left out.
    ///
    /// # Errors
    /// [`Stalled`].
    #[cfg(feature = "test-dump")]
    fn dump(&self) -> Result<String, Stalled>;
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A report with every part filled in.
    pub(crate) fn sample() -> Report {
        let counters = [Counters::default(), Counters::default()];
        counters[0].moved(Traffic::IntermediateForward, 1444);
        counters[1].moved(Traffic::IntermediateForward, 1444);
        counters[1].dropped(DropReason::AhIcv);
        let mut report = Report {
            name: "ain1".into(),
            version: "0.0.0".into(),
            uptime_s: 3700,
            crypto: CryptoReport {
                mac: "ipsec-mb/avx512-vaes".into(),
                aead: "ipsec-mb/avx512-vaes".into(),
                layer: "ain/avx512".into(),
            },
            benchmark_aivts: 12,
            takes_replays: true,
            neighbours: vec![NeighbourReport {
                name: "ain2".into(),
                up: true,
                pending: 1,
                creates_opened: 9,
                next_hop_known: false,
            }],
            aivts: vec![AivtSum {
                role: "exit".into(),
                state: "standing".into(),
                count: 4,
            }],
            flows: 3,
            ah_keys: 10,
            control: vec![Sum::new("rebuilds", 2)],
            directories: vec![Sum::new("refused", 2)],
            reloads: vec![Sum::new("taken", 3)],
            ended: vec![Sum::new("inactive", 5)],
            failed: vec![Sum::new("expired", 6)],
            signals: SignalReport {
                sent: vec![Sum::new("create", 7)],
                resent: 8,
                ..SignalReport::default()
            },
            ports: vec![PortReport {
                name: "wan".into(),
                counters: vec![Sum::new("rx_good_packets", 9)],
                spread: SpreadReport {
                    mode: "software hand-off".into(),
                    reason: "net_af_packet has 1 pair of queues for 2 workers".into(),
                },
                exceptions: vec![Sum::new("to_kernel_packets", 13)],
            }],
            next_hops_lost: 1,
            ike: Some(IkeReport {
                connected: true,
                tunnels: [2, 1],
                associations: 8,
                events: vec![Sum::new("refused", 3)],
            }),
            ..Report::default()
        };
        report.add_workers(counters.iter());
        report
    }

    #[test]
    fn workers_are_summed() {
        let report = sample();
        let moved = report
            .traffic
            .iter()
            .find(|one| one.role == "intermediate" && one.direction == "forward")
            .unwrap();
        assert_eq!((moved.packets, moved.bytes), (2, 2888));
        assert_eq!(report.drops.iter().map(|one| one.count).sum::<u64>(), 1);
        assert_eq!(
            (report.traffic.len(), report.drops.len()),
            (Traffic::COUNT, DropReason::COUNT)
        );
    }

    #[test]
    fn a_person_sees_what_is_not_zero() {
        let text = sample().to_string();
        for wanted in [
            "ain1  ain 0.0.0, up 1 h 1 min",
            "crypto ah ipsec-mb/avx512-vaes, esp ipsec-mb/avx512-vaes, onion ain/avx512",
            "spread = \"software hand-off\": net_af_packet has",
            "next hop unknown",
            "ah_icv",
            "2888 bytes",
            "rebuilds",
            "ah keys                             10",
            "ike charon is there, tunnels 2 up, 1 down, associations 8",
            "BENCHMARK: 12 static AIVTs with keys that everybody knows, anti-replay OFF",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        assert!(!text.contains("esp_icv"), "{text}");
    }
}
