//! fleetd never works as root: whoever starts a command as root becomes the owner of the state directory first.
//!
//! So `sudo fleetd init` leaves files that the service can read, and a forgotten `User=` is no hole.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, User, geteuid, setgid, setgroups, setuid};

/// The account that the package makes.
const ACCOUNT: &str = "loadline-fleet";

/// Why the state directory cannot be worked in.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// It does not exist.
    #[error("the state directory {} does not exist: make the fleet with `fleetd init`", .0.display())]
    Missing(PathBuf),
    /// It cannot be made or looked at.
    #[error("the state directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process could not become its owner.
    #[error("becoming the owner of {} (uid {uid})", path.display())]
    Become {
        /// Which.
        path: PathBuf,
        /// Whom.
        uid: u32,
        /// Why.
        #[source]
        source: nix::Error,
    },
}

/// Whatever is made from here on is for its owner only.
pub(super) fn close_to_others() {
    umask(Mode::from_bits_truncate(0o077));
}

/// Makes the state directory if it is not there, for the package's account where that exists.
///
/// # Errors
/// When it cannot be made.
pub(super) fn make(state_dir: &Path) -> Result<(), AccountError> {
    let failed = |source| AccountError::Directory {
        path: state_dir.to_owned(),
        source,
    };
    if state_dir.exists() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)
        .map_err(failed)?;
    if geteuid().is_root()
        && let Ok(Some(user)) = User::from_name(ACCOUNT)
    {
        chown(state_dir, Some(user.uid.as_raw()), Some(user.gid.as_raw())).map_err(failed)?;
    }
    Ok(())
}

/// Stops being root where the state directory belongs to someone else. Has to run before any thread is started.
///
/// # Errors
/// When the directory is missing or its owner cannot be become.
pub(super) fn become_owner(state_dir: &Path) -> Result<(), AccountError> {
    let meta = match std::fs::metadata(state_dir) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(AccountError::Missing(state_dir.to_owned()));
        }
        Err(source) => {
            return Err(AccountError::Directory {
                path: state_dir.to_owned(),
                source,
            });
        }
    };
    if !geteuid().is_root() || meta.uid() == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    setgroups(&[])
        .and_then(|()| setgid(gid))
        .and_then(|()| setuid(uid))
        .map_err(|source| AccountError::Become {
            path: state_dir.to_owned(),
            uid: meta.uid(),
            source,
        })
}
