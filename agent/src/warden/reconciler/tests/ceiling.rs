//! What operators let a node do: in force at once, durable, told, and never more than its owner allows.

use std::time::Duration;

use loadline_model::{AttemptId, CpuRequest, Generation, MilliCpu, PerMille, Tier, WallTime};
use loadline_policy::attempt::MainEnd;
use loadline_policy::ceiling::Wish;
use loadline_policy::headroom::{Decision, Level, Reason};
use loadline_policy::node_policy::{LocalTime, Mode, Weekday, Window, WindowZone};
use loadline_proto::types::v1::{AttemptPhase, EndReason};
use tokio::sync::oneshot;

use super::rig::{Rig, node};
use crate::ledger::LedgerError;
use crate::warden::reconciler::{CeilingError, Command, Node, lock};
use crate::warden::wire::forge::Wanted;

fn worker(tier: Tier) -> Wanted {
    Wanted {
        cpus: CpuRequest::Shared(MilliCpu(100)),
        tier,
        ..Wanted::default()
    }
}

fn evict() -> Option<Decision> {
    Some(Decision {
        level: Level::Evict,
        reason: Reason::MemoryLow(loadline_model::Bytes::from_mib(90)),
        production: MilliCpu(100),
        ..Decision::default()
    })
}

impl Rig {
    async fn ceiling(&mut self, mode: &str, line: u32) -> Generation {
        let order = self.forge.ceiling(mode, line, "ada");
        self.try_apply(vec![order]).await.unwrap()
    }

    async fn wish(&self, mode: Option<Mode>, line: Option<u16>) -> Result<(), CeilingError> {
        let (reply, answer) = oneshot::channel();
        let wish = Wish {
            mode,
            line: line.map(PerMille),
            by: "root".into(),
        };
        self.command(Command::Ceiling { wish, reply }).await;
        answer.await.unwrap()
    }

    fn told(&self, action: &str) -> Vec<String> {
        let told = self.receipts().into_iter().filter(|(found, _)| found == action);
        told.map(|(_, sentence)| sentence).collect()
    }

