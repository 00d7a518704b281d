//! When work may start: the times of the week that operators lend to a team, or to burst work of all teams.
//!
//! A window decides about starts. A job that is known to run past the end waits for the next one, so nothing has to be
//! stopped where everyone says how long they run; what still runs when it shuts is named by [`Windows::is_open`], and
//! yields first (see [`crate::policy::yielding`]).

use alloc::vec::Vec;

use loadline_model::{LocalTime, Span, WeekSpan, Weekday};
use serde::{Deserialize, Serialize};

/// Minutes of a week.
const WEEK: u32 = 7 * DAY;
const DAY: u32 = 24 * 60;
const MINUTE: u64 = 60_000_000;

/// When something may start; without any: always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows(pub Vec<WeekSpan>);

/// Why a window keeps a job waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shut {
    /// None is open.
    Closed {
        /// Until the next opens; none if none ever does.
        opens_in: Option<Span>,
    },
    /// The job would probably run past its end.
    TooLong {
        /// Until it shuts.
        closes_in: Span,
        /// How long the job will take.
        needs: Span,
    },
}

impl Windows {
    /// True if work may start at that local time.
    #[must_use]
    pub fn is_open(&self, local: LocalTime) -> bool {
        self.0.is_empty() || self.0.iter().any(|window| window.contains(local))
    }

    /// Says whether a job that takes so long may start; one of which that is unknown may whenever a window is open.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, local: LocalTime, needs: Option<Span>) -> Result<(), Shut> {
        if self.0.is_empty() {
            return Ok(());
        }
        if !self.is_open(local) {
            let opens_in = self.until(local, true);
            return Err(Shut::Closed { opens_in });
        }
        let (Some(closes_in), Some(needs)) = (self.until(local, false), needs) else {
            return Ok(());
        };
        if needs > closes_in {
            return Err(Shut::TooLong { closes_in, needs });
        }
        Ok(())
    }

    /// How long until it is open, or shut; none if that does not come within a week, so never.
    fn until(&self, local: LocalTime, open: bool) -> Option<Span> {
        let now = local.day as u32 * DAY + u32::from(local.minute);
        // It turns at the edges of windows only; a queue asks for each of its jobs.
        let edges = self.0.iter().flat_map(|window| [window.from, window.to]);
        let minutes = edges.flat_map(|edge| (0..7).map(move |day| day * DAY + u32::from(edge.minutes())));
        minutes
            .map(|minute| (minute + 2 * WEEK - now - 1) % WEEK + 1)
            .filter(|ahead| self.is_open(at((now + ahead) % WEEK)) == open)
            .min()
            .map(|minutes| Span(u64::from(minutes) * MINUTE))
    }
}

fn at(minute_of_week: u32) -> LocalTime {
    LocalTime {
        day: Weekday::ALL[(minute_of_week / DAY) as usize % 7],
        minute: u16::try_from(minute_of_week % DAY).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nights() -> Windows {
        Windows(alloc::vec![WeekSpan {
            days: "Mon-Fri".parse().unwrap(),
            from: "19:00".parse().unwrap(),
            to: "07:00".parse().unwrap(),
        }])
    }

    fn local(day: Weekday, hour: u16) -> LocalTime {
        LocalTime {
            day,
            minute: hour * 60,
        }
    }

    #[test]
    fn work_waits_for_the_window_and_does_not_pass_its_end() {
        let hours = |hours: u64| Span::from_secs(hours * 3600);
        let nights = nights();
        assert_eq!(
            nights.admits(local(Weekday::Mon, 12), None),
            Err(Shut::Closed {
                opens_in: Some(hours(7))
            })
        );
        assert_eq!(
            nights.admits(local(Weekday::Sat, 7), None),
            Err(Shut::Closed {
                opens_in: Some(hours(60))
            })
        );
        assert_eq!(nights.admits(local(Weekday::Mon, 20), Some(hours(11))), Ok(()));
        let too_long = Shut::TooLong {
            closes_in: hours(11),
            needs: hours(12),
        };
        assert_eq!(
            nights.admits(local(Weekday::Mon, 20), Some(hours(12))),
            Err(too_long)
        );
        assert_eq!(nights.admits(local(Weekday::Mon, 20), None), Ok(()));
    }

    /// Against a look at every minute of the week.
    #[test]
    fn it_turns_at_the_first_minute_that_differs() {
        let mut windows = nights();
        windows.0.push(WeekSpan {
            days: "Sat,Sun".parse().unwrap(),
            from: "06:30".parse().unwrap(),
            to: "24:00".parse().unwrap(),
        });
        for now in (0..WEEK).step_by(37) {
            for open in [true, false] {
                let ahead = (1..=WEEK).find(|ahead| windows.is_open(at((now + ahead) % WEEK)) == open);
                let span = ahead.map(|minutes| Span(u64::from(minutes) * MINUTE));
                // Where it is so already and stays, only the edges are looked at: the question is not asked there.
                if windows.is_open(at(now)) != open {
                    assert_eq!(windows.until(at(now), open), span, "{now}");
                }
            }
        }
    }

    #[test]
    fn no_window_is_always_and_the_whole_week_never_shuts() {
        let long = Some(Span::from_secs(1_000_000));
        assert_eq!(Windows::default().admits(local(Weekday::Sun, 3), long), Ok(()));
        let always = Windows(alloc::vec![WeekSpan {
            days: "Mon-Sun".parse().unwrap(),
            from: "00:00".parse().unwrap(),
            to: "24:00".parse().unwrap(),
        }]);
        assert_eq!(always.admits(local(Weekday::Sun, 3), long), Ok(()));
    }
}
