//! Who goes first.
//!
//! Problem: one team must not take the whole fleet because it asked first, an urgent job must not wait for a patient
//! one, nobody may wait for ever, and what is left idle helps nobody. Approach: standard goes before burst; within a
//! tier whoever has waited beyond the patience, then the higher priority. Within these, teams that have had less for
//! their weight than the mean of those that want something go before the others; of a team, users likewise; and of
//! those the job whose urgency is highest. Each pick is charged at once, so who has just been given enough waits for
//! the others.
//!
//! Urgency is (waited / estimate) × size², of the family that Tang, Lan, Desai and Buettner (IEEE Cluster 2009) call
//! WFP: short jobs grow urgent soon, and large ones gather, so that a machine is emptied once for several of them. With
//! their cube the slowdown was higher, by 7 % on generated months at 90 % of a machine.
//! Whoever has waited beyond the patience goes by age alone, whoever has had how much: shares among them left more of
//! the fleet unused and made the longest wait longer (ARCHITECTURE 36).
//!
//! Properties: every claim appears once; the order depends on the values only; with several teams that always
//! want something, what they get converges to their weights; in a tier, nobody passes a job that waits beyond the
//! patience but one that waits for longer. Burst waits behind standard however long: that is what it is.

use alloc::collections::{BTreeMap, BinaryHeap};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use loadline_model::{Amounts, JobId, Span, Tier, WallTime};
use serde::{Deserialize, Serialize};

use crate::policy::accounts::Accounts;
use crate::policy::{Counted, Priority, Spent};

/// A wish to start workers, as far as its place in the queue goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a, A = Amounts> {
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
    /// It runs already, and would like more than it needs: within its tier needs go first.
    pub extra: bool,
    /// What is started of it at once: whole GPUs, or as it is [`Counted`].
    pub amounts: A,
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
    /// Forty hours. On generated months at 90 % of a machine (20) it left less unused than 48 hours (0.15 points with 36)
    /// and made the slowdown higher (by 14 % with 36); without any patience someone waited 440 hours.
    fn default() -> Self {
        Self {
            patience: Span::from_secs(40 * 3600),
        }
    }
}

/// A job of which nothing is known is taken for this long: long enough to weigh, short enough to be forgiven.
const UNKNOWN: Span = Span::from_secs(3600);

/// What comes before what, whoever has how much: the lower goes first.
pub(crate) type Class = (Tier, bool, bool, Reverse<Priority>, bool);

/// The class of a claim.
pub(crate) fn class<A>(claim: &Claim<'_, A>, rules: &OrderRules, now: WallTime) -> Class {
    let rank = (claim.tier, claim.extra, claim.priority);
    class_of(rank, claim.submitted_at, claim.reserved, rules, now)
}

/// The class of what has this tier, is or is not extra, and has this priority.
pub(crate) fn class_of(
    (tier, extra, priority): (Tier, bool, Priority),
    submitted_at: WallTime,
    reserved: bool,
    rules: &OrderRules,
    now: WallTime,
) -> Class {
    let patient = now.since(submitted_at) <= rules.patience;
    let priority = if patient { priority } else { Priority::NORMAL };
    (tier, extra, patient, Reverse(priority), !reserved)
}

/// The claims in the order in which they are to be tried, each by its place in `claims`: as if every one were started.
#[must_use]
pub fn order(claims: &[Claim<'_>], accounts: &Accounts, rules: &OrderRules, now: WallTime) -> Vec<usize> {
    let mut turns = Turns::new(accounts.rules().capacity, *rules, now);
    for (ticket, claim) in (0u64..).zip(claims) {
        turns.enter(claim, ticket, accounts);
    }
    let mut order = Vec::with_capacity(claims.len());
    while let Some(ticket) = turns.next() {
        order.extend(usize::try_from(ticket));
        turns.done(true);
    }
    order
}

/// A claim within its class; the least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ranked {
    urgency: Reverse<u128>,
    submitted_at: WallTime,
    job: JobId,
    ticket: u64,
    /// What its owner is charged if it starts.
    cost: u128,
    /// Its user, also where all who have waited beyond the patience are one.
    owner: usize,
}

