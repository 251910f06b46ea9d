//! What the figures have to be.

use crate::summary::Summary;

/// Which way a figure may differ from its goal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bound {
    AtLeast,
    AtMost,
}

/// One goal: what it is about, the figure's name, and what it has to be.
const GOALS: [(&str, &str, Bound, f64); 12] = [
    (
        "intermediate, GMAC, 1k AIVTs: efficiency",
        "intermediate.gmac.1k.efficiency",
        Bound::AtLeast,
        0.85,
    ),
    (
        "the same, Gb/s a core",
        "intermediate.gmac.1k.gbps",
        Bound::AtLeast,
        30.0,
    ),
    (
        "the same with 1M AIVTs, of the 1k figure",
        "intermediate.gmac.1M.ratio_to_1k",
        Bound::AtLeast,
        0.65,
    ),
    (
        "bytes an AIVT at an intermediate AIN",
        "memory.aivt_bytes",
        Bound::AtMost,
        2560.0,
    ),
    (
        "entrance, 3 hops: efficiency",
        "entrance.hops3.gmac.1k.efficiency",
        Bound::AtLeast,
        0.8,
    ),
    ("exit: efficiency", "exit.gmac.1k.efficiency", Bound::AtLeast, 0.8),
    (
        "intermediate, HMAC: of its floor",
        "intermediate.hmac.1k.ratio_to_floor",
        Bound::AtMost,
        1.15,
    ),
    (
        "2 workers, of what the primitives gain",
        "scaling.workers2.ratio_to_primitives",
        Bound::AtLeast,
        0.95,
    ),
    (
        "HCTR2 of CTR and POLYVAL, 1408 bytes",
        "hctr2.1408.ratio_to_ctr_polyval",
        Bound::AtMost,
        1.5,
    ),
    (
        "CREATE, X25519, a second and core",
        "create.x25519.per_second",
        Bound::AtLeast,
        10_000.0,
    ),
    (
        "loss by 10k AIVTs a second coming and going",
        "churn.10k.loss_added",
        Bound::AtMost,
        0.0005,
    ),
    (
        "latency at half load, p99, us",
        "latency.half_load.p99_us",
        Bound::AtMost,
        20.0,
    ),
];

/// Prints each goal, its figure, and whether it is met. How many are missed.
pub fn print(summary: &Summary) -> usize {
    println!("\n{:<46} {:>11} {:>10}", "goal", "", "figure");
    let mut missed = 0;
    for (what, name, bound, goal) in GOALS {
        let Some(figure) = summary.figure(name) else { continue };
        let (sign, met) = match bound {
            Bound::AtLeast => (">=", figure >= goal),
            Bound::AtMost => ("<=", figure <= goal),
        };
        missed += usize::from(!met);
        let verdict = if met { "met" } else { "MISSED" };
        println!("{what:<46} {sign} {goal:>8} {figure:>10.4}  {verdict}");
    }
    missed
}

/// The goal of a figure.
pub fn goal(name: &str) -> Option<f64> {
    GOALS
        .iter()
        .find(|(_, figure, ..)| *figure == name)
        .map(|(.., goal)| *goal)
}

/// Names of all figures that have a goal.
pub fn names() -> impl Iterator<Item = &'static str> {
    GOALS.iter().map(|(_, name, ..)| *name)
}
