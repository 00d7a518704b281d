//! The owner's io.cost against a kernel in memory: written, put back, taken back, each fault by name, and what follows
//! for the bandwidth that is held.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use loadline_policy::headroom::Decision;
use loadline_policy::io_cost::{Seen, State, Words};
use loadline_policy::node_policy::{Mode, NodePolicy};
use loadline_policy::settings::{BytesPerSecond, Pinning, Setpoints};

use super::rig::{Rig, topology};
use crate::host::disks::{self, Disk};
use crate::host::io_cost::{CostFiles, IoCostError, KernelCosts, MODEL, QOS};
use crate::host::root::HostRoot;
use crate::warden::reconciler::Node;
use crate::warden::wire::forge::Wanted;

/// What goes wrong next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CostFault {
    /// The files cannot be read.
    LookFails,
    /// The kernel refuses a line.
    WriteFails,
    /// The kernel takes a line and does nothing.
    Lost,
}

/// The files of a kernel that has io.cost, or has not, in the folder of a rig.
#[derive(Debug)]
pub(crate) struct FakeCosts {
    root: PathBuf,
    faults: Mutex<VecDeque<CostFault>>,
}

impl FakeCosts {
    pub(crate) fn new(root: PathBuf) -> Self {
        let faults = Mutex::default();
        Self { root, faults }
    }

    fn faults(&self) -> MutexGuard<'_, VecDeque<CostFault>> {
        self.faults.lock().unwrap()
    }

    fn fails(&self, fault: CostFault) -> bool {
        let mut faults = self.faults();
        let is_next = faults.front() == Some(&fault);
        if is_next {
            faults.pop_front();
        }
        is_next
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.join("sys/fs/cgroup").join(file)
    }

    /// One line of a file becomes another one.
    fn put(&self, file: &str, number: &str, line: &str) {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        let others = text.lines().filter(|line| !line.starts_with(number));
        let mut lines: Vec<String> = others.map(str::to_owned).collect();
        lines.push(format!("{number} {line}"));
        std::fs::write(self.path(file), lines.join("\n") + "\n").unwrap();
    }
}

impl CostFiles for FakeCosts {
    fn disks(&self) -> Vec<Disk> {
        disks::list(&HostRoot::new(&self.root))
    }

    fn look(&self) -> Result<Option<BTreeMap<String, Seen>>, IoCostError> {
        if self.fails(CostFault::LookFails) {
            return Err(IoCostError::Write {
                path: self.path(QOS),
                text: String::new(),
                source: io::Error::other("it cannot be read"),
            });
        }
        KernelCosts::new(HostRoot::new(&self.root)).look()
    }

    fn write(&self, disk: &str, words: &Words) -> Result<(), IoCostError> {
        if self.fails(CostFault::WriteFails) {
            return Err(IoCostError::Write {
                path: self.path(QOS),
                text: words.qos.clone(),
                source: io::Error::from_raw_os_error(95),
            });
        }
        if self.fails(CostFault::Lost) {
            return Ok(());
        }
        let disk = self.disks().into_iter().find(|known| known.name == disk).unwrap();
        self.put(MODEL, &disk.number, &format!("{} rbps=1", words.model));
        self.put(QOS, &disk.number, &format!("{} rlat=7", words.qos));
        Ok(())
    }
}

const COST: &str = r#"{ disk = "vda" }"#;

fn node(mode: Mode, costs: &str) -> Node {
    let text = format!("version = 1\n[io]\ncost = [{costs}]");
    let mut policy = NodePolicy::new(toml::from_str(&text).unwrap()).unwrap();
    policy.lend.mode = mode;
    Node::new(policy, topology(4), 0, Pinning::Cpuset)
}

