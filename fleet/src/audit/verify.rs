//! Reads the chain back.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::chain::{Head, Line};

/// Where and how the chain is broken.
#[derive(Debug, thiserror::Error)]
pub enum VerifyProblem {
    /// The file cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is not one of ours.
    #[error("line {line} is not a record of the audit log")]
    Unreadable {
        /// Counted from 1.
        line: u64,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A line was changed.
    #[error("line {line} (record {seq}) was changed: its hash does not match what it says")]
    Changed {
        /// Counted from 1.
        line: u64,
        /// The number it gives itself.
        seq: u64,
    },
    /// A line is missing or was moved.
    #[error("line {line} (record {seq}) does not follow the line before: record {expected} belongs here")]
    Order {
        /// Counted from 1.
        line: u64,
        /// The number it gives itself.
        seq: u64,
        /// The number that belongs here.
        expected: u64,
    },
    /// A line follows by number and yet not by hash.
    #[error("line {line} (record {seq}) was chained to another line than the one before")]
    Chain {
        /// Counted from 1.
        line: u64,
        /// The number it gives itself.
        seq: u64,
    },
}

/// Reads a whole log and answers its newest line.
///
/// # Errors
/// The first line that is not as it was written.
pub fn verify_file(path: &Path) -> Result<Head, VerifyProblem> {
    let failed = |source| VerifyProblem::Read {
        path: path.to_owned(),
        source,
    };
    verify(BufReader::new(File::open(path).map_err(failed)?)).map_err(|problem| match problem {
        VerifyProblem::Read { source, .. } => failed(source),
        other => other,
    })
}

/// The same for any source.
///
/// # Errors
/// The first line that is not as it was written.
pub fn verify(log: impl BufRead) -> Result<Head, VerifyProblem> {
    let mut head = Head::default();
    for (number, text) in (1u64..).zip(log.lines()) {
        let text = text.map_err(|source| VerifyProblem::Read {
            path: PathBuf::new(),
            source,
        })?;
        head = follow(&head, number, &text)?;
    }
    Ok(head)
}

fn follow(head: &Head, number: u64, text: &str) -> Result<Head, VerifyProblem> {
    let unreadable = |source| VerifyProblem::Unreadable { line: number, source };
    let line: Line = serde_json::from_str(text).map_err(unreadable)?;
    let seq = line.seq;
    if line.digest().map_err(unreadable)? != line.hash {
        return Err(VerifyProblem::Changed { line: number, seq });
    }
    if seq != head.seq + 1 {
        return Err(VerifyProblem::Order {
            line: number,
            seq,
            expected: head.seq + 1,
        });
    }
    if line.prev != head.hash {
        return Err(VerifyProblem::Chain { line: number, seq });
    }
    Ok(Head { seq, hash: line.hash })
}

#[cfg(test)]
mod tests {
    use super::super::chain::{Decision, Entry};
    use super::*;
    use loadline_model::WallTime;

    fn log(lines: u64) -> Vec<String> {
        let mut head = Head::default();
        (0..lines)
            .map(|n| {
                let entry = Entry {
                    time: WallTime(i64::try_from(n).unwrap()),
                    actor: "person/ada".into(),
                    peer: String::new(),
                    action: "job.submit",
                    object: format!("job/{n}"),
                    decision: Decision::Allowed,
                    reason: String::new(),
                    request_id: n.to_string(),
                };
                let (text, next) = head.append(&entry).unwrap();
                head = next;
                text
            })
            .collect()
    }

    fn check(lines: &[String]) -> Result<Head, VerifyProblem> {
        verify(lines.concat().as_bytes())
    }

    #[test]
    fn an_untouched_log_is_good() {
        assert_eq!(check(&log(5)).unwrap().seq, 5);
        assert_eq!(check(&[]).unwrap(), Head::default());
    }

    #[test]
    fn a_changed_line_is_named() {
        let mut lines = log(5);
        lines[2] = lines[2].replace("ada", "eve");
        let problem = check(&lines).unwrap_err();
        assert!(
            matches!(problem, VerifyProblem::Changed { line: 3, seq: 3 }),
            "{problem}"
        );
    }

    #[test]
    fn a_dropped_line_is_named() {
        let mut lines = log(5);
        lines.remove(1);
        let problem = check(&lines).unwrap_err();
        assert!(
            matches!(
                problem,
                VerifyProblem::Order {
                    line: 2,
                    seq: 3,
                    expected: 2
                }
            ),
            "{problem}"
        );
    }

    #[test]
    fn moved_lines_are_named() {
        let mut lines = log(5);
        lines.swap(3, 4);
        let problem = check(&lines).unwrap_err();
        assert!(
            matches!(problem, VerifyProblem::Order { line: 4, .. }),
            "{problem}"
        );
    }

    #[test]
    fn a_line_of_another_log_is_named() {
        let mut lines = log(5);
        let mut forged: Line = serde_json::from_str(&lines[1]).unwrap();
        forged.actor = "person/eve".into();
        forged.hash = forged.digest().unwrap();
        lines[1] = serde_json::to_string(&forged).unwrap() + "\n";
        let problem = check(&lines).unwrap_err();
        assert!(
            matches!(problem, VerifyProblem::Chain { line: 3, seq: 3 }),
            "{problem}"
        );
    }

    #[test]
    fn a_line_cut_short_is_named() {
        let mut lines = log(2);
        let half = lines[1].len() / 2;
        lines[1].truncate(half);
        assert!(matches!(
            check(&lines).unwrap_err(),
            VerifyProblem::Unreadable { line: 2, .. }
        ));
    }
}
