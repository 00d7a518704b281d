use std::fs;

use super::*;

/// A machine with files as the kernel writes them.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.put("proc/meminfo", "MemTotal:  1000 kB\nMemAvailable:    640 kB\n");
        tree.put("sys/devices/system/cpu/online", "0-1\n");
        tree.put("proc/uptime", "10.00 3.00\n");
        tree.put("proc/stat", "cpu  9 9 9 1000 500 9\n");
        tree.stalls("system.slice", 10, 3);
        tree.stalls("user.slice", 5, 4);
        tree.stalls("loadline.slice", 1_000_000, 1_000_000);
        tree
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn stalls(&self, cgroup: &str, cpu: u64, io: u64) {
        let text = |some, full| {
            format!(
                "some avg10=0.00 avg60=0.00 avg300=0.00 total={some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={full}\n"
            )
        };
        self.put(&format!("sys/fs/cgroup/{cgroup}/cpu.pressure"), &text(7777, cpu));
        self.put(&format!("sys/fs/cgroup/{cgroup}/io.pressure"), &text(9999, io));
    }

    fn vitals(&self) -> Vitals {
        Vitals::new(HostRoot::new(self.0.path()))
    }
}

const START: Span = Span::from_secs(100);

#[test]
fn production_is_all_but_lent_work() {
    let tree = Tree::new();
    let mut vitals = tree.vitals();
    assert_eq!(
        vitals.look(START).stalls.cpu_full,
        Some(Span::ZERO),
        "what was before is not of now"
    );
    tree.stalls("system.slice", 110, 33);
    tree.stalls("user.slice", 10, 4);
    let sample = vitals.look(START.plus(Span::from_millis(100)));
    assert_eq!(sample.stalls.cpu_full, Some(Span(105)));
    assert_eq!(sample.stalls.io_full, Some(Span(30)));
    assert_eq!(sample.stalls.memory_full, None, "not counted is not zero");
    assert_eq!(sample.memory_available, Some(Bytes(640 * 1024)));
    assert_eq!(sample.slo, Slo::None);
}

#[test]
fn what_units_used_is_added_up_and_what_was_before_is_not_of_now() {
    let tree = Tree::new();
    let mut vitals = tree.vitals();
    let mut now = START;
    let mut used = |change: &dyn Fn()| {
        change();
        now = now.plus(Span::from_millis(100));
        vitals.look(now).cpu_units
    };
    let unit = |name: &str, total: u64| {
        tree.put(
            &format!("sys/fs/cgroup/{name}/cpu.stat"),
            &format!("usage_usec {total}\nuser_usec 0\n"),
        );
    };
    assert_eq!(used(&|| ()), None, "nobody counts");
    assert_eq!(used(&|| unit("system.slice", 5_000)), Some(Span::ZERO));
    let both = || {
        unit("system.slice", 5_300);
        unit("user.slice", 70);
        unit("loadline.slice", 9_999);
    };
    assert_eq!(used(&both), Some(Span(300)), "lent work is no unit of production");
    assert_eq!(used(&|| unit("user.slice", 75)), Some(Span(305)));
    // Everybody logs out, where the kernel gives nothing for an open file of a cgroup that is gone, and in again.
    let folder = tree.0.path().join("sys/fs/cgroup/user.slice");
    let stops = || tree.put("sys/fs/cgroup/user.slice/cpu.stat", "");
    let gone = || fs::remove_dir_all(&folder).unwrap();
    assert_eq!([used(&stops), used(&gone)], [Some(Span(305)); 2]);
    assert_eq!(used(&|| unit("user.slice", 4)), Some(Span(309)));
}

#[test]
fn where_cpus_have_no_tick_the_root_knows_better_than_units() {
    let tree = Tree::new();
    tree.put("sys/fs/cgroup/system.slice/cpu.stat", "usage_usec 1\n");
    tree.put("sys/fs/cgroup/cpu.stat", "usage_usec 900\n");
    tree.put("sys/fs/cgroup/loadline.slice/cpu.stat", "usage_usec 77\n");
    for (none, used) in [("(null)\n", 0), ("\n", 0), ("1-3,5\n", 823)] {
        tree.put("sys/devices/system/cpu/nohz_full", none);
        assert_eq!(tree.vitals().look(START).cpu_units, Some(Span(used)), "{none:?}");
    }
}

