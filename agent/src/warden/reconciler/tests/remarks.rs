//! What is done to a worker stands in its own log: in that of each whom it concerns, in order, and whether journald
//! keeps up or not.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use loadline_model::{AttemptId, Bytes, CpuRequest, MilliCpu, Tier};
use loadline_policy::attempt::MainEnd;
use loadline_policy::headroom::{Decision, Level, Reason};
use loadline_policy::settings::{Setpoints, Squeezed};
use loadline_proto::types::v1::{AttemptPhase, EndReason};

use super::rig::Rig;
use crate::host::journal_send::tests::fields;
use crate::host::systemd::Signal;
use crate::warden::wire::forge::Wanted;

fn worker(tier: Tier) -> Wanted {
    Wanted {
        cpus: CpuRequest::Shared(MilliCpu(100)),
        tier,
        ..Wanted::default()
    }
}

fn squeezed(squeezed: Squeezed) -> Option<Decision> {
    Some(Decision {
        level: Level::Squeeze,
        reason: Reason::ProductionUse(MilliCpu(3200)),
        setpoints: Setpoints {
            squeezed,
            ..Setpoints::default()
        },
        ..Decision::default()
    })
}

/// (unit, action, text) of everything that was written until now.
fn written(journald: &UnixDatagram) -> Vec<(String, String, String)> {
    let mut message = [0; 4096];
    let mut found = Vec::new();
    while let Ok(length) = journald.recv(&mut message) {
        let mut fields = fields(&message[..length]);
        let mut take = |name: &str| fields.remove(name).unwrap();
        found.push((
            take("OBJECT_SYSTEMD_UNIT"),
            take("LOADLINE_ACTION"),
            take("MESSAGE"),
        ));
    }
    found
}

/// The actions in the log of one.
fn log_of(attempt: AttemptId, written: &[(String, String, String)]) -> Vec<&str> {
    let own = written.iter().filter(|(unit, ..)| *unit == attempt.unit_name());
    own.map(|(_, action, _)| action.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn each_worker_reads_what_was_done_to_it_and_its_tier_and_why() {
    let mut rig = Rig::new().await;
    let journald = rig.journald();
    let standard = rig.running(&worker(Tier::Standard)).await;
    let burst = rig.running(&worker(Tier::Burst)).await;
    rig.wanted.send_replace(squeezed(Squeezed::Burst));
    rig.phase(burst, AttemptPhase::Squeezed).await;
    rig.wanted.send_replace(squeezed(Squeezed::No));
    rig.phase(standard, AttemptPhase::Running).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    rig.systemd.meddle(&standard.unit_name(), "memory.max", "max\n");
    rig.systemd.tell(Signal::Reloaded).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    rig.wanted.send_replace(Some(Decision {
        level: Level::Evict,
        reason: Reason::MemoryLow(Bytes::from_mib(40)),
        ..Decision::default()
    }));
    rig.phase(burst, AttemptPhase::Stopping).await;
    rig.wanted.send_replace(squeezed(Squeezed::No));
    rig.systemd
        .end(&burst.unit_name(), "success", MainEnd::Killed(15))
        .await;
    assert_eq!(rig.ended(burst).await.reason(), EndReason::Evicted);
    let written = written(&journald);
    assert_eq!(log_of(standard, &written), ["limit_repaired"], "{written:#?}");
    assert_eq!(
        log_of(burst, &written),
        ["squeezed", "released", "evicted"],
        "{written:#?}"
    );
    // Word for word what the fleet is told.
    let told: Vec<(String, String)> = written
        .into_iter()
        .map(|(_, action, text)| (action, text))
        .collect();
    assert_eq!(told, rig.receipts());
    assert!(told[0].1.contains("production uses 3.2 CPUs"), "{told:?}");
    assert_eq!(rig.snapshot().await.counters.receipts_not_logged, 0);
}

#[tokio::test(start_paused = true)]
async fn memory_that_was_taken_back_is_told_at_once_and_then_once_a_minute() {
    let mut rig = Rig::new().await;
    let journald = rig.journald();
    let take = |rig: &Rig| {
        rig.taken
            .send_modify(|taken| taken.add(Tier::Burst, Bytes::from_mib(1)));
    };
    // Nobody is there to miss it.
    take(&rig);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let standard = rig.running(&worker(Tier::Standard)).await;
    let burst = rig.running(&worker(Tier::Burst)).await;
    for _ in 0..300 {
        take(&rig);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    tokio::time::sleep(Duration::from_secs(70)).await;
    let written = written(&journald);
    assert_eq!(log_of(standard, &written), [""; 0]);
    assert_eq!(log_of(burst, &written), ["memory_taken"; 3], "{written:#?}");
    let mebibytes = |text: &str| match text.split_once(" of memory was taken back from burst work") {
        Some((amount, _)) => amount.to_owned(),
        None => panic!("{text}"),
    };
    let amounts: Vec<String> = written.iter().map(|(_, _, text)| mebibytes(text)).collect();
    let sum: u64 = amounts
        .iter()
        .map(|amount| amount.parse::<Bytes>().unwrap().0)
        .sum();
    assert_eq!(Bytes(sum), Bytes::from_mib(300), "{amounts:?}");
    assert_eq!(rig.taken.borrow().from(Tier::Standard), Bytes::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_journald_that_starves_delays_nothing_and_gets_its_lines_in_order_later() {
    let mut rig = Rig::new().await;
    let journald = rig.journald();
    let burst = rig.running(&worker(Tier::Burst)).await;
    // As full as the kernel lets it be.
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    let path = journald.local_addr().unwrap();
    let path = path.as_pathname().unwrap();
    let mut filled = 0;
    while other.send_to(b"flood", path).is_ok() {
        filled += 1;
    }
    for _ in 0..2 {
        rig.wanted.send_replace(squeezed(Squeezed::Burst));
        rig.phase(burst, AttemptPhase::Squeezed).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        rig.wanted.send_replace(squeezed(Squeezed::No));
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(rig.receipts().len(), 4, "the fleet is told meanwhile");
    let mut message = [0; 16];
    for _ in 0..filled {
        assert_eq!(journald.recv(&mut message).unwrap(), 5);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let written = written(&journald);
    assert_eq!(
        log_of(burst, &written),
        ["squeezed", "released", "squeezed", "released"]
    );
    assert_eq!(rig.snapshot().await.counters.receipts_not_logged, 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_journald_lines_are_dropped_and_counted() {
    let mut rig = Rig::new().await;
    let burst = rig.running(&worker(Tier::Burst)).await;
    rig.wanted.send_replace(squeezed(Squeezed::Burst));
    rig.phase(burst, AttemptPhase::Squeezed).await;
    assert_eq!(rig.snapshot().await.counters.receipts_not_logged, 1);
    // The next one finds it there.
    let journald = rig.journald();
    rig.wanted.send_replace(squeezed(Squeezed::No));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(log_of(burst, &written(&journald)), ["released"]);
}
