//! The disk's antagonist: one thread writes and makes it durable, another streams through the page cache. Both files
//! have no name, so that nothing of them is left whoever is killed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;

use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};

use super::{AntagonistError, Until};

const CHUNK: usize = 1 << 20;
/// Bytes between two fsyncs.
const DURABLE_EVERY: u64 = 4 << 20;

/// Writes and reads in that folder, each with half of the bytes, until the time is over.
pub(super) fn press(folder: &Path, bytes: u64, until: Until) -> Result<(), AntagonistError> {
    let half = (bytes / 2).max(CHUNK as u64);
    let failed = |operation| {
        move |source| AntagonistError::File {
            operation,
            folder: folder.to_owned(),
            source,
        }
    };
    let (written, read) = (unnamed(folder), unnamed(folder));
    let written = written.map_err(failed("making"))?;
    let read = read.map_err(failed("making"))?;
    thread::scope(|scope| {
        let writer = scope.spawn(|| write(&written, half, until).map_err(failed("writing")));
        let reader = scope.spawn(|| stream(&read, half, until).map_err(failed("reading")));
        let ends = [writer.join(), reader.join()];
        ends.into_iter()
            .try_for_each(|end| end.unwrap_or(Err(AntagonistError::Thread)))
    })
}

fn unnamed(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlag::O_TMPFILE.bits())
        .open(folder)
}

/// Over and over from the start, so that the file never grows beyond `bytes`.
fn write(file: &File, bytes: u64, until: Until) -> io::Result<()> {
    let mut chunk = vec![0u8; CHUNK];
    let (mut at, mut since, mut pass) = (0u64, 0u64, 0u8);
    while !until.is_over() {
        if at + CHUNK as u64 > bytes {
            at = 0;
            pass = pass.wrapping_add(1);
            chunk.fill(pass);
        }
        file.write_all_at(&chunk, at)?;
        at += CHUNK as u64;
        since += CHUNK as u64;
        if since >= DURABLE_EVERY {
            since = 0;
            file.sync_data()?;
        }
    }
    Ok(())
}

/// Fills the file, then reads it again and again; what was read is dropped, so that it comes from the disk.
fn stream(file: &File, bytes: u64, until: Until) -> io::Result<()> {
    let mut chunk = vec![1u8; CHUNK];
    let mut size = 0u64;
    while size + CHUNK as u64 <= bytes && !until.is_over() {
        file.write_all_at(&chunk, size)?;
        size += CHUNK as u64;
    }
    file.sync_data()?;
    let mut at = 0u64;
    while !until.is_over() {
        if at >= size {
            at = 0;
            posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        }
        at += file.read_at(&mut chunk, at)? as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::clock::{Clock, SystemClock};
    use loadline_model::Span;

    fn soon() -> Until {
        Until(SystemClock.monotonic().plus(Span::from_millis(300)))
    }

    #[test]
    fn its_files_stay_small_and_have_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = 3 << 20;
        let file = unnamed(folder.path()).unwrap();
        write(&file, bytes, soon()).unwrap();
        let size = file.metadata().unwrap().len();
        assert!(size > 0 && size <= bytes, "{size}");
        let file = unnamed(folder.path()).unwrap();
        stream(&file, bytes, soon()).unwrap();
        assert_eq!(file.metadata().unwrap().len(), bytes);
        press(folder.path(), 4 << 20, soon()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
