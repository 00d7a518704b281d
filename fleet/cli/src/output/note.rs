//! What happens while a job is watched, as data and in words.

use std::fmt;

use serde::Serialize;

use crate::text::{printable, short};
use crate::view::{AttemptView, EndView, Explained, JobRow};
use loadline_model::{Bytes, Span};

/// Something that happened.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Note<'a> {
    /// The fleet has the job.
    Submitted(&'a JobRow),
    /// It waits, for another reason than before.
    Waiting(&'a JobRow),
    /// What would change that.
    Explained(&'a Explained),
    /// A worker is somewhere else in its life.
    Attempt {
        /// The job's number.
        job: u64,
        /// The attempt.
        #[serde(flatten)]
        attempt: &'a AttemptView,
    },
    /// About the logs, for instance that a node cannot be reached.
    Notice {
        /// The job's number.
        job: u64,
        /// One sentence.
        sentence: &'a str,
    },
    /// The connection broke and is tried again.
    Broken {
        /// The job's number, if it is known already.
        job: Option<u64>,
        /// Why.
        sentence: &'a str,
    },
    /// The connection is back.
    Back {
        /// The job's number.
        job: u64,
    },
    /// The person leaves, the job goes on.
    Left {
        /// The job's number; none: the fleet has not confirmed it yet.
        job: Option<u64>,
    },
    /// It is over.
    Ended(&'a JobRow),
}

impl fmt::Display for Note<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submitted(job) => write!(f, "job {} ({}) submitted", job.job, printable(&job.name)),
            Self::Waiting(job) => {
                let why = job.waiting_for.as_deref().unwrap_or("a place");
                write!(f, "job {} waits: {}", job.job, printable(why))
            }
            Self::Explained(why) => match &why.change {
                Some(change) => write!(f, "job {}: {}", why.row.job, printable(change)),
                None => write!(
                    f,
                    "job {} starts by itself; `fleet explain {0}` says more",
                    why.row.job
                ),
            },
            Self::Attempt { job, attempt } => attempt_words(f, *job, attempt),
            Self::Notice { job, sentence } => write!(f, "job {job}: {}", printable(sentence)),
            Self::Broken { job, sentence } => {
                match job {
                    Some(job) => write!(f, "job {job} goes on, but ")?,
                    None => f.write_str("whether the fleet has the job is not known yet: ")?,
                }
                write!(f, "{}; trying again", printable(sentence))
            }
            Self::Back { job } => write!(f, "the fleet is back, watching job {job} again"),
            Self::Left { job: Some(job) } => write!(
                f,
                "job {job} goes on. Follow it: `fleet logs -f {job}`, wait for it: `fleet wait {job}`, end it: `fleet cancel {job}`"
            ),
            Self::Left { job: None } => {
                f.write_str("left before the fleet confirmed the job: `fleet jobs` says whether it has it")
            }
            Self::Ended(job) => ended(f, job),
        }
    }
}

fn attempt_words(f: &mut fmt::Formatter<'_>, job: u64, attempt: &AttemptView) -> fmt::Result {
    let AttemptView { worker, node, .. } = attempt;
    let node = printable(node);
    write!(f, "{job}.{worker}")?;
    match (&attempt.ended, attempt.state) {
        (Some(ended), _) => write!(f, " on {node} {}", end_words(ended)),
        (None, "running") => match (&attempt.cpus, attempt.exclusive) {
            (Some(cpus), Some(true)) => write!(f, " runs on {node}, with {} of its own", named(cpus)),
            (Some(cpus), _) => write!(f, " runs on {node}, sharing {}", named(cpus)),
            (None, _) => write!(f, " runs on {node}"),
        },
        (None, "squeezed") => write!(f, " is squeezed: production on {node} needs the room"),
        (None, "assigned" | "starting") => write!(f, " starts on {node}"),
        (None, state) => write!(f, " is {state} on {node}"),
    }?;
    if attempt.attempt > 1 {
        write!(f, " (try {})", attempt.attempt)?;
    }
    Ok(())
}

/// `CPU 0`, `CPUs 0-1`.
fn named(cpus: &str) -> String {
    let one = cpus.bytes().all(|byte| byte.is_ascii_digit());
    format!("{} {}", if one { "CPU" } else { "CPUs" }, printable(cpus))
}

/// `exited with code 3`, `ran out of memory: …`.
pub(super) fn end_words(ended: &EndView) -> String {
    let what = match (ended.reason, ended.exit_code, ended.signal) {
        ("exited", Some(0), _) => "finished".into(),
        ("exited", Some(code), _) => format!("exited with code {code}"),
        ("signalled", _, Some(signal)) => format!("was ended by signal {signal}"),
        ("out_of_memory", ..) => "ran out of memory".into(),
        ("time_limit", ..) => "reached its time limit".into(),
        ("cancelled", ..) => "was cancelled".into(),
        ("start_failed", ..) => "could not be started".into(),
        ("evicted", ..) => "had to yield to production".into(),
        ("refused_for_now", ..) => "was refused for now".into(),
        ("refused_for_good", ..) => "was refused for good".into(),
        ("node_lost", ..) => "was lost with its node".into(),
        ("node_rebooted", ..) => "ended with a restart of the node".into(),
        (other, ..) => other.to_string(),
    };
    if ended.detail.is_empty() {
        what
    } else {
        format!("{what}: {}", printable(&ended.detail))
    }
}

/// The most it used: `peak 1.2GiB, 3m20s of CPU`.
pub(super) fn peaks(ended: &EndView) -> String {
    let memory = ended
        .peak_memory_bytes
        .map(|bytes| format!("peak {}", Bytes(bytes)));
    let cpu = ended.cpu_time_us.map(|micros| format!("{} of CPU", Span(micros)));
    memory.into_iter().chain(cpu).collect::<Vec<_>>().join(", ")
}

fn ended(f: &mut fmt::Formatter<'_>, job: &JobRow) -> fmt::Result {
    write!(f, "job {} {}", job.job, job.state)?;
    if let (Some(started), Some(end)) = (job.started_at, job.ended_at) {
        write!(f, " after {}", short(end.0.since(started.0)))?;
    }
    match job.own_code() {
        _ if job.state != "failed" => Ok(()),
        code => write!(f, " (exit code {code}); `fleet job {}` says more", job.job),
    }
}
