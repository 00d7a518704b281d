//! When work may start: the times of the week that operators lend to a team, or to burst work of all teams.
//!
//! A window decides about starts. A job that is known to run past the end waits for the next one, so nothing has to be
//! stopped where everyone says how long they run. What still runs when it shuts goes on: nothing stops because of a
//! clock. Burst yields to standard work then as ever.

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
    /// It would run past the end of any: it never starts as it is.
    NeverLongEnough {
        /// The longest time that it is open.
        longest: Span,
        /// How long the job will take.
        needs: Span,
    },
}

impl Windows {
    /// More than anyone would want to read; one may name several days.
    pub const MAX: usize = 20;

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
        let open = self.is_open(local);
        let closes_in = self.until(local, false).filter(|_| open);
        let fits = closes_in.is_none_or(|closes_in| needs.is_none_or(|needs| needs <= closes_in));
        if open && fits {
            return Ok(());
        }
        if let (Some(longest), Some(needs)) = (self.longest(), needs)
            && needs > longest
        {
            return Err(Shut::NeverLongEnough { longest, needs });
        }
        Err(match (closes_in, needs) {
            (Some(closes_in), Some(needs)) => Shut::TooLong { closes_in, needs },
            _ => Shut::Closed {
                opens_in: self.until(local, true),
            },
        })
    }

    /// The longest time that it is open; none: it never shuts.
    fn longest(&self) -> Option<Span> {
        let edges = self.0.iter().flat_map(|window| [window.from, window.to]);
        let minutes = edges.flat_map(|edge| (0..7).map(move |day| day * DAY + u32::from(edge.minutes())));
        let mut minutes: Vec<u32> = minutes.map(|minute| minute % WEEK).collect();
        minutes.sort_unstable();
        minutes.dedup();
        let nexts = minutes.iter().cycle().skip(1);
        let (mut longest, mut open) = (0, 0);
        // Twice around: one that is open passes the end of the week.
        for (minute, next) in minutes.iter().chain(&minutes).zip(nexts) {
            let length = (next + WEEK - minute - 1) % WEEK + 1;
            open = if self.is_open(at(*minute)) {
                open + length
            } else {
                0
            };
            longest = longest.max(open);
        }
        (longest < WEEK).then_some(Span(u64::from(longest) * MINUTE))
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
    fn what_is_longer_than_any_window_never_starts() {
        let hours = |hours: u64| Some(Span::from_secs(3600 * hours));
        let never = |needs: u64| {
            Err(Shut::NeverLongEnough {
                longest: Span::from_secs(12 * 3600),
                needs: Span::from_secs(3600 * needs),
            })
        };
        let (night, noon) = (local(Weekday::Tue, 20), local(Weekday::Tue, 12));
        assert_eq!(nights().admits(night, hours(13)), never(13));
        assert_eq!(nights().admits(noon, hours(13)), never(13));
        let later = |opens_in: u64| {
            Err(Shut::Closed {
                opens_in: hours(opens_in),
            })
        };
        assert_eq!(nights().admits(noon, hours(12)), later(7));
        // One that begins where another ends makes it longer, past the end of the week too.
        let mut windows = nights();
        windows.0.push(WeekSpan {
            days: "Sat-Mon".parse().unwrap(),
            from: "07:00".parse().unwrap(),
            to: "19:00".parse().unwrap(),
        });
        windows.0.push(WeekSpan {
            days: "Sat-Sun".parse().unwrap(),
            from: "19:00".parse().unwrap(),
            to: "07:00".parse().unwrap(),
        });
        // From Friday's evening to Tuesday's morning.
        assert_eq!(windows.longest(), hours(84));
        assert_eq!(windows.admits(noon, hours(84)), later(7));
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
