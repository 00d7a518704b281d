//! Ends all processes of one of our own cgroups, by the kernel alone.
//!
//! systemd owns these cgroups and is told after; but while it loads its units anew it answers no one for seconds, and
//! whoever closes a node to lent work means now.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Kills all of a cgroup, those it holds below included. False if it is not there any more.
///
/// # Errors
/// When the kernel does not let us.
pub fn kill(cgroup: &Path) -> io::Result<bool> {
    match File::options().write(true).open(cgroup.join("cgroup.kill")) {
        Ok(mut file) => file.write_all(b"1").map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_killed_and_what_is_gone_is_no_error() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("cgroup.kill");
        assert!(!kill(place.path()).unwrap());
        std::fs::write(&file, "").unwrap();
        assert!(kill(place.path()).unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "1");
        assert!(kill(&file).is_err(), "no folder");
    }
}
