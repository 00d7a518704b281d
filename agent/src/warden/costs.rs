//! What we have written into the kernel's io.cost, and what was there before: kept in a file until the machine
//! restarts, with which the setting itself goes. As with floors it is written first: a record too many takes nothing from
//! anyone, one too few would leave our setting for ever.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use loadline_policy::io_cost::Held;
use serde::{Deserialize, Serialize};

use crate::agent::durable::{WriteError, stage};

const PRIVATE: u32 = 0o600;

/// By the disk's name.
pub type HeldCosts = BTreeMap<String, Held>;

/// The record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CostsError {
    /// It cannot be read.
    #[error("reading the record of io.cost {} failed; until it works no disk's io.cost is changed", path.display())]
    Read {
        /// Where it lies.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be written.
    #[error("the record of io.cost; until it works no disk's io.cost is changed")]
    Write(#[from] WriteError),
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    boot: String,
    disks: HeldCosts,
}

/// What was written in this boot. A record that cannot be understood is as good as none: it was written whole or not at
/// all, so somebody else wrote it.
///
/// # Errors
/// When there is a file that cannot be read.
pub fn load(path: &Path, boot: &str) -> Result<HeldCosts, CostsError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HeldCosts::new()),
        Err(source) => {
            let path = path.to_owned();
            return Err(CostsError::Read { path, source });
        }
    };
    let record = serde_json::from_slice::<Record>(&text).ok();
    let record = record.filter(|record| record.boot == boot);
    Ok(record.map(|record| record.disks).unwrap_or_default())
}

/// Writes it, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn save(path: &Path, boot: &str, held: &HeldCosts) -> Result<(), CostsError> {
    let record = Record {
        boot: boot.to_owned(),
        disks: held.clone(),
    };
    let text = serde_json::to_vec(&record).map_err(|error| WriteError::new(path, error.into()))?;
    Ok(stage(path, &text, PRIVATE, None)?.commit()?)
}
