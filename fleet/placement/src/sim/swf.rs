//! Logs of parallel machines in the standard workload format, version 2.2 (Parallel Workloads Archive).
//!
//! One job a line of 18 numbers, comments after `;`, -1 for what is not known. Jobs that never ran (no time, no
//! processors, or cancelled before their start) put no load on a machine and are left out, as the archive advises.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use loadline_model::{Span, Tier, WallTime};

use crate::policy::Priority;
use crate::sim::load::{Load, SimJob};

/// Why a text is no log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwfError {
    /// A line that is not numbers.
    #[error("line {0} is not a job of the standard workload format: 18 numbers, or a comment after `;`")]
    Line(usize),
    /// The header says nothing about the machine.
    #[error("the header does not say how many processors there are: add a line `; MaxProcs: N`")]
    NoProcessors,
}

/// Reads a log.
///
/// # Errors
/// The first line that is not understood, or a header without the size of the machine.
pub fn read_swf(text: &str) -> Result<Load, SwfError> {
    let mut processors = header(text, "MaxProcs").or_else(|| header(text, "MaxNodes"));
    let mut jobs = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split(';').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let fields: Option<Vec<i64>> = line.split_whitespace().map(whole).collect();
        let fields = fields
            .filter(|fields| fields.len() == 18)
            .ok_or(SwfError::Line(number))?;
        jobs.extend(job(&fields));
    }
    jobs.sort_by_key(|job: &SimJob| job.submitted);
    let largest = jobs.iter().map(|job| job.processors).max();
    processors = processors.map(|processors| processors.max(largest.unwrap_or(0)));
    Ok(Load {
        processors: processors.ok_or(SwfError::NoProcessors)?,
        jobs,
    })
}

fn header(text: &str, key: &str) -> Option<u32> {
    let comments = text.lines().filter_map(|line| line.trim().strip_prefix(';'));
    comments
        .filter_map(|line| line.trim().strip_prefix(key)?.trim().strip_prefix(':'))
        .find_map(|value| value.split_whitespace().next()?.parse().ok())
}

/// Some logs have decimals where the format has whole numbers.
fn whole(word: &str) -> Option<i64> {
    let number = word.split('.').next()?;
    number.parse().ok()
}

/// The fields count from 1 in the format: 2 submitted, 4 ran, 5 processors given, 8 asked, 9 time asked, 12 user, 13
/// group.
fn job(fields: &[i64]) -> Option<SimJob> {
    let seconds = |field: usize| u64::try_from(fields[field - 1]).ok().map(Span::from_secs);
    let given = u32::try_from(fields[4]).ok().filter(|given| *given > 0);
    let asked = u32::try_from(fields[7]).ok().filter(|asked| *asked > 0);
    let runs = seconds(4).filter(|runs| runs.0 > 0)?;
    Some(SimJob {
        submitted: WallTime(fields[1].checked_mul(1_000_000)?),
        runs,
        // Systems let jobs run a little beyond their limit before they end them.
        asked: seconds(9).filter(|asked| asked.0 > 0).unwrap_or(runs).max(runs),
        processors: given.or(asked)?,
        user: fields[11].to_string(),
        team: format!("group {}", fields[12]),
        tier: Tier::Standard,
        priority: Priority::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
; Version: 2.2
; MaxProcs: 128
  1   0  5   60  4 -1 -1  4  300 -1 1  7 3 -1 1 -1 -1 -1
  2  10 -1    0  4 -1 -1  4  300 -1 5  7 3 -1 1 -1 -1 -1
  3  20  0  400 -1 -1 -1  8  300 -1 1  8 3 -1 1 -1 -1 -1 ; ran beyond its limit
  4  30  0   50  2 -1 -1 -1   -1 -1 1  8 4 -1 1 -1 -1 -1
";

    #[test]
    fn jobs_that_ran_are_read_with_what_their_users_said() {
        let load = read_swf(LOG).unwrap();
        assert_eq!((load.processors, load.jobs.len()), (128, 3));
        let read: Vec<_> = load
            .jobs
            .iter()
            .map(|job| {
                (
                    job.submitted.0 / 1_000_000,
                    job.runs.as_secs(),
                    job.asked.as_secs(),
                    job.processors,
                )
            })
            .collect();
        assert_eq!(read, [(0, 60, 300, 4), (20, 400, 400, 8), (30, 50, 50, 2)]);
        assert_eq!(
            (load.jobs[0].user.as_str(), load.jobs[2].team.as_str()),
            ("7", "group 4")
        );
    }

    #[test]
    fn what_is_no_log_is_refused_with_its_line() {
        assert_eq!(read_swf("; MaxProcs: 4\n1 2 three\n"), Err(SwfError::Line(2)));
        let headless = LOG.replace("; MaxProcs: 128\n", "");
        assert_eq!(read_swf(&headless), Err(SwfError::NoProcessors));
    }
}
