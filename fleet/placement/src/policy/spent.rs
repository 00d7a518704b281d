//! Amounts held over time, and what of them still counts after a while.
//!
//! Problem: shares and budgets are about amounts times time, they must come out the same on every machine and in every
//! replay, and a pure crate has no powers of real numbers. Approach: exact products in 128 bits (any amount times
//! any span fits), and a decay by half-lives in fixed point, whose roots of one half are computed by the compiler.

use loadline_model::{Amounts, Span};
use serde::{Deserialize, Serialize};

use crate::policy::Counted;

/// Microseconds of an hour.
const HOUR: u128 = 3_600_000_000;

/// Amounts times the time for which they were held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Thousandths of a CPU times microseconds.
    pub cpu: u128,
    /// Bytes times microseconds.
    pub memory: u128,
    /// Thousandths of a GPU times microseconds.
    pub gpus: u128,
}

impl Spent {
    /// Nothing.
    pub const ZERO: Self = Self {
        cpu: 0,
        memory: 0,
        gpus: 0,
    };

    /// The amounts, held for so long.
    #[must_use]
    pub fn of(amounts: impl Into<Counted>, held: Span) -> Self {
        let (amounts, span) = (amounts.into(), u128::from(held.0));
        Self {
            cpu: u128::from(amounts.cpu.0) * span,
            memory: u128::from(amounts.memory.0) * span,
            gpus: u128::from(amounts.gpus.0) * span,
        }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
            gpus: self.gpus.saturating_add(other.gpus),
        }
    }

    /// What is left, each at least nothing.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
            gpus: self.gpus.saturating_sub(other.gpus),
        }
    }

    /// What still counts of it once `age` has passed: half of it after each `half_life`; all of it where that is zero.
    #[must_use]
    pub fn decayed(self, age: Span, half_life: Span) -> Self {
        let decay = Decay::after(age, half_life);
        Self {
            cpu: decay.of(self.cpu),
            memory: decay.of(self.memory),
            gpus: decay.of(self.gpus),
        }
    }

    /// The dominant resource: the largest part of the fleet's capacity, as nanoseconds of the whole fleet.
    ///
    /// Dominant resource fairness: Ghodsi et al., NSDI 2011. A resource that the fleet does not lend counts as one
    /// unit.
    #[must_use]
    pub fn dominant(self, capacity: Amounts) -> u128 {
        let capacity = Counted::from(capacity);
        let part = |spent: u128, all: u64| spent.saturating_mul(1000) / u128::from(all.max(1));
        part(self.cpu, capacity.cpu.0)
            .max(part(self.memory, capacity.memory.0))
            .max(part(self.gpus, capacity.gpus.0))
    }

    /// CPU-hours, rounded down.
    #[must_use]
    pub const fn cpu_hours(self) -> u128 {
        self.cpu / (1000 * HOUR)
    }

    /// GiB-hours of memory, rounded down.
    #[must_use]
    pub const fn gib_hours(self) -> u128 {
        self.memory / ((1 << 30) * HOUR)
    }

    /// GPU-hours, rounded down.
    #[must_use]
    pub const fn gpu_hours(self) -> u128 {
        self.gpus / (1000 * HOUR)
    }
}

/// Fraction bits of a factor between zero and one.
const BITS: u32 = 62;
/// The fraction of a half-life is taken to so many bits: one in four thousand million.
const ROOTS: usize = 32;

/// The first is the square root of one half, each next one the square root of the one before; in fixed point.
const HALF_ROOTS: [u64; ROOTS] = half_roots();

#[expect(
    clippy::cast_possible_truncation,
    reason = "a root of less than 2^124 has less than 62 bits"
)]
const fn half_roots() -> [u64; ROOTS] {
    let mut roots = [0; ROOTS];
    let mut square: u128 = 1 << (BITS - 1);
    let mut index = 0;
    while index < ROOTS {
        square = (square << BITS).isqrt();
        roots[index] = square as u64;
        index += 1;
    }
    roots
}

