//! The report: what was asked, what was measured, what was discarded, the verdicts. One truth, shown as text, as signed
//! JSON and as a page.

mod html;
mod plot;
mod sign;
mod text;

use loadline_policy::prove::estimate::{Interval, Ratio, Verdict};
use loadline_policy::prove::{Resource, Side};
use serde::{Deserialize, Serialize};

pub use html::page;
pub use sign::{NodeKey, SignError, Signed, VerifyError, verify};
pub use text::screen;

/// Which kind of document it is.
pub const FORMAT: &str = "loadline-prove";
/// Of the fields below. A reader of another version refuses it.
pub const VERSION: u32 = 1;

/// All of it. Only whole numbers, texts and lists: the signed bytes are the same wherever they are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// When it began, in microseconds since 1970 UTC.
    pub begun_us: i64,
    /// The same for people.
    pub begun: String,
    /// How long it took.
    pub took_us: u64,
    /// Of this program.
    pub program: String,
    /// The machine.
    pub node: NodeFacts,
    /// The line at the beginning.
    pub line: LineFacts,
    /// What was asked for.
    pub asked: AskedFacts,
    /// Why it was stopped before its end.
    pub aborted: Option<String>,
    /// What could not be taken away.
    pub left_behind: Vec<String>,
    /// Verdict by verdict.
    pub resources: Vec<ResourceReport>,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// How many CPUs.
    pub cpus: u32,
    /// How much memory.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The distribution.
    pub os: String,
    /// systemd's version.
    pub systemd: String,
    /// The owner's mode.
    pub mode: String,
}

/// The line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineFacts {
    /// CPU that may be lent.
    pub cpu_millicpu: u64,
    /// Memory that may be lent.
    pub memory_bytes: u64,
    /// Who holds it during the test: the warden, or the test itself by a fixed quota.
    pub held_by: String,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedFacts {
    /// What was probed.
    pub probe: String,
    /// How often a second.
    pub rate_per_s: u32,
    /// Pairs of rounds.
    pub rounds: u32,
    /// Length of one.
    pub round_us: u64,
    /// The end of everything.
    pub limit_us: u64,
    /// Of the instants and the bootstrap.
    pub seed: u64,
    /// Workers that ran meanwhile.
    pub workers: u64,
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceReport {
    /// Which.
    pub resource: Resource,
    /// What it comes to.
    pub verdict: Verdict,
    /// Ratios of the p99.
    pub p99: Option<Ratios>,
    /// Ratios of the median latency.
    pub p50: Option<Ratios>,
    /// All counted latencies of production alone.
    pub alone: Option<Latency>,
    /// And with lent work.
    pub lent: Option<Latency>,
    /// CPU time that lent work got.
    pub work_cpu_us: Option<u64>,
    /// The most memory it had.
    pub work_memory_peak_bytes: Option<u64>,
    /// Round by round.
    pub rounds: Vec<RoundReport>,
}

/// Ratios in thousandths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratios {
    /// How many pairs count.
    pub pairs: u32,
    /// The middle one.
    pub median: Ratio,
    /// Where it lies 95 times of 100.
    pub interval: Interval,
    /// All of them.
    pub each: Vec<Ratio>,
}

/// Latencies of one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Half of the answers came within it.
    pub p50_us: u64,
    /// 99 of 100 did.
    pub p99_us: u64,
    /// How many answers.
    pub answers: u64,
    /// Thousandths of the answers, and within how many microseconds they came.
    pub curve: Vec<(u16, u64)>,
}

/// One round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundReport {
    /// Its pair, from 0.
    pub pair: u32,
    /// Its side.
    pub side: Side,
    /// Half of the answers came within it.
    pub p50_us: Option<u64>,
    /// 99 of 100 did.
    pub p99_us: Option<u64>,
    /// Requests meant to go out.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// How late the probe itself was.
    pub lateness_p99_us: u64,
    /// CPU time that lent work got.
    pub work_cpu_us: Option<u64>,
    /// Why it does not count.
    pub discarded: Option<String>,
}

impl Report {
    /// True if it came to its end and left nothing behind.
    pub const fn is_whole(&self) -> bool {
        self.aborted.is_none() && self.left_behind.is_empty()
    }
}

/// A verdict in a sentence.
fn sentence(resource: &ResourceReport) -> String {
    let seen = resource.p99.as_ref().map_or_else(String::new, |p99| {
        format!(
            "p99 x {} (95 % sure: {} to {})",
            p99.median, p99.interval.lower, p99.interval.upper
        )
    });
    match &resource.verdict {
        Verdict::Protected => format!("lent work cost production next to nothing: {seen}"),
        Verdict::Cost if seen.is_empty() => {
            "lent work brought production into danger, and was ended".to_owned()
        }
        Verdict::Cost => format!("lent work cost production something: {seen}"),
        Verdict::Unclear {
            more_rounds: Some(more),
        } => {
            let seen = if seen.is_empty() { "no pair counts" } else { &seen };
            format!("too uncertain to say: {seen}; about {more} more rounds would tell")
        }
        Verdict::Unclear { more_rounds: None } => {
            format!(
                "too uncertain to say: {seen}; it lies so near the mark that more rounds would hardly tell"
            )
        }
        Verdict::NotMeasured { why } => why.clone(),
    }
}

/// CPUs with a decimal.
fn cpus(millicpu: u64) -> String {
    format!("{}.{} CPUs", millicpu / 1000, millicpu % 1000 / 100)
}

/// Milliseconds with as many digits as say something.
fn millis(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{:02} ms", us / 1000, us % 1000 / 10),
        10_000..100_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        _ => format!("{} ms", us / 1000),
    }
}

#[cfg(test)]
mod tests;
