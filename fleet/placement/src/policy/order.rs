//! Who goes first.
//!
//! Problem: one team must not take the whole fleet because it asked first, an urgent job must not wait for a patient one,
//! nobody may wait for ever, and what is left idle helps nobody. Approach: standard goes before burst; within a tier
//! whoever has waited beyond the patience, then the higher priority. Within these, teams that have had less for their
//! weight than the mean of those that want something go before the others; of a team, users likewise; and of
//! those the job whose urgency is highest. Each pick is charged at once, so who has just been given enough waits for the others.
//!
//! Urgency is (waited / estimate) × size³, of the family that Tang, Lan, Desai and Buettner (IEEE Cluster 2009) call WFP: short jobs
//! grow urgent soon, and large ones gather, so that a machine is emptied once for several of them. Whoever has waited
//! beyond the patience goes by age alone.
//!
//! Properties: every claim appears once; the order depends on the values only; with several teams that always
//! want something, what they get converges to their weights; of one user, nobody passes a job that waits beyond the
//! patience. Burst waits behind standard however long: that is what it is.

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
    /// Two days. Of a generated month at 60, 75 and 90 % (ten seeds each), 12 hours left 0.1 to 0.3 points more unused and made the slowdown of
    /// the fullest a quarter higher; without any, someone waited 440 hours.
    fn default() -> Self {
        Self {
            patience: Span::from_secs(48 * 3600),
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
    let patient = |claim: &Claim<'_>| now.since(claim.submitted_at) <= rules.patience;
    let class = |claim: &Claim<'_>| -> Class { (claim.tier, patient(claim), Reverse(claim.priority)) };
    let capacity = accounts.rules().capacity;
    let ranked = |index: usize| {
        let claim = &claims[index];
        let urgency = match patient(claim) {
            true => urgency(claim, capacity, now),
            // By age alone: what comes next in the key.
            false => 0,
        };
        Ranked {
            urgency: Reverse(urgency),
            submitted_at: claim.submitted_at,
            job: claim.job,
            index,
        }
    };
    let mut sorted: Vec<(Class, Ranked)> = (0..claims.len())
        .map(|index| (class(&claims[index]), ranked(index)))
        .collect();
    sorted.sort_unstable();
    let mut order = Vec::with_capacity(claims.len());
    let mut had = Had::default();
    for group in sorted.chunk_by(|a, b| a.0 == b.0) {
        merge(group, claims, accounts, now, &mut had, &mut order);
    }
    order
}

/// A claim within its class; the least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ranked {
    urgency: Reverse<u128>,
    submitted_at: WallTime,
    job: JobId,
    index: usize,
}

/// How urgent a claim is; only which of two is higher means anything.
fn urgency(claim: &Claim<'_>, capacity: Amounts, now: WallTime) -> u128 {
    /// A job that is over in less is not more urgent for it.
    const SHORTEST: Span = Span::from_secs(10);
    let estimate = claim.estimate.unwrap_or(UNKNOWN).max(SHORTEST);
    let waited = u128::from(now.since(claim.submitted_at).0);
    // In 64ths of the estimate, up to sixteen thousand times it.
    let waited = (waited * 64 / u128::from(estimate.0)).min(1 << 20);
    // In millionths of the fleet; a millionth where it is less.
    let size = Spent::of(claim.amounts, Span(1000)).dominant(capacity);
    waited * size.clamp(1, 1_000_000).pow(3)
}

/// What each team and each of its users has had, with what this order has given them: dominant use by the fleet's capacity.
#[derive(Debug, Default)]
struct Had<'a> {
    teams: BTreeMap<&'a str, (u128, u32)>,
    users: BTreeMap<(&'a str, &'a str), u128>,
}

