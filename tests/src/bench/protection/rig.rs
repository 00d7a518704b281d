//! The guests of the benchmark: a node with production and everything that may hold an antagonist. fleetd is no part of
//! what is measured: it is in another guest, or where there is none behind everything that wants the CPU.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::machine::{Machine, Preemption};
use super::matrix::{Cell, Config, Load, Production};
use super::outcome::used_us;
use crate::bench::beside_this_program;
use crate::deploy::{self, Packages};
use crate::inguest::antagonist::Antagonist;
use crate::inguest::beside::Slice;
use crate::load::LoadReport;
use crate::testbed::cache::Cache;
use crate::testbed::{Fleet, Guest};

/// Production's node; Slurm's configuration names it too.
pub(super) const NODE: &str = "node";
/// The antagonist's folder.
pub(super) const FOLDER: &str = "/home/alice/antagonist";
/// A manager that is on the node for want of another machine leaves the CPU to all others.
const ASIDE: &str = "d=/etc/systemd/system/fleetd.service.d; mkdir -p $d; \
     printf '[Service]\\nCPUSchedulingPolicy=idle\\n' > $d/10-aside.conf; systemctl daemon-reload; systemctl restart fleetd";
const PREPARE_LIMIT: Duration = Duration::from_secs(240);
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Everything's code has been run, every connection opened, every cgroup made.
const WARM_UP: Duration = Duration::from_secs(2);
/// Loadline gives a tenth of the machine a second, after a hold of ten since clients that all connect at once disturb
/// production, and looks back for ten: what is measured is lent work at its line, not on the way to it.
const SETTLE: Duration = Duration::from_secs(20);
/// Where lent work was at its line before, or there is none.
const SETTLE_AGAIN: Duration = Duration::from_secs(10);
const CAPACITY: Duration = Duration::from_secs(4);
const CAPACITY_SEED: usize = 6001;

/// How many clients measure the capacity.
const CLOSED: &str = "closed --connections 8";

/// How one slice is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measure {
    pub(super) length: Duration,
    /// Of the gaps between requests.
    pub(super) seed: usize,
    /// The same configuration was measured just before.
    pub(super) again: bool,
}

/// Booted, installed, joined; nothing runs that need not.
#[derive(Debug)]
pub(super) struct Rig {
    fleet: Fleet,
    machine: Machine,
}

impl Rig {
    pub(super) fn boot(
        cache: &Cache,
        packages: &Packages,
        name: &str,
        machine: Machine,
        preemption: Preemption,
    ) -> Result<Self> {
        let guests = machine.guests(preemption);
        let rig = Self {
            fleet: Fleet::boot(cache, name, &guests)?,
            machine,
        };
        rig.silence()?;
        match machine {
            Machine::Counted => {
                deploy::start_alone(rig.node()?, packages)?;
                rig.node()?.ok(ASIDE)?;
            }
            Machine::Host => deploy::start_fleet(&rig.fleet, packages)?,
        }
        deploy::add_person(rig.admin()?, "alice", "user")?;
        let node = rig.node()?;
        for program in ["loadgen", "benchprobe"] {
            node.put(
                &beside_this_program(program)?,
                &format!("/usr/local/bin/{program}"),
            )?;
        }
        rig.write("/etc/loadline/node.toml", include_str!("node.toml"))?;
        node.ok("systemctl restart loadline-warden")?;
        rig.programs("stop")?;
        rig.prepare()?;
        Ok(rig)
    }

    /// The clock of an idle guest may leap to what is due once a day.
    fn silence(&self) -> Result<()> {
        self.node()?.ok("systemctl stop '*.timer'").map(drop)
    }

    fn prepare(&self) -> Result<()> {
        let node = self.node()?;
        let script = include_str!("prepare.sh");
        let done = node.run_with_input("sh", script.into(), PREPARE_LIMIT)?;
        ensure!(
            done.status == 0,
            "preparing production: {}{}",
            done.stdout,
            done.stderr
        );
        self.write("/etc/slurm/slurm.conf", include_str!("slurm.conf"))?;
        self.write("/etc/slurm/cgroup.conf", include_str!("cgroup.conf"))
    }

    /// Writes a small file on the node.
    fn write(&self, path: &str, text: &str) -> Result<()> {
        let written = self
            .node()?
            .run_with_input(&format!("cat > {path}"), text.into(), READY_LIMIT)?;
        ensure!(written.status == 0, "write {path}: {}", written.stderr);
        Ok(())
    }

    pub(super) fn admin(&self) -> Result<&Guest> {
        self.fleet.guest(self.machine.admin())
    }

    pub(super) fn node(&self) -> Result<&Guest> {
        self.fleet.guest(NODE)
    }

    /// Loadline's own on the node.
    pub(super) fn programs(&self, verb: &str) -> Result<()> {
        let command = format!("systemctl {verb} loadline-agent loadline-warden");
        self.node()?.ok(&command).map(drop)
    }

    pub(super) fn production(&self, production: Production, verb: &str) -> Result<()> {
        let command = format!("systemctl {verb} {}", production.unit());
        self.node()?.ok(&command).map(drop)
    }

