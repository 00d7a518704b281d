//! The few files of the guest's cgroups that the probes read, and how.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::errno::Errno;

/// A cgroup by its path below the root, `system.slice`; empty: the root itself.
#[must_use]
pub fn file_of(group: &str, file: &str) -> PathBuf {
    let mut path = PathBuf::from("/sys/fs/cgroup");
    path.push(group.trim_start_matches('/'));
    path.push(file);
    path
}

/// The cgroups right below the root.
///
/// # Errors
/// When they cannot be listed.
pub fn below_the_root() -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(file_of("", ""))?.collect::<io::Result<Vec<_>>>()?;
    let groups = entries.into_iter().filter(|entry| entry.path().is_dir());
    Ok(groups
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}

/// A small file that is read again and again.
#[derive(Debug)]
pub struct Kept {
    file: File,
}

impl Kept {
    /// Opens it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(group: &str, name: &str) -> io::Result<Self> {
        File::open(file_of(group, name)).map(|file| Self { file })
    }

    /// What it says now.
    ///
    /// # Errors
    /// When it cannot be read: the cgroup is gone.
    pub fn read(&self) -> io::Result<String> {
        let mut bytes = [0u8; 4096];
        let count = self.file.read_at(&mut bytes, 0)?;
        Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
    }
}

/// True if a cgroup is not there, or went while it was open.
#[must_use]
pub fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ENODEV as i32)
}

/// CPU time of `cpu.stat`, in microseconds.
#[must_use]
pub fn usage_us(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?
        .trim()
        .parse()
        .ok()
}

/// `cpu.max` in thousandths of a CPU; no limit is the highest.
#[must_use]
pub fn quota(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let period: u64 = period.parse().ok()?;
    match quota {
        "max" => Some(u64::MAX),
        quota => (quota.parse::<u64>().ok()? * 1000).checked_div(period),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_words_are_read() {
        assert_eq!(usage_us("usage_usec 12\nuser_usec 3\n"), Some(12));
        assert_eq!(usage_us("user_usec 3\n"), None);
        assert_eq!(quota("16000 10000\n"), Some(1600));
        assert_eq!(quota("max 100000\n"), Some(u64::MAX));
        assert_eq!(quota("1000 0"), None);
        assert_eq!(
            file_of("/a.slice", "cpu.max"),
            PathBuf::from("/sys/fs/cgroup/a.slice/cpu.max")
        );
    }
}
