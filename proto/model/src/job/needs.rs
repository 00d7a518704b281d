//! Where the workers of a job may go beyond what they get: constraints on nodes, on each other and on other jobs,
//! and what the job waits for before it is placed.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{JobDraft, NAME_LEN_MAX, Problems, Tier, Workers, is_name_char};
use crate::{Bytes, CpuRequest, JobId, PerMille, Requirement, Taint, WallTime, label_key};

/// More of one kind are a mistake: each costs a look at every node once.
const REQUIREMENTS_MAX: usize = 16;
/// So many preferences can be weighed against each other.
const PREFERENCES_MAX: usize = 8;
/// Jobs that one job may be near or away from.
const OTHERS_MAX: usize = 8;
/// Jobs that one job may wait for.
const AFTER_MAX: usize = 100;
/// Tasks of an array.
const TASKS_MAX: u32 = 100_000;

/// On which of a node's NUMA nodes a worker may lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Numa {
    /// On any, also across them.
    #[default]
    Any,
    /// Its CPUs and memory fit one.
    Single,
}

impl Numa {
    /// The word used in files and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Single => "single",
        }
    }

    /// The choice behind a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Any, Self::Single]
            .into_iter()
            .find(|numa| numa.word() == word)
    }
}

/// What counts as one place when the workers of a job are spread or packed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// A node.
    Node,
    /// All nodes with the same value of this label; those without it are one too.
    Label(String),
}

/// How the workers of a job lie to each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrange {
    /// No matter.
    #[default]
    Anyhow,
    /// Evenly over as many domains as there are; those that find none wait.
    Spread(Domain),
    /// The same as far as there is room.
    PreferSpread(Domain),
    /// In as few domains as there is room.
    Pack(Domain),
}

/// What the nodes of a job must be, beyond having room.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Needs {
    /// Each holds on every node of the job.
    pub require: Vec<Requirement>,
    /// Nodes where more of these hold go first.
    pub prefer: Vec<Requirement>,
    /// Taints that do not keep it away.
    pub tolerate: Vec<Taint>,
    /// Each GPU has at least so much memory in all; zero: any.
    pub gpu_memory: Bytes,
    /// Only so much of one GPU; none: whole ones.
    pub gpu_share: Option<PerMille>,
    /// Space on the node's own disks.
    pub scratch: Bytes,
    /// On which NUMA nodes.
    pub numa: Numa,
    /// How its workers lie to each other.
    pub arrange: Arrange,
    /// Only on nodes where workers of each of these jobs are: names or numbers, of the same person or team.
    pub near: Vec<String>,
    /// Only on nodes where no worker of these jobs is.
    pub away_from: Vec<String>,
}

impl Needs {
    /// True if where its workers may go depends on where others, or its own, are.
    pub fn is_relative(&self) -> bool {
        self.arrange != Arrange::Anyhow || !self.near.is_empty() || !self.away_from.is_empty()
    }
}

/// How another job has to end before this one starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// Well: every worker with code 0.
    Ok,
    /// In any way.
    Any,
    /// Not well: failed or cancelled.
    NotOk,
}

impl After {
    /// The word used in files and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Any => "any",
            Self::NotOk => "failed",
        }
    }

    /// The choice behind a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Ok, Self::Any, Self::NotOk]
            .into_iter()
            .find(|after| after.word() == word)
    }
}

/// A job by either of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobName {
    /// The short number.
    Number(u64),
    /// The client's id.
    Id(JobId),
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// What names no job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job is named by its number, like 412, or its id")]
pub struct JobNameProblem;

impl FromStr for JobName {
    type Err = JobNameProblem;

    fn from_str(text: &str) -> Result<Self, JobNameProblem> {
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        text.parse().map(Self::Id).map_err(|_| JobNameProblem)
    }
}

/// One job to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AfterJob {
    /// Which.
    pub job: JobName,
    /// How it has to end.
    pub after: After,
}

