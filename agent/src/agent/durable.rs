//! Small files that are either as they were or wholly new, also after a power cut: write beside, fsync, rename,
//! fsync the folder. What is not committed is removed again.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct WriteError {
    /// The file that was to be written.
    pub path: PathBuf,
    #[source]
    source: io::Error,
}

impl WriteError {
    pub(crate) fn new(path: &Path, source: io::Error) -> Self {
        Self {
            path: path.to_owned(),
            source,
        }
    }
}

/// Who shall own a file; none: whoever writes it.
pub(crate) type Owner = Option<(u32, u32)>;

/// A file that is on the disk but not yet in its place.
#[derive(Debug)]
pub(crate) struct Staged {
    to: PathBuf,
    from: PathBuf,
    committed: bool,
}

/// `<path>.new`, where a file waits for its turn.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

pub(crate) fn stage(path: &Path, bytes: &[u8], mode: u32, owner: Owner) -> Result<Staged, WriteError> {
    let staged = Staged {
        to: path.to_owned(),
        from: beside(path),
        committed: false,
    };
    // Removed again on any failure below, by its Drop.
    let write = || -> io::Result<()> {
        remove_if_there(&staged.from)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&staged.from)?;
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        // Whatever the umask says: the agent must be able to read what root writes for it.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| WriteError {
        path: path.to_owned(),
        source,
    })?;
    Ok(staged)
}

impl Staged {
    pub(crate) fn commit(mut self) -> Result<(), WriteError> {
        let failed = |source| WriteError {
            path: self.to.clone(),
            source,
        };
        std::fs::rename(&self.from, &self.to).map_err(failed)?;
        self.committed = true;
        sync_folder_of(&self.to).map_err(|source| WriteError {
            path: self.to.clone(),
            source,
        })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = remove_if_there(&self.from)
        {
            tracing::warn!(file = %self.from.display(), %error, "an unfinished file could not be removed");
        }
    }
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a rename in the folder of this path survive a power cut.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        stage(&path, b"one", 0o600, None).unwrap().commit().unwrap();
        drop(stage(&path, b"two", 0o600, None).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert!(!beside(&path).exists(), "nothing half-written stays");
        stage(&path, b"three", 0o640, None).unwrap().commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = stage(Path::new("/no/such/folder/x"), b"", 0o600, None).unwrap_err();
        assert_eq!(error.to_string(), "cannot write /no/such/folder/x");
    }
}
