//! A job's specification: a [`JobDraft`] is what someone wrote, a [`JobSpec`] is valid by construction.
//!
//! Every mistake in a draft is reported at once, each with the key it belongs to. The command line checks
//! before it sends, fleetd checks again what it was sent: both through [`JobSpec::new`].

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::{Bytes, CpuRequest, MilliCpu, Priority, Span, WorkerRequest, shown};

mod needs;

pub use needs::{After, AfterJob, Arrange, Domain, JobName, JobNameProblem, Needs, Numa, Tasks, Waits};

/// A name may be this long: it appears in unit descriptions, metrics and tables.
const NAME_LEN_MAX: usize = 63;
/// As long as the name of a person.
const TEAM_LEN_MAX: usize = 32;
/// Linux refuses longer single arguments (`MAX_ARG_STRLEN`, 32 pages).
const ARG_LEN_MAX: usize = 128 * 1024;
/// All arguments and variables together; half of Linux's usual `ARG_MAX` of 2 MiB.
const ARGS_TOTAL_MAX: usize = 1024 * 1024;
/// More workers than this belong into an array.
const WORKERS_MAX: u32 = 10_000;
/// A process image, its libraries and the shell's bookkeeping need about this much to start at all.
const MEMORY_MIN: Bytes = Bytes::from_mib(4);
/// Enough for flaky work; a job that fails a hundred times is broken.
const RETRIES_MAX: u32 = 100;
/// A node that must yield cannot wait longer than this for one worker's farewell.
const GRACE_MAX: Span = Span::from_secs(3600);

/// The tiers of lent work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Placed within the firm line; yields to production only after all burst is gone.
    #[default]
    Standard,
    /// Placed within the line of now; first to yield.
    Burst,
}

impl Tier {
    /// The word used in files, tables and slice names.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Burst => "burst",
        }
    }
}

/// What to do about workers on a node that has fallen silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNodeLost {
    /// Start nothing until it returns or an operator forgets it.
    Wait,
    /// Start a new attempt elsewhere; stop the old one when it is seen again.
    Replace,
}

impl OnNodeLost {
    /// The word used in files and tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Replace => "replace",
        }
    }
}

/// A job that may run with fewer workers than it would like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Elastic {
    /// It runs from this many on.
    pub min: u32,
    /// It never gets more.
    pub max: u32,
}

/// How many workers a job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workers {
    /// Exactly so many.
    Fixed(u32),
    /// Between a least and a most.
    Elastic(Elastic),
}

impl Workers {
    /// The fewest it runs with.
    pub const fn min(self) -> u32 {
        match self {
            Self::Fixed(count) => count,
            Self::Elastic(elastic) => elastic.min,
        }
    }

    /// The most it gets.
    pub const fn max(self) -> u32 {
        match self {
            Self::Fixed(count) => count,
            Self::Elastic(elastic) => elastic.max,
        }
    }
}

/// What someone asked for, not yet checked. `None` stands for the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDraft {
    /// Shown in tables; default: the command's file name.
    pub name: Option<String>,
    /// The argument vector; no shell is involved.
    pub command: Vec<String>,
    /// The working directory: absolute, `~` or `~/…`; default the account's home.
    pub dir: Option<String>,
    /// The variables it gets; nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// How many workers.
    pub workers: Workers,
    /// The tier.
    pub tier: Tier,
    /// How often a worker may be tried again after its own failure.
    pub retries: u32,
    /// The time limit of each attempt, counted in unsqueezed time; none: no limit.
    pub time: Option<Span>,
    /// How long a worker may take to end when asked to; default 30 s.
    pub grace: Option<Span>,
    /// Default: wait for fixed standard jobs, replace for elastic and burst ones.
    pub on_node_lost: Option<OnNodeLost>,
    /// What each worker gets.
    pub worker: WorkerRequest,
    /// Nodes it may run on, by name; empty: all.
    pub nodes: Vec<String>,
    /// What its nodes must be beyond having room.
    pub needs: Needs,
    /// What it waits for.
    pub waits: Waits,
    /// All workers start together, or none.
    pub gang: bool,
    /// The tasks that its workers share, if it is an array.
    pub tasks: Option<Tasks>,
    /// How urgent it is within its tier.
    pub priority: Priority,
    /// The team that pays; none: the submitter's own.
    pub team: Option<String>,
}

