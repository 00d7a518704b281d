//! How long it takes from an operator's command to a tier that uses no CPU any more.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::groups::{Kept, is_gone, usage_us};
use crate::clock;

const LOOK: Duration = Duration::from_millis(5);
/// Idle is: at most a hundredth of a CPU for this long.
const QUIET: Duration = Duration::from_millis(300);
const QUIET_USE_US: u64 = 3_000;
const MOST: Duration = Duration::from_secs(20);

/// Microseconds since the command, and CPU time used until then.
type Look = (u64, u64);

/// The first instant from which on hardly anything was used, if there was one long enough.
fn idle_from(looks: &[Look]) -> Option<u64> {
    let quiet = u64::try_from(QUIET.as_micros()).unwrap_or(u64::MAX);
    let mut rest = looks;
    while let Some((&(at, used), later)) = rest.split_first() {
        let (after, used_after) = later.iter().find(|(other, _)| *other >= at + quiet)?;
        debug_assert!(*after >= at);
        if used_after.saturating_sub(used) <= QUIET_USE_US {
            return Some(at);
        }
        rest = later;
    }
    None
}

/// Runs the command and gives the milliseconds from its start until the cgroup was idle.
///
/// # Errors
/// When the command fails, the cgroup does not run at first, or is not idle within a time that no brake may take.
pub fn run(command: &[String], group: &str) -> Result<f64> {
    let (program, words) = command.split_first().context("no command named")?;
    let file = Kept::open(group, "cpu.stat").with_context(|| format!("open cpu.stat of {group}"))?;
    let used = || match file.read() {
        Ok(text) => usage_us(&text)
            .map(Some)
            .with_context(|| format!("cpu.stat holds {text:?}")),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error).context("read cpu.stat"),
    };
    let before = used()?.context("the cgroup went before the command")?;
    clock::pause(QUIET);
    let now = used()?.context("the cgroup went before the command")?;
    ensure!(
        now > before + QUIET_USE_US,
        "{group} is idle: there is nothing to brake"
    );
    let start = clock::now();
    let mut child = Command::new(program)
        .args(words)
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    let (mut looks, mut last) = (Vec::new(), now);
    let idle = loop {
        last = used()?.unwrap_or(last);
        let at = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        looks.push((at, last));
        if let Some(at) = idle_from(&looks) {
            break at;
        }
        ensure!(start.elapsed() < MOST, "{group} still runs after {MOST:?}");
        clock::pause(LOOK);
    };
    let status = child.wait().context("wait for the command")?;
    ensure!(status.success(), "{program} ended with {status}");
    Ok(Duration::from_micros(idle).as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_begins_where_use_stops_for_long_enough() {
        let busy = |ms: u64| (ms * 1000, ms * 1000);
        let still = |ms: u64| (ms * 1000, 100_000);
        let stopped: Vec<Look> = [busy(0), busy(50), busy(100)]
            .into_iter()
            .chain((1..=40).map(|step| still(100 + step * 10)))
            .collect();
        assert_eq!(idle_from(&stopped), Some(100_000));
        assert_eq!(idle_from(&stopped[..20]), None, "not yet quiet for long enough");
        let running: Vec<Look> = (0..100).map(|step| busy(step * 10)).collect();
        assert_eq!(idle_from(&running), None);
    }
}
