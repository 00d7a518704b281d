//! What systemd is told about a worker, and what a job cannot make it believe.

use std::collections::BTreeMap;

use loadline_model::{Bytes, CpuRequest, JobDraft, JobSpec, Tier, WorkerRequest, Workers};
use loadline_policy::attempt::WorkOrder;
use loadline_policy::settings::worker_settings;

use super::worker_unit;
use crate::host::systemd::WorkerUnit;
use crate::host::users::Account;

fn unit(command: &[&str], dir: Option<&str>, env: &[(&str, &str)]) -> WorkerUnit {
    let text = |text: &&str| (*text).to_owned();
    let spec = JobSpec::new(JobDraft {
        name: Some("train".into()),
        command: command.iter().map(text).collect(),
        dir: dir.map(ToOwned::to_owned),
        env: env
            .iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect::<BTreeMap<_, _>>(),
        workers: Workers::Fixed(4),
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
        needs: loadline_model::Needs::default(),
        waits: loadline_model::Waits::default(),
        gang: false,
        tasks: None,
        priority: loadline_model::Priority::NORMAL,
        team: None,
    })
    .unwrap();
    let order = WorkOrder {
        attempt: "0192f0c123457abc8def0123456789ab".parse().unwrap(),
        job: "0192f0c123457abc8def0123456789ac".parse().unwrap(),
        job_number: 412,
        worker: 3,
        attempt_number: 1,
        user: "alice".into(),
        team: String::new(),
        spec,
    };
    let account = Account {
        name: "alice".into(),
        uid: 1000,
        home: "/home/alice".into(),
        groups: Vec::new(),
    };
    let settings = worker_settings(order.attempt, &order.spec, None, None);
    worker_unit(&order, &account, settings)
}

#[test]
fn home_is_where_the_account_lives() {
    assert_eq!(unit(&["true"], None, &[]).directory, "/home/alice");
    assert_eq!(unit(&["true"], Some("~/a b"), &[]).directory, "/home/alice/a b");
    let elsewhere = unit(&["true"], Some("/opt/x"), &[]);
    assert_eq!(elsewhere.directory, "/opt/x");
    assert!(elsewhere.writable.contains(&"/opt/x".to_owned()));
}

#[test]
fn programs_are_found_as_in_a_shell() {
    assert_eq!(unit(&["python", "x"], None, &[]).program, "python");
    assert_eq!(unit(&["/usr/bin/env"], None, &[]).program, "/usr/bin/env");
    assert_eq!(
        unit(&["./run.sh"], Some("~/p"), &[]).program,
        "/home/alice/p/run.sh"
    );
    assert_eq!(unit(&["bin/run"], None, &[]).program, "/home/alice/bin/run");
    let path = unit(&["x"], None, &[("PATH", "/opt/conda/bin:relative:/usr/bin")]);
    assert_eq!(path.search_path, ["/opt/conda/bin", "/usr/bin"]);
    assert_eq!(unit(&["x"], None, &[]).search_path[0], "/home/alice/.local/bin");
}

#[test]
fn a_job_cannot_pretend_to_be_another() {
    let unit = unit(&["x"], None, &[("LOADLINE_JOB", "other"), ("A", "$B %h\n")]);
    let named: Vec<_> = unit
        .environment
        .iter()
        .filter(|one| one.starts_with("LOADLINE_JOB="))
        .collect();
    assert_eq!(named, ["LOADLINE_JOB=0192f0c1-2345-7abc-8def-0123456789ac"]);
    assert!(unit.environment.contains(&"A=$B %h\n".to_owned()));
    for its_share in ["LOADLINE_WORKER=3", "LOADLINE_WORKERS=4"] {
        assert!(unit.environment.contains(&its_share.to_owned()), "{its_share}");
    }
    assert_eq!(unit.log_identifier, "412.3");
    assert_eq!(unit.shared_memory, Bytes::from_mib(32));
}
