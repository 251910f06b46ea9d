//! What an eavesdropper makes of two kinds of figures: how well they tell one kind of packet from another.

/// How often a figure of the first kind is above one of the second, ties halved: the area under the ROC curve, with its 95% interval
/// (Hanley and McNeil 1982). 0.5: they tell nothing.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Auc {
    /// The area.
    pub area: f64,
    /// Half the width of its 95% interval.
    pub margin: f64,
}

impl Auc {
    /// Of two kinds of figures, by ranks. `None` where one kind has none.
    pub fn of(first: &[f64], second: &[f64]) -> Option<Self> {
        let (n, m) = (first.len() as f64, second.len() as f64);
        if first.is_empty() || second.is_empty() {
            return None;
        }
        let mut all: Vec<(f64, bool)> = first.iter().map(|figure| (*figure, true)).collect();
        all.extend(second.iter().map(|figure| (*figure, false)));
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut rank_sum = 0.0;
        let mut below = 0;
        for equal in all.chunk_by(|a, b| a.0 == b.0) {
            let rank = below as f64 + (equal.len() + 1) as f64 / 2.0;
            rank_sum += rank * equal.iter().filter(|(_, is_first)| *is_first).count() as f64;
            below += equal.len();
        }
        let area = (rank_sum - n * (n + 1.0) / 2.0) / (n * m);
        let (q1, q2) = (area / (2.0 - area), 2.0 * area * area / (1.0 + area));
        let variance =
            (area * (1.0 - area) + (n - 1.0) * (q1 - area * area) + (m - 1.0) * (q2 - area * area)) / (n * m);
        Some(Self {
            area,
            margin: 1.96 * variance.max(0.0).sqrt(),
        })
    }

    /// For an adversary who may choose which kind is the larger one.
    pub fn either_way(self) -> Self {
        Self {
            area: self.area.max(1.0 - self.area),
            ..self
        }
    }
}

/// Logistic regression on standardized features: learned on one half of the samples and judged on the other, both ways.
pub fn logistic<const N: usize>(samples: &[([f64; N], bool)]) -> Option<Auc> {
    let (first, second) = samples.split_at(samples.len() / 2);
    let (one, other) = (learned(first, second)?, learned(second, first)?);
    Some(Auc {
        area: (one.area + other.area) / 2.0,
        margin: one.margin.hypot(other.margin) / 2.0,
    })
}

fn learned<const N: usize>(known: &[([f64; N], bool)], unknown: &[([f64; N], bool)]) -> Option<Auc> {
    let scale = scale_of(known);
    let standard = |features: &[f64; N]| -> [f64; N] {
        std::array::from_fn(|at| ((features[at] - scale[at].0) / scale[at].1).clamp(-5.0, 5.0))
    };
    let known: Vec<([f64; N], f64)> = known
        .iter()
        .map(|(f, label)| (standard(f), f64::from(*label)))
        .collect();
    let (mut weights, mut bias) = ([0.0; N], 0.0);
    for _ in 0..ROUNDS {
        let (mut slope, mut lean) = ([0.0; N], 0.0);
        for (features, label) in &known {
            let error = sigmoid(score(&weights, bias, features)) - label;
            lean += error;
            (0..N).for_each(|at| slope[at] += error * features[at]);
        }
        let step = STEP / known.len() as f64;
        bias -= step * lean;
        (0..N).for_each(|at| weights[at] -= step * slope[at]);
    }
    let scores = |wanted: bool| -> Vec<f64> {
        let of = unknown.iter().filter(|(_, label)| *label == wanted);
        of.map(|(features, _)| score(&weights, bias, &standard(features)))
            .collect()
    };
    Auc::of(&scores(true), &scores(false))
}

/// Rounds of gradient descent, and the length of a step: enough for a handful of standardized features.
const ROUNDS: usize = 300;
const STEP: f64 = 1.0;

/// Mean and standard deviation of each feature.
fn scale_of<const N: usize>(samples: &[([f64; N], bool)]) -> [(f64, f64); N] {
    let n = samples.len().max(1) as f64;
    std::array::from_fn(|at| {
        let mean = samples.iter().map(|(features, _)| features[at]).sum::<f64>() / n;
        let squares = samples
            .iter()
            .map(|(features, _)| (features[at] - mean).powi(2))
            .sum::<f64>();
        (mean, (squares / n).sqrt().max(f64::MIN_POSITIVE))
    })
}

fn score<const N: usize>(weights: &[f64; N], bias: f64, features: &[f64; N]) -> f64 {
    bias + (0..N).map(|at| weights[at] * features[at]).sum::<f64>()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha12Rng;

    use super::*;

    #[test]
    fn areas_by_hand() {
        let area = |first: &[f64], second: &[f64]| Auc::of(first, second).unwrap().area;
        assert_eq!(area(&[2.0, 3.0], &[0.0, 1.0]), 1.0);
        assert_eq!(area(&[0.0, 1.0], &[2.0, 3.0]), 0.0);
        assert_eq!(area(&[1.0, 1.0], &[1.0]), 0.5);
        assert_eq!(area(&[1.0, 3.0], &[2.0, 0.0]), 0.75);
        assert!(Auc::of(&[], &[1.0]).is_none());
        assert_eq!(Auc::of(&[0.0], &[1.0]).unwrap().either_way().area, 1.0);
    }

    #[test]
    fn the_margin_shrinks_with_the_samples() {
        let figures: Vec<f64> = (0..10_000u32)
            .map(|n| f64::from(n.wrapping_mul(2_654_435_761) >> 8))
            .collect();
        let auc = Auc::of(&figures[..5000], &figures[5000..]).unwrap();
        assert!(
            (auc.area - 0.5).abs() < auc.margin && (0.010..0.013).contains(&auc.margin),
            "{auc:?}"
        );
    }

    #[test]
    fn logistic_regression_finds_what_is_there_and_nothing_else() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut noise = || f64::from(rng.next_u32()) / f64::from(u32::MAX);
        let mut samples = |shift: f64| -> Vec<([f64; 2], bool)> {
            let mut sample = |_| {
                let label = noise() > 0.5;
                ([noise(), noise() + if label { shift } else { 0.0 }], label)
            };
            (0..4000).map(&mut sample).collect()
        };
        assert!(logistic(&samples(0.5)).unwrap().area > 0.8);
        assert!((logistic(&samples(0.0)).unwrap().area - 0.5).abs() < 0.04);
    }
}
