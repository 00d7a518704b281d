//! Production's vital signs, read ten times a second: CPU time used, time stalled, memory left.
//!
//! Touches `/proc/meminfo`, `/proc/stat`, `/proc/uptime`, cgroupfs and `/sys`, reads only. Files stay open and are read in
//! place into one buffer, which costs a third of opening them anew and allocates nothing. Which cgroups production has is looked up again every
//! ten seconds, and what all of the machine used once a second.

mod grown;
mod machine;
mod open;
mod transfer;

use std::path::PathBuf;

use loadline_model::{Bytes, Span};
use loadline_policy::headroom::sample::{Sample, Slo, Stalls, Transferred};

use super::cgroup::MOUNT;
use super::root::HostRoot;
use super::siblings::siblings;
use super::systemd::SLICE;
use grown::Grown;
use machine::Machine;
use open::{Buffer, Counter};
use transfer::Transfers;

/// Slices come and go with services and people; a new one is missed for so long at most.
const RESCAN: Span = Span::from_secs(10);

/// Where a cgroup's CPU time stands in `cpu.stat`, and how long all of it has waited in a file of pressure.
const USED: (&str, &str) = ("", "usage_usec ");
const STALLED: (&str, &str) = ("full", "total=");

/// Loadline's own programs on a node.
pub(super) const OWN: [&str; 2] = [
    "system.slice/loadline-warden.service/cpu.stat",
    "system.slice/loadline-agent.service/cpu.stat",
];

/// How long anything on the machine has waited: while that stands still, none of its cgroups waits, and one file is read
/// for all.
#[derive(Debug)]
struct Gates {
    memory: Grown,
    io: Grown,
}

/// The files.
#[derive(Debug)]
pub struct Vitals {
    root: HostRoot,
    machine: Machine,
    cpu_lent: Counter,
    cpu_standard: Counter,
    memory_lent: Counter,
    tasks_lent: Counter,
    io_lent: Transfers,
    own: [Grown; OWN.len()],
    own_used: Span,
    units_used: Option<Span>,
    memory: Counter,
    production: Vec<Unit>,
    gates: Gates,
    waited: Stalls,
    scanned: Option<Span>,
    buffer: Buffer,
}

/// Of one cgroup of production.
#[derive(Debug)]
struct Unit {
    cgroup: PathBuf,
    used: Grown,
    cpu: Grown,
    memory: Grown,
    io: Grown,
}

impl Vitals {
    /// Of the machine whose files are there. Nothing is read yet.
    pub fn new(root: HostRoot) -> Self {
        let cgroup = |name: &str| root.path(&format!("{MOUNT}/{name}"));
        Self {
            machine: Machine::new(&root),
            cpu_lent: Counter::new(cgroup(&format!("{SLICE}/cpu.stat"))),
            cpu_standard: Counter::new(cgroup(&format!("{SLICE}/loadline-standard.slice/cpu.stat"))),
            memory_lent: Counter::new(cgroup(&format!("{SLICE}/memory.current"))),
            tasks_lent: Counter::new(cgroup(&format!("{SLICE}/pids.current"))),
            io_lent: Transfers::new(cgroup(&format!("{SLICE}/io.stat"))),
            own: OWN.map(|file| Grown::new(cgroup(file))),
            own_used: Span::ZERO,
            units_used: None,
            memory: Counter::new(root.path("/proc/meminfo")),
            production: Vec::new(),
            gates: Gates {
                memory: Grown::new(root.path("/proc/pressure/memory")),
                io: Grown::new(root.path("/proc/pressure/io")),
            },
            waited: Stalls::default(),
            scanned: None,
            buffer: Buffer::default(),
            root,
        }
    }

