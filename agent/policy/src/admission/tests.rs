use super::*;
use crate::line::{Line, ProductionUse};
use crate::node_policy::{CpusetChoice, LocalTime, Weekday, Window, WindowZone};
use crate::sample;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use loadline_model::{Bytes, CpuRequest, JobDraft, JobSpec, MilliCpu, Topology, WorkerRequest};

struct Node {
    topology: Topology,
    policy: NodePolicy,
    production: ProductionUse,
    pinning: Pinning,
    allocation: Allocation,
    minute: u16,
    gpus_held: u32,
}

impl Node {
    /// 4 CPUs and 8 GiB: the line is 2200m and 6.4 GiB, CPUs 1 to 3.
    fn new() -> Self {
        let topology = sample::machine(1, 4, 1, 8);
        let policy = NodePolicy::default();
        let line = Line::fixed(&topology, 0, &policy);
        Self {
            topology,
            policy,
            production: ProductionUse::default(),
            pinning: Pinning::Cpuset,
            allocation: Allocation::new(line.lendable),
            minute: 0,
            gpus_held: 0,
        }
    }

    fn check(&self, order: &WorkOrder, account: &Account) -> Result<(), Refusal> {
        let line = Line::new(&self.topology, 0, &self.policy, &self.production);
        let node = LocalTime {
            day: Weekday::Mon,
            minute: self.minute,
        };
        let admission = Admission {
            policy: &self.policy,
            local: &LocalTimes {
                node,
                zones: BTreeMap::new(),
            },
            machine: Machine {
                topology: &self.topology,
                line: &line,
                pinning: &self.pinning,
            },
            allocation: &self.allocation,
            standard_held: self.standard_held(),
            gpus_held: self.gpus_held,
        };
        admission.check(order, account)
    }

    /// All that is held is, but for the attempts from 100 on.
    fn standard_held(&self) -> (MilliCpu, Bytes) {
        let holdings = self.allocation.holdings().iter();
        let standard = holdings.filter(|(attempt, _)| **attempt < sample::attempt(100));
        standard.fold((MilliCpu::ZERO, Bytes::ZERO), |(cpu, memory), (_, holding)| {
            (cpu.plus(holding.amount), memory.plus(holding.memory))
        })
    }

    fn refuses(&self, order: &WorkOrder, account: &Account) -> (bool, String) {
        let refusal = self.check(order, account).unwrap_err();
        (refusal.for_good, refusal.sentence)
    }
}

fn alice() -> Account {
    Account::Known {
        uid: 1000,
        groups: ["users".into()].into(),
    }
}

fn order(tier: Tier, cpus: CpuRequest, memory: Bytes) -> WorkOrder {
    sample::order(1, sample::spec(tier, cpus, memory))
}

fn small() -> WorkOrder {
    order(
        Tier::Standard,
        CpuRequest::Shared(MilliCpu(500)),
        Bytes::from_gib(1),
    )
}

#[test]
fn who_may_not_is_refused_for_good_by_name() {
    let mut node = Node::new();
    node.policy.lend.allow_teams = ["ops".into()].into();
    let known = |uid, group: &str| Account::Known {
        uid,
        groups: [group.into()].into(),
    };
    let cases = [
        (
            Account::Missing,
            "the account `alice` does not exist on this node",
        ),
        (known(0, "root"), "`alice` is root, and root is never lent to"),
        (
            known(999, "users"),
            "`alice` has uid 999, below the 1000 that this node's policy asks for (lend.uid_min)",
        ),
        (
            known(1000, "docker"),
            "`alice` is in the group `docker`, which this node's policy refuses (lend.deny_groups)",
        ),
        (
            known(1000, "users"),
            "`alice` is in the team `research`, and this node lends only to some teams (lend.allow_teams)",
        ),
    ];
    for (account, sentence) in cases {
        assert_eq!(node.refuses(&small(), &account), (true, sentence.into()));
    }
    node.policy.lend.allow_teams.insert("research".into());
    assert_eq!(node.check(&small(), &alice()), Ok(()));
}

#[test]
fn root_is_refused_whatever_the_policy_says() {
    let mut node = Node::new();
    node.policy.lend.uid_min = 0;
    node.policy.lend.deny_groups.clear();
    let root = Account::Known {
        uid: 0,
        groups: BTreeSet::new(),
    };
    assert_eq!(
        node.refuses(&small(), &root).1,
        "`alice` is root, and root is never lent to"
    );
}

