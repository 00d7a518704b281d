//! The brake: a lower `cpu.max` or `memory.high` of our own slices, and memory taken back from them, written straight into
//! cgroupfs.
//!
//! Systemd owns these cgroups and is told over D-Bus what they may have; but while it loads its units anew it answers no
//! one for seconds, and production cannot wait that long. Only ever below what systemd was told, only below
//! `loadline.slice`.

use std::fs::File;
use std::io::{self, Cursor, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use loadline_model::{Bytes, MilliCpu};
use loadline_policy::settings::{CpuMax, Limit, Slice};

use super::cgroup::MOUNT;
use super::kept::Kept;
use super::root::HostRoot;
use super::systemd::SLICE;

/// Two numbers of up to twenty digits.
const LENGTH: usize = 64;

/// The brake of one slice.
#[derive(Debug)]
pub struct Brake {
    cpu: Kept,
    memory: Kept,
    /// Opened when it is needed, which is seldom.
    reclaim: PathBuf,
}

impl Brake {
    /// Of a slice on this machine.
    pub fn new(root: &HostRoot, slice: Slice) -> Self {
        let folder = match slice {
            Slice::Root => format!("{MOUNT}/{SLICE}"),
            Slice::Standard | Slice::Burst => format!("{MOUNT}/{SLICE}/{}", slice.unit()),
        };
        let folder = root.path(&folder);
        let file = |name: &str| {
            let how = File::options().read(true).write(true).clone();
            Kept::new(folder.join(name), how)
        };
        Self {
            cpu: file("cpu.max"),
            memory: file("memory.high"),
            reclaim: folder.join("memory.reclaim"),
        }
    }

    /// Makes sure that the slice gets this, and no more than systemd was told: pressed and let go again without it. True
    /// if something was written; a slice that is not there has nothing, and no limit is systemd's to set.
    ///
    /// # Errors
    /// When the kernel does not let us read or write the limit.
    pub fn hold(&mut self, to: Limit<MilliCpu>, told: Limit<MilliCpu>) -> io::Result<bool> {
        let Limit::At(cpu) = to else { return Ok(false) };
        let wanted = CpuMax::of(match told {
            Limit::At(told) => cpu.min(told),
            Limit::Max => cpu,
        });
        let written = self.cpu.with(|file| {
            let is_held = match read_max(file)? {
                Some(Limit::At(now)) => !now.exceeds(wanted) && !wanted.exceeds(now),
                // Not understood is not known to be low enough.
                Some(Limit::Max) | None => false,
            };
            if !is_held {
                let CpuMax { quota_us, period_us } = wanted;
                write(file, format_args!("{quota_us} {period_us}"))?;
            }
            Ok(!is_held)
        });
        Ok(written?.unwrap_or(false))
    }

    /// What the slice may use now; none where it is not there, has no limit, or says what we do not understand.
    ///
    /// # Errors
    /// When the kernel does not let us read it.
    pub fn in_force(&mut self) -> io::Result<Option<MilliCpu>> {
        let max = self.cpu.with(read_max)?;
        Ok(match max.flatten() {
            Some(Limit::At(max)) => Some(max.cpu()),
            Some(Limit::Max) | None => None,
        })
    }

    /// Makes sure that the slice may hold no more memory than this before the kernel takes it back. True if it might
    /// until now. The kernel begins before it answers, so a value far below what the slice holds takes its time.
    ///
    /// # Errors
    /// When the kernel does not let us read or write the limit.
    pub fn lower_memory(&mut self, to: Bytes) -> io::Result<bool> {
        let lowered = self.memory.with(|file| {
            let mut text = [0; LENGTH];
            let length = file.read_at(&mut text, 0)?;
            let text = std::str::from_utf8(text.get(..length).unwrap_or_default());
            let now: Option<u64> = text.ok().and_then(|text| text.trim().parse().ok());
            // It rounds down to pages, so the same value reads as no more.
            let has_more = now.is_none_or(|now| now > to.0);
            if has_more {
                write(file, format_args!("{}", to.0))?;
            }
            Ok(has_more)
        });
        Ok(lowered?.unwrap_or(false))
    }

    /// Has the kernel take so much memory from the slice. False if it could not find all of it, which is no fault:
    /// without swap only page cache can be taken.
    ///
    /// # Errors
    /// When the kernel does not let us ask.
    pub fn reclaim(&self, amount: Bytes) -> io::Result<bool> {
        let file = match File::options().write(true).open(&self.reclaim) {
            Ok(file) => file,
            // Only since kernel 5.19; `check` says so, and the limit of the slice still works.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match write(&file, format_args!("{}", amount.0)) {
            Ok(()) => Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

fn write(file: &File, text: std::fmt::Arguments<'_>) -> io::Result<()> {
    let mut line = Cursor::new([0; LENGTH]);
    writeln!(line, "{text}")?;
    let length = usize::try_from(line.position()).unwrap_or(LENGTH);
    let line = line.get_ref().get(..length).unwrap_or_default();
    // At once and once: a second write would be a second order.
    match file.write_at(line, 0)? {
        written if written == length => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// None: not understood.
fn read_max(file: &File) -> io::Result<Option<Limit<CpuMax>>> {
    let mut text = [0; LENGTH];
    let length = file.read_at(&mut text, 0)?;
    Ok(parse(text.get(..length).unwrap_or_default()))
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
    fn it_holds_what_is_wanted_and_never_more_than_systemd_was_told() {
        let place = tempfile::tempdir().unwrap();
        let mut brake = Brake::new(&HostRoot::new(place.path()), Slice::Burst);
        let to = |cpu| Limit::At(MilliCpu(cpu));
        assert!(
            !brake.hold(to(100), Limit::Max).unwrap(),
            "no slice, nothing to hold"
        );
        let folder = place
            .path()
            .join("sys/fs/cgroup/loadline.slice/loadline-burst.slice");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("cpu.max");
        for (before, cpu, told, after) in [
            ("max 100000\n", to(600), to(900), "6000 10000\n"),
            ("5000 10000\n", to(600), to(900), "6000 10000\n"),
            ("5000 10000\n", to(600), to(500), "5000 10000\n"),
            ("5000 10000\n", to(600), Limit::Max, "6000 10000\n"),
            ("9000 10000\n", to(600), to(500), "5000 10000\n"),
            // The same share.
            ("60000 100000\n", to(600), to(600), "60000 100000\n"),
            ("max 100000\n", Limit::Max, to(500), "max 100000\n"),
            ("5000 10000\n", Limit::Max, Limit::Max, "5000 10000\n"),
            // What is not understood is written over.
            ("?\n", to(50), Limit::Max, "1000 20000\n"),
        ] {
            fs::write(&file, before).unwrap();
            let written = brake.hold(cpu, told).unwrap();
            let now = fs::read_to_string(&file).unwrap();
            assert_eq!((written, now.as_str()), (before != after, after), "{before}");
        }
    }

    #[test]
    fn memory_only_ever_falls() {
        let place = tempfile::tempdir().unwrap();
        let mut brake = Brake::new(&HostRoot::new(place.path()), Slice::Root);
        let folder = place.path().join("sys/fs/cgroup/loadline.slice");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("memory.high");
        let mut lowered = |before: &str, bytes| {
            fs::write(&file, before).unwrap();
            let said = brake.lower_memory(Bytes(bytes)).unwrap();
            (said, fs::read_to_string(&file).unwrap())
        };
        assert_eq!(lowered("max\n", 8192), (true, "8192\n".to_owned()));
        assert_eq!(lowered("4096\n", 8192), (false, "4096\n".to_owned()));
        assert_eq!(lowered("8192\n", 8192), (false, "8192\n".to_owned()));
    }

    #[test]
    fn what_is_in_force_is_read_in_any_period() {
        let place = tempfile::tempdir().unwrap();
        let mut brake = Brake::new(&HostRoot::new(place.path()), Slice::Root);
        assert_eq!(brake.in_force().unwrap(), None, "no slice");
        let folder = place.path().join("sys/fs/cgroup/loadline.slice");
        fs::create_dir_all(&folder).unwrap();
        for (text, cpu) in [
            ("6000 10000\n", Some(600)),
            ("60000 100000\n", Some(600)),
            ("1000 20000\n", Some(50)),
            ("max 100000\n", None),
            ("?", None),
        ] {
            fs::write(folder.join("cpu.max"), text).unwrap();
            assert_eq!(brake.in_force().unwrap(), cpu.map(MilliCpu), "{text}");
        }
    }
}
