//! What the figures were measured on.

use std::fs;
use std::process::Command;

use crate::clock::Clock;
use crate::summary::Summary;

/// CPU features that the backends look for.
const FEATURES: [&str; 9] = [
    "aes",
    "pclmulqdq",
    "sha_ni",
    "avx2",
    "avx512f",
    "avx512vl",
    "vaes",
    "vpclmulqdq",
    "gfni",
];

/// Adds `machine.*`, except how much was stolen.
pub fn describe(summary: &mut Summary, clock: &Clock, backend: &str, memory: &str) {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpu
            .lines()
            .find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| line.split(':').nth(1))
            .unwrap_or("?")
            .trim()
            .to_owned()
    };
    let flags = field("flags");
    let present: Vec<&str> = FEATURES
        .into_iter()
        .filter(|name| flags.split(' ').any(|flag| flag == *name))
        .collect();
    summary.note("machine.cpu", field("model name"));
    summary.note("machine.features", present.join(" "));
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    summary.put("machine.cores", cores as f64);
    summary.put("machine.tsc_ghz", clock.hz() / 1e9);
    summary.note("machine.kernel", text("/proc/sys/kernel/osrelease"));
    summary.note("machine.hugepages", text("/proc/sys/vm/nr_hugepages"));
    let transparent = text("/sys/kernel/mm/transparent_hugepage/enabled");
    summary.note("machine.transparent_hugepages", transparent);
    summary.note("machine.backend", backend);
    summary.note("machine.packet_memory", memory);
    summary.note("machine.commit", commit());
}

fn text(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "?".into(), |text| text.trim().into())
}

fn commit() -> String {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output();
    output.map_or_else(
        |_| "?".into(),
        |output| String::from_utf8_lossy(&output.stdout).trim().into(),
    )
}

/// Time that the hypervisor gave to others since a moment.
#[derive(Clone, Copy, Debug)]
pub struct Steal([u64; 2]);

impl Steal {
    /// From now on.
    pub fn begin() -> Self {
        Self(Self::read())
    }

    /// Percent of the time of all cores. 0 where the kernel does not say.
    pub fn percent(&self) -> f64 {
        let [stolen, all] = Self::read();
        let [stolen_before, all_before] = self.0;
        100.0 * (stolen - stolen_before) as f64 / (all - all_before).max(1) as f64
    }

    /// Jiffies stolen, and all: the fields of proc(5), `/proc/stat`.
    fn read() -> [u64; 2] {
        const STEAL: usize = 7;
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .map_while(|field| field.parse().ok())
            .collect();
        [
            fields.get(STEAL).copied().unwrap_or(0),
            fields.iter().take(STEAL + 1).sum(),
        ]
    }
}
