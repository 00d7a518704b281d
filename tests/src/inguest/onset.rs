//! How long it takes from production's first need to the first lower limit of lent work: promise P2, on one clock.
//!
//! The probe lives in production's part of the machine. It lets threads loose that saturate every CPU, and looks at
//! lent work's limits every millisecond until one of them is lower. It is to be started with a real-time priority that
//! its threads do not inherit (`chrt --reset-on-fork --fifo 10`): the looks must come in time, and the threads must be
//! like any of production's.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::groups::{Kept, quota};
use crate::clock;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);
/// After this long nothing was done: the onset counts as so long, and is never left out.
const MOST: Duration = Duration::from_secs(2);
/// Lent work must have been left alone for this long before an onset: or a lowering that was on its way would be
/// counted as the answer.
const CALM: Duration = Duration::from_secs(2);
/// Likewise while systemd reloads, which presses on lent work itself.
const RELOAD_CALM: Duration = Duration::from_millis(300);
/// So long may it take to come to rest under reloads; then this onset is skipped, and that is counted.
const RELOAD_LIMIT: Duration = Duration::from_secs(10);
/// What lent work must have under reloads: with the floor nothing can be lowered.
const RELOAD_QUOTA_LEAST: u64 = 150;
const SLICES: [&str; 3] = [
    "loadline.slice",
    "loadline.slice/loadline-standard.slice",
    "loadline.slice/loadline-burst.slice",
];

/// What the probe saw.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Onsets {
    /// From the onset to the first lower limit, milliseconds, one an onset.
    pub reaction_ms: Vec<f64>,
    /// Onsets that nothing was done about within the most that is waited; counted above as that most.
    pub unanswered: u32,
    /// What lent work had at each onset, in thousandths of a CPU.
    pub quota: Vec<u64>,
    /// Onsets that were not made, since lent work did not come to rest under reloads.
    pub skipped: u32,
    /// Looks that came more than ten milliseconds after the one before: how far the figures can be trusted.
    pub late_looks: u32,
}

/// How an onset is made and how many.
#[derive(Debug, Clone, clap::Args)]
pub struct Order {
    /// Onsets wanted
    #[arg(long)]
    pub onsets: u32,
    /// Threads that spin
    #[arg(long)]
    pub threads: usize,
    /// What lent work must have, in thousandths of a CPU: with nothing left to take, nothing can be lowered
    #[arg(long)]
    pub quota_least: u64,
    /// systemd reloads its units back to back around each onset
    #[arg(long)]
    pub reload: bool,
    /// No further onset is begun after so many seconds
    #[arg(long)]
    pub limit_s: u64,
}

/// A command of the shell that is repeated until this value goes.
struct Repeated(Child);

impl Repeated {
    fn start(command: &str) -> Result<Self> {
        let text = format!("while :; do {command}; done");
        let child = Command::new("sh")
            .args(["-c", &text])
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self(child))
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        // It was started above and is not waited for before: its process group is still its own.
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}

/// The limits of lent work, as the kernel has them.
struct Limits {
    files: Vec<Kept>,
}

impl Limits {
    fn open() -> Result<Self> {
        let files = SLICES
            .iter()
            .filter_map(|slice| match Kept::open(slice, "cpu.max") {
                // A tier without a worker has no cgroup.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                other => Some(other.with_context(|| format!("open cpu.max of {slice}"))),
            });
        let files = files.collect::<Result<Vec<Kept>>>()?;
        ensure!(!files.is_empty(), "lent work has no cgroup: nothing is lent");
        Ok(Self { files })
    }

    fn read(&self) -> Result<Vec<u64>> {
        self.files
            .iter()
            .map(|file| {
                let text = file.read().context("read cpu.max")?;
                quota(&text).with_context(|| format!("cpu.max holds {text:?}"))
            })
            .collect()
    }
}

/// True if any limit is lower than it was.
fn lowered(before: &[u64], now: &[u64]) -> bool {
    before.iter().zip(now).any(|(before, now)| now < before)
}

