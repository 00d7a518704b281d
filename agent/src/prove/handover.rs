//! How the warden hands a test that the fleet ordered to the program that runs it, and takes back what came out: three
//! small files in a folder of root's below /run, which go with the boot.
//!
//! The warden is sandboxed and starts nothing but a unit by name, so the words of the order lie in a file. Each side
//! treats the other's as untrusted input: a plain file of its own account, bounded, with no key that it does not know,
//! about the test that it means.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use loadline_model::ProveId;
use loadline_policy::prove::ordered::{Ended, Standing};
use nix::fcntl::OFlag;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::agent::durable::{WriteError, stage};

/// The folder on a real node.
pub const FOLDER: &str = "/run/loadline/prove";
/// Of both files. A program of another version refuses it, for instance in the middle of an upgrade.
const VERSION: u32 = 1;
/// An order names a few words and numbers.
const ORDER_MAX: u64 = 16 * 1024;
/// All texts of a report together; a page with every plot of a long test has 300 KiB.
pub const REPORT_MAX: usize = 512 * 1024;
/// As JSON each of their bytes may take two, and the rest of the file is small.
const OUTCOME_MAX: u64 = 2 * REPORT_MAX as u64 + 64 * 1024;
const PROGRESS_MAX: u64 = 1024;
const PRIVATE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;

/// A file of the hand-over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// It cannot be read.
    #[error("reading {} failed", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is larger than it can rightly be.
    #[error("{} has more than {most} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// How many it may have.
        most: u64,
    },
    /// It is not what it should be.
    #[error("{} is not what this version writes: {problem}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It cannot be made or removed.
    #[error("{operation} {} failed", path.display())]
    Folder {
        /// What was tried.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// An order as the warden has written it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noted {
    version: u32,
    /// The test.
    pub standing: Standing,
    /// systemd was told to start it.
    pub started: bool,
}

impl Noted {
    /// An order that is to be written down.
    pub const fn new(standing: Standing, started: bool) -> Self {
        Self {
            version: VERSION,
            standing,
            started,
        }
    }
}

/// A report in all its forms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    /// For a screen.
    pub text: String,
    /// Signed.
    pub json: String,
    /// A page; empty: it would have been too large.
    pub html: String,
    /// It came to its end and left nothing behind.
    pub whole: bool,
    /// Lent work cost production something.
    pub cost: bool,
}

impl Texts {
    fn len(&self) -> usize {
        self.text.len() + self.json.len() + self.html.len()
    }

    /// The same within bounds: rather without its page than not at all.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if self.len() > REPORT_MAX {
            self.html.clear();
        }
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum How {
    Report,
    Refused,
    Failed,
}

/// What came out, as the program writes it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    version: u32,
    run: ProveId,
    how: How,
    sentence: String,
    report: Option<Texts>,
}

impl Outcome {
    /// A report.
    pub fn report(run: ProveId, texts: Texts) -> Self {
        Self {
            version: VERSION,
            run,
            how: How::Report,
            sentence: String::new(),
            report: Some(texts.bounded()),
        }
    }

    /// None, and why.
    pub fn nothing(run: ProveId, refused: bool, sentence: String) -> Self {
        Self {
            version: VERSION,
            run,
            how: if refused { How::Refused } else { How::Failed },
            sentence,
            report: None,
        }
    }

    /// In policy's words, with the report.
    pub fn ended(self) -> (Ended, Option<Texts>) {
        let ended = match self.how {
            How::Report => Ended::Report,
            How::Refused => Ended::Refused(self.sentence),
            How::Failed => Ended::Failed(self.sentence),
        };
        (ended, self.report)
    }
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Handover(PathBuf);

impl Default for Handover {
    fn default() -> Self {
        Self::new(FOLDER)
    }
}

impl Handover {
    /// In another place, for tests.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    fn order_path(&self) -> PathBuf {
        self.0.join("order.json")
    }

    fn outcome_path(&self) -> PathBuf {
        self.0.join("outcome.json")
    }

    fn progress_path(&self) -> PathBuf {
        self.0.join("progress")
    }

