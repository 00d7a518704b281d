//! Phases, ends and sites of attempts, both ways.

use loadline_model::{
    AttemptId, AttemptPhase, Bytes, CpuSet, EndReason, Ended, JobOutcome, JobPhase, Peaks, Span, WallTime,
};
use loadline_proto::fleet::v1 as fleet;
use loadline_proto::types::v1 as types;

use super::{WireError, read_attempt_id, read_job_id};
use crate::state::{Receipt, Reported, Site};

pub(super) fn read_phase(value: i32) -> Result<AttemptPhase, WireError> {
    let unknown = || WireError::Value {
        field: "phase",
        value: value.to_string(),
    };
    Ok(
        match types::AttemptPhase::try_from(value).map_err(|_| unknown())? {
            types::AttemptPhase::Unspecified => return Err(WireError::Missing("phase")),
            types::AttemptPhase::Assigned => AttemptPhase::Assigned,
            types::AttemptPhase::Starting => AttemptPhase::Starting,
            types::AttemptPhase::Running => AttemptPhase::Running,
            types::AttemptPhase::Squeezed => AttemptPhase::Squeezed,
            types::AttemptPhase::Stopping => AttemptPhase::Stopping,
            types::AttemptPhase::Ended => AttemptPhase::Ended,
        },
    )
}

pub(super) const fn write_phase(phase: AttemptPhase) -> types::AttemptPhase {
    match phase {
        AttemptPhase::Assigned => types::AttemptPhase::Assigned,
        AttemptPhase::Starting => types::AttemptPhase::Starting,
        AttemptPhase::Running => types::AttemptPhase::Running,
        AttemptPhase::Squeezed => types::AttemptPhase::Squeezed,
        AttemptPhase::Stopping => types::AttemptPhase::Stopping,
        AttemptPhase::Ended => types::AttemptPhase::Ended,
    }
}

pub(super) fn read_ended(ended: types::Ended) -> Result<Ended, WireError> {
    let value = ended.reason;
    let unknown = || WireError::Value {
        field: "ended.reason",
        value: value.to_string(),
    };
    let code = || {
        u8::try_from(ended.code).map_err(|_| WireError::Value {
            field: "ended.code",
            value: ended.code.to_string(),
        })
    };
    let reason = match types::EndReason::try_from(value).map_err(|_| unknown())? {
        types::EndReason::Unspecified => return Err(WireError::Missing("ended.reason")),
        types::EndReason::Exited => EndReason::Exited { code: code()? },
        types::EndReason::Signalled => EndReason::Signalled { signal: code()? },
        types::EndReason::OutOfMemory => EndReason::OutOfMemory,
        types::EndReason::TimeLimit => EndReason::TimeLimit,
        types::EndReason::Cancelled => EndReason::Cancelled,
        types::EndReason::StartFailed => EndReason::StartFailed,
        types::EndReason::Evicted => EndReason::Evicted,
        types::EndReason::RefusedForNow => EndReason::Refused { for_good: false },
        types::EndReason::RefusedForGood => EndReason::Refused { for_good: true },
        types::EndReason::NodeLost => EndReason::NodeLost,
        types::EndReason::NodeRebooted => EndReason::NodeRebooted,
    };
    let peaks = Peaks {
        memory: ended.peak_memory_bytes.map(Bytes),
        cpu_time: ended.cpu_time_us.map(Span),
        tasks: ended.peak_tasks,
    };
    Ok(Ended {
        reason,
        at: WallTime(ended.at_us),
        peaks,
        detail: ended.detail,
    })
}

pub(super) fn write_ended(ended: &Ended) -> types::Ended {
    let (reason, code) = match ended.reason {
        EndReason::Exited { code } => (types::EndReason::Exited, code),
        EndReason::Signalled { signal } => (types::EndReason::Signalled, signal),
        EndReason::OutOfMemory => (types::EndReason::OutOfMemory, 0),
        EndReason::TimeLimit => (types::EndReason::TimeLimit, 0),
        EndReason::Cancelled => (types::EndReason::Cancelled, 0),
        EndReason::StartFailed => (types::EndReason::StartFailed, 0),
        EndReason::Evicted => (types::EndReason::Evicted, 0),
        EndReason::Refused { for_good: false } => (types::EndReason::RefusedForNow, 0),
        EndReason::Refused { for_good: true } => (types::EndReason::RefusedForGood, 0),
        EndReason::NodeLost => (types::EndReason::NodeLost, 0),
        EndReason::NodeRebooted => (types::EndReason::NodeRebooted, 0),
    };
    types::Ended {
        reason: reason.into(),
        code: code.into(),
        at_us: ended.at.0,
        peak_memory_bytes: ended.peaks.memory.map(|memory| memory.0),
        cpu_time_us: ended.peaks.cpu_time.map(|time| time.0),
        peak_tasks: ended.peaks.tasks,
        detail: ended.detail.clone(),
    }
}

pub(super) fn read_site(placement: types::Placement) -> Result<Site, WireError> {
    let set = |field, text: &str| {
        text.parse::<CpuSet>().map_err(|_| WireError::Value {
            field,
            value: text.to_owned(),
        })
    };
    Ok(Site {
        cpus: set("placement.cpus", &placement.cpus)?,
        numa_nodes: set("placement.numa_nodes", &placement.numa_nodes)?,
        exclusive: placement.exclusive,
        main_pid: placement.main_pid,
        user: placement.user.into(),
    })
}

