//! Teams and what they may, to the wire and back.

use loadline_model::{Bytes, MilliCpu, MilliGpu, WeekSpan, shown};
use loadline_placement::policy::{AtOnce, Budget, Held, Period, Quota, Resource, Windows};
use loadline_proto::fleet::v1 as fleet;
use loadline_proto::types::v1 as types;

use super::WireError;
use super::view::write_user;
use crate::state::{Limit, QuotaChange, TeamChange, TeamView, UserDetail};

/// Reads a whole quota, as the store keeps it.
///
/// # Errors
/// When its period is none of this version.
pub fn read_quota(quota: types::Quota) -> Result<Quota, WireError> {
    let period = read_period(quota.period)?;
    let at_once = |limits: Option<types::AtOnce>| {
        let limits = limits.unwrap_or_default();
        AtOnce {
            cpu: limits.millicpu.map(MilliCpu),
            memory: limits.memory_bytes.map(Bytes),
            gpus: limits.gpus,
            workers: limits.workers,
        }
    };
    Ok(Quota {
        team: at_once(quota.team),
        user: at_once(quota.user),
        budget: period.map(|period| Budget {
            period,
            cpu_hours: quota.cpu_hours,
            gib_hours: quota.gib_hours,
            gpu_hours: quota.gpu_hours,
        }),
    })
}

fn read_period(number: i32) -> Result<Option<Period>, WireError> {
    match types::Period::try_from(number) {
        Ok(types::Period::Unspecified) => Ok(None),
        Ok(types::Period::Day) => Ok(Some(Period::DAY)),
        Ok(types::Period::Week) => Ok(Some(Period::WEEK)),
        Ok(types::Period::Month) => Ok(Some(Period::Month)),
        Err(_) => Err(WireError::Value {
            field: "period",
            value: number.to_string(),
        }),
    }
}

/// Writes a quota.
pub fn write_quota(quota: &Quota) -> types::Quota {
    let at_once = |limits: AtOnce| types::AtOnce {
        millicpu: limits.cpu.map(|cpu| cpu.0),
        memory_bytes: limits.memory.map(|memory| memory.0),
        gpus: limits.gpus,
        workers: limits.workers,
        milligpu: limits.gpus.map(|gpus| MilliGpu::from_gpus(gpus).0),
    };
    let budget = quota.budget;
    let period = budget.map_or(types::Period::Unspecified, |budget| match budget.period {
        Period::DAY => types::Period::Day,
        Period::WEEK => types::Period::Week,
        // Other lengths are for simulations; no command makes one.
        Period::Month | Period::Each { .. } => types::Period::Month,
    });
    types::Quota {
        team: Some(at_once(quota.team)),
        user: Some(at_once(quota.user)),
        period: period.into(),
        cpu_hours: budget.and_then(|budget| budget.cpu_hours),
        gib_hours: budget.and_then(|budget| budget.gib_hours),
        gpu_hours: budget.and_then(|budget| budget.gpu_hours),
    }
}

fn write_held(held: Held) -> types::AtOnce {
    types::AtOnce {
        millicpu: Some(held.amounts.cpu.0),
        memory_bytes: Some(held.amounts.memory.0),
        gpus: Some(u32::try_from(held.amounts.gpus.gpus_up()).unwrap_or(u32::MAX)),
        workers: Some(held.workers),
        milligpu: Some(held.amounts.gpus.0),
    }
}

/// A team and how it stands.
pub fn write_team(team: &TeamView) -> fleet::Team {
    let row = &team.row;
    let ends = row.quota.budget.map(|budget| budget.next(team.at).0);
    fleet::Team {
        name: row.name.clone(),
        weight: row.weight,
        members: team.members.clone(),
        windows: row.windows.0.iter().map(ToString::to_string).collect(),
        quota: Some(write_quota(&row.quota)),
        held: Some(write_held(team.held)),
        cpu_hours: hours(team.paid.cpu_hours()),
        gib_hours: hours(team.paid.gib_hours()),
        gpu_hours: hours(team.paid.gpu_hours()),
        period_ends_us: ends,
        jobs_queued: team.jobs_queued,
        jobs_running: team.jobs_running,
        share_per_mille: team.share.0.into(),
        note: team.note.clone(),
    }
}

fn hours(hours: u128) -> u64 {
    u64::try_from(hours).unwrap_or(u64::MAX)
}

/// A person with their teams.
pub fn write_user_detail(detail: &UserDetail) -> fleet::UserDetail {
    fleet::UserDetail {
        user: Some(write_user(&detail.user)),
        teams: detail.teams.clone(),
        jobs_queued: detail.jobs_queued,
        jobs_running: detail.jobs_running,
        held: Some(write_held(detail.held)),
    }
}

