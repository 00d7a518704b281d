//! What jobs need of their nodes and wait for, to the wire in its written form, and back as it would be typed.

use loadline_model::{AfterJob, Arrange, Bytes, JobSpec, Numa, PerMille, Tasks, WallTime};
use loadline_proto::types::v1 as pb;

use crate::text::rfc3339;

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// Adds what the job needs and waits for to what else is written of it.
pub(super) fn write(spec: &JobSpec, wire: &mut pb::JobSpec) {
    let needs = &spec.needs;
    wire.require = texts(&needs.require);
    wire.prefer = texts(&needs.prefer);
    wire.tolerate = texts(&needs.tolerate);
    match &needs.arrange {
        Arrange::Anyhow => {}
        Arrange::Spread(domain) => wire.spread = domain.to_string(),
        Arrange::PreferSpread(domain) => wire.prefer_spread = domain.to_string(),
        Arrange::Pack(domain) => wire.pack = domain.to_string(),
    }
    wire.near.clone_from(&needs.near);
    wire.away_from.clone_from(&needs.away_from);
    let after = |after: &AfterJob| pb::AfterJob {
        job: after.job.to_string(),
        how: after.after.word().into(),
    };
    wire.after = spec.waits.after.iter().map(after).collect();
    wire.start_after_us = spec.waits.start_after.map(|at| at.0);
    wire.gang = spec.gang;
    wire.tasks = spec.tasks.map(|Tasks { first, last }| pb::Tasks { first, last });
    if let Some(worker) = &mut wire.worker {
        worker.gpu_memory_bytes = needs.gpu_memory.0;
        worker.gpu_share_per_mille = needs.gpu_share.map_or(0, |share| share.0.into());
        worker.scratch_bytes = needs.scratch.0;
        if needs.numa != Numa::Any {
            worker.numa = needs.numa.word().into();
        }
    }
}

/// The same as flags.
pub(super) fn view(spec: &pb::JobSpec) -> Vec<String> {
    let mut flags = Vec::new();
    let mut say = |flag: &str, value: &str| {
        if !value.is_empty() {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:+%".contains(c);
            let quote = if value.chars().all(plain) { "" } else { "'" };
            flags.push(format!("--{flag} {quote}{value}{quote}"));
        }
    };
    for (flag, values) in [
        ("require", &spec.require),
        ("prefer", &spec.prefer),
        ("tolerate", &spec.tolerate),
        ("near", &spec.near),
        ("away-from", &spec.away_from),
    ] {
        values.iter().for_each(|value| say(flag, value));
    }
    say("spread", &spec.spread);
    say("prefer-spread", &spec.prefer_spread);
    say("pack", &spec.pack);
    for after in &spec.after {
        let flag = match after.how.as_str() {
            "any" => "after-any",
            "failed" => "after-failed",
            _ => "after",
        };
        say(flag, &after.job);
    }
    if let Some(at) = spec.start_after_us {
        say("start-after", &rfc3339(WallTime(at)));
    }
    if let Some(worker) = &spec.worker {
        let size = |bytes: u64| match bytes {
            0 => String::new(),
            bytes => Bytes(bytes).to_string(),
        };
        say("gpu-memory", &size(worker.gpu_memory_bytes));
        say("scratch", &size(worker.scratch_bytes));
        say("numa", &worker.numa);
        let share = u16::try_from(worker.gpu_share_per_mille).unwrap_or(u16::MAX);
        if share > 0 {
            say("gpu-share", &PerMille(share).to_string());
        }
    }
    if spec.gang {
        flags.push("--gang".into());
    }
    flags
}
