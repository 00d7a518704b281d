//! One slice of a measurement: a load generator runs, and beside it is read who used which CPU time.
//!
//! In the guest and not from the host, so that both have one clock, and at real-time priority, so that readings come
//! when they are meant to while the machine is saturated.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::antagonist;
use super::groups::{Kept, below_the_root, is_gone, usage_us};
use crate::clock;
use crate::load::LoadReport;

/// Between two readings: the integral over a step of production's use is then right to a few per cent.
const EVERY: Duration = Duration::from_millis(250);

/// What a generator says on a line of its own when what counts begins.
pub const MEASURING: &str = "measuring";

/// CPU time since the beginning of each cgroup, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Since the first reading.
    pub at_us: u64,
    /// All units of the machine, as they were at the beginning. Not the root: what the kernel counts there is of samples,
    /// a tenth of a CPU from the truth beside work under a quota.
    pub all_us: u64,
    /// The antagonist.
    pub lent_us: u64,
    /// Loadline's own two programs.
    pub own_us: u64,
}

/// What one slice saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Slice {
    /// The generator's own report.
    pub load: LoadReport,
    /// CPUs of the machine.
    pub cpus: usize,
    /// At least two, in order.
    pub readings: Vec<Reading>,
    /// What the antagonist got done, in its own unit.
    pub work: u64,
}

/// CPU time of a cgroup that may come and go: a worker that ends and begins again. What it used before it went counts.
#[derive(Debug)]
struct Meter {
    group: String,
    /// Opened once: whoever reads at real-time priority holds the generator up.
    file: Option<Kept>,
    gone_us: u64,
    last_us: u64,
}

impl Meter {
    fn new(group: &str) -> Self {
        Self {
            group: group.into(),
            file: None,
            gone_us: 0,
            last_us: 0,
        }
    }

    /// A reading below the one before is a cgroup made anew.
    fn take(&mut self, now_us: u64) -> u64 {
        if now_us < self.last_us {
            self.gone_us += self.last_us;
        }
        self.last_us = now_us;
        self.gone_us + now_us
    }

    /// An open file is of the cgroup that it was opened in: one made anew meanwhile is opened at the next reading.
    fn text(&mut self) -> io::Result<String> {
        let file = match self.file.take() {
            Some(file) => file,
            None => Kept::open(&self.group, "cpu.stat")?,
        };
        let text = file.read()?;
        self.file = Some(file);
        Ok(text)
    }

    fn read(&mut self) -> Result<u64> {
        let text = match self.text() {
            Ok(text) => text,
            Err(error) if is_gone(&error) => return Ok(self.take(0)),
            Err(error) => return Err(error).with_context(|| format!("read cpu.stat of {:?}", self.group)),
        };
        let now = usage_us(&text).with_context(|| format!("cpu.stat of {:?} holds {text:?}", self.group))?;
        Ok(self.take(now))
    }
}

/// Runs the generator and reads beside it, from when it says that it measures until it ends. `folder`: of the antagonist.
///
/// # Errors
/// When the generator fails, or a cgroup that is there cannot be read.
pub fn run(generator: &[String], lent: Option<&str>, own: &[String], folder: &Path) -> Result<Slice> {
    let (program, words) = generator.split_first().context("no generator named")?;
    let units = below_the_root().context("list the cgroups")?;
    let mut all: Vec<Meter> = units.iter().map(|group| Meter::new(group)).collect();
    let mut lent_meter = lent.map(Meter::new);
    let mut own: Vec<Meter> = own.iter().map(|group| Meter::new(group)).collect();
    let tally = antagonist::tally(folder);
    let mut command = Command::new(program);
    let mut child = command
        .args(words)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    let mut stdout = BufReader::new(child.stdout.take().context("the generator without an output")?);
    let mut first = String::new();
    stdout.read_line(&mut first).context("wait for the generator")?;
    ensure!(
        first.trim_end() == MEASURING,
        "the generator said {first:.200?} and not when it began to measure: is --settle among its words?"
    );
    let (start, before) = (clock::now(), antagonist::work_done(&tally)?);
    let mut read = || -> Result<Reading> {
        Ok(Reading {
            at_us: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
            all_us: all.iter_mut().map(Meter::read).sum::<Result<u64>>()?,
            lent_us: lent_meter.as_mut().map_or(Ok(0), Meter::read)?,
            own_us: own.iter_mut().map(Meter::read).sum::<Result<u64>>()?,
        })
    };
    let mut readings = vec![read()?];
    // Read by another thread: a report can be larger than a pipe.
    let printed = std::thread::spawn(move || -> io::Result<String> {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let status = loop {
        clock::pause(EVERY);
        readings.push(read()?);
        if let Some(status) = child.try_wait().context("look at the generator")? {
            break status;
        }
    };
    ensure!(status.success(), "the generator ended with {status}");
    let text = match printed.join() {
        Ok(text) => text.context("read the generator's report")?,
        Err(_) => anyhow::bail!("the thread that reads the generator's report panicked"),
    };
    let [first, last] = [readings.first(), readings.last()].map(|reading| reading.map_or(0, |of| of.lent_us));
    ensure!(
        lent.is_none() || last > first,
        "the antagonist's cgroup used no CPU time: it is not there, or it did not run"
    );
    Ok(Slice {
        load: serde_json::from_str(&text).with_context(|| format!("the generator printed {text:.200}"))?,
        cpus: std::thread::available_parallelism().context("count CPUs")?.get(),
        readings,
        work: antagonist::work_done(&tally)?.saturating_sub(before),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_made_anew_goes_on_counting() {
        let mut meter = Meter::new("x");
        let seen: Vec<u64> = [10, 25, 0, 5, 7, 2].map(|now| meter.take(now)).into();
        assert_eq!(seen, [10, 25, 25, 30, 32, 34]);
    }
}
