//! What is shown of accounts: parts, sums, and what is beyond a quota.

use alloc::string::String;

use loadline_model::{PerMille, WallTime};

use super::{Accounts, NOTHING, TeamAccount};
use crate::policy::quota::{Held, Quota};

impl Accounts {
    /// What all workers of a user hold, whichever team pays.
    #[must_use]
    pub fn held_of_user(&self, user: &str) -> Held {
        let accounts = self.teams.values().filter_map(|account| account.users.get(user));
        accounts.fold(NOTHING, |sum, account| sum.plus(account.held))
    }

    /// A team's part of what all teams have had, as it counts at `now`.
    #[must_use]
    pub fn share(&self, team: &str, now: WallTime) -> PerMille {
        let had = |account: &TeamAccount| {
            let seen = account.spent.seen(now, self.rules.half_life);
            seen.dominant(self.rules.capacity)
        };
        let all = self.teams.values().map(had).fold(0u128, u128::saturating_add);
        let own = self.teams.get(team).map_or(0, had);
        let part = own.saturating_mul(1000).checked_div(all).unwrap_or(0);
        PerMille(u16::try_from(part).unwrap_or(1000).min(1000))
    }

    /// One sentence where a team holds or has spent more than a quota allows, as after it was lowered; empty: it does
    /// not.
    #[must_use]
    pub fn beyond(&self, team: &str, quota: &Quota, now: WallTime) -> String {
        let Some(account) = self.teams.get(team) else {
            return String::new();
        };
        let users = account.users.values().map(|user| (&quota.user, user.held));
        let held = core::iter::once((&quota.team, account.held)).chain(users);
        let mut found = held.filter_map(|(limit, held)| limit.exceeded_by(held));
        let spent = || {
            let budget = quota.budget?;
            budget.exceeded_by(account.paid(now))
        };
        found.next().or_else(spent).unwrap_or_default()
    }
}
