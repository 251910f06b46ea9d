//! What one neighbour or initiator may have of a node (issue 4, line 7), and what tunnels with a rate take (line 6).

use std::num::NonZeroU64;

use ain_dataplane::allowance::Allowance;

use super::*;
use crate::hardware::buffers;

const NEIGHBOUR: &str = "node = \"ain2\"";
const INITIATOR: &str = "name = \"alice\"";
const RESPONDER: &str = "name = \"web\"";

fn with(section: &str, limits: &str) -> Samples {
    let samples = Samples::new();
    samples.edit("ain.toml", section, &format!("limits = {{ {limits} }}\n{section}"));
    samples
}

fn node(samples: &Samples) -> Box<NodeConfig> {
    match samples.check("ain.toml") {
        Ok(AnyConfig::Node(node)) => node,
        other => panic!("{other:?}"),
    }
}

/// So many flows a second, and at once.
fn flows(per_s: u64) -> Option<Allowance> {
    let burst = per_s;
    NonZeroU64::new(per_s).map(|per_s| Allowance { per_s, burst })
}

#[test]
fn line_7_limits_are_taken_and_have_defaults() {
    let plain = node(&Samples::new());
    let expected = NeighbourLimits {
        creates_per_second: 12_000,
        aivts_percent: 50,
    };
    assert_eq!(plain.neighbours[0].limits, expected);
    assert_eq!(
        plain.hosts[0].limits,
        HostLimits {
            aivts_per_slice: None,
            allowance: None,
            flows: flows(1000),
        }
    );
    let changed = node(&with(NEIGHBOUR, "creates_per_second = 100"));
    assert_eq!(
        changed.neighbours[0].limits,
        NeighbourLimits {
            creates_per_second: 100,
            ..expected
        }
    );
    let changed = node(&with(INITIATOR, "aivts_per_slice = 500"));
    assert_eq!(changed.hosts[0].limits.aivts_per_slice, Some(500));
    let changed = node(&with(INITIATOR, "mbps = 8, burst_kib = 64"));
    let allowance = changed.hosts[0].limits.allowance.unwrap();
    assert_eq!((allowance.per_s.get(), allowance.burst), (1_000_000, 65_536));
    let changed = node(&with(INITIATOR, "flows_per_second = 20"));
    assert_eq!(changed.hosts[0].limits.flows, flows(20));
}

#[test]
fn line_7_limits_that_are_none() {
    for (section, limits, why) in [
        (NEIGHBOUR, "creates_per_second = 0", "0 is not 1 to 4294967295"),
        (NEIGHBOUR, "aivts_percent = 101", "101 is not 1 to 100"),
        (INITIATOR, "aivts_per_slice = 0", "0 is not 1 to 4294967295"),
        (INITIATOR, "mbps = 0", "0 is not 1 to 1000000"),
        (INITIATOR, "mbps = 1, burst_kib = 63", "63 is not 64 to 65536"),
        (INITIATOR, "burst_kib = 64", "needs mbps"),
        (INITIATOR, "flows_per_second = 0", "0 is not 1 to 4294967295"),
        (RESPONDER, "aivts_per_slice = 1", "only an initiator is limited"),
    ] {
        let problems = with(section, limits).problems("ain.toml");
        assert!(problems.len() == 1 && problems[0].contains(why), "{problems:?}");
    }
}

/// Load on a tunnel with a rate fills its queue, and leaves the dummies of all others their buffers.
#[test]
fn line_6_packet_memory_has_room_for_the_queues_of_tunnels_with_a_rate() {
    let samples = Samples::new();
    let without = buffers(&node(&samples));
    let more_than = |before: usize| buffers(&node(&samples)) - before;
    samples.edit("ain.toml", "# rate = 100 ", "rate = 100 ");
    assert_eq!(more_than(without), 512, "datagrams of a host");
    samples.edit("ain.toml", "# rate = 200 ", "rate = 200 ");
    assert_eq!(more_than(without), 512 + 512 + 256, "and a PVT's cells and signals");
}
