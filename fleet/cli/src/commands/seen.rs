//! Which lines of logs were printed already.
//!
//! After a broken connection the fleet tells the logs from their beginning. Lines of one attempt come in the order
//! of their time, so what is older than the last line printed was printed, and of those with the very same time as
//! many as there were.

use std::collections::BTreeMap;

use loadline_model::WallTime;

use crate::view::LogLine;

#[derive(Debug, Clone, Copy)]
struct Mark {
    at: WallTime,
    /// Lines printed with exactly this time.
    printed: u32,
    /// Lines with exactly this time that came again.
    again: u32,
}

/// A mark per attempt of each worker.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<(u32, u32), Mark>);

impl Seen {
    /// From here on the logs come from their beginning again.
    pub(super) fn begin_again(&mut self) {
        for mark in self.0.values_mut() {
            mark.again = 0;
        }
    }

    /// True if the line is new; it is then taken as printed.
    pub(super) fn is_new(&mut self, line: &LogLine) -> bool {
        let at = line.at.0;
        let Some(mark) = self.0.get_mut(&(line.worker, line.attempt)) else {
            let first = Mark {
                at,
                printed: 1,
                again: 1,
            };
            self.0.insert((line.worker, line.attempt), first);
            return true;
        };
        if at > mark.at {
            *mark = Mark {
                at,
                printed: 1,
                again: 1,
            };
            return true;
        }
        if at == mark.at {
            mark.again += 1;
            if mark.again > mark.printed {
                mark.printed += 1;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Moment;

    fn line(worker: u32, at: i64) -> LogLine {
        LogLine {
            worker,
            attempt: 1,
            at: Moment(WallTime(at)),
            stream: "stdout",
            text: String::new(),
            bytes: Vec::new(),
        }
    }

    #[test]
    fn a_second_telling_prints_only_what_is_new() {
        let mut seen = Seen::default();
        let first = [line(0, 1), line(0, 2), line(0, 2), line(1, 1)];
        assert!(first.iter().all(|line| seen.is_new(line)));
        seen.begin_again();
        assert!(!first.iter().any(|line| seen.is_new(line)));
        // One more line with the time of the last one, one later, one of another worker.
        for fresh in [line(0, 2), line(0, 3), line(1, 1)] {
            assert!(seen.is_new(&fresh), "{fresh:?}");
        }
        seen.begin_again();
        let all = [
            line(0, 1),
            line(0, 2),
            line(0, 2),
            line(0, 2),
            line(0, 3),
            line(1, 1),
            line(1, 1),
        ];
        assert!(!all.iter().any(|line| seen.is_new(line)));
    }
}
