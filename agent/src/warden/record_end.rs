//! `loadline-warden record-end ID`: run by `loadline-ended@.service` when a worker's unit is over, with systemd's
//! words about it in `MONITOR_*`. Needs nothing but the folder it writes to.

use std::io;
use std::path::Path;

use loadline_model::{AttemptId, ParseIdError};

use crate::host::clock::{Clock, boot_id};
use crate::host::ended::{EndFolder, EndRecord, FolderError, end_from_monitor};

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// Not about an attempt.
    #[error("it is not known whose end this is")]
    Whose(#[from] ParseIdError),
    /// systemd gave no words.
    #[error("MONITOR_SERVICE_RESULT is not set: systemd runs this when a worker ends, nobody else should")]
    NoWords,
    /// The boot is not known.
    #[error("reading the boot id failed")]
    Boot(#[source] io::Error),
    /// The record is not durable.
    #[error("the end of a worker is not recorded")]
    Write(#[from] FolderError),
}

/// Writes the record, whole and durable.
///
/// # Errors
/// When the id is none, systemd gave no words, or the record cannot be written.
pub(super) fn record_end<C: Clock>(
    folder: &Path,
    attempt: &str,
    clock: &C,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(), RecordError> {
    let attempt: AttemptId = attempt.parse()?;
    let result = variable("MONITOR_SERVICE_RESULT").ok_or(RecordError::NoWords)?;
    let word = |name: &str| variable(name).unwrap_or_default();
    let record = EndRecord {
        attempt,
        invocation: word("MONITOR_INVOCATION_ID"),
        boot_id: boot_id().map_err(RecordError::Boot)?,
        at: clock.wall(),
        end: end_from_monitor(&result, &word("MONITOR_EXIT_CODE"), &word("MONITOR_EXIT_STATUS")),
    };
    Ok(EndFolder::new(folder).write(&record)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::clock::SystemClock;
    use loadline_policy::attempt::MainEnd;

    const ID: &str = "0192f0c123457abc8def0123456789ab";

    fn monitor(name: &str) -> Option<String> {
        let all = [
            ("MONITOR_SERVICE_RESULT", "signal"),
            ("MONITOR_EXIT_CODE", "killed"),
            ("MONITOR_EXIT_STATUS", "TERM"),
        ];
        all.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn systemds_words_become_a_record() {
        let dir = tempfile::tempdir().unwrap();
        record_end(dir.path(), ID, &SystemClock, monitor).unwrap();
        let record = EndFolder::new(dir.path()).get(ID.parse().unwrap()).unwrap();
        assert_eq!(record.end.main, MainEnd::Killed(15));
    }

    #[test]
    fn without_words_or_an_id_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        assert!(record_end(dir.path(), ID, &SystemClock, |_| None).is_err());
        assert!(record_end(dir.path(), "../x", &SystemClock, monitor).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
