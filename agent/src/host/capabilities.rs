//! What the headroom loop needs of this kernel, each tried: a file of a limit is opened for writing, and memory is asked for
//! in the amount of nothing. Only our own slice is written to; where it is not there yet, a neighbour's file shows that
//! the kernel has it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind, Write};

use super::cgroup::MOUNT;
use super::disks::Disk;
use super::facts::KernelVersion;
use super::io_cost::{CostFiles, KernelCosts};
use super::root::HostRoot;
use super::systemd::SLICE;
use super::{preemption, pressure, production};

/// Where a file is looked for: every one of them is below the root, so it has what the root gives to its children.
const PLACES: [&str; 4] = [SLICE, "system.slice", "user.slice", "init.scope"];
/// `memory.reclaim` came with it.
const RECLAIM_SINCE: KernelVersion = KernelVersion { major: 5, minor: 19 };

/// The capability that may change while the warden runs.
pub const IO_COST: &str = "io.cost";

/// What the loop uses it for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To see production wait.
    Stalls,
    /// To be woken when it waits.
    Wakes,
    /// To lower lent work's CPU and memory.
    Levers,
    /// To lower its use of disks.
    Disks,
    /// To hold its use of disks by weight.
    Weights,
    /// To come before lent work that is in the kernel.
    Preemption,
}

/// One thing that the loop uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// `psi.` and a resource, or the kernel's file. Stable: a label in metrics.
    pub name: &'static str,
    /// What for.
    pub purpose: Purpose,
    /// Why it does not work; none: it does.
    pub problem: Option<String>,
}

impl Capability {
    /// The controller it belongs to, for what is a file.
    pub fn controller(&self) -> &'static str {
        self.name.split('.').next().unwrap_or_default()
    }
}

/// All of them.
pub fn probe(root: &HostRoot, controllers: &BTreeSet<String>, kernel: &str) -> Vec<Capability> {
    let counted = production::pressure(root);
    let psi = |name, total: Option<u64>| Capability {
        name,
        purpose: Purpose::Stalls,
        problem: total
            .is_none()
            .then(|| "the kernel does not count these stalls".to_owned()),
    };
    let file = |name: &'static str, purpose| Capability {
        name,
        purpose,
        problem: tried(root, name, controllers, kernel).err(),
    };
    // Where there is no cgroup tree to try it on, another requirement is missed.
    let triggers = pressure::probe(root).map(|window| Capability {
        name: "psi.triggers",
        purpose: Purpose::Wakes,
        problem: window.problem(),
    });
    let mut all = vec![
        psi("psi.cpu", counted.cpu_some_us),
        psi("psi.memory", counted.memory_full_us),
        psi("psi.io", counted.io_full_us),
        file("cpu.max", Purpose::Levers),
        file("memory.high", Purpose::Levers),
        file("memory.reclaim", Purpose::Levers),
        file("io.max", Purpose::Disks),
    ];
    all.extend(triggers);
    all.push(Capability {
        name: "preempt",
        purpose: Purpose::Preemption,
        problem: preemption::problem(root, kernel).map(|why| {
            format!("production may wait for lent work that is in the kernel (wanted: preempt=full): {why}")
        }),
    });
    let files = KernelCosts::new(root.clone());
    // A file that cannot be read is said by whoever needs it.
    let is_there = matches!(files.look(), Ok(Some(_)));
    all.push(weights(&files.disks(), is_there));
    all
}

