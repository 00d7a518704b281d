//! Teams: who is in them, their part of the fleet, what they may hold and spend.
//!
//! Rows only: what teams hold and have spent follows from the attempts, and is placement's to count
//! (`fleet/src/state/ledger.rs` tells it). Whatever changes here holds from the next plan on; nothing is ended for it.

use std::sync::Arc;

use loadline_placement::policy::{Budget, Period, Quota, Resource, Windows};

use super::change::Change;
use super::command::{Now, Reply};
use super::refused::Refused;
use super::rows::{JobStage, TeamRow, UserRow};
use super::tx::Tx;
use super::view::{TeamView, UserDetail};
use super::{Job, State};
use crate::trust::Role;

/// What a team weighs that nobody has said anything about.
const WEIGHT: u32 = 100;

/// What is to change about a team; what is not said stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TeamChange {
    /// Its part of the fleet, by the sum of all weights.
    pub weight: Option<u32>,
    /// Who comes in.
    pub add: Vec<String>,
    /// Who goes.
    pub remove: Vec<String>,
    /// When its work may start.
    pub windows: Option<Windows>,
}

/// Whose limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// What the team holds at once.
    Team(Resource),
    /// What each of its users holds at once.
    User(Resource),
    /// What the team spends in each period.
    Budget(Resource),
}

/// What is to change about a quota; what is not said stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuotaChange {
    /// All limits that hold go first.
    pub lift_all: bool,
    /// Limits that hold no longer.
    pub lift: Vec<Limit>,
    /// Limits that hold from now on.
    pub set: Vec<(Limit, u64)>,
    /// When a new budget begins.
    pub period: Option<Period>,
}

impl QuotaChange {
    /// The quota afterwards.
    fn applied_to(&self, before: &Quota) -> Quota {
        let mut quota = if self.lift_all { Quota::default() } else { *before };
        let mut budget = quota.budget.unwrap_or(Budget {
            period: Period::Month,
            cpu_hours: None,
            gib_hours: None,
            gpu_hours: None,
        });
        budget.period = self.period.unwrap_or(budget.period);
        let lifted = self.lift.iter().map(|limit| (*limit, None));
        let set = self.set.iter().map(|(limit, amount)| (*limit, Some(*amount)));
        for (limit, amount) in lifted.chain(set) {
            put_limit(&mut quota, &mut budget, limit, amount);
        }
        let limits = [budget.cpu_hours, budget.gib_hours, budget.gpu_hours];
        quota.budget = limits.iter().any(Option::is_some).then_some(budget);
        quota
    }
}

fn put_limit(quota: &mut Quota, budget: &mut Budget, limit: Limit, amount: Option<u64>) {
    let small = |amount: Option<u64>| amount.map(|amount| u32::try_from(amount).unwrap_or(u32::MAX));
    let (at_once, resource) = match limit {
        Limit::Team(resource) => (&mut quota.team, resource),
        Limit::User(resource) => (&mut quota.user, resource),
        Limit::Budget(resource) => {
            match resource {
                Resource::Cpu => budget.cpu_hours = amount,
                Resource::Memory => budget.gib_hours = amount,
                Resource::Gpus => budget.gpu_hours = amount,
                Resource::Workers => {}
            }
            return;
        }
    };
    match resource {
        Resource::Cpu => at_once.cpu = amount.map(loadline_model::MilliCpu),
        Resource::Memory => at_once.memory = amount.map(loadline_model::Bytes),
        Resource::Gpus => at_once.gpus = small(amount),
        Resource::Workers => at_once.workers = small(amount),
    }
}

