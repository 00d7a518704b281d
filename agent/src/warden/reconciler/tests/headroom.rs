//! What the headroom loop wants becomes what the slices have, is told once, and is no stranger's doing.

use std::time::Duration;

use loadline_model::{Bytes, CpuRequest, MilliCpu, Tier};
use loadline_policy::attempt::MainEnd;
use loadline_policy::headroom::{Decision, Level, Reason};
use loadline_policy::node_policy::Mode;
use loadline_policy::settings::{BytesPerSecond, Limit, Setpoints, Squeezed, TasksLimit, TasksWhy};
use loadline_proto::types::v1::{AttemptPhase, EndReason};

use super::rig::{Rig, node};
use crate::host::systemd::fake::Fault;
use crate::host::systemd::{Setting, Systemd};
use crate::warden::reconciler::Node;
use crate::warden::wire::forge::Wanted;

fn decision(cpu: Option<u64>, squeezed: Squeezed) -> Option<Decision> {
    Some(Decision {
        level: Level::Squeeze,
        reason: Reason::ProductionUse(MilliCpu(3200)),
        setpoints: Setpoints {
            cpu: cpu.map(MilliCpu),
            squeezed,
            ..Setpoints::default()
        },
        production: MilliCpu(3200),
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
    fn cpu_max(&self, slice: &str) -> String {
        let path = self.cgroup_root().join(slice).join("cpu.max");
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    async fn has_cpu_max(&self, slice: &str, text: &str) {
        let is = || (self.cpu_max(slice) == text).then_some(());
        self.eventually(format!("cpu.max {text} of {slice}"), is).await;
    }

    fn count(&self, action: &str) -> usize {
        self.receipts()
            .iter()
            .filter(|(found, _)| found == action)
            .count()
    }
}

#[tokio::test(start_paused = true)]
async fn setpoints_reach_systemd_and_are_no_repair() {
    let mut rig = Rig::new().await;
    rig.running(&worker(Tier::Standard)).await;
    let before = rig.cpu_max("loadline.slice");
    rig.wanted.send_replace(decision(Some(600), Squeezed::No));
    rig.has_cpu_max("loadline.slice", "6000 10000").await;
    let let_go = |rig: &Rig| rig.within.borrow().setpoints.cpu;
    assert_eq!(
        let_go(&rig),
        Some(MilliCpu(600)),
        "the brake hears how far it may let go"
    );
    rig.wanted.send_replace(decision(None, Squeezed::No));
    rig.has_cpu_max("loadline.slice", &before).await;
    assert_eq!(let_go(&rig), None);
    assert_eq!(rig.receipts(), [], "the line moves without a word for each step");
    assert_eq!(rig.snapshot().await.counters.limit_repairs, 0);
}

#[tokio::test(start_paused = true)]
async fn a_little_more_waits_and_much_more_than_the_brake_has_does_not() {
    let mut rig = Rig::new().await;
    rig.running(&worker(Tier::Standard)).await;
    rig.wanted.send_replace(decision(Some(600), Squeezed::No));
    rig.has_cpu_max("loadline.slice", "6000 10000").await;
    let begun = tokio::time::Instant::now();
    // 100m of 4 CPUs.
    rig.wanted.send_replace(decision(Some(700), Squeezed::No));
    rig.has_cpu_max("loadline.slice", "7000 10000").await;
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(25), "{waited:?}");
    // The brake has lowered it meanwhile: what systemd was told says nothing.
    rig.systemd.meddle("loadline.slice", "cpu.max", "1000 10000\n");
    let begun = tokio::time::Instant::now();
    rig.wanted.send_replace(decision(Some(710), Squeezed::No));
    rig.has_cpu_max("loadline.slice", "7100 10000").await;
    let waited = begun.elapsed();
    assert!(waited <= Duration::from_secs(10), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn memory_disks_and_burst_s_share_reach_systemd_and_are_let_go() {
    let mut rig = Rig::new().await;
    let disk = rig.cgroup_root().parent().unwrap().join("sys/block/vda");
    std::fs::create_dir_all(&disk).unwrap();
    std::fs::write(disk.join("dev"), "254:0\n").unwrap();
    std::fs::write(disk.join("size"), "8\n").unwrap();
    rig.running(&worker(Tier::Burst)).await;
    let file = |rig: &Rig, name: &str| {
        let path = rig.cgroup_root().join("loadline.slice").join(name);
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let before = file(&rig, "memory.high");
    let setpoints = Setpoints {
        cpu: Some(MilliCpu(900)),
        burst: Some(MilliCpu(300)),
        memory_high: Some(Bytes::from_mib(640)),
        io: Some(BytesPerSecond(5 << 20)),
        tasks: None,
        squeezed: Squeezed::No,
    };
    rig.wanted
        .send_replace(decision(None, Squeezed::No).map(|decision| Decision {
            setpoints,
            ..decision
        }));
    rig.has_cpu_max("loadline.slice/loadline-burst.slice", "3000 10000")
        .await;
    assert_eq!(file(&rig, "memory.high"), "671088640\n");
    assert_eq!(
        file(&rig, "io.max"),
        "254:0 rbps=5242880 wbps=5242880 riops=max wiops=max\n"
    );
    // A stranger's bandwidth is put back; the brake's memory is not.
    rig.systemd
        .meddle("loadline.slice", "io.max", "254:0 rbps=max wbps=5242880\n");
    let put_back = || (rig.count("limit_repaired") == 1).then_some(());
    rig.eventually("the bandwidth put back", put_back).await;
    assert_eq!(
        file(&rig, "io.max"),
        "254:0 rbps=5242880 wbps=5242880 riops=max wiops=max\n"
    );
    rig.systemd.meddle("loadline.slice", "memory.high", "335544320\n");
    rig.wanted.send_replace(decision(None, Squeezed::No));
    rig.has_cpu_max("loadline.slice/loadline-burst.slice", "max 100000")
        .await;
    assert_eq!(
        (file(&rig, "memory.high"), file(&rig, "io.max")),
        (before, String::new())
    );
    assert_eq!(rig.count("limit_repaired"), 1, "{:?}", rig.receipts());
}

#[tokio::test(start_paused = true)]
async fn a_limit_on_processes_is_told_soon_read_back_and_starts_wait_for_its_end() {
    let mut rig = Rig::new().await;
    rig.running(&worker(Tier::Standard)).await;
    let held = |most: Option<u64>| {
        let tasks = most.map(|most| TasksLimit {
            most,
            why: TasksWhy::Growth,
        });
        decision(None, Squeezed::No).map(|decision| Decision {
            setpoints: Setpoints {
                tasks,
                ..decision.setpoints
            },
            ..decision
        })
    };
    let pids_max = |rig: &Rig| rig.systemd.file("loadline.slice", "pids.max").unwrap();
    assert_eq!(pids_max(&rig), "16384");
    // Systemd has just been told something else; this is told within the second all the same.
    rig.wanted.send_replace(decision(Some(900), Squeezed::No));
    rig.has_cpu_max("loadline.slice", "9000 10000").await;
    rig.wanted.send_replace(held(Some(1_088)));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(pids_max(&rig), "1088");
    rig.systemd.meddle("loadline.slice", "pids.max", "max\n");
    let put_back = || (pids_max(&rig) == "1088").then_some(());
    rig.eventually("the limit put back", put_back).await;
    let late = rig.start(&worker(Tier::Standard)).await;
    let detail = rig.ended(late).await.detail;
    assert!(
        detail.contains("held at 1088 processes and threads") && detail.contains("within a second"),
        "{detail}"
    );
    rig.wanted.send_replace(held(None));
    let released = || (pids_max(&rig) == "16384").then_some(());
    rig.eventually("the static limit", released).await;
    rig.running(&worker(Tier::Standard)).await;
    let told: Vec<String> = rig.receipts().into_iter().map(|(action, _)| action).collect();
    assert_eq!(
        told,
        ["tasks_held", "limit_repaired", "refused", "tasks_released"],
        "{:?}",
        rig.receipts()
    );
}

#[tokio::test(start_paused = true)]
async fn systemd_is_told_every_five_seconds_at_most() {
    let mut rig = Rig::new().await;
    rig.running(&worker(Tier::Standard)).await;
    let told = || {
        rig.systemd
            .calls()
            .iter()
            .filter(|call| *call == "set loadline.slice")
            .count()
    };
    let before = told();
    for step in 0..100 {
        rig.wanted
            .send_replace(decision(Some(600 + step * 10), Squeezed::No));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    rig.has_cpu_max("loadline.slice", "15900 10000").await;
    let calls = told() - before;
    assert!((2..=4).contains(&calls), "{calls} calls in 10 s");
}

#[tokio::test(start_paused = true)]
async fn what_the_brake_lowered_is_not_put_back() {
    let mut rig = Rig::new().await;
    rig.running(&worker(Tier::Standard)).await;
    rig.wanted.send_replace(decision(Some(900), Squeezed::No));
    rig.has_cpu_max("loadline.slice", "9000 10000").await;
    // As the loop does it: first the word, then the brake, and the word changes all the time.
    for step in 0..200 {
        let cpu = 800 - step * 3;
        rig.wanted.send_replace(decision(Some(cpu), Squeezed::No));
        rig.systemd
            .meddle("loadline.slice", "cpu.max", &format!("{} 10000\n", cpu * 10));
        tokio::time::sleep(Duration::from_millis(70)).await;
    }
    assert_eq!(rig.count("limit_repaired"), 0, "{:?}", rig.receipts());
    // A stranger's value is put back as ever, once the word rests.
    rig.has_cpu_max("loadline.slice", "2000 10000").await;
    rig.systemd.meddle("loadline.slice", "cpu.max", "max 100000\n");
    rig.has_cpu_max("loadline.slice", "2000 10000").await;
    assert_eq!(rig.count("limit_repaired"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_a_stranger_raises_under_the_brake_is_put_back_with_a_receipt() {
    let mut rig = Rig::new().await;
    rig.running(&worker(Tier::Standard)).await;
    rig.wanted.send_replace(decision(Some(900), Squeezed::No));
    rig.has_cpu_max("loadline.slice", "9000 10000").await;
    // The loop wants the same for long, and the brake holds the kernel's file there, whatever systemd writes.
    let brake = async |rig: &Rig, looks: u32| {
        for _ in 0..looks {
            tokio::time::sleep(Duration::from_millis(100)).await;
            rig.systemd.meddle("loadline.slice", "cpu.max", "9000 10000\n");
        }
    };
    brake(&rig, 300).await;
    assert_eq!(rig.count("limit_repaired"), 0, "{:?}", rig.receipts());
    let raised = Setting::CpuQuota(Limit::At(MilliCpu(4000)));
    rig.systemd.set_by_stranger("loadline.slice", raised);
    rig.systemd.meddle("loadline.slice", "cpu.max", "9000 10000\n");
    rig.systemd.fail(Fault::ToldFails);
    brake(&rig, 250).await;
    let told = rig.receipts();
    let [(action, sentence)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(action, "limit_repaired");
    assert_eq!(
        sentence,
        "cpu.max should be 900m and is 4000m in systemd; set again"
    );
    let in_systemd = rig.systemd.told("loadline.slice").await.unwrap().cpu_quota;
    assert_eq!(in_systemd, Some(Limit::At(MilliCpu(900))));
    // The same for memory, and for a tier that the loop leaves alone.
    let high = Setting::MemoryHigh(Limit::Max);
    rig.systemd.set_by_stranger("loadline.slice", high);
    let quota = Setting::CpuQuota(Limit::At(MilliCpu(700)));
    rig.systemd.set_by_stranger("loadline-standard.slice", quota);
    rig.systemd
        .meddle("loadline-standard.slice", "cpu.max", "max 100000\n");
    brake(&rig, 250).await;
    let told = rig.receipts();
    assert_eq!(told.len(), 3, "{told:?}");
    let of = |file: &str| {
        told.iter()
            .filter(|(_, sentence)| sentence.contains(file))
            .count()
    };
    assert_eq!((of("memory.high"), of("700m in systemd")), (1, 1), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_lowered_and_wanted_back_within_one_telling_is_raised_and_no_repair() {
    let mut rig = Rig::new().await;
    rig.running(&worker(Tier::Standard)).await;
    rig.wanted.send_replace(decision(Some(900), Squeezed::No));
    rig.has_cpu_max("loadline.slice", "9000 10000").await;
    rig.wanted.send_replace(decision(Some(600), Squeezed::No));
    rig.systemd.meddle("loadline.slice", "cpu.max", "6000 10000\n");
    rig.wanted.send_replace(decision(Some(900), Squeezed::No));
    rig.has_cpu_max("loadline.slice", "9000 10000").await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(rig.receipts(), []);
}

#[tokio::test(start_paused = true)]
async fn a_squeezed_tier_is_held_told_and_let_go() {
    let mut rig = Rig::new().await;
    let standard = rig.running(&worker(Tier::Standard)).await;
    let burst = rig.running(&worker(Tier::Burst)).await;
    let floor = "1000 20000";
    rig.wanted.send_replace(decision(Some(400), Squeezed::Burst));
    rig.phase(burst, AttemptPhase::Squeezed).await;
    rig.has_cpu_max("loadline.slice/loadline-burst.slice", floor)
        .await;
    assert_ne!(rig.cpu_max("loadline.slice/loadline-standard.slice"), floor);
    // Nothing is started into a starved slice; what is not starved takes work as ever.
    let late = rig.start(&worker(Tier::Burst)).await;
    let ended = rig.ended(late).await;
    assert!(
        ended
            .detail
            .contains("burst work is held at its floor on this node now, and none is started: production"),
        "{}",
        ended.detail
    );
    rig.running(&worker(Tier::Standard)).await;

    rig.wanted.send_replace(decision(Some(400), Squeezed::All));
    rig.phase(standard, AttemptPhase::Squeezed).await;
    rig.has_cpu_max("loadline.slice/loadline-standard.slice", floor)
        .await;
    rig.wanted.send_replace(decision(None, Squeezed::No));
    rig.has_cpu_max("loadline.slice/loadline-burst.slice", "max 100000")
        .await;
    let released = || {
        let told = rig.attempt_events(burst);
        (told.last()?.phase() == AttemptPhase::Running).then_some(())
    };
    rig.eventually("burst goes on", released).await;
    let told: Vec<(String, String)> = rig
        .receipts()
        .into_iter()
        .filter(|(action, _)| action != "refused")
        .collect();
    let actions: Vec<&str> = told.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(
        actions,
        ["squeezed", "squeezed", "released", "released"],
        "{told:?}"
    );
    assert!(
        told[0]
            .1
            .starts_with("burst work is held at its floor: production uses 3.2 CPUs"),
        "{told:?}"
    );
    assert!(told[1].1.starts_with("standard work"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn at_the_top_of_the_ladder_one_has_to_go_at_a_time() {
    let mut rig = Rig::new().await;
    let standard = rig.running(&worker(Tier::Standard)).await;
    let burst = rig.running(&worker(Tier::Burst)).await;
    rig.wanted
        .send_replace(decision(None, Squeezed::No).map(|decision| Decision {
            level: Level::Evict,
            reason: Reason::MemoryLow(Bytes::from_mib(40)),
            ..decision
        }));
    rig.phase(burst, AttemptPhase::Stopping).await;
    rig.systemd
        .end(&burst.unit_name(), "success", MainEnd::Killed(15))
        .await;
    assert_eq!(rig.ended(burst).await.reason(), EndReason::Evicted);
    let spared = |rig: &Rig| {
        rig.attempt_events(standard)
            .iter()
            .all(|told| told.phase() == AttemptPhase::Running)
    };
    assert!(spared(&rig), "one at a time");
    rig.phase(standard, AttemptPhase::Stopping).await;
    let told = rig.receipts();
    assert_eq!(told.len(), 2);
    assert!(
        told[0].1.contains("only 40MiB of memory can still be had"),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_lent_nobody_hears_of_it_and_the_first_order_does() {
    let mut rig = Rig::new().await;
    let sets = |rig: &Rig| {
        let calls = rig.systemd.calls();
        calls.iter().filter(|call| call.starts_with("set ")).count()
    };
    // Settled.
    rig.snapshot().await;
    let before = sets(&rig);
    for step in 0..30 {
        let squeezed = if step % 2 == 0 {
            Squeezed::All
        } else {
            Squeezed::No
        };
        rig.wanted.send_replace(decision(Some(300 + step), squeezed));
        // As the brake does it.
        rig.systemd.meddle("loadline.slice", "cpu.max", "3000 10000\n");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((sets(&rig) - before, rig.receipts()), (0, Vec::new()));
    // Taken up as soon as there is work, which is not refused for what was long ago.
    rig.wanted.send_replace(decision(Some(700), Squeezed::No));
    let burst = rig.running(&worker(Tier::Burst)).await;
    rig.has_cpu_max("loadline.slice", "7000 10000").await;
    rig.wanted.send_replace(decision(Some(700), Squeezed::Burst));
    rig.phase(burst, AttemptPhase::Squeezed).await;
    // Its end lets the tier go, once, and the line is whole again for whoever comes next.
    rig.systemd
        .end(&burst.unit_name(), "exit-code", MainEnd::Exited(0))
        .await;
    rig.ended(burst).await;
    rig.has_cpu_max("loadline.slice/loadline-burst.slice", "max 100000")
        .await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let told: Vec<String> = rig.receipts().into_iter().map(|(_, sentence)| sentence).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[1], "burst work is let go: nothing is lent here any more");
    rig.wanted.send_replace(decision(None, Squeezed::No));
    rig.running(&worker(Tier::Burst)).await;
}

#[tokio::test(start_paused = true)]
async fn in_shadow_nothing_is_touched_and_what_would_be_done_is_told() {
    let mut shadow = node();
    shadow.policy.lend.mode = Mode::Shadow;
    let shadow = Node::new(shadow.policy, shadow.topology, 0, shadow.pinning);
    let rig = Rig::with(shadow).await;
    let before = rig.systemd.calls();
    rig.wanted.send_replace(decision(Some(200), Squeezed::All));
    let told = || rig.receipts().first().cloned();
    let (action, sentence) = rig.eventually("a receipt", told).await;
    assert_eq!(action, "would_squeeze");
    assert!(sentence.contains("would be held at its floor"), "{sentence}");
    rig.wanted.send_replace(decision(None, Squeezed::No));
    let let_go = || (rig.count("would_release") == 2).then_some(());
    rig.eventually("the other receipt", let_go).await;
    let touched = |call: &String| !before.contains(call) && !call.starts_with("workers");
    assert_eq!(rig.systemd.calls().into_iter().find(touched), None);
}

#[tokio::test(start_paused = true)]
async fn another_mode_takes_up_what_is_wanted_already_or_lets_it_go() {
    let mut rig = Rig::new().await;
    rig.running(&worker(Tier::Burst)).await;
    let burst = "loadline.slice/loadline-burst.slice";
    let node = |mode| {
        let mut node = node();
        node.policy.lend.mode = mode;
        node
    };
    rig.wanted.send_replace(decision(Some(400), Squeezed::Burst));
    rig.has_cpu_max(burst, "1000 20000").await;
    // Watching only: what runs on is not held any more, and what would be done is told.
    rig.replace(node(Mode::Shadow)).await;
    rig.has_cpu_max(burst, "max 100000").await;
    let told = || (rig.count("would_squeeze") == 1).then_some(());
    rig.eventually("what would be done", told).await;
    // In force again, without another word from the loop.
    rig.replace(node(Mode::Enforce)).await;
    rig.has_cpu_max(burst, "1000 20000").await;
    rig.has_cpu_max("loadline.slice", "4000 10000").await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_started_at_the_floor_whether_systemd_was_told_or_not() {
    let mut rig = Rig::new().await;
    // 4 CPUs: the floor is 200m. The brake is at once, systemd comes later.
    rig.wanted.send_replace(decision(Some(200), Squeezed::No));
    let starved = rig.start(&worker(Tier::Standard)).await;
    let detail = rig.ended(starved).await.detail;
    assert!(
        detail.contains("too few to start in: production uses 3.2 CPUs"),
        "{detail}"
    );
    rig.wanted.send_replace(decision(Some(900), Squeezed::No));
    tokio::time::sleep(Duration::from_secs(6)).await;
    rig.running(&worker(Tier::Standard)).await;
    // The lower one counts.
    rig.wanted.send_replace(decision(Some(200), Squeezed::No));
    rig.has_cpu_max("loadline.slice", "2000 10000").await;
    rig.wanted.send_replace(decision(Some(900), Squeezed::No));
    let waits = rig.start(&worker(Tier::Standard)).await;
    assert_eq!(rig.ended(waits).await.reason(), EndReason::RefusedForNow);
}