#[test]
fn what_never_fits_is_refused_for_good() {
    let node = Node::new();
    let cases = [
        (
            order(Tier::Standard, CpuRequest::Exclusive(3), Bytes::from_gib(1)),
            "it asks for 3 CPUs of its own and this node lends at most 2",
        ),
        (
            order(
                Tier::Standard,
                CpuRequest::Shared(MilliCpu(2500)),
                Bytes::from_gib(1),
            ),
            "it asks for 2500m CPUs and this node lends 2200m at most",
        ),
        (
            order(Tier::Burst, CpuRequest::Exclusive(3), Bytes::from_gib(1)),
            "it asks for 3 CPUs and this node lends 2200m at most",
        ),
        (
            order(Tier::Standard, CpuRequest::Exclusive(1), Bytes::from_gib(7)),
            "it asks for 7GiB of memory and this node lends 6.4GiB at most",
        ),
    ];
    for (order, sentence) in cases {
        assert_eq!(node.refuses(&order, &alice()), (true, sentence.into()));
    }
    let worker = WorkerRequest {
        cpus: CpuRequest::Exclusive(1),
        memory: Bytes::from_gib(1),
        gpus: 1,
    };
    let draft = sample::draft(Tier::Standard, worker.cpus, worker.memory);
    let gpu = sample::order(1, JobSpec::new(JobDraft { worker, ..draft }).unwrap());
    assert_eq!(
        node.refuses(&gpu, &alice()),
        (true, "it asks for 1 GPUs and this node lends 0 at most".into())
    );
}

#[test]
fn what_a_node_cannot_hold_is_refused_for_good() {
    let node = Node::new();
    let draft = sample::draft(Tier::Standard, CpuRequest::Exclusive(1), Bytes::from_gib(1));
    let mut share = draft.clone();
    share.worker.gpus = 1;
    share.needs.gpu_share = Some(loadline_model::PerMille(500));
    let mut scratch = draft;
    scratch.needs.scratch = Bytes::from_gib(10);
    for (draft, sentence) in [
        (
            share,
            "it asks for 50% of a GPU, and this node lends whole GPUs only",
        ),
        (
            scratch,
            "it asks for 10GiB of scratch space, and this node lends none",
        ),
    ] {
        let order = sample::order(1, JobSpec::new(draft).unwrap());
        assert_eq!(node.refuses(&order, &alice()), (true, sentence.into()));
    }
}

#[test]
fn a_node_that_cannot_pin_refuses_exclusive_cpus_by_name() {
    let mut node = Node::new();
    node.policy.cpuset = CpusetChoice::Auto;
    node.pinning = Pinning::WeightsOnly {
        why: "pid 42 (postgres, postgresql.service) runs on CPU 1 only".into(),
    };
    let own = order(Tier::Standard, CpuRequest::Exclusive(1), Bytes::from_gib(1));
    assert_eq!(
        node.refuses(&own, &alice()),
        (
            true,
            "this node gives no CPUs of one's own: pid 42 (postgres, postgresql.service) runs on CPU 1 only"
                .into()
        )
    );
    assert_eq!(node.check(&small(), &alice()), Ok(()));
}

#[test]
fn modes_and_windows_refuse_for_now() {
    let mut node = Node::new();
    node.policy.lend.windows = Vec::from([Window {
        days: "Mon-Fri".parse().unwrap(),
        from: "19:00".parse().unwrap(),
        to: "24:00".parse().unwrap(),
        zone: WindowZone::Node,
    }]);
    assert_eq!(
        node.refuses(&small(), &alice()),
        (
            false,
            "this node lends only in its windows, and none is open now".into()
        )
    );
    node.minute = 20 * 60;
    assert_eq!(node.check(&small(), &alice()), Ok(()));
    for (mode, sentence) in [
        (Mode::Off, "this node lends nothing: its mode is `off`"),
        (Mode::Shadow, "this node only watches: its mode is `shadow`"),
    ] {
        node.policy.lend.mode = mode;
        assert_eq!(node.refuses(&small(), &alice()), (false, sentence.into()));
    }
}

#[test]
fn what_others_hold_is_refused_for_now() {
    let mut node = Node::new();
    let line = Line::fixed(&node.topology, 0, &node.policy);
    let machine = Machine {
        topology: &node.topology,
        line: &line,
        pinning: &Pinning::Cpuset,
    };
    let held = WorkerRequest {
        cpus: CpuRequest::Exclusive(2),
        memory: Bytes::from_gib(6),
        gpus: 0,
    };
    node.allocation
        .grant(machine, sample::attempt(9), Tier::Standard, &held)
        .unwrap();
    assert_eq!(
        node.refuses(&small(), &alice()),
        (
            false,
            "it asks for 500m CPUs and this node lends 200m now (the free part of its firm line)".into()
        )
    );
    let tiny = order(
        Tier::Standard,
        CpuRequest::Shared(MilliCpu(100)),
        Bytes::from_gib(1),
    );
    let (for_good, sentence) = node.refuses(&tiny, &alice());
    assert!(
        !for_good && sentence.starts_with("it asks for 1GiB of memory"),
        "{sentence}"
    );
}

