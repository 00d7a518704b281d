//! How busy the host was: a benchmark figure without it means nothing.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// The host and its disturbance over one measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostReport {
    /// Logical CPUs.
    pub cpus: usize,
    /// Kernel release.
    pub kernel: String,
    /// Is the host itself a virtual machine?
    pub virtualised: bool,
    /// Per cent of CPU time that other machines on the hypervisor took.
    pub steal: f64,
    /// Per cent of the time in which some task waited for a CPU; absent where the kernel does not count it.
    pub psi: Option<f64>,
}

/// Counters at the start of a measurement.
#[derive(Debug)]
pub struct HostWatch {
    stat: CpuTimes,
    psi_us: Option<u64>,
    start: std::time::Instant,
}

/// Jiffies since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CpuTimes {
    all: u64,
    steal: u64,
}

impl HostWatch {
    /// Begins to watch.
    ///
    /// # Errors
    /// When `/proc/stat` cannot be read.
    pub fn start() -> Result<Self> {
        Ok(Self {
            stat: cpu_times()?,
            psi_us: psi_us(),
            start: crate::clock::now(),
        })
    }

    /// The host since then.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn report(&self) -> Result<HostReport> {
        let now = cpu_times()?;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
        let elapsed = self.start.elapsed().as_secs_f64();
        Ok(HostReport {
            cpus: std::thread::available_parallelism().context("count CPUs")?.get(),
            kernel: kernel.trim().into(),
            virtualised: cpuinfo
                .lines()
                .any(|line| line.starts_with("flags") && line.split(' ').any(|flag| flag == "hypervisor")),
            steal: share(now.steal - self.stat.steal, now.all - self.stat.all),
            psi: self
                .psi_us
                .zip(psi_us())
                .map(|(before, after)| per_cent(after.saturating_sub(before) as f64 / 1e6, elapsed)),
        })
    }
}

fn share(part: u64, whole: u64) -> f64 {
    per_cent(part as f64, whole as f64)
}

/// Rounded to a tenth; zero of nothing is zero.
fn per_cent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 {
        (part / whole * 1000.0).round() / 10.0
    } else {
        0.0
    }
}

fn cpu_times() -> Result<CpuTimes> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    parse_stat(&text).context("/proc/stat has no line of all CPUs")
}

/// First line: `cpu user nice system idle iowait irq softirq steal guest guest_nice`; guest time is inside user time.
fn parse_stat(text: &str) -> Option<CpuTimes> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .take(8)
        .collect();
    (times.len() == 8).then(|| CpuTimes {
        all: times.iter().sum(),
        steal: times[7],
    })
}

fn psi_us() -> Option<u64> {
    parse_psi(&fs::read_to_string("/proc/pressure/cpu").ok()?)
}

fn parse_psi(text: &str) -> Option<u64> {
    text.lines()
        .find(|line| line.starts_with("some "))?
        .rsplit_once("total=")?
        .1
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_a_share_of_all_time() {
        let before = parse_stat("cpu  100 0 100 800 0 0 0 0 50 0\ncpu0 1 1\n").unwrap();
        let after = parse_stat("cpu  150 0 100 825 0 0 0 25 90 0\n").unwrap();
        assert_eq!(before, CpuTimes { all: 1000, steal: 0 });
        assert!((share(after.steal - before.steal, after.all - before.all) - 25.0).abs() < 1e-9);
        assert_eq!(parse_stat("cpu  1 2 3\n"), None);
    }

    #[test]
    fn pressure_counts_some_not_full() {
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=6304393\nfull avg10=0.00 total=7\n";
        assert_eq!(parse_psi(text), Some(6_304_393));
    }
}
