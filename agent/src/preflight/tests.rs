use super::*;
use crate::host::affinity::NarrowedProcess;
use loadline_model::{Bytes, NumaNode, Thread, Topology};
use loadline_policy::node_policy::{Protect, ReserveCpus};

fn good() -> HostFacts {
    let thread = |cpu| Thread {
        cpu,
        core: cpu,
        l3: 0,
        numa: 0,
        socket: 0,
    };
    let node = NumaNode {
        id: 0,
        memory: Bytes::from_gib(4),
    };
    HostFacts {
        kernel: "6.12.48+deb13-cloud-amd64".into(),
        os: "Debian GNU/Linux 13 (trixie)".into(),
        init: Some("systemd".into()),
        controllers: Some(
            ["cpuset", "cpu", "io", "memory", "pids"]
                .map(ToOwned::to_owned)
                .into(),
        ),
        memory_recursiveprot: true,
        psi: true,
        capabilities: Vec::new(),
        swap_on: false,
        journal_namespaces: true,
        topology: Ok(Topology::new([0, 1].map(thread).into(), vec![node]).unwrap()),
        narrowed: Ok(Vec::new()),
    }
}

fn reached(systemd: &str) -> Bus {
    Bus::Reached {
        systemd: systemd.into(),
    }
}

fn missed(facts: &HostFacts, bus: &Bus) -> (Vec<&'static str>, bool) {
    let report = check(facts, bus, Ok(&NodePolicy::default()));
    (
        names_missed(&report).into_iter().collect(),
        report.passed().is_ok(),
    )
}

#[test]
fn a_good_host_misses_nothing() {
    let report = check(&good(), &reached("257.13-1~deb13u1"), Ok(&NodePolicy::default()));
    assert_eq!(
        (report.missed(), report.pinning.clone()),
        (vec![], Pinning::Cpuset)
    );
    assert!(
        report.table().ends_with("This host meets every requirement.\n"),
        "{}",
        report.table()
    );
}

#[test]
fn each_requirement_is_missed_by_name() {
    type Spoil = fn(&mut HostFacts);
    let without = |name: &'static str| {
        move |facts: &mut HostFacts| {
            facts.controllers.as_mut().unwrap().remove(name);
        }
    };
    let required: [(Spoil, &str); 7] = [
        (|facts| facts.kernel = "5.10.0-1".into(), "kernel"),
        (|facts| facts.kernel = "strange".into(), "kernel"),
        (|facts| facts.init = Some("init".into()), "systemd"),
        (|facts| facts.init = None, "systemd"),
        (|facts| facts.journal_namespaces = false, "journal-namespace"),
        (|facts| facts.topology = Err("x".into()), "topology"),
        (
            |facts| {
                facts.controllers.as_mut().unwrap().remove("pids");
            },
            "controllers",
        ),
    ];
    for (spoil, name) in required {
        let mut facts = good();
        spoil(&mut facts);
        assert_eq!(missed(&facts, &reached("252")), (vec![name], false));
    }
    for (name, wanted) in [("io", "io"), ("cpuset", "cpuset")] {
        let mut facts = good();
        without(name)(&mut facts);
        assert_eq!(missed(&facts, &reached("252")), (vec![wanted], true));
    }
    let mut facts = good();
    facts.psi = false;
    assert_eq!(missed(&facts, &reached("252")), (vec!["psi"], true));
    facts.controllers = None;
    assert_eq!(
        missed(&facts, &reached("252")).0,
        ["cgroup-v2", "controllers", "cpuset", "io", "psi"]
    );
}

#[test]
fn what_the_loop_cannot_use_is_named() {
    for (name, purpose, requirement) in [
        ("psi.memory", Purpose::Stalls, "psi"),
        ("psi.triggers", Purpose::Wakes, "psi-triggers"),
        ("preempt", Purpose::Preemption, "preemption"),
        ("io.max", Purpose::Disks, "io"),
        ("cpu.max", Purpose::Levers, "setpoints"),
        ("memory.reclaim", Purpose::Levers, "setpoints"),
    ] {
        let mut facts = good();
        facts.capabilities = vec![Capability {
            name,
            purpose,
            problem: Some("Permission denied".into()),
        }];
        assert_eq!(missed(&facts, &reached("252")), (vec![requirement], true));
        let report = check(&facts, &reached("252"), Ok(&NodePolicy::default()));
        let said = report.missed().join("");
        assert!(said.contains(&format!("{name}: Permission denied")), "{said}");
    }
}

