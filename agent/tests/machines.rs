//! Readings of three machines, from the kernel files kept under `fixtures`: a 2-CPU guest whose kernel has no NUMA
//! and no L3, a 4-CPU guest on 2 NUMA nodes with lent work on it, and a 2-socket server with one CPU offline.
#![allow(clippy::unwrap_used, reason = "an integration test program, its helpers too")]

use std::path::Path;

use loadline_model::{Bytes, CpuSet, Pressure, Span, Thread};
use loadline_node::host::facts::{HostFacts, KernelVersion, gather};
use loadline_node::host::root::HostRoot;
use loadline_node::host::{affinity, production, topology};
use loadline_node::preflight::{Bus, Report, check, names_missed};
use loadline_policy::node_policy::{CpusetChoice, NodePolicy};
use loadline_policy::settings::Pinning;

fn machine(name: &str) -> HostRoot {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    assert!(folder.is_dir(), "no fixture {}", folder.display());
    HostRoot::new(folder)
}

fn threads(name: &str) -> Vec<Thread> {
    topology::read(&machine(name)).unwrap().threads().to_vec()
}

fn thread(cpu: u32, core: u32, l3: u32, numa: u32, socket: u32) -> Thread {
    Thread {
        cpu,
        core,
        l3,
        numa,
        socket,
    }
}

#[test]
fn a_kernel_without_numa_has_one_node_with_all_memory() {
    let topology = topology::read(&machine("vm-2cpu")).unwrap();
    assert_eq!(topology.threads(), [thread(0, 0, 0, 0, 0), thread(1, 1, 0, 0, 0)]);
    assert_eq!(topology.memory(), Bytes(2_014_264 * 1024));
    assert_eq!(topology.numa_nodes().len(), 1);
}

#[test]
fn numa_nodes_and_their_memory() {
    let topology = topology::read(&machine("vm-4cpu-2numa")).unwrap();
    assert_eq!(threads("vm-4cpu-2numa")[2], thread(2, 2, 2, 1, 1));
    let memory: Vec<Bytes> = topology.numa_nodes().iter().map(|node| node.memory).collect();
    assert_eq!(memory, [Bytes(1_009_000 * 1024), Bytes(1_005_000 * 1024)]);
    assert_eq!(topology.counts(), (2, 2, 4));
}

#[test]
fn a_server_with_threads_caches_and_a_cpu_that_is_off() {
    let topology = topology::read(&machine("server-2socket")).unwrap();
    assert_eq!(topology.cpus().to_string(), "0-14");
    assert_eq!(topology.counts(), (2, 4, 8));
    assert_eq!(topology.threads()[11], thread(11, 3, 2, 0, 0));
    assert_eq!(
        topology.threads()[7],
        thread(7, 7, 6, 1, 1),
        "its sibling 15 is off"
    );
    assert_eq!(topology.cpus_of_numa(1).to_string(), "4-7,12-14");
}

