//! The matrix of the test protocol and what of it is measured: production × load × antagonist × configuration.
//!
//! Measuring all of it would take days. A form is a selection; the release form's meets each production at each load,
//! each antagonist and each configuration, always with alone, unprotected and Loadline in the same boot.

use anyhow::{Result, bail};

use super::machine::Machine;
use crate::bench::form::Form;
use crate::inguest::antagonist::Antagonist;

/// A service that stands for production.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Production {
    Nginx,
    Redis,
    Postgres,
}

impl Production {
    pub(super) const ALL: [Self; 3] = [Self::Nginx, Self::Redis, Self::Postgres];

    /// In ids of figures.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
        }
    }

    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Nginx => "nginx.service",
            Self::Redis => "redis-server.service",
            Self::Postgres => "postgresql@15-main.service",
        }
    }

    /// What the load generator is told.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Nginx => "--protocol http --path /page",
            Self::Redis => "--protocol redis --keys 10000",
            Self::Postgres => "--protocol postgres --user load --keys 20000",
        }
    }
}

/// How much is asked of production, in per cent of its measured capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Load {
    Percent(u32),
    /// The first for half of the time, then the other.
    Step(u32, u32),
}

impl Load {
    pub(super) const ALL: [Self; 4] = [
        Self::Percent(10),
        Self::Percent(30),
        Self::Percent(60),
        Self::Step(30, 70),
    ];

    /// In ids of figures.
    pub(super) fn name(self) -> String {
        match self {
            Self::Percent(percent) => percent.to_string(),
            Self::Step(from, to) => format!("step{from}_{to}"),
        }
    }

    /// What the load generator is told, at this capacity.
    pub(super) fn words(self, capacity_per_s: u32) -> String {
        let rate = |percent: u32| (u64::from(capacity_per_s) * u64::from(percent) / 100).max(1);
        match self {
            Self::Percent(percent) => format!("open --rate {}", rate(percent)),
            Self::Step(from, to) => format!("open --rate {} --then {}", rate(from), rate(to)),
        }
    }
}

/// How the antagonist is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Config {
    /// Not there, and Loadline's programs are stopped, as if it were not installed.
    Alone,
    /// Not there, with Loadline's programs at work: what they cost by themselves.
    Installed,
    /// Not held at all.
    Unprotected,
    Nice19,
    /// In a slice of its own beside system.slice, with the lowest weight.
    Weight1,
    /// Likewise, in the idle class.
    Idle,
    /// In the idle class, and under a quota that leaves production's use at this load and the headroom: the line, drawn
    /// by hand for a load that does not change.
    Static,
    /// One core and its memory constrained by Slurm with cgroup v2, the other core left to production.
    Slurm,
    Loadline,
}

impl Config {
    pub(super) const ALL: [Self; 9] = [
        Self::Alone,
        Self::Installed,
        Self::Unprotected,
        Self::Nice19,
        Self::Weight1,
        Self::Idle,
        Self::Static,
        Self::Slurm,
        Self::Loadline,
    ];
    /// Those that a cell is compared with beyond what it always has. Slurm has cells of its own.
    const OTHERS: [Self; 3] = [Self::Nice19, Self::Weight1, Self::Idle];

    /// In ids of figures.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Installed => "installed",
            Self::Unprotected => "unprotected",
            Self::Nice19 => "nice19",
            Self::Weight1 => "weight1",
            Self::Idle => "idle",
            Self::Static => "static",
            Self::Slurm => "slurm",
            Self::Loadline => "loadline",
        }
    }
}

/// What is measured in one boot, interleaved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) production: Production,
    pub(super) load: Load,
    pub(super) antagonist: Antagonist,
    pub(super) machine: Machine,
    /// In the order of the first round.
    pub(super) configs: Vec<Config>,
}

impl Cell {
    /// The beginning of its figures' ids.
    pub(super) fn id(&self) -> String {
        format!(
            "protection.{}.{}.{}",
            self.production.name(),
            self.load.name(),
            self.antagonist.name()
        )
    }
}

impl Form {
    /// How often each configuration of a cell is measured.
    pub(super) const fn rounds(self) -> usize {
        match self {
            Self::Short => 1,
            Self::Release => 2,
            Self::One => 3,
        }
    }

    pub(super) fn cells(self) -> Vec<Cell> {
        match self {
            Self::One => {
                let others = [Config::Installed, Config::Idle, Config::Static];
                vec![cell(
                    Production::Nginx,
                    Load::Percent(30),
                    Antagonist::Cpu,
                    &others,
                )]
            }
            Self::Short => vec![
                cell(Production::Nginx, Load::Percent(30), Antagonist::Cpu, &[]),
                cell(Production::Redis, Load::Percent(60), Antagonist::Vm, &[]),
                cell(Production::Postgres, Load::Percent(30), Antagonist::Leak, &[]),
            ],
            Self::Release => {
                let places = Production::ALL
                    .into_iter()
                    .flat_map(|production| Load::ALL.map(|load| (production, load)));
                let mut cells: Vec<Cell> = places
                    .zip(Antagonist::ALL.into_iter().cycle())
                    .zip(pairs().into_iter().cycle())
                    .map(|(((production, load), antagonist), others)| {
                        cell(production, load, antagonist, &others)
                    })
                    .collect();
                // With each production once: it does not hang on the load.
                for cell in cells.iter_mut().filter(|cell| cell.load == Load::Percent(30)) {
                    cell.configs.insert(1, Config::Installed);
                    cell.configs.insert(2, Config::Static);
                }
                cells.extend(Production::ALL.map(beside_slurm));
                cells
            }
        }
    }
}

