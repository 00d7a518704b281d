//! Production's floors against a systemd in memory: set, put back, taken back, and each fault by name.

use loadline_policy::node_policy::{Mode, NodePolicy};
use loadline_policy::protect::State;
use loadline_policy::settings::Pinning;

use super::rig::{Rig, topology};
use crate::host::systemd::Signal;
use crate::host::systemd::fake::Fault;
use crate::warden::reconciler::Node;

const WEB: &str = "/system.slice/web.service";
const GIB: u64 = 1 << 30;

fn node(mode: Mode, protect: &str) -> Node {
    let text = format!("version = 1\n[production]\nprotect = [{protect}]");
    let mut policy = NodePolicy::new(toml::from_str(&text).unwrap()).unwrap();
    policy.lend.mode = mode;
    Node::new(policy, topology(4), 0, Pinning::Cpuset)
}

const PROTECT: &str = r#"{ unit = "web.service", memory = "1GiB" }"#;

impl Rig {
    /// memory.min and memory.low of a unit, if they are the same.
    fn floor(&self, unit: &str) -> Option<u64> {
        let read = |file| -> Option<u64> { self.systemd.file(unit, file)?.parse().ok() };
        read("memory.min").filter(|min| read("memory.low") == Some(*min))
    }

    async fn floors(&self, slice: u64, unit: u64) {
        let what = format!("floors {slice} and {unit}");
        let both = || (self.floor("system.slice"), self.floor("web.service"));
        self.eventually(what, || (both() == (Some(slice), Some(unit))).then_some(()))
            .await;
    }

    async fn state(&self, wanted: State) {
        let begun = tokio::time::Instant::now();
        loop {
            let state = self.snapshot().await.floors.get("web.service").copied();
            if state == Some(wanted) {
                return;
            }
            assert!(begun.elapsed().as_secs() < 300, "{state:?}, not {wanted:?}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

async fn rig(mode: Mode) -> Rig {
    // The cgroup has to be there before the warden looks for the first time.
    let rig = Rig::with(node(Mode::Shadow, "")).await;
    rig.systemd.production(WEB);
    rig.replace(node(mode, PROTECT)).await;
    rig
}

#[tokio::test(start_paused = true)]
async fn a_floor_is_set_on_unit_and_slice_and_taken_back_with_its_entry() {
    let rig = rig(Mode::Enforce).await;
    rig.floors(GIB, GIB).await;
    rig.state(State::Held).await;
    rig.replace(node(Mode::Enforce, "")).await;
    rig.floors(0, 0).await;
    let repaired = |(action, _): &(String, String)| action == "limit_repaired";
    assert!(!rig.receipts().iter().any(repaired), "nobody took anything off");
}

#[tokio::test(start_paused = true)]
async fn what_takes_a_floor_off_is_put_right_with_a_receipt() {
    let rig = rig(Mode::Enforce).await;
    rig.floors(GIB, GIB).await;
    rig.state(State::Held).await;
    for file in ["memory.min", "memory.low"] {
        rig.systemd.meddle("system.slice", file, "0\n");
    }
    rig.systemd.tell(Signal::Reloaded).await;
    rig.floors(GIB, GIB).await;
    let told = rig
        .eventually("a receipt", || {
            let mut receipts = rig.receipts().into_iter();
            receipts.find(|(action, _)| action == "limit_repaired")
        })
        .await;
    assert!(
        told.1.contains("system.slice") && told.1.contains("1GiB"),
        "{}",
        told.1
    );
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_comes_later_or_comes_back_gets_its_floor() {
    let rig = Rig::with(node(Mode::Enforce, PROTECT)).await;
    rig.state(State::NotLoaded).await;
    rig.systemd.production(WEB);
    rig.floors(GIB, GIB).await;
    rig.systemd.production_stops("web.service");
    rig.state(State::NotLoaded).await;
    assert_eq!(rig.floor("system.slice"), Some(GIB), "its slice stays prepared");
    rig.systemd.production(WEB);
    rig.floors(GIB, GIB).await;
    rig.state(State::Held).await;
}

#[tokio::test(start_paused = true)]
async fn a_warden_that_starts_anew_still_gives_back_what_was_there() {
    let mut rig = Rig::with(node(Mode::Shadow, "")).await;
    rig.systemd.production(WEB);
    for file in ["memory.min", "memory.low"] {
        rig.systemd.meddle("web.service", file, "4096\n");
    }
    rig.replace(node(Mode::Enforce, PROTECT)).await;
    rig.floors(GIB, GIB).await;
    rig.kill().await;
    rig.restart(node(Mode::Off, PROTECT));
    // The slice's cgroup is known again only by its record: what is named nowhere is taken back all the same.
    rig.floors(0, 4096).await;
}

#[tokio::test(start_paused = true)]
async fn shadow_touches_no_floor_and_off_lets_go() {
    let rig = rig(Mode::Shadow).await;
    rig.state(State::LeftAlone).await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert_eq!(
        (rig.floor("system.slice"), rig.floor("web.service")),
        (Some(0), Some(0))
    );
    assert!(
        !rig.systemd.calls().iter().any(|call| call.starts_with("set")),
        "{:?}",
        rig.systemd.calls()
    );
    rig.replace(node(Mode::Enforce, PROTECT)).await;
    rig.floors(GIB, GIB).await;
    rig.replace(node(Mode::Off, PROTECT)).await;
    rig.floors(0, 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_s_higher_floor_stays() {
    let rig = Rig::with(node(Mode::Shadow, "")).await;
    rig.systemd.production(WEB);
    let higher = (2 * GIB).to_string();
    for file in ["memory.min", "memory.low"] {
        rig.systemd.meddle("web.service", file, &higher);
    }
    rig.replace(node(Mode::Enforce, PROTECT)).await;
    rig.floors(GIB, 2 * GIB).await;
    rig.replace(node(Mode::Enforce, "")).await;
    rig.floors(0, 2 * GIB).await;
}

#[tokio::test(start_paused = true)]
async fn each_failure_is_shown_and_tried_again() {
    for fault in [Fault::SetFails, Fault::FloorNotWritten, Fault::WhereFails] {
        let rig = Rig::with(node(Mode::Enforce, "")).await;
        rig.systemd.production(WEB);
        rig.snapshot().await;
        // The slices' own settings come first after a new policy; this one is for the floor.
        rig.systemd.fail(fault.clone());
        rig.systemd.fail(Fault::FloorNotWritten);
        rig.replace(node(Mode::Enforce, PROTECT)).await;
        rig.floors(GIB, GIB).await;
        rig.state(State::Held).await;
        assert_eq!(rig.receipts(), [], "{fault:?}: nobody took it off");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_written_sets_nothing() {
    let rig = Rig::with(node(Mode::Shadow, "")).await;
    rig.systemd.production(WEB);
    let record = rig.cgroup_root().parent().unwrap().join("floors.json");
    std::fs::create_dir(&record).unwrap();
    rig.replace(node(Mode::Enforce, PROTECT)).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(rig.floor("web.service"), Some(0));
    std::fs::remove_dir(&record).unwrap();
    rig.floors(GIB, GIB).await;
}
