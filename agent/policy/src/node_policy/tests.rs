mod slo;

use super::*;
use loadline_model::{NumaNode, Span, Thread};

fn policy(text: &str) -> Result<NodePolicy, PolicyMistakes> {
    NodePolicy::new(toml::from_str(text).unwrap())
}

fn mistakes(text: &str) -> Vec<String> {
    policy(text)
        .unwrap_err()
        .0
        .iter()
        .map(ToString::to_string)
        .collect()
}

const FULL: &str = r#"
version = 1
[lend]
mode = "enforce"
windows = [{ days = "Mon-Fri", from = "19:00", to = "07:00" }]
allow_teams = []
uid_min = 1000
deny_groups = ["docker", "lxd", "disk", "sudo", "wheel"]
[pinning]
cpuset = "auto"
[production]
protect = [{ unit = "nginx.service", memory = "2GiB", slo = { http = "http://127.0.0.1/health", p99 = "20ms" } }]
reserve = { cpus = 1, memory = "8GiB", gpus = 0 }
headroom = { cpu = "20%", memory = "10%" }
[x-newer]
anything = { goes = true }
"#;

#[test]
fn the_design_example_is_valid() {
    let policy = policy(FULL).unwrap();
    assert_eq!(policy.lend.windows.len(), 1);
    assert_eq!(policy.reserve.memory, ReserveMemory::Amount(Bytes::from_gib(8)));
    let slo = policy.protect[0].slo.as_ref().unwrap();
    assert_eq!(
        (slo.target, &slo.probe),
        (
            SloTarget::P99(Span::from_millis(20)),
            &Probe::Http(HttpUrl {
                address: "127.0.0.1:80".into(),
                host: "127.0.0.1".into(),
                path: "/health".into(),
            })
        )
    );
    assert!(policy.zones().is_empty());
}

#[test]
fn a_bare_file_means_the_defaults() {
    let bare = policy("version = 1").unwrap();
    assert_eq!(bare, NodePolicy::default());
    assert_eq!((bare.lend.mode, bare.lend.uid_min), (Mode::Enforce, 1000));
    assert_eq!(bare.reserve.cpus, ReserveCpus::Count(1));
    assert_eq!(bare.reserve.memory, ReserveMemory::Share(PerMille(100)));
    assert_eq!(
        (bare.headroom.cpu, bare.headroom.memory),
        (PerMille(200), PerMille(100))
    );
}

#[test]
fn every_mistake_is_reported_at_once_with_its_key() {
    let found = mistakes(
        r#"
colour = "red"
[lend]
mode = "on"
uid_mim = 3
deny_groups = ["a", 4, ""]
windows = [{ days = "Foo", from = "25:00", to = "07:00" }, { from = "07:00", to = "07:00" }, 3]
[production]
reserve = { cpus = -1, memory = "8G", gpus = 65 }
headroom = { cpu = "120%" }
protect = [{ memory = "1GiB" }, { unit = "loadline.slice" }, { unit = "nginx" }]
"#,
    );
    let keys: Vec<&str> = found
        .iter()
        .map(|text| text.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        keys,
        [
            "version",
            "lend.mode",
            "lend.windows[2]",
            "lend.windows[0].days",
            "lend.windows[0].from",
            "lend.windows[1].from",
            "lend.deny_groups[1]",
            "lend.deny_groups[2]",
            "lend.uid_mim",
            "production.protect[0].unit",
            "production.protect[1].unit",
            "production.protect[2].unit",
            "production.reserve.cpus",
            "production.reserve.memory",
            "production.reserve.gpus",
            "production.headroom.cpu",
            "colour",
        ]
    );
    assert!(found.contains(&"lend.uid_mim: unknown key; did you mean `uid_min`?".to_string()));
    assert!(found.contains(&"lend.mode: `on` is none of \"off\", \"shadow\", \"enforce\"".to_string()));
}

