//! Production's week on the disk: one small file that is either as it was or wholly new. One that cannot be used is
//! set aside and named; it never keeps the warden from starting, since without it the line is the static one.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use loadline_model::WallTime;
use loadline_policy::week::{Kept, KeptProblem, Week};
use serde::{Deserialize, Serialize};

use crate::agent::durable::{WriteError, stage};
use crate::sentence::chain;

const VERSION: u32 = 1;
/// A week in which every hour has used every bucket takes half of that.
const FILE_MAX: u64 = 2 << 20;
const PRIVATE: u32 = 0o600;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it has more than {FILE_MAX} bytes")]
    TooLarge,
    #[error("it is not what this version writes")]
    Content(#[source] serde_json::Error),
    #[error("it is of version {0}, and this program knows {VERSION}")]
    Version(u32),
    #[error("it holds what cannot be")]
    Kept(#[from] KeptProblem),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    week: Kept,
}

/// Only this is read of a file of another version.
#[derive(Debug, Deserialize)]
struct Versioned {
    version: u32,
}

/// The week as it was kept, and, if it could not be used, what was done about that.
pub fn load(path: &Path, now: WallTime) -> (Week, Option<String>) {
    match read(path) {
        Ok(week) => (week.unwrap_or_default(), None),
        Err(problem) => (Week::default(), Some(set_aside(path, &problem, now))),
    }
}

fn read(path: &Path) -> Result<Option<Week>, LoadError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LoadError::Read(error)),
    };
    let mut text = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut text)
        .map_err(LoadError::Read)?;
    if text.len() as u64 > FILE_MAX {
        return Err(LoadError::TooLarge);
    }
    let Versioned { version } = serde_json::from_slice(&text).map_err(LoadError::Content)?;
    if version != VERSION {
        return Err(LoadError::Version(version));
    }
    let record: Record = serde_json::from_slice(&text).map_err(LoadError::Content)?;
    Ok(Some(Week::restore(&record.week)?))
}

fn set_aside(path: &Path, problem: &LoadError, now: WallTime) -> String {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".broken-{}", now.0));
    let aside = PathBuf::from(name);
    let kept = match fs::rename(path, &aside) {
        Ok(()) => format!("it is kept as {}", aside.display()),
        Err(error) => format!("it cannot be set aside ({error}) and will be replaced"),
    };
    format!(
        "the history of production's use in {} cannot be used ({}); {kept}, and until a day was watched again the firm \
         line is the one that the reserve and the headroom leave",
        path.display(),
        chain(problem)
    )
}

/// Writes it, whole or not at all.
///
/// # Errors
/// When it cannot be written; what was there before stays.
pub fn save(path: &Path, week: &Kept) -> Result<(), WriteError> {
    let record = Record {
        version: VERSION,
        week: week.clone(),
    };
    let text = serde_json::to_vec(&record).map_err(|error| WriteError::new(path, error.into()))?;
    stage(path, &text, PRIVATE, None)?.commit()
}
