//! The kernel's `io.cost.model` and `io.cost.qos`: read, and written only for a disk that the owner names.
//!
//! Both lie in the root cgroup and hold a line for each disk that has one. A write names the disk by its number and
//! changes its line alone; it waits until no request of the disk is under way.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use loadline_policy::settings::{IoCostSeen as Seen, IoCostWords as Words, io_cost_lines as lines};

use super::cgroup::MOUNT;
use super::disks::{self, Disk};
use super::root::{HostRoot, KernelFileError};

/// What the disk can do.
pub const MODEL: &str = "io.cost.model";
/// Whether it goes by weight, and how far it may be filled.
pub const QOS: &str = "io.cost.qos";

/// The files could not be used.
#[derive(Debug, thiserror::Error)]
pub enum IoCostError {
    /// One could not be read.
    #[error(transparent)]
    Read(#[from] KernelFileError),
    /// A disk is not there, or lies on others.
    #[error("this machine has no disk `{disk}` that lies on no other")]
    NoDisk {
        /// Its name.
        disk: String,
    },
    /// The kernel refused a line.
    #[error("writing `{text}` to {} failed", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The line.
        text: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The files, or what stands for them in tests.
pub trait CostFiles: fmt::Debug + Send + Sync + 'static {
    /// The machine's own disks.
    fn disks(&self) -> Vec<Disk>;

    /// By name, the lines of those disks. None: the kernel has no io.cost.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    fn look(&self) -> Result<Option<BTreeMap<String, Seen>>, IoCostError>;

    /// Writes a disk's lines: the model first.
    ///
    /// # Errors
    /// When there is no such disk, or the kernel refuses.
    fn write(&self, disk: &str, words: &Words) -> Result<(), IoCostError>;
}

/// Those of a machine.
#[derive(Debug, Clone, Default)]
pub struct KernelCosts(HostRoot);

impl KernelCosts {
    /// Of the machine with these files.
    pub const fn new(root: HostRoot) -> Self {
        Self(root)
    }

    fn text(&self, file: &str) -> Result<Option<String>, IoCostError> {
        match self.0.text(&format!("{MOUNT}/{file}")) {
            Ok(text) => Ok(Some(text)),
            Err(KernelFileError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn put(&self, file: &str, text: String) -> Result<(), IoCostError> {
        let path = self.0.path(&format!("{MOUNT}/{file}"));
        // In one write: the kernel takes each as a line of its own.
        let opened = OpenOptions::new().write(true).open(&path);
        let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|source| IoCostError::Write { path, text, source })
    }
}

impl CostFiles for KernelCosts {
    fn disks(&self) -> Vec<Disk> {
        disks::list(&self.0)
    }

    fn look(&self) -> Result<Option<BTreeMap<String, Seen>>, IoCostError> {
        let (Some(qos), Some(model)) = (self.text(QOS)?, self.text(MODEL)?) else {
            return Ok(None);
        };
        let (qos, model) = (lines(&qos), lines(&model));
        let line = |lines: &BTreeMap<&str, &str>, disk: &Disk| {
            lines
                .get(disk.number.as_str())
                .map(|line| (*line).trim().to_owned())
        };
        let disks = self.disks().into_iter();
        let seen = disks.map(|disk| {
            let seen = Seen {
                model: line(&model, &disk),
                qos: line(&qos, &disk),
            };
            (disk.name, seen)
        });
        Ok(Some(seen.collect()))
    }

    fn write(&self, disk: &str, words: &Words) -> Result<(), IoCostError> {
        let found = self.disks().into_iter().find(|known| known.name == disk);
        let number = found.map(|disk| disk.number).ok_or_else(|| IoCostError::NoDisk {
            disk: disk.to_owned(),
        })?;
        self.put(MODEL, format!("{number} {}", words.model))?;
        self.put(QOS, format!("{number} {}", words.qos))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            for (disk, dev) in [("vda", "254:0\n"), ("vdb", "254:16\n")] {
                machine.put(&format!("sys/block/{disk}/dev"), dev);
                machine.put(&format!("sys/block/{disk}/size"), "8\n");
            }
            machine
        }

        fn put(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn file(&self, name: &str) -> String {
            fs::read_to_string(self.0.path().join("sys/fs/cgroup").join(name)).unwrap()
        }

        fn costs(&self) -> KernelCosts {
            KernelCosts::new(HostRoot::new(self.0.path()))
        }
    }

    fn words() -> Words {
        Words {
            model: "ctrl=auto".into(),
            qos: "enable=1 ctrl=auto".into(),
        }
    }

    #[test]
    fn lines_are_read_by_disk_and_written_by_number() {
        let machine = Machine::new();
        assert!(machine.costs().look().unwrap().is_none(), "no such files");
        machine.put(
            "sys/fs/cgroup/io.cost.qos",
            "254:0 enable=1 ctrl=auto rpct=0.00\n7:0 enable=1\n",
        );
        machine.put(
            "sys/fs/cgroup/io.cost.model",
            "254:0 ctrl=auto model=linear rbps=1\n",
        );
        let seen = machine.costs().look().unwrap().unwrap();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen["vda"].qos.as_deref(), Some("enable=1 ctrl=auto rpct=0.00"));
        assert_eq!(
            seen["vda"].model.as_deref(),
            Some("ctrl=auto model=linear rbps=1")
        );
        assert_eq!(seen["vdb"], Seen::default());
        let weighed: Vec<bool> = machine
            .costs()
            .disks()
            .iter()
            .map(|disk| disk.by_weight)
            .collect();
        assert_eq!(weighed, [true, false]);

        // A kernel's file is no file: what is written stands before what was there.
        machine.costs().write("vdb", &words()).unwrap();
        assert!(machine.file(QOS).starts_with("254:16 enable=1 ctrl=auto"));
        assert!(machine.file(MODEL).starts_with("254:16 ctrl=auto"));
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let machine = Machine::new();
        let error = machine.costs().write("vdz", &words()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this machine has no disk `vdz` that lies on no other"
        );
        let error = machine.costs().write("vda", &words()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("writing `254:0 ctrl=auto` to ") && text.ends_with("io.cost.model failed"),
            "{text}"
        );
        assert!(
            !machine.0.path().join("sys/fs/cgroup/io.cost.model").exists(),
            "no file is made"
        );
        machine.put("sys/fs/cgroup/io.cost.model", "");
        fs::create_dir(machine.0.path().join("sys/fs/cgroup/io.cost.qos")).unwrap();
        assert!(matches!(machine.costs().look(), Err(IoCostError::Read(_))));
    }
}
