//! What only the interference test asks of the kernel: where temporary files lie and how much is free there, how large
//! the last-level cache is, and the end of a cgroup at once. Reads, and writes `cgroup.kill` of units of its own.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use loadline_model::Bytes;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::cgroup::MOUNT;
use super::root::HostRoot;
use super::systemd::SLICE;
use loadline_policy::settings::Slice;

/// How much is free on the file system of a folder; none if it lies in memory or does not say.
pub fn disk_free(folder: &Path) -> Option<Bytes> {
    let found = statfs(folder).ok()?;
    if found.filesystem_type() == TMPFS_MAGIC {
        return None;
    }
    let block = u64::try_from(found.block_size()).ok()?;
    Some(Bytes(found.blocks_available().saturating_mul(block)))
}

/// The largest cache of the first CPU, which is the one that CPUs share.
pub fn last_level_cache(root: &HostRoot) -> Option<Bytes> {
    let folder = "/sys/devices/system/cpu/cpu0/cache";
    let caches = root.numbered(folder, "index");
    let size = |index: u32| {
        let text = root.text(&format!("{folder}/index{index}/size")).ok()?;
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let number: u64 = number.parse().ok()?;
        match unit {
            "K" => Some(Bytes(number.saturating_mul(1 << 10))),
            "M" => Some(Bytes(number.saturating_mul(1 << 20))),
            _ => None,
        }
    };
    caches.into_iter().filter_map(size).max()
}

/// The cgroup of a unit among burst work, as systemd writes it.
pub fn burst_cgroup(unit: &str) -> String {
    format!("/{SLICE}/{}/{unit}", Slice::Burst.unit())
}

/// Kills all processes of a unit among burst work, at once and without asking systemd, which may be reloading. A unit
/// that is not there has none.
///
/// # Errors
/// When the kernel does not let us.
pub fn kill_now(root: &HostRoot, unit: &str) -> io::Result<()> {
    let file = root.path(&format!("{MOUNT}{}/cgroup.kill", burst_cgroup(unit)));
    match File::options().write(true).open(file) {
        Ok(mut file) => file.write_all(b"1"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_largest_cache_is_the_last_level() {
        let place = tempfile::tempdir().unwrap();
        let root = HostRoot::new(place.path());
        assert_eq!(last_level_cache(&root), None);
        for (index, size) in [(0, "32K"), (1, "32K"), (2, "512K"), (3, "16384K")] {
            let folder = place
                .path()
                .join(format!("sys/devices/system/cpu/cpu0/cache/index{index}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("size"), format!("{size}\n")).unwrap();
        }
        assert_eq!(last_level_cache(&root), Some(Bytes::from_mib(16)));
    }

    #[test]
    fn a_kill_reaches_the_unit_and_needs_none() {
        let place = tempfile::tempdir().unwrap();
        let root = HostRoot::new(place.path());
        let unit = "loadline-prove-cpu.service";
        kill_now(&root, unit).unwrap();
        let folder = root.path(&format!("{MOUNT}{}", burst_cgroup(unit)));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cgroup.kill"), "").unwrap();
        kill_now(&root, unit).unwrap();
        assert_eq!(fs::read_to_string(folder.join("cgroup.kill")).unwrap(), "1");
    }

    #[test]
    fn a_memory_file_system_is_no_disk() {
        assert_eq!(disk_free(Path::new("/no/such/folder")), None);
        assert_eq!(disk_free(Path::new("/dev/shm")), None);
    }
}