/// Without the unit, which a site does not keep.
pub(super) fn write_site(site: &Site) -> types::Placement {
    types::Placement {
        cpus: site.cpus.to_string(),
        numa_nodes: site.numa_nodes.to_string(),
        exclusive: site.exclusive,
        main_pid: site.main_pid,
        unit: String::new(),
        user: site.user.to_string(),
    }
}

/// Where an attempt runs, with the name of its unit.
pub(super) fn write_placement(attempt: AttemptId, site: &Site) -> types::Placement {
    types::Placement {
        unit: attempt.unit_name(),
        ..write_site(site)
    }
}

pub(super) fn read_reported(state: types::AttemptState) -> Result<Reported, WireError> {
    let phase = read_phase(state.phase)?;
    let ended = state.ended.map(read_ended).transpose()?;
    if phase == AttemptPhase::Ended && ended.is_none() {
        return Err(WireError::Missing("ended"));
    }
    let job = if state.job_id.is_empty() {
        None
    } else {
        Some(read_job_id("job_id", &state.job_id)?)
    };
    Ok(Reported {
        attempt: read_attempt_id("attempt_id", &state.attempt_id)?,
        job,
        phase,
        site: state.placement.map(read_site).transpose()?,
        ended,
        orphan: state.orphan,
    })
}

pub(super) fn write_reported(reported: &Reported) -> types::AttemptState {
    let site = reported.site.as_ref();
    types::AttemptState {
        attempt_id: reported.attempt.as_bytes().to_vec(),
        job_id: reported
            .job
            .map(|job| job.as_bytes().to_vec())
            .unwrap_or_default(),
        phase: write_phase(reported.phase).into(),
        placement: site.map(|site| write_placement(reported.attempt, site)),
        ended: reported.ended.as_ref().map(write_ended),
        orphan: reported.orphan,
    }
}

pub(super) fn read_receipt(receipt: types::Receipt) -> Result<Receipt, WireError> {
    let attempt = if receipt.attempt_id.is_empty() {
        None
    } else {
        Some(read_attempt_id("receipt.attempt_id", &receipt.attempt_id)?)
    };
    Ok(Receipt {
        at: WallTime(receipt.at_us),
        action: receipt.action,
        attempt,
        subject: receipt.subject,
        sentence: receipt.sentence,
    })
}

pub(super) fn write_receipt(receipt: &Receipt) -> types::Receipt {
    types::Receipt {
        at_us: receipt.at.0,
        action: receipt.action.clone(),
        attempt_id: receipt
            .attempt
            .map(|attempt| attempt.as_bytes().to_vec())
            .unwrap_or_default(),
        subject: receipt.subject.clone(),
        sentence: receipt.sentence.clone(),
    }
}

pub(super) const fn write_job_phase(phase: JobPhase) -> fleet::JobPhase {
    match phase {
        JobPhase::Queued => fleet::JobPhase::Queued,
        JobPhase::Running => fleet::JobPhase::Running,
        JobPhase::Done(JobOutcome::Succeeded) => fleet::JobPhase::Succeeded,
        JobPhase::Done(JobOutcome::Failed) => fleet::JobPhase::Failed,
        JobPhase::Done(JobOutcome::Cancelled) => fleet::JobPhase::Cancelled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(reason: EndReason) -> Reported {
        Reported {
            attempt: "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap(),
            job: Some("0192f0c1-2345-7abc-8def-0123456789ac".parse().unwrap()),
            phase: AttemptPhase::Ended,
            site: Some(Site {
                cpus: "0-1".parse().unwrap(),
                exclusive: true,
                ..Site::default()
            }),
            ended: Some(Ended {
                reason,
                at: WallTime(5),
                peaks: Peaks {
                    memory: Some(Bytes(7)),
                    cpu_time: None,
                    tasks: Some(2),
                },
                detail: "why".into(),
            }),
            orphan: false,
        }
    }

    #[test]
    fn every_end_survives_the_wire() {
        for reason in [
            EndReason::Exited { code: 7 },
            EndReason::Signalled { signal: 9 },
            EndReason::OutOfMemory,
            EndReason::TimeLimit,
            EndReason::Cancelled,
            EndReason::StartFailed,
            EndReason::Evicted,
            EndReason::Refused { for_good: false },
            EndReason::Refused { for_good: true },
            EndReason::NodeLost,
            EndReason::NodeRebooted,
        ] {
            let there = reported(reason);
            assert_eq!(read_reported(write_reported(&there)).unwrap(), there);
        }
    }

    #[test]
    fn what_means_nothing_is_refused_by_field() {
        let good = write_reported(&reported(EndReason::OutOfMemory));
        let refused = |change: fn(&mut types::AttemptState)| {
            let mut state = good.clone();
            change(&mut state);
            read_reported(state).unwrap_err().to_string()
        };
        assert_eq!(refused(|s| s.phase = 0), "`phase` is missing");
        assert_eq!(refused(|s| s.phase = 77), "`phase` cannot be `77`");
        assert_eq!(refused(|s| s.ended = None), "`ended` is missing");
        assert_eq!(refused(|s| s.attempt_id.truncate(3)), "`attempt_id` is not an id");
        assert_eq!(
            refused(|s| s.placement.as_mut().unwrap().cpus = "x".into()),
            "`placement.cpus` cannot be `x`"
        );
        let bad_code = |s: &mut types::AttemptState| {
            let ended = s.ended.as_mut().unwrap();
            ended.reason = types::EndReason::Exited.into();
            ended.code = 256;
        };
        assert_eq!(refused(bad_code), "`ended.code` cannot be `256`");
    }
}
