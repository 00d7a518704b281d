//! Job specifications. What comes in is checked by [`JobSpec::new`], the same rules the command line applies.

use loadline_model::{
    Bytes, CpuRequest, Elastic, JobDraft, JobSpec, MilliCpu, OnNodeLost, Priority, Span, Tier, WorkerRequest,
    Workers,
};
use loadline_proto::fleet::v1 as fleet;
use loadline_proto::types::v1::{self as types, worker_request::Cpu};

use super::{WireError, needs, read_job_id};
use crate::state::JobRef;

/// Reads and checks a specification.
///
/// # Errors
/// Every mistake in it.
pub fn read_spec(spec: types::JobSpec) -> Result<JobSpec, WireError> {
    let tier = match spec.tier() {
        types::Tier::Unspecified | types::Tier::Standard => Tier::Standard,
        types::Tier::Burst => Tier::Burst,
    };
    let on_node_lost = match spec.on_node_lost() {
        types::OnNodeLost::Unspecified => None,
        types::OnNodeLost::Wait => Some(OnNodeLost::Wait),
        types::OnNodeLost::Replace => Some(OnNodeLost::Replace),
    };
    for (field, known, value) in [
        ("tier", types::Tier::try_from(spec.tier).is_ok(), spec.tier),
        (
            "on_node_lost",
            types::OnNodeLost::try_from(spec.on_node_lost).is_ok(),
            spec.on_node_lost,
        ),
    ] {
        if !known {
            return Err(WireError::Value {
                field,
                value: value.to_string(),
            });
        }
    }
    let worker = spec.worker.as_ref().ok_or(WireError::Missing("spec.worker"))?;
    let (needs, waits) = (needs::read_needs(&spec, worker)?, needs::read_waits(&spec)?);
    let cpus = match worker.cpu.ok_or(WireError::Missing("spec.worker.cpu"))? {
        Cpu::ExclusiveCpus(cpus) => CpuRequest::Exclusive(cpus),
        Cpu::SharedMillicpu(amount) => CpuRequest::Shared(MilliCpu(amount)),
    };
    let (min, max) = (spec.workers_min, spec.workers_max);
    let priority = i16::try_from(spec.priority).map(Priority);
    let priority = priority.map_err(|_| WireError::Value {
        field: "priority",
        value: spec.priority.to_string(),
    })?;
    let given = |text: String| (!text.is_empty()).then_some(text);
    JobSpec::new(JobDraft {
        name: given(spec.name),
        command: spec.command,
        dir: given(spec.dir),
        env: spec.env.into_iter().collect(),
        workers: if min == max {
            Workers::Fixed(max)
        } else {
            Workers::Elastic(Elastic { min, max })
        },
        tier,
        retries: spec.retries,
        time: spec.time_limit_us.map(Span),
        grace: spec.grace_us.map(Span),
        on_node_lost,
        worker: WorkerRequest {
            cpus,
            memory: Bytes(worker.memory_bytes),
            gpus: worker.gpus,
        },
        nodes: spec.nodes,
        priority,
        team: given(spec.team),
        needs,
        waits,
        gang: spec.gang,
        tasks: spec.tasks.map(needs::read_tasks),
    })
    .map_err(WireError::Spec)
}

/// Writes a specification, every default spelled out.
pub fn write_spec(spec: &JobSpec) -> types::JobSpec {
    let cpu = match spec.worker.cpus {
        CpuRequest::Exclusive(cpus) => Cpu::ExclusiveCpus(cpus),
        CpuRequest::Shared(amount) => Cpu::SharedMillicpu(amount.0),
    };
    let mut wire = types::JobSpec {
        name: spec.name.clone(),
        command: spec.command.clone(),
        dir: spec.dir.clone(),
        env: spec
            .env
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        workers_min: spec.workers.min(),
        workers_max: spec.workers.max(),
        tier: write_tier(spec.tier).into(),
        retries: spec.retries,
        time_limit_us: spec.time.map(|time| time.0),
        grace_us: Some(spec.grace.0),
        on_node_lost: match spec.on_node_lost {
            OnNodeLost::Wait => types::OnNodeLost::Wait,
            OnNodeLost::Replace => types::OnNodeLost::Replace,
        }
        .into(),
        worker: Some(types::WorkerRequest {
            cpu: Some(cpu),
            memory_bytes: spec.worker.memory.0,
            gpus: spec.worker.gpus,
            ..Default::default()
        }),
        nodes: spec.nodes.clone(),
        priority: spec.priority.0.into(),
        team: spec.team.clone().unwrap_or_default(),
        ..Default::default()
    };
    needs::write(spec, &mut wire);
    wire
}

pub(super) const fn write_tier(tier: Tier) -> types::Tier {
    match tier {
        Tier::Standard => types::Tier::Standard,
        Tier::Burst => types::Tier::Burst,
    }
}

/// Reads either of a job's names.
///
/// # Errors
/// When there is neither.
pub fn read_job_ref(job: fleet::JobRef) -> Result<JobRef, WireError> {
    match job.r#ref.ok_or(WireError::Missing("job"))? {
        fleet::job_ref::Ref::JobId(id) => read_job_id("job_id", &id).map(JobRef::Id),
        fleet::job_ref::Ref::Number(number) => Ok(JobRef::Number(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> types::JobSpec {
        types::JobSpec {
            command: vec!["/usr/bin/true".into()],
            workers_min: 1,
            workers_max: 1,
            worker: Some(types::WorkerRequest {
                cpu: Some(Cpu::SharedMillicpu(500)),
                memory_bytes: 64 << 20,
                gpus: 0,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn a_spec_survives_the_wire_with_its_defaults_spelled_out() {
        let spec = read_spec(wire()).unwrap();
        assert_eq!((spec.name.as_str(), spec.dir.as_str()), ("true", "~"));
        assert_eq!(read_spec(write_spec(&spec)).unwrap(), spec);
        let elastic = types::JobSpec {
            workers_max: 4,
            tier: types::Tier::Burst.into(),
            priority: -7,
            team: "vision".into(),
            ..wire()
        };
        let spec = read_spec(elastic).unwrap();
        assert_eq!(spec.on_node_lost, OnNodeLost::Replace);
        assert_eq!(read_spec(write_spec(&spec)).unwrap(), spec);
    }

    #[test]
    fn mistakes_and_words_of_another_version_are_named() {
        let error = read_spec(types::JobSpec {
            workers_min: 0,
            workers_max: 0,
            ..wire()
        })
        .unwrap_err();
        assert!(error.to_string().contains("workers"), "{error}");
        let error = read_spec(types::JobSpec { tier: 9, ..wire() }).unwrap_err();
        assert_eq!(error.to_string(), "`tier` cannot be `9`");
        let error = read_spec(types::JobSpec {
            worker: None,
            ..wire()
        })
        .unwrap_err();
        assert_eq!(error, WireError::Missing("spec.worker"));
        let no_cpu = Some(types::WorkerRequest {
            cpu: None,
            memory_bytes: 1,
            gpus: 0,
            ..Default::default()
        });
        assert!(
            read_spec(types::JobSpec {
                worker: no_cpu,
                ..wire()
            })
            .is_err()
        );
    }

    #[test]
    fn jobs_are_named_by_id_or_number() {
        let by = |r#ref| read_job_ref(fleet::JobRef { r#ref });
        assert_eq!(
            by(Some(fleet::job_ref::Ref::Number(412))),
            Ok(JobRef::Number(412))
        );
        assert!(by(Some(fleet::job_ref::Ref::JobId(vec![1; 15]))).is_err());
        assert!(by(None).is_err());
    }
}