impl Tx<'_> {
    fn team(&self, name: &str) -> Result<Arc<TeamRow>, Refused> {
        let row = self.state.teams.get(name);
        row.cloned().ok_or_else(|| Refused::TeamUnknown(name.to_owned()))
    }

    fn user(&self, name: &str) -> Result<Arc<UserRow>, Refused> {
        let row = self.state.users.get(name);
        row.cloned().ok_or_else(|| Refused::UserUnknown(name.to_owned()))
    }

    fn put_team(&mut self, row: TeamRow) {
        self.put(Change::Team(row.name.clone(), Some(Arc::new(row))));
    }

    fn put_member(&mut self, team: &str, user: &str, is: bool) {
        let known = self.state.is_member(team, user);
        if known != is {
            let change = Change::Member(team.to_owned(), user.to_owned(), is.then_some(()));
            self.put(change);
        }
    }

    /// Makes the team that someone is put into, if there is none.
    pub(crate) fn join_team(&mut self, by: &str, team: &str, user: &str) {
        if team.is_empty() {
            return;
        }
        if !self.state.teams.contains_key(team) {
            self.log("team_set", by, team, "new");
            self.put_team(self.state.new_team(team, self.now));
        }
        self.put_member(team, user, true);
    }

    pub(crate) fn set_team(&mut self, by: &str, name: &str, change: TeamChange) -> Result<Reply, Refused> {
        let TeamChange {
            weight,
            add,
            remove,
            windows,
        } = change;
        let known = self.state.teams.get(name).cloned();
        let before = known
            .as_deref()
            .cloned()
            .unwrap_or_else(|| self.state.new_team(name, self.now));
        let after = TeamRow {
            weight: weight.unwrap_or(before.weight),
            windows: windows.unwrap_or_else(|| before.windows.clone()),
            ..before
        };
        self.log("team_set", by, name, format_args!("weight {}", after.weight));
        if known.as_deref() != Some(&after) {
            self.put_team(after);
        }
        for user in &add {
            self.user(user)?;
            self.log("team_joined", by, name, user);
            self.put_member(name, user, true);
        }
        for user in &remove {
            let row = self.user(user)?;
            if !self.state.is_member(name, user) {
                return Err(Refused::NotInTeam(user.clone(), name.to_owned()));
            }
            self.log("team_left", by, name, user);
            self.leave_team(name, &row);
        }
        self.team_reply(name)
    }

    fn leave_team(&mut self, team: &str, user: &UserRow) {
        self.put_member(team, &user.name, false);
        if user.team == team {
            let row = UserRow {
                team: String::new(),
                ..user.clone()
            };
            self.put(Change::User(row.name.clone(), Some(Arc::new(row))));
        }
    }

    pub(crate) fn remove_team(&mut self, by: &str, name: &str) -> Result<Reply, Refused> {
        self.team(name)?;
        let open = self
            .state
            .jobs
            .values()
            .filter(|job| is_open_of(job, name))
            .count();
        if open > 0 {
            return Err(Refused::TeamBusy(name.to_owned(), open));
        }
        self.log("team_removed", by, name, "");
        for user in self.state.members(name) {
            let row = self.user(&user)?;
            self.leave_team(name, &row);
        }
        self.put(Change::Team(name.to_owned(), None));
        Ok(Reply::Done)
    }

    pub(crate) fn set_quota(&mut self, by: &str, name: &str, change: &QuotaChange) -> Result<Reply, Refused> {
        let before = self.team(name)?;
        let quota = change.applied_to(&before.quota);
        self.log("quota_set", by, name, told(&quota));
        if quota != before.quota {
            self.put_team(TeamRow {
                quota,
                ..(*before).clone()
            });
        }
        self.team_reply(name)
    }

    fn team_reply(&self, name: &str) -> Result<Reply, Refused> {
        let team = self.state.team(name, self.now)?;
        Ok(Reply::Team(Box::new(team)))
    }

    /// Puts a person into another team, or gives another role.
    pub(crate) fn set_user(
        &mut self,
        by: &str,
        name: &str,
        team: Option<String>,
        role: Option<Role>,
    ) -> Result<Reply, Refused> {
        let before = self.user(name)?;
        if let Some(role) = role {
            let last = before.role == Role::Admin && role != Role::Admin && self.is_last_admin(name);
            if last {
                return Err(Refused::LastAdmin(name.to_owned()));
            }
        }
        if let Some(team) = team.as_deref().filter(|team| !team.is_empty()) {
            self.team(team)?;
            self.put_member(team, name, true);
        }
        let after = UserRow {
            team: team.unwrap_or_else(|| before.team.clone()),
            role: role.unwrap_or(before.role),
            ..(*before).clone()
        };
        let detail = format!("team {}, role {}", after.team, after.role.word());
        self.log("user_set", by, name, detail);
        Ok(self.put_user(after))
    }

    /// The team that pays for a job.
    pub(crate) fn paying_team(&self, user: &UserRow, wanted: Option<&str>) -> Result<String, Refused> {
        let Some(team) = wanted else {
            return Ok(user.team.clone());
        };
        self.team(team)?;
        if self.state.is_member(team, &user.name) {
            Ok(team.to_owned())
        } else {
            Err(Refused::NotInTeam(user.name.clone(), team.to_owned()))
        }
    }
}

