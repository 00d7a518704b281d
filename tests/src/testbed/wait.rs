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

/// The least rest between two looks …
const REST: Duration = Duration::from_millis(200);
/// … and the most …
const LONG_REST: Duration = Duration::from_secs(2);
/// … which is a tenth of what was waited for already, and no less than the last look took: a look that types a command
/// uses half a second of an emulated CPU, and looks without rest took more of the host than all that they waited for.
const PART: u32 = 10;

fn rest(waited: Duration, looked: Duration) -> Duration {
    (waited / PART).max(looked).clamp(REST, LONG_REST)
}

/// Looks until the condition holds. On time-out the error carries the last state seen.
///
/// # Errors
/// When the time is over, or at once when a look itself fails.
pub fn wait_for<T>(what: &str, limit: Duration, look: impl FnMut() -> Result<Look<T>>) -> Result<T> {
    looking(what, limit, rest, look)
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
    look: impl FnMut() -> Result<Look<T>>,
) -> Result<T> {
    looking(what, limit, |_, _| rest, look)
}

/// `rest` is told for how long was waited in all, and how long the last look took.
fn looking<T>(
    what: &str,
    limit: Duration,
    rest: impl Fn(Duration, Duration) -> Duration,
    mut look: impl FnMut() -> Result<Look<T>>,
) -> Result<T> {
    let start = clock::now();
    loop {
        let begun = clock::now();
        match look()? {
            Look::Done(value) => return Ok(value),
            Look::Pending(state) if start.elapsed() >= limit => {
                bail!(
                    "{what}: not within {} s; last state: {state}",
                    limit.as_secs_f32()
                );
            }
            Look::Pending(_) => clock::pause(rest(start.elapsed(), begun.elapsed())),
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
    fn who_waits_long_or_looks_slowly_looks_less_often() {
        let rest =
            |waited, looked| rest(Duration::from_millis(waited), Duration::from_millis(looked)).as_millis();
        assert_eq!(rest(0, 10), 200);
        assert_eq!(rest(1000, 500), 500);
        assert_eq!(rest(9000, 500), 900);
        assert_eq!(rest(60_000, 500), 2000);
        assert_eq!(rest(0, 9000), 2000);
    }

    #[test]
    fn a_condition_that_holds_at_the_last_look_counts() {
        assert_eq!(
            wait_for("value", Duration::ZERO, || Ok(Look::Done(7))).unwrap(),
            7
        );
    }
}