impl Rig {
    fn put(&self, name: &str, text: &str) {
        let path = self.cgroup_root().parent().unwrap().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn file(&self, name: &str) -> String {
        let path = self.cgroup_root().parent().unwrap().join(name);
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// A machine with one disk, whose kernel has io.cost.
    fn with_disk(&self) {
        self.put("sys/block/vda/dev", "254:0\n");
        self.put("sys/block/vda/size", "8\n");
        self.put("sys/fs/cgroup/io.cost.qos", "");
        self.put("sys/fs/cgroup/io.cost.model", "");
    }

    fn qos(&self) -> String {
        self.file("sys/fs/cgroup/io.cost.qos")
    }

    fn io_max(&self) -> String {
        self.file("cgroup/loadline.slice/io.max")
    }

    async fn shows(&self, qos: &str) {
        self.eventually(format!("`{qos}`"), || (self.qos() == qos).then_some(()))
            .await;
    }

    async fn holds(&self, io_max: &str) {
        self.eventually(format!("io.max `{io_max}`"), || {
            (self.io_max() == io_max).then_some(())
        })
        .await;
    }

    /// How a disk stands, once it stands so.
    async fn cost(&self, disk: &str, wanted: State) -> String {
        let begun = tokio::time::Instant::now();
        loop {
            let cost = self.snapshot().await.costs.get(disk).cloned();
            match cost {
                Some(cost) if cost.state == wanted => return cost.problem,
                other => assert!(begun.elapsed().as_secs() < 300, "{other:?}, not {wanted:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A worker runs, and of the disk lent work has a limited bandwidth.
    async fn lends_bandwidth(&mut self) {
        self.with_disk();
        self.running(&Wanted::default()).await;
        let held = Decision {
            setpoints: Setpoints {
                io: Some(BytesPerSecond(5 << 20)),
                ..Setpoints::default()
            },
            ..Decision::default()
        };
        self.wanted.send_replace(Some(held));
        self.holds(LIMIT).await;
    }
}

const ON: &str = "254:0 enable=1 ctrl=auto rlat=7\n";
const OFF: &str = "254:0 enable=0 ctrl=auto rlat=7\n";
const LIMIT: &str = "254:0 rbps=5242880 wbps=5242880 riops=max wiops=max\n";

#[tokio::test(start_paused = true)]
async fn a_disk_goes_by_weight_while_node_toml_says_so_and_its_bandwidth_is_left_alone() {
    let mut rig = Rig::with(node(Mode::Enforce, "")).await;
    rig.lends_bandwidth().await;
    let problem = rig.snapshot().await.weights.problem;
    assert!(problem.is_some_and(|problem| problem.starts_with("io.cost is on for no disk")));

    rig.replace(node(Mode::Enforce, COST)).await;
    rig.shows(ON).await;
    rig.holds("").await;
    assert_eq!(rig.cost("vda", State::Held).await, "");
    let snapshot = rig.snapshot().await;
    assert_eq!(snapshot.weights.problem, None);
    let reading = &snapshot.limits["loadline.slice"];
    let io_max = reading.iter().find(|one| one.limit.file() == "io.max").unwrap();
    assert_eq!((io_max.actual.as_deref(), io_max.held), (Some("by weight"), true));

    rig.replace(node(Mode::Enforce, "")).await;
    rig.shows(OFF).await;
    rig.holds(LIMIT).await;
    assert_eq!(rig.receipts(), [], "all of it as the owner said");
    assert!(rig.snapshot().await.costs.is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_switches_it_on_bandwidth_is_left_alone() {
    let mut rig = Rig::with(node(Mode::Enforce, "")).await;
    rig.lends_bandwidth().await;
    rig.put(
        "sys/fs/cgroup/io.cost.qos",
        "254:0 enable=1 ctrl=user rpct=95.00\n",
    );
    rig.holds("").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(
        rig.qos(),
        "254:0 enable=1 ctrl=user rpct=95.00\n",
        "it is not ours to change"
    );
    rig.put("sys/fs/cgroup/io.cost.qos", OFF);
    rig.holds(LIMIT).await;
}

#[tokio::test(start_paused = true)]
async fn what_changes_it_is_put_right_with_a_receipt() {
    let rig = Rig::with(node(Mode::Enforce, "")).await;
    rig.with_disk();
    rig.replace(node(Mode::Enforce, COST)).await;
    rig.cost("vda", State::Held).await;
    rig.put("sys/fs/cgroup/io.cost.qos", OFF);
    rig.shows(ON).await;
    let told = rig
        .eventually("a receipt", || rig.receipts().into_iter().next())
        .await;
    assert_eq!(told.0, "limit_repaired");
    assert!(told.1.contains("on vda had been changed"), "{}", told.1);
}

#[tokio::test(start_paused = true)]
async fn a_warden_that_starts_anew_gives_back_what_was_there() {
    let mut rig = Rig::with(node(Mode::Shadow, "")).await;
    rig.with_disk();
    let users = "254:0 enable=0 ctrl=user rpct=1.00 rlat=7\n";
    rig.put(
        "sys/fs/cgroup/io.cost.qos",
        "254:0 enable=0 ctrl=user rpct=1.00\n",
    );
    rig.replace(node(Mode::Enforce, COST)).await;
    rig.shows(ON).await;
    rig.kill().await;
    rig.restart(node(Mode::Enforce, ""));
    rig.shows(users).await;
}

#[tokio::test(start_paused = true)]
async fn shadow_touches_nothing_and_off_lets_go() {
    let rig = Rig::with(node(Mode::Shadow, COST)).await;
    rig.with_disk();
    rig.cost("vda", State::LeftAlone).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.qos(), "");
    rig.replace(node(Mode::Enforce, COST)).await;
    rig.shows(ON).await;
    rig.replace(node(Mode::Off, COST)).await;
    rig.shows(OFF).await;
    assert_eq!(rig.cost("vda", State::LeftAlone).await, "");
}

#[tokio::test(start_paused = true)]
async fn each_failure_is_named_and_tried_again() {
    for (fault, why) in [
        (CostFault::WriteFails, "writing `enable=1 ctrl=auto` to "),
        (
            CostFault::Lost,
            "the kernel took `enable=1 ctrl=auto` and does not show it",
        ),
    ] {
        let rig = Rig::with(node(Mode::Enforce, "")).await;
        rig.with_disk();
        rig.costs.faults().push_back(fault);
        rig.replace(node(Mode::Enforce, COST)).await;
        let problem = rig.cost("vda", State::NotHeld).await;
        assert!(problem.starts_with(why), "{problem}");
        rig.shows(ON).await;
        assert_eq!(rig.cost("vda", State::Held).await, "");
        assert_eq!(rig.receipts(), [], "{fault:?}: nobody changed it");
    }
    let rig = Rig::with(node(Mode::Enforce, "")).await;
    rig.with_disk();
    rig.replace(node(Mode::Enforce, COST)).await;
    rig.shows(ON).await;
    // What cannot be read is not gone: nothing is written anew, and nothing is taken for meddling.
    for _ in 0..4 {
        rig.costs.faults().push_back(CostFault::LookFails);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    rig.cost("vda", State::Held).await;
    assert_eq!(rig.receipts(), []);
}

#[tokio::test(start_paused = true)]
async fn what_was_there_is_written_down_before_anything_is_changed() {
    let rig = Rig::with(node(Mode::Enforce, "")).await;
    rig.with_disk();
    let record = rig.cgroup_root().parent().unwrap().join("io-cost.json");
    std::fs::create_dir_all(record.join("in the way")).unwrap();
    rig.replace(node(Mode::Enforce, COST)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.qos(), "");
    std::fs::remove_dir_all(&record).unwrap();
    rig.shows(ON).await;
}

#[tokio::test(start_paused = true)]
async fn a_kernel_without_it_and_a_disk_that_is_not_there_are_said() {
    let rig = Rig::with(node(Mode::Enforce, r#"{ disk = "vdz" }"#)).await;
    let problem = rig.cost("vdz", State::NotThere).await;
    assert!(problem.starts_with("this kernel has no io.cost"), "{problem}");
    rig.with_disk();
    let problem = rig.cost("vdz", State::NoDisk).await;
    assert!(problem.contains("correct io.cost in node.toml"), "{problem}");
}
