//! The writer on a real file: what is answered is there again after a restart, a kill, a cut of power, a failed
//! commit; what was refused is not.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loadline_fleet::Fleet;
use loadline_fleet::clock::Clock;
use loadline_fleet::state::{Change, Command, Hello, JobRef, Loaded, Now, Refused, Reply, State, check};
use loadline_fleet::store::{CommitError, Sqlite, Store, StoreError};
use loadline_fleet::trust::Role;
use loadline_fleet::writer::{self, Outgoing, WriterThread};
use loadline_model::{
    AttemptPhase, EndReason, Generation, JobOutcome, JobPhase, NodeId, Sequence, Span, WallTime,
};
use rand::RngExt;

use crate::world::{Script, World, draft, job_id, ledger, report, spec};

/// The child of [`a_killed_writer_keeps_every_job_it_acknowledged`] finds its store here.
const CHILD: &str = "LOADLINE_TEST_KILLED_WRITER";
/// How often a writer is killed; the promise (1,000) is run with this set.
const KILLS: &str = "LOADLINE_TEST_KILLS";

fn clock() -> Clock {
    Clock::new(|| WallTime(1_700_000_000_000_000))
}

fn open(path: &Path) -> (Fleet, WriterThread) {
    writer::start(Box::new(Sqlite::open(path).unwrap()), clock()).unwrap()
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

async fn submit(fleet: &Fleet, id: u128, retries: u32) -> Result<Reply, Refused> {
    let spec = spec(loadline_model::JobDraft { retries, ..draft() });
    fleet
        .submit(Command::Submit {
            by: "ada".into(),
            job: job_id(id),
            spec,
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
        submit(&fleet, 7, 0).await,
        Ok(Reply::Submitted {
            number: 1,
            fresh: true
        })
    );
    assert_eq!(
        submit(&fleet, 8, 0).await,
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
        submit(&fleet, 7, 0).await,
        Ok(Reply::Submitted {
            number: 1,
            fresh: false
        })
    );
    assert_eq!(submit(&fleet, 7, 1).await, Err(Refused::JobConflict(job_id(7))));
    assert_eq!(
        submit(&fleet, 9, 0).await,
        Ok(Reply::Submitted {
            number: 3,
            fresh: true
        })
    );
    let jobs = fleet.read(|state, _| state.jobs(true)).await.unwrap();
    let phases: Vec<_> = jobs.iter().map(|job| (job.number, job.phase)).collect();
    let cancelled = JobPhase::Done(JobOutcome::Cancelled);
    assert_eq!(
        phases,
        [(3, JobPhase::Queued), (2, cancelled), (1, JobPhase::Queued)]
    );
}

#[test]
fn two_on_one_store_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let first = Sqlite::open(&path).unwrap();
    let error = Sqlite::open(&path).unwrap_err();
    let (path_shown, pid) = (path.display(), std::process::id());
    let expected = format!("the store {path_shown} is in use by process {pid}: end that one first");
    assert_eq!(error.to_string(), expected);
    drop(first);
    Sqlite::open(&path).unwrap();
}

#[test]
fn a_newer_schema_is_refused() {
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
            known: 5,
            ..
        })
    ));
}

#[test]
fn a_file_that_is_no_store_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    std::fs::write(
        &path,
        "this is not a database, and long enough to be sure of it: ".repeat(40),
    )
    .unwrap();
    let error = Sqlite::open(&path).unwrap_err();
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}

/// Every table, through a whole life: stored rows come back equal.
#[test]
fn all_kinds_of_rows_come_back_equal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    for id in 1..=4 {
        world
            .submit(
                id,
                spec(loadline_model::JobDraft {
                    retries: 1,
                    ..draft()
                }),
            )
            .unwrap();
    }
    let attempts: Vec<_> = (1..=2).map(|id| world.attempt(id)).collect();
    node.run(&mut world, attempts[0]);
    node.tell(&mut world, report(attempts[1], AttemptPhase::Running));
    node.end(&mut world, attempts[0], EndReason::Exited { code: 3 });
    node.end(&mut world, attempts[1], EndReason::Refused { for_good: true });
    node.live(&mut world, 400);
    node.bye(&mut world);
    world
        .step(Command::Cancel {
            by: "ada".into(),
            job: JobRef::Number(1),
        })
        .unwrap();
    world.join("n2");

    let mut store = Sqlite::open(&path).unwrap();
    store.commit(&world.log).unwrap();
    let loaded = store.load().unwrap();
    assert!(loaded.set_aside.is_empty(), "{:?}", loaded.set_aside);
    assert_eq!(loaded.epoch, 1);
    let (state, dangling) = State::load(loaded);
    assert!(dangling.is_empty(), "{dangling:?}");
    assert_eq!(state.rows(), world.state.rows());
    assert!(check::violations(&state).is_empty());
    assert_eq!(store.load().unwrap().epoch, 2, "each start is a new term");
}

