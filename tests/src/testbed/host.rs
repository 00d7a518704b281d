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
    /// Per cent of the time in which some task waited for a CPU in the 10 s *before* the measurement, which itself may
    /// well use every CPU; absent where the kernel does not count it.
    pub psi: Option<f64>,
}

/// Counters at the start of a measurement.
#[derive(Debug)]
pub struct HostWatch {
    stat: CpuTimes,
    psi: Option<f64>,
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
            psi: psi(),
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
        Ok(HostReport {
            cpus: std::thread::available_parallelism().context("count CPUs")?.get(),
            kernel: kernel.trim().into(),
            virtualised: cpuinfo
                .lines()
                .any(|line| line.starts_with("flags") && line.split(' ').any(|flag| flag == "hypervisor")),
            steal: share(
                now.steal.saturating_sub(self.stat.steal),
                now.all.saturating_sub(self.stat.all),
            ),
            psi: self.psi,
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

fn psi() -> Option<f64> {
    parse_psi(&fs::read_to_string("/proc/pressure/cpu").ok()?)
}

fn parse_psi(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ')
        .find_map(|word| word.strip_prefix("avg10="))?
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
        let text = "some avg10=12.50 avg60=0.00 avg300=0.00 total=6304393\nfull avg10=7.00 total=7\n";
        assert_eq!(parse_psi(text), Some(12.5));
        assert_eq!(parse_psi("full avg10=7.00 total=7\n"), None);
    }
}
