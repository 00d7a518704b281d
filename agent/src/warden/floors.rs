//! What production's units had before we set floors on them: kept in a file until the machine restarts, so that a
//! warden that is started anew can still give back what was there.
//!
//! Floors are runtime properties and go with the boot; a record of another boot says nothing. It is written before a
//! floor is set: a record too many takes nothing from anyone, one too few would leave a floor for ever.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use loadline_model::Bytes;
use loadline_policy::protect::{Floor, Held};
use serde::{Deserialize, Serialize};

/// By unit.
pub type HeldFloors = BTreeMap<String, Held>;

/// The record cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{operation} the record of floors {} failed; until it works no floor is set or taken back", path.display())]
pub struct FloorsError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    boot: String,
    /// `[owner's min, owner's low, our min, our low]`, in bytes.
    units: BTreeMap<String, [u64; 4]>,
}

/// What was set in this boot. A record that cannot be understood is as good as none: it was written whole or not at
/// all, so somebody else wrote it.
///
/// # Errors
/// When there is a file that cannot be read.
pub fn load(path: &Path, boot: &str) -> Result<HeldFloors, FloorsError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HeldFloors::new()),
        Err(source) => {
            return Err(FloorsError {
                operation: "reading",
                path: path.to_owned(),
                source,
            });
        }
    };
    let record = serde_json::from_slice::<Record>(&text).ok();
    let Some(record) = record.filter(|record| record.boot == boot) else {
        return Ok(HeldFloors::new());
    };
    let floor = |min, low| Floor {
        min: Bytes(min),
        low: Bytes(low),
    };
    let units = record.units.into_iter();
    Ok(units
        .map(|(unit, [owner_min, owner_low, min, low])| {
            let (owner, set) = (floor(owner_min, owner_low), floor(min, low));
            (unit, Held { owner, set })
        })
        .collect())
}

/// Writes it, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn save(path: &Path, boot: &str, held: &HeldFloors) -> Result<(), FloorsError> {
    let numbers = |held: &Held| [held.owner.min.0, held.owner.low.0, held.set.min.0, held.set.low.0];
    let record = Record {
        boot: boot.to_owned(),
        units: held
            .iter()
            .map(|(unit, held)| (unit.clone(), numbers(held)))
            .collect(),
    };
    let draft = path.with_extension("new");
    let write = || {
        let text = serde_json::to_vec(&record).map_err(io::Error::other)?;
        fs::write(&draft, text)?;
        fs::rename(&draft, path)
    };
    write().map_err(|source| FloorsError {
        operation: "writing",
        path: path.to_owned(),
        source,
    })
}
