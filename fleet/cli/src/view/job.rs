//! Jobs, attempts, receipts, explanations, lines of logs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Moment;

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobRow {
    /// Its number.
    pub job: u64,
    /// Its id.
    pub job_id: String,
    /// Its name.
    pub name: String,
    /// Who submitted it.
    pub user: String,
    /// Its tier.
    pub tier: &'static str,
    /// `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    pub state: &'static str,
    /// Workers that run.
    pub workers_running: u32,
    /// Workers it gets at most.
    pub workers_max: u32,
    /// When it was submitted.
    pub submitted_at: Moment,
    /// When its first worker started.
    pub started_at: Option<Moment>,
    /// When it was over.
    pub ended_at: Option<Moment>,
    /// The code that `fleet run` and `fleet wait` pass on, once it is over.
    pub exit_code: Option<u32>,
    /// Why it waits, in one phrase, while it does.
    pub waiting_for: Option<String>,
    /// Why it ended without having started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub never_started: Option<String>,
}

impl JobRow {
    /// True once no worker runs and none will.
    pub fn is_done(&self) -> bool {
        matches!(self.state, "succeeded" | "failed" | "cancelled")
    }

    /// The exit code to pass on.
    pub fn own_code(&self) -> u8 {
        let fallback = if self.state == "succeeded" { 0 } else { 1 };
        self.exit_code
            .map_or(fallback, |code| u8::try_from(code).unwrap_or(1))
    }
}

/// What each worker gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestView {
    /// CPU, in thousandths of one.
    pub millicpu: u64,
    /// True if these are whole CPUs of its own.
    pub exclusive: bool,
    /// Memory.
    pub memory_bytes: u64,
    /// GPUs.
    pub gpus: u32,
}

/// What was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpecView {
    /// The argument vector.
    pub command: Vec<String>,
    /// Where it starts.
    pub dir: String,
    /// Its variables.
    pub env: BTreeMap<String, String>,
    /// It runs from this many workers on.
    pub workers_min: u32,
    /// It never gets more.
    pub workers_max: u32,
    /// How often a worker may be tried again.
    pub retries: u32,
    /// The limit of each attempt.
    pub time_limit_us: Option<u64>,
    /// How long a worker may take to end.
    pub grace_us: Option<u64>,
    /// `wait` or `replace`.
    pub on_node_lost: Option<&'static str>,
    /// The nodes it may run on; empty: any.
    pub nodes: Vec<String>,
    /// What else it asks of its nodes and waits for, as it would be typed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// `low`, `normal`, `high` or a number.
    pub priority: String,
    /// The team it names; empty: the submitter's own.
    pub team: String,
    /// What each worker gets.
    pub worker: RequestView,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndView {
    /// `exited`, `signalled`, `out_of_memory` …
    pub reason: &'static str,
    /// The exit code, with `exited`.
    pub exit_code: Option<u32>,
    /// The signal's number, with `signalled`.
    pub signal: Option<u32>,
    /// When.
    pub at: Moment,
    /// What more is known.
    pub detail: String,
    /// The most memory it was seen to use.
    pub peak_memory_bytes: Option<u64>,
    /// The CPU time it was seen to use.
    pub cpu_time_us: Option<u64>,
    /// The most processes and threads it was seen to have.
    pub peak_tasks: Option<u64>,
}

/// One try of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttemptView {
    /// Its id.
    pub attempt_id: String,
    /// The worker's number within the job.
    pub worker: u32,
    /// 1 for the first try.
    pub attempt: u32,
    /// Where.
    pub node: String,
    /// True if the node is not heard, so that this may be old.
    pub node_silent: bool,
    /// `assigned`, `starting`, `running`, `squeezed`, `stopping` or `ended`.
    pub state: &'static str,
    /// When the node was chosen.
    pub assigned_at: Moment,
    /// When it began to run.
    pub running_at: Option<Moment>,
    /// The systemd unit.
    pub unit: Option<String>,
    /// The CPUs it may use, like 0-3.
    pub cpus: Option<String>,
    /// True if no other worker may use them.
    pub exclusive: Option<bool>,
    /// The NUMA nodes of its memory.
    pub numa_nodes: Option<String>,
    /// The process.
    pub main_pid: Option<u32>,
    /// The account it runs as.
    pub unix_account: Option<String>,
    /// How it ended, once it did.
    pub ended: Option<EndView>,
}

/// What was done to whom, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReceiptView {
    /// When.
    pub at: Moment,
    /// What was done.
    pub action: String,
    /// To whom: an attempt's id, or the node or a part of it.
    pub subject: String,
    /// All of it in one sentence.
    pub sentence: String,
}

/// Everything about a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobView {
    /// As in lists.
    #[serde(flatten)]
    pub row: JobRow,
    /// What was submitted.
    pub spec: SpecView,
    /// Every attempt, by worker and try.
    pub attempts: Vec<AttemptView>,
    /// What was done to it.
    pub receipts: Vec<ReceiptView>,
}

/// One reason why a job waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReasonView {
    /// Stable, like `cpus_busy`.
    pub code: String,
    /// The reason in words.
    pub sentence: String,
    /// How many nodes it keeps away.
    pub nodes: u32,
    /// At most three of them.
    pub examples: Vec<String>,
}

/// Why a job waits, and what would change that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The job.
    #[serde(flatten)]
    pub row: JobRow,
    /// Why.
    pub reasons: Vec<ReasonView>,
    /// What would start it; `null`: nothing is needed.
    pub change: Option<String>,
    /// How many nodes were looked at.
    pub nodes_considered: u32,
    /// When it will probably start, if room is kept for it.
    pub expected_at: Option<Moment>,
    /// How many jobs go before it.
    pub jobs_before: u32,
}

/// A line that a worker wrote, or that says what was done to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Whose.
    pub worker: u32,
    /// In which try.
    pub attempt: u32,
    /// When.
    pub at: Moment,
    /// `stdout` or `stderr` of the worker, or `loadline` for Loadline's word about it.
    pub stream: &'static str,
    /// The line. Bytes that are not UTF-8 are replaced here; tables print them as they are.
    pub text: String,
    /// The line as it was written.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}
