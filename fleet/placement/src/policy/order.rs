//! Who goes first.
//!
//! Problem: one team must not take the whole fleet because it asked first, an urgent job must not wait for a patient one,
//! and nobody may wait for ever. Approach: a merge of queues. Standard goes before burst; within a tier whoever has waited
//! beyond the patience, then the higher priority; within these the team that has had least for its weight, of that the
//! user who has had least, of that the job that came first. Each pick is charged at once, so that teams alternate
//! by what they are given, not by how many jobs they have.
//!
//! Properties: every claim appears once; the order depends on the values only; with several teams that always
//! want something, what they get converges to their weights; a job that waits beyond the patience is passed only by
//! work that its own team's or user's share is owed to others. Burst waits behind standard however long: that is what it is.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Reverse;

use loadline_model::{Amounts, JobId, Span, Tier, WallTime};
use serde::{Deserialize, Serialize};

use crate::policy::accounts::Accounts;
use crate::policy::{Priority, Spent};

/// A wish to start workers, as far as its place in the queue goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    /// Whose workers.
    pub job: JobId,
    /// Its tier.
    pub tier: Tier,
    /// Its priority.
    pub priority: Priority,
    /// Among equals the earlier goes first.
    pub submitted_at: WallTime,
    /// The team that pays.
    pub team: &'a str,
    /// The user who asks.
    pub user: &'a str,
    /// What all its workers hold together.
    pub amounts: Amounts,
    /// How long they will run, if that is known.
    pub estimate: Option<Span>,
}

/// What the operators decide about the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRules {
    /// Who has waited longer goes before higher priorities of its tier.
    pub patience: Span,
}

impl Default for OrderRules {
    /// A day: work that is submitted in the evening and waits next evening has waited long enough.
    fn default() -> Self {
        Self {
            patience: Span::from_secs(24 * 3600),
        }
    }
}

/// A job of which nothing is known is taken for this long: long enough to weigh, short enough to be forgiven.
const UNKNOWN: Span = Span::from_secs(3600);

/// What comes before what, whoever has how much: the lower goes first.
type Class = (Tier, bool, Reverse<Priority>);

/// The claims in the order in which they are to be tried, each by its place in `claims`.
#[must_use]
pub fn order(claims: &[Claim<'_>], accounts: &Accounts, rules: &OrderRules, now: WallTime) -> Vec<usize> {
    let class = |claim: &Claim<'_>| -> Class {
        let patient = now.since(claim.submitted_at) <= rules.patience;
        (claim.tier, patient, Reverse(claim.priority))
    };
    let mut sorted: Vec<usize> = (0..claims.len()).collect();
    sorted.sort_by_key(|index| {
        let claim = &claims[*index];
        (class(claim), claim.submitted_at, claim.job, *index)
    });
    let mut order = Vec::with_capacity(claims.len());
    let mut merge = Merge::new(claims, accounts, now);
    for group in sorted.chunk_by(|a, b| class(&claims[*a]) == class(&claims[*b])) {
        merge.run(group, &mut order);
    }
    order
}

/// What a team or a user has had, with what was picked for it in this order.
#[derive(Debug, Clone, Copy)]
struct Had {
    spent: Spent,
    weight: u32,
}

struct User {
    had: Had,
    /// In the group at hand, the last first.
    waiting: Vec<usize>,
}

struct Team<'a> {
    had: Had,
    users: BTreeMap<&'a str, User>,
    /// Users with something in the group at hand, by what they have had.
    next: BTreeSet<(u128, &'a str)>,
}

struct Merge<'a> {
    claims: &'a [Claim<'a>],
    accounts: &'a Accounts,
    now: WallTime,
    teams: BTreeMap<&'a str, Team<'a>>,
}

impl<'a> Merge<'a> {
    const fn new(claims: &'a [Claim<'a>], accounts: &'a Accounts, now: WallTime) -> Self {
        Self {
            claims,
            accounts,
            now,
            teams: BTreeMap::new(),
        }
    }

    /// The standing of `had`: decayed dominant use by weight.
    fn standing(&self, had: &Had) -> u128 {
        let dominant = had.spent.dominant(self.accounts.rules().capacity);
        // A million times, so that small uses by large weights differ.
        dominant.saturating_mul(1_000_000) / u128::from(had.weight.max(1))
    }

    /// Appends the claims of one class, given in order of submission.
    fn run(&mut self, group: &[usize], order: &mut Vec<usize>) {
        for index in group.iter().rev() {
            self.enter(*index);
        }
        let mut next: BTreeSet<(u128, &'a str)> = BTreeSet::new();
        let names: Vec<&'a str> = self.teams.keys().copied().collect();
        for name in names {
            let Some(mut team) = self.teams.remove(name) else {
                continue;
            };
            let waiting = team.users.iter().filter(|(_, user)| !user.waiting.is_empty());
            team.next = waiting
                .map(|(name, user)| (self.standing(&user.had), *name))
                .collect();
            if !team.next.is_empty() {
                next.insert((self.standing(&team.had), name));
            }
            self.teams.insert(name, team);
        }
        while let Some((_, name)) = next.pop_first() {
            let Some(mut team) = self.teams.remove(name) else {
                continue;
            };
            if let Some(index) = self.pick(&mut team) {
                order.push(index);
            }
            if !team.next.is_empty() {
                next.insert((self.standing(&team.had), name));
            }
            self.teams.insert(name, team);
        }
    }

    fn enter(&mut self, index: usize) {
        let claim = &self.claims[index];
        let standing = || self.accounts.standing(claim.team, claim.user, self.now);
        let team = self.teams.entry(claim.team).or_insert_with(|| {
            let standing = standing();
            Team {
                had: Had {
                    spent: standing.team,
                    weight: standing.weight,
                },
                users: BTreeMap::new(),
                next: BTreeSet::new(),
            }
        });
        let user = team.users.entry(claim.user).or_insert_with(|| User {
            had: Had {
                spent: standing().user,
                weight: 1,
            },
            waiting: Vec::new(),
        });
        user.waiting.push(index);
    }

    /// The next claim of a team, charged to it and its user.
    fn pick(&self, team: &mut Team<'a>) -> Option<usize> {
        let (_, name) = team.next.pop_first()?;
        let user = team.users.get_mut(name)?;
        let index = user.waiting.pop()?;
        let claim = &self.claims[index];
        let more = Spent::of(claim.amounts, claim.estimate.unwrap_or(UNKNOWN));
        user.had.spent = user.had.spent.plus(more);
        team.had.spent = team.had.spent.plus(more);
        if !user.waiting.is_empty() {
            team.next.insert((self.standing(&user.had), name));
        }
        Some(index)
    }
}

/// Reorders claims that are left once someone waits with a reservation: whoever will be done first fills the gap
/// first, within what the classes of [`order`] allow. More fit that way, and those that wait least for what they need.
pub fn fill(rest: &mut [usize], claims: &[Claim<'_>], rules: &OrderRules, now: WallTime) {
    rest.sort_by_key(|index| {
        let claim = &claims[*index];
        let patient = now.since(claim.submitted_at) <= rules.patience;
        let estimate = claim.estimate.unwrap_or(UNKNOWN);
        (
            claim.tier,
            patient,
            Reverse(claim.priority),
            estimate,
            claim.submitted_at,
            claim.job,
        )
    });
}
