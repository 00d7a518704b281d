//! Who goes first.
//!
//! Problem: one team must not take the whole fleet because it asked first, an urgent job must not wait for a patient
//! one, nobody may wait for ever, and what is left idle helps nobody. Approach: standard goes before burst; within a
//! tier whoever has waited beyond the patience, then the higher priority. Within these, teams that have had less for
//! their weight than the mean of those that want something go before the others; of a team, users likewise; and of
//! those the job whose urgency is highest. Each pick is charged at once, so who has just been given enough waits for
//! the others.
//!
//! Urgency is (waited / estimate) × size³, of the family that Tang, Lan, Desai and Buettner (IEEE Cluster 2009) call
//! WFP: short jobs grow urgent soon, and large ones gather, so that a machine is emptied once for several of them.
//! Whoever has waited beyond the patience goes by age alone.
//!
//! Properties: every claim appears once; the order depends on the values only; with several teams that always
//! want something, what they get converges to their weights; of one user, nobody passes a job that waits beyond the
//! patience. Burst waits behind standard however long: that is what it is.

use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap};
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
    /// The last plan gave it a reservation: it keeps its place before its equals, or whoever has had less would take the
    /// room that was kept free for it, and large jobs would wait for ever.
    pub reserved: bool,
}

/// What the operators decide about the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRules {
    /// Who has waited longer goes before higher priorities of its tier.
    pub patience: Span,
}

impl Default for OrderRules {
    /// Two days. On generated months at 60, 75 and 90 % of a machine (ten each) 12 hours left more of it unused and made
    /// the slowdown higher, by a quarter at 90 %; without any patience someone waited 440 hours.
    fn default() -> Self {
        Self {
            patience: Span::from_secs(48 * 3600),
        }
    }
}

/// A job of which nothing is known is taken for this long: long enough to weigh, short enough to be forgiven.
const UNKNOWN: Span = Span::from_secs(3600);

/// What comes before what, whoever has how much: the lower goes first.
type Class = (Tier, bool, Reverse<Priority>, bool);

/// The claims in the order in which they are to be tried, each by its place in `claims`.
#[must_use]
pub fn order(claims: &[Claim<'_>], accounts: &Accounts, rules: &OrderRules, now: WallTime) -> Vec<usize> {
    let patient = |claim: &Claim<'_>| now.since(claim.submitted_at) <= rules.patience;
    let class = |claim: &Claim<'_>| -> Class {
        (
            claim.tier,
            patient(claim),
            Reverse(claim.priority),
            !claim.reserved,
        )
    };
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
    let mut merge = Merge::new(claims, accounts, now);
    for group in sorted.chunk_by(|a, b| a.0 == b.0) {
        merge.run(group);
    }
    merge.order
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
    // In 64ths of the estimate, up to sixteen thousand times it.
    let waited = (now.since(claim.submitted_at).times(64).0 / estimate.0).min(1 << 20);
    // In millionths of the fleet; a millionth where it is less.
    let part = |asked: u64, all: u64| asked.saturating_mul(1_000_000) / all.max(1);
    let Amounts { cpu, memory, gpus } = claim.amounts;
    let size = part(cpu.0, capacity.cpu.0)
        .max(part(memory.0 >> 20, capacity.memory.0 >> 20))
        .max(part(gpus.into(), capacity.gpus.into()));
    u128::from(waited) * u128::from(size.clamp(1, 1_000_000)).pow(3)
}

/// The merge of what all users want, class by class.
struct Merge<'a> {
    claims: &'a [Claim<'a>],
    capacity: Amounts,
    /// Of each claim.
    owner: Vec<usize>,
    users: Vec<Member>,
    teams: Vec<Member>,
    /// Of each user: its team, and in the class at hand what it wants, the first last.
    team_of: Vec<usize>,
    waiting: Vec<Vec<Ranked>>,
    order: Vec<usize>,
}

