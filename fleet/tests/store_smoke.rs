//! The writer on a real file: what is answered is there again after a restart.
#![allow(clippy::tests_outside_test_module, reason = "an integration test file is one")]

use std::path::Path;

use loadline_fleet::Fleet;
use loadline_fleet::clock::Clock;
use loadline_fleet::state::{Command, JobRef, Refused, Reply};
use loadline_fleet::store::{Sqlite, StoreError};
use loadline_fleet::trust::Role;
use loadline_fleet::writer::{self, WriterThread};
use loadline_model::{
    Bytes, CpuRequest, JobDraft, JobId, JobPhase, JobSpec, Tier, WallTime, WorkerRequest, Workers,
};

fn open(path: &Path) -> (Fleet, WriterThread) {
    let store = Sqlite::open(path).unwrap();
    writer::start(Box::new(store), Clock::new(|| WallTime(1_700_000_000_000_000))).unwrap()
}

fn spec(name: &str) -> Box<JobSpec> {
    let draft = JobDraft {
        name: Some(name.into()),
        command: vec!["true".into()],
        dir: None,
        env: Default::default(),
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
    };
    Box::new(JobSpec::new(draft).unwrap())
}

fn job(number: u128) -> JobId {
    JobId::from_slice(&number.to_be_bytes()).unwrap()
}

async fn add_user(fleet: &Fleet, name: &str) -> Result<Reply, Refused> {
    let (by, name) = ("local".into(), name.into());
    let (unix_account, team) = (String::new(), String::new());
    fleet
        .submit(Command::AddUser {
            by,
            name,
            role: Role::Admin,
            unix_account,
            team,
        })
        .await
}

async fn submit(fleet: &Fleet, id: u128, name: &str) -> Result<Reply, Refused> {
    fleet
        .submit(Command::Submit {
            by: "ada".into(),
            job: job(id),
            spec: spec(name),
        })
        .await
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let (fleet, thread) = open(&path);
    add_user(&fleet, "ada").await.unwrap();
    assert_eq!(
        submit(&fleet, 7, "a").await,
        Ok(Reply::Submitted {
            number: 1,
            fresh: true
        })
    );
    assert_eq!(
        submit(&fleet, 8, "b").await,
        Ok(Reply::Submitted {
            number: 2,
            fresh: true
        })
    );
    fleet
        .submit(Command::Cancel {
            by: "ada".into(),
            job: JobRef::Number(2),
        })
        .await
        .unwrap();
    drop(fleet);
    thread.join().unwrap();

    let (fleet, _thread) = open(&path);
    assert_eq!(
        submit(&fleet, 7, "a").await,
        Ok(Reply::Submitted {
            number: 1,
            fresh: false
        })
    );
    assert_eq!(
        submit(&fleet, 7, "other").await,
        Err(Refused::JobConflict(job(7)))
    );
    assert_eq!(
        submit(&fleet, 9, "c").await,
        Ok(Reply::Submitted {
            number: 3,
            fresh: true
        })
    );
    let jobs = fleet.read(|state, _| state.jobs(true)).await.unwrap();
    let phases: Vec<_> = jobs.iter().map(|job| (job.number, job.phase)).collect();
    let cancelled = JobPhase::Done(loadline_model::JobOutcome::Cancelled);
    assert_eq!(
        phases,
        [(3, JobPhase::Queued), (2, cancelled), (1, JobPhase::Queued)]
    );
}

#[tokio::test]
async fn two_on_one_store_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let first = Sqlite::open(&path).unwrap();
    let Err(error) = Sqlite::open(&path) else {
        panic!("the second opened it too")
    };
    let expected = format!(
        "the store {} is in use by process {}: end that one first",
        path.display(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);
    drop(first);
    Sqlite::open(&path).unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    drop(Sqlite::open(&path).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    assert!(matches!(
        Sqlite::open(&path),
        Err(StoreError::Newer {
            found: 99,
            known: 1,
            ..
        })
    ));
}
