//! How urgent a job is, in its user's words.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// The higher goes first within its tier, and lower ones yield to it; 0 is what a job has that says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(pub i16);

impl Priority {
    /// Whatever is there goes before it.
    pub const LOW: Self = Self(-100);
    /// What a job has that says nothing.
    pub const NORMAL: Self = Self(0);
    /// It goes before what said nothing.
    pub const HIGH: Self = Self(100);
    /// Nobody may ask for more, in either direction: it is room enough, and fits a table.
    pub const MOST: Self = Self(1000);

    const WORDS: [(&'static str, Self); 3] =
        [("low", Self::LOW), ("normal", Self::NORMAL), ("high", Self::HIGH)];

    /// True if someone may ask for it.
    pub const fn is_allowed(self) -> bool {
        self.0 <= Self::MOST.0 && self.0 >= -Self::MOST.0
    }
}

/// A text that is not a priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a priority: low, normal, high, or a number from -1000 to 1000")]
pub struct ParsePriorityError(String);

impl FromStr for Priority {
    type Err = ParsePriorityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = Self::WORDS.into_iter().find(|(word, _)| *word == text);
        let number = || text.parse().ok().map(Self);
        word.map(|(_, priority)| priority)
            .or_else(number)
            .filter(|priority| priority.is_allowed())
            .ok_or_else(|| ParsePriorityError(crate::shown(text)))
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::WORDS.into_iter().find(|(_, known)| known == self) {
            Some((word, _)) => f.write_str(word),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn words_and_numbers_are_read_back_as_they_are_written() {
        for text in ["low", "normal", "high", "-1000", "7", "1000"] {
            assert_eq!(text.parse::<Priority>().unwrap().to_string(), text);
        }
        assert_eq!("100".parse(), Ok(Priority::HIGH));
        for bad in ["", "urgent", "1001", "-1001", "99999", "1.5", "High"] {
            assert!(bad.parse::<Priority>().is_err(), "{bad}");
        }
    }
}
