//! `fleet team`, `fleet quota`, and what of `fleet user` is about teams.

use loadline_model::{Bytes, MilliCpu, is_team_name, shown};

use super::Session;
use crate::args::{QuotaCommand, QuotaFlags, TeamCommand};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::view::{AtOnceView, HoursView, QuotaView};
use crate::wire::{QuotaChange, TeamChange};

/// What lifts a limit.
const NONE: &str = "none";

pub(super) async fn team(session: &mut Session, command: TeamCommand) -> Result<Exit, Problem> {
    match command {
        TeamCommand::List => {
            let teams = session.connect().await?.teams().await?;
            session.out.teams(&teams)?;
        }
        TeamCommand::Show { team } => {
            let team = session.connect().await?.team(&named(team)?).await?;
            session.out.team(&team)?;
        }
        TeamCommand::Set {
            team,
            weight,
            add,
            remove,
            window,
            always,
        } => {
            let change = TeamChange {
                weight,
                add,
                remove,
                windows: window,
                always,
            };
            let team = session.connect().await?.set_team(&named(team)?, change).await?;
            session.out.team_changed(&team)?;
        }
        TeamCommand::Remove { team } => {
            let team = named(team)?;
            session.connect().await?.remove_team(&team).await?;
            session.out.team_removed(&team)?;
        }
    }
    Ok(Exit::Done)
}

pub(super) async fn quota(session: &mut Session, command: QuotaCommand) -> Result<Exit, Problem> {
    match command {
        QuotaCommand::Show { team } => {
            let team = session.connect().await?.team(&named(team)?).await?;
            session.out.quota(&team)?;
        }
        QuotaCommand::Set { team, limits } => {
            let (team, change) = (named(team)?, change(&limits)?);
            let team = session.connect().await?.set_quota(&team, change).await?;
            session.out.quota(&team)?;
        }
        QuotaCommand::Remove { team } => {
            let change = QuotaChange {
                lift_all: true,
                ..QuotaChange::default()
            };
            let team = session.connect().await?.set_quota(&named(team)?, change).await?;
            session.out.quota(&team)?;
        }
    }
    Ok(Exit::Done)
}

/// Names that cannot be are not sent: they may be of any length.
fn named(team: String) -> Result<String, Problem> {
    if is_team_name(&team) {
        return Ok(team);
    }
    let shown = shown(&team);
    Err(Problem::Word {
        flag: "TEAM",
        problem: format!(
            "`{shown}` cannot name a team: 1 to 32 lower-case letters, digits, `-`, `_` or `.`, a letter first"
        ),
    })
}

/// Limits as they were written: what was said, and what is to hold no longer.
struct Reader {
    lift: Vec<&'static str>,
    any: bool,
}

impl Reader {
    fn read<T>(
        &mut self,
        (flag, limit): (&'static str, &'static str),
        text: Option<&String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = text else { return Ok(None) };
        self.any = true;
        if text == NONE {
            self.lift.push(limit);
            return Ok(None);
        }
        let wrong = |problem| Problem::Word {
            flag,
            problem: format!("{problem}; `none` lifts the limit"),
        };
        parse(text).map(Some).map_err(wrong)
    }
}

fn change(flags: &QuotaFlags) -> Result<QuotaChange, Problem> {
    let mut reader = Reader {
        lift: Vec::new(),
        any: flags.per.is_some(),
    };
    let set = QuotaView {
        team: AtOnceView {
            millicpu: reader.read(("--cpus", "team.cpus"), flags.cpus.as_ref(), cpus)?,
            memory_bytes: reader.read(("--memory", "team.memory"), flags.memory.as_ref(), memory)?,
            gpus: reader.read(("--gpus", "team.gpus"), flags.gpus.as_ref(), number)?,
            milligpu: None,
            workers: reader.read(("--workers", "team.workers"), flags.workers.as_ref(), number)?,
        },
        user: AtOnceView {
            millicpu: reader.read(("--user-cpus", "user.cpus"), flags.user_cpus.as_ref(), cpus)?,
            memory_bytes: reader.read(
                ("--user-memory", "user.memory"),
                flags.user_memory.as_ref(),
                memory,
            )?,
            gpus: reader.read(("--user-gpus", "user.gpus"), flags.user_gpus.as_ref(), number)?,
            milligpu: None,
            workers: reader.read(
                ("--user-workers", "user.workers"),
                flags.user_workers.as_ref(),
                number,
            )?,
        },
        per: flags.per.map(crate::args::Period::word),
        budget: HoursView {
            cpu_hours: reader.read(
                ("--cpu-hours", "budget.cpu-hours"),
                flags.cpu_hours.as_ref(),
                number,
            )?,
            memory_hours: reader.read(
                ("--memory-hours", "budget.gib-hours"),
                flags.memory_hours.as_ref(),
                number,
            )?,
            gpu_hours: reader.read(
                ("--gpu-hours", "budget.gpu-hours"),
                flags.gpu_hours.as_ref(),
                number,
            )?,
        },
    };
    if !reader.any {
        return Err(Problem::Word {
            flag: "quota set",
            problem: "say which limit, like --cpus 32 or --gpu-hours 500 --per month".into(),
        });
    }
    Ok(QuotaChange {
        set,
        lift: reader.lift,
        lift_all: false,
    })
}

fn cpus(text: &str) -> Result<u64, String> {
    let amount: Result<MilliCpu, _> = text.parse();
    amount.map(|amount| amount.0).map_err(|error| error.to_string())
}

fn memory(text: &str) -> Result<u64, String> {
    let amount: Result<Bytes, _> = text.parse();
    amount.map(|amount| amount.0).map_err(|error| error.to_string())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("`{}` is not a whole number", shown(text)))
}