    /// One look. What the kernel does not tell is none, never zero; lent work that has no slice has used nothing.
    pub fn look(&mut self, now: Span) -> Sample {
        // Whoever is new is to be read once, to have something to count from.
        let scans = self.scanned.is_none_or(|scanned| now.minus(scanned) >= RESCAN);
        if scans {
            self.scanned = Some(now);
            self.scan();
        }
        let buffer = &mut self.buffer;
        let micros =
            |counter: &mut Counter, buffer: &mut Buffer| counter.value(buffer, "", "usage_usec ").map(Span);
        let lent = |counter: &mut Counter, buffer: &mut Buffer| match micros(counter, buffer) {
            None if !counter.exists() => Some(Span::ZERO),
            value => value,
        };
        let kib = self.memory.value(buffer, "MemAvailable:", " ");
        let own = self.own.iter_mut();
        let used = own.filter_map(|own| own.since(buffer, "", "usage_usec "));
        self.own_used = used.fold(self.own_used, Span::plus);
        let cpu_all = self.machine.used(buffer, now);
        self.units_used = longer(self.units_used, &mut self.production, buffer, USED, |one| {
            &mut one.used
        });
        let mut waits = |gate: &mut Grown| gate.since(buffer, "some", "total=") != Some(Span::ZERO) || scans;
        let (memory, io) = (waits(&mut self.gates.memory), waits(&mut self.gates.io));
        let production = &mut self.production;
        let last = self.waited;
        self.waited = Stalls {
            cpu_full: longer(last.cpu_full, production, buffer, STALLED, |one| &mut one.cpu),
            memory_full: match memory {
                true => longer(last.memory_full, production, buffer, STALLED, |one| {
                    &mut one.memory
                }),
                false => last.memory_full,
            },
            io_full: match io {
                true => longer(last.io_full, production, buffer, STALLED, |one| &mut one.io),
                false => last.io_full,
            },
        };
        let cpu_lent = lent(&mut self.cpu_lent, buffer);
        let cpu_units = self.machine.units(buffer, self.units_used, cpu_lent);
        let is_there = self.cpu_lent.exists();
        let io = self.io_lent.totals(buffer);
        let memory_lent = self.memory_lent.value(buffer, "", "").map(Bytes);
        let tasks_lent = self.tasks_lent.value(buffer, "", "");
        Sample {
            now,
            cpu_all,
            cpu_units,
            cpu_lent,
            io_lent: io.or((!is_there).then(Transferred::default)),
            memory_lent: memory_lent.or((!is_there).then_some(Bytes::ZERO)),
            tasks_lent: tasks_lent.or((!is_there).then_some(0)),
            cpu_own: self.own_used,
            cpu_standard: lent(&mut self.cpu_standard, buffer),
            stalls: self.waited,
            memory_available: kib.map(|kib| Bytes(kib.saturating_mul(1024))),
            slo: Slo::None,
        }
    }

    /// False if it is known that no process is in our slice, as it has none or is not there.
    pub fn lends(&mut self) -> bool {
        let tasks = self.tasks_lent.value(&mut self.buffer, "", "");
        let untold = self.tasks_lent.exists() || self.cpu_lent.exists();
        tasks.map_or(untold, |tasks| tasks > 0)
    }

    /// Everything right below the root but our slice is production.
    fn scan(&mut self) {
        self.io_lent.scan(&self.root);
        self.machine.scan(&self.root);
        let Ok(production) = siblings(&self.root.path(MOUNT)) else {
            // Without the hierarchy nothing is known of stalls, and the sample says so.
            self.production.clear();
            return;
        };
        let mut known = std::mem::take(&mut self.production);
        self.production = production
            .map(|path| match known.iter().position(|one| one.cgroup == path) {
                Some(place) => known.swap_remove(place),
                None => Unit::of(path),
            })
            .collect();
    }
}

impl Unit {
    fn of(cgroup: PathBuf) -> Self {
        let file = |name: &str| Grown::new(cgroup.join(name));
        Self {
            used: file("cpu.stat"),
            cpu: file("cpu.pressure"),
            memory: file("memory.pressure"),
            io: file("io.pressure"),
            cgroup,
        }
    }
}

/// How long all of each of production's cgroups has waited or run, added up from when they were first looked at; none if
/// none of them counts.
fn longer(
    before: Option<Span>,
    production: &mut [Unit],
    buffer: &mut Buffer,
    (line, mark): (&str, &str),
    file: fn(&mut Unit) -> &mut Grown,
) -> Option<Span> {
    let all = production.iter_mut();
    all.filter_map(|one| file(one).since(buffer, line, mark))
        .reduce(Span::plus)
        .map(|more| before.unwrap_or_default().plus(more))
}

#[cfg(test)]
mod tests;