fn is_open_of(job: &Job, team: &str) -> bool {
    *job.row.submitter.team == *team && !matches!(job.row.stage, JobStage::Done(..))
}

/// For the record.
fn told(quota: &Quota) -> String {
    format!("{quota:?}").chars().take(400).collect()
}

impl State {
    fn new_team(&self, name: &str, now: Now) -> TeamRow {
        TeamRow {
            name: name.to_owned(),
            weight: WEIGHT,
            quota: Quota::default(),
            windows: Windows::default(),
            created_at: now.wall,
        }
    }

    pub(crate) fn is_member(&self, team: &str, user: &str) -> bool {
        self.members.contains(&(team.to_owned(), user.to_owned()))
    }

    fn members(&self, team: &str) -> Vec<String> {
        let from = (team.to_owned(), String::new());
        let of_team = self.members.range(from..).take_while(|(name, _)| name == team);
        of_team.map(|(_, user)| user.clone()).collect()
    }

    /// All teams, by name.
    pub fn teams(&self, now: Now) -> Vec<TeamView> {
        let rows = self.teams.values();
        rows.map(|row| self.team_view(row, now)).collect()
    }

    /// One team.
    ///
    /// # Errors
    /// When there is none.
    pub fn team(&self, name: &str, now: Now) -> Result<TeamView, Refused> {
        let row = self.teams.get(name);
        let row = row.ok_or_else(|| Refused::TeamUnknown(name.to_owned()))?;
        Ok(self.team_view(row, now))
    }

    /// How many jobs wait and run, of those that are wanted.
    fn jobs_of(&self, wanted: impl Fn(&Job) -> bool) -> (u32, u32) {
        let (mut queued, mut running) = (0, 0);
        for job in self.jobs.values().filter(|job| wanted(job)) {
            match job.row.stage {
                JobStage::Queued => queued += 1,
                JobStage::Running | JobStage::Ending(_) => running += 1,
                JobStage::Done(..) => {}
            }
        }
        (queued, running)
    }

    fn team_view(&self, row: &Arc<TeamRow>, now: Now) -> TeamView {
        let accounts = self.planner.accounts();
        let (jobs_queued, jobs_running) = self.jobs_of(|job| *job.row.submitter.team == *row.name);
        let held = accounts.held(&row.name);
        let paid = accounts.paid(&row.name, now.wall);
        TeamView {
            row: Arc::clone(row),
            members: self.members(&row.name),
            held,
            paid,
            share: accounts.share(&row.name, now.wall),
            jobs_queued,
            jobs_running,
            note: accounts.beyond(&row.name, &row.quota, now.wall),
            at: now.wall,
        }
    }

    /// One person, with the teams that may pay for their jobs and what they hold.
    ///
    /// # Errors
    /// When there is none.
    pub fn user(&self, name: &str) -> Result<UserDetail, Refused> {
        let row = self.users.get(name);
        let row = row.ok_or_else(|| Refused::UserUnknown(name.to_owned()))?;
        let teams = self.members.iter().filter(|(_, user)| user == name);
        let (jobs_queued, jobs_running) = self.jobs_of(|job| *job.row.submitter.user == *name);
        Ok(UserDetail {
            user: super::access::user_view(row),
            teams: teams.map(|(team, _)| team.clone()).collect(),
            jobs_queued,
            jobs_running,
            held: self.planner.accounts().held_of_user(name),
        })
    }

    /// What placement goes by, of one team.
    pub(crate) fn team_rules(row: &TeamRow) -> loadline_placement::policy::Team {
        loadline_placement::policy::Team {
            weight: row.weight,
            quota: row.quota,
            windows: row.windows.clone(),
        }
    }
}