impl<'a> Merge<'a> {
    /// Numbers teams and users: a queue has a hundred times as many claims.
    fn new(claims: &'a [Claim<'a>], accounts: &Accounts, now: WallTime) -> Self {
        let mut merge = Self {
            claims,
            capacity: accounts.rules().capacity,
            owner: Vec::with_capacity(claims.len()),
            users: Vec::new(),
            teams: Vec::new(),
            team_of: Vec::new(),
            waiting: Vec::new(),
            order: Vec::with_capacity(claims.len()),
        };
        let mut teams: BTreeMap<&str, usize> = BTreeMap::new();
        let mut users: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for claim in claims {
            let user = *users.entry((claim.user, claim.team)).or_insert_with(|| {
                let standing = accounts.standing(claim.team, claim.user, now);
                let team = *teams.entry(claim.team).or_insert_with(|| {
                    let had = standing.team.dominant(merge.capacity);
                    merge.teams.push(Member::new(had, standing.weight));
                    merge.teams.len() - 1
                });
                let had = standing.user.dominant(merge.capacity);
                merge.users.push(Member::new(had, 1));
                merge.team_of.push(team);
                merge.waiting.push(Vec::new());
                merge.users.len() - 1
            });
            merge.owner.push(user);
        }
        merge
    }

    /// Appends the claims of one class.
    fn run(&mut self, group: &[(Class, Ranked)]) {
        let mut wanting: BTreeSet<usize> = BTreeSet::new();
        for (_, ranked) in group.iter().rev() {
            let user = self.owner[ranked.index];
            self.waiting[user].push(*ranked);
            wanting.insert(user);
        }
        let mut levels: BTreeMap<usize, Level> = BTreeMap::new();
        for user in wanting {
            self.users[user].first = self.waiting[user].last().copied();
            let level = levels.entry(self.team_of[user]).or_default();
            level.enter(user, &self.users);
        }
        let mut teams = Level::default();
        for (team, level) in &mut levels {
            self.teams[*team].first = level.first(&self.users).map(|(ranked, _)| ranked);
            teams.enter(*team, &self.teams);
        }
        while let Some((ranked, team)) = teams.first(&self.teams) {
            self.order.push(ranked.index);
            let claim = &self.claims[ranked.index];
            let more = Spent::of(claim.amounts, claim.estimate.unwrap_or(UNKNOWN)).dominant(self.capacity);
            let user = self.owner[ranked.index];
            self.waiting[user].pop();
            let next = self.waiting[user].last().copied();
            let next = levels.get_mut(&team).and_then(|level| {
                level.give(user, &mut self.users, more, next);
                level.first(&self.users).map(|(ranked, _)| ranked)
            });
            teams.give(team, &mut self.teams, more, next);
        }
    }
}

/// A team among teams, or a user among the users of its team.
#[derive(Debug, Clone, Copy)]
struct Member {
    /// Dominant use by the fleet's capacity, with what this order has given.
    had: u128,
    weight: u32,
    /// What it would start next.
    first: Option<Ranked>,
}

impl Member {
    fn new(had: u128, weight: u32) -> Self {
        Self {
            had,
            weight: weight.max(1),
            first: None,
        }
    }

    /// What it has had by weight; in millionths, so that small uses by large weights differ.
    fn standing(&self) -> u128 {
        match self.weight {
            1 => self.had.saturating_mul(1 << 20),
            weight => self.had.saturating_mul(1 << 20) / u128::from(weight),
        }
    }
}

/// Those that want something: who has had at most the mean by weight goes before the others.
#[derive(Debug, Default)]
struct Level {
    /// Of all that want something.
    had: u128,
    weight: u128,
    /// At most the mean, by what they would start next.
    under: BinaryHeap<Reverse<(Ranked, usize)>>,
    /// The others, by what they have had.
    over: BinaryHeap<Reverse<(u128, usize)>>,
}

impl Level {
    fn enter(&mut self, member: usize, members: &[Member]) {
        let Member { had, weight, .. } = members[member];
        self.had = self.had.saturating_add(had);
        self.weight += u128::from(weight);
        // Where it belongs is seen when the mean is known.
        self.over.push(Reverse((members[member].standing(), member)));
    }

    /// What starts next, and whose it is. Whoever is no longer above the mean, which rises with all that is given, is
    /// let up.
    fn first(&mut self, members: &[Member]) -> Option<(Ranked, usize)> {
        while let Some(Reverse((_, member))) = self.over.peek().copied() {
            let Member { had, weight, first } = members[member];
            let above = had.saturating_mul(self.weight) > self.had.saturating_mul(weight.into());
            if above && !self.under.is_empty() {
                break;
            }
            self.over.pop();
            self.under.extend(first.map(|first| Reverse((first, member))));
        }
        self.under.peek().map(|Reverse(first)| *first)
    }

    /// The one that was first has been given something, and would start `next` then; none: it wants nothing more.
    fn give(&mut self, member: usize, members: &mut [Member], more: u128, next: Option<Ranked>) {
        self.under.pop();
        members[member].had = members[member].had.saturating_add(more);
        members[member].first = next;
        self.had = self.had.saturating_add(more);
        if next.is_some() {
            self.over.push(Reverse((members[member].standing(), member)));
        } else {
            self.had = self.had.saturating_sub(members[member].had);
            self.weight -= u128::from(members[member].weight);
        }
    }
}
