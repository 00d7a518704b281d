use super::super::chain::Decision;
use super::super::verify::verify_file;
use super::*;
use loadline_model::WallTime;

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new("test").unwrap())
}

fn entry(object: &str) -> Entry {
    Entry {
        time: WallTime(1_800_000_000_000_000),
        actor: "person/ada".into(),
        peer: "127.0.0.1:1".into(),
        action: "job.submit",
        object: object.into(),
        decision: Decision::Allowed,
        reason: String::new(),
        request_id: "r".into(),
    }
}

async fn record(log: &AuditLog, object: &str) {
    log.write(entry(object)).await.unwrap().durable().await.unwrap();
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    for run in 0..3 {
        let (log, thread) = AuditLog::open(&path, metrics()).unwrap();
        record(&log, &format!("job/{run}a")).await;
        record(&log, &format!("job/{run}b")).await;
        drop(log);
        thread.join().unwrap();
    }
    assert_eq!(verify_file(&path).unwrap().seq, 6);
}

#[tokio::test]
async fn many_at_once_are_all_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let (log, thread) = AuditLog::open(&path, metrics()).unwrap();
    let calls: Vec<_> = (0..500)
        .map(|n| {
            let log = log.clone();
            tokio::spawn(async move { record(&log, &format!("job/{n}")).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    drop(log);
    thread.join().unwrap();
    assert_eq!(verify_file(&path).unwrap().seq, 500);
}

#[tokio::test]
async fn a_half_line_of_a_power_cut_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let (log, thread) = AuditLog::open(&path, metrics()).unwrap();
    record(&log, "job/1").await;
    drop(log);
    thread.join().unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"seq\":2,\"time\":\"20").unwrap();
    let (log, thread) = AuditLog::open(&path, metrics()).unwrap();
    record(&log, "job/2").await;
    drop(log);
    thread.join().unwrap();
    assert_eq!(verify_file(&path).unwrap().seq, 2);
}

#[tokio::test]
async fn a_damaged_last_line_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    std::fs::write(&path, "not json\n").unwrap();
    let error = AuditLog::open(&path, metrics()).unwrap_err();
    assert!(error.to_string().contains("audit.log"), "{error}");
}

#[tokio::test]
async fn a_disk_that_takes_nothing_refuses_the_call_and_every_later_one() {
    // /dev/full answers every write with "no space left on device".
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let metrics = metrics();
    let (queue, requests) = mpsc::channel(8);
    let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let thread = std::thread::spawn(move || {
        Writer {
            file,
            head: Head::default(),
        }
        .run(requests)
    });
    let log = AuditLog { queue, metrics };
    assert!(matches!(
        log.write(entry("job/1")).await,
        Err(AuditError::Write(_))
    ));
    assert!(matches!(log.write(entry("job/2")).await, Err(AuditError::Closed)));
    thread.join().unwrap();
    assert!(!path.exists());
}
