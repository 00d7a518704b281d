//! What guest is wanted, as a value and as people write it: `node2:debian13:4,numa=2,mem=2048`.

use std::str::FromStr;

use thiserror::Error;

use crate::testbed::image::Image;

/// One guest to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestSpec {
    /// Host name, unique in its fleet.
    pub name: String,
    /// What it runs.
    pub image: Image,
    /// Virtual CPUs.
    pub cpus: u32,
    /// NUMA nodes, each a socket with its share of CPUs and memory.
    pub numa: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// More words for the kernel command line.
    pub kernel_words: Vec<String>,
    /// It comes after the other guests where the host has not CPUs enough for all.
    pub behind: bool,
    /// Its time passes by the instructions that its CPU executes, see [`Self::counted`].
    pub counted: bool,
}

/// Why a guest cannot be as written.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SpecError {
    /// Not `NAME:IMAGE:CPUS[,KEY=VALUE…]`.
    #[error(
        "guest {0:?} is not NAME:IMAGE:CPUS[,numa=N][,mem=MIB][,word=KERNEL_WORD][,counted], for example node1:debian12:2"
    )]
    Form(String),
    /// The name would not do as a host name.
    #[error("guest name {0:?} must be 1 to 20 of a-z, 0-9, - and begin with a letter")]
    Name(String),
    /// No such image.
    #[error("image {0:?} is none of debian12, debian13, bench")]
    Image(String),
    /// A number out of range.
    #[error("guest {guest}: {what} is {value:?}, which must be {must}")]
    Number {
        guest: String,
        what: &'static str,
        value: String,
        must: &'static str,
    },
    /// CPUs do not divide among the NUMA nodes.
    #[error("guest {guest}: {cpus} CPUs do not divide into {numa} NUMA nodes")]
    Uneven { guest: String, cpus: u32, numa: u32 },
}

impl GuestSpec {
    /// A guest of one NUMA node and memory that suits its CPUs.
    #[must_use]
    pub fn new(name: &str, image: Image, cpus: u32) -> Self {
        Self {
            name: name.into(),
            image,
            cpus,
            numa: 1,
            memory_mib: 512 * cpus.max(2),
            kernel_words: Vec::new(),
            behind: false,
            counted: false,
        }
    }

    /// Spread over NUMA nodes, one socket each.
    #[must_use]
    pub fn numa(mut self, nodes: u32) -> Self {
        self.numa = nodes;
        self
    }

    /// With this much memory.
    #[must_use]
    pub fn memory_mib(mut self, memory: u32) -> Self {
        self.memory_mib = memory;
        self
    }

    /// With one more word for the kernel.
    #[must_use]
    pub fn kernel_word(mut self, word: &str) -> Self {
        self.kernel_words.push(word.into());
        self
    }

    /// Not to disturb what is measured in another guest.
    #[must_use]
    pub fn behind(mut self) -> Self {
        self.behind = true;
        self
    }

    /// With a clock that counts instructions: each takes the same time, and while nothing is to be done the clock goes
    /// on to the next timer. So how long something takes does not depend on how fast the host is, what else it does, or
    /// when it lets the guest go on. That holds for one CPU, for its programs, and for what it sends to itself: a disk or
    /// another guest answers in the host's time, of which an idle guest makes minutes or hours.
    #[must_use]
    pub fn counted(mut self) -> Self {
        self.counted = true;
        self
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// See [`SpecError`].
    pub fn check(&self) -> Result<(), SpecError> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.len() > 20
            || !self.name.starts_with(|c: char| c.is_ascii_lowercase())
            || !self.name.chars().all(good)
        {
            return Err(SpecError::Name(self.name.clone()));
        }
        let number = |what, value: u32, must| SpecError::Number {
            guest: self.name.clone(),
            what,
            value: value.to_string(),
            must,
        };
        if !(1..=64).contains(&self.cpus) {
            return Err(number("cpus", self.cpus, "1 to 64"));
        }
        if self.counted && self.cpus != 1 {
            return Err(number("cpus", self.cpus, "1 where instructions are counted"));
        }
        if !(256..=65536).contains(&self.memory_mib) {
            return Err(number("mem", self.memory_mib, "256 to 65536 (MiB)"));
        }
        if self.numa == 0
            || !self.cpus.is_multiple_of(self.numa)
            || !self.memory_mib.is_multiple_of(self.numa)
        {
            return Err(SpecError::Uneven {
                guest: self.name.clone(),
                cpus: self.cpus,
                numa: self.numa,
            });
        }
        Ok(())
    }
}

