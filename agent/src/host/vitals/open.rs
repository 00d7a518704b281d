//! One number of one kernel file that stays open.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// `/proc/meminfo` is the longest file read, and what is wanted of it stands in its first lines.
const LENGTH: usize = 4096;

/// What was read last.
#[derive(Debug)]
pub(super) struct Buffer([u8; LENGTH]);

impl Default for Buffer {
    fn default() -> Self {
        Self([0; LENGTH])
    }
}

/// A file that holds a number.
#[derive(Debug)]
pub(super) struct Counter {
    path: PathBuf,
    file: Option<File>,
    /// The last try to open it found nothing.
    missing: bool,
}

impl Counter {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            missing: false,
        }
    }

    /// False if the last try to open it found no such file.
    pub(super) const fn exists(&self) -> bool {
        !self.missing
    }

    /// The number behind `mark` in the line that begins with `line`, once blanks are skipped.
    pub(super) fn value(&mut self, buffer: &mut Buffer, line: &str, mark: &str) -> Option<u64> {
        let length = match self.read(buffer) {
            Some(length) => length,
            // Its cgroup may have been removed and made anew: the open file is of the old one.
            None => {
                self.file = None;
                self.read(buffer)?
            }
        };
        let value = number(buffer.0.get(..length)?, line.as_bytes(), mark.as_bytes());
        if value.is_none() {
            self.file = None;
        }
        value
    }

    /// What a function makes of the file's text; none if it could not be read.
    pub(super) fn text<T>(&mut self, buffer: &mut Buffer, of: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let length = match self.read(buffer) {
            Some(length) => length,
            None => {
                self.file = None;
                self.read(buffer)?
            }
        };
        buffer.0.get(..length).map(of)
    }

    fn read(&mut self, buffer: &mut Buffer) -> Option<usize> {
        if self.file.is_none() {
            let opened = File::open(&self.path);
            self.missing = matches!(&opened, Err(error) if error.kind() == ErrorKind::NotFound);
            self.file = opened.ok();
        }
        self.file.as_ref()?.read_at(&mut buffer.0, 0).ok()
    }
}

/// Bytes, since checking that a whole file is text would cost more than finding the number.
pub(super) fn number(text: &[u8], line: &[u8], mark: &[u8]) -> Option<u64> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let rest = lines.find_map(|found| after(found.strip_prefix(line)?, mark))?;
    let digits = rest
        .iter()
        .skip_while(|byte| **byte == b' ')
        .take_while(|byte| byte.is_ascii_digit());
    digits.fold(None, |value: Option<u64>, digit| {
        let value = value.unwrap_or(0).checked_mul(10)?;
        value.checked_add(u64::from(digit - b'0'))
    })
}

fn after<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    if mark.is_empty() {
        return Some(text);
    }
    let at = text.windows(mark.len()).position(|window| window == mark)?;
    text.get(at + mark.len()..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_where_the_kernel_writes_them() {
        let pressure = b"some avg10=0.00 avg60=1.20 avg300=0.31 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=42\n";
        assert_eq!(number(pressure, b"some", b"total="), Some(123_456));
        assert_eq!(number(pressure, b"full", b"total="), Some(42));
        let stat = b"usage_usec 5000000\nuser_usec 1\n";
        assert_eq!(number(stat, b"", b"usage_usec "), Some(5_000_000));
        let memory = b"MemTotal:        2015328 kB\nMemFree:          100 kB\nMemAvailable:    1599728 kB\n";
        assert_eq!(number(memory, b"MemAvailable:", b" "), Some(1_599_728));
        assert_eq!(number(b"4096\n", b"", b""), Some(4096));
        assert_eq!(number(b"max\n", b"", b""), None);
        assert_eq!(number(b"", b"some", b"total="), None);
        assert_eq!(
            number(b"some total=\n", b"some", b"total="),
            None,
            "no digit is no zero"
        );
        assert_eq!(
            number(b"some total=99999999999999999999\n", b"some", b"total="),
            None
        );
    }
}
