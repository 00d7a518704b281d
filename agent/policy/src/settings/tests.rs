use super::*;
use crate::line::ProductionUse;
use crate::node_policy::NodePolicy;
use crate::sample;
use alloc::string::ToString;
use alloc::vec::Vec;
use loadline_model::{CpuRequest, NumaNode, Thread, Topology};

fn line() -> Line {
    let thread = |cpu| Thread {
        cpu,
        core: cpu,
        l3: 0,
        numa: 0,
        socket: 0,
    };
    let memory = NumaNode {
        id: 0,
        memory: Bytes::from_gib(10),
    };
    let topology = Topology::new((0..4).map(thread).collect(), [memory].into()).unwrap();
    Line::new(&topology, 0, &NodePolicy::default(), &ProductionUse::default())
}

fn spec(tier: Tier, cpus: CpuRequest) -> JobSpec {
    sample::spec(tier, cpus, Bytes::from_mib(64))
}

fn id() -> AttemptId {
    "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap()
}

fn held_worker(settings: &WorkerSettings) -> Observed {
    let CpuWeight::Weight(weight) = settings.cpu_weight else {
        panic!("a standard worker")
    };
    Observed {
        cpus_effective: settings.allowed_cpus.clone(),
        mems_effective: settings.allowed_memory_nodes.clone(),
        cpu_idle: Some(false),
        cpu_weight: Some(u64::from(weight)),
        cpu_max: Some(Limit::Max),
        io_weight: None,
        io_max: None,
        memory_high: Some(settings.memory_high),
        memory_max: Some(settings.memory_max),
        memory_swap_max: Some(settings.memory_swap_max),
        memory_oom_group: Some(true),
        pids_max: Some(settings.tasks_max),
        told: Told::default(),
    }
}

fn worker() -> WorkerSettings {
    let spec = spec(Tier::Standard, CpuRequest::Exclusive(2));
    worker_settings(
        id(),
        &spec,
        Some("1-2".parse().unwrap()),
        Some("0".parse().unwrap()),
    )
}

