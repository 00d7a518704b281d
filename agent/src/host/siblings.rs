//! Production's cgroups: everything right below the root but our own slice and PID 1.
//!
//! PID 1 serves production and us alike: where it waits for a CPU that production has, each time that we ask it something,
//! it would count as kept waiting by lent work. systemd gives each mount a cgroup too, a dozen on an ordinary machine, and
//! nothing ever waits there. What reads pressure ten times a second leaves those out in which no process is; slices stay,
//! as somebody may log in at any moment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::short;
use super::systemd::SLICE;

/// Where PID 1 is.
const INIT: &str = "init.scope";

/// Those of the hierarchy mounted there in which something runs or may begin to.
///
/// # Errors
/// When the hierarchy cannot be listed.
pub(super) fn siblings(mount: &Path) -> io::Result<impl Iterator<Item = PathBuf> + use<>> {
    let folders = fs::read_dir(mount)?.flatten().map(|entry| entry.path());
    Ok(folders.filter(|path| path.is_dir() && !is_left_out(path) && (is_slice(path) || is_populated(path))))
}

fn is_left_out(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == SLICE || name == INIT)
}

fn is_slice(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "slice")
}

/// Unless the kernel says that no process is in it or below.
fn is_populated(path: &Path) -> bool {
    short::read(&path.join("cgroup.events"))
        .map_or(true, |events| !events.lines().any(|line| line == "populated 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_process_is_left_out_unless_somebody_may_come() {
        let mount = tempfile::tempdir().unwrap();
        for (name, events) in [
            ("system.slice", "populated 1\nfrozen 0\n"),
            ("user.slice", "populated 0\nfrozen 0\n"),
            ("loadline.slice", "populated 1\nfrozen 0\n"),
            ("init.scope", "populated 1\nfrozen 0\n"),
            ("dev-mqueue.mount", "populated 0\nfrozen 0\n"),
            ("srv-remote.mount", "populated 1\nfrozen 0\n"),
            ("untold.mount", ""),
        ] {
            let folder = mount.path().join(name);
            fs::create_dir(&folder).unwrap();
            if !events.is_empty() {
                fs::write(folder.join("cgroup.events"), events).unwrap();
            }
        }
        fs::write(mount.path().join("cgroup.procs"), "").unwrap();
        let found = siblings(mount.path()).unwrap();
        let mut names: Vec<_> = found
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["srv-remote.mount", "system.slice", "untold.mount", "user.slice"]
        );
        assert!(siblings(&mount.path().join("none")).is_err());
    }
}
