//! Teams, quotas and people as tables.

use std::fmt::Write;

use loadline_model::{Bytes, MilliCpu, MilliGpu};

use super::table::columns;
use crate::text::{count, printable, rfc3339};
use crate::view::{AtOnceView, QuotaView, TeamRow, UserView};

fn cpus(milli: u64) -> String {
    MilliCpu(milli).to_string()
}

fn gpus(milli: u64) -> String {
    MilliGpu(milli).to_string()
}

fn memory(bytes: u64) -> String {
    Bytes(bytes).to_string()
}

/// `8 of 12`, or `8` where nothing limits it.
fn of(part: &str, limit: Option<String>) -> String {
    limit.map_or_else(|| part.to_owned(), |limit| format!("{part} of {limit}"))
}

pub(super) fn teams(teams: &[TeamRow]) -> String {
    let row = |team: &TeamRow| {
        let (held, quota) = (&team.held, &team.quota.team);
        [
            team.team.clone(),
            team.weight.to_string(),
            team.members.len().to_string(),
            of(&cpus(held.millicpu.unwrap_or(0)), quota.millicpu.map(cpus)),
            of(
                &memory(held.memory_bytes.unwrap_or(0)),
                quota.memory_bytes.map(memory),
            ),
            of(
                &gpus(held.milligpu.unwrap_or(0)),
                quota.gpus.map(|gpus| gpus.to_string()),
            ),
            format!("{} + {}", team.jobs_running, team.jobs_queued),
            per_cent(team.share_per_mille),
        ]
    };
    let header = [
        "TEAM",
        "WEIGHT",
        "MEMBERS",
        "CPUS",
        "MEMORY",
        "GPUS",
        "JOBS",
        "HAD LATELY",
    ];
    columns(header, teams.iter().map(row))
}

fn per_cent(per_mille: u32) -> String {
    format!("{}.{} %", per_mille / 10, per_mille % 10)
}

pub(super) fn team(team: &TeamRow) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{key:<12}{}", printable(&value));
        }
    };
    line("team", team.team.clone());
    line("weight", team.weight.to_string());
    line("members", team.members.join(", "));
    line("starts", team.windows.join("; "));
    line(
        "jobs",
        format!("{} run, {} wait", team.jobs_running, team.jobs_queued),
    );
    line("had lately", per_cent(team.share_per_mille));
    text.push('\n');
    text.push_str(&quota(team));
    text
}

/// Each limit with what is used of it.
pub(super) fn quota(team: &TeamRow) -> String {
    let QuotaView {
        team: at_once,
        user,
        per,
        budget,
    } = &team.quota;
    let held = &team.held;
    let limit = |limit: Option<String>| limit.unwrap_or_else(|| "no limit".into());
    let mut rows = vec![
        [
            "CPUs".into(),
            cpus(held.millicpu.unwrap_or(0)),
            limit(at_once.millicpu.map(cpus)),
            limit(user.millicpu.map(cpus)),
        ],
        [
            "memory".into(),
            memory(held.memory_bytes.unwrap_or(0)),
            limit(at_once.memory_bytes.map(memory)),
            limit(user.memory_bytes.map(memory)),
        ],
        [
            "GPUs".into(),
            gpus(held.milligpu.unwrap_or(0)),
            limit(at_once.gpus.map(|gpus| gpus.to_string())),
            limit(user.gpus.map(|gpus| gpus.to_string())),
        ],
        [
            "workers".into(),
            held.workers.unwrap_or(0).to_string(),
            limit(at_once.workers.map(|workers| workers.to_string())),
            limit(user.workers.map(|workers| workers.to_string())),
        ],
    ];
    if let Some(per) = per {
        let spent = &team.spent;
        let hours = [
            ("CPU-hours", spent.cpu_hours, budget.cpu_hours),
            ("memory-hours", spent.memory_hours, budget.memory_hours),
            ("GPU-hours", spent.gpu_hours, budget.gpu_hours),
        ];
        rows.extend(hours.map(|(what, spent, budget)| {
            [
                format!("{what} a {per}"),
                spent.unwrap_or(0).to_string(),
                limit(budget.map(|hours| hours.to_string())),
                String::new(),
            ]
        }));
    }
    let mut text = columns(["OF", "USED", "TEAM MAY", "EACH USER MAY"], rows);
    text.push('\n');
    if let Some(ends) = team.period_ends_at {
        let _ = writeln!(text, "the period ends at {}", rfc3339(ends.0));
    }
    text
}

pub(super) fn user(user: &UserView) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{key:<12}{}", printable(&value));
        }
    };
    let row = &user.user;
    line("user", row.name.clone());
    line("role", row.role.clone());
    line("account", row.unix_account.clone());
    line("team", row.team.clone());
    line("teams", user.teams.join(", "));
    line("state", if row.banned { "banned" } else { "active" }.into());
    line(
        "jobs",
        format!("{} run, {} wait", user.jobs_running, user.jobs_queued),
    );
    line("holds", holds(&user.held));
    text
}

fn holds(held: &AtOnceView) -> String {
    let workers = held.workers.unwrap_or(0);
    if workers == 0 {
        return "nothing".into();
    }
    format!(
        "{} CPUs, {}, {} GPUs in {}",
        cpus(held.millicpu.unwrap_or(0)),
        memory(held.memory_bytes.unwrap_or(0)),
        gpus(held.milligpu.unwrap_or(0)),
        count(workers, "worker")
    )
}
