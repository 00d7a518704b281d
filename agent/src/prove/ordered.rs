//! The test that the fleet has ordered, as `loadline-prove.service` runs it: what is to be done lies in a file that the
//! warden wrote, and what comes out goes into another one.
//!
//! The file is checked as if a stranger had written it. Whatever happens, something is written down that says how it
//! ended; only a death by force leaves nothing, and the warden says that.

use loadline_policy::prove::ordered::Standing;
use tracing::error;

use super::cli::Arguments;
use super::handover::{Handover, Outcome};
use super::run::{ProveError, test, texts};
use crate::sentence::chain;

/// Runs it. Once it is written down how it ended, this unit has done its work, and nobody is to be woken for it.
pub(super) async fn run() -> Result<bool, ProveError> {
    let handover = Handover::default();
    let noted = handover.noted()?.ok_or(ProveError::NoOrder)?;
    let Standing { run, ask, .. } = noted.standing;
    let ended = match ask.check().map_err(|problem| ProveError::Unasked(problem.into())) {
        Ok(()) => test(&Arguments::of_fleet(&ask), tell).await.and_then(texts),
        Err(problem) => Err(problem),
    };
    let outcome = match ended {
        Ok(texts) => Outcome::report(run, texts),
        Err(problem) => {
            error!(error = &problem as &dyn std::error::Error, "no report");
            Outcome::nothing(run, problem.is_refusal(), chain(&problem))
        }
    };
    handover.conclude(&outcome)?;
    Ok(true)
}

/// For the fleet and for the journal.
fn tell(line: &str) {
    eprintln!("{line}");
    if let Err(problem) = Handover::default().say(line) {
        // The test is worth more than its news.
        error!(error = &problem as &dyn std::error::Error, "progress");
    }
}
