//! Random numbers that are the same in each run.

use std::cell::Cell;
use std::time::Duration;

/// SplitMix64.
pub(super) struct Random(Cell<u64>);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    pub(super) fn number(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut mixed = self.0.get();
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1.
    pub(super) fn fraction(&self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly distributed.
    pub(super) fn within(&self, shortest: Duration, longest: Duration) -> Duration {
        shortest + (longest - shortest).mul_f64(self.fraction())
    }

    /// With this median and a long tail: one in a hundred takes three times as long.
    pub(super) fn latency(&self, median: Duration) -> Duration {
        let sum: f64 = (0..4).map(|_| self.fraction()).sum();
        let normal = (sum - 2.0) * 3_f64.sqrt();
        median.mul_f64((0.5 * normal).exp())
    }
}
