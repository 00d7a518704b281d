//! Which production processes have chosen their own CPUs: on kernels before 6.2, enabling the cpuset controller
//! would take that choice from them (reference of what was seen: a `taskset -c 1` process ran everywhere after).
//!
//! A process that a cpuset confines has not chosen: it is compared with the cpuset it is in.
//!
//! Touches `/proc/<pid>/{cgroup,status,task}` and `cpuset.cpus.effective` of cgroups, reads only; without CAP_SYS_PTRACE or with a hidden `/proc` it would
//! see too little, so a process that cannot be read is an error and not a pass.

use std::io;

use loadline_model::CpuSet;
use procfs::ProcError;
use procfs::process::{Process, Status, all_processes_with_root};

use super::root::HostRoot;
use super::systemd::SLICE;

/// A production process, or a thread of it, that does not run on all CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarrowedProcess {
    /// The process.
    pub pid: u32,
    /// Its name, or its thread's.
    pub name: String,
    /// The unit it belongs to.
    pub unit: Option<String>,
    /// Where it may run.
    pub cpus: CpuSet,
}

impl std::fmt::Display for NarrowedProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            pid,
            name,
            unit,
            cpus,
        } = self;
        match unit {
            Some(unit) => write!(f, "pid {pid} ({name}, {unit}) runs on CPU {cpus} only"),
            None => write!(f, "pid {pid} ({name}) runs on CPU {cpus} only"),
        }
    }
}

/// The processes could not all be looked at.
#[derive(Debug, thiserror::Error)]
pub enum AffinityError {
    /// None of them.
    #[error("listing the processes failed")]
    List(#[source] ProcError),
    /// One of them.
    #[error("reading process {pid} failed")]
    Process {
        /// Which.
        pid: i32,
        /// Why.
        #[source]
        source: ProcError,
    },
}

/// Production processes that may not run on all CPUs that they could (`online`, or their cpuset), ascending. Processes directly
/// in the root cgroup (kernel threads) are not moved when a controller is enabled, and not looked at.
///
/// # Errors
/// When a process that still exists cannot be read.
pub fn narrowed(root: &HostRoot, online: &CpuSet) -> Result<Vec<NarrowedProcess>, AffinityError> {
    let mut found = Vec::new();
    for process in all_processes_with_root(root.path("/proc")).map_err(AffinityError::List)? {
        let process = match process {
            Ok(process) => process,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(AffinityError::List(error)),
        };
        match look_at(root, &process, online) {
            Ok(narrowed) => found.extend(narrowed),
            Err(error) if is_gone(&error) => {}
            Err(source) => {
                return Err(AffinityError::Process {
                    pid: process.pid,
                    source,
                });
            }
        }
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

fn look_at(
    root: &HostRoot,
    process: &Process,
    online: &CpuSet,
) -> Result<Option<NarrowedProcess>, ProcError> {
    let groups = process.cgroups()?;
    let Some(group) = groups.into_iter().find(|group| group.hierarchy == 0) else {
        return Ok(None);
    };
    let path = group.pathname.trim_start_matches('/');
    if path.is_empty() || path.split('/').next() == Some(SLICE) {
        return Ok(None);
    }
    let could = cpuset_of(root, path).unwrap_or_else(|| online.clone());
    for task in process.tasks()? {
        let status = match task.and_then(|task| task.status()) {
            Ok(status) => status,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        let cpus = allowed(&status);
        if !could.is_subset(&cpus) && !cpus.is_empty() {
            return Ok(Some(NarrowedProcess {
                pid: u32::try_from(process.pid).unwrap_or(0),
                name: status.name,
                unit: unit_of(path),
                cpus,
            }));
        }
    }
    Ok(None)
}

/// The CPUs of the nearest cpuset above.
fn cpuset_of(root: &HostRoot, path: &str) -> Option<CpuSet> {
    let mut path = path;
    while !path.is_empty() {
        if let Ok(cpus) = root.cpus(&format!("/sys/fs/cgroup/{path}/cpuset.cpus.effective")) {
            return Some(cpus);
        }
        path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    None
}

fn allowed(status: &Status) -> CpuSet {
    let ranges = status.cpus_allowed_list.iter().flatten();
    ranges.flat_map(|(first, last)| *first..=*last).collect()
}

/// The innermost unit of a cgroup path.
fn unit_of(path: &str) -> Option<String> {
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    path.rsplit('/').find(is_unit).map(ToOwned::to_owned)
}

/// Processes come and go while they are looked at.
fn is_gone(error: &ProcError) -> bool {
    match error {
        ProcError::NotFound(_) => true,
        ProcError::Io(error, _) => {
            let esrch = io::Error::from(nix::errno::Errno::ESRCH);
            error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == esrch.raw_os_error()
        }
        _ => false,
    }
}
