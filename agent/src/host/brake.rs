//! The brake: a lower `cpu.max` of our own slices, written straight into cgroupfs.
//!
//! Systemd owns these cgroups and gets the same value over D-Bus afterwards; but while it loads its units anew it
//! answers no one for seconds, and production cannot wait that long. Only ever downwards, only below `loadline.slice`.

use std::fs::File;
use std::io::{self, Cursor, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use loadline_model::MilliCpu;
use loadline_policy::settings::{CpuMax, Limit, Slice};

use super::cgroup::MOUNT;
use super::root::HostRoot;
use super::systemd::SLICE;

/// Two numbers of up to twenty digits.
const LENGTH: usize = 64;

/// The brake of one slice.
#[derive(Debug)]
pub struct Brake {
    path: PathBuf,
}

impl Brake {
    /// Of a slice on this machine.
    pub fn new(root: &HostRoot, slice: Slice) -> Self {
        let folder = match slice {
            Slice::Root => format!("{MOUNT}/{SLICE}"),
            Slice::Standard | Slice::Burst => format!("{MOUNT}/{SLICE}/{}", slice.unit()),
        };
        Self {
            path: root.path(&folder).join("cpu.max"),
        }
    }

    /// Makes sure that the slice gets no more than this. True if it had more until now; a slice that is not there
    /// has nothing.
    ///
    /// # Errors
    /// When the kernel does not let us read or write the limit.
    pub fn lower(&self, to: Limit<MilliCpu>) -> io::Result<bool> {
        let Limit::At(cpu) = to else { return Ok(false) };
        let file = match File::options().read(true).write(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let (wanted, mut text) = (CpuMax::of(cpu), [0; LENGTH]);
        let length = file.read_at(&mut text, 0)?;
        let has_more = match parse(text.get(..length).unwrap_or_default()) {
            Some(Limit::At(now)) => now.exceeds(wanted),
            // Not understood is not known to be low enough.
            Some(Limit::Max) | None => true,
        };
        if has_more {
            let (CpuMax { quota_us, period_us }, mut line) = (wanted, Cursor::new([0; LENGTH]));
            writeln!(line, "{quota_us} {period_us}")?;
            let length = usize::try_from(line.position()).unwrap_or(LENGTH);
            file.write_all_at(line.get_ref().get(..length).unwrap_or_default(), 0)?;
        }
        Ok(has_more)
    }
}

fn parse(text: &[u8]) -> Option<Limit<CpuMax>> {
    let (quota, period) = std::str::from_utf8(text).ok()?.trim().split_once(' ')?;
    if quota == "max" {
        return Some(Limit::Max);
    }
    Some(Limit::At(CpuMax {
        quota_us: quota.parse().ok()?,
        period_us: period.parse().ok()?,
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn it_only_ever_lowers() {
        let place = tempfile::tempdir().unwrap();
        let brake = Brake::new(&HostRoot::new(place.path()), Slice::Burst);
        let to = |cpu| Limit::At(MilliCpu(cpu));
        assert!(!brake.lower(to(100)).unwrap(), "no slice, nothing to hold");
        let folder = place
            .path()
            .join("sys/fs/cgroup/loadline.slice/loadline-burst.slice");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("cpu.max");
        let lowered = |before: &str, cpu| {
            fs::write(&file, before).unwrap();
            (brake.lower(cpu).unwrap(), fs::read_to_string(&file).unwrap())
        };
        assert_eq!(
            lowered("max 100000\n", to(600)),
            (true, "6000 10000\n".to_owned())
        );
        assert_eq!(lowered("5000 10000\n", to(600)), (false, "5000 10000\n".into()));
        assert_eq!(
            lowered("60000 100000\n", to(600)),
            (false, "60000 100000\n".into()),
            "the same share"
        );
        assert_eq!(
            lowered("max 100000\n", Limit::Max),
            (false, "max 100000\n".into())
        );
        assert!(lowered("?", to(50)).0, "what is not understood is written over");
    }
}
