use std::collections::BTreeSet;

use loadline_model::{
    AttemptId, Bytes, CpuSet, EndReason, Ended, Generation, MilliCpu, Peaks, Sequence, Span, WallTime,
};
use loadline_policy::admission::Account;
use loadline_policy::allocation::{Grant, Holding};
use loadline_policy::attempt::{BootId, Life, RunClock};
use loadline_policy::reconcile::LedgerAttempt;
use loadline_proto::types::v1 as wire;
use prost::Message;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

const NOW: WallTime = WallTime(1_000_000);

fn attempt(number: u8) -> AttemptId {
    AttemptId::from_slice(&[number; 16]).unwrap()
}

fn order(number: u8) -> Vec<u8> {
    let worker = wire::WorkerRequest {
        cpu: Some(wire::worker_request::Cpu::ExclusiveCpus(2)),
        memory_bytes: 64 << 20,
        gpus: 0,
    };
    let spec = wire::JobSpec {
        name: "train".into(),
        command: vec!["true".into()],
        dir: "~".into(),
        workers_min: 1,
        workers_max: 1,
        tier: wire::Tier::Standard.into(),
        worker: Some(worker),
        ..Default::default()
    };
    let start = wire::StartOrder {
        job_id: vec![9; 16],
        job_number: 412,
        user: "alice".into(),
        spec: Some(spec),
        ..Default::default()
    };
    let what = Some(wire::order::What::Start(start));
    wire::Order {
        attempt_id: vec![number; 16],
        what,
        ..Default::default()
    }
    .encode_to_vec()
}

fn running() -> LedgerAttempt {
    let groups = BTreeSet::from(["users".to_owned()]);
    LedgerAttempt {
        order: None,
        account: Account::Known { uid: 1000, groups },
        boot: BootId("b1".into()),
        life: Life::Running {
            clock: RunClock {
                spent: Span(5),
                counted_to: Span(9),
            },
        },
        holding: Some(Holding {
            grant: Grant::Exclusive("1-2".parse().unwrap()),
            amount: MilliCpu(2000),
            memory: Bytes(64 << 20),
            memory_nodes: "0".parse().unwrap(),
        }),
        applied_cpus: Some("1-2".parse::<CpuSet>().unwrap()),
        peaks: Peaks {
            memory: Some(Bytes(7)),
            ..Peaks::default()
        },
    }
}

fn saved(number: u8) -> SavedAttempt {
    SavedAttempt {
        attempt: attempt(number),
        order: Some(order(number)),
        entry: running(),
    }
}

fn event(text: &str) -> NewEvent {
    NewEvent {
        at: NOW,
        boot: BootId("b1".into()),
        body: text.into(),
    }
}

fn open(folder: &TempDir) -> (Ledger, OpenedLedger) {
    Ledger::open(&folder.path().join("ledger.db"), NOW).unwrap()
}

fn raw(folder: &TempDir, sql: &str) {
    Connection::open(folder.path().join("ledger.db"))
        .unwrap()
        .execute_batch(sql)
        .unwrap();
}

#[test]
fn what_was_committed_is_there_again() {
    let folder = TempDir::new().unwrap();
    let (mut ledger, opened) = open(&folder);
    assert!(opened.attempts.is_empty() && opened.set_aside.is_empty());
    let (attempts, events) = (vec![saved(1)], vec![event("a"), event("b")]);
    let batch = Batch {
        attempts,
        events,
        applied_generation: Some(Generation(7)),
    };
    let stored = ledger.commit(&batch).unwrap();
    assert_eq!(stored.iter().map(|e| e.sequence.0).collect::<Vec<_>>(), [1, 2]);
    let id = ledger.id();
    drop(ledger);

    let (ledger, opened) = open(&folder);
    assert_eq!(
        (ledger.id(), ledger.applied_generation(), ledger.last_sequence()),
        (id, Generation(7), Sequence(2))
    );
    assert_eq!(ledger.events_after(Sequence(1), 10).unwrap(), stored[1..]);
    let found = &opened.attempts[&attempt(1)];
    let order = found.order.as_ref().unwrap();
    assert_eq!((order.job_number, order.user.as_str()), (412, "alice"));
    assert_eq!(
        LedgerAttempt {
            order: None,
            ..found.clone()
        },
        running()
    );
    assert_eq!(ledger.order_of(attempt(1)).unwrap(), Some(self::order(1)));
}

#[test]
fn sequences_have_no_gaps_though_events_are_let_go_of() {
    let folder = TempDir::new().unwrap();
    let (mut ledger, _) = open(&folder);
    let batch = || Batch {
        events: vec![event("x")],
        ..Batch::default()
    };
    ledger.commit(&batch()).unwrap();
    ledger.acknowledge(ledger.id(), Sequence(1)).unwrap();
    drop(ledger);
    let (mut ledger, _) = open(&folder);
    assert_eq!(ledger.commit(&batch()).unwrap()[0].sequence, Sequence(2));
    let stranger = loadline_model::LedgerId::from_slice(&[3; 16]).unwrap();
    ledger.acknowledge(stranger, Sequence(2)).unwrap();
    assert_eq!(ledger.events_after(Sequence(0), 10).unwrap().len(), 1);
}

