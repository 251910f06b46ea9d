//! Order statistics of repeated measurements. Machines are shared and turns get interrupted: medians are reported, never means.

/// What many turns of one measurement said, in the unit of the turns.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Spread {
    /// The fastest turn.
    pub min: f64,
    /// A quarter of the turns were faster.
    pub lower_quartile: f64,
    /// Half of them.
    pub median: f64,
    /// Three quarters of them.
    pub upper_quartile: f64,
}

impl Spread {
    /// Of any number of turns; all zero for none.
    pub fn of(mut turns: Vec<f64>) -> Self {
        turns.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let last = turns.len().saturating_sub(1);
            turns
                .get((quantile * last as f64).round() as usize)
                .copied()
                .unwrap_or(0.0)
        };
        Self {
            min: at(0.0),
            lower_quartile: at(0.25),
            median: at(0.5),
            upper_quartile: at(0.75),
        }
    }

    /// The mean of two, quantile by quantile.
    pub fn and(&self, other: &Self) -> Self {
        let mean = |a: f64, b: f64| (a + b) / 2.0;
        Self {
            min: mean(self.min, other.min),
            lower_quartile: mean(self.lower_quartile, other.lower_quartile),
            median: mean(self.median, other.median),
            upper_quartile: mean(self.upper_quartile, other.upper_quartile),
        }
    }

    /// Interquartile range as a share of the median, in percent.
    pub fn iqr_percent(&self) -> f64 {
        100.0 * (self.upper_quartile - self.lower_quartile) / self.median
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_by_hand() {
        let spread = Spread::of(vec![5.0, 1.0, 4.0, 2.0, 3.0]);
        let expected = Spread {
            min: 1.0,
            lower_quartile: 2.0,
            median: 3.0,
            upper_quartile: 4.0,
        };
        assert_eq!(spread, expected);
        assert!((spread.iqr_percent() - 66.7).abs() < 0.1);
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
