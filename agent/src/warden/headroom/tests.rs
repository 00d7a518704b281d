use loadline_model::{PerMille, Span, WallTime};
use loadline_policy::ceiling::{Ceiling, Ceilings, Setter};

use super::*;
use crate::host::clock::SystemClock;
use crate::warden::reconciler::tests::rig::node;
use crate::warden::slo::Observation;
use loadline_policy::headroom::Reason;
use loadline_policy::node_policy::NodePolicy;
use loadline_policy::reap::Budget;
use loadline_policy::slo::Measured;

/// A machine of 4 CPUs whose files say what they are told.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (name, text) in [
            ("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 7000000 kB\n"),
            ("sys/fs/cgroup/system.slice/cpu.stat", "usage_usec 0\n"),
            ("sys/fs/cgroup/loadline.slice/cpu.stat", "usage_usec 0\n"),
            ("sys/fs/cgroup/loadline.slice/cpu.max", "max 100000\n"),
        ] {
            tree.put(name, text);
        }
        tree
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn cpu_max(&self) -> String {
        let path = self.0.path().join("sys/fs/cgroup/loadline.slice/cpu.max");
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    fn start(&self, mode: Mode) -> Headroom {
        let mut node = node();
        node.policy.lend.mode = mode;
        Headroom::start(
            HostRoot::new(self.0.path()),
            SystemClock,
            &node,
            Box::new(|_| {}),
            Box::new(|_| {}),
        )
        .unwrap()
    }
}