impl FromStr for GuestSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let form = || SpecError::Form(text.into());
        let mut options = text.split(',');
        let mut parts = options.next().unwrap_or_default().split(':');
        let (Some(name), Some(image), Some(cpus), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(form());
        };
        let number = |what, value: &str| {
            value.parse::<u32>().map_err(|_| SpecError::Number {
                guest: name.into(),
                what,
                value: value.into(),
                must: "a number",
            })
        };
        let mut spec = Self::new(name, image.parse()?, number("cpus", cpus)?);
        for option in options {
            if option == "counted" {
                spec = spec.counted();
                continue;
            }
            match option.split_once('=') {
                Some(("numa", value)) => spec.numa = number("numa", value)?,
                Some(("mem", value)) => spec.memory_mib = number("mem", value)?,
                Some(("word", value)) => spec = spec.kernel_word(value),
                _ => return Err(form()),
            }
        }
        spec.check()?;
        Ok(spec)
    }
}

impl FromStr for Image {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::ALL
            .into_iter()
            .find(|image| image.name() == text)
            .ok_or_else(|| SpecError::Image(text.into()))
    }
}

/// Splits `a:debian12:2,b:debian13:4,numa=2` into guests: a comma before a word with `:` begins the next one.
///
/// # Errors
/// See [`SpecError`].
pub fn parse_list(text: &str) -> Result<Vec<GuestSpec>, SpecError> {
    let mut words: Vec<String> = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        match words.last_mut() {
            Some(last) if !part.contains(':') => {
                last.push(',');
                last.push_str(part);
            }
            _ => words.push(part.into()),
        }
    }
    words.iter().map(|word| word.parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_as_people_write_it() {
        let list = "fleet:debian13:2,node2:debian12:4,numa=2,mem=2048,x:debian12:1,word=idle=poll,counted";
        let list = parse_list(list).unwrap();
        let want = [
            GuestSpec::new("fleet", Image::Debian13, 2),
            GuestSpec::new("node2", Image::Debian12, 4)
                .numa(2)
                .memory_mib(2048),
            GuestSpec::new("x", Image::Debian12, 1)
                .kernel_word("idle=poll")
                .counted(),
        ];
        assert_eq!(list, want);
    }

    #[test]
    fn each_mistake_is_named() {
        let error = |text: &str| text.parse::<GuestSpec>().unwrap_err();
        assert_eq!(error("a:debian12"), SpecError::Form("a:debian12".into()));
        assert_eq!(error("a:debian11:2"), SpecError::Image("debian11".into()));
        assert_eq!(error("Ab:debian12:2"), SpecError::Name("Ab".into()));
        assert!(matches!(
            error("a:debian12:0"),
            SpecError::Number { what: "cpus", .. }
        ));
        assert!(matches!(
            error("a:debian12:2,mem=1"),
            SpecError::Number { what: "mem", .. }
        ));
        assert!(matches!(error("a:debian12:3,numa=2"), SpecError::Uneven { .. }));
        assert!(matches!(
            error("a:debian12:2,counted"),
            SpecError::Number { what: "cpus", .. }
        ));
        assert_eq!(
            error("a:debian12:2,disk=1"),
            SpecError::Form("a:debian12:2,disk=1".into())
        );
    }
}
