//! The ledger through its faults: crash, broken rows, broken file, full disk, newer schema, second owner.

use std::fs;
use std::path::PathBuf;

use loadline_model::{
    AttemptId, AttemptPhase, EndReason, Ended, Generation, Peaks, Sequence, Span, WallTime,
};
use loadline_policy::attempt::{BootId, Life, RunClock};
use loadline_proto::types::v1 as proto;

use super::{AttemptReport, Change, Happened, Ledger, LedgerError, NodeEvent, StoredAttempt, wire};

const NOW: WallTime = WallTime(1_000);

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    (dir, path)
}

fn open(path: &std::path::Path) -> Ledger {
    let (ledger, aside) = Ledger::open(path, NOW).unwrap();
    assert_eq!(aside.sentences, [""; 0]);
    ledger
}

fn id(last: u8) -> AttemptId {
    AttemptId::from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, last]).unwrap()
}

fn attempt(last: u8, life: Life) -> StoredAttempt {
    StoredAttempt {
        attempt: id(last),
        order: Some(vec![last; 5]),
        boot: BootId("boot".into()),
        life,
        holding: None,
        applied_cpus: "1-2".parse().ok(),
        peaks: Peaks::default(),
        placement: None,
        orphan: false,
    }
}

fn running() -> Life {
    let (spent, counted_to) = (Span(3), Span(4));
    Life::Running {
        clock: RunClock { spent, counted_to },
    }
}

fn event(last: u8, phase: AttemptPhase) -> NodeEvent {
    NodeEvent {
        boot_id: "boot".into(),
        at: NOW,
        what: Happened::Attempt(AttemptReport {
            attempt: id(last),
            job: None,
            phase,
            placement: None,
            ended: None,
            orphan: false,
        }),
    }
}

fn change(last: u8) -> Change {
    Change {
        attempts: vec![attempt(last, running())],
        events: vec![event(last, AttemptPhase::Running)],
        generation: Some(Generation(u64::from(last))),
        ..Change::default()
    }
}

fn decoded(page: &[Vec<u8>]) -> Vec<proto::Event> {
    page.iter().map(|body| wire::decode(body).unwrap()).collect()
}

#[test]
fn what_was_committed_is_there_after_reopening_with_the_same_name() {
    let (_dir, path) = folder();
    let mut ledger = open(&path);
    ledger.commit(&change(1)).unwrap();
    ledger.commit(&change(2)).unwrap();
    let ledger_id = ledger.id();
    drop(ledger);
    let mut ledger = open(&path);
    assert_eq!(ledger.id(), ledger_id);
    assert_eq!(
        (ledger.generation(), ledger.last_sequence()),
        (Generation(2), Sequence(2))
    );
    let (attempts, aside) = ledger.attempts(NOW, |_| Ok(())).unwrap();
    assert_eq!(attempts, [attempt(1, running()), attempt(2, running())]);
    assert!(aside.sentences.is_empty());
    let events = decoded(&ledger.events_after(Sequence(1), NOW).unwrap());
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [2]);
    assert_eq!(events[0].ledger_id, ledger_id.as_bytes());
}

#[test]
fn sequences_have_no_gaps_even_when_all_events_were_acknowledged() {
    let (_dir, path) = folder();
    let mut ledger = open(&path);
    ledger.commit(&change(1)).unwrap();
    ledger.acknowledge(Sequence(1));
    assert!(ledger.events_after(Sequence(0), NOW).unwrap().is_empty());
    ledger
        .commit(&Change {
            generation: Some(Generation(1)),
            ..Change::default()
        })
        .unwrap();
    drop(ledger);
    let mut ledger = open(&path);
    ledger.commit(&change(2)).unwrap();
    let events = decoded(&ledger.events_after(Sequence(0), NOW).unwrap());
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [2]);
}

#[test]
fn the_generation_never_goes_back() {
    let (_dir, path) = folder();
    let mut ledger = open(&path);
    ledger.commit(&change(7)).unwrap();
    ledger.commit(&change(3)).unwrap();
    assert_eq!(ledger.generation(), Generation(7));
}

