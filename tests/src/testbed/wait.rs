//! Waiting for a condition, never for a time: every time-out says what the last look saw.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::clock;

/// One look at a condition.
#[derive(Debug)]
pub enum Look<T> {
    /// It holds, with what was wanted.
    Done(T),
    /// Not yet, and this is how things stand.
    Pending(String),
}

/// Rest between two looks. A look at a guest costs about 10 ms of its CPU under emulation, so more often would disturb.
const REST: Duration = Duration::from_millis(200);

/// Looks until the condition holds. On time-out the error carries the last state seen.
///
/// # Errors
/// When the time is over, or at once when a look itself fails.
pub fn wait_for<T>(what: &str, limit: Duration, look: impl FnMut() -> Result<Look<T>>) -> Result<T> {
    wait_resting(what, limit, REST, look)
}

/// Likewise, with another rest between two looks: where a look is a command of ours, which uses as much of a guest's
/// CPU as production does there, what is waited for may be that it uses less.
///
/// # Errors
/// As above.
pub fn wait_resting<T>(
    what: &str,
    limit: Duration,
    rest: Duration,
    mut look: impl FnMut() -> Result<Look<T>>,
) -> Result<T> {
    let start = clock::now();
    loop {
        match look()? {
            Look::Done(value) => return Ok(value),
            Look::Pending(state) if start.elapsed() >= limit => {
                bail!(
                    "{what}: not within {} s; last state: {state}",
                    limit.as_secs_f32()
                );
            }
            Look::Pending(_) => clock::pause(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_reports_the_last_state() {
        let mut looks = 0;
        let error = wait_for::<()>("door opens", Duration::from_millis(300), || {
            looks += 1;
            Ok(Look::Pending(format!("closed, look {looks}")))
        })
        .unwrap_err()
        .to_string();
        assert!(looks >= 2);
        assert!(
            error.starts_with("door opens: not within 0.3 s; last state: closed, look "),
            "{error}"
        );
        assert!(error.ends_with(&looks.to_string()), "{error}");
    }

    #[test]
    fn a_condition_that_holds_at_the_last_look_counts() {
        assert_eq!(
            wait_for("value", Duration::ZERO, || Ok(Look::Done(7))).unwrap(),
            7
        );
    }
}
