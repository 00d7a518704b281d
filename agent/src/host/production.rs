//! What production uses: everything on the machine but `loadline.slice`, and how long tasks have stalled.
//!
//! Touches `/proc/meminfo`, `/proc/stat`, `/proc/uptime`, `/proc/pressure` and cgroupfs, reads only, needs no privilege.
//! What the kernel does not have is none, never zero.

use loadline_model::{Bytes, MilliCpu, Pressure, Span};
use procfs::{CpuPressure, FromRead, IoPressure, Meminfo, MemoryPressure};

use super::busy;
use super::cgroup::MOUNT;
use super::root::HostRoot;
use super::systemd::SLICE;
use super::vitals::OWN;

/// What runs while production is tested by us: the test that the fleet ordered, and what stands in for production.
const TESTS: [&str; 2] = [
    "system.slice/loadline-prove.service",
    "system.slice/loadline-prove-standin.service",
];

/// CPU time and memory, of production and of lent work, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of everything since boot.
    pub cpu_all: Option<Span>,
    /// CPU time of lent work; zero while its slice does not exist.
    pub cpu_lent: Option<Span>,
    /// CPU time of Loadline's own two programs, each since it was started; neither production nor lent work.
    pub cpu_own: [Option<Span>; OWN.len()],
    /// Memory of production that cannot simply be dropped.
    pub memory_production: Option<Bytes>,
    /// Memory that lent work holds, its page cache included.
    pub memory_lent: Option<Bytes>,
}

/// CPU use between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuRates {
    /// Production's.
    pub production: MilliCpu,
    /// Lent work's.
    pub lent: MilliCpu,
}

/// Reads usage. `cpu_lent` restarts at zero when the slice is made anew.
pub fn usage(root: &HostRoot) -> Usage {
    let slice = |file: &str| root.text(&format!("/sys/fs/cgroup/{SLICE}/{file}")).ok();
    let exists = root.exists(&format!("/sys/fs/cgroup/{SLICE}"));
    let or_zero = |value: Option<u64>| if exists { value } else { Some(0) };
    let cpu_lent = or_zero(slice("cpu.stat").and_then(|text| field(&text, "usage_usec")));
    let lent = or_zero(slice("memory.current").and_then(|text| text.parse().ok()));
    let droppable = or_zero(slice("memory.stat").and_then(|text| droppable(&text)));
    let meminfo = Meminfo::from_file(root.path("/proc/meminfo")).ok();
    let used = meminfo.and_then(|meminfo| Some(meminfo.mem_total.saturating_sub(meminfo.mem_available?)));
    // Neither side counts page cache that can be dropped; then what lent work holds for good is taken off.
    let production = used.zip(lent.zip(droppable));
    Usage {
        cpu_all: busy::since_boot(root),
        cpu_lent: cpu_lent.map(Span),
        cpu_own: OWN.map(|file| {
            let text = root.text(&format!("{MOUNT}/{file}")).ok();
            text.and_then(|text| field(&text, "usage_usec")).map(Span)
        }),
        memory_production: production
            .map(|(used, (lent, droppable))| Bytes(used.saturating_sub(lent.saturating_sub(droppable)))),
        memory_lent: lent.map(Bytes),
    }
}

/// CPU use between two readings that are `passed` apart. None if either lacks a figure, or if the slice was made
/// anew between them: a rate exists only between two readings of the same cgroup.
pub fn cpu_rates(earlier: &Usage, later: &Usage, passed: Span) -> Option<CpuRates> {
    let all = later.cpu_all?.0.checked_sub(earlier.cpu_all?.0)?;
    let lent = later.cpu_lent?.0.checked_sub(earlier.cpu_lent?.0)?;
    // Of one that was started anew all is new; one that was not there a moment ago counts from the next reading on.
    let pairs = earlier.cpu_own.iter().zip(later.cpu_own);
    let own = pairs.filter_map(|(before, now)| {
        let (before, now) = ((*before)?.0, now?.0);
        Some(now.checked_sub(before).unwrap_or(now))
    });
    let own = own.fold(0, u64::saturating_add);
    let rate = |used: u64| used.saturating_mul(1000).checked_div(passed.0).map(MilliCpu);
    Some(CpuRates {
        production: rate(all.saturating_sub(lent).saturating_sub(own))?,
        lent: rate(lent)?,
    })
}

/// True while a test of ours runs, of which production's use says nothing.
pub fn is_tested(root: &HostRoot) -> bool {
    TESTS.iter().any(|unit| root.exists(&format!("{MOUNT}/{unit}")))
}

/// The kernel's stall totals; none of those it does not keep.
pub fn pressure(root: &HostRoot) -> Pressure {
    let path = |name: &str| root.path(&format!("/proc/pressure/{name}"));
    Pressure {
        cpu_some_us: CpuPressure::from_file(path("cpu")).ok().map(|cpu| cpu.some.total),
        memory_full_us: MemoryPressure::from_file(path("memory"))
            .ok()
            .map(|memory| memory.full.total),
        io_full_us: IoPressure::from_file(path("io")).ok().map(|io| io.full.total),
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
}

/// Page cache and slabs that the kernel may drop; tmpfs is not among them.
fn droppable(memory_stat: &str) -> Option<u64> {
    let names = ["inactive_file", "active_file", "slab_reclaimable"];
    names
        .iter()
        .map(|name| field(memory_stat, name))
        .try_fold(0u64, |sum, part| Some(sum.saturating_add(part?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(all: u64, lent: u64) -> Usage {
        Usage {
            cpu_all: Some(Span(all)),
            cpu_lent: Some(Span(lent)),
            ..Usage::default()
        }
    }

    #[test]
    fn rates_exist_only_between_readings_of_the_same_slice() {
        let second = Span::from_secs(1);
        let rates = cpu_rates(&at(5_000_000, 1_000_000), &at(6_500_000, 1_500_000), second).unwrap();
        assert_eq!((rates.production, rates.lent), (MilliCpu(1000), MilliCpu(500)));
        assert_eq!(
            cpu_rates(&at(5_000_000, 1_000_000), &at(6_500_000, 10), second),
            None,
            "made anew"
        );
        let with_own = |usage: Usage, own| Usage {
            cpu_own: [Some(Span(own)), None],
            ..usage
        };
        let (earlier, later) = (
            with_own(at(5_000_000, 1_000_000), 400_000),
            with_own(at(6_500_000, 1_500_000), 500_000),
        );
        let rates = cpu_rates(&earlier, &later, second).unwrap();
        assert_eq!(rates.production, MilliCpu(900), "less our own");
        let later = with_own(at(6_500_000, 1_500_000), 250_000);
        let rates = cpu_rates(&earlier, &later, second).unwrap();
        assert_eq!(rates.production, MilliCpu(750), "started anew");
        assert_eq!(cpu_rates(&Usage::default(), &at(1, 1), second), None);
        assert_eq!(cpu_rates(&at(1, 0), &at(2, 0), Span::ZERO), None);
    }
}
