//! Jobs, attempts, receipts and logs as views.

use std::str::FromStr;

use loadline_model::{JobId, WallTime};
use loadline_proto::fleet::v1 as pb;
use loadline_proto::types::v1 as types;

use super::failure::CallError;
use super::spec;
use crate::view::{
    AttemptView, EndView, Explained, JobRow, JobView, LogLine, Moment, ReasonView, ReceiptView,
};

/// How a job is named: by number or id, perhaps with one of its workers, like 412.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobRef {
    name: Name,
    /// The worker, if one was named.
    pub worker: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Number(u64),
    Id(JobId),
}

/// A text that names no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a job's number like 412, a worker's like 412.3, or a job's id")]
pub struct ParseJobRefError(String);

impl FromStr for JobRef {
    type Err = ParseJobRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseJobRefError(text.into());
        let (job, worker) = match text.split_once('.') {
            Some((job, worker)) => (job, Some(worker.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let number = job.parse().ok().map(Name::Number);
        let name = number
            .or_else(|| job.parse().ok().map(Name::Id))
            .ok_or_else(bad)?;
        Ok(Self { name, worker })
    }
}

impl JobRef {
    /// A job by its number.
    pub const fn from_row(row: &JobRow) -> Self {
        Self {
            name: Name::Number(row.job),
            worker: None,
        }
    }
}

impl From<JobId> for JobRef {
    fn from(id: JobId) -> Self {
        Self {
            name: Name::Id(id),
            worker: None,
        }
    }
}

impl From<JobRef> for pb::JobRef {
    fn from(job: JobRef) -> Self {
        let named = match job.name {
            Name::Number(number) => pb::job_ref::Ref::Number(number),
            Name::Id(id) => pb::job_ref::Ref::JobId(id.as_bytes().to_vec()),
        };
        Self { r#ref: Some(named) }
    }
}

/// A job and what changed about its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobUpdate {
    /// The job.
    pub row: JobRow,
    /// The attempts that changed; the first update has all.
    pub changed: Vec<AttemptView>,
}

/// Some lines of logs, or a notice about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBatch {
    /// The lines.
    pub lines: Vec<LogLine>,
    /// For instance that a node cannot be reached.
    pub notice: Option<String>,
}

const fn moment(micros: i64) -> Moment {
    Moment(WallTime(micros))
}

fn text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

pub(super) fn row(summary: Option<pb::JobSummary>) -> Result<JobRow, CallError> {
    let job = summary.ok_or_else(|| CallError::strange("a job is missing"))?;
    let id = JobId::from_slice(&job.job_id).map_err(|_| CallError::strange("a job has no id"))?;
    let state = match job.phase() {
        pb::JobPhase::Queued => "queued",
        pb::JobPhase::Running => "running",
        pb::JobPhase::Succeeded => "succeeded",
        pb::JobPhase::Failed => "failed",
        pb::JobPhase::Cancelled => "cancelled",
        pb::JobPhase::Unspecified => "unknown",
    };
    Ok(JobRow {
        job: job.number,
        job_id: id.to_string(),
        tier: spec::tier_word(job.tier()),
        state,
        name: job.name,
        user: job.user,
        workers_running: job.workers_running,
        workers_max: job.workers_max,
        submitted_at: moment(job.submitted_at_us),
        started_at: job.started_at_us.map(moment),
        ended_at: job.ended_at_us.map(moment),
        exit_code: job.exit_code,
        waiting_for: text(job.waiting_for),
        never_started: text(job.never_started),
    })
}

pub(super) fn detail(detail: pb::JobDetail) -> Result<JobView, CallError> {
    let mut attempts: Vec<AttemptView> = detail.attempts.into_iter().map(attempt).collect();
    attempts.sort_by_key(|attempt| (attempt.worker, attempt.attempt));
    Ok(JobView {
        row: row(detail.summary)?,
        spec: spec::view(detail.spec.unwrap_or_default()),
        attempts,
        receipts: detail.receipts.into_iter().map(receipt).collect(),
    })
}

pub(super) fn update(event: pb::JobEvent) -> Result<JobUpdate, CallError> {
    Ok(JobUpdate {
        row: row(event.summary)?,
        changed: event.changed.into_iter().map(attempt).collect(),
    })
}

pub(super) const fn phase_word(phase: types::AttemptPhase) -> &'static str {
    match phase {
        types::AttemptPhase::Unspecified => "unknown",
        types::AttemptPhase::Assigned => "assigned",
        types::AttemptPhase::Starting => "starting",
        types::AttemptPhase::Running => "running",
        types::AttemptPhase::Squeezed => "squeezed",
        types::AttemptPhase::Stopping => "stopping",
        types::AttemptPhase::Ended => "ended",
    }
}

