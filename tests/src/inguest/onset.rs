//! How long it takes from production's first need to the first lower limit of lent work: promise P2, on one clock.
//!
//! The probe lives in production's part of the machine. It lets threads loose that saturate every CPU, and looks at
//! lent work's limits every millisecond until one of them is lower. It is to be started with a real-time priority that
//! its threads do not inherit (`chrt --reset-on-fork --fifo 10`): the looks must come in time, and the threads must be
//! like any of production's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::groups::{Kept, quota};
use crate::clock;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);
/// After this long nothing was done: the onset counts as so long, and is never left out.
const MOST: Duration = Duration::from_secs(2);
/// Lent work must have been left alone for this long before an onset: or its own earlier lowering would be counted.
const CALM: Duration = Duration::from_secs(2);
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
    /// Looks that came more than ten milliseconds after the one before: how far the figures can be trusted.
    pub late_looks: u32,
}

/// How an onset is made and how many.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// Onsets wanted.
    pub onsets: u32,
    /// Threads that spin.
    pub threads: usize,
    /// Lent work must have at least so much, in thousandths of a CPU: with nothing left to take, nothing can be lowered.
    pub quota_least: u64,
    /// No further onset is begun after this.
    pub limit: Duration,
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
/// When lent work has no limits to look at, or does not come to rest between two onsets.
pub fn run(order: Order) -> Result<Onsets> {
    let limits = Limits::open()?;
    let (start, mut seen) = (clock::now(), Onsets::default());
    for _ in 0..order.onsets {
        let Some(before) = rest(&limits, order, start)? else {
            break;
        };
        let quota = *before.first().context("no limit")?;
        let answered = onset(&limits, &before, order.threads, &mut seen.late_looks)?;
        seen.quota.push(quota);
        seen.unanswered += u32::from(answered.is_none());
        seen.reaction_ms.push(millis(answered.unwrap_or(MOST)));
    }
    Ok(seen)
}

/// Waits until lent work has something to lose and nothing was taken for a while; none when the time is over.
fn rest(limits: &Limits, order: Order, start: Instant) -> Result<Option<Vec<u64>>> {
    let (mut last, mut since) = (limits.read()?, clock::now());
    loop {
        clock::pause(LOOK * 20);
        let now = limits.read()?;
        if lowered(&last, &now) {
            since = clock::now();
        }
        last = now;
        if last.first().is_some_and(|quota| *quota >= order.quota_least) && since.elapsed() >= CALM {
            return Ok(Some(last));
        }
        if start.elapsed() >= order.limit {
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