/// Whose turn it is, one after the other: what starts is charged at once, what does not start is not.
#[derive(Debug)]
pub(crate) struct Turns {
    capacity: Amounts,
    rules: OrderRules,
    now: WallTime,
    /// Teams and, of each, users, by their places in the lists below: a queue has a hundred times as many claims.
    names: BTreeMap<String, (usize, BTreeMap<String, usize>)>,
    teams: Vec<Member>,
    users: Vec<Member>,
    /// Of each user.
    team_of: Vec<usize>,
    /// Of each user, in the class at hand.
    waiting: Vec<BinaryHeap<Reverse<Ranked>>>,
    /// Of each team, in the class at hand.
    levels: BTreeMap<usize, Level>,
    level: Level,
    later: BTreeMap<Class, Vec<(usize, Ranked)>>,
    at: Option<Class>,
    /// Whose turn it is: the team, the user, and the claim.
    picked: Option<(usize, usize, Ranked)>,
    /// The user who stands for all that have waited beyond the patience.
    aged: Option<usize>,
}

impl Turns {
    pub(crate) const fn new(capacity: Amounts, rules: OrderRules, now: WallTime) -> Self {
        Self {
            capacity,
            rules,
            now,
            names: BTreeMap::new(),
            teams: Vec::new(),
            users: Vec::new(),
            team_of: Vec::new(),
            waiting: Vec::new(),
            levels: BTreeMap::new(),
            level: Level::new(),
            later: BTreeMap::new(),
            at: None,
            picked: None,
            aged: None,
        }
    }

    /// The number of all who have waited beyond the patience: they are one.
    fn aged(&mut self) -> usize {
        if let Some(user) = self.aged {
            return user;
        }
        self.teams.push(Member::new(0, 1));
        self.users.push(Member::new(0, 1));
        self.team_of.push(self.teams.len() - 1);
        self.waiting.push(BinaryHeap::new());
        let user = self.users.len() - 1;
        self.aged = Some(user);
        user
    }

    /// The number of whoever claims.
    fn owner<A>(&mut self, claim: &Claim<'_, A>, accounts: &Accounts) -> usize {
        let known = self.names.get(claim.team);
        if let Some(user) = known.and_then(|(_, users)| users.get(claim.user)) {
            return *user;
        }
        let standing = accounts.standing(claim.team, claim.user, self.now);
        let team = known.map(|(team, _)| *team).unwrap_or_else(|| {
            let had = standing.team.dominant(self.capacity);
            self.teams.push(Member::new(had, standing.weight));
            self.teams.len() - 1
        });
        self.users
            .push(Member::new(standing.user.dominant(self.capacity), 1));
        self.team_of.push(team);
        self.waiting.push(BinaryHeap::new());
        let user = self.users.len() - 1;
        let (_, users) = self
            .names
            .entry(claim.team.into())
            .or_insert_with(|| (team, BTreeMap::new()));
        users.insert(claim.user.into(), user);
        user
    }

    /// One more claim. Once turns are taken: only of whom it is whose turn it is.
    pub(crate) fn enter<A: Copy + Into<Counted>>(
        &mut self,
        claim: &Claim<'_, A>,
        ticket: u64,
        accounts: &Accounts,
    ) {
        let class = class(claim, &self.rules, self.now);
        let (_, _, patient, ..) = class;
        // Beyond the patience by age alone: what comes next in the key.
        let urgency = if patient {
            urgency(claim, self.capacity, self.now)
        } else {
            0
        };
        let spent = Spent::of(claim.amounts, claim.estimate.unwrap_or(UNKNOWN));
        let ranked = Ranked {
            urgency: Reverse(urgency),
            submitted_at: claim.submitted_at,
            job: claim.job,
            ticket,
            cost: spent.dominant(self.capacity),
            owner: self.owner(claim, accounts),
        };
        let user = if patient { ranked.owner } else { self.aged() };
        if self.at.is_some_and(|at| class <= at) {
            self.waiting[user].push(Reverse(ranked));
        } else {
            self.later.entry(class).or_default().push((user, ranked));
        }
    }