fn missed(settings: &WorkerSettings, change: impl FnOnce(&mut Observed)) -> Vec<String> {
    let mut observed = held_worker(settings);
    change(&mut observed);
    compare(settings, &observed)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn the_slices_hold_the_line() {
    let [root, standard, burst] =
        slice_settings(&line(), &Pinning::Cpuset, &Setpoints::default(), Bytes::ZERO);
    assert_eq!(root.allowed_cpus.as_ref().unwrap().to_string(), "1-3");
    assert_eq!(root.cpu_quota, Limit::At(MilliCpu(2200)));
    assert_eq!((root.cpu_weight, root.io_weight), (CpuWeight::Idle, Some(1)));
    let max = Bytes::from_gib(8);
    assert_eq!(
        (root.memory_max, root.memory_high),
        (Limit::At(max), Limit::At(max.minus(max.share(PerMille(20)))))
    );
    assert_eq!(root.memory_swap_max, Limit::At(Bytes::ZERO));
    assert_eq!(
        (standard.cpu_weight, burst.cpu_weight),
        (CpuWeight::Weight(100), CpuWeight::Idle)
    );
    assert_eq!(
        (standard.memory_max, standard.cpu_quota),
        (Limit::Max, Limit::Max)
    );
}

#[test]
fn promised_memory_is_not_taken_away_under_the_worker() {
    let held = Bytes::from_gib(9);
    let [root, ..] = slice_settings(&line(), &Pinning::Cpuset, &Setpoints::default(), held);
    assert_eq!(root.memory_max, Limit::At(held));
}

#[test]
fn setpoints_only_lower_and_floors_remain() {
    let set = |cpu, squeezed| Setpoints {
        cpu: Some(MilliCpu(cpu)),
        memory_high: Some(Bytes(1)),
        squeezed,
        ..Setpoints::default()
    };
    let [root, ..] = slice_settings(&line(), &Pinning::Cpuset, &set(9_000, Squeezed::No), Bytes::ZERO);
    assert_eq!(root.cpu_quota, Limit::At(MilliCpu(2200)));
    assert_eq!(root.memory_high, Limit::At(MEMORY_FLOOR));
    let [root, standard, burst] =
        slice_settings(&line(), &Pinning::Cpuset, &set(1, Squeezed::Burst), Bytes::ZERO);
    assert_eq!(root.cpu_quota, Limit::At(QUOTA_FLOOR));
    assert_eq!(
        (standard.cpu_quota, burst.cpu_quota),
        (Limit::Max, Limit::At(QUOTA_FLOOR))
    );
    // 252 keeps whole percents over a reload: 1234m would come back as 1230m.
    let [root, ..] = slice_settings(&line(), &Pinning::Cpuset, &set(1234, Squeezed::No), Bytes::ZERO);
    assert_eq!(root.cpu_quota, Limit::At(MilliCpu(1230)));
}

#[test]
fn a_weights_only_node_pins_nothing() {
    let pinning = Pinning::WeightsOnly { why: "x".into() };
    let all = slice_settings(&line(), &pinning, &Setpoints::default(), Bytes::ZERO);
    assert!(all.iter().all(|slice| slice.allowed_cpus.is_none()));
    let [root, ..] = &all;
    assert_eq!(root.cpu_quota, Limit::At(MilliCpu(2200)));
}

#[test]
fn every_worker_has_a_weight_and_a_task_limit() {
    let cases = [
        (Tier::Standard, CpuRequest::Exclusive(2), CpuWeight::Weight(200)),
        (
            Tier::Standard,
            CpuRequest::Shared(MilliCpu(500)),
            CpuWeight::Weight(50),
        ),
        (
            Tier::Standard,
            CpuRequest::Shared(MilliCpu(10)),
            CpuWeight::Weight(1),
        ),
        (
            Tier::Standard,
            CpuRequest::Exclusive(400),
            CpuWeight::Weight(10_000),
        ),
        (Tier::Burst, CpuRequest::Exclusive(2), CpuWeight::Idle),
    ];
    for (tier, cpus, weight) in cases {
        let settings = worker_settings(id(), &spec(tier, cpus), None, None);
        assert_eq!(settings.cpu_weight, weight, "{tier:?} {cpus}");
        assert_eq!(settings.slice, Slice::of(tier));
        assert!(matches!(settings.tasks_max, Limit::At(_)));
        assert_eq!(settings.memory_max, Limit::At(Bytes::from_mib(64)));
        assert_eq!(settings.memory_swap_max, Limit::At(Bytes::ZERO));
    }
}

#[test]
fn a_worker_as_it_was_meant_misses_nothing() {
    assert_eq!(missed(&worker(), |_| {}), [""; 0]);
    // Rounded down to pages of 4 or 64 KiB.
    let settings = WorkerSettings {
        memory_max: Limit::At(Bytes(100_000_001)),
        ..worker()
    };
    let page = |page: u64| {
        move |observed: &mut Observed| observed.memory_max = Some(Limit::At(Bytes(100_000_001 / page * page)))
    };
    assert_eq!(missed(&settings, page(4096)), [""; 0]);
    assert_eq!(missed(&settings, page(65_536)), [""; 0]);
}

#[test]
fn each_limit_that_is_not_held_is_named() {
    type Change = fn(&mut Observed);
    let cases: [(Change, &str); 11] = [
        (
            |o| o.cpus_effective = Some("0-3".parse().unwrap()),
            "cpuset.cpus.effective should be 1-2 and is 0-3",
        ),
        (
            |o| o.mems_effective = Some("0-1".parse().unwrap()),
            "cpuset.mems.effective should be 0 and is 0-1",
        ),
        (
            |o| o.cpu_idle = Some(true),
            "cpu.weight should be 200 and is idle",
        ),
        (
            |o| o.cpu_weight = Some(100),
            "cpu.weight should be 200 and is 100",
        ),
        (
            |o| o.memory_max = Some(Limit::Max),
            "memory.max should be 67108864 and is max",
        ),
        (
            |o| o.memory_max = Some(Limit::At(Bytes::from_mib(65))),
            "memory.max should be 67108864 and is 68157440",
        ),
        (
            |o| o.memory_max = Some(Limit::At(Bytes::from_mib(63))),
            "memory.max should be 67108864 and is 66060288",
        ),
        (
            |o| o.memory_high = Some(Limit::At(Bytes(4096))),
            "memory.high should be max and is 4096",
        ),
        (
            |o| o.memory_swap_max = Some(Limit::Max),
            "memory.swap.max should be 0 and is max",
        ),
        (
            |o| o.memory_oom_group = Some(false),
            "memory.oom.group should be 1 and is 0",
        ),
        (
            |o| o.pids_max = Some(Limit::At(9)),
            "pids.max should be 4096 and is 9",
        ),
    ];
    for (change, sentence) in cases {
        assert_eq!(missed(&worker(), change), [sentence]);
    }
}

#[test]
fn what_cannot_be_read_is_not_held() {
    let settings = worker();
    let mismatches = compare(&settings, &Observed::default());
    assert_eq!(mismatches.len(), readings(&settings, &Observed::default()).len());
    assert!(mismatches.iter().all(|mismatch| mismatch.actual.is_none()));
    assert_eq!(
        missed(&settings, |o| o.memory_max = None),
        ["memory.max should be 67108864 and could not be read"]
    );
}

#[test]
fn idle_shows_weight_zero_or_one() {
    let settings = worker_settings(
        id(),
        &spec(Tier::Burst, CpuRequest::Shared(MilliCpu(500))),
        None,
        None,
    );
    let observed = |idle, weight| Observed {
        cpu_idle: idle,
        cpu_weight: weight,
        ..held_worker(&worker())
    };
    for weight in [Some(0), Some(1), None] {
        assert_eq!(compare(&settings, &observed(Some(true), weight)), []);
    }
    for (idle, weight) in [(Some(false), Some(1)), (None, Some(0))] {
        let missed = compare(&settings, &observed(idle, weight));
        assert_eq!(missed.len(), 1);
        assert_eq!(missed[0].limit, LimitName::CpuWeight);
    }
}

#[test]
fn a_stretched_period_is_the_same_quota() {
    let [root, ..] = slice_settings(&line(), &Pinning::Cpuset, &Setpoints::default(), Bytes::ZERO);
    let quota = |milli, quota_us, period_us| {
        let settings = SliceSettings {
            cpu_quota: Limit::At(MilliCpu(milli)),
            ..root.clone()
        };
        let observed = Observed {
            cpu_max: Some(Limit::At(CpuMax { quota_us, period_us })),
            ..Observed::default()
        };
        compare(&settings, &observed)
            .iter()
            .all(|mismatch| mismatch.limit != LimitName::CpuMax)
    };
    assert!(quota(2200, 22_000, 10_000));
    assert!(quota(10, 1_000, 100_000), "1 % stretched");
    assert!(quota(90, 1_000, 11_111), "9 % stretched");
    assert!(!quota(90, 1_000, 10_000));
    assert!(!quota(2200, 0, 0));
    let unlimited = SliceSettings {
        cpu_quota: Limit::Max,
        ..root
    };
    let observed = Observed {
        cpu_max: Some(Limit::Max),
        ..Observed::default()
    };
    assert!(
        compare(&unlimited, &observed)
            .iter()
            .all(|mismatch| mismatch.limit != LimitName::CpuMax)
    );
}

#[test]
fn the_brake_writes_what_systemd_would_and_compares_shares() {
    for (milli, quota_us, period_us) in [
        (2200, 22_000, 10_000),
        (100, 1_000, 10_000),
        (90, 1_000, 11_111),
        (10, 1_000, 100_000),
    ] {
        assert_eq!(
            CpuMax::of(MilliCpu(milli)),
            CpuMax { quota_us, period_us },
            "{milli}"
        );
    }
    assert!(CpuMax::of(MilliCpu(600)).exceeds(CpuMax::of(MilliCpu(590))));
    assert!(!CpuMax::of(MilliCpu(90)).exceeds(CpuMax {
        quota_us: 9,
        period_us: 100
    }));
    assert!(!CpuMax::of(MilliCpu(50)).exceeds(CpuMax::of(MilliCpu(600))));
}

#[test]
fn setpoints_only_ever_lower_what_the_line_allows() {
    let most = MilliCpu(2205);
    let cpu = |cpu| Setpoints {
        cpu: Some(MilliCpu(cpu)),
        ..Setpoints::default()
    };
    let root = |setpoints: &Setpoints| cpu_quota(Slice::Root, most, setpoints);
    assert_eq!(root(&Setpoints::default()), Limit::At(MilliCpu(2200)));
    assert_eq!(root(&cpu(9000)), Limit::At(MilliCpu(2200)));
    assert_eq!(root(&cpu(615)), Limit::At(MilliCpu(610)));
    assert_eq!(root(&cpu(0)), Limit::At(QUOTA_FLOOR));
    let burst = Setpoints {
        squeezed: Squeezed::Burst,
        ..Setpoints::default()
    };
    assert_eq!(cpu_quota(Slice::Burst, most, &burst), Limit::At(QUOTA_FLOOR));
    assert_eq!(cpu_quota(Slice::Standard, most, &burst), Limit::Max);
    let all = Setpoints {
        squeezed: Squeezed::All,
        ..Setpoints::default()
    };
    assert_eq!(cpu_quota(Slice::Standard, most, &all), Limit::At(QUOTA_FLOOR));
}

#[test]
fn what_systemd_was_told_otherwise_is_missed_though_the_kernel_holds_it() {
    let setpoints = Setpoints {
        cpu: Some(MilliCpu(600)),
        ..Setpoints::default()
    };
    let [root, ..] = slice_settings(&line(), &Pinning::Cpuset, &setpoints, Bytes::ZERO);
    let Limit::At(high) = root.memory_high else {
        panic!("{root:?}");
    };
    let told = |cpu_quota, memory_high, kernel| {
        let observed = Observed {
            cpu_max: Some(Limit::At(CpuMax::of(MilliCpu(kernel)))),
            memory_high: Some(Limit::At(high)),
            told: Told {
                cpu_quota,
                memory_high,
            },
            ..Observed::default()
        };
        let missed = compare(&root, &observed);
        let seen = missed.iter().filter(|mismatch| mismatch.actual.is_some());
        seen.map(ToString::to_string).collect::<Vec<String>>()
    };
    let ours = (Some(Limit::At(MilliCpu(600))), Some(Limit::At(high)));
    assert_eq!(told(ours.0, ours.1, 600), [""; 0]);
    assert_eq!(told(None, None, 600), [""; 0], "not asked is not told otherwise");
    assert_eq!(
        told(Some(Limit::At(MilliCpu(4000))), ours.1, 600),
        ["cpu.max should be 600m and is 4000m in systemd"]
    );
    // Lower is a stranger's too.
    assert_eq!(
        told(Some(Limit::At(MilliCpu(100))), Some(Limit::Max), 600),
        [
            "cpu.max should be 600m and is 100m in systemd".to_owned(),
            format!("memory.high should be {} and is max in systemd", high.0),
        ]
    );
    assert_eq!(
        told(Some(Limit::Max), ours.1, 4000),
        ["cpu.max should be 600m and is 40000 10000"],
        "said once"
    );
}

#[test]
fn a_bandwidth_is_held_on_every_disk_that_does_not_go_by_weight_and_on_no_other() {
    let at = |rate| Limit::At(BytesPerSecond(rate));
    let over = |loosest, tightest| Some(Spread { loosest, tightest });
    let read = |intended: Limit<BytesPerSecond>, over, weighed| {
        let [mut root, ..] = slice_settings(&line(), &Pinning::Cpuset, &Setpoints::default(), Bytes::ZERO);
        root.io_bandwidth = intended;
        let observed = Observed {
            io_max: Some(IoMax { over, weighed }),
            ..Observed::default()
        };
        let all = readings(&root, &observed);
        let found = all.into_iter().find(|one| one.limit == LimitName::IoMax).unwrap();
        (found.held, found.actual.unwrap())
    };
    let max = Limit::Max;
    assert_eq!(read(at(7), over(at(7), at(7)), max), (true, "7".into()));
    assert_eq!(read(at(7), over(max, at(7)), max), (false, "7 to max".into()));
    assert_eq!(read(at(7), None, max), (true, "by weight".into()));
    assert_eq!(
        read(at(7), over(at(7), at(7)), at(7)),
        (false, "7, and 7 on a disk that goes by weight".into())
    );
    assert!(!read(max, None, at(7)).0);
}
