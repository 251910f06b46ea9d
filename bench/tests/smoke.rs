//! Every measurement runs, and the summary has what it promises. The figures themselves say nothing here.

use std::fs;
use std::process::Command;

use ain_bench::goals;
use ain_bench::summary::Summary;

/// Figures without a goal that others read.
const PROMISED: [&str; 18] = [
    "intermediate.gmac.1k.mpps",
    "intermediate.gmac.1k.cycles",
    "intermediate.gmac.1k.floor_cycles",
    "entrance.forward.hops3.gmac.1k.efficiency",
    "entrance.backward.hops3.gmac.1k.efficiency",
    "exit.forward.gmac.1k.efficiency",
    "exit.backward.gmac.1k.efficiency",
    "intermediate.gmac.1k.jumbo.gbps",
    "intermediate.cmac.1k.efficiency",
    "intermediate.gmac.1k.efficiency_asked",
    "stages.verify.cycles",
    "scaling.workers2.ratio",
    "memory.entries_bytes",
    "churn.0.loss",
    "churn.10k.loss",
    "latency.half_load.p50_us",
    "machine.tsc_ghz",
    "machine.steal_percent",
];

/// Wants two cores.
const OF_TWO_CORES: [&str; 3] = ["scaling", "churn", "latency"];

#[test]
fn every_line_runs_and_the_summary_is_whole() {
    let out = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("smoke");
    let output = Command::new(env!("CARGO_BIN_EXE_ain-bench"))
        .args(["all", "--smoke", "--out"])
        .arg(&out)
        .output()
        .expect("ain-bench starts");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let summary = Summary::read(&out.join("summary.json")).expect("a flat object");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for name in goals::names().chain(PROMISED) {
        let wanted = cores > 1 || !OF_TWO_CORES.iter().any(|one| name.starts_with(one));
        // On a machine that holds the wire up all the time no packet has a latency.
        let untimed = name.starts_with("latency.half_load.p")
            && summary.figure("latency.half_load.left_out_percent") == Some(100.0);
        // A million AIVTs are not for a smoke test.
        if wanted && !untimed && !name.contains(".1M.") {
            assert!(summary.figure(name).is_some(), "no figure {name}\n{stdout}");
        }
    }
    for plot in ["efficiency.svg", "cycles.svg", "gbps.svg"] {
        let text = fs::read_to_string(out.join(plot)).expect(plot);
        assert!(text.contains("<svg") && text.contains("intermediate"), "{plot}: {text}");
    }
    assert!(stdout.contains("goal"), "{stdout}");
}