/// Of these cells those that `LOADLINE_CELLS` names, as beginnings of ids without `protection.` with commas between, or
/// all of them: a long form can be measured in pieces.
///
/// # Errors
/// When a name is that of no cell.
pub(super) fn chosen(cells: Vec<Cell>) -> Result<Vec<Cell>> {
    match std::env::var("LOADLINE_CELLS") {
        Ok(names) => named(cells, &names),
        Err(_) => Ok(cells),
    }
}

fn named(mut cells: Vec<Cell>, names: &str) -> Result<Vec<Cell>> {
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    let is = |cell: &Cell, name: &str| {
        cell.id()
            .strip_prefix("protection.")
            .is_some_and(|id| id.starts_with(name))
    };
    for name in &names {
        if !cells.iter().any(|cell| is(cell, name)) {
            let ids: Vec<String> = cells.iter().map(Cell::id).collect();
            bail!(
                "LOADLINE_CELLS names {name:?}; the cells of this form are {}",
                ids.join(", ")
            );
        }
    }
    cells.retain(|cell| names.iter().any(|name| is(cell, name)));
    Ok(cells)
}

fn cell(production: Production, load: Load, antagonist: Antagonist, others: &[Config]) -> Cell {
    let mut configs = vec![Config::Alone, Config::Unprotected];
    configs.extend(others);
    configs.push(Config::Loadline);
    Cell {
        production,
        load,
        antagonist,
        machine: Machine::Counted,
        configs,
    }
}

/// What its one core and the other, left to production, come to.
fn beside_slurm(production: Production) -> Cell {
    let others = [Config::Slurm];
    Cell {
        machine: Machine::Host,
        ..cell(production, Load::Percent(30), Antagonist::Cpu, &others)
    }
}

/// Every two of the other configurations.
fn pairs() -> Vec<[Config; 2]> {
    let others = Config::OTHERS;
    (0..others.len())
        .flat_map(|one| (one + 1..others.len()).map(move |two| [others[one], others[two]]))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_release_form_meets_everything() {
        let cells = Form::Release.cells();
        let counted = || cells.iter().filter(|cell| cell.machine == Machine::Counted);
        let places: BTreeSet<_> = counted().map(|cell| (cell.production, cell.load)).collect();
        assert_eq!(places.len(), Production::ALL.len() * Load::ALL.len());
        let antagonists: BTreeSet<_> = counted().map(|cell| cell.antagonist).collect();
        assert_eq!(antagonists, Antagonist::ALL.into());
        let configs: BTreeSet<_> = cells.iter().flat_map(|cell| cell.configs.clone()).collect();
        assert_eq!(configs, Config::ALL.into());
        for other in Config::OTHERS {
            let met = counted().filter(|cell| cell.configs.contains(&other)).count();
            assert!(met >= places.len() / 3, "{other:?} is met {met} times");
        }
    }

    #[test]
    fn every_cell_has_the_three_that_are_always_compared_and_its_own_id() {
        for form in [Form::One, Form::Short, Form::Release] {
            let cells = form.cells();
            for cell in &cells {
                for always in [Config::Alone, Config::Unprotected, Config::Loadline] {
                    let count = cell.configs.iter().filter(|config| **config == always).count();
                    assert_eq!(count, 1, "{cell:?}");
                }
            }
            let ids: BTreeSet<_> = cells.iter().map(Cell::id).collect();
            assert_eq!(ids.len(), cells.len());
            assert!(cells.iter().any(|cell| cell.antagonist.uses_all_cpus()));
        }
    }

    #[test]
    fn cells_are_chosen_by_the_beginning_of_their_ids() {
        let some = named(Form::Release.cells(), "nginx.10, redis").unwrap();
        let redis = Load::ALL.len() + 1;
        assert_eq!(some.len(), 1 + redis, "{some:?}");
        let error = named(Form::Short.cells(), "mysql").unwrap_err().to_string();
        assert!(
            error.contains("\"mysql\"") && error.contains("nginx.30.cpu"),
            "{error}"
        );
    }

    /// Slurm's are the only ones that need a second CPU, and nothing else is measured where it is.
    #[test]
    fn slurm_has_a_cell_with_each_production_and_two_cpus() {
        let cells = Form::Release.cells();
        let beside: BTreeSet<_> = cells
            .iter()
            .filter(|cell| cell.configs.contains(&Config::Slurm))
            .map(|cell| (cell.production, cell.machine == Machine::Host))
            .collect();
        assert_eq!(
            beside,
            Production::ALL.map(|production| (production, true)).into()
        );
        let on_host = cells.iter().filter(|cell| cell.machine == Machine::Host).count();
        assert_eq!(on_host, beside.len());
    }

    #[test]
    fn a_form_s_slices_leave_time_for_all_else() {
        let measured = |form: Form| -> Duration {
            let slices = |cell: &Cell| u32::try_from(cell.configs.len() * form.rounds()).unwrap();
            let cells = form.cells();
            let length = |cell: &Cell| cell.machine.slice(form) * slices(cell) * cell.machine.times_slower();
            cells.iter().map(length).sum()
        };
        assert!(
            measured(Form::Short) <= Duration::from_secs(5 * 60),
            "of 10 minutes"
        );
        assert!(
            measured(Form::Release) <= Duration::from_secs(50 * 60),
            "of 90 minutes"
        );
    }

    #[test]
    fn loads_are_shares_of_the_capacity() {
        assert_eq!(Load::Percent(30).words(1000), "open --rate 300");
        assert_eq!(Load::Step(30, 70).words(1000), "open --rate 300 --then 700");
        assert_eq!(Load::Percent(10).words(3), "open --rate 1");
    }
}