#[test]
fn ended_attempts_can_be_forgotten_and_others_cannot() {
    let (_dir, path) = folder();
    let mut ledger = open(&path);
    let ended = Life::Ended {
        ended: Ended {
            reason: EndReason::Exited { code: 0 },
            at: NOW,
            peaks: Peaks::default(),
            detail: String::new(),
        },
    };
    let attempts = vec![attempt(1, running()), attempt(2, ended)];
    ledger
        .commit(&Change {
            attempts,
            ..Change::default()
        })
        .unwrap();
    let forgotten = vec![id(1), id(2)];
    ledger
        .commit(&Change {
            forgotten,
            ..Change::default()
        })
        .unwrap();
    assert_eq!(
        ledger.attempts(NOW, |_| Ok(())).unwrap().0,
        [attempt(1, running())]
    );
}

#[test]
fn a_broken_attempt_is_set_aside_and_named_and_the_others_live() {
    let (_dir, path) = folder();
    let mut ledger = open(&path);
    ledger.commit(&change(1)).unwrap();
    ledger.commit(&change(2)).unwrap();
    ledger
        .connection
        .execute("UPDATE attempt SET state = '{' WHERE id = ?1", [id(1).as_bytes()])
        .unwrap();
    let (attempts, aside) = ledger.attempts(NOW, |_| Ok(())).unwrap();
    assert_eq!(attempts, [attempt(2, running())]);
    assert!(aside.sentences[0].contains(&id(1).hex()), "{aside:?}");
    assert_eq!(ledger.set_aside_count().unwrap(), 1);
    assert!(ledger.attempts(NOW, |_| Ok(())).unwrap().1.sentences.is_empty());
}

#[test]
fn a_broken_event_leaves_a_receipt_in_its_place() {
    let (_dir, path) = folder();
    let mut ledger = open(&path);
    for last in 1..=3 {
        ledger.commit(&change(last)).unwrap();
    }
    ledger
        .connection
        .execute("UPDATE event SET body = x'ffff' WHERE sequence = 2", [])
        .unwrap();
    let events = decoded(&ledger.events_after(Sequence(0), NOW).unwrap());
    assert_eq!(
        events.iter().map(|event| event.sequence).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    let Some(proto::event::What::Receipt(receipt)) = &events[1].what else {
        panic!("{:?}", events[1])
    };
    assert_eq!(receipt.action, "record_set_aside");
    assert_eq!(ledger.set_aside_count().unwrap(), 1);
}

#[test]
fn a_broken_file_is_kept_and_a_new_ledger_begins() {
    let (dir, path) = folder();
    let mut ledger = open(&path);
    ledger.commit(&change(1)).unwrap();
    let before = ledger.id();
    drop(ledger);
    fs::write(&path, b"this is not a database, it is a text of some length").unwrap();
    let (mut ledger, aside) = Ledger::open(&path, NOW).unwrap();
    assert_ne!(ledger.id(), before);
    assert_eq!(ledger.last_sequence(), Sequence(0));
    let kept = dir.path().join("ledger.db.broken-1000");
    assert!(
        kept.exists() && aside.sentences[0].contains("ledger.db.broken-1000"),
        "{aside:?}"
    );
    ledger.commit(&change(1)).unwrap();
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let (_dir, path) = folder();
    let ledger = open(&path);
    ledger.connection.pragma_update(None, "user_version", 99).unwrap();
    drop(ledger);
    let error = Ledger::open(&path, NOW).unwrap_err();
    assert!(
        matches!(error, LedgerError::NewerSchema { found: 99, .. }),
        "{error}"
    );
    assert!(path.exists());
}

#[test]
fn a_second_owner_is_refused() {
    let (_dir, path) = folder();
    let _ledger = open(&path);
    let error = Ledger::open(&path, NOW).unwrap_err();
    assert!(matches!(error, LedgerError::InUse { .. }), "{error}");
}

#[test]
fn a_full_disk_changes_nothing_and_room_makes_it_work_again() {
    let (_dir, path) = folder();
    let mut ledger = open(&path);
    ledger.commit(&change(1)).unwrap();
    let pages: i64 = ledger
        .connection
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    ledger
        .connection
        .pragma_update(None, "max_page_count", pages)
        .unwrap();
    let mut large = change(2);
    large.attempts[0].order = Some(vec![0; 100_000]);
    let error = ledger.commit(&large).unwrap_err();
    assert!(error.is_disk_full(), "{error:?}");
    assert_eq!(
        (ledger.last_sequence(), ledger.generation()),
        (Sequence(1), Generation(1))
    );
    assert_eq!(ledger.attempts(NOW, |_| Ok(())).unwrap().0.len(), 1);
    ledger
        .connection
        .pragma_update(None, "max_page_count", 1_000_000)
        .unwrap();
    ledger.commit(&large).unwrap();
    assert_eq!(ledger.last_sequence(), Sequence(2));
}