#[tokio::test]
async fn bad_rows_are_moved_aside_by_name_and_the_rest_loads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 8);
    for id in 1..=5 {
        world.submit(id, spec(draft())).unwrap();
    }
    for id in 1..=5 {
        let attempt = world.attempt(id);
        node.run(&mut world, attempt);
    }
    let mut store = Sqlite::open(&path).unwrap();
    store.commit(&world.log).unwrap();
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    // One unreadable specification, one attempt in a stage that does not exist, one worker row lost.
    connection
        .execute("UPDATE job SET spec = x'ff' WHERE number = 2", [])
        .unwrap();
    let third = job_id(3);
    connection
        .execute("UPDATE attempt SET stage = 77 WHERE job = ?", [third.as_bytes()])
        .unwrap();
    let fourth = job_id(4);
    connection
        .execute("UPDATE worker SET stage = -1 WHERE job = ?", [fourth.as_bytes()])
        .unwrap();
    drop(connection);

    let (fleet, thread) = open(&path);
    let jobs = fleet.read(|state, _| state.jobs(true)).await.unwrap();
    let shown: Vec<_> = jobs.iter().map(|job| (job.number, job.phase)).collect();
    let failed = JobPhase::Done(JobOutcome::Failed);
    let running = JobPhase::Running;
    assert_eq!(shown, [(5, running), (4, running), (3, failed), (1, running)]);
    let status = fleet.read(|state, now| state.status(now)).await.unwrap();
    assert_eq!(status.store, "SQLite, schema 5, 5 rows set aside");
    assert_eq!(
        submit(&fleet, 9, 0).await,
        Ok(Reply::Submitted {
            number: 6,
            fresh: true
        })
    );
    drop(fleet);
    thread.join().unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    let aside: i64 = connection
        .query_row("SELECT count(*) FROM aside", [], |row| row.get(0))
        .unwrap();
    assert_eq!(
        aside, 5,
        "the job with its attempt and worker, the attempt, the worker"
    );
    let kept = "SELECT row FROM aside WHERE table_name = 'job'";
    let row: String = connection.query_row(kept, [], |row| row.get(0)).unwrap();
    assert!(row.contains("spec=X'FF'") && row.contains("number=2"), "{row}");
}

/// A store that fails when told to.
struct Faulty {
    inner: Sqlite,
    full: Arc<AtomicBool>,
}

impl Store for Faulty {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.inner.load()
    }

    fn set_aside(&mut self, rows: &[(Change, String)]) -> Result<(), CommitError> {
        self.inner.set_aside(rows)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), CommitError> {
        if self.full.load(Ordering::SeqCst) {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull).into();
            return Err(CommitError::Full {
                message: "database or disk is full".into(),
                source,
            });
        }
        self.inner.commit(changes)
    }

    fn tend(&mut self, idle: bool) {
        self.inner.tend(idle);
    }
}

fn hello(node: NodeId, applied: u64) -> Hello {
    Hello {
        node,
        name: "n1".into(),
        version: String::new(),
        boot_id: String::new(),
        ledger: ledger(1),
        applied: Generation(applied),
        last_sequence: Sequence(0),
        first_sequence: None,
        inventory: Some(crate::world::inventory(4)),
        attempts: Vec::new(),
        complete: true,
    }
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_service_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let full = Arc::new(AtomicBool::new(false));
    let store = Faulty {
        inner: Sqlite::open(&path).unwrap(),
        full: Arc::clone(&full),
    };
    let (fleet, thread) = writer::start(Box::new(store), clock()).unwrap();
    add_user(&fleet, "ada").await.unwrap();
    let node = NodeId::from_slice(&[5; 16]).unwrap();
    let mut link = fleet.open_session(hello(node, 0)).await.unwrap();

    full.store(true, Ordering::SeqCst);
    let refused = submit(&fleet, 1, 0).await.unwrap_err();
    assert_eq!(
        (refused.reason(), refused.to_string().contains("disk is full")),
        ("STORE_FULL", true)
    );
    let again = fleet.open_session(hello(node, 0)).await.unwrap_err();
    assert_eq!(again.reason(), "STORE_FULL");
    let alive = Command::Alive {
        node,
        session: link.session,
        sample: None,
        word: None,
        inventory: None,
    };
    assert_eq!(
        fleet.submit(alive).await,
        Ok(Reply::Done),
        "what changes nothing goes on"
    );
    assert!(fleet.read(|state, _| state.jobs(true)).await.unwrap().is_empty());
    assert!(link.outgoing.try_recv().is_err(), "no order that is not durable");

    full.store(false, Ordering::SeqCst);
    assert_eq!(
        submit(&fleet, 1, 0).await,
        Ok(Reply::Submitted {
            number: 1,
            fresh: true
        })
    );
    let Some(Outgoing::Orders(orders)) = link.outgoing.recv().await else {
        panic!("no order")
    };
    assert_eq!(orders.len(), 1);
    let rows = fleet.read(|state, _| state.rows()).await.unwrap();
    drop((fleet, link));
    thread.join().unwrap();
    let (state, _) = State::load(Sqlite::open(&path).unwrap().load().unwrap());
    assert_eq!(state.rows(), rows);
}

