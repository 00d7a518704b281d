//! Where workers may go and what a job waits for, as written in files and flags.

use loadline_model::{
    After, AfterJob, Arrange, Bytes, Domain, Is, JobName, Needs, Numa, PerMille, Requirement, Taint, Tasks,
    Waits, WallTime, label_value, shown,
};

use super::words::told;
use super::{Place, Said};

/// Exactly what was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NeedsWritten {
    pub(super) require: Option<Said<Vec<Requirement>>>,
    pub(super) prefer: Option<Said<Vec<Requirement>>>,
    pub(super) tolerate: Option<Said<Vec<Taint>>>,
    pub(super) gpu_model: Option<Said<Requirement>>,
    pub(super) gpu_memory: Option<Said<Bytes>>,
    pub(super) gpu_share: Option<Said<PerMille>>,
    pub(super) scratch: Option<Said<Bytes>>,
    pub(super) numa: Option<Said<Numa>>,
    pub(super) spread: Option<Said<Domain>>,
    pub(super) prefer_spread: Option<Said<Domain>>,
    pub(super) pack: Option<Said<Domain>>,
    pub(super) near: Option<Said<Vec<String>>>,
    pub(super) away_from: Option<Said<Vec<String>>>,
    pub(super) gang: Option<Said<bool>>,
    pub(super) after: Option<Said<Vec<JobName>>>,
    pub(super) after_any: Option<Said<Vec<JobName>>>,
    pub(super) after_failed: Option<Said<Vec<JobName>>>,
    pub(super) start_after: Option<Said<WallTime>>,
    pub(super) array: Option<Said<Tasks>>,
}

impl NeedsWritten {
    /// The flags win. Of the three arrangements the flags' one, if they name any.
    pub(super) fn overlaid_by(self, flags: Self) -> Self {
        let arranged = flags.spread.is_some() || flags.prefer_spread.is_some() || flags.pack.is_some();
        let own = |said: Option<Said<Domain>>| said.filter(|_| !arranged);
        Self {
            require: flags.require.or(self.require),
            prefer: flags.prefer.or(self.prefer),
            tolerate: flags.tolerate.or(self.tolerate),
            gpu_model: flags.gpu_model.or(self.gpu_model),
            gpu_memory: flags.gpu_memory.or(self.gpu_memory),
            gpu_share: flags.gpu_share.or(self.gpu_share),
            scratch: flags.scratch.or(self.scratch),
            numa: flags.numa.or(self.numa),
            spread: flags.spread.or(own(self.spread)),
            prefer_spread: flags.prefer_spread.or(own(self.prefer_spread)),
            pack: flags.pack.or(own(self.pack)),
            near: flags.near.or(self.near),
            away_from: flags.away_from.or(self.away_from),
            gang: flags.gang.or(self.gang),
            after: flags.after.or(self.after),
            after_any: flags.after_any.or(self.after_any),
            after_failed: flags.after_failed.or(self.after_failed),
            start_after: flags.start_after.or(self.start_after),
            array: flags.array.or(self.array),
        }
    }

    pub(super) fn places(&self) -> Vec<(&'static str, Option<Place>)> {
        fn place<T>(said: &Option<Said<T>>) -> Option<Place> {
            said.as_ref().map(|said| said.place)
        }
        vec![
            ("require", place(&self.require)),
            ("prefer", place(&self.prefer)),
            ("tolerate", place(&self.tolerate)),
            ("worker.gpu_memory", place(&self.gpu_memory)),
            ("worker.gpu_share", place(&self.gpu_share)),
            ("worker.numa", place(&self.numa)),
            ("spread", place(&self.spread)),
            ("prefer_spread", place(&self.prefer_spread)),
            ("pack", place(&self.pack)),
            ("near", place(&self.near)),
            ("away_from", place(&self.away_from)),
            ("gang", place(&self.gang)),
            ("after", place(&self.after)),
            ("array", place(&self.array)),
        ]
    }