    /// Writes an order down. With it everything about an earlier test goes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, noted: &Noted) -> Result<(), HandoverError> {
        if !noted.started {
            self.make()?;
            self.remove(&self.outcome_path())?;
            self.remove(&self.progress_path())?;
        }
        write_json(&self.order_path(), noted)
    }

    /// The order that is written down; none if there is none.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn noted(&self) -> Result<Option<Noted>, HandoverError> {
        let path = self.order_path();
        let noted: Option<Noted> = read_json(&path, ORDER_MAX)?;
        match noted {
            Some(noted) if noted.version != VERSION => Err(other_version(path, noted.version)),
            noted => Ok(noted),
        }
    }

    /// Writes down what came out.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn conclude(&self, outcome: &Outcome) -> Result<(), HandoverError> {
        write_json(&self.outcome_path(), outcome)
    }

    /// What came out of this test; none as long as nothing did.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn outcome(&self, run: ProveId) -> Result<Option<Outcome>, HandoverError> {
        let path = self.outcome_path();
        let Some(outcome) = read_json::<Outcome>(&path, OUTCOME_MAX)? else {
            return Ok(None);
        };
        let most = REPORT_MAX as u64;
        if outcome.version != VERSION {
            Err(other_version(path, outcome.version))
        } else if outcome.run != run {
            let problem = format!("it is about the test {}", outcome.run);
            Err(HandoverError::Content { path, problem })
        } else if outcome
            .report
            .as_ref()
            .is_some_and(|texts| texts.len() > REPORT_MAX)
        {
            Err(HandoverError::TooLarge { path, most })
        } else {
            Ok(Some(outcome))
        }
    }

    /// Says what the test does just now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn say(&self, line: &str) -> Result<(), HandoverError> {
        Ok(stage(&self.progress_path(), line.as_bytes(), PRIVATE, None)?.commit()?)
    }

    /// What the test does just now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn progress(&self) -> Result<Option<String>, HandoverError> {
        let line = read(&self.progress_path(), PROGRESS_MAX)?;
        Ok(line.map(|line| String::from_utf8_lossy(&line).into_owned()))
    }

    /// The test is over and told.
    ///
    /// # Errors
    /// When something stays behind.
    pub fn clear(&self) -> Result<(), HandoverError> {
        // The order last: without it nobody asks for the others.
        for path in [self.outcome_path(), self.progress_path(), self.order_path()] {
            self.remove(&path)?;
        }
        Ok(())
    }

    fn make(&self) -> Result<(), HandoverError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_FOLDER)
            .create(&self.0);
        made.map_err(|source| self.failed("making", &self.0, source))
    }

    fn remove(&self, path: &Path) -> Result<(), HandoverError> {
        match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("removing", path, source))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, operation: &'static str, path: &Path, source: io::Error) -> HandoverError {
        HandoverError::Folder {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}

fn other_version(path: PathBuf, version: u32) -> HandoverError {
    let problem = format!("its version is {version}");
    HandoverError::Content { path, problem }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), HandoverError> {
    let bytes = serde_json::to_vec(value).map_err(|problem| HandoverError::Content {
        path: path.to_owned(),
        problem: problem.to_string(),
    })?;
    Ok(stage(path, &bytes, PRIVATE, None)?.commit()?)
}

fn read_json<T: DeserializeOwned>(path: &Path, most: u64) -> Result<Option<T>, HandoverError> {
    let Some(bytes) = read(path, most)? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&bytes).map_err(|problem| HandoverError::Content {
        path: path.to_owned(),
        problem: problem.to_string(),
    })?;
    Ok(Some(value))
}

/// A plain file of this program's own account, at most so large; none if there is none.
fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, HandoverError> {
    let failed = |source| HandoverError::Read {
        path: path.to_owned(),
        source,
    };
    let no_link = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = match OpenOptions::new().read(true).custom_flags(no_link).open(path) {
        Ok(file) => file,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let facts = file.metadata().map_err(failed)?;
    if !facts.is_file() || facts.uid() != nix::unistd::geteuid().as_raw() {
        let problem = "it is no plain file of root's".into();
        let path = path.to_owned();
        return Err(HandoverError::Content { path, problem });
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        let path = path.to_owned();
        return Err(HandoverError::TooLarge { path, most });
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