/// A checked draft with every default filled in. Can only be made by [`JobSpec::new`]. A clone is the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec(Arc<SpecFields>);

/// The fields of a [`JobSpec`], readable through it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct SpecFields {
    /// Shown in tables.
    pub name: String,
    /// The argument vector, at least one.
    pub command: Vec<String>,
    /// The working directory: absolute, `~` or `~/…`.
    pub dir: String,
    /// The variables it gets.
    pub env: BTreeMap<String, String>,
    /// How many workers.
    pub workers: Workers,
    /// The tier.
    pub tier: Tier,
    /// How often a worker may be tried again after its own failure.
    pub retries: u32,
    /// The time limit of each attempt.
    pub time: Option<Span>,
    /// How long a worker may take to end when asked to.
    pub grace: Span,
    /// What to do about a silent node.
    pub on_node_lost: OnNodeLost,
    /// What each worker gets.
    pub worker: WorkerRequest,
    /// Nodes it may run on, by name; empty: all.
    pub nodes: Vec<String>,
    /// What its nodes must be beyond having room. Shared: placement keeps it too.
    pub needs: Arc<Needs>,
    /// What it waits for.
    pub waits: Waits,
    /// All workers start together, or none.
    pub gang: bool,
    /// The tasks that its workers share, if it is an array.
    pub tasks: Option<Tasks>,
    /// How urgent it is within its tier.
    pub priority: Priority,
    /// The team that pays; none: the submitter's own.
    pub team: Option<String>,
}

impl JobSpec {
    /// Whoever keeps many jobs keeps what they have in common once: both return an equal value. A specification that
    /// has another holder is left as it is.
    pub fn share(
        &mut self,
        needs: impl FnOnce(&Arc<Needs>) -> Arc<Needs>,
        all: impl FnOnce(&Arc<SpecFields>) -> Arc<SpecFields>,
    ) {
        if let Some(fields) = Arc::get_mut(&mut self.0) {
            fields.needs = needs(&fields.needs);
            self.0 = all(&self.0);
        }
    }
}

impl Deref for JobSpec {
    type Target = SpecFields;

    fn deref(&self) -> &SpecFields {
        &self.0
    }
}

/// One mistake in a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecProblem {
    /// The key as in job.toml, for instance `worker.cpus`.
    pub key: &'static str,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// Every mistake in a draft, at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SpecProblems(pub Vec<SpecProblem>);

impl fmt::Display for SpecProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, SpecProblem { key, problem }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{key}: {problem}")?;
        }
        Ok(())
    }
}

impl JobSpec {
    /// Checks a draft and fills in its defaults.
    ///
    /// # Errors
    /// Every mistake found, each with its key.
    pub fn new(draft: JobDraft) -> Result<Self, SpecProblems> {
        let mut problems = Problems(Vec::new());
        check_command(&draft, &mut problems);
        check_place(&draft, &mut problems);
        check_amounts(&draft, &mut problems);
        needs::check(&draft, &mut problems);
        let name = draft.name.unwrap_or_else(|| default_name(&draft.command));
        check_name(&name, &mut problems);
        if !problems.0.is_empty() {
            return Err(SpecProblems(problems.0));
        }
        let replace = draft.tier == Tier::Burst || matches!(draft.workers, Workers::Elastic(_));
        let default_on_lost = if replace {
            OnNodeLost::Replace
        } else {
            OnNodeLost::Wait
        };
        Ok(Self(Arc::new(SpecFields {
            name,
            command: draft.command,
            dir: draft.dir.unwrap_or_else(|| "~".into()),
            env: draft.env,
            workers: draft.workers,
            tier: draft.tier,
            retries: draft.retries,
            time: draft.time,
            grace: draft.grace.unwrap_or(Span::from_secs(30)),
            on_node_lost: draft.on_node_lost.unwrap_or(default_on_lost),
            worker: draft.worker,
            nodes: draft.nodes,
            needs: Arc::new(draft.needs),
            waits: draft.waits,
            gang: draft.gang,
            tasks: draft.tasks,
            priority: draft.priority,
            team: draft.team,
        })))
    }
}