/// Appends the claims of one class.
fn merge<'a>(
    group: &[(Class, Ranked)],
    claims: &'a [Claim<'a>],
    accounts: &Accounts,
    now: WallTime,
    had: &mut Had<'a>,
    order: &mut Vec<usize>,
) {
    let capacity = accounts.rules().capacity;
    let mut queues: BTreeMap<&'a str, BTreeMap<&'a str, Vec<Ranked>>> = BTreeMap::new();
    for (_, ranked) in group.iter().rev() {
        let claim = &claims[ranked.index];
        let users = queues.entry(claim.team).or_default();
        users.entry(claim.user).or_default().push(*ranked);
    }
    let mut teams = Level::default();
    let mut users: BTreeMap<&'a str, Level<'a>> = BTreeMap::new();
    for (team, queue) in &queues {
        let level = users.entry(team).or_default();
        for (user, waiting) in queue {
            let standing = accounts.standing(team, user, now);
            let spent = had.users.entry((team, user)).or_insert(standing.user.dominant(capacity));
            had.teams.entry(team).or_insert((standing.team.dominant(capacity), standing.weight.max(1)));
            if let Some(first) = waiting.last() {
                level.enter(user, *spent, 1, *first);
            }
        }
        if let (Some(first), Some((spent, weight))) = (level.first(), had.teams.get(team)) {
            teams.enter(team, *spent, *weight, first);
        }
    }
    while let Some(team) = teams.next() {
        let (Some(level), Some(queue)) = (users.get_mut(team), queues.get_mut(team)) else {
            continue;
        };
        let Some(user) = level.next() else { continue };
        let Some(waiting) = queue.get_mut(user) else {
            continue;
        };
        let Some(ranked) = waiting.pop() else { continue };
        order.push(ranked.index);
        let claim = &claims[ranked.index];
        let more = Spent::of(claim.amounts, claim.estimate.unwrap_or(UNKNOWN)).dominant(capacity);
        if let Some(spent) = had.users.get_mut(&(team, user)) {
            *spent = spent.saturating_add(more);
            level.given(user, more, waiting.last().copied());
        }
        if let Some((spent, _)) = had.teams.get_mut(team) {
            *spent = spent.saturating_add(more);
            teams.given(team, more, level.first());
        }
    }
}

/// Teams of a class, or users of a team: who has had less than the mean by weight goes before the others.
#[derive(Debug, Default)]
struct Level<'a> {
    members: BTreeMap<&'a str, Member>,
    /// Of all members.
    had: u128,
    weight: u128,
    /// At most the mean, by what they would start next.
    under: BTreeSet<(Ranked, &'a str)>,
    /// Above it, by what they have had.
    over: BTreeSet<(u128, &'a str)>,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    had: u128,
    weight: u32,
    first: Ranked,
}

impl Member {
    /// What it has had by weight; in billionths, so that small uses by large weights differ.
    fn standing(&self) -> u128 {
        self.had.saturating_mul(1_000_000_000) / u128::from(self.weight)
    }
}

impl<'a> Level<'a> {
    fn enter(&mut self, name: &'a str, had: u128, weight: u32, first: Ranked) {
        let member = Member { had, weight, first };
        self.members.insert(name, member);
        self.had = self.had.saturating_add(had);
        self.weight += u128::from(weight);
        // Where it belongs is seen when the mean is known.
        self.over.insert((member.standing(), name));
    }

    /// Moves up who is at most at the mean, which rises with all that is given.
    fn settle(&mut self) {
        let mean = self.had.saturating_mul(1_000_000_000) / self.weight.max(1);
        while let Some((standing, name)) = self.over.first().copied()
            && (standing <= mean || self.under.is_empty())
        {
            self.over.pop_first();
            if let Some(member) = self.members.get(name) {
                self.under.insert((member.first, name));
            }
        }
    }

    /// What would be started next.
    fn first(&mut self) -> Option<Ranked> {
        self.settle();
        self.under.first().map(|(ranked, _)| *ranked)
    }

    /// Whose turn it is.
    fn next(&mut self) -> Option<&'a str> {
        self.settle();
        self.under.first().map(|(_, name)| *name)
    }

    /// A member was given something, and would start `first` next; none: it wants nothing more.
    fn given(&mut self, name: &'a str, more: u128, first: Option<Ranked>) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        self.under.remove(&(member.first, name));
        self.over.remove(&(member.standing(), name));
        member.had = member.had.saturating_add(more);
        self.had = self.had.saturating_add(more);
        match first {
            Some(first) => {
                member.first = first;
                self.over.insert((member.standing(), name));
            }
            None => {
                self.had -= member.had.min(self.had);
                self.weight -= u128::from(member.weight);
                self.members.remove(name);
            }
        }
    }
}