fn millis(length: Duration) -> f64 {
    length.as_secs_f64() * 1e3
}

/// Makes the onsets.
///
/// # Errors
/// When lent work has no limits to look at, or a thread cannot be started.
pub fn run(order: &Order) -> Result<Onsets> {
    let limits = Limits::open()?;
    let (start, mut seen) = (clock::now(), Onsets::default());
    for _ in 0..order.onsets {
        let over = Duration::from_secs(order.limit_s).saturating_sub(start.elapsed());
        let Some(mut before) = rest(&limits, order.quota_least, CALM, over)? else {
            break;
        };
        let _reloads = order
            .reload
            .then(|| Repeated::start("systemctl daemon-reload"))
            .transpose()?;
        if order.reload {
            match rest(&limits, RELOAD_QUOTA_LEAST, RELOAD_CALM, RELOAD_LIMIT)? {
                Some(now) => before = now,
                None => {
                    seen.skipped += 1;
                    continue;
                }
            }
        }
        let quota = *before.first().context("no limit")?;
        let answered = onset(&limits, &before, order.threads, &mut seen.late_looks)?;
        seen.quota.push(quota);
        seen.unanswered += u32::from(answered.is_none());
        seen.reaction_ms.push(millis(answered.unwrap_or(MOST)));
    }
    Ok(seen)
}

/// Waits until lent work has so much, and nothing was taken for a while; none when the time is over.
fn rest(limits: &Limits, least: u64, calm: Duration, limit: Duration) -> Result<Option<Vec<u64>>> {
    let (begun, mut last) = (clock::now(), limits.read()?);
    let mut since = begun;
    loop {
        clock::pause(LOOK * 10);
        let now = limits.read()?;
        if lowered(&last, &now) {
            since = clock::now();
        }
        last = now;
        if last.first().is_some_and(|quota| *quota >= least) && since.elapsed() >= calm {
            return Ok(Some(last));
        }
        if begun.elapsed() >= limit {
            return Ok(None);
        }
    }
}

/// One onset: how long until a limit was lower, or none.
fn onset(limits: &Limits, before: &[u64], threads: usize, late_looks: &mut u32) -> Result<Option<Duration>> {
    let (go, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let spinning: Vec<_> = (0..threads)
        .map(|_| {
            let (go, over) = (Arc::clone(&go), Arc::clone(&over));
            std::thread::Builder::new().spawn(move || {
                while !go.load(Ordering::Acquire) {
                    std::thread::park_timeout(Duration::from_secs(1));
                }
                let mut number = 1u64;
                while !over.load(Ordering::Acquire) {
                    number = std::hint::black_box(number.wrapping_mul(3).wrapping_add(1));
                }
            })
        })
        .collect::<Result<_, _>>()
        .context("start a thread")?;
    let begun = clock::now();
    go.store(true, Ordering::Release);
    spinning.iter().for_each(|thread| thread.thread().unpark());
    let outcome = watch(limits, before, begun, late_looks);
    over.store(true, Ordering::Release);
    for thread in spinning {
        ensure!(thread.join().is_ok(), "a spinning thread panicked");
    }
    outcome
}

fn watch(limits: &Limits, before: &[u64], begun: Instant, late_looks: &mut u32) -> Result<Option<Duration>> {
    let mut last = clock::now();
    while begun.elapsed() < MOST {
        let now = limits.read()?;
        if lowered(before, &now) {
            return Ok(Some(begun.elapsed()));
        }
        clock::pause(LOOK);
        *late_looks += u32::from(last.elapsed() > LOOK * 10);
        last = clock::now();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_lower_limit_is_an_action_and_a_higher_one_is_none() {
        assert!(lowered(&[1600, u64::MAX, u64::MAX], &[1600, u64::MAX, 50]));
        assert!(lowered(&[1600], &[1590]));
        assert!(!lowered(&[1600, u64::MAX], &[1610, u64::MAX]));
    }
}