/// What a job waits for before any of its workers is placed.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Waits {
    /// All of these.
    pub after: Vec<AfterJob>,
    /// Not before this.
    pub start_after: Option<WallTime>,
}

/// The tasks of an array, by number: both ends count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tasks {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl Tasks {
    /// How many.
    pub const fn count(self) -> u32 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

pub(super) fn check(draft: &JobDraft, problems: &mut Problems) {
    check_place(&draft.needs, problems);
    check_gpus(draft, problems);
    check_numa(draft, problems);
    check_others(&draft.needs, problems);
    let waits = &draft.waits;
    let too_many = waits.after.len() > AFTER_MAX;
    problems.add(
        too_many,
        "after",
        "at most 100 jobs: let one job wait for them, and this one for that",
    );
    let fixed = matches!(draft.workers, Workers::Fixed(_));
    problems.add(
        draft.gang && !fixed,
        "gang",
        "for a fixed number of workers; those of a range start together anyway, from `min` on",
    );
    let strict = matches!(draft.needs.arrange, Arrange::Spread(_));
    problems.add(
        draft.gang && strict,
        "gang",
        "goes as close together as there is room, and `spread` as far apart: leave out one of them",
    );
    if let Some(tasks) = draft.tasks {
        problems.add(
            tasks.first > tasks.last,
            "array",
            "its first task may not come after its last",
        );
        let count = tasks.count();
        problems.add(
            tasks.first <= tasks.last && count > TASKS_MAX,
            "array",
            alloc::format!("{count} tasks are too many: an array has at most 100000; submit several"),
        );
        problems.add(
            draft.gang,
            "array",
            "its tasks do not wait for each other: leave out `gang`",
        );
    }
}

fn check_place(needs: &Needs, problems: &mut Problems) {
    problems.add(needs.require.len() > REQUIREMENTS_MAX, "require", "at most 16");
    problems.add(needs.prefer.len() > PREFERENCES_MAX, "prefer", "at most 8");
    problems.add(needs.tolerate.len() > REQUIREMENTS_MAX, "tolerate", "at most 16");
    let (key, domain) = match &needs.arrange {
        Arrange::Anyhow => return,
        Arrange::Spread(domain) => ("spread", domain),
        Arrange::PreferSpread(domain) => ("prefer_spread", domain),
        Arrange::Pack(domain) => ("pack", domain),
    };
    if let Domain::Label(label) = domain
        && let Err(problem) = label_key(label)
    {
        problems.add(true, key, problem);
    }
}

/// Which CPUs a worker without CPUs of its own runs on changes all the time.
fn check_numa(draft: &JobDraft, problems: &mut Problems) {
    let own = draft.tier == Tier::Standard && matches!(draft.worker.cpus, CpuRequest::Exclusive(_));
    problems.add(
        draft.needs.numa == Numa::Single && !own,
        "worker.numa",
        "single is for workers with CPUs of their own: whole `cpus`, tier standard",
    );
}

fn check_gpus(draft: &JobDraft, problems: &mut Problems) {
    let (needs, gpus) = (&draft.needs, draft.worker.gpus);
    problems.add(
        gpus == 0 && !needs.gpu_memory.is_zero(),
        "worker.gpu_memory",
        "says how large GPUs must be, and none are asked for: say how many with `gpus`",
    );
    let Some(share) = needs.gpu_share else { return };
    problems.add(
        gpus != 1,
        "worker.gpu_share",
        "is a part of one GPU: ask for `gpus = 1` with it",
    );
    problems.add(
        share.0 == 0 || share >= PerMille::ONE,
        "worker.gpu_share",
        "from 0.1% to 99.9%; leave it out for a whole GPU",
    );
}

