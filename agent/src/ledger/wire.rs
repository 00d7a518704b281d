//! The ledger's events as they travel: encoded once, when they become durable.

use loadline_model::{AttemptPhase, EndReason, Ended, LedgerId, Receipt, ReceiptSubject, Sequence};
use loadline_proto::types::v1 as proto;
use prost::Message;

use super::{AttemptReport, Happened, NodeEvent, Placement, ProveNews};

/// Encodes an event under its name.
pub fn encode(ledger: LedgerId, sequence: Sequence, event: &NodeEvent) -> Vec<u8> {
    proto::Event {
        ledger_id: ledger.as_bytes().to_vec(),
        sequence: sequence.0,
        boot_id: event.boot_id.clone(),
        at_us: event.at.0,
        what: Some(match &event.what {
            Happened::Attempt(report) => proto::event::What::Attempt(attempt(report)),
            Happened::Receipt(one) => proto::event::What::Receipt(receipt(one)),
            Happened::Prove(news) => proto::event::What::Prove(prove(news)),
        }),
    }
    .encode_to_vec()
}

/// Decodes an event for the socket.
///
/// # Errors
/// When the bytes are none.
pub fn decode(body: &[u8]) -> Result<proto::Event, prost::DecodeError> {
    proto::Event::decode(body)
}

/// True to its name and about something?
pub(super) fn check(ledger: LedgerId, sequence: Sequence, body: &[u8]) -> Result<(), String> {
    let event = decode(body).map_err(|error| error.to_string())?;
    let same = event.ledger_id == ledger.as_bytes() && event.sequence == sequence.0;
    if same && event.what.is_some() {
        Ok(())
    } else {
        Err("it names another event".into())
    }
}

/// An attempt's report as it travels.
pub fn attempt(report: &AttemptReport) -> proto::AttemptState {
    proto::AttemptState {
        attempt_id: report.attempt.as_bytes().to_vec(),
        job_id: report.job.map(|job| job.as_bytes().to_vec()).unwrap_or_default(),
        phase: phase(report.phase).into(),
        placement: report.placement.as_ref().map(placement),
        ended: report.ended.as_ref().map(ended),
        orphan: report.orphan,
    }
}

fn placement(placement: &Placement) -> proto::Placement {
    proto::Placement {
        cpus: placement.cpus.to_string(),
        numa_nodes: placement.numa_nodes.to_string(),
        exclusive: placement.exclusive,
        main_pid: placement.main_pid,
        unit: placement.unit.clone(),
        user: placement.user.clone(),
    }
}

fn ended(ended: &Ended) -> proto::Ended {
    let (reason, code) = reason(ended.reason);
    proto::Ended {
        reason: reason.into(),
        code,
        at_us: ended.at.0,
        peak_memory_bytes: ended.peaks.memory.map(|peak| peak.0),
        cpu_time_us: ended.peaks.cpu_time.map(|time| time.0),
        peak_tasks: ended.peaks.tasks,
        detail: ended.detail.clone(),
    }
}

fn prove(news: &ProveNews) -> proto::ProveState {
    let report = news.report.as_ref().map(|texts| proto::ProveReport {
        text: texts.text.clone(),
        json: texts.json.clone(),
        html: texts.html.clone(),
        whole: texts.whole,
        cost: texts.cost,
    });
    proto::ProveState {
        run_id: news.run.as_bytes().to_vec(),
        stage: news.stage.word().into(),
        sentence: news.sentence.clone(),
        report,
    }
}

fn receipt(receipt: &Receipt) -> proto::Receipt {
    let (attempt_id, subject) = match &receipt.subject {
        ReceiptSubject::Attempt(attempt) => (attempt.as_bytes().to_vec(), String::new()),
        ReceiptSubject::Node(subject) => (Vec::new(), subject.clone()),
    };
    proto::Receipt {
        at_us: receipt.at.0,
        action: receipt.action.word().into(),
        attempt_id,
        subject,
        sentence: receipt.sentence.clone(),
    }
}

const fn phase(phase: AttemptPhase) -> proto::AttemptPhase {
    match phase {
        AttemptPhase::Assigned => proto::AttemptPhase::Assigned,
        AttemptPhase::Starting => proto::AttemptPhase::Starting,
        AttemptPhase::Running => proto::AttemptPhase::Running,
        AttemptPhase::Squeezed => proto::AttemptPhase::Squeezed,
        AttemptPhase::Stopping => proto::AttemptPhase::Stopping,
        AttemptPhase::Ended => proto::AttemptPhase::Ended,
    }
}

fn reason(reason: EndReason) -> (proto::EndReason, u32) {
    match reason {
        EndReason::Exited { code } => (proto::EndReason::Exited, u32::from(code)),
        EndReason::Signalled { signal } => (proto::EndReason::Signalled, u32::from(signal)),
        EndReason::OutOfMemory => (proto::EndReason::OutOfMemory, 0),
        EndReason::TimeLimit => (proto::EndReason::TimeLimit, 0),
        EndReason::Cancelled => (proto::EndReason::Cancelled, 0),
        EndReason::StartFailed => (proto::EndReason::StartFailed, 0),
        EndReason::Evicted => (proto::EndReason::Evicted, 0),
        EndReason::Refused { for_good: false } => (proto::EndReason::RefusedForNow, 0),
        EndReason::Refused { for_good: true } => (proto::EndReason::RefusedForGood, 0),
        EndReason::NodeLost => (proto::EndReason::NodeLost, 0),
        EndReason::NodeRebooted => (proto::EndReason::NodeRebooted, 0),
    }
}
