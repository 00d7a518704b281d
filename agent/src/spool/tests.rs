//! What the spool promises: durable or not stored, nothing twice, broken things kept aside and named.

use std::path::Path;

use loadline_model::{LedgerId, Sequence, WallTime};
use rusqlite::Connection;

use super::*;

const NOW: WallTime = WallTime(1_000);
const ALL: (usize, u64) = (100, 1 << 20);

fn ledger(n: u8) -> LedgerId {
    LedgerId::from_slice(&[n; 16]).unwrap()
}

fn events(of: u8, sequences: std::ops::RangeInclusive<u64>) -> Vec<NewRecord> {
    sequences
        .map(|n| NewRecord {
            ledger: ledger(of),
            sequence: Sequence(n),
            body: format!("event {n}").into(),
        })
        .collect()
}

fn open(path: &Path) -> Spool {
    let (spool, opening) = Spool::open(path, SpoolLimits::default(), NOW).unwrap();
    assert_eq!(opening, Opening::Sound);
    spool
}

fn no_stand_in(_: &Broken) -> Option<Vec<u8>> {
    None
}

fn sequences(spool: &mut Spool, after: RowId) -> Vec<u64> {
    let batch = spool.next_batch(after, ALL, NOW, no_stand_in).unwrap();
    batch.records.iter().map(|record| record.sequence.0).collect()
}

#[test]
fn what_is_stored_survives_and_nothing_is_stored_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool.db");
    let mut spool = open(&path);
    assert_eq!(spool.append(&events(1, 1..=3)).unwrap(), Appended::Stored);
    assert_eq!(spool.append(&events(1, 2..=5)).unwrap(), Appended::Stored);
    drop(spool);

    let mut spool = open(&path);
    assert_eq!(sequences(&mut spool, RowId::default()), [1, 2, 3, 4, 5]);
    assert_eq!(spool.stored_through(ledger(1)).unwrap(), Sequence(5));
    assert_eq!(spool.drop_through(ledger(1), Sequence(4)).unwrap(), 4);
    // Told again after the acknowledgement: already delivered.
    spool.append(&events(1, 1..=5)).unwrap();
    assert_eq!(sequences(&mut spool, RowId::default()), [5]);
    assert_eq!(spool.view().events, 1);
}

#[test]
fn ledgers_have_sequences_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(&dir.path().join("spool.db"));
    spool.append(&events(1, 1..=2)).unwrap();
    spool.append(&events(2, 1..=1)).unwrap();
    let first = spool.next_batch(RowId::default(), ALL, NOW, no_stand_in).unwrap();
    assert!(first.records.iter().all(|record| record.ledger == ledger(1)) && first.records.len() == 2);
    let second = spool
        .next_batch(first.records[1].row, ALL, NOW, no_stand_in)
        .unwrap();
    assert!(second.records.iter().all(|record| record.ledger == ledger(2)) && second.records.len() == 1);
    assert_eq!(spool.drop_through(ledger(2), Sequence(9)).unwrap(), 1);
    assert_eq!(sequences(&mut spool, RowId::default()), [1, 2]);
    assert_eq!(spool.stored_through(ledger(2)).unwrap(), Sequence(1));
    assert_eq!(spool.stored_through(ledger(3)).unwrap(), Sequence(0));
    let oldest = [1, 2, 3].map(|of| spool.oldest_to_tell(ledger(of)).unwrap());
    assert_eq!(oldest, [Sequence(1), Sequence(2), Sequence(1)]);
}

#[test]
fn batches_are_bounded_and_continue() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(&dir.path().join("spool.db"));
    spool.append(&events(1, 1..=9)).unwrap();
    let first = spool
        .next_batch(RowId::default(), (4, 1 << 20), NOW, no_stand_in)
        .unwrap();
    assert_eq!(first.records.len(), 4);
    let last = first.records[3].row;
    assert_eq!(sequences(&mut spool, last), [5, 6, 7, 8, 9]);
    assert_eq!(spool.waiting_through(last).unwrap(), 4);
    // Bytes bound a batch too, but one record always goes.
    let small = spool.next_batch(last, (100, 1), NOW, no_stand_in).unwrap();
    assert_eq!(small.records.len(), 1);
}

