//! When a certificate is renewed: at half its life, plus up to a twentieth, so that nodes that joined together
//! do not renew together; and from then on until it works.

use loadline_model::{PerMille, Span, WallTime};

/// From when to when a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    /// Its first moment.
    pub(crate) from: WallTime,
    /// Its last moment.
    pub(crate) until: WallTime,
}

/// What to do about a certificate now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// Look again after this time.
    NotYet(Span),
    /// Ask for a new one.
    Due,
    /// Too late: the fleet refuses it.
    Expired,
}

/// The share of a life after its half over which renewals are spread.
const SPREAD: PerMille = PerMille(50);

impl Validity {
    /// Decides. `luck` is this node's place in the spread, from none to all of it.
    pub(crate) fn renewal(self, luck: PerMille, now: WallTime) -> Renewal {
        if now.0 > self.until.0 {
            return Renewal::Expired;
        }
        let life = Span(self.until.0.saturating_sub(self.from.0).try_into().unwrap_or(0));
        let wait = Span(life.0 / 2).plus(life.share(SPREAD).share(luck));
        let since = now.0.saturating_sub(self.from.0);
        // A clock before the first moment: look again when the whole wait has passed.
        let passed = Span(u64::try_from(since).unwrap_or(0));
        if passed >= wait {
            Renewal::Due
        } else {
            Renewal::NotYet(wait.minus(passed))
        }
    }

    /// What is left of it.
    pub(crate) fn left(self, now: WallTime) -> Span {
        Span(self.until.0.saturating_sub(now.0).try_into().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const DAY: Validity = Validity {
        from: WallTime(0),
        until: WallTime(24 * HOUR),
    };

    /// 24 h: due from 12 h (no luck) to 13.2 h (all of it), expired after 24 h.
    #[test]
    fn a_day_is_renewed_after_its_half() {
        let none = PerMille(0);
        assert_eq!(
            DAY.renewal(none, WallTime(0)),
            Renewal::NotYet(Span::from_secs(12 * 3600))
        );
        assert_eq!(DAY.renewal(none, WallTime(12 * HOUR)), Renewal::Due);
        assert_eq!(
            DAY.renewal(PerMille::ONE, WallTime(13 * HOUR)),
            Renewal::NotYet(Span::from_secs(720))
        );
        assert_eq!(DAY.renewal(PerMille::ONE, WallTime(14 * HOUR)), Renewal::Due);
        assert_eq!(DAY.renewal(none, WallTime(24 * HOUR)), Renewal::Due);
        assert_eq!(DAY.renewal(none, WallTime(24 * HOUR + 1)), Renewal::Expired);
    }

    #[test]
    fn a_clock_in_the_past_waits_and_what_is_left_is_never_negative() {
        assert_eq!(
            DAY.renewal(PerMille(0), WallTime(-5 * HOUR)),
            Renewal::NotYet(Span::from_secs(12 * 3600))
        );
        assert_eq!(DAY.left(WallTime(23 * HOUR)), Span::from_secs(3600));
        assert_eq!(DAY.left(WallTime(30 * HOUR)), Span::ZERO);
    }
}
