//! What jobs need of their nodes and wait for. Constraints travel in their written form.

use std::str::FromStr;

use loadline_model::{
    After, AfterJob, Arrange, Bytes, Domain, JobSpec, LabelProblem, Mark, Needs, Numa, PerMille, Tasks,
    Waits, WallTime, shown,
};
use loadline_proto::types::v1 as types;

use super::WireError;

fn written<T: FromStr<Err = LabelProblem>>(
    field: &'static str,
    texts: &[String],
) -> Result<Vec<T>, WireError> {
    texts
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()
        .map_err(|problem: LabelProblem| WireError::Text {
            field,
            problem: problem.to_string(),
        })
}

/// Reads changes of labels or taints.
///
/// # Errors
/// At the first that is none.
pub fn read_marks(field: &'static str, texts: &[String]) -> Result<Vec<Mark>, WireError> {
    written(field, texts)
}

fn unknown(field: &'static str, value: &str) -> WireError {
    let value = shown(value);
    WireError::Value { field, value }
}

pub(super) fn read_needs(spec: &types::JobSpec, worker: &types::WorkerRequest) -> Result<Needs, WireError> {
    let numa = match worker.numa.as_str() {
        "" => Numa::Any,
        word => Numa::from_word(word).ok_or_else(|| unknown("numa", word))?,
    };
    let share = worker.gpu_share_per_mille;
    let too_much = || unknown("gpu_share_per_mille", &share.to_string());
    let share = u16::try_from(share).map_err(|_| too_much())?;
    let arrange = match (
        spec.spread.as_str(),
        spec.prefer_spread.as_str(),
        spec.pack.as_str(),
    ) {
        ("", "", "") => Arrange::Anyhow,
        (spread, "", "") => Arrange::Spread(Domain::from(spread)),
        ("", spread, "") => Arrange::PreferSpread(Domain::from(spread)),
        ("", "", pack) => Arrange::Pack(Domain::from(pack)),
        _ => return Err(unknown("spread", "at once with `prefer_spread` or `pack`")),
    };
    Ok(Needs {
        require: written("require", &spec.require)?,
        prefer: written("prefer", &spec.prefer)?,
        tolerate: written("tolerate", &spec.tolerate)?,
        gpu_memory: Bytes(worker.gpu_memory_bytes),
        gpu_share: (share > 0).then_some(PerMille(share)),
        scratch: Bytes(worker.scratch_bytes),
        numa,
        arrange,
        near: spec.near.clone(),
        away_from: spec.away_from.clone(),
    })
}

pub(super) fn read_waits(spec: &types::JobSpec) -> Result<Waits, WireError> {
    let one = |after: &types::AfterJob| {
        Ok(AfterJob {
            job: after.job.parse().map_err(|problem| WireError::Text {
                field: "after",
                problem: format!("`{}`: {problem}", shown(&after.job)),
            })?,
            after: After::from_word(&after.how).ok_or_else(|| unknown("after.how", &after.how))?,
        })
    };
    Ok(Waits {
        after: spec.after.iter().map(one).collect::<Result<_, _>>()?,
        start_after: spec.start_after_us.map(WallTime),
    })
}

pub(super) fn read_tasks(tasks: types::Tasks) -> Tasks {
    let types::Tasks { first, last } = tasks;
    Tasks { first, last }
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// Adds what the job needs and waits for to what else is written of it.
pub(super) fn write(spec: &JobSpec, wire: &mut types::JobSpec) {
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
    let after = |after: &AfterJob| types::AfterJob {
        job: after.job.to_string(),
        how: after.after.word().into(),
    };
    wire.after = spec.waits.after.iter().map(after).collect();
    wire.start_after_us = spec.waits.start_after.map(|at| at.0);
    wire.gang = spec.gang;
    wire.tasks = spec
        .tasks
        .map(|Tasks { first, last }| types::Tasks { first, last });
    if let Some(worker) = &mut wire.worker {
        worker.gpu_memory_bytes = needs.gpu_memory.0;
        worker.gpu_share_per_mille = needs.gpu_share.map_or(0, |share| share.0.into());
        worker.scratch_bytes = needs.scratch.0;
        if needs.numa != Numa::Any {
            worker.numa = needs.numa.word().into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{read_spec, write_spec};
    use super::*;
    use loadline_proto::types::v1::worker_request::Cpu;

    fn wire() -> types::JobSpec {
        let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        types::JobSpec {
            command: vec!["true".into()],
            workers_min: 2,
            workers_max: 2,
            worker: Some(types::WorkerRequest {
                cpu: Some(Cpu::ExclusiveCpus(1)),
                memory_bytes: 64 << 20,
                gpus: 1,
                gpu_memory_bytes: 40 << 30,
                gpu_share_per_mille: 500,
                scratch_bytes: 1 << 30,
                numa: "single".into(),
            }),
            require: list(&["gpu-model=A100", "zone in (a,b)", "!spot"]),
            prefer: list(&["rack!=r1"]),
            tolerate: list(&["only=gpu", "spot"]),
            spread: "node".into(),
            near: list(&["db"]),
            away_from: list(&["412"]),
            after: vec![types::AfterJob {
                job: "411".into(),
                how: "failed".into(),
            }],
            start_after_us: Some(7),
            ..Default::default()
        }
    }

    #[test]
    fn needs_survive_the_wire() {
        let spec = read_spec(wire()).unwrap();
        assert_eq!(read_spec(write_spec(&spec)).unwrap(), spec);
        let written = write_spec(&spec);
        assert_eq!(written.require, wire().require);
        assert_eq!((written.spread.as_str(), written.after), ("node", wire().after));
        for (spread, gang) in [("zone", false), ("", true)] {
            let other = types::JobSpec {
                spread: String::new(),
                pack: spread.into(),
                gang,
                tasks: (!gang).then_some(types::Tasks { first: 1, last: 9 }),
                ..wire()
            };
            let spec = read_spec(other).unwrap();
            assert_eq!(read_spec(write_spec(&spec)).unwrap(), spec);
        }
    }

    #[test]
    fn what_is_not_understood_is_named_and_not_repeated_at_length() {
        let long = "x".repeat(10_000);
        let wrong = [
            types::JobSpec {
                require: vec![long.clone()],
                ..wire()
            },
            types::JobSpec {
                tolerate: vec!["a b".into()],
                ..wire()
            },
            types::JobSpec {
                pack: "node".into(),
                ..wire()
            },
            types::JobSpec {
                away_from: vec![long.clone()],
                ..wire()
            },
            types::JobSpec {
                spread: long.clone(),
                ..wire()
            },
            types::JobSpec {
                after: vec![types::AfterJob {
                    job: long,
                    how: "ok".into(),
                }],
                ..wire()
            },
            types::JobSpec {
                tasks: Some(types::Tasks {
                    first: 1,
                    last: 100_001,
                }),
                ..wire()
            },
        ];
        for wire in wrong {
            let problem = read_spec(wire).unwrap_err().to_string();
            assert!(problem.len() < 400, "{problem}");
        }
    }
}
