//! Cycles a packet in every role, beside the floor of the same run.

use ain_crypto::MacAlgorithm;
use ain_dataplane::wire::cell::CellProfile;

use super::{Run, Scale};
use crate::backend::Fresh;
use crate::memory::Memories;
use crate::role::{Case, Measured, Role, Ways};
use crate::turns::{Figures, measure};

const GMAC: MacAlgorithm = MacAlgorithm::Aes128Gmac;
const HMAC: MacAlgorithm = MacAlgorithm::HmacSha256_128;
const CMAC: MacAlgorithm = MacAlgorithm::AesCmac96;

/// The lines of a table at this scale.
pub fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = headlines();
    let counts: &[u32] = scale.pick(&[10], &[1, 100_000, 1_000_000], &[1, 1000, 100_000, 1_000_000]);
    for &aivts in counts {
        for ah in scale.pick(&[GMAC][..], &[GMAC], &[GMAC, HMAC]) {
            cases.push(Case {
                ah: *ah,
                aivts,
                ..Case::HEADLINE
            });
        }
    }
    for &burst in scale.pick(&[1][..], &[1, 8, 64], &[1, 2, 4, 8, 16, 64]) {
        for ah in [GMAC, HMAC] {
            cases.push(Case {
                ah,
                burst,
                ..Case::HEADLINE
            });
        }
    }
    cases.push(Case {
        ah: CMAC,
        ..Case::HEADLINE
    });
    for ways in [Ways::Forward, Ways::Backward] {
        cases.push(Case { ways, ..Case::HEADLINE });
    }
    for ways in [Ways::Forward, Ways::Backward] {
        cases.extend(edges(scale, ways));
    }
    let jumbo = |case: &Case| Case {
        profile: CellProfile::Jumbo,
        chunk: case.chunk / 4,
        ..*case
    };
    let standard = headlines();
    cases.extend(
        standard
            .iter()
            .filter(|case| scale != Scale::Quick || case.ah == GMAC)
            .map(jumbo),
    );
    if scale == Scale::Smoke {
        cases.iter_mut().for_each(shrink);
    }
    let mut seen = Vec::new();
    cases.retain(|case| {
        let new = !seen.contains(&case.name());
        seen.push(case.name());
        new
    });
    cases
}

/// What the goals are about.
fn headlines() -> Vec<Case> {
    let mut cases = Vec::new();
    for ah in [GMAC, HMAC] {
        cases.push(Case { ah, ..Case::HEADLINE });
        for role in [Role::Entrance, Role::Exit] {
            for ways in [Ways::Forward, Ways::Backward] {
                cases.push(Case {
                    role,
                    ways,
                    ah,
                    ..Case::HEADLINE
                });
            }
        }
    }
    cases
}

/// Path lengths, datagram sizes and many AIVTs at entrance and exit.
fn edges(scale: Scale, ways: Ways) -> Vec<Case> {
    let mut cases = Vec::new();
    for &hops in scale.pick(&[1][..], &[1, 5], &[1, 2, 4, 5]) {
        cases.push(Case {
            role: Role::Entrance,
            ways,
            hops,
            ..Case::HEADLINE
        });
    }
    for role in [Role::Entrance, Role::Exit] {
        let case = Case {
            role,
            ways,
            ..Case::HEADLINE
        };
        for &bytes in scale.pick(&[100][..], &[100, 680], &[64, 100, 340, 680, 1000, 1384]) {
            cases.push(Case {
                datagram: Some(bytes),
                ..case
            });
        }
        for &aivts in scale.pick(&[1][..], &[100_000], &[1, 100_000]) {
            cases.push(Case { aivts, ..case });
        }
    }
    cases
}

/// Counts that say nothing.
fn shrink(case: &mut Case) {
    case.chunk = case.chunk.min(64);
    case.aivts = case.aivts.min(1000);
}

/// Measures `cases` one after the other.
///
/// # Errors
/// When a case cannot be set up, or packets get lost.
pub fn run<C: Fresh, P: Memories>(run: &mut Run<'_, P>, cases: &[Case], turns: usize) -> anyhow::Result<()> {
    println!(
        "\n{:<44} {:>7} {:>7} {:>6} {:>7} {:>7} {:>7} {:>8} {:>8} {:>6} {:>6}",
        "cycles a packet", "path", "floor", "eff", "asked", "Mpps", "Gb/s", "path min", "flr min", "iqr%", "iqr%"
    );
    let mut done: Vec<(Case, Figures)> = Vec::new();
    for case in cases {
        let buffers = (2 * case.chunk + 1024).next_power_of_two() - 1;
        let pool = run.memories.pool(buffers, case.longest_frame())?;
        let figures = measure(&mut Measured::<C, _>::new(*case, pool)?, &run.clock, turns)?;
        row(run, &case.name(), &figures);
        // An edge's headline is a packet each way.
        let opposite = done.iter().find(|(other, _)| is_opposite(other, case));
        if let Some((_, other)) = opposite {
            let both = Case {
                ways: Ways::Both,
                ..*case
            };
            row(run, &both.name(), &other.and(&figures));
        }
        done.push((*case, figures));
    }
    let one_of_them = "intermediate.gmac.1k.mpps";
    for count in ["1", "100k", "1M"] {
        let name = format!("intermediate.gmac.{count}");
        run.summary
            .put_ratio(&format!("{name}.ratio_to_1k"), &format!("{name}.mpps"), one_of_them);
    }
    Ok(())
}

fn is_opposite(one: &Case, other: &Case) -> bool {
    let both = |case: &Case| Case {
        ways: Ways::Both,
        ..*case
    };
    one.role != Role::Intermediate && one.ways != other.ways && both(one) == both(other)
}

fn row<P: Memories>(run: &mut Run<'_, P>, name: &str, figures: &Figures) {
    println!(
        "{name:<44} {:>7.0} {:>7.0} {:>6.3} {:>7.0} {:>7.3} {:>7.2} {:>8.0} {:>8.0} {:>6.1} {:>6.1}",
        figures.path.median,
        figures.floor.median,
        figures.efficiency(),
        figures.asked.median,
        figures.mpps(),
        figures.gbps(),
        figures.path.min,
        figures.floor.min,
        figures.path.iqr_percent(),
        figures.floor.iqr_percent()
    );
    let mut put = |key: &str, value: f64| run.summary.put(&format!("{name}.{key}"), value);
    put("efficiency", figures.efficiency());
    put("ratio_to_floor", 1.0 / figures.efficiency());
    put("cycles", figures.path.median);
    put("cycles_min", figures.path.min);
    put("cycles_iqr_percent", figures.path.iqr_percent());
    put("floor_cycles", figures.floor.median);
    put("floor_cycles_min", figures.floor.min);
    put("floor_cycles_iqr_percent", figures.floor.iqr_percent());
    put("floor_asked_cycles", figures.asked.median);
    put("efficiency_asked", figures.asked.median / figures.path.median);
    put("mpps", figures.mpps());
    put("gbps", figures.gbps());
}