/// Whether the disks go by weight.
pub fn weights(disks: &[Disk], is_there: bool) -> Capability {
    let names = |by_weight: bool| -> String {
        let these = disks.iter().filter(|disk| disk.by_weight == by_weight);
        these
            .map(|disk| disk.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (weighed, others) = (names(true), names(false));
    let instead = "held by bandwidth once production has waited for a disk (io.max)";
    let problem = if !is_there {
        Some(format!(
            "this kernel has no io.cost, so lent work's IO is {instead}"
        ))
    } else if others.is_empty() {
        None
    } else if weighed.is_empty() {
        Some(format!(
            "io.cost is on for no disk, so lent work's IO is {instead}"
        ))
    } else {
        Some(format!(
            "it is on for {weighed}, and on {others} lent work's IO is {instead}"
        ))
    };
    Capability {
        name: IO_COST,
        purpose: Purpose::Weights,
        problem,
    }
}

fn tried(root: &HostRoot, file: &str, controllers: &BTreeSet<String>, kernel: &str) -> Result<(), String> {
    let controller = file.split('.').next().unwrap_or_default();
    if !controllers.contains(controller) {
        return Err(format!("the cgroup root lacks the controller {controller}"));
    }
    let path = |cgroup: &str, file: &str| format!("{MOUNT}/{cgroup}/{file}");
    let found = |file: &str| PLACES.into_iter().find(|cgroup| root.exists(&path(cgroup, file)));
    if let Some(cgroup) = found(file) {
        let may_write = cgroup == SLICE && file == "memory.reclaim";
        return open(root, &path(cgroup, file), may_write)
            .map_err(|error| format!("{file} cannot be written: {error}"));
    }
    let is_old = KernelVersion::of_release(kernel).is_none_or(|version| version < RECLAIM_SINCE);
    // Off for the root's children until the first worker; then only the kernel's age says something.
    if file == "memory.reclaim" && (is_old || found("memory.current").is_some()) {
        return Err(format!("kernel {kernel} has no memory.reclaim"));
    }
    Ok(())
}

fn open(root: &HostRoot, file: &str, ask_for_nothing: bool) -> io::Result<()> {
    let mut file = File::options().write(true).open(root.path(file))?;
    if !ask_for_nothing {
        return Ok(());
    }
    match file.write_all(b"0") {
        // It could not find as much as was asked for: it has tried.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn problems(files: &[&str], controllers: &str, kernel: &str) -> Vec<(&'static str, String)> {
        let place = tempfile::tempdir().unwrap();
        for file in files {
            let path = place.path().join("sys/fs/cgroup").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n";
            fs::write(path, text).unwrap();
        }
        let controllers = controllers.split(' ').map(ToOwned::to_owned).collect();
        probe(&HostRoot::new(place.path()), &controllers, kernel)
            .into_iter()
            .filter_map(|one| Some((one.name, one.problem?)))
            .filter(|(name, _)| !name.starts_with("psi.") && ![IO_COST, "preempt"].contains(name))
            .collect()
    }

    #[test]
    fn what_is_there_works_and_what_is_not_is_named() {
        let all = "cpu io memory pids";
        assert_eq!(
            problems(&[], all, "6.1.0-25"),
            [],
            "nothing to try yet: by the controllers"
        );
        assert_eq!(
            problems(&[], all, "5.14.0-503.el9"),
            [(
                "memory.reclaim",
                "kernel 5.14.0-503.el9 has no memory.reclaim".into()
            )]
        );
        // Backported: the file is there.
        assert_eq!(problems(&["system.slice/memory.reclaim"], all, "5.14.0"), []);
        assert_eq!(
            problems(&["system.slice/memory.current"], all, "6.1.0"),
            [("memory.reclaim", "kernel 6.1.0 has no memory.reclaim".into())],
            "tried, not believed"
        );
        assert_eq!(
            problems(&[], "cpu memory", "6.1.0"),
            [("io.max", "the cgroup root lacks the controller io".into())]
        );
    }

    #[test]
    fn which_disks_go_by_weight_is_said() {
        let disk = |name: &str, by_weight| Disk {
            number: String::new(),
            device: String::new(),
            name: name.into(),
            by_weight,
        };
        let problem = |disks: &[Disk], is_there| weights(disks, is_there).problem;
        let (on, off) = (disk("vda", true), disk("vdb", false));
        assert_eq!(problem(std::slice::from_ref(&on), true), None);
        let some = problem(&[on, off.clone()], true).unwrap();
        assert!(
            some.starts_with("it is on for vda, and on vdb lent work's IO is held"),
            "{some}"
        );
        let none = problem(std::slice::from_ref(&off), true).unwrap();
        assert!(none.starts_with("io.cost is on for no disk"), "{none}");
        let old = problem(&[off], false).unwrap();
        assert!(old.starts_with("this kernel has no io.cost"), "{old}");
    }

    #[test]
    fn our_own_slice_is_asked_for_nothing_and_a_neighbour_is_only_opened() {
        let place = tempfile::tempdir().unwrap();
        let root = HostRoot::new(place.path());
        let controllers = BTreeSet::from(["memory".to_owned()]);
        for (cgroup, written) in [("loadline.slice", "0"), ("system.slice", "")] {
            let path = place
                .path()
                .join("sys/fs/cgroup")
                .join(cgroup)
                .join("memory.reclaim");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            assert_eq!(tried(&root, "memory.reclaim", &controllers, "6.1"), Ok(()));
            assert_eq!(fs::read_to_string(&path).unwrap(), written);
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            let problem = tried(&root, "memory.reclaim", &controllers, "6.1").unwrap_err();
            assert!(
                problem.starts_with("memory.reclaim cannot be written: "),
                "{problem}"
            );
            fs::remove_dir(&path).unwrap();
        }
    }
}
