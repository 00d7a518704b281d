//! Who is ended while lent work starves gets a budget for it, which nobody takes for a stranger's doing.

use std::time::Duration;

use loadline_model::{CpuRequest, MilliCpu, Span, Tier};
use loadline_policy::attempt::MainEnd;
use loadline_policy::headroom::{Decision, Level, Reason};
use loadline_policy::settings::{Setpoints, Squeezed};
use loadline_proto::types::v1::{AttemptPhase, EndReason};

use super::rig::Rig;
use crate::host::systemd::fake::Fault;
use crate::warden::wire::forge::Wanted;

const BURST: &str = "loadline.slice/loadline-burst.slice";
const STANDARD: &str = "loadline.slice/loadline-standard.slice";

fn squeezed(squeezed: Squeezed) -> Option<Decision> {
    Some(Decision {
        level: Level::Squeeze,
        reason: Reason::ProductionUse(MilliCpu(3900)),
        setpoints: Setpoints {
            cpu: Some(MilliCpu(200)),
            squeezed,
            ..Setpoints::default()
        },
        production: MilliCpu(3900),
        ..Decision::default()
    })
}

fn worker(tier: Tier) -> Wanted {
    Wanted {
        cpus: CpuRequest::Shared(MilliCpu(100)),
        tier,
        ..Wanted::default()
    }
}

impl Rig {
    fn has(&self, slice: &str) -> [String; 3] {
        ["cpu.idle", "cpu.weight", "cpu.max"].map(|file| {
            let path = self.cgroup_root().join(slice).join(file);
            std::fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        })
    }

