//! Where images and run folders lie: outside the repository, shared by all runs on this machine.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Folder of everything the testbed keeps, `LOADLINE_CACHE` or `/var/cache/loadline`.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the cache folder and makes it where it is missing.
    ///
    /// # Errors
    /// When the folder cannot be made; says how to choose another.
    pub fn open() -> Result<Self> {
        let root =
            std::env::var_os("LOADLINE_CACHE").map_or_else(|| "/var/cache/loadline".into(), PathBuf::from);
        Self::at(root)
    }

    /// A cache at a place of the caller's choice.
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub fn at(root: PathBuf) -> Result<Self> {
        let cache = Self { root };
        for folder in [cache.images(), cache.runs()] {
            fs::create_dir_all(&folder).with_context(|| {
                format!(
                    "make {}; set LOADLINE_CACHE to a folder that you may write",
                    folder.display()
                )
            })?;
        }
        Ok(cache)
    }

    /// Finished images, one folder each.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Live fleets, one folder each.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Where the outcome of the accelerator probe is kept.
    #[must_use]
    pub fn accel(&self) -> PathBuf {
        self.root.join("accel")
    }
}

/// A lock that the kernel takes back when its holder dies, however it dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    fn file(path: &Path) -> Result<File> {
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| format!("open lock {}", path.display()))
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// When the file cannot be opened or locked.
    pub fn wait(path: &Path) -> Result<Self> {
        let file = Self::file(path)?;
        file.lock().with_context(|| format!("lock {}", path.display()))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock if it is free; `None` when another process holds it.
    ///
    /// # Errors
    /// When the file cannot be opened or locked.
    pub fn attempt(path: &Path) -> Result<Option<Self>> {
        let file = Self::file(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
        }
    }
}

/// The folder of one live fleet: sockets, overlays, console logs. Gone when the fleet ends.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: Lock,
}

/// Longest path of a Unix socket, less the name of the longest socket file of a guest (`-.ctl` and ssh's suffix).
const SOCKET_ROOM: usize = 108 - 40;

impl RunDir {
    /// Takes the name for a new fleet. A folder left by a process that died is cleared first.
    ///
    /// # Errors
    /// When a live fleet has the name, or the path is too long for a socket.
    pub fn take(cache: &Cache, name: &str) -> Result<Self> {
        let path = cache.runs().join(name);
        if path.as_os_str().len() > SOCKET_ROOM {
            bail!(
                "{} is too long for Unix sockets; choose a shorter LOADLINE_CACHE or fleet name",
                path.display()
            );
        }
        let Some(lock) = Lock::attempt(&lock_of(&path))? else {
            bail!("a fleet named {name} is up; `testbed down {name}` ends it");
        };
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("clear {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let keep = std::env::var_os("LOADLINE_KEEP_RUN").is_some();
        if !keep && let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("testbed: {} stays behind: {error}", self.path.display());
        }
    }
}

fn lock_of(run: &Path) -> PathBuf {
    run.with_extension("lock")
}

/// Removes the folders of fleets whose process died without cleaning up; their guests died with it.
///
/// # Errors
/// When the run folder cannot be read.
pub fn sweep(cache: &Cache) -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for entry in fs::read_dir(cache.runs()).context("read the run folder")? {
        let path = entry.context("read the run folder")?.path();
        if path.is_dir() && Lock::attempt(&lock_of(&path))?.is_some() {
            fs::remove_dir_all(&path).with_context(|| format!("clear {}", path.display()))?;
            swept.push(
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
    Ok(swept)
}

/// Names of the fleets that are up.
///
/// # Errors
/// When the run folder cannot be read.
pub fn live(cache: &Cache) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(cache.runs()).context("read the run folder")? {
        let path = entry.context("read the run folder")?.path();
        if path.is_dir() && Lock::attempt(&lock_of(&path))?.is_none() {
            names.push(
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_name_is_refused_and_a_dead_one_is_swept() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::at(place.path().to_owned()).unwrap();
        let run = RunDir::take(&cache, "a").unwrap();
        assert!(
            RunDir::take(&cache, "a")
                .unwrap_err()
                .to_string()
                .contains("testbed down a")
        );
        assert_eq!(live(&cache).unwrap(), ["a"]);
        assert!(sweep(&cache).unwrap().is_empty());
        drop(run);
        assert!(live(&cache).unwrap().is_empty());

        fs::create_dir(cache.runs().join("dead")).unwrap();
        assert_eq!(sweep(&cache).unwrap(), ["dead"]);
        assert!(!cache.runs().join("dead").exists());
    }
}