#[tokio::test]
async fn random_failures_leave_memory_and_store_equal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let full = Arc::new(AtomicBool::new(false));
    let store = Faulty {
        inner: Sqlite::open(&path).unwrap(),
        full: Arc::clone(&full),
    };
    let (fleet, thread) = writer::start(Box::new(store), clock()).unwrap();
    add_user(&fleet, "ada").await.unwrap();
    let mut acknowledged = Vec::new();
    let mut random = rand::rng();
    for id in 1..200u128 {
        full.store(random.random_bool(0.3), Ordering::SeqCst);
        let (first, second) = tokio::join!(submit(&fleet, id, 0), submit(&fleet, id, 0));
        for reply in [&first, &second] {
            match reply {
                Ok(Reply::Submitted { number, .. }) => acknowledged.push((id, *number)),
                Err(Refused::StoreFull(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        if random.random_bool(0.3) {
            let job = JobRef::Id(job_id(random.random_range(1..=id)));
            // Refused when full, unknown when its submission was.
            let _either = fleet
                .submit(Command::Cancel {
                    by: "ada".into(),
                    job,
                })
                .await;
        }
    }
    let rows = fleet.read(|state, _| state.rows()).await.unwrap();
    drop(fleet);
    thread.join().unwrap();
    let (state, dangling) = State::load(Sqlite::open(&path).unwrap().load().unwrap());
    assert!(dangling.is_empty());
    assert_eq!(state.rows(), rows);
    let now = Now {
        wall: WallTime(0),
        mono: Span::ZERO,
    };
    for (id, number) in acknowledged {
        let detail = state.job(JobRef::Id(job_id(id)), now).unwrap();
        assert_eq!(detail.summary.number, number);
    }
}

/// Power cuts: at any byte of the log after what was acknowledged, the store opens and has all of it.
#[tokio::test]
async fn a_cut_of_power_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let log = folder.path().join("store.db-wal");
    let (fleet, _thread) = open(&path);
    add_user(&fleet, "ada").await.unwrap();
    let length = |path: &Path| std::fs::metadata(path).unwrap().len();
    // The log's length when each job was acknowledged. No checkpoint runs in so few pages.
    let mut synced = Vec::new();
    for id in 1..=40u128 {
        submit(&fleet, id, 0).await.unwrap();
        synced.push((id, length(&log)));
    }
    let whole = std::fs::read(&log).unwrap();
    let base = std::fs::read(&path).unwrap();
    let cut_folder = tempfile::tempdir().unwrap();
    let cut_path = cut_folder.path().join("store.db");
    let mut random = rand::rng();
    for _ in 0..120 {
        let cut = random.random_range(synced[0].1..=length(&log));
        let mut rest = whole[..usize::try_from(cut).unwrap()].to_vec();
        // Blocks that were on their way may hold anything.
        rest.extend((0..random.random_range(0..9000)).map(|_| random.random::<u8>()));
        std::fs::write(&cut_path, &base).unwrap();
        std::fs::write(cut_folder.path().join("store.db-wal"), &rest).unwrap();
        let (state, dangling) = State::load(Sqlite::open(&cut_path).unwrap().load().unwrap());
        assert!(dangling.is_empty() && check::violations(&state).is_empty());
        let acknowledged = synced.iter().filter(|(_, length)| *length <= cut).count();
        let there = state.jobs(true).len();
        assert!(
            there >= acknowledged,
            "{there} jobs of {acknowledged} acknowledged, cut at {cut}"
        );
    }
}

/// Runs only as the child of the test below.
#[test]
fn killed_writer() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (fleet, _thread) = open(Path::new(&path));
        // It may have been added, and acknowledged to nobody, by a child that was killed.
        let _either = add_user(&fleet, "ada").await;
        let first = fleet.read(|state, _| state.jobs(true).len()).await.unwrap();
        let mut tasks = Vec::new();
        for client in 0..4u128 {
            let fleet = fleet.clone();
            tasks.push(tokio::spawn(async move {
                for count in 0.. {
                    let id = ((first as u128 + 1) << 64) + (count * 4 + client);
                    let Ok(Reply::Submitted { number, .. }) = submit(&fleet, id, 0).await else {
                        return;
                    };
                    println!("acknowledged {id} {number}");
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_killed_writer_keeps_every_job_it_acknowledged() {
    let kills: u32 = std::env::var(KILLS).map_or(12, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut acknowledged: Vec<(u128, u64)> = Vec::new();
    let mut random = rand::rng();
    for kill in 1..=kills {
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "restart::killed_writer",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // At a random moment after a random number of answers: also in the middle of a commit.
        let answers = random.random_range(0..40);
        let mut told = Vec::new();
        let mut read = |line: String| {
            if let Some(rest) = line.strip_prefix("acknowledged ") {
                let (id, number) = rest.split_once(' ').unwrap();
                told.push((id.parse().unwrap(), number.parse().unwrap()));
            }
            told.len()
        };
        for line in lines.by_ref() {
            if read(line.unwrap()) >= answers {
                break;
            }
        }
        std::hint::black_box((0..random.random_range(0..200_000u32)).fold(0u32, |sum, x| sum ^ x));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts.
        for line in lines.map_while(Result::ok) {
            read(line);
        }
        acknowledged.append(&mut told);
        let mut store = Sqlite::open(&path).unwrap();
        let (state, dangling) = State::load(store.load().unwrap());
        assert!(dangling.is_empty(), "kill {kill}");
        let violations = check::violations(&state);
        assert!(violations.is_empty(), "kill {kill}: {violations:?}");
        let now = Now {
            wall: WallTime(0),
            mono: Span::ZERO,
        };
        for (id, number) in &acknowledged {
            let detail = state.job(JobRef::Id(job_id(*id)), now);
            assert_eq!(
                detail.map(|detail| detail.summary.number),
                Ok(*number),
                "kill {kill}, job {id}"
            );
        }
    }
    assert!(!acknowledged.is_empty(), "no writer got to acknowledge anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn watchers_see_every_change_and_a_newer_session_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let (fleet, _thread) = open(&folder.path().join("store.db"));
    add_user(&fleet, "ada").await.unwrap();
    let node = NodeId::from_slice(&[5; 16]).unwrap();
    let mut old = fleet.open_session(hello(node, 0)).await.unwrap();
    let mut link = fleet.open_session(hello(node, 0)).await.unwrap();
    let closed = Outgoing::Close(loadline_fleet::writer::CloseReason::Replaced);
    assert_eq!(old.outgoing.recv().await, Some(closed));
    assert_eq!(old.outgoing.recv().await, None);
    submit(&fleet, 1, 0).await.unwrap();
    let mut watch = fleet.watch_job(JobRef::Number(1)).await.unwrap();
    let Some(Outgoing::Orders(orders)) = link.outgoing.recv().await else {
        panic!("no order")
    };
    let attempt = orders[0].attempt.unwrap();
    let session = link.session;
    fleet
        .submit(Command::Applied {
            node,
            session,
            generation: orders[0].generation,
        })
        .await
        .unwrap();
    let phases = [
        report(attempt, AttemptPhase::Running),
        crate::world::report_end(attempt, EndReason::Exited { code: 5 }),
    ];
    for (report, sequence) in phases.into_iter().zip(1..) {
        let event = loadline_fleet::state::Event {
            ledger: ledger(1),
            sequence: Sequence(sequence),
            boot_id: String::new(),
            at: WallTime(0),
            what: loadline_fleet::state::Happening::Attempt(Box::new(report)),
        };
        fleet
            .submit(Command::Events {
                node,
                session,
                events: vec![event],
            })
            .await
            .unwrap();
    }
    let mut seen = Vec::new();
    let all = async {
        while let Some(change) = watch.changes.recv().await {
            seen.push((
                change.summary.phase,
                change.changed.first().map(|attempt| attempt.phase),
            ));
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.unwrap();
    let failed = JobPhase::Done(JobOutcome::Failed);
    let expected = [
        (JobPhase::Running, Some(AttemptPhase::Running)),
        (failed, Some(AttemptPhase::Ended)),
    ];
    assert_eq!(seen, expected, "and it ends with the job");
}
