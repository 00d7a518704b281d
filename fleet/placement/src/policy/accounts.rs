//! Who holds how much, who has spent how much, and what each team may.
//!
//! Problem: the queue is ordered by what teams and users have had lately, and nobody may pass their quota; both must be
//! the same after a restart and in every replay. Approach: events in, integers kept. A worker is charged for its
//! estimate when it starts and for more whenever it outlives that, so a team that has just filled the fleet counts
//! as such at once; at its end it is charged for what it took.
//!
//! Terms: *standing*, decayed dominant use per weight: who has less goes first.
//!
//! Properties: what is held is the sum of what runs; a budget that pays for every start beforehand is never exceeded;
//! the same events give the same accounts.

mod saved;
mod shown;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use loadline_model::{Amounts, JobId, Span, WallTime};
use serde::{Deserialize, Serialize};

use crate::policy::estimate::outlived;
use crate::policy::quota::{Held, OverQuota, Quota, Whose};
use crate::policy::tab::{Asked, Tab};
use crate::policy::{Counted, Spent, Windows};

/// What the operators decide about all teams together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRules {
    /// What was spent counts half after so long.
    pub half_life: Span,
    /// How much the fleet lends, to tell which resource is dominant.
    pub capacity: Amounts,
}

impl Default for ShareRules {
    /// A fleet that lends nothing, so far.
    fn default() -> Self {
        Self {
            half_life: Self::HALF_LIFE,
            capacity: Amounts::default(),
        }
    }
}

impl Default for Accounts {
    fn default() -> Self {
        Self::new(ShareRules::default())
    }
}

impl ShareRules {
    /// A week: last week's heavy user is served last today, last month's is forgiven.
    pub const HALF_LIFE: Span = Span::from_secs(7 * 24 * 3600);
}

/// What the operators decide about one team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Team {
    /// Its part of the fleet is its weight by the sum of all that want something; zero counts as one.
    pub weight: u32,
    /// What it may hold and spend.
    pub quota: Quota,
    /// When its work may start.
    pub windows: Windows,
}

impl Default for Team {
    /// Equal among equals, without limits.
    fn default() -> Self {
        Self {
            weight: 100,
            quota: Quota::default(),
            windows: Windows::default(),
        }
    }
}

/// A worker that starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Starting<'a, A = Amounts> {
    /// Whose worker.
    pub job: JobId,
    /// Which of it.
    pub worker: u32,
    /// The team that pays.
    pub team: &'a str,
    /// The user who asked.
    pub user: &'a str,
    /// What it is given: whole GPUs, or as it is [`Counted`].
    pub amounts: A,
    /// How long it will run, if that is known.
    pub estimate: Option<Span>,
    /// How long it may run, its farewell included.
    pub limit: Option<Span>,
}

/// What was spent, as it counted at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Decaying {
    spent: Spent,
    at: WallTime,
}

impl Decaying {
    const fn new(at: WallTime) -> Self {
        Self {
            spent: Spent::ZERO,
            at,
        }
    }

    fn seen(&self, now: WallTime, half_life: Span) -> Spent {
        self.spent.decayed(now.since(self.at), half_life)
    }

    fn charge(&mut self, more: Spent, now: WallTime, half_life: Span) {
        self.spent = self.seen(now, half_life).plus(more);
        self.at = self.at.max(now);
    }

    fn give_back(&mut self, less: Spent, now: WallTime, half_life: Span) {
        self.spent = self.seen(now, half_life).minus(less);
        self.at = self.at.max(now);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct UserAccount {
    held: Held,
    spent: Decaying,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TeamAccount {
    team: Team,
    held: Held,
    spent: Decaying,
    /// Which period `paid` belongs to.
    period: i64,
    paid: Spent,
    users: BTreeMap<Arc<str>, UserAccount>,
}

impl TeamAccount {
    const fn new(team: Team, now: WallTime) -> Self {
        Self {
            team,
            held: NOTHING,
            spent: Decaying::new(now),
            period: 0,
            paid: Spent::ZERO,
            users: BTreeMap::new(),
        }
    }

    fn user(&mut self, name: &str, now: WallTime) -> (Arc<str>, &mut UserAccount) {
        named(&mut self.users, name, || UserAccount {
            held: NOTHING,
            spent: Decaying::new(now),
        })
    }

    /// What is paid of the budget of the period in which `now` lies.
    fn paid(&self, now: WallTime) -> Spent {
        match self.team.quota.budget {
            Some(budget) if budget.period_of(now) == self.period => self.paid,
            _ => Spent::ZERO,
        }
    }
}

/// The account of that name, made if there is none, and its own copy of the name.
fn named<'a, T>(
    accounts: &'a mut BTreeMap<Arc<str>, T>,
    name: &str,
    new: impl FnOnce() -> T,
) -> (Arc<str>, &'a mut T) {
    let known = accounts.get_key_value(name).map(|(name, _)| Arc::clone(name));
    let name = known.unwrap_or_else(|| name.into());
    let account = accounts.entry(Arc::clone(&name)).or_insert_with(new);
    (name, account)
}

const NOTHING: Held = Held {
    amounts: Counted::ZERO,
    workers: 0,
};

/// What one worker counts as.
const fn one(amounts: Counted) -> Held {
    Held { amounts, workers: 1 }
}

/// A worker that runs, as the accounts know it. The names are those of its accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    team: Arc<str>,
    user: Arc<str>,
    amounts: Counted,
    started: WallTime,
    limit: Option<Span>,
    /// For so long it was charged already.
    charged: Span,
    /// The period whose budget paid for all of its limit.
    prepaid: Option<i64>,
}

const _: () = assert!(size_of::<Running>() <= 104, "there are hundreds of thousands");

/// The accounts of all teams. Serialised they are the same on the other side of a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "saved::Saved", into = "saved::Saved")]
pub struct Accounts {
    rules: ShareRules,
    teams: BTreeMap<Arc<str>, TeamAccount>,
    running: BTreeMap<(JobId, u32), Running>,
    /// When what each worker was charged for runs out.
    due: BTreeSet<(WallTime, JobId, u32)>,
}

/// Where a user of a team stands; the lower goes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) team: Spent,
    pub(crate) user: Spent,
    pub(crate) weight: u32,
}

