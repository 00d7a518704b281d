//! Each reader against a folder with the kernel's own texts: present, absent, unreadable.

use std::fs;

use loadline_model::{Bytes, Span};

use loadline_policy::settings::{BytesPerSecond, CpuMax, IoMax, Limit, Observed, Spread};

use super::{CgroupFs, Usage};
use crate::host::disks;
use crate::host::root::HostRoot;

const GROUP: &str = "/loadline.slice/loadline-burst.slice";

fn hierarchy(files: &[(&str, &str)]) -> (tempfile::TempDir, CgroupFs) {
    let dir = tempfile::tempdir().unwrap();
    let fs_ = CgroupFs::new(dir.path());
    fs::create_dir_all(fs_.path(GROUP)).unwrap();
    for (file, text) in files {
        fs::write(fs_.path(GROUP).join(file), text).unwrap();
    }
    (dir, fs_)
}

#[test]
fn limits_are_read_as_the_kernel_writes_them() {
    let (_dir, cgroups) = hierarchy(&[
        ("cpuset.cpus.effective", "1-3\n"),
        ("cpuset.mems.effective", "0\n"),
        ("cpu.weight", "1\n"),
        ("cpu.idle", "1\n"),
        ("cpu.max", "1000 100000\n"),
        ("memory.high", "max\n"),
        ("memory.max", "104857600\n"),
        ("memory.swap.max", "0\n"),
        ("pids.max", "512\n"),
        ("io.weight", "default 1\n"),
        ("memory.oom.group", "1\n"),
    ]);
    let limits = cgroups.limits(GROUP);
    assert_eq!(limits.cpus_effective, "1-3".parse().ok());
    assert_eq!(limits.mems_effective, "0".parse().ok());
    assert_eq!((limits.cpu_weight, limits.cpu_idle), (Some(1), Some(true)));
    let (quota_us, period_us) = (1000, 100_000);
    assert_eq!(limits.cpu_max, Some(Limit::At(CpuMax { quota_us, period_us })));
    assert_eq!((limits.io_weight, limits.memory_oom_group), (Some(1), Some(true)));
    assert_eq!(limits.memory_high, Some(Limit::Max));
    assert_eq!(limits.memory_max, Some(Limit::At(Bytes::from_mib(100))));
    assert_eq!(limits.memory_swap_max, Some(Limit::At(Bytes(0))));
    assert_eq!(limits.pids_max, Some(Limit::At(512)));
}

#[test]
fn a_limit_of_disks_is_one_only_if_all_of_them_have_it() {
    let (dir, cgroups) = hierarchy(&[("io.max", "")]);
    assert_eq!(cgroups.io_max(GROUP, &[]), None, "no disks are known");
    for (name, dev) in [("vda", "254:0"), ("vdb", "254:16")] {
        let folder = dir.path().join("sys/block").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("dev"), dev).unwrap();
        fs::write(folder.join("size"), "8").unwrap();
    }
    let host = HostRoot::new(dir.path());
    let said = |text: &str| {
        fs::write(cgroups.path(GROUP).join("io.max"), text).unwrap();
        cgroups.io_max(GROUP, &disks::list(&host)).unwrap()
    };
    let at = |rate| Limit::At(BytesPerSecond(rate));
    assert_eq!(said(""), IoMax::all(Limit::Max));
    let one = "254:0 rbps=1000 wbps=1000 riops=max wiops=max\n";
    assert_eq!(
        said(one),
        IoMax {
            over: Some(Spread {
                loosest: Limit::Max,
                tightest: at(1000)
            }),
            weighed: Limit::Max,
        }
    );
    let other = format!("{one}254:16 rbps=1000 wbps=1000 riops=max wiops=max\n253:0 rbps=7 wbps=7\n");
    assert_eq!(said(&other), IoMax::all(at(1000)));
    let reads_only = other.replace("254:16 rbps=1000 wbps=1000", "254:16 rbps=max wbps=900");
    assert_eq!(said(&reads_only).over.unwrap().tightest, at(900));
    // One goes by weight: a limit there is one too many, and none is wanted.
    let qos = dir.path().join("sys/fs/cgroup/io.cost.qos");
    fs::create_dir_all(qos.parent().unwrap()).unwrap();
    fs::write(&qos, "254:16 enable=1 ctrl=auto\n").unwrap();
    assert_eq!(said(one), IoMax::all(at(1000)));
    assert_eq!(said(&reads_only).weighed, at(900));
    fs::write(&qos, "254:0 enable=1 ctrl=auto\n254:16 enable=1 ctrl=auto\n").unwrap();
    let nowhere = IoMax {
        over: None,
        weighed: Limit::Max,
    };
    assert_eq!(said(""), nowhere);
    fs::remove_file(cgroups.path(GROUP).join("io.max")).unwrap();
    assert_eq!(
        cgroups.io_max(GROUP, &disks::list(&host)),
        None,
        "no io controller"
    );
}

#[test]
fn no_bandwidth_limit_and_weight_zero_of_older_kernels_are_values_too() {
    let (_dir, cgroups) = hierarchy(&[
        ("cpu.max", "max 100000\n"),
        ("cpu.weight", "0\n"),
        ("pids.max", "max\n"),
    ]);
    let limits = cgroups.limits(GROUP);
    assert_eq!(limits.cpu_max, Some(Limit::Max));
    assert_eq!(limits.cpu_weight, Some(0));
    assert_eq!(limits.pids_max, Some(Limit::Max));
}

#[test]
fn what_is_not_there_is_absent_not_zero() {
    let (_dir, cgroups) = hierarchy(&[("memory.max", "what\n"), ("cpuset.cpus.effective", "x\n")]);
    assert_eq!(cgroups.limits(GROUP), Observed::default());
    assert_eq!(cgroups.usage(GROUP), Usage::default());
    assert_eq!(cgroups.limits("/gone.slice"), Observed::default());
    assert!(cgroups.exists(GROUP) && !cgroups.exists("/gone.slice"));
}

#[test]
fn usage_is_read_and_events_keep_their_names() {
    let (_dir, cgroups) = hierarchy(&[
        ("memory.current", "4096\n"),
        ("memory.peak", "8192\n"),
        ("memory.events", "low 0\nhigh 3\nmax 2\noom 1\noom_kill 1\n"),
        ("cpu.stat", "usage_usec 1500\nuser_usec 1000\nthrottled_usec 7\n"),
        ("pids.current", "2\n"),
        ("pids.peak", "5\n"),
        ("cgroup.procs", "12\n13\n"),
        (
            "cpu.pressure",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=17\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n",
        ),
    ]);
    let usage = cgroups.usage(GROUP);
    assert_eq!(
        (usage.memory, usage.memory_peak),
        (Some(Bytes(4096)), Some(Bytes(8192)))
    );
    assert_eq!(
        (usage.cpu_time, usage.throttled),
        (Some(Span(1500)), Some(Span(7)))
    );
    assert_eq!((usage.tasks, usage.tasks_peak), (Some(2), Some(5)));
    assert_eq!(usage.memory_events.get("oom_kill"), Some(&1));
    assert_eq!(
        (usage.waiting.get("cpu"), usage.stalled.get("cpu")),
        (Some(&17), Some(&3))
    );
    assert_eq!(usage.waiting.len(), 1);
    assert_eq!(cgroups.processes(GROUP), [12, 13]);
}