/// Reads what is to change about a team.
///
/// # Errors
/// When a window is not written like one.
pub fn read_team_change(request: fleet::SetTeamRequest) -> Result<TeamChange, WireError> {
    let fleet::SetTeamRequest {
        name: _,
        weight,
        add,
        remove,
        windows,
        always,
    } = request;
    let read = |text: String| {
        text.parse::<WeekSpan>().map_err(|problem| WireError::Text {
            field: "windows",
            problem: problem.to_string(),
        })
    };
    let said = always || !windows.is_empty();
    let windows = windows.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(TeamChange {
        weight,
        add,
        remove,
        windows: said.then_some(Windows(windows)),
    })
}

/// Reads what is to change about a quota.
///
/// # Errors
/// When a limit or a period is none of this version.
pub fn read_quota_change(request: fleet::SetQuotaRequest) -> Result<QuotaChange, WireError> {
    let fleet::SetQuotaRequest {
        team: _,
        set,
        lift,
        lift_all,
    } = request;
    let set = set.unwrap_or_default();
    let at_once = |limits: Option<types::AtOnce>, whose: fn(Resource) -> Limit| {
        let limits = limits.unwrap_or_default();
        [
            (whose(Resource::Cpu), limits.millicpu),
            (whose(Resource::Memory), limits.memory_bytes),
            (whose(Resource::Gpus), limits.gpus.map(u64::from)),
            (whose(Resource::Workers), limits.workers.map(u64::from)),
        ]
    };
    let budget = [
        (Limit::Budget(Resource::Cpu), set.cpu_hours),
        (Limit::Budget(Resource::Memory), set.gib_hours),
        (Limit::Budget(Resource::Gpus), set.gpu_hours),
    ];
    let period = read_period(set.period)?;
    let all = at_once(set.team, Limit::Team).into_iter();
    let all = all.chain(at_once(set.user, Limit::User)).chain(budget);
    Ok(QuotaChange {
        lift_all,
        lift: lift
            .iter()
            .map(|word| read_limit(word))
            .collect::<Result<_, _>>()?,
        set: all.filter_map(|(limit, amount)| Some((limit, amount?))).collect(),
        period,
    })
}

fn read_limit(word: &str) -> Result<Limit, WireError> {
    let unknown = || WireError::Value {
        field: "lift",
        value: shown(word),
    };
    let (whose, what) = word.split_once('.').ok_or_else(unknown)?;
    let resource = match what {
        "cpus" | "cpu-hours" => Resource::Cpu,
        "memory" | "gib-hours" => Resource::Memory,
        "gpus" | "gpu-hours" => Resource::Gpus,
        "workers" => Resource::Workers,
        _ => return Err(unknown()),
    };
    match whose {
        "team" => Ok(Limit::Team(resource)),
        "user" => Ok(Limit::User(resource)),
        "budget" if resource != Resource::Workers => Ok(Limit::Budget(resource)),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_survives_the_wire() {
        let at_once = |base: u32| AtOnce {
            cpu: Some(MilliCpu(u64::from(base) * 500)),
            memory: None,
            gpus: Some(base),
            workers: Some(0),
        };
        for period in [Period::DAY, Period::WEEK, Period::Month] {
            let quota = Quota {
                team: at_once(7),
                user: at_once(2),
                budget: Some(Budget {
                    period,
                    cpu_hours: Some(0),
                    gib_hours: None,
                    gpu_hours: Some(9),
                }),
            };
            assert_eq!(read_quota(write_quota(&quota)), Ok(quota));
        }
        assert_eq!(read_quota(write_quota(&Quota::default())), Ok(Quota::default()));
        // What the first migration writes.
        assert_eq!(read_quota(types::Quota::default()), Ok(Quota::default()));
    }

    #[test]
    fn limits_and_windows_that_nobody_knows_are_refused() {
        let lift = |word: &str| {
            read_quota_change(fleet::SetQuotaRequest {
                lift: vec![word.into()],
                ..Default::default()
            })
        };
        assert_eq!(lift("team.memory").unwrap().lift, [Limit::Team(Resource::Memory)]);
        for bad in ["", "team", "team.hours", "budget.workers", "fleet.cpus"] {
            assert!(lift(bad).is_err(), "{bad}");
        }
        let windows = |text: &str| {
            read_team_change(fleet::SetTeamRequest {
                windows: vec![text.into()],
                ..Default::default()
            })
        };
        assert!(windows("Mon-Fri 19:00-07:00").is_ok());
        assert!(windows("at night").is_err());
    }
}