pub(super) fn id_text(bytes: &[u8]) -> String {
    loadline_model::AttemptId::from_slice(bytes).map_or_else(|_| String::new(), |id| id.to_string())
}

fn attempt(attempt: pb::Attempt) -> AttemptView {
    let state = phase_word(attempt.phase());
    let placed = attempt.placement.is_some();
    let place = attempt.placement.unwrap_or_default();
    AttemptView {
        attempt_id: id_text(&attempt.attempt_id),
        worker: attempt.worker,
        attempt: attempt.number,
        node: attempt.node,
        node_silent: attempt.node_silent,
        state,
        assigned_at: moment(attempt.assigned_at_us),
        running_at: attempt.running_at_us.map(moment),
        unit: text(place.unit),
        cpus: text(place.cpus),
        exclusive: placed.then_some(place.exclusive),
        numa_nodes: text(place.numa_nodes),
        main_pid: (place.main_pid != 0).then_some(place.main_pid),
        unix_account: text(place.user),
        ended: attempt.ended.map(end),
    }
}

fn end(ended: types::Ended) -> EndView {
    use types::EndReason as E;
    let (reason, exit_code, signal) = match ended.reason() {
        E::Exited => ("exited", Some(ended.code), None),
        E::Signalled => ("signalled", None, Some(ended.code)),
        E::OutOfMemory => ("out_of_memory", None, None),
        E::TimeLimit => ("time_limit", None, None),
        E::Cancelled => ("cancelled", None, None),
        E::StartFailed => ("start_failed", None, None),
        E::Evicted => ("evicted", None, None),
        E::RefusedForNow => ("refused_for_now", None, None),
        E::RefusedForGood => ("refused_for_good", None, None),
        E::NodeLost => ("node_lost", None, None),
        E::NodeRebooted => ("node_rebooted", None, None),
        E::Unspecified => ("unknown", None, None),
    };
    EndView {
        reason,
        exit_code,
        signal,
        at: moment(ended.at_us),
        detail: ended.detail,
        peak_memory_bytes: ended.peak_memory_bytes,
        cpu_time_us: ended.cpu_time_us,
        peak_tasks: ended.peak_tasks,
    }
}

pub(super) fn receipt(receipt: types::Receipt) -> ReceiptView {
    let attempt = id_text(&receipt.attempt_id);
    ReceiptView {
        at: moment(receipt.at_us),
        action: receipt.action,
        subject: if attempt.is_empty() {
            receipt.subject
        } else {
            attempt
        },
        sentence: receipt.sentence,
    }
}

pub(super) fn explanation(explanation: pb::Explanation) -> Result<Explained, CallError> {
    let reason = |reason: pb::BlockingReason| ReasonView {
        code: reason.code,
        sentence: reason.sentence,
        nodes: reason.nodes,
        examples: reason.examples,
    };
    Ok(Explained {
        row: row(explanation.summary)?,
        reasons: explanation.reasons.into_iter().map(reason).collect(),
        change: text(explanation.change),
        nodes_considered: explanation.nodes_considered,
        expected_at: explanation.expected_us.map(moment),
        jobs_before: explanation.jobs_before,
    })
}

pub(super) fn logs(reply: pb::LogsReply) -> LogBatch {
    let line = |line: types::LogLine| LogLine {
        worker: reply.worker,
        attempt: reply.attempt_number,
        at: moment(line.at_us),
        stream: match (line.by_warden, line.stderr) {
            (true, _) => "loadline",
            (false, true) => "stderr",
            (false, false) => "stdout",
        },
        text: String::from_utf8_lossy(&line.text).into_owned(),
        bytes: line.text,
    };
    LogBatch {
        lines: reply.lines.into_iter().map(line).collect(),
        notice: text(reply.notice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_named_by_number_worker_or_id() {
        let id = "0192f0c1-2345-7abc-8def-0123456789ab";
        let number = |text: &str| text.parse::<JobRef>().map(|job| (job.name, job.worker));
        assert_eq!(number("412"), Ok((Name::Number(412), None)));
        assert_eq!(number("412.3"), Ok((Name::Number(412), Some(3))));
        assert_eq!(number(id), Ok((Name::Id(id.parse().unwrap()), None)));
        for bad in ["", "train", "412.", "412.x", ".3", "-1"] {
            let told = bad.parse::<JobRef>().unwrap_err().to_string();
            assert!(
                told.starts_with(&format!("`{bad}` is not a job's number")),
                "{told}"
            );
        }
    }
}
