//! The folder of end records: written whole or not at all, read when the kernel says that it changed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use loadline_model::AttemptId;

use super::EndRecord;

/// Where end records lie.
#[derive(Debug, Clone)]
pub struct EndFolder {
    path: PathBuf,
}

/// An operation on the folder that failed.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A record could not be made durable.
    #[error("writing the end record {} failed", path.display())]
    Write {
        /// The record.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The folder or a record could not be read.
    #[error("reading {} failed", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A record could not be removed or moved.
    #[error("removing {} failed", path.display())]
    Remove {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// One file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A record.
    Record(EndRecord),
    /// A file that is none; it has been moved to the new place given.
    SetAside {
        /// Its name was.
        name: String,
        /// Where it is now.
        now: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl EndFolder {
    /// A folder at this path; it need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file_of(&self, attempt: AttemptId) -> PathBuf {
        self.path.join(format!("{}.json", attempt.hex()))
    }

    /// Makes a record durable: after a power cut it is there as a whole or not at all.
    ///
    /// # Errors
    /// When it could not be made durable; nothing is left behind then.
    pub fn write(&self, record: &EndRecord) -> Result<(), FolderError> {
        let path = self.file_of(record.attempt);
        let draft = self.path.join(format!(".{}.new", record.attempt.hex()));
        let durable = || -> io::Result<()> {
            fs::create_dir_all(&self.path)?;
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.path)?.sync_all()
        };
        durable().map_err(|source| {
            // Best effort: the reader passes over drafts anyway.
            let _ = fs::remove_file(&draft);
            FolderError::Write { path, source }
        })
    }

    /// The record of one attempt, if it is there and can be read.
    pub fn get(&self, attempt: AttemptId) -> Option<EndRecord> {
        let text = fs::read(self.file_of(attempt)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Everything in the folder. Files that are no records are moved into its subfolder `aside`.
    ///
    /// # Errors
    /// When the folder exists and cannot be read, or a broken file cannot be moved.
    pub fn read(&self) -> Result<Vec<Found>, FolderError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| FolderError::Read { path, source }
        };
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.path)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed(&self.path))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "aside" {
                continue;
            }
            let text = fs::read(entry.path()).map_err(failed(&entry.path()))?;
            found.push(match decode(&name, &text) {
                Ok(record) => Found::Record(record),
                Err(why) => self.set_aside(name, why)?,
            });
        }
        Ok(found)
    }

    fn set_aside(&self, name: String, why: String) -> Result<Found, FolderError> {
        let (path, aside) = (self.path.join(&name), self.path.join("aside"));
        let now = aside.join(&name);
        fs::create_dir_all(&aside)
            .and_then(|()| fs::rename(&path, &now))
            .map_err(|source| FolderError::Remove { path, source })?;
        Ok(Found::SetAside { name, now, why })
    }

    /// Drops the record of an attempt, once its end is in the ledger.
    ///
    /// # Errors
    /// When it exists and cannot be removed.
    pub fn remove(&self, attempt: AttemptId) -> Result<(), FolderError> {
        let path = self.file_of(attempt);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(FolderError::Remove { path, source })
            }
            _ => Ok(()),
        }
    }
}

fn decode(name: &str, text: &[u8]) -> Result<EndRecord, String> {
    let record: EndRecord = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let expected = format!("{}.json", record.attempt.hex());
    if name == expected {
        Ok(record)
    } else {
        Err(format!("it is about attempt {}", record.attempt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::ended::end_from_monitor;
    use loadline_model::WallTime;

    fn record(hex: &str) -> EndRecord {
        EndRecord {
            attempt: hex.parse().unwrap(),
            invocation: "ab".repeat(16),
            boot_id: "boot".into(),
            at: WallTime(5),
            end: end_from_monitor("exit-code", "exited", "7"),
        }
    }

    #[test]
    fn a_record_comes_back_and_can_be_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let folder = EndFolder::new(dir.path().join("ended"));
        assert_eq!(folder.read().unwrap(), []);
        let record = record("0192f0c123457abc8def0123456789ab");
        folder.write(&record).unwrap();
        assert_eq!(folder.read().unwrap(), [Found::Record(record.clone())]);
        assert_eq!(folder.get(record.attempt), Some(record.clone()));
        folder.remove(record.attempt).unwrap();
        folder.remove(record.attempt).unwrap();
        assert_eq!(folder.read().unwrap(), []);
    }

    #[test]
    fn a_broken_file_is_kept_aside_and_named_and_does_not_hide_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let folder = EndFolder::new(dir.path());
        folder.write(&record("0192f0c123457abc8def0123456789ab")).unwrap();
        fs::write(dir.path().join("x.json"), b"{").unwrap();
        let found = folder.read().unwrap();
        assert_eq!(found.len(), 2);
        assert!(
            found
                .iter()
                .any(|one| matches!(one, Found::SetAside { name, now, .. }
            if name == "x.json" && now.exists()))
        );
        assert_eq!(folder.read().unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), b"").unwrap();
        let folder = EndFolder::new(dir.path().join("file"));
        let error = folder
            .write(&record("0192f0c123457abc8def0123456789ab"))
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("0192f0c123457abc8def0123456789ab.json"),
            "{error}"
        );
    }
}
