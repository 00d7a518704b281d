//! The root under which kernel files are read: `/` on a node, a captured tree in tests. Every reader of `/sys` and
//! `/proc` below takes one, so that what is tested is what runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use loadline_model::CpuSet;

use super::short;

/// A kernel file that could not be read, or not understood.
#[derive(Debug, thiserror::Error)]
pub enum KernelFileError {
    /// It could not be read.
    #[error("reading {} failed", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not say what it should.
    #[error("{} should hold {expected} and holds `{text}`", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        text: String,
    },
}

/// Where kernel files are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoot(PathBuf);

impl Default for HostRoot {
    fn default() -> Self {
        Self::new("/")
    }
}

impl HostRoot {
    /// A tree that holds `sys`, `proc` and `etc`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// A file or folder of it, named as on a node.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name.trim_start_matches('/'))
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The file's text without the last line break.
    pub(super) fn text(&self, name: &str) -> Result<String, KernelFileError> {
        let path = self.path(name);
        match short::read(&path) {
            Ok(text) => Ok(text.trim_end().to_owned()),
            Err(source) => Err(KernelFileError::Read { path, source }),
        }
    }

    /// The same, none if there is no such file.
    pub(super) fn optional(&self, name: &str) -> Result<Option<String>, KernelFileError> {
        match self.text(name) {
            Ok(text) => Ok(Some(text)),
            Err(KernelFileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn parsed<T: FromStr>(
        &self,
        name: &str,
        expected: &'static str,
    ) -> Result<T, KernelFileError> {
        let text = self.text(name)?;
        text.parse().map_err(|_| KernelFileError::Format {
            path: self.path(name),
            expected,
            text,
        })
    }

    pub(super) fn cpus(&self, name: &str) -> Result<CpuSet, KernelFileError> {
        self.parsed(name, "a list of CPUs")
    }

    /// The numbers behind a prefix among the entries of a folder: `node0`, `node1` …; none if there is no folder.
    pub(super) fn numbered(&self, folder: &str, prefix: &str) -> Vec<u32> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let number = |name: &Path| name.to_str()?.strip_prefix(prefix)?.parse().ok();
        let mut numbers: Vec<u32> = entries
            .filter_map(|entry| number(Path::new(&entry.file_name())))
            .collect();
        numbers.sort_unstable();
        numbers
    }
}
