//! How much a benchmark measures: a short form for every day, a long one before a release.

use anyhow::{Result, bail};

/// Which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One place only, closely: for work on the law.
    One,
    /// For every day.
    Short,
    /// Before a release.
    Release,
}

impl Form {
    /// The one that `LOADLINE_BENCH` names, the short one without.
    pub(super) fn chosen() -> Result<Self> {
        Self::named(std::env::var("LOADLINE_BENCH").ok().as_deref())
    }

    fn named(name: Option<&str>) -> Result<Self> {
        match name {
            None | Some("" | "short") => Ok(Self::Short),
            Some("one") => Ok(Self::One),
            Some("release") => Ok(Self::Release),
            Some(other) => bail!("LOADLINE_BENCH is {other:?}; it may be one, short (default) or release"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Form;

    #[test]
    fn a_form_that_does_not_exist_is_not_taken_for_the_short_one() {
        assert_eq!(Form::named(None).unwrap(), Form::Short);
        assert_eq!(Form::named(Some("release")).unwrap(), Form::Release);
        assert!(Form::named(Some("long")).is_err());
    }
}