#[test]
fn burst_follows_the_line_of_now_and_standard_the_firm_one() {
    let mut node = Node::new();
    node.production.cpu = MilliCpu(3000); // 4000 - 3000 - 800 = 200m now, 2200m firm
    let ask = |tier| order(tier, CpuRequest::Shared(MilliCpu(500)), Bytes::from_gib(1));
    assert_eq!(node.check(&ask(Tier::Standard), &alice()), Ok(()));
    let (for_good, sentence) = node.refuses(&ask(Tier::Burst), &alice());
    assert!(!for_good);
    assert_eq!(
        sentence,
        "it asks for 500m CPUs and this node lends 200m now (the free part of its line of now)"
    );
}

/// What a week at 1600m takes: 4000 - 1840 - 800 = 1360m.
const SINCE: &str = "99 % of the time production used up to 1600m CPUs in its last week";

#[test]
fn production_s_week_refuses_standard_work_for_now_and_says_so() {
    let mut node = Node::new();
    node.production.cpu_week = Some(MilliCpu(1600));
    let ask = |tier, cpu| order(tier, CpuRequest::Shared(MilliCpu(cpu)), Bytes::from_gib(1));
    assert_eq!(node.check(&ask(Tier::Standard, 1350), &alice()), Ok(()));
    assert_eq!(
        node.refuses(&ask(Tier::Standard, 1400), &alice()),
        (
            false,
            format!(
                "it asks for 1400m CPUs and this node lends 1360m at most to standard work: {SINCE}; burst work goes by \
                 what is free at the moment"
            )
        )
    );
    assert_eq!(node.check(&ask(Tier::Burst, 2200), &alice()), Ok(()));
    assert!(
        node.refuses(&ask(Tier::Standard, 2300), &alice()).0,
        "more than the static line"
    );
    let two = order(Tier::Standard, CpuRequest::Exclusive(2), Bytes::from_gib(1));
    let (for_good, sentence) = node.refuses(&two, &alice());
    assert!(
        !for_good
            && sentence
                .starts_with("it asks for 2 CPUs of its own and this node lends 1 at most to standard"),
        "{sentence}"
    );
    node.production.memory_week = Some(Bytes::from_gib(8));
    let (for_good, sentence) = node.refuses(&small(), &alice());
    assert!(
        !for_good
            && sentence.contains("lends 0B at most to standard work: ")
            && sentence.contains(" and 8GiB of memory"),
        "{sentence}"
    );
}

#[test]
fn burst_takes_nothing_of_the_firm_line_but_what_both_may_have_together() {
    let mut node = Node::new();
    node.production.cpu_week = Some(MilliCpu(1600));
    let line = Line::new(&node.topology, 0, &node.policy, &node.production);
    let machine = Machine {
        topology: &node.topology,
        line: &line,
        pinning: &Pinning::Cpuset,
    };
    let shared = |cpu| WorkerRequest {
        cpus: CpuRequest::Shared(MilliCpu(cpu)),
        memory: Bytes::from_mib(64),
        gpus: 0,
    };
    let ask = |cpu| {
        order(
            Tier::Standard,
            CpuRequest::Shared(MilliCpu(cpu)),
            Bytes::from_mib(64),
        )
    };
    node.allocation
        .grant(machine, sample::attempt(100), Tier::Burst, &shared(1200))
        .unwrap();
    assert_eq!(node.check(&ask(950), &alice()), Ok(()), "2200m of both together");
    let (for_good, sentence) = node.refuses(&ask(1050), &alice());
    assert!(
        !for_good && sentence.contains("lends 1 now (the free part of its firm line: "),
        "{sentence}"
    );
    node.allocation
        .grant(machine, sample::attempt(1), Tier::Standard, &shared(1000))
        .unwrap();
    node.allocation.release(sample::attempt(100));
    assert_eq!(
        node.refuses(&ask(400), &alice()).1,
        format!(
            "it asks for 400m CPUs and this node lends 360m now (the free part of its firm line: {SINCE})"
        )
    );
}