#[test]
fn the_generation_never_goes_back() {
    let folder = TempDir::new().unwrap();
    let (mut ledger, _) = open(&folder);
    for (given, expected) in [(5, 5), (3, 5), (6, 6)] {
        let batch = Batch {
            applied_generation: Some(Generation(given)),
            ..Batch::default()
        };
        ledger.commit(&batch).unwrap();
        assert_eq!(ledger.applied_generation(), Generation(expected));
    }
}

#[test]
fn ended_attempts_answer_replays_until_forgotten() {
    let folder = TempDir::new().unwrap();
    let (mut ledger, _) = open(&folder);
    let ended = Ended {
        reason: EndReason::Cancelled,
        at: NOW,
        peaks: Peaks::default(),
        detail: String::new(),
    };
    let mut batch = Batch {
        attempts: vec![saved(1), saved(2)],
        ..Batch::default()
    };
    ledger.commit(&batch).unwrap();
    batch.attempts.truncate(1);
    batch.attempts[0].order = None;
    batch.attempts[0].entry.life = Life::Ended { ended };
    ledger.commit(&batch).unwrap();
    assert!(
        ledger.order_of(attempt(1)).unwrap().is_some(),
        "the order was overwritten by none"
    );
    drop(ledger);
    let (mut ledger, opened) = open(&folder);
    assert_eq!(opened.ended, BTreeSet::from([attempt(1)]));
    assert_eq!(opened.attempts.keys().collect::<Vec<_>>(), [&attempt(2)]);
    assert_eq!(ledger.forget_ended(NOW).unwrap(), []);
    assert_eq!(ledger.forget_ended(WallTime(NOW.0 + 1)).unwrap(), [attempt(1)]);
}

#[test]
fn a_broken_record_is_set_aside_and_the_rest_goes_on() {
    let folder = TempDir::new().unwrap();
    let (mut ledger, _) = open(&folder);
    ledger
        .commit(&Batch {
            attempts: vec![saved(1), saved(2), saved(3)],
            ..Batch::default()
        })
        .unwrap();
    drop(ledger);
    raw(
        &folder,
        "UPDATE attempt SET record = '{' WHERE id = x'01010101010101010101010101010101';
                  UPDATE attempt SET signed_order = x'ff' WHERE id = x'02020202020202020202020202020202';",
    );
    let (ledger, opened) = open(&folder);
    assert_eq!(opened.attempts.keys().collect::<Vec<_>>(), [&attempt(3)]);
    let named: Vec<_> = opened.set_aside.iter().map(|aside| aside.what.clone()).collect();
    assert_eq!(
        named,
        [
            format!("attempt {}", attempt(1)),
            format!("attempt {}", attempt(2))
        ]
    );
    assert!(opened.set_aside.iter().all(|aside| !aside.why.is_empty()));
    drop(ledger);
    let (_, again) = open(&folder);
    assert!(again.set_aside.is_empty(), "named twice");
}

#[test]
fn a_broken_file_is_set_aside_and_a_new_ledger_begun() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    std::fs::write(&path, vec![7u8; 8192]).unwrap();
    let (ledger, opened) = open(&folder);
    assert_eq!(opened.set_aside.len(), 1);
    assert_eq!(
        std::fs::read(&opened.set_aside[0].to).unwrap(),
        vec![7u8; 8192],
        "the old file is kept as it was"
    );
    assert_eq!(ledger.last_sequence(), Sequence(0));
}

#[test]
fn a_second_warden_and_a_newer_schema_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    let (first, _) = open(&folder);
    assert_eq!(
        Ledger::open(&path, NOW).unwrap_err().fault(),
        LedgerFault::NotOurs
    );
    drop(first);
    raw(&folder, "PRAGMA user_version = 99");
    let error = Ledger::open(&path, NOW).unwrap_err();
    assert_eq!(error.fault(), LedgerFault::NotOurs);
    assert!(error.to_string().contains("schema 99"), "{error}");
}

#[test]
fn a_full_disk_fails_the_whole_batch_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let (mut ledger, _) = open(&folder);
    ledger
        .commit(&Batch {
            attempts: vec![saved(1)],
            ..Batch::default()
        })
        .unwrap();
    let pages: i64 = ledger.pages();
    ledger.limit_pages(pages);
    let big = NewEvent {
        body: vec![1; 1 << 20],
        ..event("")
    };
    let batch = Batch {
        attempts: vec![saved(2)],
        events: vec![big],
        applied_generation: Some(Generation(9)),
    };
    let error = ledger.commit(&batch).unwrap_err();
    assert_eq!(error.fault(), LedgerFault::Full, "{error:?}");
    assert_eq!(
        (ledger.applied_generation(), ledger.last_sequence()),
        (Generation(0), Sequence(0))
    );
    ledger.limit_pages(1_000_000);
    assert_eq!(
        ledger
            .commit(&Batch {
                events: vec![event("x")],
                ..Batch::default()
            })
            .unwrap()[0]
            .sequence,
        Sequence(1)
    );
    drop(ledger);
    let (_, opened) = open(&folder);
    assert_eq!(opened.attempts.keys().collect::<Vec<_>>(), [&attempt(1)]);
}
