//! How much a total has grown since it was looked at last.

use std::path::PathBuf;

use loadline_model::Span;

use super::open::{Buffer, Counter};

/// A total of a cgroup. It begins anew whenever its cgroup is made anew.
#[derive(Debug)]
pub(super) struct Grown {
    counter: Counter,
    last: Option<u64>,
}

impl Grown {
    pub(super) const fn new(file: PathBuf) -> Self {
        Self {
            counter: Counter::new(file),
            last: None,
        }
    }

    /// Since the last look; none where the kernel does not tell. Nothing at the first look, since what was before is
    /// not of now; all of it where the cgroup was made anew meanwhile.
    pub(super) fn since(&mut self, buffer: &mut Buffer, line: &str, mark: &str) -> Option<Span> {
        let Some(now) = self.counter.value(buffer, line, mark) else {
            if !self.counter.exists() {
                self.last = self.last.map(|_| 0);
            }
            return None;
        };
        let last = self.last.replace(now).unwrap_or(now);
        Some(Span(now.checked_sub(last).unwrap_or(now)))
    }
}