#[test]
fn what_all_of_the_machine_used_is_told_once_a_second() {
    let tree = Tree::new();
    let mut vitals = tree.vitals();
    let mut at = |ms: u64| vitals.look(START.plus(Span::from_millis(ms))).cpu_all;
    let second = Some(Span::from_secs(5));
    assert_eq!([at(0), at(100), at(900), at(1_000)], [second, None, None, second]);
    tree.put("proc/stat", "cpu  9 9 9 1000 600 9\n");
    assert_eq!([at(1_900), at(2_000)], [None, Some(Span::from_secs(4))]);
    tree.put("proc/stat", "nothing of use\n");
    assert_eq!(at(3_000), None);
}

#[test]
fn lent_work_without_a_slice_has_used_nothing() {
    let tree = Tree::new();
    let mut vitals = tree.vitals();
    assert_eq!(vitals.look(START).cpu_lent, Some(Span::ZERO));
    tree.put(
        "sys/fs/cgroup/loadline.slice/cpu.stat",
        "usage_usec 77\nuser_usec 1\n",
    );
    tree.put(
        "sys/fs/cgroup/loadline.slice/loadline-standard.slice/cpu.stat",
        "usage_usec 70\n",
    );
    let sample = vitals.look(START.plus(Span::from_millis(100)));
    assert_eq!(
        (sample.cpu_lent, sample.cpu_standard),
        (Some(Span(77)), Some(Span(70)))
    );
}

#[test]
fn lent_work_s_memory_and_transfers_are_read_and_none_where_nobody_counts() {
    let tree = Tree::new();
    for (name, dev) in [("vda", "254:0\n"), ("vdb", "254:16\n")] {
        tree.put(&format!("sys/block/{name}/dev"), dev);
        tree.put(&format!("sys/block/{name}/size"), "8\n");
    }
    let mut vitals = tree.vitals();
    let none = vitals.look(START);
    assert_eq!(
        (none.io_lent, none.memory_lent, none.tasks_lent),
        (Some(Transferred::default()), Some(Bytes::ZERO), Some(0)),
        "no slice, nothing used"
    );
    tree.put("sys/fs/cgroup/loadline.slice/cpu.stat", "usage_usec 77\n");
    let unknown = vitals.look(START);
    assert_eq!((unknown.io_lent, unknown.memory_lent), (None, None));
    assert_eq!(unknown.tasks_lent, None);
    tree.put("sys/fs/cgroup/loadline.slice/pids.current", "12\n");
    assert_eq!(vitals.look(START).tasks_lent, Some(12));
    tree.put("sys/fs/cgroup/loadline.slice/memory.current", "40960\n");
    tree.put("sys/fs/cgroup/loadline.slice/io.stat", "");
    assert_eq!(vitals.look(START).io_lent, Some(Transferred::default()));
    // dm-0 lies on vda: counted once.
    tree.put(
        "sys/fs/cgroup/loadline.slice/io.stat",
        "253:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n\
         254:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n\
         254:16 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n",
    );
    let sample = vitals.look(START);
    let io = Transferred {
        read: Bytes(11),
        written: Bytes(22),
    };
    assert_eq!(
        (sample.io_lent, sample.memory_lent),
        (Some(io), Some(Bytes(40_960)))
    );
}

#[test]
fn while_nothing_on_the_machine_waits_its_cgroups_are_not_asked() {
    let tree = Tree::new();
    let gate = |total: u64| {
        tree.put(
            "proc/pressure/io",
            &format!("some avg10=0.00 total={total}\nfull avg10=0.00 total=0\n"),
        );
    };
    gate(50);
    let mut vitals = tree.vitals();
    let mut look = |after: u64| vitals.look(START.plus(Span::from_millis(after))).stalls.io_full;
    assert_eq!(look(0), Some(Span::ZERO));
    tree.stalls("system.slice", 10, 8);
    assert_eq!(look(100), Some(Span::ZERO), "the machine has not waited");
    gate(51);
    assert_eq!(look(200), Some(Span(5)), "nothing is lost by that");
    // New ones are read once in any case: what they waited for before is not of now.
    tree.stalls("machine.slice", 0, 1_000);
    assert_eq!(look(10_000), Some(Span(5)));
    gate(52);
    tree.stalls("machine.slice", 0, 1_002);
    assert_eq!(look(10_100), Some(Span(7)));
}