    /// More than one way to arrange workers: the key of the second, and what is wrong.
    pub(super) fn clash(&self) -> Option<(&'static str, Place)> {
        let all = [
            ("spread", &self.spread),
            ("prefer_spread", &self.prefer_spread),
            ("pack", &self.pack),
        ];
        let said = all
            .into_iter()
            .filter_map(|(key, said)| Some((key, said.as_ref()?.place)));
        said.skip(1).last()
    }

    pub(super) fn into_model(self) -> (Needs, Waits, bool, Option<Tasks>) {
        fn value<T: Default>(said: Option<Said<T>>) -> T {
            said.map(|said| said.value).unwrap_or_default()
        }
        let mut require = value(self.require);
        require.extend(self.gpu_model.map(|said| said.value));
        let arrange = match (self.spread, self.prefer_spread, self.pack) {
            (Some(spread), ..) => Arrange::Spread(spread.value),
            (None, Some(spread), _) => Arrange::PreferSpread(spread.value),
            (None, None, Some(pack)) => Arrange::Pack(pack.value),
            (None, None, None) => Arrange::Anyhow,
        };
        let needs = Needs {
            require,
            prefer: value(self.prefer),
            tolerate: value(self.tolerate),
            gpu_memory: self.gpu_memory.map_or(Bytes::ZERO, |said| said.value),
            gpu_share: self.gpu_share.map(|said| said.value),
            scratch: self.scratch.map_or(Bytes::ZERO, |said| said.value),
            numa: value(self.numa),
            arrange,
            near: value(self.near),
            away_from: value(self.away_from),
        };
        let after = |jobs: Option<Said<Vec<JobName>>>, after| {
            let jobs = value(jobs).into_iter();
            jobs.map(move |job| AfterJob { job, after })
        };
        let waits = Waits {
            after: after(self.after, After::Ok)
                .chain(after(self.after_any, After::Any))
                .chain(after(self.after_failed, After::NotOk))
                .collect(),
            start_after: self.start_after.map(|said| said.value),
        };
        (needs, waits, value(self.gang), self.array.map(|said| said.value))
    }
}

/// Reads each of several words.
pub(super) fn each<T, E: std::fmt::Display>(
    words: &[String],
    read: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, String> {
    words.iter().map(|word| read(word).map_err(told)).collect()
}

/// Models of GPUs, as what they are: a requirement on a label that the fleet sets.
pub(super) fn gpu_models(words: &[String]) -> Result<Requirement, String> {
    let values = each(words, label_value)?;
    Ok(Requirement {
        key: "gpu-model".into(),
        is: Is::In(values.into_iter().collect()),
    })
}

/// `50%`, `12.5%`.
pub(super) fn share(text: &str) -> Result<PerMille, String> {
    let bad = || format!("`{}` is no part of a GPU: write \"50%\"", shown(text));
    let number = text.strip_suffix('%').ok_or_else(bad)?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let digit = (tenths.len() == 1).then(|| tenths.parse::<u16>().ok()).flatten();
    let whole: u16 = whole.parse().ok().filter(|whole| *whole <= 100).ok_or_else(bad)?;
    Ok(PerMille(whole * 10 + digit.ok_or_else(bad)?))
}

pub(super) fn numa(text: &str) -> Result<Numa, String> {
    Numa::from_word(text).ok_or_else(|| format!("`{}` is not one of \"any\" and \"single\"", shown(text)))
}

/// `2h` from now, or a time of day with its date and offset.
pub(super) fn moment(text: &str, now: WallTime) -> Result<WallTime, String> {
    if let Ok(span) = text.parse::<loadline_model::Span>() {
        return Ok(now.plus(span));
    }
    let at: jiff::Timestamp = text.parse().map_err(|_| {
        let text = shown(text);
        format!("`{text}` is no time: write \"2h\" for two hours from now, or \"2026-12-01T22:00:00Z\"")
    })?;
    Ok(WallTime(at.as_microsecond()))
}

/// `1-1000`.
pub(super) fn tasks(text: &str) -> Result<Tasks, String> {
    let bad = || format!("`{}` are no tasks: write \"1-1000\"", shown(text));
    let (first, last) = text.split_once('-').ok_or_else(bad)?;
    let number = |text: &str| text.parse().map_err(|_| bad());
    Ok(Tasks {
        first: number(first)?,
        last: number(last)?,
    })
}