#[test]
fn a_full_spool_takes_nothing_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let limits = SpoolLimits {
        events: 3,
        bytes: 1 << 20,
    };
    let (mut spool, _) = Spool::open(&dir.path().join("spool.db"), limits, NOW).unwrap();
    assert_eq!(spool.append(&events(1, 1..=2)).unwrap(), Appended::Stored);
    assert_eq!(spool.append(&events(1, 3..=4)).unwrap(), Appended::Full);
    assert_eq!(spool.stored_through(ledger(1)).unwrap(), Sequence(2));
    spool.drop_through(ledger(1), Sequence(2)).unwrap();
    assert_eq!(
        spool.append(&events(1, 3..=6)).unwrap(),
        Appended::Stored,
        "an empty one takes anything"
    );
}

#[test]
fn a_full_disk_stores_none_of_it_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(&dir.path().join("spool.db"));
    spool.append(&events(1, 1..=2)).unwrap();
    spool.limit_pages(Some(10));
    let mut big = events(1, 3..=4);
    big[1].body = vec![7; 200_000];
    let error = spool.append(&big).unwrap_err();
    assert_eq!(error.fault(), SpoolFault::NoSpace, "{error:?}");
    assert_eq!(
        spool.stored_through(ledger(1)).unwrap(),
        Sequence(2),
        "all or none"
    );
    spool.limit_pages(None);
    assert_eq!(spool.append(&big).unwrap(), Appended::Stored);
    assert_eq!(sequences(&mut spool, RowId::default()), [1, 2, 3, 4]);
}

#[test]
fn a_broken_record_is_kept_aside_and_its_place_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool.db");
    let mut spool = open(&path);
    spool.append(&events(1, 1..=3)).unwrap();
    drop(spool);
    let db = Connection::open(&path).unwrap();
    db.execute("UPDATE event SET body = x'00' WHERE sequence = 2", [])
        .unwrap();
    drop(db);

    let mut spool = open(&path);
    let stand_in = |broken: &Broken| Some(format!("lost {}", broken.sequence).into_bytes());
    let batch = spool.next_batch(RowId::default(), ALL, NOW, stand_in).unwrap();
    assert_eq!(batch.broken.len(), 1);
    assert_eq!(
        (batch.broken[0].ledger, batch.broken[0].sequence),
        (Some(ledger(1)), Sequence(2))
    );
    let bodies: Vec<&[u8]> = batch
        .records
        .iter()
        .map(|record| record.body.as_slice())
        .collect();
    assert_eq!(bodies, [b"event 1".as_slice(), b"lost 2", b"event 3"]);
    assert_eq!(spool.view().set_aside, 1);
    // The stand-in is durable: another look finds it, and nothing broken.
    drop(spool);
    let mut spool = open(&path);
    let again = spool.next_batch(RowId::default(), ALL, NOW, no_stand_in).unwrap();
    assert_eq!((again.broken.len(), again.records.len()), (0, 3));
}

#[test]
fn an_unreadable_file_is_moved_aside_and_a_new_one_begun() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool.db");
    std::fs::write(
        &path,
        b"this is no database, whatever its name says; it is longer than a header".repeat(9),
    )
    .unwrap();
    let (mut spool, opening) = Spool::open(&path, SpoolLimits::default(), NOW).unwrap();
    let Opening::SetAside { to, why } = opening else {
        panic!("{opening:?}")
    };
    assert!(to.to_string_lossy().ends_with("spool.db.broken-1000"), "{to:?}");
    assert!(std::fs::read(&to).unwrap().starts_with(b"this is no database"));
    assert!(why.contains("not a database"), "{why}");
    assert_eq!(spool.append(&events(1, 1..=1)).unwrap(), Appended::Stored);
}

#[test]
fn a_newer_schema_and_a_second_agent_are_refused_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool.db");
    let first = open(&path);
    let error = Spool::open(&path, SpoolLimits::default(), NOW).unwrap_err();
    assert_eq!(error.fault(), SpoolFault::Other, "{error:?}");
    drop(first);
    Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA user_version = 7")
        .unwrap();
    let error = Spool::open(&path, SpoolLimits::default(), NOW).unwrap_err();
    assert!(error.to_string().contains("schema 7"), "{error}");
    let kept: i64 = Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 7);
}