#[test]
fn whether_anything_lent_runs_is_told_by_its_processes() {
    let tree = Tree::new();
    let mut vitals = tree.vitals();
    vitals.look(START);
    assert!(!vitals.lends(), "there is no slice");
    tree.put("sys/fs/cgroup/loadline.slice/cpu.stat", "usage_usec 1\n");
    vitals.look(START);
    assert!(vitals.lends(), "nobody counts processes");
    tree.put("sys/fs/cgroup/loadline.slice/pids.current", "0\n");
    assert!(!vitals.lends());
    tree.put("sys/fs/cgroup/loadline.slice/pids.current", "3\n");
    assert!(vitals.lends());
    tree.put("sys/fs/cgroup/loadline.slice/pids.current", "odd\n");
    assert!(vitals.lends(), "what cannot be read may be anything");
}

#[test]
fn a_file_that_cannot_be_read_is_not_zero() {
    let tree = Tree::new();
    tree.put("sys/fs/cgroup/loadline.slice/cpu.stat", "nothing of use\n");
    fs::remove_file(tree.0.path().join("proc/meminfo")).unwrap();
    let sample = tree.vitals().look(START);
    assert_eq!((sample.cpu_lent, sample.memory_available), (None, None));
}

#[test]
fn files_are_read_anew_at_each_look_and_new_cgroups_are_found_in_time() {
    let tree = Tree::new();
    let mut vitals = tree.vitals();
    vitals.look(START);
    // Written in place, as the kernel does it: the same file says more.
    tree.stalls("machine.slice", 100, 0);
    tree.stalls("user.slice", 25, 4);
    let sample = vitals.look(START.plus(Span::from_millis(100)));
    assert_eq!(sample.stalls.cpu_full, Some(Span(20)));
    // Found: what it waited for before counts no more than what the others did.
    assert_eq!(vitals.look(START.plus(RESCAN)).stalls.cpu_full, Some(Span(20)));
    tree.stalls("machine.slice", 107, 0);
    assert_eq!(vitals.look(START.plus(RESCAN)).stalls.cpu_full, Some(Span(27)));
    // Not readable for a moment, and then as before.
    tree.put("sys/fs/cgroup/machine.slice/cpu.pressure", "");
    assert_eq!(vitals.look(START.plus(RESCAN)).stalls.cpu_full, Some(Span(27)));
    tree.stalls("machine.slice", 108, 0);
    assert_eq!(vitals.look(START.plus(RESCAN)).stalls.cpu_full, Some(Span(28)));
}

#[test]
fn our_own_use_is_counted_over_restarts() {
    const AGENT: &str = "sys/fs/cgroup/system.slice/loadline-agent.service";
    let tree = Tree::new();
    let mut vitals = tree.vitals();
    let mut now = START;
    let mut used = |change: &dyn Fn()| {
        change();
        now = now.plus(Span::from_millis(100));
        vitals.look(now).cpu_own
    };
    let agent = |total| tree.put(&format!("{AGENT}/cpu.stat"), &format!("usage_usec {total}\n"));
    assert_eq!(
        used(&|| agent(5_000)),
        Span::ZERO,
        "what was before the first look is not of now"
    );
    assert_eq!(used(&|| agent(5_300)), Span(300));
    tree.put(
        "sys/fs/cgroup/system.slice/loadline-warden.service/cpu.stat",
        "usage_usec 70\n",
    );
    assert_eq!(used(&|| ()), Span(300));
    // Stopped: the kernel gives nothing for a cgroup that is gone. Started anew.
    let stops = || tree.put(&format!("{AGENT}/cpu.stat"), "");
    let gone = || fs::remove_dir_all(tree.0.path().join(AGENT)).unwrap();
    assert_eq!([used(&stops), used(&gone)], [Span(300); 2]);
    assert_eq!(used(&|| agent(40)), Span(340));
}
