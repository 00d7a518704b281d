//! Teams and quotas: everyone sees them, operators change them.

use loadline_model::{is_team_name, shown};
use loadline_placement::policy::Windows;

use super::Edge;
use super::call::{Call, Change};
use super::failure::Failure;
use crate::state::{Command, QuotaChange, Reply, SharingCommand, TeamChange, TeamView, UserDetail, UserView};
use crate::trust::{Action, Role, is_user_name};

/// A team may weigh this much more than another at most.
const WEIGHT_MAX: u32 = 10_000;

/// A name that a team may have.
pub(super) fn team_checked(name: &str) -> Result<(), Failure> {
    if is_team_name(name) {
        return Ok(());
    }
    let shown = shown(name);
    Err(Failure::invalid(
        format!(
            "`{shown}` cannot name a team: 1 to 32 lower-case letters, digits, `-`, `_` or `.`, a letter first"
        ),
        "choose another name",
    ))
}

/// A role by its word.
pub(super) fn role_of(word: &str) -> Result<Role, Failure> {
    Role::from_word(word).ok_or_else(|| {
        let shown = shown(word);
        Failure::invalid(
            format!("`{shown}` is not a role"),
            "use admin, operator, user or viewer",
        )
    })
}

fn person_checked(name: &str) -> Result<(), Failure> {
    if is_user_name(name) {
        return Ok(());
    }
    let shown = shown(name);
    Err(Failure::invalid(
        format!("`{shown}` cannot name a person"),
        "list people with `fleet user list`",
    ))
}

fn team_of(reply: Reply) -> Result<TeamView, Failure> {
    match reply {
        Reply::Team(team) => Ok(*team),
        _ => Err(Failure::internal("a team was answered with something else")),
    }
}

impl Edge {
    async fn share(
        &self,
        call: &Call,
        recorded: Change<'_>,
        command: SharingCommand,
    ) -> Result<Reply, Failure> {
        self.change(call, recorded, Command::Sharing(command)).await
    }

    pub(super) async fn list_teams(&self, call: &Call) -> Result<Vec<TeamView>, Failure> {
        call.may(Action::SeeFleet)?;
        Ok(self.fleet.read(|state, now| state.teams(now)).await?)
    }

    pub(super) async fn see_team(&self, call: &Call, name: String) -> Result<TeamView, Failure> {
        call.may(Action::SeeFleet)?;
        team_checked(&name)?;
        Ok(self
            .fleet
            .read(move |state, now| state.team(&name, now))
            .await??)
    }

    pub(super) async fn set_team(
        &self,
        call: &Call,
        team: String,
        change: TeamChange,
    ) -> Result<TeamView, Failure> {
        team_checked(&team)?;
        for name in change.add.iter().chain(&change.remove) {
            person_checked(name)?;
        }
        if change
            .weight
            .is_some_and(|weight| weight == 0 || weight > WEIGHT_MAX)
        {
            return Err(Failure::invalid(
                format!("a team weighs 1 to {WEIGHT_MAX}"),
                "100 is what a team weighs of which nothing is said",
            ));
        }
        if change
            .windows
            .as_ref()
            .is_some_and(|windows| windows.0.len() > Windows::MAX)
        {
            return Err(Failure::invalid(
                format!("a team has at most {} windows", Windows::MAX),
                "one window may name several days, like Mon-Fri",
            ));
        }
        let recorded = Change {
            action: Action::ManageTeams,
            word: "team.set",
            object: format!("team/{team}"),
        };
        let by = call.person()?;
        team_of(
            self.share(call, recorded, SharingCommand::SetTeam { by, team, change })
                .await?,
        )
    }

    pub(super) async fn remove_team(&self, call: &Call, team: String) -> Result<(), Failure> {
        team_checked(&team)?;
        let recorded = Change {
            action: Action::ManageTeams,
            word: "team.remove",
            object: format!("team/{team}"),
        };
        let by = call.person()?;
        self.share(call, recorded, SharingCommand::RemoveTeam { by, team })
            .await?;
        Ok(())
    }

    pub(super) async fn set_quota(
        &self,
        call: &Call,
        team: String,
        change: QuotaChange,
    ) -> Result<TeamView, Failure> {
        team_checked(&team)?;
        let recorded = Change {
            action: Action::ManageTeams,
            word: "quota.set",
            object: format!("team/{team}"),
        };
        let by = call.person()?;
        team_of(
            self.share(call, recorded, SharingCommand::SetQuota { by, team, change })
                .await?,
        )
    }

    /// Everyone sees themselves; others, whoever manages people.
    pub(super) async fn see_user(&self, call: &Call, name: String) -> Result<UserDetail, Failure> {
        person_checked(&name)?;
        if call.person()? != name {
            call.may(Action::ManagePeople)?;
        }
        Ok(self.fleet.read(move |state, _| state.user(&name)).await??)
    }

    pub(super) async fn set_user(
        &self,
        call: &Call,
        name: String,
        team: Option<String>,
        role: Option<String>,
    ) -> Result<UserView, Failure> {
        person_checked(&name)?;
        if let Some(team) = team.as_deref().filter(|team| !team.is_empty()) {
            team_checked(team)?;
        }
        let role = role.map(|word| role_of(&word)).transpose()?;
        let recorded = Change {
            action: Action::ManagePeople,
            word: "user.set",
            object: format!("user/{name}"),
        };
        let by = call.person()?;
        let command = SharingCommand::SetUser { by, name, team, role };
        match self.share(call, recorded, command).await? {
            Reply::User(user) => Ok(user),
            _ => Err(Failure::internal("a person was answered with something else")),
        }
    }
}
