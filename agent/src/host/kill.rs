//! `cgroup.kill` of a worker, written straight into cgroupfs: the last word, when its grace is over
//! or an operator closes the node.
//!
//! It belongs to the brake (design §4): while systemd loads its units anew it answers no one for seconds, and somebody
//! who has to go for production must not stay for that long. systemd is asked after it, as for any other end.

use std::fs::File;
use std::io::{self, Write};

use super::cgroup::CgroupFs;
use super::systemd::SLICE;

/// Kills every process of a cgroup below our slice. False if there is none, or the kernel is older than 5.14.
///
/// # Errors
/// When the kernel does not do it.
pub fn kill(cgroups: &CgroupFs, cgroup: &str) -> io::Result<bool> {
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
    let path = cgroups.path(cgroup).join("cgroup.kill");
    match File::options().write(true).open(path) {
        Ok(mut file) => file.write_all(b"1").map(|()| true),
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
    }
}
