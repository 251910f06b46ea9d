//! The time-stamp counter: what "cycles" means in every table.

use quanta::Clock as Quanta;

/// Ticks of the time-stamp counter where the CPU has an invariant one, else nanoseconds.
#[derive(Clone, Debug)]
pub struct Clock {
    quanta: Quanta,
    hz: f64,
}

impl Clock {
    /// Finds the counter's frequency, which takes up to 0.2 s the first time.
    pub fn new() -> Self {
        const MANY: u64 = 10_000_000_000;
        let quanta = Quanta::new();
        let hz = MANY as f64 * 1e9 / quanta.delta_as_nanos(0, MANY) as f64;
        Self { quanta, hz }
    }

    /// Ticks now.
    #[inline]
    pub fn ticks(&self) -> u64 {
        self.quanta.raw()
    }

    /// Ticks a second.
    pub fn hz(&self) -> f64 {
        self.hz
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
