//! The files of `<state>/keys`: made once by `fleetd init`, read at every start.
//!
//! The folder appears as a whole or not at all: everything is written into a neighbour and renamed at the end.
//! Secret halves are readable by fleetd's own user only, and a key that others could read is refused.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use loadline_model::{FleetId, WallTime};
use serde::{Deserialize, Serialize};

use super::{Authority, AuthorityError, IssueError, OrderKey, OrderKeyError};

/// Group and others, any right.
const OTHERS: u32 = 0o077;

/// Where the files of a state directory are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysLayout {
    folder: PathBuf,
}

/// What a fleet is: its id, the names it is reached by, its authority and its order key.
#[derive(Debug)]
pub struct FleetKeys {
    /// The fleet's id, for ever.
    pub fleet: FleetId,
    /// What nodes and people dial: host names or addresses, each with the port of the access service.
    pub names: Vec<String>,
    /// Signs certificates.
    pub authority: Authority,
    /// Signs orders.
    pub order: OrderKey,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetFile {
    fleet_id: FleetId,
    names: Vec<String>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// There are some already, and they are never overwritten.
    #[error("{} exists: this machine holds a fleet already", .0.display())]
    Exists(PathBuf),
    /// There are none yet.
    #[error("{} does not exist: make the fleet with `fleetd init`", .0.display())]
    Missing(PathBuf),
    /// Others could read a secret.
    #[error("{} can be read by others (mode {mode:o}): `chmod 600` it, and think of it as known", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file could not be written.
    #[error("writing {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `fleet.json` is not what it should be.
    #[error("{} is not readable as the fleet's description", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The authority could not be made.
    #[error("making the certificate authority")]
    Make(#[source] IssueError),
    /// The authority cannot be used.
    #[error("the certificate authority in {}", path.display())]
    Authority {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: AuthorityError,
    },
    /// The order key cannot be used.
    #[error("the order key in {}", path.display())]
    Order {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: OrderKeyError,
    },
}

impl KeysLayout {
    /// The files of one state directory.
    pub fn of(state_dir: &Path) -> Self {
        Self {
            folder: state_dir.join("keys"),
        }
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes everything new.
    ///
    /// # Errors
    /// When there are keys already, or they cannot be written.
    pub fn create(&self, fleet: FleetId, names: Vec<String>, now: WallTime) -> Result<(), KeysError> {
        if self.folder.exists() {
            return Err(KeysError::Exists(self.folder.clone()));
        }
        let (ca_pem, ca_key_pem) = Authority::generate(fleet, now).map_err(KeysError::Make)?;
        let at_order = |source| KeysError::Order {
            path: self.folder.clone(),
            source,
        };
        let (order_secret, order_public) = OrderKey::generate().to_pem().map_err(at_order)?;
        let description = serde_json::to_string_pretty(&FleetFile {
            fleet_id: fleet,
            names,
        })
        .map_err(|source| KeysError::Description {
            path: self.folder.clone(),
            source,
        })?;
        let partial = self.folder.with_extension("partial");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KeysError::Write { path, source }
        };
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(failed(&partial))?;
        }
        DirBuilder::new()
            .mode(0o700)
            .create(&partial)
            .map_err(failed(&partial))?;
        for (name, text) in [
            ("fleet.json", description),
            ("ca.pem", ca_pem),
            ("ca.key.pem", ca_key_pem),
            ("order.pub.pem", order_public),
            ("order.key.pem", order_secret),
        ] {
            let path = partial.join(name);
            write_secret(&path, &text).map_err(failed(&path))?;
        }
        sync_dir(&partial).map_err(failed(&partial))?;
        fs::rename(&partial, &self.folder).map_err(failed(&self.folder))?;
        self.folder
            .parent()
            .map_or(Ok(()), sync_dir)
            .map_err(failed(&self.folder))
    }

    /// Reads everything.
    ///
    /// # Errors
    /// When something is missing, open to others, or broken.
    pub fn read(&self) -> Result<FleetKeys, KeysError> {
        if !self.folder.exists() {
            return Err(KeysError::Missing(self.folder.clone()));
        }
        let path = self.folder.join("fleet.json");
        let description: FleetFile =
            serde_json::from_str(&read(&path)?).map_err(|source| KeysError::Description { path, source })?;
        let fleet = description.fleet_id;
        let ca_pem = read(&self.folder.join("ca.pem"))?;
        let ca_key_pem = read_secret(&self.folder.join("ca.key.pem"))?;
        let at = || self.folder.clone();
        let authority = Authority::read(fleet, &ca_pem, &ca_key_pem)
            .map_err(|source| KeysError::Authority { path: at(), source })?;
        let order = OrderKey::from_pem(&read_secret(&self.folder.join("order.key.pem"))?)
            .map_err(|source| KeysError::Order { path: at(), source })?;
        Ok(FleetKeys {
            fleet,
            names: description.names,
            authority,
            order,
        })
    }
}

/// Reads a file that only its owner may read.
///
/// # Errors
/// When others can read it, or it cannot be read at all.
pub(crate) fn read_secret(path: &Path) -> Result<String, KeysError> {
    let meta = fs::metadata(path).map_err(|source| KeysError::Read {
        path: path.to_owned(),
        source,
    })?;
    if meta.mode() & OTHERS != 0 {
        return Err(KeysError::Open {
            path: path.to_owned(),
            mode: meta.mode() & 0o7777,
        });
    }
    read(path)
}

pub(crate) fn read(path: &Path) -> Result<String, KeysError> {
    fs::read_to_string(path).map_err(|source| KeysError::Read {
        path: path.to_owned(),
        source,
    })
}

fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    const FLEET: &str = "00000000-0000-0000-0000-0000000000f1";
    const NOW: WallTime = WallTime(1_800_000_000_000_000);

    fn made() -> (tempfile::TempDir, KeysLayout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = KeysLayout::of(dir.path());
        layout
            .create(FLEET.parse().unwrap(), vec!["fleet.example:7718".into()], NOW)
            .unwrap();
        (dir, layout)
    }

    #[test]
    fn made_once_and_read_back() {
        let (_dir, layout) = made();
        let keys = layout.read().unwrap();
        assert_eq!(keys.fleet, FLEET.parse().unwrap());
        assert_eq!(keys.names, ["fleet.example:7718"]);
        let again = layout.create(FLEET.parse().unwrap(), Vec::new(), NOW);
        assert!(matches!(again, Err(KeysError::Exists(_))));
        assert_eq!(layout.read().unwrap().order.id(), keys.order.id());
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_by_name() {
        let (_dir, layout) = made();
        let key = layout.folder().join("order.key.pem");
        fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
        let error = layout.read().unwrap_err();
        assert!(error.to_string().contains("order.key.pem"), "{error}");
        assert!(matches!(error, KeysError::Open { mode: 0o640, .. }));
    }

    #[test]
    fn no_keys_say_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = KeysLayout::of(dir.path()).read().unwrap_err();
        assert!(error.to_string().contains("fleetd init"), "{error}");
    }

    #[test]
    fn an_interrupted_init_leaves_nothing_behind_that_counts() {
        let dir = tempfile::tempdir().unwrap();
        let layout = KeysLayout::of(dir.path());
        fs::create_dir(dir.path().join("keys.partial")).unwrap();
        fs::write(dir.path().join("keys.partial/ca.pem"), "half").unwrap();
        assert!(matches!(layout.read(), Err(KeysError::Missing(_))));
        layout.create(FLEET.parse().unwrap(), Vec::new(), NOW).unwrap();
        assert!(layout.read().is_ok());
    }
}
