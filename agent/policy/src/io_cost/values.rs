//! The numbers of io.cost as the owner writes them: the kernel's own words, so that a line of its files can be taken
//! over, read strictly and shown as the kernel shows them.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// Hundredths of a per cent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hundredths(pub u32);

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl Hundredths {
    fn read(text: &str) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 {
            return None;
        }
        let tenths = if part.len() == 1 { 10 } else { 1 };
        let part = part.parse::<u32>().ok()? * tenths;
        whole
            .parse::<u32>()
            .ok()?
            .checked_mul(100)?
            .checked_add(part)
            .map(Self)
    }
}

/// What a disk can do: bytes a second in large sequential requests, and requests of 4 KiB a second one after the other
/// and anywhere, for reads and for writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model([u64; MODEL.len()]);

/// How far a disk may be filled. A latency target of 0 per cent is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qos {
    /// Of the reads, so many per cent …
    pub rpct: Hundredths,
    /// … take no longer than so many microseconds.
    pub rlat: u64,
    /// Of the writes, so many per cent …
    pub wpct: Hundredths,
    /// … take no longer than so many microseconds.
    pub wlat: u64,
    /// The disk is given at least this part of what its model says, in per cent.
    pub min: Hundredths,
    /// And at most this.
    pub max: Hundredths,
}

const MODEL: [&str; 6] = ["rbps", "rseqiops", "rrandiops", "wbps", "wseqiops", "wrandiops"];
const QOS: [&str; 6] = ["rpct", "rlat", "wpct", "wlat", "min", "max"];
/// A minute; a longer target is a slip of the unit.
const LATENCY_MAX: u64 = 60_000_000;
/// What the kernel allows.
const SCALE: core::ops::RangeInclusive<Hundredths> = Hundredths(100)..=Hundredths(1_000_000);

/// Everything that is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct ValueMistakes(pub Vec<String>);

/// Words like `key=value`, each known key once.
struct Words<'a> {
    found: BTreeMap<&'static str, &'a str>,
    mistakes: Vec<String>,
}

impl<'a> Words<'a> {
    fn read(text: &'a str, keys: [&'static str; 6]) -> Self {
        let mut words = Self {
            found: BTreeMap::new(),
            mistakes: Vec::new(),
        };
        for word in text.split_whitespace() {
            let pair = word.split_once('=');
            let known = pair.and_then(|(key, value)| {
                let key = keys.iter().find(|known| **known == key)?;
                Some((*key, value))
            });
            match known {
                None => words.mistakes.push(format!(
                    "`{word}` is none of {}",
                    keys.map(|key| format!("`{key}=…`")).join(", ")
                )),
                Some((key, value)) => {
                    if words.found.insert(key, value).is_some() {
                        words.mistakes.push(format!("`{key}` is there twice"));
                    }
                }
            }
        }
        let missing: Vec<&str> = keys
            .into_iter()
            .filter(|key| !words.found.contains_key(key))
            .collect();
        if !missing.is_empty() {
            words
                .mistakes
                .push(format!("`{}` must be said too", missing.join("`, `")));
        }
        words
    }

    /// A value by its rule. Of one that is not there it was said.
    fn take<T: Default>(&mut self, key: &str, rule: &str, read: impl Fn(&str) -> Option<T>) -> T {
        let Some(text) = self.found.get(key) else {
            return T::default();
        };
        read(text).unwrap_or_else(|| {
            self.mistakes.push(format!("`{key}={text}`: {rule}"));
            T::default()
        })
    }

    fn finish<T>(self, value: T) -> Result<T, ValueMistakes> {
        if self.mistakes.is_empty() {
            Ok(value)
        } else {
            Err(ValueMistakes(self.mistakes))
        }
    }
}

fn whole(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

impl FromStr for Model {
    type Err = ValueMistakes;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = Words::read(text, MODEL);
        let rule = "must be a whole number from 1 on";
        let model = MODEL.map(|key| {
            words.take(key, rule, |text| {
                whole(text).filter(|number| (1..=i64::MAX.unsigned_abs()).contains(number))
            })
        });
        words.finish(Self(model))
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, MODEL.iter().zip(self.0.map(|number| number.to_string())))
    }
}

impl Default for Hundredths {
    /// The lowest that any of the values may be.
    fn default() -> Self {
        *SCALE.start()
    }
}

impl FromStr for Qos {
    type Err = ValueMistakes;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = Words::read(text, QOS);
        let percent = |text: &str| Hundredths::read(text).filter(|part| part.0 <= 10_000);
        let scale = |text: &str| Hundredths::read(text).filter(|part| SCALE.contains(part));
        let latency = |text: &str| whole(text).filter(|micros| *micros <= LATENCY_MAX);
        let percent_rule = "must be per cent, 0 to 100, with two digits after the point at most";
        let scale_rule = "must be per cent, 1 to 10000, with two digits after the point at most";
        let latency_rule = "must be microseconds, a minute at most";
        let qos = Self {
            rpct: words.take("rpct", percent_rule, percent),
            rlat: words.take("rlat", latency_rule, latency),
            wpct: words.take("wpct", percent_rule, percent),
            wlat: words.take("wlat", latency_rule, latency),
            min: words.take("min", scale_rule, scale),
            max: words.take("max", scale_rule, scale),
        };
        if words.mistakes.is_empty() && qos.min > qos.max {
            let (min, max) = (qos.min, qos.max);
            words
                .mistakes
                .push(format!("`min={min}` is more than `max={max}`"));
        }
        words.finish(qos)
    }
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rpct,
            rlat,
            wpct,
            wlat,
            min,
            max,
        } = self;
        let values = [
            rpct.to_string(),
            rlat.to_string(),
            wpct.to_string(),
            wlat.to_string(),
            min.to_string(),
            max.to_string(),
        ];
        show(f, QOS.iter().zip(values))
    }
}

fn show<'a>(
    f: &mut fmt::Formatter<'_>,
    words: impl Iterator<Item = (&'a &'static str, String)>,
) -> fmt::Result {
    let words: Vec<String> = words.map(|(key, value)| format!("{key}={value}")).collect();
    f.write_str(&words.join(" "))
}