#[test]
fn each_rule_refuses_with_one_sentence() {
    let cases = [
        (
            "version = 2",
            "version: 2 is not known here; this Loadline reads version 1",
        ),
        ("version = \"1\"", "version: must be the number 1"),
        ("version = 1\nlend = 3", "lend: must be a table, not a number"),
        (
            "version = 1\n[lend]\nuid_min = 0",
            "lend.uid_min: must be 1 or more: root is never lent to",
        ),
        (
            "version = 1\n[lend]\nuid_min = -5",
            "lend.uid_min: must be 1 or more: root is never lent to",
        ),
        (
            "version = 1\n[lend]\nuid_min = 1.5",
            "lend.uid_min: must be a whole number, not a number with a point",
        ),
        (
            "version = 1\n[lend]\nallow_teams = \"a\"",
            "lend.allow_teams: must be a list like `[ … ]`, not a text",
        ),
        (
            "version = 1\n[lend]\nwindows = [{ from = \"07:00\" }]",
            "lend.windows[0].from: a window needs both `from` and `to`",
        ),
        (
            "version = 1\n[pinning]\ncpuset = \"yes\"",
            "pinning.cpuset: `yes` is none of \"auto\", \"always\", \"never\"",
        ),
        (
            "version = 1\n[pinning]\ncpus = 3",
            "pinning.cpus: unknown key; known here: `cpuset`",
        ),
        (
            "version = 1\n[production.reserve]\ncpus = \"\"",
            "production.reserve.cpus: must be a number of CPUs like 1, or a list like \"0-3\"",
        ),
        (
            "version = 1\n[production.reserve]\ncpus = \"3-1\"",
            "production.reserve.cpus: `3-1` is not a list of CPUs like \"0-3,8\" with numbers up to 8191",
        ),
        (
            "version = 1\n[production.reserve]\nmemory = 8",
            "production.reserve.memory: must be a text in quotes, not a number",
        ),
        (
            "version = 1\nx-y = 3",
            "x-y: unknown key; known here: `version`, `lend`, `pinning`, `io`, `production`",
        ),
        (
            "version = 1\n[production]\nprotect = [{ unit = \"a.service\", slo = { http = \"x\", p99 = \"1s\" } }]",
            "production.protect[0].slo.http: `x` is not a URL that begins with http://",
        ),
        (
            "version = 1\n[production]\nprotect = [{ unit = \"a.service\", slo = { tcp = \"a:1\" } }]",
            "production.protect[0].slo.p99: is missing: within which time do 99 of 100 answers come, like \"20ms\"?",
        ),
        (
            "version = 1\n[production]\nprotect = [{ unit = \"a.service\", slo = { p99 = \"1s\" } }]",
            "production.protect[0].slo.http: say one of `http = \"http://…\"`, `tcp = \"host:port\"`, `scrape = \"http://…\"`, `promql = \"http://…\"` or `push = true`",
        ),
    ];
    for (text, sentence) in cases {
        assert_eq!(mistakes(text), [sentence], "{text}");
    }
}

#[test]
fn what_the_machine_lacks_is_named() {
    let thread = |cpu| Thread {
        cpu,
        core: cpu,
        l3: 0,
        numa: 0,
        socket: 0,
    };
    let memory = NumaNode {
        id: 0,
        memory: Bytes::from_gib(4),
    };
    let topology = Topology::new([0, 1].map(thread).into(), [memory].into()).unwrap();
    let policy = policy(
        r#"
version = 1
[production]
reserve = { cpus = "0,8-9", memory = "5GiB" }
protect = [{ unit = "a.service", memory = "3GiB" }, { unit = "b.service", memory = "3GiB" }]
"#,
    )
    .unwrap();
    let found: Vec<String> = policy
        .mistakes_on(&topology)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found,
        [
            "production.reserve.cpus: this machine has no CPU 8-9; its CPUs are 0-1",
            "production.reserve.memory: 5GiB is more than the 4GiB of this machine",
            "production.protect: the floors add up to 6GiB, more than the 4GiB of this machine",
        ]
    );
    assert!(NodePolicy::default().mistakes_on(&topology).is_empty());
}

#[test]
fn disks_that_go_by_weight_are_read_with_every_mistake() {
    let text = r#"version = 1
[io]
cost = [
    { disk = "vda", model = "rbps=1000 rseqiops=200 rrandiops=100 wbps=900 wseqiops=180 wrandiops=90" },
    { disk = "nvme0n1", qos = "rpct=95 rlat=5000 wpct=95 wlat=5000 min=50 max=150" },
]
"#;
    let policy = NodePolicy::new(toml::from_str(text).unwrap()).unwrap();
    let disks: Vec<(&str, bool, bool)> = policy
        .io_cost
        .iter()
        .map(|cost| (cost.disk.as_str(), cost.model.is_some(), cost.qos.is_some()))
        .collect();
    assert_eq!(disks, [("vda", true, false), ("nvme0n1", false, true)]);
    let text = r#"version = 1
[io]
coast = []
cost = [{ disk = "/dev/vda" }, { qos = "min=5" }, { disk = "vda", modal = "" }, { disk = "vda" }]
"#;
    let mistakes = NodePolicy::new(toml::from_str(text).unwrap()).unwrap_err();
    let keys: Vec<&str> = mistakes.0.iter().map(|mistake| mistake.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "io.cost[0].disk",
            "io.cost[1].qos",
            "io.cost[1].disk",
            "io.cost[2].modal",
            "io.cost[3].disk",
            "io.coast",
        ],
        "{mistakes}"
    );
}