struct Problems(Vec<SpecProblem>);

impl Problems {
    fn add(&mut self, wrong: bool, key: &'static str, problem: impl ToString) {
        if wrong {
            self.0.push(SpecProblem {
                key,
                problem: problem.to_string(),
            });
        }
    }
}

fn default_name(command: &[String]) -> String {
    let first = command.first().map_or("", String::as_str);
    let file = first.rsplit('/').next().unwrap_or("");
    let clean: String = file
        .chars()
        .filter(|c| is_name_char(*c))
        .take(NAME_LEN_MAX)
        .collect();
    if clean.is_empty() { "job".into() } else { clean }
}

const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn check_name(name: &str, problems: &mut Problems) {
    let wrong = name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(is_name_char);
    problems.add(wrong, "name", "1 to 63 letters, digits, `-`, `_` or `.`");
}

fn check_command(draft: &JobDraft, problems: &mut Problems) {
    let command = &draft.command;
    let empty = command.first().is_none_or(String::is_empty);
    problems.add(
        empty,
        "command",
        "say what to run, as a list: the program first, then its arguments",
    );
    let mut texts = command.iter().chain(draft.env.keys()).chain(draft.env.values());
    problems.add(
        texts.clone().any(|text| text.contains('\0')),
        "command",
        "arguments and variables cannot hold a NUL byte",
    );
    problems.add(
        texts.clone().any(|text| text.len() > ARG_LEN_MAX),
        "command",
        "an argument or variable is longer than 128 KiB: pass a file instead",
    );
    let total = texts.try_fold(0usize, |sum, text| sum.checked_add(text.len() + 1));
    problems.add(
        total.is_none_or(|total| total > ARGS_TOTAL_MAX),
        "command",
        "arguments and variables together exceed 1 MiB: pass a file instead",
    );
    let valid_key = |key: &String| {
        !key.is_empty()
            && !key.as_bytes()[0].is_ascii_digit()
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    for key in draft.env.keys().filter(|key| !valid_key(key)) {
        problems.add(
            true,
            "env",
            alloc::format!(
                "`{}` cannot be a variable's name: letters, digits and `_`",
                shown(key)
            ),
        );
    }
}

fn check_place(draft: &JobDraft, problems: &mut Problems) {
    let dir = draft.dir.as_deref().unwrap_or("~");
    let right = dir.starts_with('/') || dir == "~" || dir.starts_with("~/");
    let climbs = dir.split('/').any(|part| part == "..");
    problems.add(
        !right || climbs || dir.contains('\0') || dir.len() > 4000,
        "dir",
        "an absolute path, `~` or `~/…`, without `..`",
    );
    let bad_node = draft
        .nodes
        .iter()
        .find(|node| node.is_empty() || node.len() > 253);
    problems.add(
        bad_node.is_some(),
        "nodes",
        "a node's name is 1 to 253 characters",
    );
    let team = draft.team.as_deref();
    problems.add(
        team.is_some_and(|team| !is_team_name(team)),
        "team",
        "a team's name is 1 to 32 lower-case letters, digits, `-`, `_` or `.`, a letter first",
    );
    problems.add(
        !draft.priority.is_allowed(),
        "priority",
        "low, normal, high, or a number from -1000 to 1000",
    );
}

/// True for names that teams may have; they stand in tables, on command lines and in metrics.
pub fn is_team_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    (1..=TEAM_LEN_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(fits)
}

fn check_amounts(draft: &JobDraft, problems: &mut Problems) {
    let worker = &draft.worker;
    match worker.cpus {
        CpuRequest::Exclusive(cpus) => {
            problems.add(cpus == 0, "worker.cpus", "at least 1, or a share like \"100m\"");
        }
        CpuRequest::Shared(share) => problems.add(
            share < MilliCpu(10) || share.0.is_multiple_of(1000),
            "worker.cpus",
            "a share is at least 10m and not a whole number of CPUs; whole CPUs are written without `m`",
        ),
    }
    problems.add(worker.memory < MEMORY_MIN, "worker.memory", "at least 4MiB");
    problems.add(worker.gpus > 64, "worker.gpus", "at most 64");
    let (min, max) = (draft.workers.min(), draft.workers.max());
    problems.add(min == 0, "workers", "at least 1");
    problems.add(min > max, "workers", "`min` may not exceed `max`");
    problems.add(max > WORKERS_MAX, "workers", "at most 10000");
    problems.add(draft.retries > RETRIES_MAX, "retries", "at most 100");
    problems.add(
        draft.time.is_some_and(|time| time < Span::from_secs(1)),
        "time",
        "at least 1s",
    );
    problems.add(
        draft.grace.is_some_and(|grace| grace > GRACE_MAX),
        "grace",
        "at most 1h",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn draft() -> JobDraft {
        JobDraft {
            name: None,
            command: ["/usr/bin/true".to_string()].into(),
            dir: None,
            env: BTreeMap::new(),
            workers: Workers::Fixed(1),
            tier: Tier::Standard,
            retries: 0,
            time: None,
            grace: None,
            on_node_lost: None,
            worker: WorkerRequest {
                cpus: CpuRequest::Exclusive(1),
                memory: Bytes::from_mib(64),
                gpus: 0,
            },
            nodes: Vec::new(),
            needs: Needs::default(),
            waits: Waits::default(),
            gang: false,
            tasks: None,
            priority: Priority::NORMAL,
            team: None,
        }
    }

    pub(super) fn keys(draft: JobDraft) -> Vec<&'static str> {
        JobSpec::new(draft)
            .unwrap_err()
            .0
            .iter()
            .map(|problem| problem.key)
            .collect()
    }

    #[test]
    fn defaults_follow_the_shape_of_the_job() {
        let spec = JobSpec::new(draft()).unwrap();
        assert_eq!((spec.name.as_str(), spec.dir.as_str()), ("true", "~"));
        assert_eq!(
            (spec.grace, spec.on_node_lost),
            (Span::from_secs(30), OnNodeLost::Wait)
        );
        let burst = JobSpec::new(JobDraft {
            tier: Tier::Burst,
            ..draft()
        })
        .unwrap();
        assert_eq!(burst.on_node_lost, OnNodeLost::Replace);
        let elastic = Workers::Elastic(Elastic { min: 1, max: 3 });
        let elastic = JobSpec::new(JobDraft {
            workers: elastic,
            ..draft()
        })
        .unwrap();
        assert_eq!(elastic.on_node_lost, OnNodeLost::Replace);
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let mut wrong = draft();
        wrong.command.clear();
        wrong.dir = Some("relative".into());
        wrong.worker = WorkerRequest {
            cpus: CpuRequest::Exclusive(0),
            memory: Bytes(1),
            gpus: 0,
        };
        wrong.workers = Workers::Fixed(0);
        assert_eq!(
            keys(wrong),
            ["command", "dir", "worker.cpus", "worker.memory", "workers"]
        );
    }

    #[test]
    fn each_rule_is_enforced() {
        let bad_env = [("1A".to_string(), String::new())].into_iter().collect();
        assert_eq!(
            keys(JobDraft {
                env: bad_env,
                ..draft()
            }),
            ["env"]
        );
        assert_eq!(
            keys(JobDraft {
                dir: Some("/a/../b".into()),
                ..draft()
            }),
            ["dir"]
        );
        assert_eq!(
            keys(JobDraft {
                name: Some("a b".into()),
                ..draft()
            }),
            ["name"]
        );
        assert_eq!(
            keys(JobDraft {
                time: Some(Span::ZERO),
                ..draft()
            }),
            ["time"]
        );
        assert_eq!(
            keys(JobDraft {
                retries: 101,
                ..draft()
            }),
            ["retries"]
        );
        let swapped = Workers::Elastic(Elastic { min: 3, max: 2 });
        assert_eq!(
            keys(JobDraft {
                workers: swapped,
                ..draft()
            }),
            ["workers"]
        );
        let nul = JobDraft {
            command: ["a\0".to_string()].into(),
            ..draft()
        };
        assert!(keys(nul).contains(&"command"));
        let share = WorkerRequest {
            cpus: CpuRequest::Shared(MilliCpu(2000)),
            memory: Bytes::from_mib(64),
            gpus: 0,
        };
        assert_eq!(
            keys(JobDraft {
                worker: share,
                ..draft()
            }),
            ["worker.cpus"]
        );
    }
}