impl Accounts {
    /// Without teams.
    #[must_use]
    pub const fn new(rules: ShareRules) -> Self {
        Self {
            rules,
            teams: BTreeMap::new(),
            running: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// The rules that hold.
    #[must_use]
    pub const fn rules(&self) -> &ShareRules {
        &self.rules
    }

    /// Says what the fleet lends now, and how fast what was spent is forgiven.
    pub const fn set_rules(&mut self, rules: ShareRules) {
        self.rules = rules;
    }

    /// Says what a team may, from now on; what it holds and has spent stays.
    pub fn set_team(&mut self, name: &str, team: Team, now: WallTime) {
        self.account(name, now).1.team = team;
    }

    /// What a team may; a team of which nobody has said anything is equal among equals.
    #[must_use]
    pub fn team(&self, name: &str) -> Team {
        self.teams
            .get(name)
            .map_or_else(Team::default, |account| account.team.clone())
    }

    /// When a team's work may start; none: always.
    pub(crate) fn windows(&self, team: &str) -> Option<&Windows> {
        self.teams.get(team).map(|account| &account.team.windows)
    }

    /// What all workers of a team hold.
    #[must_use]
    pub fn held(&self, team: &str) -> Held {
        self.teams.get(team).map_or(NOTHING, |account| account.held)
    }

    /// What all workers of a user of a team hold.
    #[must_use]
    pub fn held_by(&self, team: &str, user: &str) -> Held {
        let account = self.teams.get(team).and_then(|account| account.users.get(user));
        account.map_or(NOTHING, |account| account.held)
    }

    /// What is paid or promised of a team's budget in the period of `now`.
    #[must_use]
    pub fn paid(&self, team: &str, now: WallTime) -> Spent {
        self.teams
            .get(team)
            .map_or(Spent::ZERO, |account| account.paid(now))
    }

    /// What a team has spent, as it counts at `now`.
    #[must_use]
    pub fn spent(&self, team: &str, now: WallTime) -> Spent {
        let account = self.teams.get(team);
        account.map_or(Spent::ZERO, |account| {
            account.spent.seen(now, self.rules.half_life)
        })
    }

    pub(crate) fn standing(&self, team: &str, user: &str, now: WallTime) -> Standing {
        let half_life = self.rules.half_life;
        let Some(account) = self.teams.get(team) else {
            return Standing {
                weight: Team::default().weight,
                ..Standing::default()
            };
        };
        let user = account.users.get(user);
        Standing {
            team: account.spent.seen(now, half_life),
            user: user.map_or(Spent::ZERO, |user| user.spent.seen(now, half_life)),
            weight: account.team.weight,
        }
    }

    /// Says whether a user of a team may hold and spend so much more, with `held` and `paid` on top that were granted
    /// in the same plan.
    ///
    /// # Errors
    /// The first limit that would be exceeded.
    pub fn admits(
        &self,
        asked: &Asked<'_, impl Copy + Into<Counted>>,
        tab: &Tab,
        now: WallTime,
    ) -> Result<(), OverQuota> {
        let Some(account) = self.teams.get(asked.team) else {
            return Ok(());
        };
        let quota = &account.team.quota;
        let (team_tab, user_tab) = tab.of(asked.team, asked.user);
        quota
            .team
            .admits(Whose::Team, account.held.plus(team_tab.held), asked.held())?;
        let held = account.users.get(asked.user).map_or(NOTHING, |user| user.held);
        quota
            .user
            .admits(Whose::User, held.plus(user_tab.held), asked.held())?;
        let Some(budget) = quota.budget else {
            return Ok(());
        };
        let limit = asked.limit.ok_or(OverQuota::NoTimeLimit)?;
        let more = Spent::of(asked.amounts, limit);
        budget.admits(account.paid(now).plus(team_tab.paid), more, now)
    }

    /// A worker has been given its amounts.
    pub fn start(&mut self, starting: &Starting<'_, impl Copy + Into<Counted>>, now: WallTime) {
        let Starting {
            job,
            worker,
            team,
            user,
            amounts,
            estimate,
            limit,
        } = *starting;
        let amounts: Counted = amounts.into();
        let half_life = self.rules.half_life;
        let charged = estimate.unwrap_or(FIRST_CHARGE);
        let spent = Spent::of(amounts, charged);
        let (team, account) = self.account(team, now);
        let (user, user_account) = account.user(user, now);
        user_account.held = user_account.held.plus(one(amounts));
        user_account.spent.charge(spent, now, half_life);
        account.held = account.held.plus(one(amounts));
        account.spent.charge(spent, now, half_life);
        let prepaid = account.team.quota.budget.zip(limit).map(|(budget, limit)| {
            account.paid = account.paid(now).plus(Spent::of(amounts, limit));
            account.period = budget.period_of(now);
            account.period
        });
        let running = Running {
            team,
            user,
            amounts,
            started: now,
            limit,
            charged,
            prepaid,
        };
        self.due.insert((now.plus(charged), job, worker));
        self.running.insert((job, worker), running);
    }

    /// A worker's amounts are free again. How long it ran; none if the accounts do not know it.
    pub fn end(&mut self, job: JobId, worker: u32, now: WallTime) -> Option<Span> {
        let running = self.running.remove(&(job, worker))?;
        let half_life = self.rules.half_life;
        let Running {
            team,
            user,
            amounts,
            started,
            limit,
            charged,
            prepaid,
        } = running;
        self.due.remove(&(started.plus(charged), job, worker));
        let ran = now.since(started);
        let account = self.teams.get_mut(&team)?;
        let user_account = account.users.get_mut(&user)?;
        account.held = account.held.minus(one(amounts));
        user_account.held = user_account.held.minus(one(amounts));
        for spent in [&mut account.spent, &mut user_account.spent] {
            spent.charge(Spent::of(amounts, ran), now, half_life);
            spent.give_back(Spent::of(amounts, charged), now, half_life);
        }
        if let Some(limit) = limit.filter(|_| prepaid == Some(account.period)) {
            let unused = Spent::of(amounts, limit).minus(Spent::of(amounts, ran));
            account.paid = account.paid.minus(unused);
        }
        Some(ran)
    }

    /// A worker that ran before these accounts were opened: what is left of its charge counts from `now` on.
    pub fn recall(
        &mut self,
        past: &Starting<'_, impl Copy + Into<Counted>>,
        started: WallTime,
        ended: WallTime,
        now: WallTime,
    ) {
        let half_life = self.rules.half_life;
        let spent = Spent::of(past.amounts, ended.since(started));
        let left = spent.decayed(now.since(ended), half_life);
        let (_, account) = self.account(past.team, now);
        account.spent.charge(left, now, half_life);
        if let Some(budget) = account.team.quota.budget
            && budget.period_of(started) == budget.period_of(now)
        {
            account.paid = account.paid(now).plus(spent);
            account.period = budget.period_of(now);
        }
        let (_, user) = account.user(past.user, now);
        user.spent.charge(left, now, half_life);
    }

    fn account(&mut self, team: &str, now: WallTime) -> (Arc<str>, &mut TeamAccount) {
        named(&mut self.teams, team, || TeamAccount::new(Team::default(), now))
    }

    /// Charges every worker that has outlived what it was charged for; call it before a plan is made.
    pub fn advance(&mut self, now: WallTime) {
        let half_life = self.rules.half_life;
        while let Some((due, job, worker)) = self.due.first().copied()
            && due <= now
        {
            self.due.pop_first();
            let Some(running) = self.running.get_mut(&(job, worker)) else {
                continue;
            };
            let ran = now.since(running.started);
            let ahead = outlived(ran, running.limit);
            // A worker at its limit is about to be ended; until it is, it is looked at once a minute.
            let charged = ahead.max(ran.plus(FIRST_CHARGE.min(Span::from_secs(60))));
            let more = Spent::of(running.amounts, charged.minus(running.charged));
            running.charged = charged;
            self.due.insert((running.started.plus(charged), job, worker));
            let Some(account) = self.teams.get_mut(&running.team) else {
                continue;
            };
            account.spent.charge(more, now, half_life);
            if let Some(user) = account.users.get_mut(&running.user) {
                user.spent.charge(more, now, half_life);
            }
        }
    }
}

/// What a worker of which nothing is known is charged for at first: it counts at once, and little.
const FIRST_CHARGE: Span = Span::from_secs(300);