    async fn becomes(&self, slice: &str, wanted: [&str; 3]) {
        let is = || (self.has(slice) == wanted).then_some(());
        self.eventually(format!("{slice} {wanted:?}"), is).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_way_up_leaves_the_idle_class_until_the_victim_is_gone() {
    let mut rig = Rig::new().await;
    rig.running(&worker(Tier::Standard)).await;
    let victim = rig.running(&worker(Tier::Burst)).await;
    rig.wanted.send_replace(squeezed(Squeezed::All));
    rig.becomes(BURST, ["1", "0", "1000 20000"]).await;
    let (standard, weight) = (rig.has(STANDARD), "10000");
    rig.systemd.fail(Fault::StopLingers);
    rig.stop(victim, Span::from_secs(5)).await;
    // Before it is asked to end, and the brake knows before systemd is told.
    rig.phase(victim, AttemptPhase::Stopping).await;
    rig.becomes("loadline.slice", ["0", "100", "4000 10000"]).await;
    rig.becomes(BURST, ["0", "1000", "4000 10000"]).await;
    let own = format!("{BURST}/{}", victim.unit_name());
    let first = || (rig.has(&own)[1] == weight).then_some(());
    rig.eventually("it goes before others of its slice", first).await;
    assert_eq!(rig.has(STANDARD), standard, "the other tier is where it was");
    let budget = rig.within.borrow().granted.unwrap();
    assert_eq!(
        (budget.cpu, budget.burst, budget.standard),
        (MilliCpu(400), true, false)
    );
    let calls = rig.systemd.calls();
    let at = |wanted: &str| calls.iter().rposition(|call| call.starts_with(wanted)).unwrap();
    assert!(
        at("set loadline-burst.slice") < at("stop loadline-w-"),
        "{calls:?}"
    );
    // Limits are read meanwhile, and nothing is put back as if a stranger had done it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    rig.systemd
        .end(&victim.unit_name(), "success", MainEnd::Killed(15))
        .await;
    assert_eq!(rig.ended(victim).await.reason(), EndReason::Cancelled);
    rig.becomes(BURST, ["1", "0", "1000 20000"]).await;
    rig.becomes("loadline.slice", ["1", "0", "2000 10000"]).await;
    assert_eq!(rig.within.borrow().granted, None);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let repaired = |(action, _): &(String, String)| action == "limit_repaired";
    assert_eq!(rig.receipts().into_iter().find(repaired), None);
    // 2 to 4 s of 400m.
    let counted = rig.snapshot().await.counters.reaping;
    assert!(
        (Span::from_millis(800)..Span::from_millis(1700)).contains(&counted),
        "{counted:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_victim_that_does_not_go_costs_no_more_than_the_bound() {
    let mut rig = Rig::new().await;
    let patient = Wanted {
        grace: Span::from_secs(30),
        ..worker(Tier::Standard)
    };
    let victim = rig.running(&patient).await;
    rig.wanted.send_replace(squeezed(Squeezed::All));
    rig.becomes(STANDARD, ["0", "100", "1000 20000"]).await;
    rig.systemd.fail(Fault::StopLingers);
    rig.stop(victim, Span::from_secs(30)).await;
    rig.becomes(STANDARD, ["0", "1000", "4000 10000"]).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    rig.becomes(STANDARD, ["0", "100", "1000 20000"]).await;
    rig.becomes("loadline.slice", ["1", "0", "2000 10000"]).await;
    // Killed when its grace is over, by the kernel and by systemd, with a budget once more.
    let own = rig
        .cgroup_root()
        .join(STANDARD)
        .join(victim.unit_name())
        .join("cgroup.kill");
    std::fs::write(&own, "").unwrap();
    // The worker's folder goes with it.
    let kept = rig.cgroup_root().join("killed");
    std::fs::hard_link(&own, &kept).unwrap();
    let killed = || (std::fs::read_to_string(&kept).unwrap() == "1").then_some(());
    rig.eventually("cgroup.kill", killed).await;
    let told = || {
        let calls = rig.systemd.calls();
        calls.iter().any(|call| call.starts_with("kill ")).then_some(())
    };
    rig.eventually("systemd is asked too", told).await;
    assert_eq!(rig.ended(victim).await.reason(), EndReason::Cancelled);
    // A second time, for the kill: the first had been given back.
    let calls = rig.systemd.calls();
    let set = |call: &&String| *call == "set loadline-standard.slice";
    let kill = calls.iter().position(|call| call.starts_with("kill ")).unwrap();
    let stop = calls.iter().position(|call| call.starts_with("stop ")).unwrap();
    assert_eq!(calls[stop..kill].iter().filter(set).count(), 2, "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_starves_beside_the_other_is_helped_by_lent_work_alone() {
    let mut rig = Rig::new().await;
    rig.running(&worker(Tier::Standard)).await;
    let victim = rig.running(&worker(Tier::Burst)).await;
    let (root, burst) = (rig.has("loadline.slice"), rig.has(BURST));
    let fed = rig.cgroup_root().join(BURST);
    std::fs::write(fed.join("cpu.stat"), "usage_usec 0\n").unwrap();
    let begun = tokio::time::Instant::now();
    let starving = async {
        loop {
            let waited = begun.elapsed().as_micros();
            let text = format!("some total={waited}\nfull avg10=0.00 total={waited}\n");
            std::fs::write(fed.join("cpu.pressure"), text).unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    rig.systemd.fail(Fault::StopLingers);
    let story = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        rig.stop(victim, Span::from_secs(5)).await;
        rig.becomes(BURST, ["0", "1000", burst[2].as_str()]).await;
        assert_eq!(rig.has("loadline.slice"), root, "production pays nothing");
        tokio::time::sleep(Duration::from_secs(2)).await;
        rig.systemd
            .end(&victim.unit_name(), "success", MainEnd::Killed(15))
            .await;
        rig.ended(victim).await;
        let burst = [burst[0].as_str(), burst[1].as_str(), burst[2].as_str()];
        rig.becomes(BURST, burst).await;
        assert_eq!(rig.snapshot().await.counters.reaping, Span::ZERO);
    };
    tokio::select! {
        () = story => {}
        () = starving => {}
    }
}

#[tokio::test(start_paused = true)]
async fn who_hangs_at_its_memory_limit_is_killed_with_a_budget_and_told_so() {
    let mut rig = Rig::new().await;
    let victim = rig.running(&worker(Tier::Standard)).await;
    rig.wanted.send_replace(squeezed(Squeezed::All));
    rig.becomes(STANDARD, ["0", "100", "1000 20000"]).await;
    let own = rig.cgroup_root().join(STANDARD).join(victim.unit_name());
    let put = |file: &str, text: &str| std::fs::write(own.join(file), text).unwrap();
    let limit = std::fs::read_to_string(own.join("memory.max")).unwrap();
    put("memory.current", &limit);
    put("memory.peak", &limit);
    put("memory.events.local", "low 0\nhigh 0\nmax 3\noom 0\noom_kill 0\n");
    // It reads one file, over and over: all of that can be taken back.
    put("memory.stat", &format!("anon 1000\ninactive_file {limit}"));
    put("cgroup.kill", "");
    let kept = rig.cgroup_root().join("killed");
    std::fs::hard_link(own.join("cgroup.kill"), &kept).unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    rig.phase(victim, AttemptPhase::Squeezed).await;
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "");
    // Now it is in use, and each look finds that it met its limit again.
    put("memory.stat", &format!("inactive_file 4096\nanon {limit}"));
    let (mut met, before) = (3, rig.systemd.calls().len());
    rig.systemd.fail(Fault::StopLingers);
    let killed = async {
        while std::fs::read_to_string(&kept).unwrap().is_empty() {
            met += 1;
            put("memory.events.local", &format!("max {met}\noom 0\noom_kill 0\n"));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), killed)
        .await
        .expect("killed");
    let ended = rig.ended(victim).await;
    let calls = rig.systemd.calls().split_off(before);
    let at = |wanted: &str| calls.iter().position(|call| call.starts_with(wanted)).unwrap();
    assert!(
        at("set loadline-standard.slice") < at("kill loadline-w-"),
        "{calls:?}"
    );
    assert_eq!(ended.reason(), EndReason::OutOfMemory);
    assert!(
        ended.detail.contains("loadline-warden ended it"),
        "{}",
        ended.detail
    );
    assert_eq!(ended.peak_memory_bytes.unwrap().to_string(), limit.trim());
    let told: Vec<_> = rig
        .receipts()
        .into_iter()
        .filter(|(action, _)| action == "out_of_memory")
        .collect();
    assert_eq!(told, [("out_of_memory".to_owned(), ended.detail)]);
}

#[tokio::test(start_paused = true)]
async fn nobody_pays_where_nobody_starves() {
    let mut rig = Rig::new().await;
    let victim = rig.running(&worker(Tier::Burst)).await;
    let before = rig.has(BURST);
    rig.systemd.fail(Fault::StopLingers);
    rig.stop(victim, Span::from_secs(5)).await;
    rig.phase(victim, AttemptPhase::Stopping).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.has(BURST), before);
    assert_eq!(rig.snapshot().await.counters.reaping, Span::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_could_not_be_given_back_is_put_back_later() {
    let mut rig = Rig::new().await;
    let victim = rig.running(&worker(Tier::Burst)).await;
    rig.wanted.send_replace(squeezed(Squeezed::All));
    rig.becomes(BURST, ["1", "0", "1000 20000"]).await;
    rig.systemd.fail(Fault::StopLingers);
    rig.stop(victim, Span::from_secs(5)).await;
    rig.becomes(BURST, ["0", "1000", "4000 10000"]).await;
    // Neither the slice of all lent work nor the tier's can be set.
    rig.systemd.fail(Fault::SetFails);
    rig.systemd.fail(Fault::SetFails);
    rig.systemd
        .end(&victim.unit_name(), "success", MainEnd::Killed(15))
        .await;
    rig.ended(victim).await;
    rig.becomes("loadline.slice", ["1", "0", "2000 10000"]).await;
    rig.becomes(BURST, ["1", "0", "1000 20000"]).await;
}