    /// The ticket of whose turn it is; say with [`Self::done`] what came of it before the next.
    pub(crate) fn next(&mut self) -> Option<u64> {
        loop {
            if let Some((ranked, team)) = self.level.first(&self.teams) {
                let level = self.levels.get_mut(&team)?;
                let (_, user) = level.first(&self.users)?;
                self.waiting[user].pop();
                self.picked = Some((team, user, ranked));
                return Some(ranked.ticket);
            }
            let (class, claims) = self.later.pop_first()?;
            self.begin(class, claims);
        }
    }

    /// Says whether the one whose turn it was has started.
    pub(crate) fn done(&mut self, started: bool) {
        let Some((team, user, Ranked { cost, owner, .. })) = self.picked.take() else {
            return;
        };
        let more = if started { cost } else { 0 };
        if owner != user {
            // Its own have their turns later, and it has had this.
            self.users[owner].charge(more);
            self.teams[self.team_of[owner]].charge(more);
        }
        let next = self.waiting[user].peek().map(|Reverse(next)| *next);
        let next = self.levels.get_mut(&team).and_then(|level| {
            level.give(user, &mut self.users, more, next);
            level.first(&self.users).map(|(ranked, _)| ranked)
        });
        self.level.give(team, &mut self.teams, more, next);
    }

    fn begin(&mut self, class: Class, claims: Vec<(usize, Ranked)>) {
        self.at = Some(class);
        let mut wanting: BTreeMap<usize, Vec<Reverse<Ranked>>> = BTreeMap::new();
        for (user, ranked) in claims {
            wanting.entry(user).or_default().push(Reverse(ranked));
        }
        self.levels.clear();
        for (user, claims) in wanting {
            // All at once: that costs a fraction of one after the other.
            self.waiting[user].append(&mut BinaryHeap::from(claims));
            self.users[user].first = self.waiting[user].peek().map(|Reverse(first)| *first);
            let level = self.levels.entry(self.team_of[user]).or_default();
            level.enter(user, &self.users);
        }
        self.level = Level::new();
        for (team, level) in &mut self.levels {
            self.teams[*team].first = level.first(&self.users).map(|(ranked, _)| ranked);
            self.level.enter(*team, &self.teams);
        }
    }
}

/// How urgent a claim is; only which of two is higher means anything.
fn urgency<A: Copy + Into<Counted>>(claim: &Claim<'_, A>, capacity: Amounts, now: WallTime) -> u128 {
    /// A job that is over in less is not more urgent for it.
    const SHORTEST: Span = Span::from_secs(10);
    let estimate = claim.estimate.unwrap_or(UNKNOWN).max(SHORTEST);
    // In 64ths of the estimate, up to sixteen thousand times it.
    let waited = (now.since(claim.submitted_at).times(64).0 / estimate.0).min(1 << 20);
    // In millionths of the fleet; a millionth where it is less.
    let part = |asked: u64, all: u64| asked.saturating_mul(1_000_000) / all.max(1);
    let Counted { cpu, memory, gpus } = claim.amounts.into();
    let capacity = Counted::from(capacity);
    let size = part(cpu.0, capacity.cpu.0)
        .max(part(memory.0 >> 20, capacity.memory.0 >> 20))
        .max(part(gpus.0, capacity.gpus.0));
    u128::from(waited) * u128::from(size.clamp(1, 1_000_000)).pow(2)
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

    fn charge(&mut self, more: u128) {
        self.had = self.had.saturating_add(more);
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
    const fn new() -> Self {
        Self {
            had: 0,
            weight: 0,
            under: BinaryHeap::new(),
            over: BinaryHeap::new(),
        }
    }

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
        members[member].charge(more);
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
