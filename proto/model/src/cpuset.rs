//! A set of CPU numbers, read and written in the kernel's list format (`0-3,8,10-11`).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

/// The kernel's own compile-time ceiling (`CONFIG_NR_CPUS`) on the largest x86-64 distributions.
const CPU_MAX: u32 = 8191;

/// CPU numbers 0 to 8191, without repetition, in ascending order.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuSet {
    // One bit a CPU; no trailing zero words, so that equality is equality of sets. Most machines need no more than two.
    words: SmallVec<[u64; 2]>,
}

/// A text that is not a list of CPU numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a list of CPUs like \"0-3,8\" with numbers up to 8191")]
pub struct ParseCpuSetError {
    /// What was given.
    pub text: String,
}

fn slot(cpu: u32) -> (usize, u64) {
    ((cpu / 64) as usize, 1 << (cpu % 64))
}

impl CpuSet {
    /// No CPU.
    pub const fn new() -> Self {
        Self {
            words: SmallVec::new_const(),
        }
    }

    /// Adds a CPU; false if it was there, or if the number is beyond what kernels know.
    pub fn insert(&mut self, cpu: u32) -> bool {
        if cpu > CPU_MAX || self.contains(cpu) {
            return false;
        }
        let (word, bit) = slot(cpu);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= bit;
        true
    }

    /// True if the CPU is in it.
    pub fn contains(&self, cpu: u32) -> bool {
        let (word, bit) = slot(cpu);
        self.words.get(word).is_some_and(|w| w & bit != 0)
    }

    /// How many CPUs.
    pub fn len(&self) -> u32 {
        self.words.iter().map(|w| w.count_ones()).sum()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.words).flat_map(|(index, word)| {
            (0..64)
                .filter(move |bit| word & (1 << bit) != 0)
                .map(move |bit| index * 64 + bit)
        })
    }

    /// The lowest number.
    pub fn first(&self) -> Option<u32> {
        self.iter().next()
    }

    /// In either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.merge(other, |a, b| a | b)
    }

    /// In both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.merge(other, |a, b| a & b)
    }

    /// In this and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.merge(other, |a, b| a & !b)
    }

    /// True if no CPU is in both.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).all(|(a, b)| a & b == 0)
    }

    /// True if every CPU of this is in the other.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.difference(other).is_empty()
    }

    fn merge(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        let at = |words: &[u64], index: usize| words.get(index).copied().unwrap_or(0);
        let longest = self.words.len().max(other.words.len());
        let mut words: SmallVec<[u64; 2]> = (0..longest)
            .map(|i| f(at(&self.words, i), at(&other.words, i)))
            .collect();
        while words.last() == Some(&0) {
            words.pop();
        }
        Self { words }
    }

    /// The bit mask as systemd's `AllowedCPUs` wants it: bytes, lowest CPUs first, no trailing zero byte.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|w| w.to_le_bytes()).collect();
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        bytes
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        let mut set = Self::new();
        for cpu in cpus {
            set.insert(cpu);
        }
        set
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while cpus.peek() == Some(&(last + 1)) {
                last += 1;
                cpus.next();
            }
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl FromStr for CpuSet {
    type Err = ParseCpuSetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseCpuSetError { text: text.into() };
        let number = |digits: &str| match digits.parse::<u32>() {
            Ok(cpu) if cpu <= CPU_MAX && !digits.starts_with('+') => Ok(cpu),
            _ => Err(bad()),
        };
        let mut set = Self::new();
        let trimmed = text.trim_end_matches('\n');
        if trimmed.is_empty() {
            return Ok(set);
        }
        for part in trimmed.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(bad());
            }
            (first..=last).for_each(|cpu| {
                set.insert(cpu);
            });
        }
        Ok(set)
    }
}

impl Serialize for CpuSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::btree_set;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn kernel_lists_are_read_and_written() {
        for list in ["", "0", "0-3,8,10-11", "63-64,127-129"] {
            assert_eq!(list.parse::<CpuSet>().unwrap().to_string(), list);
        }
        assert_eq!("0-1\n".parse::<CpuSet>().unwrap().len(), 2);
        for bad in ["a", "1-", "-1", "3-1", "0,,1", "8192", "+1", " 1"] {
            assert!(bad.parse::<CpuSet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_mask_for_systemd_is_little_endian() {
        assert_eq!("0,9".parse::<CpuSet>().unwrap().to_le_bytes(), [1, 2]);
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(a in btree_set(0u32..300, 0..40), b in btree_set(0u32..300, 0..40)) {
            let (x, y): (CpuSet, CpuSet) = (a.iter().copied().collect(), b.iter().copied().collect());
            let list = |set: &CpuSet| set.iter().collect::<BTreeSet<_>>();
            prop_assert_eq!(list(&x.union(&y)), &a | &b);
            prop_assert_eq!(list(&x.intersection(&y)), &a & &b);
            prop_assert_eq!(list(&x.difference(&y)), &a - &b);
            prop_assert_eq!(x.is_disjoint(&y), a.is_disjoint(&b));
            prop_assert_eq!(x.is_subset(&y), a.is_subset(&b));
            prop_assert_eq!(x.len() as usize, a.len());
            prop_assert_eq!(x.to_string().parse::<CpuSet>().unwrap(), x);
        }
    }
}
