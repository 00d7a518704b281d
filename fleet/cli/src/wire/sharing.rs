//! The calls about teams, quotas and single people.

use loadline_model::{MilliGpu, WallTime};
use loadline_proto::fleet::v1 as pb;
use loadline_proto::types::v1 as types;

use super::client::Client;
use super::failure::CallError;
use crate::view::{AtOnceView, HoursView, Moment, QuotaView, TeamRow, UserRow, UserView};

/// What is to change about a team.
#[derive(Debug, Clone, Default)]
pub struct TeamChange {
    /// Its weight.
    pub weight: Option<u32>,
    /// Who comes in.
    pub add: Vec<String>,
    /// Who goes.
    pub remove: Vec<String>,
    /// When its work may start, instead of those it has.
    pub windows: Vec<String>,
    /// Its work may start at any time.
    pub always: bool,
}

/// What is to change about a quota.
#[derive(Debug, Clone, Default)]
pub struct QuotaChange {
    /// Limits that hold from now on.
    pub set: QuotaView,
    /// Limits that hold no longer.
    pub lift: Vec<&'static str>,
    /// All of them go first.
    pub lift_all: bool,
}

impl Client {
    /// Lists teams.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn teams(&mut self) -> Result<Vec<TeamRow>, CallError> {
        let reply = self.sharing.list_teams(pb::ListTeamsRequest {}).await?;
        Ok(reply.into_inner().teams.into_iter().map(team).collect())
    }

    /// Shows a team.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn team(&mut self, name: &str) -> Result<TeamRow, CallError> {
        let request = pb::TeamRef { name: name.into() };
        Ok(team(self.sharing.get_team(request).await?.into_inner()))
    }

    /// Makes or changes a team.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn set_team(&mut self, name: &str, change: TeamChange) -> Result<TeamRow, CallError> {
        let TeamChange {
            weight,
            add,
            remove,
            windows,
            always,
        } = change;
        let request = pb::SetTeamRequest {
            name: name.into(),
            weight,
            add,
            remove,
            windows,
            always,
        };
        Ok(team(self.sharing.set_team(request).await?.into_inner()))
    }

    /// Removes a team.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn remove_team(&mut self, name: &str) -> Result<(), CallError> {
        let request = pb::TeamRef { name: name.into() };
        self.sharing.remove_team(request).await?;
        Ok(())
    }

    /// Changes a quota.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn set_quota(&mut self, name: &str, change: QuotaChange) -> Result<TeamRow, CallError> {
        let QuotaView {
            team: of_team,
            user,
            per,
            budget,
        } = change.set;
        let at_once = |limits: AtOnceView| types::AtOnce {
            millicpu: limits.millicpu,
            memory_bytes: limits.memory_bytes,
            gpus: limits.gpus,
            workers: limits.workers,
            milligpu: None,
        };
        let period = match per {
            Some("day") => types::Period::Day,
            Some("week") => types::Period::Week,
            Some(_) => types::Period::Month,
            None => types::Period::Unspecified,
        };
        let request = pb::SetQuotaRequest {
            team: name.into(),
            set: Some(types::Quota {
                team: Some(at_once(of_team)),
                user: Some(at_once(user)),
                period: period.into(),
                cpu_hours: budget.cpu_hours,
                gib_hours: budget.memory_hours,
                gpu_hours: budget.gpu_hours,
            }),
            lift: change.lift.into_iter().map(String::from).collect(),
            lift_all: change.lift_all,
        };
        Ok(team(self.sharing.set_quota(request).await?.into_inner()))
    }

    /// Shows a person.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn user(&mut self, name: &str) -> Result<UserView, CallError> {
        let request = pb::UserRef { name: name.into() };
        let detail = self.admin.get_user(request).await?.into_inner();
        Ok(UserView {
            user: super::calls::user(detail.user.unwrap_or_default()),
            teams: detail.teams,
            jobs_queued: detail.jobs_queued,
            jobs_running: detail.jobs_running,
            held: at_once(detail.held),
        })
    }

    /// Changes a person.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn set_user(
        &mut self,
        name: &str,
        team: Option<String>,
        role: Option<String>,
    ) -> Result<UserRow, CallError> {
        let name = name.to_owned();
        let request = pb::SetUserRequest { name, team, role };
        Ok(super::calls::user(
            self.admin.set_user(request).await?.into_inner(),
        ))
    }
}

fn at_once(limits: Option<types::AtOnce>) -> AtOnceView {
    let limits = limits.unwrap_or_default();
    AtOnceView {
        millicpu: limits.millicpu,
        memory_bytes: limits.memory_bytes,
        gpus: limits.gpus,
        // A fleet of an older version counts whole ones.
        milligpu: limits
            .milligpu
            .or(limits.gpus.map(|gpus| MilliGpu::from_gpus(gpus).0)),
        workers: limits.workers,
    }
}

fn team(team: pb::Team) -> TeamRow {
    let quota = team.quota.unwrap_or_default();
    let per = match quota.period() {
        types::Period::Unspecified => None,
        types::Period::Day => Some("day"),
        types::Period::Week => Some("week"),
        types::Period::Month => Some("month"),
    };
    TeamRow {
        team: team.name,
        weight: team.weight,
        members: team.members,
        windows: team.windows,
        quota: QuotaView {
            team: at_once(quota.team),
            user: at_once(quota.user),
            per,
            budget: HoursView {
                cpu_hours: quota.cpu_hours,
                memory_hours: quota.gib_hours,
                gpu_hours: quota.gpu_hours,
            },
        },
        held: at_once(team.held),
        spent: HoursView {
            cpu_hours: Some(team.cpu_hours),
            memory_hours: Some(team.gib_hours),
            gpu_hours: Some(team.gpu_hours),
        },
        period_ends_at: team.period_ends_us.map(|at| Moment(WallTime(at))),
        jobs_queued: team.jobs_queued,
        jobs_running: team.jobs_running,
        share_per_mille: team.share_per_mille,
        note: Some(team.note).filter(|note| !note.is_empty()),
    }
}
