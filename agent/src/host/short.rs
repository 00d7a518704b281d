//! The kernel's short text files, in as few calls as they take: opened, read, closed. A status of them says nothing, and
//! its size of zero makes the standard library read four times what is there at once.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most of these files have a few lines. The kernel fills a page, or what it is given; what is well below both was all.
const BUFFER: usize = 4096;

/// All of it.
///
/// # Errors
/// When it cannot be opened or read, or is no text.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut text = Vec::with_capacity(BUFFER);
    let mut buffer = [0; BUFFER];
    loop {
        let count = match file.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        text.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if count < BUFFER / 2 {
            return String::from_utf8(text).map_err(io::Error::other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_file_is_read_however_long_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for length in [0, 1, 2047, 2048, 4095, 4096, 4097, 12_288, 20_000] {
            let text = "x".repeat(length);
            std::fs::write(&path, &text).unwrap();
            assert_eq!(read(&path).unwrap(), text);
        }
        std::fs::write(&path, [0xff]).unwrap();
        assert!(read(&path).is_err());
        assert_eq!(
            read(&folder.path().join("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
