//! Random numbers that are the same on every machine: benchmarks repeat by their seed.

/// `SplitMix64`, by its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Below `end`, each as likely.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        usize::try_from((u128::from(mixed) * end as u128) >> 64).unwrap_or(0)
    }
}
