//! Quantities: integers with a unit in the type, parsed from and shown in the units people write.
//!
//! Arithmetic saturates: a sum that would overflow is a mistake upstream, and the largest value is the safe
//! reading of it everywhere in Loadline (more is reserved, less is lent).

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not the quantity it should be; the message states the whole rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct ParseQuantityError {
    /// What was given.
    pub text: String,
    /// The rule, with examples.
    pub expected: &'static str,
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Nothing of it.
            pub const ZERO: Self = Self(0);

            /// The sum, at most the largest value.
            #[must_use]
            pub const fn plus(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// The difference, at least zero.
            #[must_use]
            pub const fn minus(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// This many times, at most the largest value.
            #[must_use]
            pub const fn times(self, count: u64) -> Self {
                Self(self.0.saturating_mul(count))
            }

            /// The share, rounded down.
            #[must_use]
            pub const fn share(self, share: PerMille) -> Self {
                let whole = (self.0 / 1000).saturating_mul(share.0 as u64);
                Self(whole.saturating_add((self.0 % 1000) * share.0 as u64 / 1000))
            }

            /// True for zero.
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
        }
    };
}

quantity!(
    /// CPU in thousandths of one hardware thread.
    MilliCpu
);
quantity!(
    /// GPUs in thousandths of one: a whole one, or a share.
    MilliGpu
);
quantity!(
    /// Memory or storage in bytes.
    Bytes
);
quantity!(
    /// A length of time in microseconds, from monotonic clocks.
    Span
);

/// Thousandths of a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PerMille(pub u16);

/// Wall time in microseconds since 1970 UTC. For people and records; durations come from monotonic clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub i64);

impl MilliCpu {
    /// Whole CPUs.
    pub const fn from_cpus(cpus: u32) -> Self {
        Self(cpus as u64 * 1000)
    }

    /// How many whole CPUs fit in.
    pub const fn whole_cpus(self) -> u64 {
        self.0 / 1000
    }
}

impl MilliGpu {
    /// Whole GPUs.
    pub const fn from_gpus(gpus: u32) -> Self {
        Self(gpus as u64 * 1000)
    }

    /// How many GPUs it takes at least.
    pub const fn gpus_up(self) -> u64 {
        self.0.div_ceil(1000)
    }
}

/// Whole ones as they are, others in thousandths with an `m`.
fn write_milli(f: &mut fmt::Formatter<'_>, milli: u64) -> fmt::Result {
    if milli.is_multiple_of(1000) {
        write!(f, "{}", milli / 1000)
    } else {
        write!(f, "{milli}m")
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_milli(f, self.0)
    }
}

impl fmt::Display for MilliGpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_milli(f, self.0)
    }
}

impl FromStr for MilliCpu {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseQuantityError {
            text: text.into(),
            expected: "an amount of CPU: whole CPUs like \"2\", or thousandths like \"500m\"",
        };
        let (digits, unit) = split_unit(text);
        let value: u64 = digits.parse().map_err(|_| bad())?;
        match unit {
            "" => value.checked_mul(1000).map(Self).ok_or_else(bad),
            "m" => Ok(Self(value)),
            _ => Err(bad()),
        }
    }
}