/// One half to the power of a number of half-lives.
#[derive(Debug, Clone, Copy)]
struct Decay {
    whole: u32,
    fraction: u64,
}

impl Decay {
    fn after(age: Span, half_life: Span) -> Self {
        let one = 1 << BITS;
        if half_life.0 == 0 {
            return Self {
                whole: 0,
                fraction: one,
            };
        }
        let whole = u32::try_from(age.0 / half_life.0).unwrap_or(u32::MAX);
        let rest = (u128::from(age.0 % half_life.0) << ROOTS) / u128::from(half_life.0);
        let mut fraction = one;
        for (index, root) in HALF_ROOTS.iter().enumerate() {
            if rest >> (ROOTS - 1 - index) & 1 == 1 {
                fraction = u64::try_from((u128::from(fraction) * u128::from(*root)) >> BITS).unwrap_or(one);
            }
        }
        Self { whole, fraction }
    }

    fn of(self, value: u128) -> u128 {
        let (high, low) = (value >> 64, value & u128::from(u64::MAX));
        let factor = u128::from(self.fraction);
        let scaled = ((high * factor) << (64 - BITS)) + ((low * factor) >> BITS);
        scaled.checked_shr(self.whole).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadline_model::{Bytes, MilliCpu};
    use proptest::prelude::*;

    fn amounts(cpu: u64, memory: u64, gpus: u32) -> Amounts {
        Amounts {
            cpu: MilliCpu(cpu),
            memory: Bytes(memory),
            gpus,
        }
    }

    #[test]
    fn the_largest_amount_for_the_longest_time_is_exact() {
        let spent = Spent::of(amounts(u64::MAX, u64::MAX, u32::MAX), Span(u64::MAX));
        assert_eq!(spent.cpu, u128::from(u64::MAX) * u128::from(u64::MAX));
        assert_eq!(spent.decayed(Span(0), Span(1)), spent);
    }

    #[test]
    fn hours_are_what_people_mean() {
        let spent = Spent::of(amounts(2000, 3 << 30, 4), Span::from_secs(7200));
        assert_eq!(
            (spent.cpu_hours(), spent.gib_hours(), spent.gpu_hours()),
            (4, 6, 8)
        );
    }

    #[test]
    fn the_dominant_resource_is_the_largest_part_of_the_fleet() {
        let fleet = amounts(10_000, 100, 4);
        let second = Span::from_secs(1);
        // A tenth of the CPUs, half of the memory, a quarter of the GPUs, for a second.
        let spent = Spent::of(amounts(1000, 50, 1), second);
        assert_eq!(spent.dominant(fleet), 500_000_000);
        assert_eq!(
            Spent::of(amounts(1000, 0, 1), second).dominant(fleet),
            250_000_000
        );
    }

    proptest! {
        /// Against the real power, in floating point.
        #[test]
        fn decay_is_one_half_to_the_number_of_half_lives(
            cpu in 1u64 << 40..1 << 60,
            age in 0u64..40_000_000_000,
            half_life in 1_000u64..2_000_000_000,
        ) {
            let spent = Spent { cpu: u128::from(cpu) << 20, ..Spent::ZERO };
            let got = spent.decayed(Span(age), Span(half_life)).cpu as f64;
            let exact = spent.cpu as f64 * (-(age as f64) / half_life as f64).exp2();
            prop_assert!((got - exact).abs() <= exact * 1e-8 + 1.0, "{} is not {}", got, exact);
        }

        #[test]
        fn no_order_is_turned_by_decay(a in any::<u128>(), b in any::<u128>(), age in any::<u64>(), half in 1u64..) {
            let of = |cpu| Spent { cpu, ..Spent::ZERO }.decayed(Span(age), Span(half)).cpu;
            prop_assert!(of(a.min(b)) <= of(a.max(b)));
        }
    }
}
