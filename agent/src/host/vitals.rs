//! Production's vital signs, read ten times a second: CPU time used, time stalled, memory left.
//!
//! Touches `/proc/meminfo` and cgroupfs, reads only. Files stay open and are read in place into one buffer, which
//! costs a third of opening them anew and allocates nothing. Which cgroups production has is looked up again every
//! ten seconds.

mod open;

use std::path::{Path, PathBuf};

use loadline_model::{Bytes, Span};
use loadline_policy::headroom::sample::{Sample, Slo, Stalls};

use super::cgroup::MOUNT;
use super::root::HostRoot;
use super::systemd::SLICE;
use open::{Buffer, Counter};

/// Slices come and go with services and people; a new one is missed for so long at most.
const RESCAN: Span = Span::from_secs(10);

/// Loadline's own programs on a node.
const OWN: [&str; 2] = [
    "system.slice/loadline-warden.service/cpu.stat",
    "system.slice/loadline-agent.service/cpu.stat",
];

/// The files.
#[derive(Debug)]
pub struct Vitals {
    root: HostRoot,
    cpu_all: Counter,
    cpu_lent: Counter,
    cpu_standard: Counter,
    own: [Own; OWN.len()],
    memory: Counter,
    production: Vec<Pressure>,
    scanned: Option<Span>,
    buffer: Buffer,
}

/// CPU time of a program that is restarted now and then, and whose cgroup begins at zero each time.
#[derive(Debug)]
struct Own {
    counter: Counter,
    last: Option<Span>,
    sum: Span,
}

/// Of one cgroup of production.
#[derive(Debug)]
struct Pressure {
    cpu: Counter,
    memory: Counter,
    io: Counter,
}

impl Vitals {
    /// Of the machine whose files are there. Nothing is read yet.
    pub fn new(root: HostRoot) -> Self {
        let cgroup = |name: &str| root.path(&format!("{MOUNT}/{name}"));
        Self {
            cpu_all: Counter::new(cgroup("cpu.stat")),
            cpu_lent: Counter::new(cgroup(&format!("{SLICE}/cpu.stat"))),
            cpu_standard: Counter::new(cgroup(&format!("{SLICE}/loadline-standard.slice/cpu.stat"))),
            own: OWN.map(|file| Own::of(cgroup(file))),
            memory: Counter::new(root.path("/proc/meminfo")),
            production: Vec::new(),
            scanned: None,
            buffer: Buffer::default(),
            root,
        }
    }

    /// One look. What the kernel does not tell is none, never zero; lent work that has no slice has used nothing.
    pub fn look(&mut self, now: Span) -> Sample {
        if self.scanned.is_none_or(|scanned| now.minus(scanned) >= RESCAN) {
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
        Sample {
            now,
            cpu_all: micros(&mut self.cpu_all, buffer),
            cpu_lent: lent(&mut self.cpu_lent, buffer),
            cpu_own: (self.own.iter_mut()).fold(Span::ZERO, |sum, own| sum.plus(own.used(buffer))),
            cpu_standard: lent(&mut self.cpu_standard, buffer),
            stalls: Stalls {
                cpu_some: total(&mut self.production, buffer, |one| &mut one.cpu, "some"),
                memory_full: total(&mut self.production, buffer, |one| &mut one.memory, "full"),
                io_full: total(&mut self.production, buffer, |one| &mut one.io, "full"),
            },
            memory_available: kib.map(|kib| Bytes(kib.saturating_mul(1024))),
            slo: Slo::None,
        }
    }

    /// Everything right below the root but our slice is production.
    fn scan(&mut self) {
        let mount = self.root.path(MOUNT);
        let Ok(entries) = std::fs::read_dir(&mount) else {
            // Without the hierarchy nothing is known of stalls, and the sample says so.
            self.production.clear();
            return;
        };
        let folders = entries.flatten().map(|entry| entry.path());
        let production =
            folders.filter(|path| path.is_dir() && path.file_name().is_some_and(|name| name != SLICE));
        self.production = production.map(|path| Pressure::of(&path)).collect();
    }
}

impl Own {
    const fn of(file: PathBuf) -> Self {
        Self {
            counter: Counter::new(file),
            last: None,
            sum: Span::ZERO,
        }
    }

    /// What it has used since the first look, over all its restarts. What was used between the last look and the end
    /// of a run is not seen, and counts as production's.
    fn used(&mut self, buffer: &mut Buffer) -> Span {
        let now = self.counter.value(buffer, "", "usage_usec ").map(Span);
        if let (Some(now), Some(last)) = (now, self.last) {
            self.sum = self.sum.plus(if now >= last { now.minus(last) } else { now });
        }
        self.last = now.or_else(|| self.last.map(|_| Span::ZERO));
        self.sum
    }
}

impl Pressure {
    fn of(cgroup: &Path) -> Self {
        let file = |name: &str| Counter::new(cgroup.join(name));
        Self {
            cpu: file("cpu.pressure"),
            memory: file("memory.pressure"),
            io: file("io.pressure"),
        }
    }
}

/// The sum over production's cgroups; none if none of them counts.
fn total(
    production: &mut [Pressure],
    buffer: &mut Buffer,
    file: fn(&mut Pressure) -> &mut Counter,
    line: &str,
) -> Option<Span> {
    let values = production
        .iter_mut()
        .filter_map(|one| file(one).value(buffer, line, "total="));
    let (count, sum) = values.fold((0u32, 0u64), |(count, sum), value| {
        (count + 1, sum.saturating_add(value))
    });
    (count > 0).then_some(Span(sum))
}

#[cfg(test)]
mod tests;
