//! Who has a worker on this machine, and what the slice of each person's logins may use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use loadline_policy::settings::{CpuMax, Limit, Slice};

use super::cgroup::{CgroupFs, MOUNT};
use super::root::HostRoot;

/// A person's number on this machine.
pub type Uid = u32;

/// What `user-UID.slice` of each person may use; none where the kernel does not say.
pub type Quotas = BTreeMap<Uid, Option<Limit<CpuMax>>>;

/// Where logind keeps people's logins, below the root of cgroups.
const LOGINS: &str = "user.slice";

/// The unit of a person's logins.
pub fn unit(uid: Uid) -> String {
    format!("user-{uid}.slice")
}

/// Those as whom processes of workers run. From the kernel, not from the ledger: orphans count too.
pub fn working(root: &HostRoot) -> BTreeSet<Uid> {
    [Slice::Standard, Slice::Burst]
        .iter()
        .flat_map(|slice| {
            let folder = format!("{MOUNT}/{}/{}", Slice::Root.unit(), slice.unit());
            fs::read_dir(root.path(&folder)).into_iter().flatten().flatten()
        })
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("loadline-w-"))
        .filter_map(|entry| fs::read_to_string(entry.path().join("cgroup.procs")).ok())
        .filter_map(|pids| pids.lines().find_map(|pid| owner(root, pid)))
        .collect()
}

/// The real user of a process; none once it is gone, and none while it is still PID 1's, about to become the worker.
fn owner(root: &HostRoot, pid: &str) -> Option<Uid> {
    let status = root.text(&format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace()
        .next()?
        .parse()
        .ok()
        .filter(|uid| *uid != 0)
}

/// What the logins of each person may use, those of root left out.
pub fn quotas(root: &HostRoot) -> Quotas {
    let cgroups = CgroupFs::new(root.path(MOUNT));
    let Ok(entries) = fs::read_dir(root.path(&format!("{MOUNT}/{LOGINS}"))) else {
        return Quotas::new();
    };
    let uid = |name: &str| {
        name.strip_prefix("user-")?
            .strip_suffix(".slice")?
            .parse::<Uid>()
            .ok()
    };
    entries
        .flatten()
        .filter_map(|entry| uid(&entry.file_name().to_string_lossy()))
        .filter(|uid| *uid != 0)
        .map(|uid| (uid, cgroups.limits(&format!("/{LOGINS}/{}", unit(uid))).cpu_max))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadline_model::MilliCpu;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, HostRoot) {
        let place = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = place.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = HostRoot::new(place.path());
        (place, root)
    }

    #[test]
    fn people_are_known_by_the_processes_of_their_workers() {
        let lent = "sys/fs/cgroup/loadline.slice/loadline-";
        let (_place, root) = tree(&[
            (
                &format!("{lent}standard.slice/loadline-w-1.service/cgroup.procs"),
                "7\n8\n",
            ),
            (
                &format!("{lent}burst.slice/loadline-w-2.service/cgroup.procs"),
                "9\n",
            ),
            (
                &format!("{lent}burst.slice/loadline-w-3.service/cgroup.procs"),
                "",
            ),
            (&format!("{lent}burst.slice/other.service/cgroup.procs"), "10\n"),
            // The first is PID 1's own child, about to become the worker.
            ("proc/7/status", "Name:\tx\nUid:\t0\t0\t0\t0\n"),
            ("proc/8/status", "Name:\tx\nUid:\t1000\t1000\t1000\t1000\n"),
            ("proc/9/status", "Name:\tx\nUid:\t1001\t0\t0\t0\n"),
            ("proc/10/status", "Name:\tx\nUid:\t1002\t1002\t1002\t1002\n"),
        ]);
        assert_eq!(working(&root), [1000, 1001].into());
        assert_eq!(working(&HostRoot::new("/nowhere")), BTreeSet::new());
    }

    #[test]
    fn quotas_are_those_of_the_kernel() {
        let logins = "sys/fs/cgroup/user.slice";
        let (_place, root) = tree(&[
            (&format!("{logins}/user-1000.slice/cpu.max"), "4000 10000\n"),
            (&format!("{logins}/user-1001.slice/cpu.max"), "max 100000\n"),
            (&format!("{logins}/user-1002.slice/cgroup.procs"), ""),
            (&format!("{logins}/user-0.slice/cpu.max"), "max 100000\n"),
            (&format!("{logins}/other.slice/cpu.max"), "max 100000\n"),
        ]);
        let expected: Quotas = [
            (1000, Some(Limit::At(CpuMax::of(MilliCpu(400))))),
            (1001, Some(Limit::Max)),
            (1002, None),
        ]
        .into();
        assert_eq!(quotas(&root), expected);
        assert_eq!(quotas(&HostRoot::new("/nowhere")), Quotas::new());
    }
}
