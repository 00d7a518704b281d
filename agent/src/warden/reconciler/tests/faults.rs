//! Each fault by name: what systemd, the kernel or the disk may do to us.

use std::time::Duration;

use loadline_model::{Bytes, Span};
use loadline_policy::attempt::{MainEnd, UnitEnd};
use loadline_policy::settings::LimitName;
use loadline_proto::types::v1::{AttemptPhase, EndReason};

use super::rig::Rig;
use crate::host::ended::EndRecord;
use crate::host::systemd::Signal;
use crate::host::systemd::fake::Fault;
use crate::warden::reconciler::lock;
use crate::warden::wire::forge::Wanted;

#[tokio::test(start_paused = true)]
async fn a_command_that_is_not_there_is_named() {
    let mut rig = Rig::new().await;
    rig.systemd.fail(Fault::StartFails(203));
    let wanted = Wanted {
        command: vec!["pythom".into()],
        ..Wanted::default()
    };
    let attempt = rig.start(&wanted).await;
    let ended = rig.ended(attempt).await;
    assert_eq!(ended.reason(), EndReason::StartFailed);
    assert!(ended.detail.contains("`pythom`"), "{}", ended.detail);
    assert_eq!(rig.attempt_events(attempt).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_systemd_refuses_has_failed_to_start() {
    let mut rig = Rig::new().await;
    rig.systemd.fail(Fault::StartRefused);
    let attempt = rig.start(&Wanted::default()).await;
    let ended = rig.ended(attempt).await;
    assert_eq!(ended.reason(), EndReason::StartFailed);
    assert!(ended.detail.contains("Invalid argument"), "{}", ended.detail);
}

#[tokio::test(start_paused = true)]
async fn a_start_without_an_answer_that_runs_is_found_running() {
    let mut rig = Rig::new().await;
    rig.systemd.fail(Fault::StartTimesOut { runs: true });
    let attempt = rig.start(&Wanted::default()).await;
    let state = rig.phase(attempt, AttemptPhase::Running).await;
    assert!(state.placement.unwrap().main_pid > 0);
    assert_eq!(rig.systemd.started().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_without_an_answer_that_does_not_run_is_missed_and_never_made_twice() {
    let mut rig = Rig::new().await;
    rig.systemd.fail(Fault::StartTimesOut { runs: false });
    let attempt = rig.start(&Wanted::default()).await;
    let ended = rig.ended(attempt).await;
    assert_eq!(ended.reason(), EndReason::NodeLost);
    assert_eq!(rig.systemd.started().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_is_told_and_does_not_hold_up_others() {
    let mut rig = Rig::new().await;
    rig.systemd.fail(Fault::StartHangs);
    let slow = rig.start(&Wanted::default()).await;
    rig.phase(slow, AttemptPhase::Starting).await;
    rig.running(&Wanted::default()).await;
    rig.systemd.answer_starts();
    rig.phase(slow, AttemptPhase::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_a_slow_start_wins() {
    let mut rig = Rig::new().await;
    rig.systemd.fail(Fault::StartHangs);
    let slow = rig.start(&Wanted::default()).await;
    rig.phase(slow, AttemptPhase::Starting).await;
    rig.stop(slow, Span::from_secs(1)).await;
    rig.systemd.answer_starts();
    assert_eq!(rig.ended(slow).await.reason(), EndReason::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_was_not_written_is_set_again_before_it_counts_as_held() {
    let mut rig = Rig::new().await;
    rig.systemd.fail(Fault::LimitNotWritten(LimitName::MemoryMax));
    // The first write of this limit is the slice's: there it is lost and repaired, too.
    rig.systemd.fail(Fault::LimitNotWritten(LimitName::PidsMax));
    let attempt = rig.running(&Wanted::default()).await;
    let held = || {
        let path = format!(
            "loadline.slice/loadline-standard.slice/{}/memory.max",
            attempt.unit_name()
        );
        let text = std::fs::read_to_string(rig.cgroup_root().join(path)).unwrap();
        (text.trim() == Bytes::from_mib(64).0.to_string()).then_some(())
    };
    rig.eventually("the worker's memory.max", held).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_stranger_changes_is_put_back_with_a_receipt() {
    let mut rig = Rig::new().await;
    let attempt = rig.running(&Wanted::default()).await;
    rig.systemd.meddle(&attempt.unit_name(), "memory.max", "max\n");
    rig.systemd.meddle("loadline.slice", "memory.max", "max\n");
    rig.systemd.tell(Signal::Reloaded).await;
    let repaired = || {
        let receipts = rig.receipts();
        let repaired = receipts
            .iter()
            .filter(|(action, _)| action == "limit_repaired")
            .count();
        (repaired >= 2).then_some(receipts)
    };
    let receipts = rig.eventually("two repairs", repaired).await;
    assert!(
        receipts
            .iter()
            .all(|(_, sentence)| sentence.contains("memory.max")),
        "{receipts:?}"
    );
    assert_eq!(rig.snapshot().await.counters.limit_repairs, 2);
}

#[tokio::test(start_paused = true)]
async fn an_end_without_a_signal_is_told_by_its_record() {
    let mut rig = Rig::new().await;
    let attempt = rig.running(&Wanted::default()).await;
    rig.systemd
        .end_unheard(&attempt.unit_name(), "exit-code", MainEnd::Exited(4));
    let record = rig.record(attempt, MainEnd::Exited(4));
    rig.folder.write(&record).unwrap();
    rig.look_at_records().await;
    let ended = rig.ended(attempt).await;
    assert_eq!(
        (ended.reason(), ended.code, ended.at_us),
        (EndReason::Exited, 4, record.at.0)
    );
    rig.eventually("the record to go", || {
        rig.folder.get(attempt).is_none().then_some(())
    })
    .await;
    assert_eq!(rig.attempt_events(attempt).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_tells_of_is_missed_in_the_end() {
    let mut rig = Rig::new().await;
    let attempt = rig.running(&Wanted::default()).await;
    rig.systemd
        .end_unheard(&attempt.unit_name(), "exit-code", MainEnd::Exited(4));
    rig.systemd.forget(&attempt.unit_name());
    let ended = rig.ended(attempt).await;
    assert_eq!(ended.reason(), EndReason::NodeLost);
    assert!(ended.detail.contains("not known"), "{}", ended.detail);
}

#[tokio::test(start_paused = true)]
async fn agreeing_words_are_one_end_and_disagreeing_ones_are_counted() {
    let mut rig = Rig::new().await;
    for (told, recorded, disagreeing) in [(0, 0, 0), (0, 1, 1)] {
        let attempt = rig.running(&Wanted::default()).await;
        let unit = attempt.unit_name();
        rig.systemd.end(&unit, "exit-code", MainEnd::Exited(told)).await;
        rig.ended(attempt).await;
        rig.folder
            .write(&rig.record(attempt, MainEnd::Exited(recorded)))
            .unwrap();
        rig.look_at_records().await;
        rig.eventually("the record to go", || {
            rig.folder.get(attempt).is_none().then_some(())
        })
        .await;
        assert_eq!(rig.attempt_events(attempt).len(), 2);
        assert_eq!(rig.snapshot().await.counters.end_records_disagreeing, disagreeing);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_end_record_is_kept_aside_and_named() {
    let rig = Rig::new().await;
    std::fs::create_dir_all(rig.folder.path()).unwrap();
    std::fs::write(rig.folder.path().join("x.json"), "{").unwrap();
    rig.look_at_records().await;
    let told = || {
        let receipts = rig.receipts();
        receipts
            .into_iter()
            .find(|(action, _)| action == "record_set_aside")
    };
    let (_, sentence) = rig.eventually("a receipt", told).await;
    assert!(sentence.contains("x.json"), "{sentence}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_listing_decides_nothing() {
    let mut rig = Rig::new().await;
    let attempt = rig.running(&Wanted::default()).await;
    for _ in 0..3 {
        rig.systemd.fail(Fault::ListFails);
    }
    rig.systemd.tell(Signal::Resync).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.attempt_events(attempt).len(), 1);
    assert_eq!(rig.systemd.running().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_acknowledges_nothing_starts_nothing_and_loses_nothing() {
    let mut rig = Rig::new().await;
    let running = rig.running(&Wanted::default()).await;
    let full = Wanted {
        command: vec!["x".repeat(100_000)],
        ..Wanted::default()
    };
    lock(&rig.ledger).fill_up();
    let attempt = rig.attempt();
    let order = rig.forge.start(attempt, &full);
    let error = rig.try_apply(vec![order.clone()]).await.unwrap_err();
    assert!(error.is_disk_full(), "{error:?}");
    assert_eq!(rig.systemd.started().len(), 1);
    assert_eq!(rig.snapshot().await.generation.0, 1);
    // Meanwhile the other one ends; nothing of it is lost.
    rig.systemd
        .end(&running.unit_name(), "success", MainEnd::Exited(0))
        .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    lock(&rig.ledger).make_room();
    rig.try_apply(vec![order]).await.unwrap();
    assert_eq!(rig.ended(running).await.reason(), EndReason::Exited);
    rig.phase(attempt, AttemptPhase::Running).await;
}

impl Rig {
    fn record(&self, attempt: loadline_model::AttemptId, main: MainEnd) -> EndRecord {
        EndRecord {
            attempt,
            invocation: String::new(),
            boot_id: self.boot.clone(),
            at: loadline_model::WallTime(77),
            end: UnitEnd {
                result: "exit-code".into(),
                main,
            },
        }
    }
}
