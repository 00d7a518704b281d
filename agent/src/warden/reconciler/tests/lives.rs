//! Ordinary lives: start, end, stop, limits, CPUs, refusals.

use std::time::Duration;

use loadline_model::{Bytes, CpuRequest, CpuSet, MilliCpu, Span, Tier};
use loadline_policy::attempt::MainEnd;
use loadline_policy::node_policy::{Mode, ReserveCpus};
use loadline_proto::types::v1::{AttemptPhase, EndReason};
use tokio::sync::oneshot;

use super::rig::{Rig, node};
use crate::host::systemd::fake::usage;
use crate::warden::reconciler::{Command, Node};
use crate::warden::wire::forge::Wanted;

fn shared(share: u64) -> Wanted {
    Wanted {
        cpus: CpuRequest::Shared(MilliCpu(share)),
        ..Wanted::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_starts_runs_and_ends_and_each_is_told_once() {
    let mut rig = Rig::new().await;
    rig.systemd.set_usage(usage(Span::from_millis(7)));
    let attempt = rig.running(&Wanted::default()).await;
    rig.systemd
        .end(&attempt.unit_name(), "exit-code", MainEnd::Exited(3))
        .await;
    let ended = rig.ended(attempt).await;
    assert_eq!((ended.reason(), ended.code), (EndReason::Exited, 3));
    assert_eq!(
        (ended.peak_memory_bytes, ended.cpu_time_us),
        (Some(8192), Some(7000))
    );
    let told = rig.attempt_events(attempt);
    let phases: Vec<_> = told.iter().map(|state| state.phase()).collect();
    assert_eq!(phases, [AttemptPhase::Running, AttemptPhase::Ended]);
    let placement = told[0].placement.clone().unwrap();
    assert!(
        placement.exclusive && placement.main_pid > 0 && placement.user == "alice",
        "{placement:?}"
    );
    let sequences: Vec<u64> = rig.events().iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2]);
    let gone = || rig.systemd.running().is_empty().then_some(());
    rig.eventually("an empty machine", gone).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_is_what_the_unit_gets() {
    let mut rig = Rig::new().await;
    let attempt = rig
        .running(&Wanted {
            memory: Bytes::from_mib(96),
            ..Wanted::default()
        })
        .await;
    let unit = &rig.systemd.started()[0];
    assert_eq!(
        (unit.user.as_str(), unit.directory.as_str()),
        ("alice", "/home/alice")
    );
    let snapshot = rig.snapshot().await;
    let readings = &snapshot.limits[&attempt.unit_name()];
    assert!(
        readings.len() >= 7 && readings.iter().all(|one| one.held),
        "{readings:#?}"
    );
    let memory = readings
        .iter()
        .find(|one| one.limit.file() == "memory.max")
        .unwrap();
    assert_eq!(memory.actual.as_deref(), Some("100663296"));
    let root = &snapshot.limits["loadline.slice"];
    assert!(root.iter().all(|one| one.held), "{root:#?}");
}

#[tokio::test(start_paused = true)]
async fn two_exclusive_workers_share_no_cpu_and_the_third_is_refused_for_now() {
    let mut rig = Rig::new().await;
    let first = rig.running(&Wanted::default()).await;
    let second = rig.running(&Wanted::default()).await;
    let cpus = |attempt| -> CpuSet {
        let placement = rig.attempt_events(attempt)[0].placement.clone().unwrap();
        placement.cpus.parse().unwrap()
    };
    let (a, b) = (cpus(first), cpus(second));
    assert!(a.is_disjoint(&b) && a.len() == 1 && b.len() == 1, "{a} {b}");
    assert!(!a.contains(0) && !b.contains(0), "CPU 0 is reserved");
    let third = rig.start(&Wanted::default()).await;
    let ended = rig.ended(third).await;
    assert_eq!(ended.reason(), EndReason::RefusedForNow);
    assert!(ended.detail.contains("CPU"), "{}", ended.detail);
    assert!(rig.receipts().iter().any(|(action, _)| action == "refused"));
}

#[tokio::test(start_paused = true)]
async fn sharers_give_way_before_an_exclusive_worker_starts() {
    let mut rig = Rig::new().await;
    let sharer = rig.running(&shared(500)).await;
    let before = rig.attempt_events(sharer)[0].placement.clone().unwrap();
    assert_eq!((before.cpus.as_str(), before.exclusive), ("1-3", false));
    let alone = rig.running(&Wanted::default()).await;
    let own: CpuSet = rig.attempt_events(alone)[0]
        .placement
        .clone()
        .unwrap()
        .cpus
        .parse()
        .unwrap();
    let calls = rig.systemd.calls();
    let shrunk = calls
        .iter()
        .position(|call| *call == format!("set {}", sharer.unit_name()))
        .unwrap();
    let started = calls
        .iter()
        .position(|call| *call == format!("start {}", alone.unit_name()))
        .unwrap();
    assert!(shrunk < started, "{calls:?}");
    let now = rig.snapshot().await.limits[&sharer.unit_name()].clone();
    let cpus = now.iter().find(|one| one.limit.file() == "cpuset.cpus.effective");
    if let Some(cpus) = cpus {
        let actual: CpuSet = cpus.actual.as_deref().unwrap().parse().unwrap();
        assert!(actual.is_disjoint(&own), "{actual} {own}");
    }
    rig.systemd
        .end(&alone.unit_name(), "success", MainEnd::Exited(0))
        .await;
    rig.ended(alone).await;
    let grown = || {
        let sets = rig
            .systemd
            .calls()
            .iter()
            .filter(|call| **call == format!("set {}", sharer.unit_name()))
            .count();
        (sets >= 2).then_some(())
    };
    rig.eventually("the pool to grow again", grown).await;
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_it_and_is_told_as_such() {
    let mut rig = Rig::new().await;
    let attempt = rig.running(&Wanted::default()).await;
    rig.stop(attempt, Span::from_secs(1)).await;
    let ended = rig.ended(attempt).await;
    assert_eq!(ended.reason(), EndReason::Cancelled);
    let calls = rig.systemd.calls();
    assert_eq!(
        calls.iter().filter(|call| call.starts_with("stop")).count(),
        1,
        "{calls:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_overtakes_its_start_prevents_it() {
    let mut rig = Rig::new().await;
    let attempt = rig.attempt();
    rig.stop(attempt, Span::from_secs(1)).await;
    assert_eq!(rig.ended(attempt).await.reason(), EndReason::Cancelled);
    let order = rig.forge.start(attempt, &Wanted::default());
    rig.try_apply(vec![order]).await.unwrap();
    rig.snapshot().await;
    assert!(rig.systemd.started().is_empty());
}

#[tokio::test(start_paused = true)]
async fn time_limits_are_counted_and_end_the_worker() {
    let mut rig = Rig::new().await;
    let wanted = Wanted {
        time: Some(Span::from_secs(20)),
        ..Wanted::default()
    };
    let attempt = rig.running(&wanted).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(rig.attempt_events(attempt).len(), 1);
    let ended = rig.ended(attempt).await;
    assert_eq!(ended.reason(), EndReason::TimeLimit);
    assert!(
        rig.receipts().iter().any(|(action, _)| action == "time_limit"),
        "{:?}",
        rig.receipts()
    );
}

#[tokio::test(start_paused = true)]
async fn an_out_of_memory_kill_has_peak_limit_and_receipt() {
    let mut rig = Rig::new().await;
    let attempt = rig.running(&Wanted::default()).await;
    rig.systemd
        .end(&attempt.unit_name(), "oom-kill", MainEnd::Killed(9))
        .await;
    let ended = rig.ended(attempt).await;
    assert_eq!(ended.reason(), EndReason::OutOfMemory);
    assert_eq!(ended.peak_memory_bytes, Some(Bytes::from_mib(64).0));
    assert!(ended.detail.contains("64MiB"), "{}", ended.detail);
    let receipts = rig.receipts();
    assert!(
        receipts.iter().any(|(action, _)| action == "out_of_memory"),
        "{receipts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_kill_at_the_slices_limit_is_not_blamed_on_the_workers_own() {
    let mut rig = Rig::new().await;
    let attempt = rig.running(&Wanted::default()).await;
    rig.systemd
        .meddle("loadline.slice", "memory.events.local", "oom 1\noom_kill 0\n");
    rig.systemd
        .end(&attempt.unit_name(), "oom-kill", MainEnd::Killed(9))
        .await;
    let ended = rig.ended(attempt).await;
    assert_eq!(ended.peak_memory_bytes, Some(8192));
}

#[tokio::test(start_paused = true)]
async fn orders_beyond_local_policy_are_refused_for_good_and_nothing_starts() {
    let mut node = node();
    node.policy.lend.uid_min = 2000;
    let mut rig = Rig::with(node).await;
    let attempt = rig.start(&Wanted::default()).await;
    let ended = rig.ended(attempt).await;
    assert_eq!(ended.reason(), EndReason::RefusedForGood);
    assert!(ended.detail.contains("lend.uid_min"), "{}", ended.detail);
    let too_large = Wanted {
        cpus: CpuRequest::Exclusive(64),
        ..Wanted::default()
    };
    let attempt = rig.start(&too_large).await;
    assert_eq!(rig.ended(attempt).await.reason(), EndReason::RefusedForGood);
    assert!(rig.systemd.started().is_empty());
}

#[tokio::test(start_paused = true)]
async fn replays_change_nothing() {
    let mut rig = Rig::new().await;
    let attempt = rig.attempt();
    let order = rig.forge.start(attempt, &Wanted::default());
    for _ in 0..3 {
        rig.try_apply(vec![order.clone()]).await.unwrap();
    }
    rig.phase(attempt, AttemptPhase::Running).await;
    assert_eq!(rig.systemd.started().len(), 1);
    assert_eq!(rig.events().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_raised_reserve_evicts_with_a_receipt() {
    let mut rig = Rig::new().await;
    let attempt = rig.running(&Wanted::default()).await;
    let mut policy = node().policy;
    policy.reserve.cpus = ReserveCpus::Count(4);
    let old = node();
    let new = Node::new(policy, old.topology, 0, old.pinning);
    rig.replace(new).await;
    assert_eq!(rig.ended(attempt).await.reason(), EndReason::Evicted);
    assert!(
        rig.receipts().iter().any(|(action, _)| action == "evicted"),
        "{:?}",
        rig.receipts()
    );
}

#[tokio::test(start_paused = true)]
async fn draining_ends_all_by_name_and_starts_none() {
    let mut rig = Rig::new().await;
    let first = rig.running(&Wanted::default()).await;
    let burst = Wanted {
        tier: Tier::Burst,
        ..shared(100)
    };
    let second = rig.running(&burst).await;
    let (reply, told) = oneshot::channel();
    rig.command(Command::Drain { reply }).await;
    assert_eq!(told.await.unwrap(), [first, second]);
    for attempt in [first, second] {
        assert_eq!(rig.ended(attempt).await.reason(), EndReason::Evicted);
    }
    let late = rig.start(&Wanted::default()).await;
    assert_eq!(rig.ended(late).await.reason(), EndReason::RefusedForNow);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lends_nothing_starts_nothing() {
    let mut node = node();
    node.policy.lend.mode = Mode::Off;
    let mut rig = Rig::with(node).await;
    let attempt = rig.start(&Wanted::default()).await;
    assert_eq!(rig.ended(attempt).await.reason(), EndReason::RefusedForNow);
}