    /// Starts production, warms it, and measures what it can do at most, alone, in requests a second.
    pub(super) fn capacity(&self, production: Production) -> Result<u32> {
        let most = self.answers_at_most(production)?;
        match self.machine {
            Machine::Host => Ok(most),
            Machine::Counted => self.capacity_by_use(production, most),
        }
    }

    /// With one CPU for the generator and production, clients that wait for each other's answers spare both a part of the
    /// work: 60 % of what those get can be more than all. So here it is what all of the CPU would be enough for.
    fn capacity_by_use(&self, production: Production, most: u32) -> Result<u32> {
        let (words, rate) = (production.words(), Load::Percent(10).words(most));
        let command = format!(
            "chrt -f 10 benchprobe beside --folder {FOLDER} -- \
             loadgen {words} --seconds {} {rate} --settle {} --seed {CAPACITY_SEED}",
            CAPACITY.as_secs(),
            WARM_UP.as_secs()
        );
        let seen = self.probe(&command, WARM_UP + CAPACITY)?;
        let [used_us, ..] = used_us(&seen);
        let cpu_us = 1_000_000 * u64::try_from(seen.cpus)?;
        let per_s = seen.load.requests * cpu_us / used_us.max(1);
        u32::try_from(per_s).context("a capacity beyond counting")
    }

    fn probe(&self, command: &str, length: Duration) -> Result<Slice> {
        let limit = self.machine.longest(length) + READY_LIMIT;
        let printed = self.node()?.ok_within(command, limit)?;
        serde_json::from_str(&printed).with_context(|| format!("the probe printed {printed:.200}"))
    }

    fn answers_at_most(&self, production: Production) -> Result<u32> {
        self.production(production, "start")?;
        let words = production.words();
        let command = |length: Duration| format!("loadgen {words} --seconds {} {CLOSED}", length.as_secs());
        let first = format!("{} >/dev/null", command(WARM_UP));
        let limit = self.machine.longest(CAPACITY) + READY_LIMIT;
        self.node()?
            .wait_ok(&format!("{} answers", production.name()), &first, limit)?;
        let printed = self
            .node()?
            .ok_within(&format!("chrt -f 10 {}", command(CAPACITY)), limit)?;
        let report: LoadReport = serde_json::from_str(&printed)
            .with_context(|| format!("the generator printed {printed:.200}"))?;
        ensure!(
            report.errors == 0,
            "{} of {} requests failed while the capacity was measured",
            report.errors,
            report.requests
        );
        let per_s = report.latencies.count() * 1_000_000 / report.elapsed_us.max(1);
        u32::try_from(per_s.max(1)).context("a capacity beyond counting")
    }

    /// Loadline's programs, ready for jobs.
    pub(super) fn start_programs(&self) -> Result<()> {
        self.programs("start")?;
        deploy::await_ready(self.admin()?, NODE)
    }

    /// One slice, measured after a load that nobody looks at, until things are as they stay. Whoever logs in is production
    /// that comes and goes, and so is whoever connects: both are one command, on the same connections.
    pub(super) fn slice(
        &self,
        cell: &Cell,
        config: Config,
        capacity_per_s: u32,
        measure: &Measure,
    ) -> Result<Slice> {
        let Measure { length, seed, again } = *measure;
        let before = match (config, cell.antagonist, again) {
            // It has died when everything is as it stays.
            (_, Antagonist::Leak, _) => WARM_UP,
            (Config::Loadline, _, false) => SETTLE,
            (Config::Loadline, _, true) | (Config::Installed, ..) => SETTLE_AGAIN,
            _ => WARM_UP,
        };
        let lent = group(config).map_or_else(String::new, |group| format!("--lent {group}"));
        let (words, rate) = (cell.production.words(), cell.load.words(capacity_per_s));
        let command = format!(
            "chrt -f 10 benchprobe beside {lent} \
             --own system.slice/loadline-warden.service --own system.slice/loadline-agent.service --folder {FOLDER} -- \
             loadgen {words} --seconds {} {rate} --settle {} --seed {seed}",
            length.as_secs(),
            before.as_secs()
        );
        self.probe(&command, before + length)
    }

    /// What the kernel said of kills for memory since the last call.
    pub(super) fn kernel_log(&self) -> Result<String> {
        self.node()?.ok("dmesg --read-clear | grep oom-kill: || true")
    }

    /// The node, off and on again, as after something that nobody can clean up.
    pub(super) fn begin_anew(&self) -> Result<()> {
        let node = self.node()?;
        node.power_cut();
        node.power_on()?;
        self.silence()?;
        self.programs("stop")
    }
}

/// Where the antagonist's processes are.
pub(super) const fn group(config: Config) -> Option<&'static str> {
    match config {
        Config::Alone | Config::Installed => None,
        Config::Unprotected | Config::Nice19 => Some("system.slice/antagonist.service"),
        Config::Weight1 | Config::Idle | Config::Static => Some("antagonist.slice"),
        // Debian names it after the node.
        Config::Slurm => Some("system.slice/node_slurmstepd.scope"),
        Config::Loadline => Some("loadline.slice"),
    }
}

/// The antagonist's command, the same everywhere.
pub(super) fn antagonist_command(cell: &Cell) -> String {
    let program = Path::new("/usr/local/bin/benchprobe");
    format!(
        "{} antagonist {} --folder {FOLDER}",
        program.display(),
        cell.antagonist.name()
    )
}