const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl Bytes {
    /// Mebibytes.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// Gibibytes.
    pub const fn from_gib(gib: u64) -> Self {
        Self(gib.saturating_mul(1 << 30))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, size) in [
            ("TiB", 1u64 << 40),
            ("GiB", 1 << 30),
            ("MiB", 1 << 20),
            ("KiB", 1 << 10),
        ] {
            if self.0 >= size {
                let tenths = self.0.saturating_mul(10) / size;
                return if tenths.is_multiple_of(10) {
                    write!(f, "{}{name}", tenths / 10)
                } else {
                    write!(f, "{}.{}{name}", tenths / 10, tenths % 10)
                };
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl FromStr for Bytes {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseQuantityError {
            text: text.into(),
            expected: "an amount of memory: a whole number with a unit, like \"512MiB\", \"4GiB\" or \"2GB\"",
        };
        let (digits, unit) = split_unit(text);
        let value: u64 = digits.parse().map_err(|_| bad())?;
        let (_, size) = BYTE_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(bad)?;
        value.checked_mul(*size).map(Self).ok_or_else(bad)
    }
}

impl Span {
    /// Seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Whole seconds in it.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl From<Span> for core::time::Duration {
    fn from(span: Span) -> Self {
        Self::from_micros(span.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.as_secs();
        if secs == 0 {
            return write!(f, "{}ms", self.0 / 1000);
        }
        let parts = [
            (secs / 86_400, "d"),
            (secs / 3600 % 24, "h"),
            (secs / 60 % 60, "m"),
            (secs % 60, "s"),
        ];
        let mut text = String::new();
        for (amount, unit) in parts.iter().filter(|(amount, _)| *amount > 0).take(2) {
            text.push_str(&format!("{amount}{unit}"));
        }
        f.write_str(&text)
    }
}

impl FromStr for Span {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseQuantityError {
            text: text.into(),
            expected: "a length of time: whole numbers with units, like \"30s\", \"90m\", \"1h30m\" or \"2d\"",
        };
        let mut rest = text;
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (digits, tail) = split_unit(rest);
            let value: u64 = digits.parse().map_err(|_| bad())?;
            let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let micros: u64 = match &tail[..end] {
                "ms" => 1_000,
                "s" => 1_000_000,
                "m" => 60_000_000,
                "h" => 3_600_000_000,
                "d" => 86_400_000_000,
                _ => return Err(bad()),
            };
            total = value
                .checked_mul(micros)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(bad)?;
            rest = &tail[end..];
        }
        if text.is_empty() {
            Err(bad())
        } else {
            Ok(Self(total))
        }
    }
}

impl PerMille {
    /// The whole.
    pub const ONE: Self = Self(1000);
}

impl fmt::Display for PerMille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(10) {
            write!(f, "{}%", self.0 / 10)
        } else {
            write!(f, "{}.{}%", self.0 / 10, self.0 % 10)
        }
    }
}

impl FromStr for PerMille {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseQuantityError {
            text: text.into(),
            expected: "a share from \"0%\" to \"100%\", with at most one decimal",
        };
        let number = text.strip_suffix('%').ok_or_else(bad)?;
        let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(tenth) || tenth.len() != 1 {
            return Err(bad());
        }
        let whole: u16 = whole.parse().map_err(|_| bad())?;
        let tenth: u16 = tenth.parse().map_err(|_| bad())?;
        let value = whole
            .checked_mul(10)
            .and_then(|w| w.checked_add(tenth))
            .ok_or_else(bad)?;
        if value > 1000 { Err(bad()) } else { Ok(Self(value)) }
    }
}

impl WallTime {
    /// This much later.
    #[must_use]
    pub fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add_unsigned(span.0))
    }

    /// How long after `earlier`; zero if before it (wall clocks may step back).
    #[must_use]
    pub fn since(self, earlier: Self) -> Span {
        Span(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_write_units_and_wrong_ones_are_refused() {
        assert_eq!("2".parse(), Ok(MilliCpu(2000)));
        assert_eq!("500m".parse(), Ok(MilliCpu(500)));
        assert_eq!("4GiB".parse(), Ok(Bytes::from_gib(4)));
        assert_eq!("1h30m".parse(), Ok(Span::from_secs(5400)));
        assert_eq!("12.5%".parse(), Ok(PerMille(125)));
        for bad in ["", "-1", "1.5", "2x", "m"] {
            assert!(bad.parse::<MilliCpu>().is_err(), "{bad}");
        }
        for bad in ["", "4", "4G", "4gib", "-4GiB", "99999999999TiB"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
        for bad in ["", "30", "s", "30 s", "1w"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        for bad in ["", "%", "101%", "5", "1.25%", ".5%"] {
            assert!(bad.parse::<PerMille>().is_err(), "{bad}");
        }
    }

    #[test]
    fn shown_as_people_write() {
        assert_eq!(MilliCpu(1500).to_string(), "1500m");
        assert_eq!(Bytes(1536 << 20).to_string(), "1.5GiB");
        assert_eq!(Span::from_secs(3725).to_string(), "1h2m");
        assert_eq!(Span::from_millis(250).to_string(), "250ms");
        assert_eq!(PerMille(125).to_string(), "12.5%");
    }

    proptest! {
        #[test]
        fn a_share_matches_wide_arithmetic(amount: u64, share in 0u16..=1000) {
            let wide = u128::from(amount) * u128::from(share) / 1000;
            let got = u128::from(Bytes(amount).share(PerMille(share)).0);
            prop_assert_eq!(got, wide);
        }

        #[test]
        fn whole_units_round_trip(cpus in 0u64..1_000_000, mib in 0u64..1023) {
            prop_assert_eq!(MilliCpu(cpus).to_string().parse(), Ok(MilliCpu(cpus)));
            prop_assert_eq!(Bytes::from_mib(mib).to_string().parse(), Ok(Bytes::from_mib(mib)));
        }
    }
}