#[test]
fn systemd_must_answer_and_be_new_enough() {
    for (bus, passes) in [
        (reached("252"), true),
        (reached("252.39-1~deb12u1"), true),
        (reached("251.4"), false),
        (reached("v252"), false),
        (
            Bus::Unreachable {
                error: "connection refused".into(),
            },
            false,
        ),
    ] {
        assert_eq!(missed(&good(), &bus).1, passes, "{bus:?}");
    }
}

#[test]
fn what_was_not_read_is_not_safe() {
    let mut facts = good();
    facts.narrowed = Err("reading process 7 failed".into());
    // A newer kernel does no harm in any case.
    assert_eq!(
        check(&facts, &reached("252"), Ok(&NodePolicy::default())).pinning,
        Pinning::Cpuset
    );
    facts.kernel = "6.1.0".into();
    let report = check(&facts, &reached("252"), Ok(&NodePolicy::default()));
    let why = "production's affinities cannot be read: reading process 7 failed".to_owned();
    assert_eq!(report.pinning, Pinning::WeightsOnly { why });
    facts.narrowed = Ok(Vec::new());
    assert_eq!(
        check(&facts, &reached("252"), Ok(&NodePolicy::default())).pinning,
        Pinning::Cpuset
    );
}

#[test]
fn the_policy_is_judged_too() {
    let bus = reached("252");
    let report = check(&good(), &bus, Err("/etc/loadline/node.toml has 2 mistakes"));
    assert_eq!(names_missed(&report), ["node-toml"].into());
    assert!(report.passed().is_ok(), "the warden runs and lends nothing");
    let mut policy = NodePolicy::default();
    policy.reserve.cpus = ReserveCpus::List("9".parse().unwrap());
    assert_eq!(
        check(&good(), &bus, Ok(&policy)).missed(),
        [
            "node.toml does not fit this machine: production.reserve.cpus: this machine has no CPU 9; its CPUs are \
             0-1: edit /etc/loadline/node.toml, then `systemctl reload loadline-warden`"
        ]
    );
    let mut facts = good();
    facts.memory_recursiveprot = false;
    let mut policy = NodePolicy::default();
    assert_eq!(check(&facts, &bus, Ok(&policy)).missed(), [""; 0]);
    policy.protect = vec![Protect {
        unit: "nginx.service".into(),
        memory: Some(Bytes::from_gib(1)),
        slo: None,
    }];
    assert_eq!(
        names_missed(&check(&facts, &bus, Ok(&policy))),
        ["memory-floors"].into()
    );
}

#[test]
fn the_report_is_shown_as_a_table_and_as_json() {
    let mut facts = good();
    facts.kernel = "6.1.0-25".into();
    let cpus = "1".parse().unwrap();
    let unit = Some("feed.service".to_owned());
    facts.narrowed = Ok(vec![NarrowedProcess {
        pid: 500,
        name: "feed".into(),
        unit,
        cpus,
    }]);
    let report = check(&facts, &reached("252.39"), Ok(&NodePolicy::default()));
    let table = report.table();
    assert!(
        table.contains("ok        kernel             Linux 6.1.0-25\n"),
        "{table}"
    );
    assert!(
        table.contains(
            "degraded  cpuset             weights only, no CPUs of one's own: pid 500 (feed, feed.service)"
        ),
        "{table}"
    );
    assert!(table.contains("-> use a kernel from 6.2 on"), "{table}");
    assert!(table.ends_with("Loadline runs on this host, with less where it says degraded.\n"));
    let json = report.json();
    assert_eq!(
        (&json["passed"], &json["pinning"]["mode"]),
        (&true.into(), &"weights_only".into())
    );
    let cpuset = json["requirements"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["name"] == "cpuset")
        .unwrap();
    assert_eq!(
        (&cpuset["satisfied"], &cpuset["need"]),
        (&false.into(), &"degraded".into())
    );
    facts.kernel = "4.19".into();
    let failed = check(&facts, &reached("252.39"), Ok(&NodePolicy::default()));
    assert!(failed.table().ends_with("Loadline cannot run on this host.\n"));
    assert_eq!(
        failed.passed().unwrap_err().to_string(),
        "this host lacks what Loadline requires: the kernel is `4.19`, older than 5.14: use Debian 12, Ubuntu 24.04, \
         RHEL 9 or newer; `loadline-warden check` shows everything"
    );
}
