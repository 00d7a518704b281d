//! A file of a cgroup that stays open: opening one ten times a second costs production more than what is done with it.
//!
//! The kernel answers ENODEV for a cgroup that was removed, also where another of its name was made meanwhile: then the
//! file is opened anew.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use nix::errno::Errno;

/// One file, and how it is opened.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    how: OpenOptions,
    file: Option<File>,
}

impl Kept {
    /// Nothing is opened yet.
    pub(super) const fn new(path: PathBuf, how: OpenOptions) -> Self {
        Self {
            path,
            how,
            file: None,
        }
    }

    /// Does this with the file. None: there is none.
    ///
    /// # Errors
    /// When it cannot be opened, or what is done fails.
    pub(super) fn with<T>(&mut self, act: impl Fn(&File) -> io::Result<T>) -> io::Result<Option<T>> {
        if let Some(file) = &self.file {
            match act(file) {
                Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => self.file = None,
                done => return done.map(Some),
            }
        }
        match self.how.open(&self.path) {
            Ok(file) => act(self.file.insert(file)).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::io::Read;

    use super::*;

    #[test]
    fn what_was_removed_is_opened_anew_once_and_other_errors_are_told() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("cpu.max");
        let mut kept = Kept::new(path.clone(), File::options().read(true).clone());
        let read = |mut file: &File| {
            let mut text = String::new();
            file.read_to_string(&mut text).map(|_| text)
        };
        assert_eq!(kept.with(read).unwrap(), None, "not there yet");
        fs::write(&path, "one").unwrap();
        assert_eq!(kept.with(read).unwrap().as_deref(), Some("one"));
        // Another file of that name; the kernel says of the open one that its cgroup is gone.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "two").unwrap();
        assert_eq!(
            kept.with(read).unwrap().as_deref(),
            Some(""),
            "still the first, at its end"
        );
        let asked = Cell::new(0);
        let gone = |file: &File| {
            asked.set(asked.get() + 1);
            match asked.get() {
                1 => Err(Errno::ENODEV.into()),
                _ => read(file),
            }
        };
        assert_eq!(kept.with(gone).unwrap().as_deref(), Some("two"));
        let refused = kept.with(|_| Err::<(), _>(Errno::EIO.into()));
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(Errno::EIO as i32));
        fs::remove_file(&path).unwrap();
        let gone = kept.with(|_| Err::<(), _>(Errno::ENODEV.into()));
        assert_eq!(gone.unwrap(), None);
    }
}