#[test]
fn a_folder_without_cpus_says_which_file_is_missing() {
    let empty = tempfile::tempdir().unwrap();
    let error = topology::read(&HostRoot::new(empty.path())).unwrap_err();
    let expected = format!(
        "reading {}/sys/devices/system/cpu/online failed",
        empty.path().display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn this_machine_can_be_read() {
    let topology = topology::read(&HostRoot::default()).unwrap();
    assert!(!topology.cpus().is_empty() && topology.memory() > Bytes::from_mib(64));
}

fn narrowed(name: &str) -> Vec<String> {
    let root = machine(name);
    let online = topology::read(&root).unwrap().cpus();
    affinity::narrowed(&root, &online)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn processes_that_chose_their_cpus_are_named() {
    assert_eq!(
        narrowed("vm-2cpu"),
        ["pid 500 (feed, feed.service) runs on CPU 1 only"]
    );
    // Not: kernel threads, lent work, what a cpuset confines. But: single threads of a process.
    assert_eq!(
        narrowed("server-2socket"),
        [
            "pid 900 (postgres, postgresql.service) runs on CPU 4,12 only",
            "pid 1200 (dpdk, dpdk@0.service) runs on CPU 2,10 only",
            "pid 1300 (loop, session-3.scope) runs on CPU 5 only",
            "pid 1301 (loop, session-3.scope) runs on CPU 6 only",
        ]
    );
}

#[test]
fn a_process_that_cannot_be_read_is_no_pass() {
    let root = tempfile::tempdir().unwrap();
    let process = root.path().join("proc/7");
    std::fs::create_dir_all(&process).unwrap();
    // A folder where a file should be: it is there, and cannot be read.
    std::fs::create_dir(process.join("cgroup")).unwrap();
    let online: CpuSet = "0-1".parse().unwrap();
    let error = affinity::narrowed(&HostRoot::new(root.path()), &online).unwrap_err();
    assert_eq!(error.to_string(), "reading process 7 failed");
}

#[test]
fn production_is_everything_but_lent_work() {
    let usage = production::usage(&machine("vm-4cpu-2numa"));
    assert_eq!(
        (usage.cpu_all, usage.cpu_lent),
        (Some(Span(90_000_000)), Some(Span(30_000_000)))
    );
    // Used is 2014000 - 1500000 KiB; lent work holds 300 MiB, of which 124 MiB can be dropped.
    let used = (2_014_000 - 1_500_000) * 1024;
    assert_eq!(
        usage.memory_production,
        Some(Bytes(used - (300 - 124) * (1 << 20)))
    );
    assert_eq!(usage.memory_lent, Some(Bytes::from_mib(300)));
    // No slice yet: nothing is lent.
    let usage = production::usage(&machine("vm-2cpu"));
    assert_eq!(
        (usage.cpu_lent, usage.memory_lent),
        (Some(Span::ZERO), Some(Bytes::ZERO))
    );
    assert_eq!(
        usage.memory_production,
        Some(Bytes((2_014_264 - 1_700_000) * 1024))
    );
    // Nothing to read is none, not zero.
    let empty = tempfile::tempdir().unwrap();
    let usage = production::usage(&HostRoot::new(empty.path()));
    assert_eq!((usage.cpu_all, usage.memory_production), (None, None));
}

#[test]
fn stalls_are_absent_where_the_kernel_does_not_count_them() {
    let all = Pressure {
        cpu_some_us: Some(2_568_346),
        memory_full_us: Some(24_647),
        io_full_us: Some(900),
    };
    assert_eq!(production::pressure(&machine("vm-2cpu")), all);
    assert_eq!(
        production::pressure(&machine("server-2socket")),
        Pressure::default()
    );
}

fn facts(name: &str) -> HostFacts {
    gather(&machine(name))
}

fn judged(name: &str, policy: &NodePolicy) -> Report {
    let bus = Bus::Reached {
        systemd: "252.39-1~deb12u1".into(),
    };
    check(&facts(name), &bus, Ok(policy))
}

#[test]
fn what_the_machines_are() {
    let vm = facts("vm-2cpu");
    assert_eq!(
        (vm.kernel.as_str(), vm.os.as_str()),
        ("6.1.0-25-cloud-amd64", "Debian GNU/Linux 12 (bookworm)")
    );
    assert_eq!(
        KernelVersion::of_release(&vm.kernel),
        Some(KernelVersion { major: 6, minor: 1 })
    );
    assert!(vm.psi && !vm.swap_on && vm.memory_recursiveprot && vm.journal_namespaces);
    assert!(facts("vm-4cpu-2numa").swap_on);
    let server = facts("server-2socket");
    assert!(!server.psi && !server.memory_recursiveprot);
}

#[test]
fn kernel_6_1_with_a_process_that_chose_its_cpus_is_weights_only() {
    let report = judged("vm-2cpu", &NodePolicy::default());
    assert!(report.passed().is_ok());
    assert_eq!(names_missed(&report), ["cpuset", "preemption"].into());
    let missed = report.missed().join(" ");
    assert!(missed.contains("it is set to voluntary"), "{missed}");
    let Pinning::WeightsOnly { why } = &report.pinning else {
        panic!("weights only")
    };
    assert_eq!(
        why,
        "pid 500 (feed, feed.service) runs on CPU 1 only; enabling cpuset on kernel 6.1.0-25-cloud-amd64 \
         would take that from them"
    );
    // The owner may decide otherwise, either way.
    let chosen = |cpuset| {
        judged(
            "vm-2cpu",
            &NodePolicy {
                cpuset,
                ..NodePolicy::default()
            },
        )
        .pinning
    };
    assert_eq!(chosen(CpusetChoice::Always), Pinning::Cpuset);
    assert!(matches!(chosen(CpusetChoice::Never), Pinning::WeightsOnly { .. }));
}

#[test]
fn a_newer_kernel_keeps_what_processes_chose() {
    let report = judged("vm-4cpu-2numa", &NodePolicy::default());
    assert_eq!(report.pinning, Pinning::Cpuset);
    assert_eq!(report.missed(), [""; 0]);
}

#[test]
fn many_processes_are_counted_after_three() {
    let report = judged("server-2socket", &NodePolicy::default());
    let Pinning::WeightsOnly { why } = &report.pinning else {
        panic!("weights only")
    };
    assert!(
        why.contains("pid 1300 (loop, session-3.scope) runs on CPU 5 only, and 1 more do so too; "),
        "{why}"
    );
    assert_eq!(
        names_missed(&report),
        ["cpuset", "preemption", "psi", "setpoints"].into()
    );
}