/// Uses all 4 CPUs until the loop has seen it; gives the decision.
async fn under_load(tree: &Tree, headroom: &Headroom) -> Decision {
    let (begun, mut latest) = (SystemClock.monotonic(), headroom.decisions().latest);
    let seen = async {
        loop {
            let used = SystemClock.monotonic().minus(begun).times(4);
            tree.put(
                "sys/fs/cgroup/system.slice/cpu.stat",
                &format!("usage_usec {}\n", used.0),
            );
            latest.changed().await.unwrap();
            let decision = latest
                .borrow_and_update()
                .filter(|one| one.setpoints.cpu.is_some_and(|cpu| cpu.0 <= 200));
            if let Some(decision) = decision {
                return decision;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), seen)
        .await
        .expect("production was not seen")
}

#[tokio::test]
async fn a_busy_machine_is_seen_and_the_brake_is_used() {
    let tree = Tree::new();
    let headroom = tree.start(Mode::Enforce);
    let decision = under_load(&tree, &headroom).await;
    assert!(decision.production >= MilliCpu(3000), "{decision:?}");
    drop(headroom);
    assert_eq!(tree.cpu_max(), "2000 10000", "5 % of 4 CPUs, as written last");
}

#[tokio::test]
async fn while_nothing_lent_runs_it_seldom_looks_and_at_once_when_something_does() {
    let tree = Tree::new();
    tree.put("sys/fs/cgroup/loadline.slice/pids.current", "0\n");
    let (turned, mut turns) = watch::channel(0u32);
    let alive: Alive = Box::new(move |_| turned.send_modify(|turns| *turns += 1));
    let headroom = Headroom::start(
        HostRoot::new(tree.0.path()),
        SystemClock,
        &node(),
        Box::new(|_| {}),
        alive,
    )
    .unwrap();
    let mut latest = headroom.decisions().latest;
    latest.changed().await.unwrap();
    latest.changed().await.unwrap();
    latest.borrow_and_update();
    let at = *turns.borrow_and_update();
    assert!(at > TICKS_UNLENT, "{at} turns for two looks");
    tree.put("sys/fs/cgroup/loadline.slice/pids.current", "3\n");
    latest.changed().await.unwrap();
    let passed = *turns.borrow_and_update() - at;
    assert!(passed <= 3, "{passed} ticks until it looked");
}

#[tokio::test]
async fn a_limit_that_was_left_in_force_is_gone_on_from() {
    let tree = Tree::new();
    tree.put("sys/fs/cgroup/loadline.slice/cpu.max", "5000 10000\n");
    let headroom = tree.start(Mode::Enforce);
    let mut latest = headroom.decisions().latest;
    let first = latest.wait_for(Option::is_some).await.unwrap().unwrap();
    assert_eq!(first.setpoints.cpu, Some(MilliCpu(500)), "{first:?}");
}

#[tokio::test]
async fn who_is_ended_keeps_what_was_granted() {
    let tree = Tree::new();
    let headroom = tree.start(Mode::Enforce);
    let budget = Budget {
        cpu: MilliCpu(400),
        lent: true,
        standard: false,
        burst: true,
    };
    headroom.decisions().within.send_replace(Within {
        granted: Some(budget),
        ..Within::default()
    });
    under_load(&tree, &headroom).await;
    drop(headroom);
    assert_eq!(
        tree.cpu_max(),
        "4000 10000",
        "a tenth, where production leaves a twentieth"
    );
}

#[tokio::test]
async fn its_program_s_other_threads_go_last_until_somebody_starves() {
    let tree = Tree::new();
    let (told, mut places) = watch::channel(Vec::new());
    let others: Others = Box::new(move |place| told.send_modify(|places| places.push(place)));
    let root = HostRoot::new(tree.0.path());
    let headroom = Headroom::start(root, SystemClock, &node(), others, Box::new(|_| {})).unwrap();
    let budget = Budget {
        cpu: MilliCpu(400),
        lent: true,
        standard: true,
        burst: true,
    };
    let within = headroom.decisions().within;
    for (granted, place) in [
        (None, Place::Last),
        (Some(budget), Place::Beside),
        (None, Place::Last),
    ] {
        within.send_modify(|within| within.granted = granted);
        let placed = places.wait_for(|places: &Vec<Place>| places.last() == Some(&place));
        let placed = tokio::time::timeout(Duration::from_secs(30), placed).await;
        placed.expect("the others were not placed").unwrap();
    }
    drop(headroom);
    let placed = places.borrow();
    assert_eq!(*placed, [Place::Last, Place::Beside, Place::Last], "once each");
}

#[tokio::test]
async fn in_shadow_the_brake_is_not_touched() {
    let tree = Tree::new();
    let headroom = tree.start(Mode::Shadow);
    under_load(&tree, &headroom).await;
    drop(headroom);
    assert_eq!(tree.cpu_max(), "max 100000");
}

#[tokio::test]
async fn it_ends_with_its_value_and_whoever_waits_for_that_is_told() {
    let tree = Tree::new();
    let headroom = tree.start(Mode::Enforce);
    let mut wanted = headroom.decisions().wanted;
    drop(headroom);
    while wanted.changed().await.is_ok() {}
}

#[tokio::test]
async fn a_promise_that_nobody_measures_holds_lent_work_and_a_missed_one_squeezes_it() {
    let tree = Tree::new();
    let protect = r#"{ unit = "web.service", slo = { tcp = "127.0.0.1:80", p99 = "20ms" } }"#;
    let text = format!("version = 1\n[production]\nprotect = [{protect}]");
    let mut node = node();
    node.policy = NodePolicy::new(toml::from_str(&text).unwrap()).unwrap();
    let headroom = Headroom::start(
        HostRoot::new(tree.0.path()),
        SystemClock,
        &node,
        Box::new(|_| {}),
        Box::new(|_| {}),
    )
    .unwrap();
    let mut latest = headroom.decisions().latest;
    let mut reason = async |wanted: Reason| {
        let seen = latest.wait_for(|decision| decision.is_some_and(|one| one.reason == wanted));
        let seen = tokio::time::timeout(Duration::from_secs(30), seen).await;
        seen.expect("the law was not told").unwrap();
    };
    reason(Reason::SloUnknown).await;
    let missed = Observation {
        unit: "web.service".into(),
        measured: Some(Measured::P99(Span::from_millis(21))),
        age: Span::ZERO,
        trouble: String::new(),
    };
    headroom.promises().observe(vec![missed], SystemClock.monotonic());
    reason(Reason::SloSlack(-50)).await;
}

#[tokio::test]
async fn a_closed_line_is_braked_at_once_and_whoever_tells_it_keeps_nothing_going() {
    let tree = Tree::new();
    let headroom = tree.start(Mode::Enforce);
    let tell = headroom.teller();
    let closed = Ceiling {
        mode: Mode::Enforce,
        line: PerMille(0),
        by: "ada".into(),
        at: WallTime(1),
    };
    let mut ceilings = Ceilings::default();
    ceilings.set(Setter::Here, closed);
    let (mut latest, begun) = (headroom.decisions().latest, SystemClock.monotonic());
    tell(&node().under(&ceilings));
    while tree.cpu_max() != "1000 20000" {
        latest.changed().await.unwrap();
        let passed = SystemClock.monotonic().minus(begun);
        assert!(passed < Span::from_secs(2), "{} after {passed}", tree.cpu_max());
    }
    drop(headroom);
    tell(&node());
}
