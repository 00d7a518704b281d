//! `cgroup.kill` of a worker, written straight into cgroupfs: the last word, when its grace is over
//! or an operator closes the node. And `memory.reclaim`, which takes back from a starved one, on our CPU time, what the
//! kernel would take on its own.
//!
//! It belongs to the brake (design §4): while systemd loads its units anew it answers no one for seconds, and somebody
//! who has to go for production must not stay for that long. systemd is asked after it, as for any other end.

use std::fs::File;
use std::io::{self, Write};

use loadline_model::Bytes;

use super::cgroup::CgroupFs;
use super::systemd::SLICE;

/// Kills every process of a cgroup below our slice. False if there is none, or the kernel is older than 5.14.
///
/// # Errors
/// When the kernel does not do it.
pub fn kill(cgroups: &CgroupFs, cgroup: &str) -> io::Result<bool> {
    write(cgroups, cgroup, "cgroup.kill", "1")
}

/// Has the kernel take so much memory back from a cgroup below our slice. False if there is none, the kernel is older
/// than 5.19, or it did not find all of it.
///
/// # Errors
/// When the kernel does not let us ask.
pub fn take_back(cgroups: &CgroupFs, cgroup: &str, amount: Bytes) -> io::Result<bool> {
    match write(cgroups, cgroup, "memory.reclaim", &amount.0.to_string()) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(false)
        }
        done => done,
    }
}

/// False if there is no such file.
fn write(cgroups: &CgroupFs, cgroup: &str, file: &str, text: &str) -> io::Result<bool> {
    let ours = cgroup
        .trim_start_matches('/')
        .strip_prefix(SLICE)
        .is_some_and(|rest| rest.len() > 1 && rest.starts_with('/') && !rest.contains(".."));
    if !ours {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{cgroup} is no cgroup of a worker"),
        ));
    }
    match File::options().write(true).open(cgroups.path(cgroup).join(file)) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_is_killed() {
        let place = tempfile::tempdir().unwrap();
        let cgroups = CgroupFs::new(place.path());
        for cgroup in [
            "/",
            "/system.slice",
            "/loadline.slice",
            "/loadline.slice/",
            "/loadline.slice.d/x",
            "/loadline.slice/../system.slice",
        ] {
            assert_eq!(
                kill(&cgroups, cgroup).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{cgroup}"
            );
        }
        let worker = "/loadline.slice/loadline-burst.slice/loadline-w-1.service";
        assert!(!kill(&cgroups, worker).unwrap(), "gone already");
        let folder = cgroups.path(worker);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("cgroup.kill"), "").unwrap();
        assert!(kill(&cgroups, worker).unwrap());
        assert_eq!(std::fs::read_to_string(folder.join("cgroup.kill")).unwrap(), "1");
        let take = || take_back(&cgroups, worker, Bytes(4096)).unwrap();
        assert!(!take(), "an older kernel");
        std::fs::write(folder.join("memory.reclaim"), "").unwrap();
        assert!(take());
        let asked = std::fs::read_to_string(folder.join("memory.reclaim")).unwrap();
        assert_eq!(asked, "4096");
    }
}