    /// The file by which the kernel kills a cgroup.
    fn killer(&self, slice: &str, attempt: AttemptId) -> std::path::PathBuf {
        let slice = self.cgroup_root().join("loadline.slice").join(slice);
        slice.join(attempt.unit_name()).join("cgroup.kill")
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_line_kills_burst_at_once_and_gives_standard_its_grace() {
    let mut rig = Rig::new().await;
    let standard = rig.running(&worker(Tier::Standard)).await;
    let burst = rig.running(&worker(Tier::Burst)).await;
    let (of_burst, of_standard) = (
        rig.killer("loadline-burst.slice", burst),
        rig.killer("loadline-standard.slice", standard),
    );
    // The cgroups go with their units; what was written to them is kept beside.
    let kept = tempfile::tempdir().unwrap();
    let beside = |name: &str, file: &std::path::Path| {
        let beside = kept.path().join(name);
        std::fs::write(&beside, "").unwrap();
        std::os::unix::fs::symlink(&beside, file).unwrap();
        beside
    };
    let (of_burst, of_standard) = (beside("burst", &of_burst), beside("standard", &of_standard));
    let generation = rig.ceiling("enforce", 0).await;
    // Durable when it is answered, and the brake has been told before.
    assert_eq!(lock(&rig.ledger).generation(), generation);
    let (mode, line) = *rig.ruled.lock().unwrap().last().unwrap();
    assert_eq!((mode, line), (Mode::Enforce, MilliCpu::ZERO));
    let killed = || (std::fs::read_to_string(&of_burst).unwrap_or_default() == "1").then_some(());
    rig.eventually("burst killed by the kernel", killed).await;
    rig.phase(standard, AttemptPhase::Stopping).await;
    let spared = std::fs::read_to_string(&of_standard).unwrap_or_default();
    assert_eq!(spared, "", "it has its grace");
    for attempt in [burst, standard] {
        rig.systemd
            .end(&attempt.unit_name(), "signal", MainEnd::Killed(9))
            .await;
        assert_eq!(rig.ended(attempt).await.reason(), EndReason::Evicted);
    }
    let why = "evicted: ada (fleet) has closed this node to lent work: its line is at 0 %";
    assert_eq!(rig.told("evicted"), [why, why]);
    assert_eq!(
        rig.told("line_changed"),
        ["lent work may have 0 % of this node's line now, set by ada (fleet); it was 100 %"]
    );
    // Nothing new, by name; and after it is given back, as before.
    let late = rig.start(&worker(Tier::Burst)).await;
    let ended = rig.ended(late).await;
    assert_eq!(ended.reason(), EndReason::RefusedForNow);
    assert!(
        ended.detail.starts_with("ada (fleet) has closed this node"),
        "{}",
        ended.detail
    );
    rig.ceiling("enforce", 1000).await;
    rig.running(&worker(Tier::Burst)).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_set_survives_the_warden_and_orders_that_come_again() {
    let mut rig = Rig::new().await;
    let low = rig.forge.ceiling("shadow", 500, "ada");
    rig.try_apply(vec![low.clone()]).await.unwrap();
    let lifted = rig.forge.ceiling("enforce", 250, "bea");
    rig.try_apply(vec![lifted]).await.unwrap();
    // An older order changes nothing any more.
    rig.try_apply(vec![low]).await.unwrap();
    let seen = |node: &Node| (node.policy.lend.mode, node.line.most().cpu, node.ceilings.clone());
    let before = seen(&rig.snapshot().await.node);
    assert_eq!((before.0, before.1), (Mode::Enforce, MilliCpu(550)));
    rig.kill_and_restart().await;
    assert_eq!(seen(&rig.snapshot().await.node), before);
    let ruled = rig.ruled.lock().unwrap().last().copied();
    assert_eq!(
        ruled,
        Some((Mode::Enforce, MilliCpu(550))),
        "the brake knows it from the start"
    );
    // A ledger that is lost has forgotten it: the fleet says it again.
    rig.kill().await;
    rig.lose_ledger();
    rig.restart(node());
    assert_eq!(rig.snapshot().await.node.line.most().cpu, MilliCpu(2200));
}

#[tokio::test(start_paused = true)]
async fn the_lower_of_fleet_and_root_holds_and_nobody_goes_beyond_the_owner() {
    let mut rig = Rig::new().await;
    rig.wish(None, Some(500)).await.unwrap();
    rig.ceiling("enforce", 750).await;
    let line = rig.snapshot().await.node.line;
    assert_eq!(line.ceiling.as_ref().unwrap().by, "root (on this node)");
    assert_eq!(line.most().cpu, MilliCpu(1100));
    rig.wish(None, Some(1000)).await.unwrap();
    assert_eq!(rig.snapshot().await.node.line.most().cpu, MilliCpu(1650));
    // The owner watches only: nobody may do more, and the fleet's word has no effect beyond that.
    let mut shadow = node();
    shadow.policy.lend.mode = Mode::Shadow;
    rig.replace(shadow).await;
    let refused = rig.wish(Some(Mode::Enforce), None).await.unwrap_err();
    assert!(matches!(refused, CeilingError::Beyond(_)), "{refused}");
    rig.ceiling("enforce", 1000).await;
    assert_eq!(rig.snapshot().await.node.policy.lend.mode, Mode::Shadow);
    rig.wish(Some(Mode::Off), None).await.unwrap();
    let told = rig.told("mode_changed");
    assert_eq!(
        told[0],
        "the mode of this node is `shadow` now, as node.toml says; it was `enforce`: it decides and records, starts nothing, and leaves what runs under its static line"
    );
    assert!(
        told[1].starts_with("the mode of this node is `off` now, set by root (on this node)"),
        "{told:?}"
    );
    // The ceilings stay when the owner speaks.
    rig.replace(node()).await;
    assert_eq!(rig.snapshot().await.node.policy.lend.mode, Mode::Off);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_made_durable_does_not_hold() {
    let mut rig = Rig::new().await;
    lock(&rig.ledger).fill_up();
    let order = rig.forge.ceiling("off", 0, &"ada".repeat(50_000));
    let problem = rig.try_apply(vec![order]).await.unwrap_err();
    assert!(matches!(&*problem, LedgerError::Write { .. }), "{problem}");
    let node = rig.snapshot().await.node;
    assert_eq!(
        (node.policy.lend.mode, node.line.most().cpu),
        (Mode::Enforce, MilliCpu(2200))
    );
    assert_eq!(
        rig.ruled.lock().unwrap().last(),
        Some(&(Mode::Enforce, MilliCpu(2200)))
    );
    lock(&rig.ledger).make_room();
    rig.ceiling("off", 0).await;
    assert_eq!(rig.snapshot().await.node.policy.lend.mode, Mode::Off);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_only_watches_says_once_whom_it_would_evict() {
    let mut rig = Rig::new().await;
    let burst = rig.running(&worker(Tier::Burst)).await;
    rig.ceiling("shadow", 1000).await;
    rig.wanted.send_replace(evict());
    let told = || rig.told("would_evict").first().cloned();
    let sentence = rig.eventually("whom it would evict", told).await;
    assert!(
        sentence.starts_with(
            "would have been evicted, but this node only watches: only 90MiB of memory can still be had"
        ),
        "{sentence}"
    );
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.told("would_evict").len(), 1, "once for one need");
    assert_eq!(rig.systemd.running(), [burst.unit_name()], "nobody was touched");
    // With nobody there it says that, once.
    rig.systemd
        .end(&burst.unit_name(), "success", MainEnd::Exited(0))
        .await;
    rig.ended(burst).await;
    let nobody = || (rig.told("would_evict").len() == 2).then_some(());
    rig.eventually("that nobody is there", nobody).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(
        rig.told("would_evict")[1].contains("none runs here"),
        "{:?}",
        rig.told("would_evict")
    );
    assert_eq!((rig.told("would_evict").len(), rig.told("evicted").len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_window_that_shuts_evicts_and_one_that_opens_lends() {
    let mut policy = node().policy;
    policy.lend.windows = vec![Window {
        days: "Mon-Fri".parse().unwrap(),
        from: "19:00".parse().unwrap(),
        to: "07:00".parse().unwrap(),
        zone: WindowZone::Node,
    }];
    let plain = node();
    let mut rig = Rig::with(Node::new(policy, plain.topology, 0, plain.pinning)).await;
    let at = |day, hour: u16| LocalTime {
        day,
        minute: hour * 60,
    };
    *rig.local.lock().unwrap() = at(Weekday::Mon, 12);
    let early = rig.start(&worker(Tier::Standard)).await;
    assert_eq!(rig.ended(early).await.reason(), EndReason::RefusedForNow);
    let shut = rig.snapshot().await.shut;
    assert_eq!(
        shut.as_deref(),
        Some("this node lends only in its windows, and none is open now")
    );
    *rig.local.lock().unwrap() = at(Weekday::Mon, 23);
    assert_eq!(rig.snapshot().await.shut, None);
    let night = rig.running(&worker(Tier::Standard)).await;
    // Nobody orders anything: the clock alone shuts it.
    *rig.local.lock().unwrap() = at(Weekday::Tue, 7);
    rig.phase(night, AttemptPhase::Stopping).await;
    rig.systemd
        .end(&night.unit_name(), "success", MainEnd::Killed(15))
        .await;
    assert_eq!(rig.ended(night).await.reason(), EndReason::Evicted);
    assert_eq!(
        rig.told("evicted"),
        ["evicted: this node lends only in its windows, and none is open now"]
    );
    let first = rig.events().first().map(|event| event.at_us);
    assert!(first > Some(WallTime(0).0));
}

#[tokio::test(start_paused = true)]
async fn an_order_of_a_newer_fleet_is_refused_by_name_and_not_for_ever() {
    let mut rig = Rig::new().await;
    let order = rig.forge.unknown();
    let generation = rig.try_apply(vec![order]).await.unwrap();
    assert_eq!(generation, Generation(1), "taken, so that later ones come");
    assert!(
        rig.told("refused")[0].starts_with("an order about this node was refused: it asks for something")
    );
}
