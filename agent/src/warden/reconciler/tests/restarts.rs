//! The warden dies at any moment, comes back, and the workers never notice.

use loadline_model::{AttemptId, Sequence, Span, WallTime};
use loadline_policy::attempt::{MainEnd, UnitEnd};
use loadline_policy::settings::Slice;
use loadline_proto::types::v1::{AttemptPhase, EndReason};

use super::rig::{Rig, node};
use crate::host::ended::EndRecord;
use crate::host::systemd::fake::Fault;
use crate::warden::reconciler::lock;
use crate::warden::wire::forge::Wanted;

#[tokio::test(start_paused = true)]
async fn what_runs_is_taken_up_again_and_nothing_is_told_twice() {
    let mut rig = Rig::new().await;
    let attempt = rig.running(&Wanted::default()).await;
    for _ in 0..2 {
        rig.kill_and_restart().await;
        let snapshot = rig.snapshot().await;
        assert_eq!(snapshot.attempts.len(), 1);
        assert_eq!(snapshot.generation.0, 1);
    }
    rig.systemd
        .end(&attempt.unit_name(), "success", MainEnd::Exited(0))
        .await;
    rig.ended(attempt).await;
    assert_eq!(rig.systemd.started().len(), 1);
    assert_eq!(rig.attempt_events(attempt).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_ordinary_end_of_the_warden_leaves_workers_running() {
    let mut rig = Rig::new().await;
    rig.running(&Wanted::default()).await;
    rig.turn_off().await;
    assert_eq!(rig.systemd.running().len(), 1);
    assert!(!rig.systemd.calls().iter().any(|call| call.starts_with("stop")));
}

#[tokio::test(start_paused = true)]
async fn what_ended_meanwhile_is_told_from_its_record() {
    let mut rig = Rig::new().await;
    let attempt = rig.running(&Wanted::default()).await;
    rig.kill().await;
    rig.systemd
        .end_unheard(&attempt.unit_name(), "signal", MainEnd::Killed(11));
    let record = EndRecord {
        attempt,
        invocation: String::new(),
        boot_id: rig.boot.clone(),
        at: WallTime(99),
        end: UnitEnd {
            result: "signal".into(),
            main: MainEnd::Killed(11),
        },
    };
    rig.folder.write(&record).unwrap();
    rig.restart(node());
    let ended = rig.ended(attempt).await;
    assert_eq!(
        (ended.reason(), ended.code, ended.at_us),
        (EndReason::Signalled, 11, 99)
    );
}

#[tokio::test(start_paused = true)]
async fn a_death_between_writing_down_and_starting_is_not_started_twice() {
    let mut rig = Rig::new().await;
    rig.systemd.fail(Fault::StartHangs);
    let attempt = rig.start(&Wanted::default()).await;
    // The order is durable as starting; the request never reaches systemd.
    rig.kill_and_restart().await;
    let ended = rig.ended(attempt).await;
    assert_eq!(ended.reason(), EndReason::NodeLost);
    assert_eq!(rig.systemd.started().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_death_after_starting_finds_it_running_with_its_place() {
    let mut rig = Rig::new().await;
    rig.systemd.fail(Fault::StartTimesOut { runs: true });
    let attempt = rig.attempt();
    let order = rig.forge.start(attempt, &Wanted::default());
    rig.try_apply(vec![order]).await.unwrap();
    rig.kill_and_restart().await;
    let state = rig.phase(attempt, AttemptPhase::Running).await;
    let placement = state.placement.unwrap();
    assert!(
        placement.main_pid > 0 && !placement.cpus.is_empty(),
        "{placement:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reboot_ends_what_ran_before_it_once() {
    let mut rig = Rig::new().await;
    let attempt = rig.running(&Wanted::default()).await;
    for boot in ["second boot", "third boot"] {
        rig.kill().await;
        rig.systemd
            .end_unheard(&attempt.unit_name(), "success", MainEnd::Unknown);
        rig.systemd.forget(&attempt.unit_name());
        rig.boot = boot.into();
        rig.restart(node());
        assert_eq!(rig.ended(attempt).await.reason(), EndReason::NodeRebooted);
        rig.snapshot().await;
        assert_eq!(rig.attempt_events(attempt).len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_without_a_record_is_adopted_named_left_alone_and_can_be_stopped() {
    let mut rig = Rig::new().await;
    let orphan: AttemptId = "0192f0c123457abc8def0123456789ab".parse().unwrap();
    rig.kill().await;
    rig.systemd.stranger(&orphan.unit_name(), Slice::Burst).await;
    rig.restart(node());
    let state = rig.phase(orphan, AttemptPhase::Running).await;
    assert!(state.orphan && state.job_id.is_empty());
    assert!(
        rig.receipts()
            .iter()
            .any(|(action, _)| action == "orphan_adopted")
    );
    assert_eq!(rig.systemd.running().len(), 1);
    rig.stop(orphan, Span::from_secs(1)).await;
    assert_eq!(rig.ended(orphan).await.reason(), EndReason::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn with_a_new_ledger_everything_that_runs_is_an_orphan_and_goes_on() {
    let mut rig = Rig::new().await;
    let attempt = rig.running(&Wanted::default()).await;
    let before = lock(&rig.ledger).id();
    rig.kill().await;
    rig.lose_ledger();
    rig.restart(node());
    let state = rig.phase(attempt, AttemptPhase::Running).await;
    assert!(state.orphan);
    assert_ne!(lock(&rig.ledger).id(), before);
    // The fleet sends again what this ledger does not know: then it is no orphan any more.
    rig.forge.generation = 0;
    let order = rig.forge.start(attempt, &Wanted::default());
    rig.try_apply(vec![order]).await.unwrap();
    let told = rig.attempt_events(attempt);
    let last = told.last().unwrap();
    assert!(
        !last.orphan && !last.job_id.is_empty() && last.phase() == AttemptPhase::Running,
        "{last:?}"
    );
    rig.kill_and_restart().await;
    assert!(!rig.snapshot().await.attempts[0].orphan);
    assert_eq!(lock(&rig.ledger).last_sequence(), Sequence(3));
    assert_eq!((rig.systemd.running().len(), rig.systemd.started().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_counts_on_while_the_warden_is_gone() {
    let mut rig = Rig::new().await;
    let wanted = Wanted {
        time: Some(Span::from_secs(60)),
        ..Wanted::default()
    };
    let attempt = rig.running(&wanted).await;
    tokio::time::sleep(std::time::Duration::from_secs(40)).await;
    rig.kill().await;
    tokio::time::sleep(std::time::Duration::from_secs(15)).await;
    let begun = tokio::time::Instant::now();
    rig.restart(node());
    assert_eq!(rig.ended(attempt).await.reason(), EndReason::TimeLimit);
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}