fn check_others(needs: &Needs, problems: &mut Problems) {
    for (key, names) in [("near", &needs.near), ("away_from", &needs.away_from)] {
        problems.add(names.len() > OTHERS_MAX, key, "at most 8 jobs");
        let wrong =
            |name: &&String| name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(is_name_char);
        problems.add(
            names.iter().any(|name| wrong(&name)),
            key,
            "a job's name, 1 to 63 letters, digits, `-`, `_` or `.`, or its number",
        );
    }
    if let Some(both) = needs.near.iter().find(|name| needs.away_from.contains(name)) {
        let shown: String = both.chars().take(NAME_LEN_MAX).collect();
        problems.add(
            true,
            "near",
            alloc::format!("nothing is both near {shown} and away from it: leave out one of them"),
        );
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Label(key) => f.write_str(key),
        }
    }
}

impl From<&str> for Domain {
    fn from(text: &str) -> Self {
        if text == "node" {
            Self::Node
        } else {
            Self::Label(text.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{draft, keys};
    use super::*;
    use crate::{Elastic, JobSpec, Workers};

    fn problem(draft: JobDraft) -> String {
        JobSpec::new(draft).unwrap_err().to_string()
    }

    #[test]
    fn an_array_has_at_most_100_000_tasks() {
        let array = |first, last| JobDraft {
            tasks: Some(Tasks { first, last }),
            ..draft()
        };
        assert!(JobSpec::new(array(1, 100_000)).is_ok() && JobSpec::new(array(7, 7)).is_ok());
        assert_eq!(
            problem(array(1, 100_001)),
            "array: 100001 tasks are too many: an array has at most 100000; submit several"
        );
        assert_eq!(keys(array(0, u32::MAX)), ["array"]);
        assert_eq!(keys(array(2, 1)), ["array"]);
    }

    #[test]
    fn a_gang_is_fixed_and_close_together() {
        let gang = JobDraft {
            gang: true,
            workers: Workers::Fixed(4),
            ..draft()
        };
        assert!(JobSpec::new(gang.clone()).is_ok());
        let workers = Workers::Elastic(Elastic { min: 1, max: 2 });
        assert_eq!(
            keys(JobDraft {
                workers,
                ..gang.clone()
            }),
            ["gang"]
        );
        let mut spread = gang;
        spread.needs.arrange = Arrange::Spread(Domain::Node);
        assert_eq!(keys(spread), ["gang"]);
    }

    #[test]
    fn gpus_are_asked_for_before_they_are_described() {
        let needs = |gpus, memory, share: Option<u16>| {
            let mut draft = draft();
            draft.worker.gpus = gpus;
            draft.needs.gpu_memory = Bytes::from_gib(memory);
            draft.needs.gpu_share = share.map(PerMille);
            draft
        };
        assert!(JobSpec::new(needs(1, 40, Some(500))).is_ok());
        assert_eq!(keys(needs(0, 40, None)), ["worker.gpu_memory"]);
        assert_eq!(keys(needs(2, 0, Some(500))), ["worker.gpu_share"]);
        assert_eq!(keys(needs(1, 0, Some(1000))), ["worker.gpu_share"]);
        assert_eq!(keys(needs(1, 0, Some(0))), ["worker.gpu_share"]);
    }

    #[test]
    fn other_jobs_and_domains_have_names() {
        let mut wrong = draft();
        wrong.needs.near = ["a b".into()].into();
        wrong.needs.away_from = ["x".repeat(10_000)].into();
        wrong.needs.arrange = Arrange::Pack(Domain::Label("y".repeat(10_000)));
        let told = problem(wrong.clone());
        assert!(told.len() < 600, "{told}");
        assert_eq!(keys(wrong), ["pack", "near", "away_from"]);
        let mut both = draft();
        both.needs.near = ["db".into()].into();
        both.needs.away_from = ["db".into()].into();
        assert_eq!(keys(both), ["near"]);
    }

    #[test]
    fn jobs_are_named_by_number_or_id() {
        assert_eq!("412".parse(), Ok(JobName::Number(412)));
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(id.parse::<JobName>().unwrap().to_string(), id);
        assert_eq!("train".parse::<JobName>(), Err(JobNameProblem));
    }
}
